/*
 * waits: every call with a timeout that a mere stop ends with EINTR, for 1.2 s each in turn. None may show EINTR, end early, or
 * wait anew for its whole time: how late is bounded by less than what moves in the middle of it would add. And a handler's EINTR
 * is seen.
 */
#include "work.h"
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

enum { LONG_MS = 1200, LATE_MS = 550 };
static const char *const names[] = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "sigtimedwait", "semtimedop", "recv", "read", "recvmsg", "recvmmsg", "accept"};
enum { KINDS = sizeof names / sizeof *names };
static int ep, sem, sp[2], listener;
static volatile sig_atomic_t rang;

static void on_alarm(int sig)
{
	(void)sig;
	rang++;
}

static int await(int kind, long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	struct sembuf op = {0, -1, 0};
	struct epoll_event ev;
	struct iovec v = {&ev, sizeof ev};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};
	siginfo_t si;
	sigset_t s;
	char c;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	setsockopt(sp[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	errno = 0;
	switch (kind) {
	case 0: return epoll_wait(ep, &ev, 1, (int)ms);
	case 1: return epoll_pwait(ep, &ev, 1, (int)ms, NULL);
	case 2: return (int)syscall(SYS_epoll_pwait2, ep, &ev, 1, &ts, NULL, 0);
	case 3: return sigtimedwait(&s, &si, &ts);
	case 4: return semtimedop(sem, &op, 1, &ts);
	case 5: return (int)recv(sp[0], &c, 1, 0);
	case 6: return (int)read(sp[0], &c, 1);
	case 7: return (int)recvmsg(sp[0], &m, 0);
	case 8: return recvmmsg(sp[0], &mm, 1, 0, NULL);
	case 9: return accept(listener, NULL, NULL);
	}
	return -2;
}

int main(int argc, char **argv)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	sigset_t s;
	work_begin(argc, argv);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, NULL);
	sigaction(SIGALRM, &sa, NULL);
	ep = epoll_create1(0);
	sem = semget(IPC_PRIVATE, 1, 0600);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(ep >= 0 && sem >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sp) == 0);
	CHECK(bind(listener, (struct sockaddr *)&a, sizeof(sa_family_t)) == 0 && listen(listener, 1) == 0);
	while (work_more()) {
		for (int kind = 0; kind < KINDS; kind++) {
			int in_turn = work_rounds > 1 && (kind == work_rounds % KINDS);
			long ms = in_turn ? LONG_MS : 10;
			uint64_t t = clock_ns(CLOCK_MONOTONIC);
			int r = await(kind, ms), e = errno;
			t = (clock_ns(CLOCK_MONOTONIC) - t) / 1000;
			int want = kind < 3 ? 0 : -1;
			if (r != want || (want < 0 && e != EAGAIN))
				bad("round %ld: %s of %ld ms gave %d, errno %d, after %llu us", work_rounds, names[kind], ms, r, e, (unsigned long long)t);
			else if (t + 1000 < (uint64_t)ms * 1000)
				bad("round %ld: %s of %ld ms took only %llu us", work_rounds, names[kind], ms, (unsigned long long)t);
			else if (t > (uint64_t)(ms + LATE_MS) * 1000)
				bad("round %ld: %s of %ld ms took %llu us", work_rounds, names[kind], ms, (unsigned long long)t);
			if (work_rounds == 1)
				printf("%s ok\n", names[kind]);
		}
		/* and the same, ended by a handler, whatever SA_RESTART says */
		int kind = (int)(work_rounds % KINDS);
		struct itimerval soon = {{0, 0}, {0, 150000}};
		rang = 0;
		CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
		int r = await(kind, 20000), e = errno;
		if (r != -1 || e != EINTR || rang != 1)
			bad("round %ld: %s gave %d, errno %d after %d signals, want EINTR", work_rounds, names[kind], r, e, (int)rang);
	}
	semctl(sem, 0, IPC_RMID);
	return work_end();
}
