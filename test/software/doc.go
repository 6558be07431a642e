// Package software runs programs that everybody has, as their distribution builds them, natively and while every process of
// theirs is moved about, and compares what they print. Its one invariant: what a script in testdata prints does not depend on
// time, number or place, so that any difference is ours.
//
// A script begins with lines that say what it needs:
//
//	# what: what it shows
//	# needs: files that must be there
//	# packages: the Debian packages that bring them
//	# fetch: address and SHA-256 of a file that it works on
//	# seconds: how long it may take when it is moved about
package software
