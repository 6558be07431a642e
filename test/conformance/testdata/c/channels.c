/* Group 6: descriptors, those that wait: pipe(7), poll(2), epoll(7), eventfd(2), timerfd_create(2), inotify(7), splice(2), fcntl(2). */
#include "case.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

static int piped[2];
static void make_pipe(int flags) { OK(pipe2(piped, O_CLOEXEC | flags)); }
static void end_pipe(void) { close(piped[0]), close(piped[1]); }

CASE(pipe_that_does_not_wait)
{
	static char b[4096];
	char c;
	int n = 0;
	make_pipe(O_NONBLOCK);
	ERR(read(piped[0], &c, 1), EAGAIN);
	EQ(fcntl(piped[1], F_GETPIPE_SZ), 65536);
	while (write(piped[1], b, sizeof b) == sizeof b)
		n++;
	EQ(n, 16);
	ERR(write(piped[1], b, 1), EAGAIN);
	EQ(ioctl(piped[0], FIONREAD, &n), 0);
	EQ(n, 65536);
	EQ(read(piped[0], b, 4096), 4096);
	EQ(write(piped[1], b, 4096), 4096);
	ERR(write(piped[0], b, 1), EBADF);
	ERR(read(piped[1], b, 1), EBADF);
	ERR(lseek(piped[0], 0, SEEK_CUR), ESPIPE);
	ERR(pread(piped[0], b, 1, 0), ESPIPE);
	OK(fcntl(piped[0], F_SETPIPE_SZ, 1 << 17));
	EQ(fcntl(piped[1], F_GETPIPE_SZ), 1 << 17);
	end_pipe();
}

CASE(pipe_keeps_packets)
{
	char b[16];
	make_pipe(O_DIRECT);
	EQ(write(piped[1], "one", 3), 3);
	EQ(write(piped[1], "three", 5), 5);
	EQ(read(piped[0], b, 16), 3);
	EQ(read(piped[0], b, 2), 2);
	EQ(fcntl(piped[0], F_SETFL, O_NONBLOCK), 0);
	ERR(read(piped[0], b, 16), EAGAIN); /* the rest of a packet is lost */
	end_pipe();
}

CASE(poll_tells_all_events)
{
	make_pipe(0);
	struct pollfd f[4] = {{piped[0], POLLIN, 0}, {piped[1], POLLOUT, 0}, {99, POLLIN, 0}, {-5, POLLIN, 99}};
	EQ(poll(f, 4, 0), 2);
	EQ(f[0].revents, 0);
	EQ(f[1].revents, POLLOUT);
	EQ(f[2].revents, POLLNVAL);
	EQ(f[3].revents, 0);
	EQ(write(piped[1], "x", 1), 1);
	close(piped[1]);
	EQ(poll(f, 1, 0), 1);
	EQ(f[0].revents, POLLIN | POLLHUP);
	close(piped[0]);
	make_pipe(0);
	close(piped[0]);
	f[0] = (struct pollfd){piped[1], 0, 0};
	EQ(poll(f, 1, 0), 1);
	EQ(f[0].revents, POLLERR);
	close(piped[1]);
	EQ(poll(NULL, 0, 1), 0);
}

CASE(select_of_many)
{
	fd_set r, w;
	struct timeval zero = {0, 0};
	make_pipe(0);
	int high = (int)OK(fcntl(piped[0], F_DUPFD_CLOEXEC, 300));
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(high, &r);
	FD_SET(piped[1], &w);
	EQ(select(high + 1, &r, &w, NULL, &zero), 1);
	EQ(FD_ISSET(high, &r), 0);
	EQ(FD_ISSET(piped[1], &w), 1);
	EQ(write(piped[1], "x", 1), 1);
	FD_SET(high, &r);
	EQ(select(high + 1, &r, &w, NULL, &zero), 2);
	close(high);
	FD_SET(high, &r);
	ERR(select(high + 1, &r, NULL, NULL, &zero), EBADF);
	zero.tv_sec = -1;
	ERR(select(0, NULL, NULL, NULL, &zero), EINVAL);
	end_pipe();
}

