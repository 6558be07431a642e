/*
 * faults: a program whose instructions fault all the time, as those of language runtimes do, gets each fault once, with its
 * address, wherever it is stopped for a move.
 */
#include "work.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#define PAGE 4096UL

static sigjmp_buf back;
static void *volatile at;
static volatile int code;
static char *page;

static void on_fault(int sig, siginfo_t *si, void *context)
{
	(void)context;
	at = si->si_addr;
	code = si->si_code;
	siglongjmp(back, sig);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	CHECK(sigaction(SIGSEGV, &sa, NULL) == 0 && sigaction(SIGBUS, &sa, NULL) == 0 && sigaction(SIGFPE, &sa, NULL) == 0);
	page = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED);
	while (work_more()) {
		volatile uint64_t sum = 0;
		for (volatile int i = 0; i < 4000; i++) {
			volatile char *p = page + (unsigned long)(i % 4) * PAGE + (unsigned long)i;
			at = NULL;
			int sig = sigsetjmp(back, 1);
			if (sig == 0)
				(void)*p;
			if (sig != SIGSEGV || at != (void *)p || code != SEGV_ACCERR)
				bad("round %ld: fault %d: signal %d at %p, code %d", work_rounds, i, sig, at, code);
			volatile int zero = 0;
			sig = sigsetjmp(back, 1);
			if (sig == 0)
				zero = 77 / zero;
			if (sig != SIGFPE || code != FPE_INTDIV)
				bad("round %ld: division %d: signal %d, code %d", work_rounds, i, sig, code);
			sum = mix(sum, (uint64_t)sig);
		}
		report("faults", sum);
	}
	return work_end();
}
