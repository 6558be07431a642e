/*
 * epoll: waits that a stop or an ignored signal may break where they must not. A helper sends SIGWINCH, SIGURG (ignored by
 * default) and SIGUSR2 (ignored by choice) every 2 ms the whole time; no wait may see EINTR, or end early.
 */
#include "sender.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct epoll_event ev = {.events = EPOLLIN}, got;
	struct timeval tv = {0, 10000};
	sigset_t set;
	siginfo_t si;
	int sp[2];
	char c;
	work_begin(argc, argv);
	signal(SIGUSR2, SIG_IGN);
	pid_t pest = fork();
	if (pest == 0) {
		pid_t parent = getppid();
		for (int i = 0; getppid() == parent; i++) {
			kill(parent, i % 3 == 0 ? SIGWINCH : i % 3 == 1 ? SIGURG : SIGUSR2);
			nap(2000);
		}
		_exit(0);
	}
	int ep = epoll_create1(0), efd = eventfd(0, 0), sem = semget(IPC_PRIVATE, 1, 0600);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sp) == 0);
	CHECK(setsockopt(sp[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, efd, &ev) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	const char *names[] = {"epoll_wait", "sigtimedwait", "semtimedop", "recv"};
	while (work_more()) {
		for (int kind = 0; kind < 4; kind++) {
			long ms = work_rounds > 1 && kind == work_rounds % 4 ? 300 : 10;
			struct sembuf op = {0, -1, 0};
			struct timespec limit = {0, ms * 1000000};
			struct timeval rtv = {0, ms * 1000};
			uint64_t t = clock_ns(CLOCK_MONOTONIC);
			int r = 0, e, want = EAGAIN;
			errno = 0;
			switch (kind) {
			case 0:
				r = epoll_wait(ep, &got, 1, (int)ms);
				want = 0;
				break;
			case 1: r = sigtimedwait(&set, &si, &limit); break;
			case 2: r = semtimedop(sem, &op, 1, &limit); break;
			case 3:
				setsockopt(sp[0], SOL_SOCKET, SO_RCVTIMEO, &rtv, sizeof rtv);
				errno = 0;
				r = (int)recv(sp[0], &c, 1, 0);
				break;
			}
			e = errno;
			t = (clock_ns(CLOCK_MONOTONIC) - t) / 1000;
			if (r != (want ? -1 : 0) || e != want)
				bad("round %ld: %s gave %d, errno %d, after %llu us", work_rounds, names[kind], r, e, (unsigned long long)t);
			else if (t + 1000 < (uint64_t)ms * 1000 || t > (uint64_t)ms * 1000 + 5000000)
				bad("round %ld: %s of %ld ms took %llu us", work_rounds, names[kind], ms, (unsigned long long)t);
		}
		uint64_t one = 1;
		CHECK(write(efd, &one, 8) == 8);
		CHECK(epoll_wait(ep, &got, 1, 20000) == 1);
		CHECK(read(efd, &one, 8) == 8 && one == 1);
	}
	semctl(sem, 0, IPC_RMID);
	kill(pest, SIGKILL);
	CHECK(waitpid(pest, NULL, 0) == pest);
	report("waits", 4);
	return work_end();
}
