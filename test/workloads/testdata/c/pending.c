/*
 * pending: signals that are blocked, and read where they pend: sigpending, sigwaitinfo, sigtimedwait, signalfd with read, poll
 * and epoll; sent by another process before and during the wait, to oneself, to a thread; taken by one thread while others wait
 * for something else or compute; left over when the descriptor is made; let in by unblocking them.
 */
#include "sender.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

static volatile sig_atomic_t handled;
static int a, b, c, d;
static int quiet[2];

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (sig == a && si->si_pid == sender_pid)
		handled++;
}

static sigset_t set_of(int s1, int s2)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, s1);
	if (s2 != 0)
		sigaddset(&s, s2);
	return s;
}

/* busy computes for about us microseconds, without a call that waits. */
static void busy(uint64_t us)
{
	uint64_t t = clock_ns(CLOCK_MONOTONIC);
	volatile uint64_t h = 5;
	while (clock_ns(CLOCK_MONOTONIC) - t < us * 1000)
		h = mix(h, 3);
}

static void waited(void)
{
	sigset_t s = set_of(a, b), p;
	siginfo_t si;
	struct timespec none = {0, 0}, little = {0, 3000000};
	CHECK(sigtimedwait(&s, &si, &none) == -1 && errno == EAGAIN);
	CHECK(sigtimedwait(&s, &si, &little) == -1 && errno == EAGAIN);
	CHECK(sigpending(&p) == 0 && !sigismember(&p, a) && !sigismember(&p, b));
	/* they pend before the wait: the lower number first, each in the order in which it was sent */
	ask('q', b, 50, 2, 0), told();
	ask('q', a, 70, 2, 0), told();
	busy(500);
	CHECK(sigpending(&p) == 0 && sigismember(&p, a) && sigismember(&p, b));
	int want[4][2] = {{a, 70}, {a, 71}, {b, 50}, {b, 51}};
	for (int i = 0; i < 4; i++) {
		int r = sigwaitinfo(&s, &si);
		if (r != want[i][0] || si.si_value.sival_int != want[i][1] || si.si_pid != sender_pid || si.si_code != SI_QUEUE || si.si_uid != work_uid)
			bad("round %ld: wait %d gave %d, value %d, pid %d, code %d, uid %d", work_rounds, i, r, si.si_value.sival_int, si.si_pid, si.si_code, (int)si.si_uid);
	}
	CHECK(sigpending(&p) == 0 && !sigismember(&p, a) && !sigismember(&p, b));
	/* during the wait, and one that is not waited for stays */
	ask('k', SIGUSR2, 0, 1, 0);
	ask('q', a, 90, 1, 2000);
	s = set_of(a, 0);
	CHECK(sigwaitinfo(&s, &si) == a && si.si_value.sival_int == 90);
	told(), told();
	CHECK(sigpending(&p) == 0 && sigismember(&p, SIGUSR2) && !sigismember(&p, a));
	s = set_of(SIGUSR2, 0);
	CHECK(sigtimedwait(&s, &si, &none) == SIGUSR2 && si.si_code == SI_USER && si.si_pid == sender_pid);
	/* from oneself */
	CHECK(raise(SIGUSR2) == 0 && sigpending(&p) == 0 && sigismember(&p, SIGUSR2));
	CHECK(sigwaitinfo(&s, &si) == SIGUSR2 && si.si_pid == work_pid && si.si_code == SI_USER); /* the library has it so */
	CHECK(kill(work_pid, SIGUSR2) == 0 && sigpending(&p) == 0 && sigismember(&p, SIGUSR2));
	CHECK(sigwaitinfo(&s, NULL) == SIGUSR2);
	report("waited", 1);
}

