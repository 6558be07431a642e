/* spin MILLIONS: so many million turns of a loop that needs nothing but a CPU, then what it came to. "spin calibrate" tells how many of them one second of CPU is worth. */
#include "work.h"

static uint64_t turn(uint64_t h, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		h = mix(h, i);
	return h;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "calibrate") == 0) {
		uint64_t t = clock_ns(CLOCK_PROCESS_CPUTIME_ID), n = 0, spent;
		volatile uint64_t h = 1;
		do {
			h = turn(h, 1000000);
			n++;
			spent = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - t;
		} while (spent < 500000000);
		printf("%llu\n", (unsigned long long)(n * 1000000000 / spent));
		return 0;
	}
	dprintf(2, "pid %d\n", getpid());
	uint64_t h = 1;
	for (long i = argc > 1 ? atol(argv[1]) : 100; i > 0; i--)
		h = turn(h, 1000000);
	printf("%016llx\n", (unsigned long long)h);
	return 0;
}
