/* Group 3: signals, how they are sent, blocked, ordered, waited for and handled. signal(7), sigaction(2), sigqueue(3). */
#include "case.h"
#include <sys/resource.h>
#include <setjmp.h>
#include <sys/signalfd.h>
#include <ucontext.h>

static void deflt(int a, int b)
{
	signal(a, SIG_DFL);
	if (b)
		signal(b, SIG_DFL);
}

CASE(raise_is_seen_when_it_returns)
{
	caught(SIGUSR1, 0);
	OK(raise(SIGUSR1));
	EQ(seen, SIGUSR1);
	deflt(SIGUSR1, 0);
}

CASE(kill_of_oneself_is_seen_when_it_returns)
{
	caught(SIGUSR1, 0);
	OK(kill(me, SIGUSR1));
	EQ(seen, SIGUSR1);
	EQ(seen_info.si_signo, SIGUSR1);
	EQ(seen_info.si_code, SI_USER);
	EQ(seen_info.si_pid, me);
	EQ(seen_info.si_uid, getuid());
	deflt(SIGUSR1, 0);
}

CASE(tgkill_of_oneself)
{
	caught(SIGUSR2, 0);
	OK(syscall(SYS_tgkill, me, gettid_(), SIGUSR2));
	EQ(seen, SIGUSR2);
	EQ(seen_info.si_code, SI_TKILL);
	EQ(seen_info.si_pid, me);
	ERR(syscall(SYS_tgkill, me, 0, SIGUSR2), EINVAL);
	ERR(syscall(SYS_tgkill, me, -1, SIGUSR2), EINVAL);
	ERR(syscall(SYS_tgkill, friend_pid, me, 0), ESRCH);
	ERR(syscall(SYS_tgkill, me, gettid_(), 99), EINVAL);
	deflt(SIGUSR2, 0);
}

CASE(kill_refuses)
{
	ERR(kill(me, 99), EINVAL);
	ERR(kill(me, -1), EINVAL);
	ERR(kill(99999999, 0), ESRCH);
	ERR(kill(1, 0), EPERM);
	OK(kill(me, 0));
	OK(kill(friend_pid, 0));
}

CASE(sigqueue_carries_a_value)
{
	caught(SIGRTMIN + 3, 0);
	OK(sigqueue(me, SIGRTMIN + 3, (union sigval){.sival_ptr = (void *)0x123456789abcdef}));
	EQ(seen, SIGRTMIN + 3);
	EQ(seen_info.si_code, SI_QUEUE);
	EQ(seen_info.si_pid, me);
	EQ(seen_info.si_uid, getuid());
	EQ((intptr_t)seen_info.si_value.sival_ptr, 0x123456789abcdef);
	deflt(SIGRTMIN + 3, 0);
}

CASE(another_process_sends_a_value)
{
	block(SIGRTMIN, 0);
	caught(SIGRTMIN, 0);
	ask_friend(WISH_QUEUE, 5, SIGRTMIN, 987654321012, -1);
	sigset_t s = set_of(SIGRTMIN, 0), none;
	sigemptyset(&none);
	siginfo_t si;
	EQ(sigwaitinfo(&s, &si), SIGRTMIN);
	EQ(si.si_code, SI_QUEUE);
	EQ(si.si_pid, friend_pid);
	EQ((intptr_t)si.si_value.sival_ptr, 987654321012);
	EQ(seen, 0);
	unblock(SIGRTMIN, 0);
	deflt(SIGRTMIN, 0);
}

static volatile int order[16], norder;
static void in_order(int sig, siginfo_t *si, MAYBE void *uc)
{
	if (norder < 16)
		order[norder++] = sig * 100 + (int)si->si_value.sival_int;
}

CASE(realtime_signals_are_queued_in_order)
{
	struct sigaction a = {.sa_sigaction = in_order, .sa_flags = SA_SIGINFO};
	sigfillset(&a.sa_mask);
	OK(sigaction(SIGRTMIN + 1, &a, NULL));
	OK(sigaction(SIGRTMIN + 2, &a, NULL));
	block(SIGRTMIN + 1, SIGRTMIN + 2);
	norder = 0;
	for (int i = 0; i < 3; i++) {
		OK(sigqueue(me, SIGRTMIN + 2, (union sigval){.sival_int = 10 + i}));
		OK(sigqueue(me, SIGRTMIN + 1, (union sigval){.sival_int = i}));
	}
	EQ(norder, 0);
	unblock(SIGRTMIN + 1, SIGRTMIN + 2);
	EQ(norder, 6);
	for (int i = 0; i < 3; i++) {
		/* the kernel delivers the lower number first: its frame is the lowest, so its handler runs last, but not with
		 * sa_mask full, where each handler ends before the next begins */
		EQ(order[i], (SIGRTMIN + 1) * 100 + i);
		EQ(order[3 + i], (SIGRTMIN + 2) * 100 + 10 + i);
	}
	deflt(SIGRTMIN + 1, SIGRTMIN + 2);
}

