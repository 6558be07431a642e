/*
 * Group 4: calls that wait. What they wait for comes from the friend, another process, or never; they end with what is due,
 * when it is due, and no sooner. Each names the manual page of its call.
 */
#include "case.h"
#include <sys/time.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

static int piped[2];
static void make_pipe(void) { OK(pipe2(piped, O_CLOEXEC)); }
static void end_pipe(void) { close(piped[0]), close(piped[1]); }
static struct timespec in_ms(int ms) { return (struct timespec){ms / 1000, ms % 1000 * 1000000L}; }

CASE(read_of_a_pipe)
{
	char c = 0;
	make_pipe();
	ask_friend(WISH_WRITE, wait_ms(), 1, 'r', piped[1]);
	EQ(read(piped[0], &c, 1), 1);
	EQ(c, 'r');
	end_pipe();
}

CASE(read_of_a_pipe_ends_with_its_writers)
{
	char c = 0;
	make_pipe();
	ask_friend(WISH_CLOSE, wait_ms(), 0, 0, piped[1]);
	close(piped[1]);
	EQ(read(piped[0], &c, 1), 0);
	close(piped[0]);
}

CASE(read_of_a_pipe_loses_nothing)
{
	char b[777];
	size_t n = 0, total = 400000;
	make_pipe();
	ask_friend(WISH_WRITE, 5, (int)total, 'z', piped[1]);
	close(piped[1]);
	for (ssize_t k; (k = read(piped[0], b, sizeof b)) != 0; n += (size_t)k) {
		IS(k > 0, "read is %zd, errno %d", k, errno);
		for (ssize_t i = 0; i < k; i++)
			EQ(b[i], 'z');
		if (moving && n % 50 == 0)
			nap(1);
	}
	EQ(n, total);
	close(piped[0]);
}

CASE(write_to_a_full_pipe)
{
	static char b[300000];
	make_pipe();
	memset(b, 'w', sizeof b);
	ask_friend(WISH_READ, wait_ms(), sizeof b, 0, piped[0]);
	int64_t began = MONO;
	EQ(write(piped[1], b, sizeof b), sizeof b);
	IS(MONO - began >= wait_ms() - 30, "%lld ms", (long long)(MONO - began));
	end_pipe();
}

static void *polls_there(void *fd)
{
	struct pollfd p[3] = {{.fd = (int)(intptr_t)fd, .events = POLLIN}, {.fd = -1}, {.fd = -1}};
	struct timespec left = {0, 0}, some = in_ms(1);
	EQ(poll(p, 3, 5000), 1);
	EQ(p[0].revents, POLLIN);
	OK(nanosleep(&some, &left));
	return NULL;
}