static void described(int sfd, int ep)
{
	struct signalfd_siginfo si[4];
	struct pollfd p = {.fd = sfd, .events = POLLIN};
	struct epoll_event ev;
	sigset_t pend;
	CHECK(poll(&p, 1, 0) == 0);
	CHECK(epoll_wait(ep, &ev, 1, 0) == 0);
	/* it pends before */
	ask('q', c, 10, 3, 0), told();
	CHECK(sigpending(&pend) == 0 && sigismember(&pend, c));
	CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
	CHECK(epoll_wait(ep, &ev, 1, 0) == 1 && ev.data.fd == sfd);
	CHECK(read(sfd, si, 2 * sizeof si[0]) == (ssize_t)(2 * sizeof si[0]));
	CHECK(si[0].ssi_signo == (unsigned)c && si[0].ssi_int == 10 && si[1].ssi_int == 11 && si[0].ssi_pid == (unsigned)sender_pid);
	CHECK(si[0].ssi_code == SI_QUEUE && si[0].ssi_uid == work_uid);
	CHECK(read(sfd, si, sizeof si) == (ssize_t)sizeof si[0] && si[0].ssi_int == 12);
	/* while it computes, and then waits */
	ask('q', c, 20, 1, 300);
	busy(2000);
	CHECK(poll(&p, 1, 20000) == 1 && read(sfd, si, sizeof si) == (ssize_t)sizeof si[0] && si[0].ssi_int == 20);
	told();
	ask('q', c, 30, 1, 2000);
	CHECK(read(sfd, si, sizeof si[0]) == (ssize_t)sizeof si[0] && si[0].ssi_int == 30);
	told();
	ask('q', c, 40, 1, 2000);
	CHECK(epoll_wait(ep, &ev, 1, 20000) == 1 && ev.data.fd == sfd);
	told();
	CHECK(read(sfd, si, sizeof si) == (ssize_t)sizeof si[0] && si[0].ssi_int == 40);
	/* the same signals by a wait, and from oneself */
	sigset_t s = set_of(c, d);
	siginfo_t info;
	ask('q', c, 50, 1, 1000);
	CHECK(sigwaitinfo(&s, &info) == c && info.si_value.sival_int == 50);
	told();
	CHECK(raise(d) == 0);
	CHECK(poll(&p, 1, 20000) == 1 && read(sfd, si, sizeof si) == (ssize_t)sizeof si[0] && si[0].ssi_signo == (unsigned)d && si[0].ssi_code == SI_TKILL);
	CHECK(kill(work_pid, d) == 0);
	CHECK(read(sfd, si, sizeof si) == (ssize_t)sizeof si[0] && si[0].ssi_signo == (unsigned)d && si[0].ssi_code == SI_USER && si[0].ssi_pid == (unsigned)work_pid);
	report("described", 2);
}

/* left over: what pends when the descriptor is made is read from it; what is unblocked is handled. */
static void left_over(void)
{
	struct signalfd_siginfo si;
	sigset_t s = set_of(SIGUSR2, 0), pend;
	ask('k', SIGUSR2, 0, 1, 0), told();
	busy(3000);
	int fd = signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC);
	CHECK(fd >= 0 && read(fd, &si, sizeof si) == sizeof si && si.ssi_signo == SIGUSR2 && si.ssi_pid == (unsigned)sender_pid);
	CHECK(read(fd, &si, sizeof si) == -1 && errno == EAGAIN);
	close(fd);
	handled = 0;
	ask('q', a, 1, 3, 0), told();
	busy(2000);
	CHECK(sigpending(&pend) == 0 && sigismember(&pend, a) && handled == 0);
	block(SIG_UNBLOCK, a);
	CHECK(handled == 3);
	block(SIG_BLOCK, a);
	handled = 0;
	ask('q', c, 1, 1, 0), told();
	report("left over", 3);
}

/* a handler for what a signalfd reads too: unblocked for a moment, while nothing else happens */
static volatile sig_atomic_t both;
static void on_both(int sig)
{
	(void)sig;
	both++;
}

static void unblocked(int sfd)
{
	struct signalfd_siginfo si;
	struct pollfd p = {.fd = sfd, .events = POLLIN};
	CHECK(poll(&p, 1, 20000) == 1);
	signal(c, on_both);
	both = 0;
	block(SIG_UNBLOCK, c);
	for (int i = 0; both == 0 && i < 5000; i++)
		busy(1000);
	CHECK(both == 1);
	block(SIG_BLOCK, c);
	CHECK(fcntl(sfd, F_SETFL, O_NONBLOCK) == 0 && read(sfd, &si, sizeof si) == -1 && errno == EAGAIN && fcntl(sfd, F_SETFL, 0) == 0);
	report("unblocked", 4);
}

