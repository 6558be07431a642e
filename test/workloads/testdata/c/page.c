/*
 * page TOKEN: a page that tells by itself when its copy of the process ran. The process writes, about every 50 us of its
 * own computing, a counter and the processor's time stamp into one page of its memory, and every 0.2 s a line of its number
 * and the counter to standard output. Its address goes to standard error.
 *
 * Whoever may read the memory of all copies (see Watch of this folder's Go code) orders what he has read by time stamp, which
 * all processors of one machine share: of one running process the copies alternate once for each move; two that ran at once
 * alternate all the time. So nothing of mosix is believed here, not even which of its processes are copies: TOKEN stands in the page.
 */
#include "work.h"
#include <sys/mman.h>
#include <x86intrin.h>

struct page {
	char token[32];
	volatile uint64_t counter, stamp;
};

int main(int argc, char **argv)
{
	struct page *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *where = argc > 2 ? argv[2] : "";
	volatile uint64_t h = 1;
	uint64_t last = 0;
	if (argc < 2 || p == MAP_FAILED)
		return 2;
	snprintf(p->token, sizeof p->token, "%s", argv[1]);
	memset(argv[1], '.', strlen(argv[1])); /* so that the token stands in the page only */
	dprintf(2, "page %llx\n", (unsigned long long)(uintptr_t)p);
	dprintf(2, "pid %d\n", getpid());
	for (;;) {
		for (int i = 0; i < 10000; i++)
			h = mix(h, (uint64_t)i);
		p->counter++;
		p->stamp = __rdtsc();
		uint64_t now = clock_ns(CLOCK_MONOTONIC);
		if (now - last > 200000000) {
			last = now;
			printf("%d %llu\n", getpid(), (unsigned long long)p->counter);
			fflush(stdout);
			if (*where != 0 && access(where, F_OK) == 0)
				return 7;
		}
	}
}
