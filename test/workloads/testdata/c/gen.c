/*
 * gen SECONDS STOPFILE KIB: the beginning of the pipeline. Writes KIB kibibytes (default 2048), evenly over SECONDS, and
 * keeps the last of them until STOPFILE exists. It says nothing of itself: the process that is moved is its reader.
 */
#include "work.h"

int main(int argc, char **argv)
{
	unsigned char block[1024];
	long kib = argc > 3 ? atol(argv[3]) : 2048;
	work_seconds = argc > 1 ? atof(argv[1]) : 0;
	work_stop = argc > 2 ? argv[2] : "-";
	work_start = clock_ns(CLOCK_MONOTONIC);
	for (long k = 0; k < kib; k++) {
		for (int i = 0; i < 1024; i++)
			block[i] = (unsigned char)mix((uint64_t)k, (uint64_t)i);
		while ((double)(clock_ns(CLOCK_MONOTONIC) - work_start) / 1e9 < work_seconds * (double)k / (double)kib)
			nap(2000);
		if (k == kib - 8)
			for (int i = 0; strcmp(work_stop, "-") != 0 && access(work_stop, F_OK) != 0 && i < 100 * WORK_CAP_SECONDS; i++)
				nap(10000);
		if (write_all(1, block, sizeof block) != 0)
			return 1;
	}
	return 0;
}