static void *waiter(void *arg)
{
	sigset_t s = set_of(a, SIGUSR1);
	siginfo_t si;
	long *sum = arg;
	for (;;) {
		int r = sigwaitinfo(&s, &si);
		if (r == SIGUSR1)
			return NULL;
		if (r != a)
			bad("round %ld: the waiting thread got %d, errno %d", work_rounds, r, errno);
		*sum += si.si_value.sival_int;
		char x = 'w';
		if (write(quiet[1], &x, 1) != 1)
			bad("the pipe is broken");
	}
}

/* another thread takes what this one blocks, whether this one sleeps or computes */
static void threads(void)
{
	pthread_t t;
	long sum = 0;
	char x;
	CHECK(pthread_create(&t, NULL, waiter, &sum) == 0);
	ask('q', a, 1, 1, 1000);
	CHECK(read(quiet[0], &x, 1) == 1);
	told();
	ask('q', a, 10, 1, 1000);
	busy(4000);
	CHECK(read(quiet[0], &x, 1) == 1);
	told();
	ask('q', a, 100, 2, 0), told();
	CHECK(read(quiet[0], &x, 1) == 1 && read(quiet[0], &x, 1) == 1);
	busy(500);
	CHECK(pthread_kill(t, SIGUSR1) == 0 && pthread_join(t, NULL) == 0);
	CHECK(sum == 1 + 10 + 201);
	report("threads", 5);
}

/* a child's end, ignored by default, is seen by a wait when it is blocked */
static void children(void)
{
	sigset_t s = set_of(SIGCHLD, 0), pend;
	siginfo_t si;
	struct timespec none = {0, 0};
	int p[2], status;
	block(SIG_BLOCK, SIGCHLD);
	CHECK(sigtimedwait(&s, &si, &none) == -1 && errno == EAGAIN);
	CHECK(pipe(p) == 0);
	pid_t child = fork();
	if (child == 0) {
		char x;
		close(p[1]);
		_exit(read(p[0], &x, 1) == 1 ? 9 : 1);
	}
	close(p[0]);
	nap(30000 + work_rounds % 5 * 100000); /* it may be moved now */
	CHECK(write(p[1], "x", 1) == 1);
	close(p[1]);
	CHECK(sigwaitinfo(&s, &si) == SIGCHLD && si.si_pid == child && si.si_code == CLD_EXITED && si.si_status == 9);
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
	CHECK(sigpending(&pend) == 0 && !sigismember(&pend, SIGCHLD));
	block(SIG_UNBLOCK, SIGCHLD);
	report("children", 6);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	a = SIGRTMIN + 1, b = SIGRTMIN + 2, c = SIGRTMIN + 3, d = SIGTERM;
	sender_start();
	CHECK(pipe(quiet) == 0);
	sigset_t all = set_of(a, b), s = set_of(c, d);
	sigaddset(&all, c), sigaddset(&all, d), sigaddset(&all, SIGUSR1), sigaddset(&all, SIGUSR2);
	sigprocmask(SIG_BLOCK, &all, NULL);
	action(a, on_signal, SA_RESTART, 0);
	int sfd = -1, ep = epoll_create1(EPOLL_CLOEXEC);
	for (int more = work_more(); more; more = work_more()) {
		if (sfd < 0) {
			waited(); /* once without any signalfd */
			sfd = signalfd(-1, &s, SFD_CLOEXEC);
			struct epoll_event ev = {.events = EPOLLIN, .data.fd = sfd};
			CHECK(sfd >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, sfd, &ev) == 0);
		}
		waited();
		described(sfd, ep);
		left_over();
		unblocked(sfd);
		if (work_rounds % 8 == 1) {
			threads(); /* a thread, and a process, are made at home */
			children();
		}
		nap(3000);
	}
	sender_end();
	return work_end();
}
