# what: python3's own tests of mmap, twelve times: one time is over before it could be moved
# needs: /usr/bin/python3 /usr/lib/python3.11/test/test_mmap.py
# packages: python3 libpython3.11-testsuite
# seconds: 600
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	/usr/bin/python3 "$SOFTWARE/pytests.py" test_mmap || exit
done
