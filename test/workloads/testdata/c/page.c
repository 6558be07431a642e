/*
 * page TOKEN [CHILDREN]: a page that tells by itself when its copy of the process ran. The process makes no calls at all: about every
 * 20 us of its own computing it writes a counter and the processor's time stamp into one page of its memory, whose address
 * it has told on standard error. SIGTERM makes it say the counter and end with 7.
 *
 * Whoever may read the memory of all copies (see Watch in this folder's Go code) orders what he has read by time stamp, which
 * all processors of one machine share: of one running process the copies alternate once for each move; two that ran at once
 * alternate all the time. So nothing of mosix is believed here, not even which of its processes are copies: TOKEN stands in
 * the page, and nowhere else.
 *
 * Each child has such a page of its own at the same address, and counts in memory that all of them share. At the end every one
 * must be seen there to count on.
 */
#include "work.h"
#include <signal.h>
#include <sys/mman.h>
#include <x86intrin.h>

enum { MOST = 8 };

struct page {
	char token[32];
	volatile uint64_t counter, stamp;
};

static volatile sig_atomic_t over;

static void on_term(int sig)
{
	(void)sig;
	over = 1;
}

int main(int argc, char **argv)
{
	struct page *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sigaction sa = {.sa_handler = on_term};
	uint64_t h = 1, was[MOST];
	int kids = argc > 2 ? atoi(argv[2]) : 0;
	pid_t pids[MOST];
	volatile uint64_t *beats = NULL, *beat = NULL; /* shared by all; and where this one counts */
	if (argc < 2 || p == MAP_FAILED || kids > MOST)
		return 2;
	if (kids > 0 && (beats = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
		return 2;
	sigaction(SIGTERM, &sa, NULL);
	snprintf(p->token, sizeof p->token, "%s", argv[1]);
	for (int k = 0; k < kids; k++) {
		if ((pids[k] = fork()) == 0) {
			beat = &beats[k];
			kids = 0;
			signal(SIGTERM, SIG_IGN); /* it may be sent to all of the group */
			break;
		}
		dprintf(2, "child %d\n", pids[k]);
	}
	if (beat == NULL)
		dprintf(2, "page %llx\npid %d\n", (unsigned long long)(uintptr_t)p, getpid());
	while (!over) {
		for (int i = 0; i < 10000; i++)
			h = mix(h, (uint64_t)i);
		p->counter++;
		p->stamp = __rdtsc();
		if (beat != NULL)
			++*beat;
	}
	for (int k = 0; k < kids; k++)
		was[k] = beats[k];
	for (int k = 0; k < kids; k++) {
		long tries = 0;
		while (beats[k] == was[k] && tries++ < 4000000000)
			h = mix(h, (uint64_t)tries);
		if (beats[k] == was[k])
			printf("child %d is not seen to count\n", pids[k]);
	}
	for (int k = 0; k < kids; k++) {
		int status = 0;
		kill(pids[k], SIGKILL);
		if (waitpid(pids[k], &status, 0) != pids[k] || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			printf("child %d ended with %#x\n", pids[k], status);
	}
	printf("%d counted %s\n", getpid(), p->counter > 0 && h != 0 ? "on" : "nothing");
	fflush(stdout);
	return 7;
}