CASE(standard_signals_are_not_queued)
{
	caught(SIGUSR1, 0);
	block(SIGUSR1, 0);
	for (int i = 0; i < 3; i++)
		OK(kill(me, SIGUSR1));
	EQ(seen, 0);
	unblock(SIGUSR1, 0);
	EQ(seen, SIGUSR1);
	deflt(SIGUSR1, 0);
}

CASE(blocked_signal_pends)
{
	sigset_t s;
	caught(SIGUSR1, 0);
	block(SIGUSR1, 0);
	OK(kill(me, SIGUSR1));
	OK(sigpending(&s));
	EQ(sigismember(&s, SIGUSR1), 1);
	EQ(sigismember(&s, SIGUSR2), 0);
	EQ(seen, 0);
	signal(SIGUSR1, SIG_IGN); /* to ignore a pending signal is to discard it */
	OK(sigpending(&s));
	EQ(sigismember(&s, SIGUSR1), 0);
	caught(SIGUSR1, 0);
	unblock(SIGUSR1, 0);
	EQ(seen, 0);
	deflt(SIGUSR1, 0);
}

CASE(blocked_signal_of_another_pends)
{
	sigset_t s;
	caught(SIGUSR1, 0);
	block(SIGUSR1, 0);
	ask_friend(WISH_KILL, 0, SIGUSR1, 0, -1);
	for (int64_t t = MONO; MONO - t < 5000;) {
		OK(sigpending(&s));
		if (sigismember(&s, SIGUSR1))
			break;
		nap(2);
	}
	EQ(sigismember(&s, SIGUSR1), 1);
	nap(wait_ms() / 4);
	EQ(seen, 0);
	unblock(SIGUSR1, 0);
	EQ(seen, SIGUSR1);
	EQ(seen_info.si_pid, friend_pid);
	EQ(seen_info.si_code, SI_USER);
	deflt(SIGUSR1, 0);
}

CASE(mask_is_set_as_told)
{
	sigset_t a, b;
	sigfillset(&a);
	OK(sigprocmask(SIG_SETMASK, &a, &b));
	OK(sigprocmask(SIG_BLOCK, NULL, &a));
	EQ(sigismember(&a, SIGKILL), 0);
	EQ(sigismember(&a, SIGSTOP), 0);
	EQ(sigismember(&a, SIGTERM), 1);
	EQ(sigismember(&a, SIGRTMAX), 1);
	OK(sigprocmask(SIG_SETMASK, &b, NULL));
	ERR(sigprocmask(77, &b, NULL), EINVAL);
	ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &b, NULL, 4), EINVAL);
}

CASE(sigsuspend_waits_with_another_mask)
{
	sigset_t none, s;
	sigemptyset(&none);
	caught(SIGUSR1, 0);
	block(SIGUSR1, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	ERR(sigsuspend(&none), EINTR);
	EQ(seen, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, NULL, &s));
	EQ(sigismember(&s, SIGUSR1), 1);
	unblock(SIGUSR1, 0);
	deflt(SIGUSR1, 0);
}

