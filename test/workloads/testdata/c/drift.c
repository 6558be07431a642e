/*
 * drift: reads its clocks all the time and prints, ten times a second, monotonic and realtime in nanoseconds and how often one
 * of them went back, or two ways to ask for the same disagreed. It judges nothing: where home's clock is falsified, coming or
 * going shows.
 */
#include "work.h"
#include <sys/time.h>

int main(int argc, char **argv)
{
	long back = 0, apart = 0;
	work_begin(argc, argv);
	uint64_t m = clock_ns(CLOCK_MONOTONIC), b = clock_ns(CLOCK_BOOTTIME), r = clock_ns(CLOCK_REALTIME);
	while (strcmp(work_stop, "-") != 0 && access(work_stop, F_OK) != 0 && work_rounds++ < 1200) {
		for (uint64_t until = m + 100000000; m < until;) {
			struct timespec raw;
			struct timeval tv;
			uint64_t x = clock_ns(CLOCK_MONOTONIC), y = clock_ns(CLOCK_BOOTTIME), z = clock_ns(CLOCK_REALTIME);
			back += x < m || y < b || z < r;
			m = x, b = y, r = z;
			syscall(SYS_clock_gettime, CLOCK_REALTIME, &raw);
			x = (uint64_t)raw.tv_sec * 1000000000u + (uint64_t)raw.tv_nsec;
			apart += x < z;
			gettimeofday(&tv, NULL);
			apart += (uint64_t)tv.tv_sec * 1000000u + (uint64_t)tv.tv_usec < x / 1000;
			nap(1000);
		}
		printf("%llu %llu %ld %ld\n", (unsigned long long)m, (unsigned long long)r, back, apart);
	}
	fflush(stdout);
	dprintf(2, "end %d\n", getpid());
	return 0;
}
