/*
 * sender.h: a helper process that stays at home and sends signals to its parent when asked, so that a workload decides by
 * handshake what arrives when, and its output does not depend on time.
 */
#ifndef SENDER_H
#define SENDER_H
#include "work.h"
#include <signal.h>

struct order {
	char what;      /* k: kill, q: sigqueue, b: write one byte into the pipe, r: kill every 3 ms until told, s: stop and continue */
	int sig, value, times, delay_us;
};

static int sender_in[2], sender_ack[2], sender_pipe[2];
static pid_t sender_pid;

static void sender_loop(pid_t to)
{
	struct order o;
	while (read_all(sender_in[0], &o, sizeof o) == 0) {
		char c = o.what;
		union sigval v;
		if (o.delay_us > 0)
			nap(o.delay_us);
		switch (o.what) {
		case 'k':
			for (int i = 0; i < o.times; i++)
				if (kill(to, o.sig) != 0)
					_exit(30);
			break;
		case 'q':
			for (int i = 0; i < o.times; i++) {
				v.sival_int = o.value + i;
				if (sigqueue(to, o.sig, v) != 0)
					_exit(31);
			}
			break;
		case 'b':
			if (write(sender_pipe[1], &c, 1) != 1)
				_exit(32);
			break;
		case 'r':
			/* until a next order waits in the pipe */
			for (;;) {
				fd_set f;
				struct timeval tv = {0, 3000};
				FD_ZERO(&f);
				FD_SET(sender_in[0], &f);
				if (kill(to, o.sig) != 0 || select(sender_in[0] + 1, &f, NULL, NULL, &tv) != 0)
					break;
			}
			break;
		case 's':
			if (kill(to, SIGSTOP) != 0)
				_exit(33);
			nap(20000);
			if (kill(to, SIGCONT) != 0)
				_exit(34);
			break;
		}
		if (write(sender_ack[1], &c, 1) != 1)
			_exit(35);
	}
	_exit(0);
}

WORK_UNUSED static void sender_start(void)
{
	pid_t parent = getpid();
	if (pipe(sender_in) != 0 || pipe(sender_ack) != 0 || pipe(sender_pipe) != 0)
		exit(2);
	sender_pid = fork();
	if (sender_pid == 0) {
		signal(SIGPIPE, SIG_IGN);
		close(sender_in[1]);
		close(sender_ack[0]);
		sender_loop(parent);
	}
	close(sender_in[0]);
	close(sender_ack[1]);
}

/* ask gives an order; told waits until it was carried out. */
WORK_UNUSED static void ask(char what, int sig, int value, int times, int delay_us)
{
	struct order o = {what, sig, value, times, delay_us};
	CHECK(write_all(sender_in[1], &o, sizeof o) == 0);
}

WORK_UNUSED static void told(void)
{
	char c;
	CHECK(read_all(sender_ack[0], &c, 1) == 0);
}

WORK_UNUSED static void sender_end(void)
{
	close(sender_in[1]);
	join(sender_pid);
}

/* block changes the mask of this thread by one signal. */
WORK_UNUSED static void block(int how, int sig)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, sig);
	sigprocmask(how, &s, NULL);
}

WORK_UNUSED static void action(int sig, void (*h)(int, siginfo_t *, void *), int flags, int also)
{
	struct sigaction sa;
	memset(&sa, 0, sizeof sa);
	sa.sa_sigaction = h;
	sa.sa_flags = SA_SIGINFO | flags;
	sigemptyset(&sa.sa_mask);
	if (also != 0)
		sigaddset(&sa.sa_mask, also);
	CHECK(sigaction(sig, &sa, NULL) == 0);
}
#endif
