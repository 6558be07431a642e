/*
 * signals: handlers that restart a call and that do not, that nest and that mask each other, on their own stack, that jump
 * out, that are reset by their first use; suspended, awaited, pending, raised, sent by another process with its number in
 * it; stopped and continued; SIGPIPE before the EPIPE is seen.
 */
#include "sender.h"
#include <poll.h>
#include <setjmp.h>
#include <sys/select.h>

static volatile sig_atomic_t got, codes, nested_ok;
static volatile pid_t from;
static char trace[64];
static volatile int trace_n;
static sigjmp_buf jump;
static char alt[1 << 16] __attribute__((aligned(16)));
static volatile int on_alt;

static void note(char c)
{
	if (trace_n < (int)sizeof trace - 1)
		trace[trace_n++] = c;
	trace[trace_n] = 0;
}

static void count(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	got++;
	from = si->si_pid;
	codes = si->si_code;
}

static void outer(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)si, (void)uc;
	note('(');
	raise(SIGUSR2);
	note(')');
}

static void inner(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)si, (void)uc;
	note('2');
}

static void jumper(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)si, (void)uc;
	siglongjmp(jump, 7);
}

static void where(int sig, siginfo_t *si, void *uc)
{
	char here;
	(void)sig, (void)si, (void)uc;
	on_alt = &here >= alt && &here < alt + sizeof alt;
	got++;
}

static void restarted(void)
{
	char c = 0;
	action(SIGUSR1, count, SA_RESTART, 0);
	got = 0;
	ask('k', SIGUSR1, 0, 1, 5000);
	ask('b', 0, 0, 1, 5000);
	CHECK(read(sender_pipe[0], &c, 1) == 1 && c == 'b'); /* the signal came in the middle and was not seen by read */
	told();
	told();
	CHECK(got == 1 && from == sender_pid && codes == SI_USER);
}

static void interrupted(void)
{
	struct pollfd p = {.fd = sender_pipe[0], .events = POLLIN};
	char c;
	action(SIGUSR1, count, 0, 0);
	for (int kind = 0; kind < 4; kind++) {
		struct timespec ts = {30, 0};
		fd_set f;
		FD_ZERO(&f);
		FD_SET(sender_pipe[0], &f);
		got = 0;
		ask('r', SIGUSR1, 0, 1, 2000); /* again and again, for one may come before the call has begun */
		int r = kind == 0   ? (int)read(sender_pipe[0], &c, 1)
			: kind == 1 ? poll(&p, 1, 30000)
			: kind == 2 ? nanosleep(&ts, &ts)
				    : select(sender_pipe[0] + 1, &f, NULL, NULL, NULL);
		if (r != -1 || errno != EINTR)
			bad("round %ld: kind %d gave %d, errno %d, want EINTR", work_rounds, kind, r, errno);
		CHECK(got >= 1);
		if (kind == 2)
			CHECK(ts.tv_sec == 29 || ts.tv_sec == 28 || ts.tv_sec == 30);
		ask('k', 0, 0, 1, 0); /* ends the repetition: signal 0 is none */
		told();
		told();
	}
}

static void exact(void)
{
	sigset_t open_to, old, pend;
	struct timespec limit = {20, 0};
	siginfo_t si;
	action(SIGUSR1, count, SA_RESTART, 0);
	block(SIG_BLOCK, SIGUSR1);
	sigprocmask(SIG_SETMASK, NULL, &old);
	open_to = old;
	sigdelset(&open_to, SIGUSR1);
	got = 0;
	ask('k', SIGUSR1, 0, 1, 0);
	told();
	CHECK(sigpending(&pend) == 0 && sigismember(&pend, SIGUSR1));
	CHECK(got == 0);
	CHECK(ppoll(NULL, 0, &limit, &open_to) == -1 && errno == EINTR && got == 1);
	ask('k', SIGUSR1, 0, 1, 3000);
	CHECK(sigsuspend(&open_to) == -1 && errno == EINTR && got == 2);
	told();
	ask('k', SIGUSR1, 0, 1, 3000);
	sigemptyset(&pend);
	sigaddset(&pend, SIGUSR1);
	CHECK(sigwaitinfo(&pend, &si) == SIGUSR1 && si.si_pid == sender_pid && si.si_code == SI_USER && si.si_uid == work_uid);
	told();
	ask('k', SIGUSR1, 0, 3, 0); /* three of an ordinary signal that is blocked are one */
	told();
	CHECK(got == 2);
	block(SIG_UNBLOCK, SIGUSR1);
	if (got != 3)
		bad("round %ld: three of a signal that is blocked came %d times", work_rounds, (int)got - 2);
	sigprocmask(SIG_SETMASK, NULL, &old);
	CHECK(!sigismember(&old, SIGUSR1));
	limit.tv_sec = 0;
	limit.tv_nsec = 5000000;
	CHECK(sigtimedwait(&pend, &si, &limit) == -1 && errno == EAGAIN && got == 3);
}

static void order(void)
{
	trace_n = 0;
	action(SIGUSR1, outer, 0, 0);
	action(SIGUSR2, inner, 0, 0);
	raise(SIGUSR1);
	CHECK(strcmp(trace, "(2)") == 0);
	trace_n = 0;
	action(SIGUSR1, outer, 0, SIGUSR2);
	raise(SIGUSR1);
	CHECK(strcmp(trace, "()2") == 0);
}

static void stacks(void)
{
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt}, old;
	static int set;
	if (!set)
		CHECK(sigaltstack(&ss, NULL) == 0);
	set = 1;
	CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == alt && old.ss_flags == 0);
	on_alt = got = 0;
	action(SIGUSR2, where, SA_ONSTACK, 0);
	raise(SIGUSR2);
	CHECK(got == 1 && on_alt);
	action(SIGUSR2, where, 0, 0);
	raise(SIGUSR2);
	CHECK(got == 2 && !on_alt);
}

static void jumps(void)
{
	sigset_t m;
	action(SIGUSR2, jumper, 0, 0);
	if (sigsetjmp(jump, 1) == 0) {
		raise(SIGUSR2);
		bad("round %ld: the handler came back", work_rounds);
	}
	sigprocmask(SIG_SETMASK, NULL, &m);
	CHECK(!sigismember(&m, SIGUSR2));
}

static void reset(void)
{
	struct sigaction sa;
	action(SIGUSR2, count, (int)SA_RESETHAND, 0);
	got = 0;
	raise(SIGUSR2);
	CHECK(got == 1 && sigaction(SIGUSR2, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL);
	signal(SIGUSR2, SIG_IGN);
	ask('k', SIGUSR2, 0, 1, 0);
	told();
	CHECK(got == 1);
}

static void broken_pipe(void)
{
	int p[2];
	action(SIGPIPE, count, SA_RESTART, 0);
	CHECK(pipe(p) == 0 && close(p[0]) == 0);
	got = 0;
	CHECK(write(p[1], "x", 1) == -1 && errno == EPIPE && got == 1);
	close(p[1]);
}

static void stopped(void)
{
	action(SIGCONT, count, SA_RESTART, 0);
	got = 0;
	ask('s', 0, 0, 1, 0);
	told();
	for (int i = 0; got == 0 && i < 5000; i++)
		nap(1000);
	if (got != 1 || from != sender_pid)
		bad("round %ld: SIGCONT came %d times, at last from %d", work_rounds, (int)got, (int)from);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	sender_start();
	while (work_more()) {
		restarted();
		interrupted();
		exact();
		order();
		stacks();
		jumps();
		reset();
		broken_pipe();
		stopped();
		nap(3000);
	}
	report("kinds", 9);
	sender_end();
	return work_end();
}
