/* filter: the middle of a pipeline. Reads in odd sizes, enciphers, writes in other odd sizes, to the end of its input. */
#include "work.h"

int main(int argc, char **argv)
{
	static unsigned char in[8192];
	uint64_t key = 71, total = 0;
	work_begin(argc, argv);
	for (size_t turn = 1;; turn++) {
		ssize_t n = read(0, in, turn * 37 % sizeof in + 1);
		if (n < 0) {
			bad("read from the pipe: errno %d", errno);
			break;
		}
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++, total++) {
			if (total % 8 == 0)
				key = mix(key, total);
			in[i] ^= (unsigned char)(key >> (total % 8 * 8));
		}
		for (ssize_t done = 0; done < n;) {
			size_t want = (size_t)(n - done) < 1000 ? (size_t)(n - done) : 1000;
			ssize_t k = write(1, in + done, want);
			if (k <= 0) {
				bad("write to the pipe: errno %d", errno);
				return 1;
			}
			done += k;
		}
	}
	work_same();
	dprintf(2, "end %d after %llu bytes\n", getpid(), (unsigned long long)total);
	return work_bad ? 1 : 3; /* not the last of the pipeline: its status is seen by PIPESTATUS only */
}