static int epfd;
static struct epoll_event got[8];
static void add(int fd, uint32_t events)
{
	struct epoll_event e = {events, {.u64 = ((uint64_t)fd << 32) | 5}};
	OK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e));
}

CASE(epoll_by_level)
{
	char c;
	make_pipe(0);
	epfd = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	add(piped[0], EPOLLIN);
	EQ(epoll_wait(epfd, got, 8, 0), 0);
	EQ(write(piped[1], "ab", 2), 2);
	for (int i = 0; i < 3; i++) {
		EQ(epoll_wait(epfd, got, 8, 0), 1);
		EQ(got[0].data.u64, ((uint64_t)piped[0] << 32) | 5);
		EQ(got[0].events, EPOLLIN);
	}
	EQ(read(piped[0], &c, 1), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 1);
	EQ(read(piped[0], &c, 1), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 0);
	close(piped[1]);
	EQ(epoll_wait(epfd, got, 8, 0), 1);
	EQ(got[0].events, EPOLLHUP);
	close(piped[0]);
	EQ(epoll_wait(epfd, got, 8, 0), 0); /* closed: gone */
	close(epfd);
}

CASE(epoll_by_edge)
{
	make_pipe(0);
	epfd = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	add(piped[0], EPOLLIN | EPOLLET);
	EQ(write(piped[1], "a", 1), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 0);
	nap(wait_ms() / 2);
	EQ(epoll_wait(epfd, got, 8, 0), 0);
	EQ(write(piped[1], "b", 1), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 0);
	close(epfd);
	end_pipe();
}

CASE(epoll_one_shot)
{
	struct epoll_event e = {EPOLLIN | EPOLLONESHOT, {.u32 = 9}};
	make_pipe(0);
	epfd = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	OK(epoll_ctl(epfd, EPOLL_CTL_ADD, piped[0], &e));
	EQ(write(piped[1], "a", 1), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 0);
	OK(epoll_ctl(epfd, EPOLL_CTL_MOD, piped[0], &e));
	EQ(epoll_wait(epfd, got, 8, 0), 1);
	close(epfd);
	end_pipe();
}

CASE(epoll_exclusive_and_errors)
{
	struct epoll_event e = {EPOLLIN | EPOLLEXCLUSIVE, {.u32 = 9}};
	int file = temp("x", 1);
	make_pipe(0);
	epfd = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	OK(epoll_ctl(epfd, EPOLL_CTL_ADD, piped[0], &e));
	ERR(epoll_ctl(epfd, EPOLL_CTL_MOD, piped[0], &e), EINVAL);
	ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, piped[0], &e), EEXIST);
	ERR(epoll_ctl(epfd, EPOLL_CTL_DEL, piped[1], &e), ENOENT);
	ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, file, &e), EPERM);
	ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, 99, &e), EBADF);
	ERR(epoll_ctl(epfd, EPOLL_CTL_ADD, epfd, &e), EINVAL);
	ERR(epoll_ctl(epfd, 77, piped[1], &e), EINVAL);
	ERR(epoll_wait(epfd, got, 0, 0), EINVAL);
	ERR(epoll_wait(piped[0], got, 1, 0), EINVAL);
	EQ(write(piped[1], "a", 1), 1);
	EQ(epoll_wait(epfd, got, 8, 0), 1);
	OK(epoll_ctl(epfd, EPOLL_CTL_DEL, piped[0], NULL));
	EQ(epoll_wait(epfd, got, 8, 0), 0);
	close(epfd), close(file);
	end_pipe();
}

