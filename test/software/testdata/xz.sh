# what: xz -T0: threads that compress, and the way back
# needs: xz
# packages: xz-utils
seq 1 4000000 > plain
for level in 2 5; do
	xz -T0 --block-size=2MiB -$level -k -c plain > packed
	echo "status $?"
	sha256sum < packed
	xz -T0 -dc packed | sha256sum
done
xz -T4 -3 --block-size=1MiB < plain | xz -dc | cmp - plain && echo the same
