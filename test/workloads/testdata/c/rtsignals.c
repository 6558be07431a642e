/*
 * rtsignals: real-time signals with values from another process: none lost, the values in order, the lowest number first
 * when several pend, the sender's number in each; awaited, handled, and held back while blocked.
 */
#include "sender.h"

static volatile int values[256], signals[256], n;
static volatile int strangers;

static void on_rt(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (n < 256) {
		signals[n] = sig - SIGRTMIN;
		values[n++] = si->si_value.sival_int;
	}
	if (si->si_pid != sender_pid || si->si_code != SI_QUEUE || si->si_uid != work_uid)
		strangers++;
}

static uint64_t told_so_far(void)
{
	uint64_t h = 111;
	for (int i = 0; i < n; i++)
		h = mix(h, (uint64_t)(signals[i] << 16 | values[i]));
	return mix(h, (uint64_t)n);
}

int main(int argc, char **argv)
{
	int a = SIGRTMIN + 1, b = SIGRTMIN + 2, c = SIGRTMIN + 3;
	sigset_t set, pend;
	siginfo_t si;
	work_begin(argc, argv);
	sender_start();
	action(a, on_rt, SA_RESTART, b);
	action(b, on_rt, SA_RESTART, a);
	while (work_more()) {
		/* as they come: a handler each, in order */
		n = 0;
		ask('q', a, 100, 20, 0);
		told();
		for (int i = 0; n < 20 && i < 5000; i++)
			nap(1000);
		report("as they come", told_so_far());

		/* held back: the lower number first, each in order */
		n = 0;
		block(SIG_BLOCK, a);
		block(SIG_BLOCK, b);
		ask('q', b, 300, 10, 0);
		ask('q', a, 200, 10, 0);
		told();
		told();
		nap(2000);
		CHECK(sigpending(&pend) == 0 && sigismember(&pend, a) && sigismember(&pend, b) && n == 0);
		sigemptyset(&set);
		sigaddset(&set, a);
		sigaddset(&set, b);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		for (int i = 0; n < 20 && i < 5000; i++)
			nap(1000);
		/* one mask change lets all of them in; which handler stands on top of the other is the kernel's affair: sort by signal */
		uint64_t h = 113;
		for (int s = 1; s <= 2; s++)
			for (int i = 0; i < n; i++)
				if (signals[i] == s)
					h = mix(h, (uint64_t)values[i]);
		static uint64_t as_first;
		if (as_first == 0)
			as_first = h;
		if (h != as_first)
			for (int i = 0; i < n; i++)
				dprintf(2, "bad: %d is signal %d with %d\n", i, signals[i], values[i]);
		report("held back", mix(h, (uint64_t)n));

		/* awaited */
		block(SIG_BLOCK, c);
		sigemptyset(&set);
		sigaddset(&set, c);
		ask('q', c, 400, 8, 2000);
		h = 117;
		for (int i = 0; i < 8; i++) {
			struct timespec limit = {20, 0};
			int r = i % 2 ? sigwaitinfo(&set, &si) : sigtimedwait(&set, &si, &limit);
			CHECK(r == c && si.si_pid == sender_pid && si.si_code == SI_QUEUE);
			h = mix(h, (uint64_t)si.si_value.sival_int);
		}
		told();
		report("awaited", h);

		/* to oneself, with a value */
		union sigval v = {.sival_int = 4242};
		CHECK(sigqueue(getpid(), c, v) == 0);
		CHECK(sigwaitinfo(&set, &si) == c && si.si_value.sival_int == 4242 && si.si_pid == work_pid);
		CHECK(strangers == 0);
		nap(3000);
	}
	sender_end();
	return work_end();
}