CASE(epoll_of_many_is_fair)
{
	int p[6][2];
	unsigned all = 0;
	epfd = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	for (int i = 0; i < 6; i++) {
		struct epoll_event e = {EPOLLIN, {.u32 = (uint32_t)i}};
		OK(pipe2(p[i], O_CLOEXEC));
		OK(epoll_ctl(epfd, EPOLL_CTL_ADD, p[i][0], &e));
		EQ(write(p[i][1], "x", 1), 1);
	}
	for (int k = 0; k < 3; k++) {
		EQ(epoll_wait(epfd, got, 2, 0), 2);
		all |= 1u << got[0].data.u32 | 1u << got[1].data.u32;
	}
	EQ(all, 0x3f);
	int outer = (int)OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event e = {EPOLLIN, {.u32 = 77}};
	OK(epoll_ctl(outer, EPOLL_CTL_ADD, epfd, &e));
	EQ(epoll_wait(outer, got, 2, 0), 1);
	EQ(got[0].data.u32, 77);
	close(outer), close(epfd);
	for (int i = 0; i < 6; i++)
		close(p[i][0]), close(p[i][1]);
}

CASE(eventfd_counts)
{
	uint64_t v = 3;
	int fd = (int)OK(eventfd(5, EFD_CLOEXEC | EFD_NONBLOCK));
	EQ(write(fd, &v, 8), 8);
	EQ(read(fd, &v, 8), 8);
	EQ(v, 8);
	ERR(read(fd, &v, 8), EAGAIN);
	ERR(read(fd, &v, 4), EINVAL);
	v = UINT64_MAX;
	ERR(write(fd, &v, 8), EINVAL);
	v--;
	EQ(write(fd, &v, 8), 8);
	v = 1;
	ERR(write(fd, &v, 8), EAGAIN);
	struct pollfd f = {fd, POLLIN | POLLOUT, 0};
	EQ(poll(&f, 1, 0), 1);
	EQ(f.revents, POLLIN);
	close(fd);
}

CASE(eventfd_as_a_semaphore)
{
	uint64_t v = 0;
	int fd = (int)OK(eventfd(2, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE));
	EQ(read(fd, &v, 8), 8);
	EQ(v, 1);
	EQ(read(fd, &v, 8), 8);
	ERR(read(fd, &v, 8), EAGAIN);
	close(fd);
}

CASE(timerfd_repeats)
{
	uint64_t v = 0, sum = 0;
	int fd = (int)OK(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	struct itimerspec ts = {{0, 10000000}, {0, 10000000}}, was;
	ERR(read(fd, &v, 8), EAGAIN);
	int64_t began = MONO;
	OK(timerfd_settime(fd, 0, &ts, NULL));
	nap(wait_ms() + 25);
	while (read(fd, &v, 8) == 8)
		sum += v;
	int64_t t = MONO - began;
	IS((int64_t)sum >= (wait_ms() + 25) / 10 - 1 && (int64_t)sum <= t / 10 + 1, "%llu expirations in %lld ms", (unsigned long long)sum, (long long)t);
	OK(timerfd_gettime(fd, &was));
	EQ(was.it_interval.tv_nsec, 10000000);
	memset(&ts, 0, sizeof ts);
	OK(timerfd_settime(fd, 0, &ts, &was));
	EQ(was.it_interval.tv_nsec, 10000000);
	OK(timerfd_gettime(fd, &was));
	EQ(was.it_value.tv_sec + was.it_value.tv_nsec, 0);
	close(fd);
}

CASE(timerfd_at_an_absolute_time)
{
	for (int i = 0; i < 2; i++) {
		clockid_t c = i ? CLOCK_REALTIME : CLOCK_BOOTTIME;
		uint64_t v = 0;
		int fd = (int)OK(timerfd_create(c, TFD_CLOEXEC));
		int64_t began = MONO, until = now_ms(c) + wait_ms();
		struct itimerspec ts = {{0, 0}, {until / 1000, until % 1000 * 1000000}};
		OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &ts, NULL));
		EQ(read(fd, &v, 8), 8);
		took(__LINE__, began, wait_ms());
		IS(now_ms(c) >= until);
		close(fd);
	}
}