CASE(pause_ends_with_a_handler)
{
	caught(SIGUSR1, SA_RESTART); /* pause is never restarted */
	caught(SIGWINCH, 0);
	deflt(SIGWINCH, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	ERR(pause(), EINTR);
	EQ(seen, SIGUSR1);
	deflt(SIGUSR1, 0);
}

CASE(sigtimedwait_of_what_pends)
{
	sigset_t s = set_of(SIGUSR1, SIGRTMIN);
	siginfo_t si;
	struct timespec zero = {0, 0};
	block(SIGUSR1, SIGRTMIN);
	ERR(sigtimedwait(&s, &si, &zero), EAGAIN);
	OK(sigqueue(me, SIGRTMIN, (union sigval){.sival_int = 4}));
	OK(kill(me, SIGUSR1));
	EQ(sigtimedwait(&s, &si, &zero), SIGUSR1);
	EQ(si.si_code, SI_USER);
	EQ(sigtimedwait(&s, &si, NULL), SIGRTMIN);
	EQ(si.si_value.sival_int, 4);
	ERR(sigtimedwait(&s, &si, &zero), EAGAIN);
	struct timespec bad = {0, -1};
	ERR(sigtimedwait(&s, &si, &bad), EINVAL);
	unblock(SIGUSR1, SIGRTMIN);
}

CASE(sigtimedwait_waits_as_long_as_it_is_told)
{
	sigset_t s = set_of(SIGUSR1, 0);
	struct timespec t = {0, wait_ms() * 1000000L};
	block(SIGUSR1, 0);
	int64_t began = MONO;
	ERR(sigtimedwait(&s, NULL, &t), EAGAIN);
	took(__LINE__, began, wait_ms());
	unblock(SIGUSR1, 0);
}

CASE(sigwait_for_another)
{
	sigset_t s = set_of(SIGUSR2, 0);
	int sig = 0;
	block(SIGUSR2, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR2, 0, -1);
	EQ(sigwait(&s, &sig), 0);
	EQ(sig, SIGUSR2);
	unblock(SIGUSR2, 0);
}

CASE(sigtimedwait_is_interrupted_by_a_handler)
{
	sigset_t s = set_of(SIGUSR2, 0);
	block(SIGUSR2, 0);
	caught(SIGUSR1, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	ERR(sigwaitinfo(&s, NULL), EINTR);
	EQ(seen, SIGUSR1);
	unblock(SIGUSR2, 0);
	deflt(SIGUSR1, 0);
}

CASE(signalfd_reads_signals)
{
	sigset_t s = set_of(SIGUSR1, SIGRTMIN + 4);
	struct signalfd_siginfo si[3];
	block(SIGUSR1, SIGRTMIN + 4);
	int fd = (int)OK(signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC));
	ERR(read(fd, si, sizeof si), EAGAIN);
	OK(sigqueue(me, SIGRTMIN + 4, (union sigval){.sival_int = 77}));
	OK(kill(me, SIGUSR1));
	struct pollfd f = {fd, POLLIN, 0};
	EQ(poll(&f, 1, 5000), 1);
	EQ(read(fd, si, sizeof si), 2 * sizeof si[0]);
	EQ(si[0].ssi_signo, SIGUSR1);
	EQ(si[0].ssi_pid, me);
	EQ(si[0].ssi_code, SI_USER);
	EQ(si[1].ssi_signo, SIGRTMIN + 4);
	EQ(si[1].ssi_int, 77);
	EQ(poll(&f, 1, 0), 0);
	ERR(read(fd, si, 5), EINVAL);
	close(fd);
	unblock(SIGUSR1, SIGRTMIN + 4);
}

CASE(signalfd_wakes_a_reader)
{
	sigset_t s = set_of(SIGUSR1, 0);
	struct signalfd_siginfo si;
	block(SIGUSR1, 0);
	int fd = (int)OK(signalfd(-1, &s, SFD_CLOEXEC));
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	EQ(read(fd, &si, sizeof si), sizeof si);
	EQ(si.ssi_signo, SIGUSR1);
	EQ(si.ssi_pid, friend_pid);
	close(fd);
	unblock(SIGUSR1, 0);
}

static int piped[2];
static void make_pipe(void) { OK(pipe2(piped, O_CLOEXEC)); }
static void end_pipe(void) { close(piped[0]), close(piped[1]); }

CASE(read_is_restarted_with_sa_restart)
{
	char c = 0;
	make_pipe();
	caught(SIGUSR1, SA_RESTART);
	ask_friend(WISH_KILL, wait_ms() / 2, SIGUSR1, 0, -1);
	ask_friend(WISH_WRITE, wait_ms(), 1, 'q', piped[1]);
	EQ(read(piped[0], &c, 1), 1);
	EQ(c, 'q');
	EQ(seen, SIGUSR1);
	end_pipe();
	deflt(SIGUSR1, 0);
}

CASE(read_is_interrupted_without_sa_restart)
{
	char c = 0;
	make_pipe();
	caught(SIGUSR1, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	ERR(read(piped[0], &c, 1), EINTR);
	EQ(seen, SIGUSR1);
	end_pipe();
	deflt(SIGUSR1, 0);
}

CASE(poll_is_never_restarted)
{
	make_pipe();
	caught(SIGUSR1, SA_RESTART);
	struct pollfd f = {piped[0], POLLIN, 0};
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	ERR(poll(&f, 1, 10000), EINTR);
	EQ(seen, SIGUSR1);
	end_pipe();
	deflt(SIGUSR1, 0);
}

CASE(nanosleep_tells_what_remains)
{
	struct timespec t = {20, 0}, rest = {0, 0};
	caught(SIGUSR1, SA_RESTART);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	int64_t began = MONO;
	ERR(nanosleep(&t, &rest), EINTR);
	EQ(seen, SIGUSR1);
	int64_t slept = MONO - began, left = (int64_t)rest.tv_sec * 1000 + rest.tv_nsec / 1000000;
	IS(slept + left > 19900 && slept + left < 20600, "%lld ms slept, %lld left of 20000", (long long)slept, (long long)left);
	deflt(SIGUSR1, 0);
}

CASE(ignored_signals_disturb_no_wait)
{
	char c = 0;
	make_pipe();
	signal(SIGUSR1, SIG_IGN);
	ask_friend(WISH_KILL, 5, SIGUSR1, 0, -1);
	ask_friend(WISH_KILL, 5, SIGWINCH, 0, -1);
	ask_friend(WISH_KILL, 5, SIGURG, 0, -1);
	ask_friend(WISH_WRITE, wait_ms(), 1, 'k', piped[1]);
	EQ(read(piped[0], &c, 1), 1);
	EQ(c, 'k');
	end_pipe();
	deflt(SIGUSR1, 0);
}

static volatile int depth, deepest, mask_in_handler;
static void nests(int sig)
{
	sigset_t s;
	sigprocmask(SIG_BLOCK, NULL, &s);
	mask_in_handler = sigismember(&s, SIGUSR1) + 2 * sigismember(&s, SIGUSR2) + 4 * sigismember(&s, SIGHUP);
	if (++depth > deepest)
		deepest = depth;
	if (deepest < 3)
		raise(sig);
	depth--;
}

CASE(handler_runs_with_its_mask)
{
	struct sigaction a = {.sa_handler = nests};
	a.sa_mask = set_of(SIGUSR2, 0);
	deepest = 3;
	OK(sigaction(SIGUSR1, &a, NULL));
	OK(raise(SIGUSR1));
	EQ(mask_in_handler, 3);
	sigset_t s;
	OK(sigprocmask(SIG_BLOCK, NULL, &s));
	EQ(sigismember(&s, SIGUSR1) + sigismember(&s, SIGUSR2), 0);
	deflt(SIGUSR1, 0);
}

CASE(handler_with_nodefer_nests)
{
	struct sigaction a = {.sa_handler = nests, .sa_flags = SA_NODEFER};
	sigemptyset(&a.sa_mask);
	depth = deepest = 0;
	OK(sigaction(SIGUSR1, &a, NULL));
	OK(raise(SIGUSR1));
	EQ(deepest, 3);
	deflt(SIGUSR1, 0);
}

CASE(handler_with_resethand_runs_once)
{
	struct sigaction a;
	caught(SIGUSR1, SA_RESETHAND);
	OK(raise(SIGUSR1));
	EQ(seen, SIGUSR1);
	OK(sigaction(SIGUSR1, NULL, &a));
	IS(a.sa_handler == SIG_DFL);
}

CASE(sigaction_tells_what_was)
{
	struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK}, b;
	a.sa_mask = set_of(SIGHUP, SIGRTMAX);
	OK(sigaction(SIGUSR2, &a, NULL));
	OK(sigaction(SIGUSR2, NULL, &b));
	IS(b.sa_sigaction == note);
	EQ(b.sa_flags & (SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_NODEFER), SA_SIGINFO | SA_RESTART | SA_ONSTACK);
	EQ(sigismember(&b.sa_mask, SIGHUP) + sigismember(&b.sa_mask, SIGRTMAX), 2);
	EQ(sigismember(&b.sa_mask, SIGUSR1), 0);
	deflt(SIGUSR2, 0);
	ERR(sigaction(SIGKILL, &a, NULL), EINVAL);
	ERR(sigaction(SIGSTOP, &a, NULL), EINVAL);
	ERR(sigaction(0, &a, NULL), EINVAL);
	ERR(sigaction(65, &a, NULL), EINVAL);
	OK(sigaction(SIGKILL, NULL, &b));
}

static char stack[65536];
static volatile int on_stack, altflags;
static void where(MAYBE int sig)
{
	char here;
	stack_t s;
	on_stack = &here >= stack && &here < stack + sizeof stack;
	sigaltstack(NULL, &s);
	altflags = s.ss_flags;
	stack_t other = {.ss_flags = SS_DISABLE};
	if (on_stack && (sigaltstack(&other, NULL) != -1 || errno != EPERM))
		altflags = -1;
}

CASE(handler_runs_on_the_alternate_stack)
{
	stack_t s = {.ss_sp = stack, .ss_size = sizeof stack}, old;
	struct sigaction a = {.sa_handler = where, .sa_flags = SA_ONSTACK};
	OK(sigaltstack(&s, &old));
	OK(sigaction(SIGUSR1, &a, NULL));
	OK(raise(SIGUSR1));
	EQ(on_stack, 1);
	EQ(altflags, SS_ONSTACK);
	a.sa_flags = 0;
	OK(sigaction(SIGUSR1, &a, NULL));
	OK(raise(SIGUSR1));
	EQ(on_stack, 0);
	EQ(altflags, 0);
	OK(sigaltstack(NULL, &s));
	IS(s.ss_sp == stack);
	EQ(s.ss_size, sizeof stack);
	s.ss_size = 100;
	ERR(sigaltstack(&s, NULL), ENOMEM);
	s.ss_flags = SS_DISABLE;
	OK(sigaltstack(&s, NULL));
	OK(sigaltstack(NULL, &s));
	EQ(s.ss_flags, SS_DISABLE);
	deflt(SIGUSR1, 0);
}

static sigjmp_buf back;
static void jumps(int sig, siginfo_t *si, MAYBE void *uc)
{
	note(sig, si, uc);
	siglongjmp(back, 1);
}

/* hurt runs f under a handler of sig that jumps out of it. */
static void hurt(int sig, void (*f)(void *), void *p)
{
	struct sigaction a = {.sa_sigaction = jumps, .sa_flags = SA_SIGINFO};
	seen = 0;
	OK(sigaction(sig, &a, NULL));
	if (sigsetjmp(back, 1) == 0) {
		f(p);
		fail(__LINE__, "signal %d did not come", sig);
	}
	EQ(seen, sig);
	sigset_t s;
	OK(sigprocmask(SIG_BLOCK, NULL, &s));
	EQ(sigismember(&s, sig), 0);
	deflt(sig, 0);
}

static void writes(void *p) { *(volatile int *)p = 1; }
static void divides(void *p)
{
	volatile int zero = (int)(intptr_t)p;
	variable_of_division:
	__asm__ volatile("idivl %0" : : "m"(zero), "a"(1), "d"(0));
	(void)&&variable_of_division;
}
static void ill(MAYBE void *p) { __asm__ volatile("ud2"); }
static void traps(MAYBE void *p) { __asm__ volatile("int3"); }

CASE(fault_of_memory_that_is_not_there)
{
	void *p = MAPPED(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	OK(munmap(p, 4096));
	hurt(SIGSEGV, writes, p);
	EQ(seen_info.si_code, SEGV_MAPERR);
	IS(seen_info.si_addr == p);
}

CASE(fault_of_memory_that_is_protected)
{
	char *p = MAPPED(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	hurt(SIGSEGV, writes, p + 16);
	EQ(seen_info.si_code, SEGV_ACCERR);
	IS(seen_info.si_addr == p + 16);
	OK(munmap(p, 4096));
}

CASE(fault_of_arithmetic)
{
	hurt(SIGFPE, divides, NULL);
	EQ(seen_info.si_code, FPE_INTDIV);
}

CASE(fault_of_an_instruction)
{
	hurt(SIGILL, ill, NULL);
	EQ(seen_info.si_code, ILL_ILLOPN);
}

CASE(fault_of_a_breakpoint)
{
	hurt(SIGTRAP, traps, NULL);
	EQ(seen_info.si_code, SI_KERNEL);
}

static void skips(int sig, siginfo_t *si, void *uc)
{
	ucontext_t *u = uc;
	note(sig, si, uc);
	u->uc_mcontext.gregs[REG_RIP] += 2; /* beyond ud2 */
	u->uc_mcontext.gregs[REG_RAX] = 4711;
}

CASE(handler_changes_registers)
{
	struct sigaction a = {.sa_sigaction = skips, .sa_flags = SA_SIGINFO};
	long r = 1;
	seen = 0;
	OK(sigaction(SIGILL, &a, NULL));
	__asm__ volatile("ud2" : "+a"(r) : : "memory");
	EQ(r, 4711);
	EQ(seen, SIGILL);
	deflt(SIGILL, 0);
}

static void *waits_in_read(void *r)
{
	char c;
	ssize_t n = read(piped[0], &c, 1);
	*(int *)r = n < 0 ? errno : 0;
	return NULL;
}

CASE(pthread_kill_interrupts_that_thread)
{
	pthread_t t;
	int r = -1;
	make_pipe();
	caught(SIGUSR1, 0);
	EQ(pthread_create(&t, NULL, waits_in_read, &r), 0);
	nap(wait_ms());
	EQ(pthread_kill(t, SIGUSR1), 0);
	EQ(pthread_join(t, NULL), 0);
	EQ(r, EINTR);
	EQ(seen, SIGUSR1);
	end_pipe();
	deflt(SIGUSR1, 0);
}

CASE(pthread_cancel_of_a_blocked_read)
{
	pthread_t t;
	int r = -1;
	void *how;
	make_pipe();
	EQ(pthread_create(&t, NULL, waits_in_read, &r), 0);
	nap(wait_ms());
	EQ(pthread_cancel(t), 0);
	EQ(pthread_join(t, &how), 0);
	IS(how == PTHREAD_CANCELED);
	EQ(r, -1);
	end_pipe();
}

static volatile pid_t who;
static void notes_thread(MAYBE int sig) { who = gettid_(); }
static void *waits_unblocked(void *told)
{
	sigset_t s = set_of(SIGUSR1, 0);
	*(pid_t *)told = gettid_();
	pthread_sigmask(SIG_UNBLOCK, &s, NULL);
	while (who == 0)
		nap(1);
	return NULL;
}

CASE(process_signal_goes_to_a_thread_that_takes_it)
{
	pthread_t t;
	pid_t told = 0;
	who = 0;
	block(SIGUSR1, 0);
	signal(SIGUSR1, notes_thread);
	EQ(pthread_create(&t, NULL, waits_unblocked, &told), 0);
	OK(kill(me, SIGUSR1));
	EQ(pthread_join(t, NULL), 0);
	EQ(who, told);
	unblock(SIGUSR1, 0);
	deflt(SIGUSR1, 0);
}

CASE(sigqueue_to_a_thread)
{
	caught(SIGRTMIN + 1, 0);
	EQ(pthread_sigqueue(pthread_self(), SIGRTMIN + 1, (union sigval){.sival_int = 5}), 0);
	EQ(seen, SIGRTMIN + 1);
	EQ(seen_info.si_code, SI_QUEUE);
	EQ(seen_info.si_value.sival_int, 5);
	deflt(SIGRTMIN + 1, 0);
}

static volatile int queued_to_me;
static void *waits_for_its_own(void *told)
{
	*(volatile pid_t *)told = gettid_();
	for (int i = 0; i < 5000 && who == 0; i++)
		nap(1);
	queued_to_me = who == gettid_();
	return NULL;
}

CASE(another_queues_to_a_thread)
{
	pthread_t t;
	volatile pid_t told = 0;
	who = 0;
	signal(SIGRTMIN + 2, notes_thread);
	EQ(pthread_create(&t, NULL, waits_for_its_own, (void *)&told), 0);
	while (told == 0)
		nap(1);
	ask_friend(WISH_QUEUE_TO, wait_ms() / 2, SIGRTMIN + 2, told, -1);
	EQ(pthread_join(t, NULL), 0);
	EQ(queued_to_me, 1);
	deflt(SIGRTMIN + 2, 0);
}

CASE(sigqueue_forges_only_for_oneself)
{
	siginfo_t si = {.si_signo = SIGUSR1, .si_code = SI_USER};
	caught(SIGUSR1, 0);
	si.si_pid = 4;
	si.si_uid = 5;
	ERR(syscall(SYS_rt_sigqueueinfo, friend_pid, SIGUSR1, &si), EPERM);
	OK(syscall(SYS_rt_sigqueueinfo, me, SIGUSR1, &si));
	EQ(seen, SIGUSR1);
	EQ(seen_info.si_code, SI_USER);
	EQ(seen_info.si_pid, 4);
	EQ(seen_info.si_uid, 5);
	deflt(SIGUSR1, 0);
}

CASE(fatal_signals_end_the_process)
{
	const int sigs[] = {SIGTERM, SIGHUP, SIGINT, SIGALRM, SIGUSR1, SIGPIPE, SIGRTMIN, SIGKILL};
	for (unsigned i = 0; i < sizeof sigs / sizeof sigs[0]; i++) {
		pid_t p = forked();
		if (p == 0) {
			kill(getpid(), sigs[i]);
			_exit(0);
		}
		DIES(p, sigs[i]);
	}
}

enum { BY_ABORT, BY_KILL, BY_FAULT, BY_FAULT_OF_A_THREAD };

static volatile int *nowhere;

static void *faults(MAYBE void *p)
{
	*nowhere = 1;
	return NULL;
}

/* dies_with_core has a child end itself, and looks whether it has left a core file, and one that shows its memory. */
static void dies_with_core(int how)
{
	static const char word[] = "mosix-core-";
	char dir[sizeof scratch + 16], path[sizeof dir + 32], *whole;
	struct rlimit l;
	int status;
	snprintf(dir, sizeof dir, "%s.cores", scratch);
	OK(mkdir(dir, 0700));
	pid_t p = forked();
	if (p == 0) {
		char *mine = malloc(64);
		OK(chdir(dir));
		OK(getrlimit(RLIMIT_CORE, &l));
		l.rlim_cur = l.rlim_max;
		OK(setrlimit(RLIMIT_CORE, &l));
		snprintf(mine, 64, "%s%d.", word, getpid());
		nap(how == BY_ABORT ? 150 : 300);
		signal(SIGABRT, SIG_DFL);
		if (how == BY_KILL)
			kill(getpid(), SIGABRT);
		else if (how == BY_FAULT) {
			signal(SIGSEGV, SIG_IGN);
			signal(SIGSEGV, SIG_DFL);
			faults(NULL);
		}
		else if (how == BY_FAULT_OF_A_THREAD) {
			pthread_t t;
			struct sigaction a;
			OK(sigaction(SIGSEGV, NULL, &a));
			if (a.sa_handler != SIG_DFL)
				_exit(1);
			a.sa_handler = SIG_IGN;
			OK(sigaction(SIGBUS, &a, &a));
			if (a.sa_handler != SIG_DFL)
				_exit(2);
			pthread_create(&t, NULL, faults, NULL);
			pthread_join(t, NULL);
		} else
			abort();
		_exit(mine[0]);
	}
	EQ(waitpid(p, &status, 0), p);
	forget(p);
	IS(WIFSIGNALED(status) && WTERMSIG(status) == (how >= BY_FAULT ? SIGSEGV : SIGABRT), "its status is %#x", status);
	IS(WCOREDUMP(status), "it has left no core file");
	snprintf(path, sizeof path, "%s/core", dir);
	if (access(path, F_OK) != 0)
		snprintf(path, sizeof path, "%s/core.%d", dir, p);
	int fd = open(path, O_RDONLY);
	OK(fd);
	off_t size = lseek(fd, 0, SEEK_END);
	whole = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	IS(whole != MAP_FAILED, "map the core file");
	char due[64];
	snprintf(due, sizeof due, "%s%d.", word, p);
	IS(memmem(whole, size, due, strlen(due) + 1) != NULL, "the core file does not show what the program has written");
	munmap(whole, size);
	close(fd);
	OK(unlink(path));
	OK(rmdir(dir));
}

CASE(a_fatal_signal_writes_a_core_file)
{
	char pattern[64] = "";
	struct rlimit l;
	OK(getrlimit(RLIMIT_CORE, &l));
	slurp("/proc/sys/kernel/core_pattern", pattern, sizeof pattern);
	if (l.rlim_max != RLIM_INFINITY || strcmp(pattern, "core\n") != 0)
		return; /* it would go elsewhere, or nowhere */
	l.rlim_cur = l.rlim_max; /* here, so that a child may be born away */
	OK(setrlimit(RLIMIT_CORE, &l));
	for (int how = BY_ABORT; how <= BY_FAULT_OF_A_THREAD; how++)
		dies_with_core(how);
}

CASE(sigpipe_of_a_pipe)
{
	caught(SIGPIPE, 0);
	make_pipe();
	close(piped[0]);
	ERR(write(piped[1], "x", 1), EPIPE);
	EQ(seen, SIGPIPE);
	signal(SIGPIPE, SIG_IGN);
	ERR(write(piped[1], "x", 1), EPIPE);
	close(piped[1]);
	deflt(SIGPIPE, 0);
}

CASE(sigpipe_of_a_socket)
{
	int s[2];
	caught(SIGPIPE, 0);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	close(s[0]);
	ERR(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	EQ(seen, 0);
	ERR(send(s[1], "x", 1, 0), EPIPE);
	EQ(seen, SIGPIPE);
	close(s[1]);
	deflt(SIGPIPE, 0);
}

static volatile int flipping;

static void *sends(void *arg)
{
	(void)arg;
	while (flipping) {
		kill(me, SIGUSR1);
		kill(me, SIGCHLD);
		nap(1);
	}
	return NULL;
}

CASE(action_changes_while_signals_come)
{
	pthread_t t;
	deflt(SIGUSR1, 0);
	signal(SIGUSR1, SIG_IGN);
	flipping = 1;
	EQ(pthread_create(&t, NULL, sends, NULL), 0);
	for (int i = 0; i < 100; i++) {
		caught(SIGUSR1, SA_RESTART);
		caught(SIGCHLD, SA_RESTART);
		usleep(100);
		signal(SIGUSR1, SIG_IGN);
		signal(SIGCHLD, SIG_DFL);
	}
	flipping = 0;
	EQ(pthread_join(t, NULL), 0);
	deflt(SIGUSR1, 0);
}

CASE(stopped_and_continued_by_another)
{
	int64_t began = MONO;
	caught(SIGCONT, 0);
	ask_friend(WISH_KILL, 20, SIGSTOP, 60, -1); /* and a SIGCONT after so many ms */
	while (seen == 0 && MONO - began < 10000)
		;
	EQ(seen, SIGCONT);
	EQ(seen_info.si_pid, friend_pid);
	IS(MONO - began >= 75, "%lld ms", (long long)(MONO - began));
	deflt(SIGCONT, 0);
}

CASE(sigcont_discards_stop_signals)
{
	sigset_t s;
	IN_CHILD
	{
		block(SIGTSTP, 0);
		OK(raise(SIGTSTP));
		OK(sigpending(&s));
		EQ(sigismember(&s, SIGTSTP), 1);
		OK(raise(SIGCONT));
		OK(sigpending(&s));
		EQ(sigismember(&s, SIGTSTP), 0);
	}
}

/* While sigsuspend waits its own mask counts, whatever comes meanwhile. */
CASE(sigsuspend_waits_with_its_mask)
{
	sigset_t m = set_of(SIGUSR2, 0);
	block(SIGUSR1, 0);
	caught(SIGUSR2, 0);
	caught(SIGUSR1, 0);
	pid_t k = forked();
	if (k == 0) {
		nap(wait_ms() / 2);
		kill(me, SIGUSR2);
		nap(wait_ms() / 2);
		kill(me, SIGURG); /* ignored */
		nap(20);
		kill(me, SIGUSR1);
		_exit(0);
	}
	ERR(sigsuspend(&m), EINTR);
	EQ(seen, SIGUSR1 * 100 + SIGUSR2); /* one under the mask of the call, then the other */
	EXITS(k, 0);
	unblock(SIGUSR1, 0);
	EQ(seen, SIGUSR1 * 100 + SIGUSR2);
	signal(SIGUSR1, SIG_DFL), signal(SIGUSR2, SIG_DFL);
}

static volatile pid_t ready_tid, handled_by;
static volatile int over_now;

static void note_thread(MAYBE int sig, siginfo_t *si, MAYBE void *uc)
{
	seen_info = *si;
	handled_by = gettid_();
}

static void *idles(MAYBE void *none)
{
	ready_tid = gettid_();
	while (!over_now)
		nap(1);
	return NULL;
}

CASE(a_descriptor_signals_one_thread)
{
	pthread_t t;
	int s[2], sig = SIGRTMIN + 5;
	struct sigaction a = {.sa_sigaction = note_thread, .sa_flags = SA_SIGINFO | SA_RESTART};
	OK(sigaction(sig, &a, NULL));
	ready_tid = 0, over_now = 0;
	EQ(pthread_create(&t, NULL, idles, NULL), 0);
	while (ready_tid == 0)
		nap(1);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	struct f_owner_ex owner = {F_OWNER_TID, ready_tid};
	OK(fcntl(s[0], F_SETOWN_EX, &owner));
	OK(fcntl(s[0], F_SETSIG, sig));
	OK(fcntl(s[0], F_SETFL, O_ASYNC | O_RDWR));
	for (int i = 0; i < 3; i++) {
		handled_by = 0;
		OK(write(s[1], "x", 1));
		for (int64_t until = MONO + 5000; handled_by == 0 && MONO < until;)
			nap(1);
		EQ(handled_by, ready_tid);
		EQ(seen_info.si_fd, s[0]);
		EQ(seen_info.si_code, POLL_IN);
	}
	over_now = 1;
	EQ(pthread_join(t, NULL), 0);
	close(s[0]);
	close(s[1]);
	signal(sig, SIG_DFL);
}