/* The kernel keeps the address of what such a call has to write: memory that the process has had since a moment ago. */
CASE(waits_with_memory_that_is_new)
{
	pthread_t t;
	make_pipe();
	ask_friend(WISH_WRITE, 20, 1, 'n', piped[1]);
	EQ(pthread_create(&t, NULL, polls_there, (void *)(intptr_t)piped[0]), 0);
	EQ(pthread_join(t, NULL), 0);
	size_t n = 3000;
	struct pollfd *p = MAPPED(mmap(NULL, n * sizeof *p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (size_t i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = -1};
	p[n - 1] = (struct pollfd){.fd = piped[0], .events = POLLIN};
	EQ(poll(p, n, 1000), 1);
	EQ(p[n - 1].revents, POLLIN);
	OK(munmap(p, n * sizeof *p));
	end_pipe();
}

/* What waits for room, or for all of what was asked, comes whole. */
CASE(transfers_come_whole)
{
	static char b[300000];
	int s[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	memset(b, 't', sizeof b);
	ask_friend(WISH_READ, wait_ms(), sizeof b, 0, s[0]);
	EQ(send(s[1], b, sizeof b, MSG_NOSIGNAL), sizeof b);
	OK(write(s[0], "half", 4));
	ask_friend(WISH_WRITE, wait_ms(), 4, 'h', s[0]);
	EQ(recv(s[1], b, 8, MSG_WAITALL), 8);
	EQ(memcmp(b, "halfhhhh", 8), 0);
	make_pipe();
	struct iovec v[3] = {{b, 100000}, {b + 100000, 1}, {b + 100001, 150000}};
	ask_friend(WISH_READ, wait_ms(), 250001, 0, piped[0]);
	EQ(writev(piped[1], v, 3), 250001);
	end_pipe();
	close(s[0]);
	close(s[1]);
}

CASE(open_of_a_fifo)
{
	OK(mkfifo(scratch, 0600));
	int w = (int)OK(open(scratch, O_RDWR | O_CLOEXEC));
	int r = (int)OK(open(scratch, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	close(w);
	close(r);
	ERR(open(scratch, O_WRONLY | O_NONBLOCK), ENXIO);
	pthread_t t;
	extern void *opens_for_reading(void *);
	EQ(pthread_create(&t, NULL, opens_for_reading, scratch), 0);
	w = (int)OK(open(scratch, O_WRONLY | O_CLOEXEC));
	void *fd;
	EQ(pthread_join(t, &fd), 0);
	EQ(write(w, "f", 1), 1);
	char c = 0;
	EQ(read((int)(intptr_t)fd, &c, 1), 1);
	EQ(c, 'f');
	close(w);
	close((int)(intptr_t)fd);
	OK(unlink(scratch));
}

void *opens_for_reading(void *name)
{
	nap(wait_ms());
	return (void *)(intptr_t)open(name, O_RDONLY | O_CLOEXEC);
}

CASE(poll_waits_for_data)
{
	make_pipe();
	struct pollfd f[2] = {{piped[0], POLLIN, 77}, {-1, POLLIN, 77}};
	ask_friend(WISH_WRITE, wait_ms(), 1, 'p', piped[1]);
	EQ(poll(f, 2, -1), 1);
	EQ(f[0].revents, POLLIN);
	EQ(f[1].revents, 0);
	end_pipe();
}

CASE(poll_waits_its_time)
{
	make_pipe();
	struct pollfd f = {piped[0], POLLIN, 0};
	int64_t began = MONO;
	EQ(poll(&f, 1, wait_ms()), 0);
	took(__LINE__, began, wait_ms());
	end_pipe();
}

CASE(poll_with_a_time_and_data)
{
	make_pipe();
	struct pollfd f = {piped[0], POLLIN, 0};
	int64_t began = MONO;
	ask_friend(WISH_WRITE, wait_ms(), 1, 'p', piped[1]);
	EQ(poll(&f, 1, 20000), 1);
	took(__LINE__, began, wait_ms());
	end_pipe();
}

CASE(ppoll_with_a_mask)
{
	sigset_t none;
	sigemptyset(&none);
	make_pipe();
	struct pollfd f = {piped[0], POLLIN, 0};
	struct timespec t = {20, 0};
	block(SIGUSR1, 0);
	caught(SIGUSR1, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	ERR(ppoll(&f, 1, &t, &none), EINTR);
	EQ(seen, SIGUSR1);
	unblock(SIGUSR1, 0);
	signal(SIGUSR1, SIG_DFL);
	int64_t began = MONO;
	t = in_ms(wait_ms());
	EQ(ppoll(&f, 1, &t, NULL), 0);
	took(__LINE__, began, wait_ms());
	end_pipe();
}

CASE(select_waits_its_time_and_tells_the_rest)
{
	make_pipe();
	fd_set r;
	FD_ZERO(&r);
	FD_SET(piped[0], &r);
	struct timeval tv = {0, wait_ms() * 1000};
	int64_t began = MONO;
	EQ(select(piped[0] + 1, &r, NULL, NULL, &tv), 0);
	took(__LINE__, began, wait_ms());
	EQ(FD_ISSET(piped[0], &r), 0);
	EQ(tv.tv_sec * 1000000 + tv.tv_usec, 0);
	FD_SET(piped[0], &r);
	tv.tv_sec = 10;
	ask_friend(WISH_WRITE, wait_ms(), 1, 's', piped[1]);
	EQ(select(piped[0] + 1, &r, NULL, NULL, &tv), 1);
	EQ(FD_ISSET(piped[0], &r), 1);
	IS(tv.tv_sec == 9 || (tv.tv_sec < 9 && tv.tv_sec >= 7), "%ld s are left", (long)tv.tv_sec);
	end_pipe();
}

CASE(pselect_with_a_mask)
{
	sigset_t none;
	sigemptyset(&none);
	struct timespec t = {20, 0};
	block(SIGUSR1, 0);
	caught(SIGUSR1, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	ERR(pselect(0, NULL, NULL, NULL, &t, &none), EINTR);
	EQ(seen, SIGUSR1);
	unblock(SIGUSR1, 0);
	signal(SIGUSR1, SIG_DFL);
	EQ(t.tv_sec, 20); /* POSIX' pselect leaves it alone */
}

CASE(epoll_wait_for_data)
{
	make_pipe();
	int e = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event ev = {EPOLLIN, {.u64 = 0x1122334455667788}}, got[3];
	OK(epoll_ctl(e, EPOLL_CTL_ADD, piped[0], &ev));
	ask_friend(WISH_WRITE, wait_ms(), 1, 'e', piped[1]);
	EQ(epoll_wait(e, got, 3, -1), 1);
	EQ(got[0].events, EPOLLIN);
	EQ(got[0].data.u64, 0x1122334455667788);
	close(e);
	end_pipe();
}

CASE(epoll_wait_its_time)
{
	make_pipe();
	int e = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event ev = {.events = EPOLLIN};
	OK(epoll_ctl(e, EPOLL_CTL_ADD, piped[0], &ev));
	int64_t began = MONO;
	EQ(epoll_wait(e, &ev, 1, wait_ms()), 0);
	took(__LINE__, began, wait_ms());
	struct timespec t = in_ms(wait_ms());
	began = MONO;
	EQ(syscall(SYS_epoll_pwait2, e, &ev, 1, &t, NULL, 8), 0);
	took(__LINE__, began, wait_ms());
	close(e);
	end_pipe();
}

CASE(epoll_wait_is_not_ended_by_ignored_signals)
{
	make_pipe();
	int e = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event ev = {.events = EPOLLIN};
	OK(epoll_ctl(e, EPOLL_CTL_ADD, piped[0], &ev));
	ask_friend(WISH_KILL, wait_ms() / 2, SIGWINCH, 0, -1);
	ask_friend(WISH_WRITE, wait_ms() / 2, 1, 'e', piped[1]);
	EQ(epoll_wait(e, &ev, 1, 20000), 1);
	close(e);
	end_pipe();
}

CASE(nanosleep_sleeps_its_time)
{
	struct timespec t = in_ms(wait_ms());
	int64_t began = MONO;
	OK(nanosleep(&t, NULL));
	took(__LINE__, began, wait_ms());
	t.tv_nsec = 1000000000;
	ERR(nanosleep(&t, NULL), EINVAL);
}

CASE(clock_nanosleep_until)
{
	for (int i = 0; i < 2; i++) {
		clockid_t c = i ? CLOCK_REALTIME : CLOCK_MONOTONIC;
		struct timespec t;
		int64_t began = MONO; /* before the other clock: between the two it may be kept from the processor */
		OK(clock_gettime(c, &t));
		int64_t until = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + wait_ms();
		t = (struct timespec){until / 1000, until % 1000 * 1000000};
		EQ(clock_nanosleep(c, TIMER_ABSTIME, &t, NULL), 0);
		took(__LINE__, began, wait_ms());
		EQ(clock_nanosleep(c, TIMER_ABSTIME, &t, NULL), 0); /* it is past */
	}
}

CASE(clock_nanosleep_of_boot_time)
{
	struct timespec t = in_ms(wait_ms());
	int64_t began = MONO;
	EQ(clock_nanosleep(CLOCK_BOOTTIME, 0, &t, NULL), 0);
	took(__LINE__, began, wait_ms());
}

CASE(sleep_tells_what_remains)
{
	caught(SIGUSR1, 0);
	ask_friend(WISH_KILL, wait_ms(), SIGUSR1, 0, -1);
	unsigned left = sleep(30);
	IS(left == 30 || left == 29, "%u s are left of 30", left);
	signal(SIGUSR1, SIG_DFL);
}

static uint32_t word;

static void *wakes(void *w)
{
	nap(wait_ms());
	__atomic_store_n((uint32_t *)w, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, w, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	return NULL;
}

CASE(futex_wait_and_wake)
{
	pthread_t t;
	word = 0;
	ERR(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 5, NULL, NULL, 0), EAGAIN);
	EQ(pthread_create(&t, NULL, wakes, &word), 0);
	while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0)
		if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) < 0)
			IS(errno == EAGAIN, "errno %d", errno);
	EQ(pthread_join(t, NULL), 0);
}

CASE(futex_wait_its_time)
{
	struct timespec t = in_ms(wait_ms());
	word = 0;
	int64_t began = MONO;
	ERR(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0), ETIMEDOUT);
	took(__LINE__, began, wait_ms());
	int64_t until = now_ms(CLOCK_REALTIME) + wait_ms();
	t = (struct timespec){until / 1000, until % 1000 * 1000000};
	began = MONO;
	ERR(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
	took(__LINE__, began, wait_ms());
}

CASE(condition_and_semaphore_wait_their_time)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;
	sem_t s;
	int64_t began = MONO, until = now_ms(CLOCK_REALTIME) + wait_ms();
	struct timespec t = {until / 1000, until % 1000 * 1000000};
	pthread_mutex_lock(&m);
	EQ(pthread_cond_timedwait(&c, &m, &t), ETIMEDOUT);
	took(__LINE__, began, wait_ms());
	pthread_mutex_unlock(&m);
	OK(sem_init(&s, 0, 0));
	began = MONO;
	until = now_ms(CLOCK_REALTIME) + wait_ms();
	t = (struct timespec){until / 1000, until % 1000 * 1000000};
	ERR(sem_timedwait(&s, &t), ETIMEDOUT);
	took(__LINE__, began, wait_ms());
	OK(sem_destroy(&s));
}

static int listener(struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	memset(a, 0, sizeof *a);
	a->sin_family = AF_INET;
	a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	OK(bind(l, (struct sockaddr *)a, sizeof *a));
	OK(listen(l, 5));
	OK(getsockname(l, (struct sockaddr *)a, &n));
	return l;
}

static long connects(long port, MAYBE int fd)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = (in_port_t)port};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	long r = connect(s, (struct sockaddr *)&a, sizeof a);
	if (r == 0 && write(s, "hi", 2) != 2)
		r = -2;
	close(s);
	return r;
}
__attribute__((constructor)) static void calls(void) { friend_calls[0] = connects; }

/* ask_later has one of friend_calls made after a while, and does not wait for its answer. */
static void ask_later(int call, int after, long value)
{
	struct wish w = {WISH_CALL, after, call, value};
	EQ(send(friend_fd, &w, sizeof w, 0), sizeof w);
}

static int64_t answer(void)
{
	int64_t a = -1;
	EQ(read(friend_fd, &a, sizeof a), sizeof a);
	return a;
}

CASE(accept_waits_for_a_connection)
{
	struct sockaddr_in a, peer = {0};
	socklen_t n = sizeof peer;
	char b[3] = "";
	int l = listener(&a);
	ask_later(0, wait_ms(), a.sin_port);
	int c = (int)OK(accept4(l, (struct sockaddr *)&peer, &n, SOCK_CLOEXEC));
	EQ(n, sizeof peer);
	EQ(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK);
	OK(read_all(c, b, 2));
	SAME(b, "hi");
	EQ(read(c, b, 1), 0);
	EQ(answer(), 0);
	close(c);
	close(l);
}

CASE(accept_with_a_time)
{
	struct sockaddr_in a;
	struct timeval tv = {0, wait_ms() * 1000};
	int l = listener(&a);
	OK(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	int64_t began = MONO;
	ERR(accept(l, NULL, NULL), EAGAIN);
	took(__LINE__, began, wait_ms());
	close(l);
}

CASE(recv_with_a_time)
{
	int s[2];
	char c;
	struct timeval tv = {0, wait_ms() * 1000};
	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	int64_t began = MONO;
	ERR(recv(s[0], &c, 1, 0), EAGAIN);
	took(__LINE__, began, wait_ms());
	began = MONO;
	ERR(read(s[0], &c, 1), EAGAIN);
	took(__LINE__, began, wait_ms());
	tv.tv_sec = 20;
	OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	ask_friend(WISH_WRITE, wait_ms(), 1, 't', s[1]);
	EQ(recv(s[0], &c, 1, 0), 1);
	EQ(c, 't');
	close(s[0]);
	close(s[1]);
}

CASE(recv_of_everything)
{
	int s[2];
	static char b[150000];
	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	memset(b, 0, sizeof b);
	ask_friend(WISH_WRITE, wait_ms(), sizeof b, 'a', s[1]);
	EQ(recv(s[0], b, sizeof b, MSG_WAITALL), sizeof b);
	EQ(b[0] + b[75000] + b[149999], 3 * 'a');
	close(s[0]);
	close(s[1]);
}

CASE(send_to_a_full_socket)
{
	int s[2];
	static char b[4096];
	struct timeval tv = {0, wait_ms() * 1000};
	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	while (send(s[0], b, sizeof b, MSG_DONTWAIT) > 0)
		;
	ERR(send(s[0], b, 1, MSG_DONTWAIT), EAGAIN);
	OK(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
	int64_t began = MONO;
	ERR(send(s[0], b, 100, 0), EAGAIN);
	took(__LINE__, began, wait_ms());
	tv.tv_sec = 20;
	OK(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
	ask_friend(WISH_READ, wait_ms(), 200000, 0, s[1]);
	EQ(send(s[0], b, 100, 0), 100);
	close(s[0]);
	close(s[1]);
}

static int64_t nanos(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Short sleeps, as the runtime of Go makes all the time: none is too short, none ends with EINTR unless a handler has run. */
CASE(short_sleeps)
{
	for (int i = 0; i < 20; i++) {
		struct timespec t = {0, 5000000}, rem = {7, 7};
		int64_t began = nanos();
		OK(syscall(SYS_nanosleep, &t, &rem));
		IS(nanos() - began >= 5000000, "%lld ns", (long long)(nanos() - began));
	}
	caught(SIGALRM, 0);
	struct timespec t = {0, 18000000}, rem = {7, 7};
	struct itimerval in = {.it_value = {0, 4000}};
	OK(setitimer(ITIMER_REAL, &in, NULL));
	if (syscall(SYS_nanosleep, &t, &rem) == 0) /* the timer, at home, may take its time, or the sleep may have begun late */
		for (int64_t began = MONO; seen == 0 && MONO - began < 5000;)
			;
	else
		IS(rem.tv_sec == 0 && rem.tv_nsec <= 18000000 + 50000, /* the kernel counts its slack in, and a move begins a short sleep anew */
		   "%lld s %ld ns remain", (long long)rem.tv_sec, rem.tv_nsec);
	EQ(seen, SIGALRM);
	signal(SIGALRM, SIG_DFL);
}

/* A listener with a full queue: connect of a local socket waits for room, and its time limit is that of sending. */
CASE(connect_to_a_full_listener)
{
	int l = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), full[8], n = 0;
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	socklen_t len = sizeof at;
	struct timeval tv = {0, wait_ms() * 1000};
	OK(bind(l, (struct sockaddr *)&at, sizeof at.sun_family)); /* the kernel finds a name */
	OK(getsockname(l, (struct sockaddr *)&at, &len));
	OK(listen(l, 0));
	for (; n < 8; n++) {
		full[n] = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
		if (connect(full[n], (struct sockaddr *)&at, len) != 0)
			break;
	}
	IS(n < 8, "the queue of the listener is never full");
	OK(close(full[n]));
	int s = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	OK(setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
	int64_t began = MONO;
	ERR(connect(s, (struct sockaddr *)&at, len), EAGAIN);
	took(__LINE__, began, wait_ms());
	close(s);
	while (n > 0)
		close(full[--n]);
	close(l);
}

CASE(recvmsg_of_a_datagram)
{
	int s[2];
	char b[10] = "";
	struct iovec v[2] = {{b, 2}, {b + 4, 6}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	OK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, s));
	ask_friend(WISH_WRITE, wait_ms(), 5, 'd', s[1]);
	EQ(recvmsg(s[0], &m, 0), 5);
	EQ(b[1] + b[6], 2 * 'd');
	EQ(b[2], 0);
	close(s[0]);
	close(s[1]);
}

CASE(wait4_for_a_child)
{
	int fd[2], st;
	OK(pipe2(fd, O_CLOEXEC));
	pid_t p = forked();
	if (p == 0) {
		nap(wait_ms());
		_exit(12);
	}
	int64_t began = MONO;
	EQ(waitpid(p, &st, 0), p);
	IS(MONO - began >= wait_ms() - 40);
	EQ(st, 12 << 8);
	forget(p);
	close(fd[0]);
	close(fd[1]);
}

CASE(flock_waits_for_another)
{
	int fd = temp("x", 1);
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int other = (int)OK(open(path, O_RDWR | O_CLOEXEC)); /* another open file description */
	EQ(ask_friend(WISH_FLOCK, wait_ms(), 0, 0, other), 0);
	close(other); /* the friend's is the last */
	ERR(flock(fd, LOCK_EX | LOCK_NB), EAGAIN);
	int64_t began = MONO;
	OK(flock(fd, LOCK_EX));
	IS(MONO - began < 5000);
	OK(flock(fd, LOCK_UN));
	close(fd);
}

CASE(record_lock_waits_for_another)
{
	int fd = temp("0123456789abc", 13);
	struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
	EQ(ask_friend(WISH_LOCK, wait_ms(), 0, 0, fd), 0);
	ERR(fcntl(fd, F_SETLK, &l), EAGAIN);
	OK(fcntl(fd, F_SETLKW, &l));
	EQ(ask_friend(WISH_LOCK, wait_ms(), 0, 0, fd) != -1, 0); /* now it is the friend who does not get it */
	l.l_type = F_UNLCK;
	OK(fcntl(fd, F_SETLK, &l));
	EQ(ask_friend(WISH_LOCK, wait_ms(), 0, 0, fd), 0);
	l.l_type = F_WRLCK;
	OK(fcntl(fd, F_OFD_SETLKW, &l));
	close(fd);
}

union semun {
	int val;
};

CASE(semtimedop_waits_its_time)
{
	int id = (int)OK(semget(IPC_PRIVATE, 2, 0600));
	struct sembuf down = {1, -1, 0}, up = {1, 1, 0};
	struct timespec t = in_ms(wait_ms());
	int64_t began = MONO;
	ERR(semtimedop(id, &down, 1, &t), EAGAIN);
	took(__LINE__, began, wait_ms());
	OK(semop(id, &up, 1));
	OK(semop(id, &down, 1));
	down.sem_flg = IPC_NOWAIT;
	ERR(semop(id, &down, 1), EAGAIN);
	OK(semctl(id, 0, IPC_RMID));
	ERR(semop(id, &up, 1), EINVAL);
}

static long ups(long id, MAYBE int fd)
{
	struct sembuf up = {0, 1, 0};
	return semop((int)id, &up, 1);
}

static long sends(long id, MAYBE int fd)
{
	struct {
		long type;
		char text[8];
	} m = {5, "message"};
	return msgsnd((int)id, &m, 8, 0);
}

static long removes(long id, MAYBE int fd) { return semctl((int)id, 0, IPC_RMID); }
static long posts(long q, MAYBE int fd)
{
	char name[40];
	snprintf(name, sizeof name, "/conformance.%ld", q);
	mqd_t m = mq_open(name, O_WRONLY);
	long r = mq_send(m, "posted", 7, 3);
	mq_close(m);
	return r;
}
__attribute__((constructor)) static void more_calls(void)
{
	friend_calls[1] = ups;
	friend_calls[2] = sends;
	friend_calls[3] = removes;
	friend_calls[4] = posts;
}

CASE(semop_waits_for_another)
{
	int id = (int)OK(semget(IPC_PRIVATE, 1, 0600));
	struct sembuf down = {0, -1, 0};
	ask_later(1, wait_ms(), id);
	OK(semop(id, &down, 1));
	EQ(answer(), 0);
	ask_later(3, wait_ms(), id);
	ERR(semop(id, &down, 1), EIDRM);
	EQ(answer(), 0);
}

CASE(msgrcv_waits_for_a_message)
{
	struct {
		long type;
		char text[20];
	} m = {0, ""};
	int id = (int)OK(msgget(IPC_PRIVATE, 0600));
	ask_later(2, wait_ms(), id);
	EQ(msgrcv(id, &m, sizeof m.text, 5, 0), 8);
	EQ(m.type, 5);
	SAME(m.text, "message");
	ERR(msgrcv(id, &m, sizeof m.text, 0, IPC_NOWAIT), ENOMSG);
	EQ(answer(), 0);
	OK(msgctl(id, IPC_RMID, NULL));
}

CASE(mq_receive_waits_for_a_message)
{
	char name[40], b[64] = "";
	unsigned prio = 0;
	struct mq_attr at = {.mq_maxmsg = 2, .mq_msgsize = 64};
	snprintf(name, sizeof name, "/conformance.%d", me);
	mqd_t q = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &at);
	IS(q >= 0, "mq_open: errno %d", errno);
	ask_later(4, wait_ms(), me);
	EQ(mq_receive(q, b, sizeof b, &prio), 7);
	EQ(prio, 3);
	SAME(b, "posted");
	EQ(answer(), 0);
	int64_t began = MONO, until = now_ms(CLOCK_REALTIME) + wait_ms();
	struct timespec t = {until / 1000, until % 1000 * 1000000};
	ERR(mq_timedreceive(q, b, sizeof b, &prio, &t), ETIMEDOUT);
	took(__LINE__, began, wait_ms());
	mq_close(q);
	OK(mq_unlink(name));
}

CASE(read_of_an_eventfd)
{
	uint64_t v = 0;
	int fd = (int)OK(eventfd(0, EFD_CLOEXEC));
	ask_friend(WISH_WRITE, wait_ms(), 8, 1, fd);
	EQ(read(fd, &v, 8), 8);
	EQ(v, 0x0101010101010101);
	close(fd);
}

CASE(read_of_a_timerfd)
{
	uint64_t v = 0;
	int fd = (int)OK(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	struct itimerspec ts = {{0, 0}, in_ms(wait_ms())};
	int64_t began = MONO;
	OK(timerfd_settime(fd, 0, &ts, NULL));
	EQ(read(fd, &v, 8), 8);
	EQ(v, 1);
	took(__LINE__, began, wait_ms());
	close(fd);
}

CASE(read_of_inotify)
{
	struct {
		struct inotify_event e;
		char name[60];
	} b;
	int file = temp("x", 1);
	char path[64];
	int fd = (int)OK(inotify_init1(IN_CLOEXEC));
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	int wd = (int)OK(inotify_add_watch(fd, path, IN_MODIFY));
	ask_friend(WISH_WRITE, wait_ms(), 1, 'i', file);
	EQ(read(fd, &b, sizeof b), sizeof b.e);
	EQ(b.e.wd, wd);
	EQ(b.e.mask, IN_MODIFY);
	close(fd);
	close(file);
}

CASE(splice_waits_for_data)
{
	int out = temp("", 0);
	make_pipe();
	ask_friend(WISH_WRITE, wait_ms(), 3, 's', piped[1]);
	EQ(splice(piped[0], NULL, out, NULL, 100, 0), 3);
	EQ(lseek(out, 0, SEEK_END), 3);
	close(out);
	end_pipe();
}

static void *blocked_reader(void *c)
{
	return (void *)(intptr_t)read(piped[0], c, 1);
}

CASE(a_blocked_thread_blocks_no_other)
{
	pthread_t t;
	char c = 0, b;
	int fd = temp("yes", 3);
	void *r;
	make_pipe();
	EQ(pthread_create(&t, NULL, blocked_reader, &c), 0);
	for (int64_t began = MONO; MONO - began < wait_ms();) {
		EQ(pread(fd, &b, 1, 1), 1);
		EQ(b, 'e');
	}
	EQ(write(piped[1], "u", 1), 1);
	EQ(pthread_join(t, &r), 0);
	EQ((intptr_t)r, 1);
	EQ(c, 'u');
	end_pipe();
	close(fd);
}