static struct {
	char b[4096];
	int n, at;
} notes;

/* next_note is the next event of an inotify descriptor that does not wait, or NULL. */
static struct inotify_event *next_note(int fd)
{
	if (notes.at >= notes.n) {
		notes.n = (int)read(fd, notes.b, sizeof notes.b);
		notes.at = 0;
		if (notes.n <= 0)
			return NULL;
	}
	struct inotify_event *e = (struct inotify_event *)(void *)(notes.b + notes.at);
	notes.at += (int)(sizeof *e + e->len);
	return e;
}

CASE(inotify_tells_what_happens)
{
	char dir[80], a[100], b[100];
	snprintf(dir, sizeof dir, "%s.d", scratch);
	snprintf(a, sizeof a, "%s/a", dir);
	snprintf(b, sizeof b, "%s/b", dir);
	OK(mkdir(dir, 0700));
	int fd = (int)OK(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
	int wd = (int)OK(inotify_add_watch(fd, dir, IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY));
	notes.n = notes.at = 0;
	IS(next_note(fd) == NULL && errno == EAGAIN);
	int f = (int)OK(open(a, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	EQ(write(f, "x", 1), 1);
	close(f);
	OK(rename(a, b));
	OK(unlink(b));
	static const struct {
		uint32_t mask;
		const char *name;
	} due[] = {{IN_CREATE, "a"}, {IN_MODIFY, "a"}, {IN_MOVED_FROM, "a"}, {IN_MOVED_TO, "b"}, {IN_DELETE, "b"}};
	uint32_t cookie = 0;
	for (int i = 0; i < 5; i++) {
		struct inotify_event *e = next_note(fd);
		IS(e != NULL, "event %d is missing, errno %d", i, errno);
		EQ(e->wd, wd);
		EQ(e->mask, due[i].mask);
		SAME(e->name, due[i].name);
		if (i == 2)
			cookie = e->cookie;
		if (i == 3)
			EQ(e->cookie, cookie);
	}
	IS(cookie != 0);
	OK(inotify_rm_watch(fd, wd));
	struct inotify_event *e = next_note(fd);
	IS(e != NULL && e->mask == IN_IGNORED);
	ERR(inotify_rm_watch(fd, wd), EINVAL);
	ERR(inotify_add_watch(fd, a, IN_MODIFY), ENOENT);
	close(fd);
	OK(rmdir(dir));
}

CASE(splice_tee_and_vmsplice)
{
	char b[20] = "";
	int p2[2], in = temp("0123456789", 10), out = temp("", 0);
	loff_t off = 2;
	make_pipe(0);
	OK(pipe2(p2, O_CLOEXEC));
	EQ(splice(in, &off, piped[1], NULL, 5, 0), 5);
	EQ(off, 7);
	EQ(lseek(in, 0, SEEK_CUR), 0);
	EQ(tee(piped[0], p2[1], 100, 0), 5);
	EQ(splice(piped[0], NULL, out, NULL, 100, 0), 5);
	EQ(read(p2[0], b, 20), 5);
	SAME(b, "23456");
	EQ(pread(out, b, 20, 0), 5);
	SAME(b, "23456");
	struct iovec v = {"spliced", 7};
	EQ(vmsplice(piped[1], &v, 1, 0), 7);
	EQ(read(piped[0], b, 20), 7);
	SAME(b, "spliced");
	ERR(splice(in, NULL, out, NULL, 5, 0), EINVAL);
	ERR(tee(in, piped[1], 5, 0), EINVAL);
	close(p2[0]), close(p2[1]), close(in), close(out);
	end_pipe();
}

CASE(sendfile_and_copy_file_range)
{
	char b[20] = "";
	int in = temp("0123456789", 10), out = temp("", 0);
	off_t off = 4;
	EQ(sendfile(out, in, &off, 3), 3);
	EQ(off, 7);
	EQ(sendfile(out, in, NULL, 100), 10);
	EQ(pread(out, b, 20, 0), 13);
	SAME(b, "4560123456789");
	loff_t from = 1, to = 0;
	EQ(copy_file_range(in, &from, out, &to, 2, 0), 2);
	EQ(from * 10 + to, 32);
	EQ(pread(out, b, 4, 0), 4);
	EQ(memcmp(b, "1260", 4), 0);
	ERR(sendfile(in, 99, NULL, 1), EBADF);
	close(in), close(out);
}

CASE(descriptors_with_signals)
{
	make_pipe(0);
	caught(SIGIO, 0);
	OK(fcntl(piped[0], F_SETOWN, me));
	EQ(fcntl(piped[0], F_GETOWN), me);
	OK(fcntl(piped[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	EQ(write(piped[1], "x", 1), 1);
	for (int i = 0; i < 2000 && seen == 0; i++)
		nap(1);
	EQ(seen, SIGIO);
	caught(SIGRTMIN + 2, 0);
	OK(fcntl(piped[0], F_SETSIG, SIGRTMIN + 2));
	EQ(fcntl(piped[0], F_GETSIG), SIGRTMIN + 2);
	EQ(write(piped[1], "x", 1), 1);
	for (int i = 0; i < 2000 && seen == 0; i++)
		nap(1);
	EQ(seen, SIGRTMIN + 2);
	EQ(seen_info.si_fd, piped[0]);
	EQ(seen_info.si_code, POLL_IN);
	end_pipe();
	signal(SIGIO, SIG_DFL);
	signal(SIGRTMIN + 2, SIG_DFL);
}

CASE(fifo_has_a_name)
{
	char b[8] = "";
	OK(mkfifo(scratch, 0600));
	ERR(open(scratch, O_WRONLY | O_NONBLOCK), ENXIO);
	int r = (int)OK(open(scratch, O_RDONLY | O_NONBLOCK | O_CLOEXEC)), w = (int)OK(open(scratch, O_WRONLY | O_CLOEXEC));
	ERR(read(r, b, 8), EAGAIN);
	EQ(write(w, "fifo", 4), 4);
	EQ(read(r, b, 8), 4);
	SAME(b, "fifo");
	close(w);
	EQ(read(r, b, 8), 0);
	close(r);
	ERR(mkfifo(scratch, 0600), EEXIST);
	OK(unlink(scratch));
}

CASE(memfd_is_a_file)
{
	char b[64] = "";
	int fd = (int)OK(memfd_create("named", MFD_CLOEXEC));
	char path[64];
	EQ(write(fd, "text", 4), 4);
	EQ(pread(fd, b, 64, 0), 4);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, b, 63);
	b[n > 0 ? n : 0] = 0;
	SAME(b, "/memfd:named (deleted)");
	ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	close(fd);
}

CASE(memfd_by_a_socket_is_what_is_mapped)
{
	int s[2], fd = (int)OK(memfd_create("m", MFD_CLOEXEC)), got = -1;
	char c = 0, b[4] = "";
	union {
		char b[CMSG_SPACE(sizeof fd)];
		struct cmsghdr align;
	} u = {{0}};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
	OK(ftruncate(fd, 4096));
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	IS(p != MAP_FAILED);
	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	EQ(sendmsg(s[0], &m, 0), 1);
	close(fd);
	nap(wait_ms());
	strcpy(p, "own");
	memset(u.b, 0, sizeof u.b);
	m.msg_controllen = sizeof u.b;
	EQ(recvmsg(s[1], &m, MSG_CMSG_CLOEXEC), 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof got);
	EQ(pread(got, b, 4, 0), 4);
	SAME(b, "own");
	EQ(pwrite(got, "new", 4, 0), 4);
	SAME(p, "new");
	munmap(p, 4096);
	close(got), close(s[0]), close(s[1]);
}
