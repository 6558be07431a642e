/*
 * objects: what descriptors can be and what can be asked of them: pipes, sockets of several families, terminals, timers,
 * events, inotify, epoll in each of its modes, memfds, locks, splice and its kin, extended attributes, handles, large
 * transfers. In each round, wherever it is done, the same must come of it.
 */
#include "work.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <termios.h>

static void says(const char *name, long r) { report(name, r < 0 ? (uint64_t)(1000 + errno) : (uint64_t)r); }

static char path[64];

static void pipes(void)
{
	int p[2], q[2], n = 0;
	char b[64];
	CHECK(pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0 && pipe(q) == 0);
	CHECK(fcntl(p[0], F_GETFD) == FD_CLOEXEC && fcntl(q[0], F_GETFD) == 0 && (fcntl(p[0], F_GETFL) & O_NONBLOCK));
	CHECK(read(p[0], b, 1) == -1 && errno == EAGAIN);
	CHECK(write(p[1], "hello world", 11) == 11 && ioctl(p[0], FIONREAD, &n) == 0 && n == 11);
	CHECK(tee(p[0], q[1], 5, 0) == 5 && read(q[0], b, sizeof b) == 5 && memcmp(b, "hello", 5) == 0);
	CHECK(splice(p[0], NULL, q[1], NULL, 11, 0) == 11 && read(q[0], b, sizeof b) == 11 && memcmp(b, "hello world", 11) == 0);
	CHECK(fcntl(q[1], F_SETPIPE_SZ, 8192) == 8192 && fcntl(q[0], F_GETPIPE_SZ) == 8192);
	int on = 1, d = fcntl(q[0], F_DUPFD_CLOEXEC, 200);
	CHECK(d >= 200 && fcntl(d, F_GETFD) == FD_CLOEXEC && ioctl(d, FIOCLEX) == 0 && ioctl(d, FIONCLEX) == 0 && fcntl(d, F_GETFD) == 0);
	CHECK(ioctl(q[0], FIONBIO, &on) == 0 && read(q[0], b, 1) == -1 && errno == EAGAIN);
	CHECK(dup3(q[0], d, O_CLOEXEC) == d && fcntl(d, F_GETFD) == FD_CLOEXEC);
	CHECK(syscall(SYS_close_range, d, d, 0) == 0 && fcntl(d, F_GETFD) == -1 && errno == EBADF);
	struct f_owner_ex ex = {F_OWNER_PID, getpid()}, got;
	CHECK(fcntl(p[0], F_SETOWN_EX, &ex) == 0 && fcntl(p[0], F_GETOWN_EX, &got) == 0 && got.pid == getpid());
	CHECK(fcntl(p[0], F_SETSIG, 35) == 0 && fcntl(p[0], F_GETSIG) == 35 && fcntl(p[0], F_GETOWN) == getpid());
	close(p[0]);
	CHECK(fcntl(99, F_GETFD) == -1 && errno == EBADF);
	close(p[1]);
	close(q[0]);
	close(q[1]);
}

static void files(void)
{
	char b[16], *big = malloc(5 << 20), *back = malloc(5 << 20);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0640), fd2;
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10}, g;
	struct statx sx;
	CHECK(fd >= 0);
	for (size_t i = 0; i < 5 << 20; i += 8)
		*(uint64_t *)(big + i) = mix(i, 7);
	CHECK(write(fd, big, 5 << 20) == 5 << 20 && lseek(fd, 0, SEEK_END) == 5 << 20);
	CHECK(pread(fd, back, 5 << 20, 0) == 5 << 20 && memcmp(big, back, 5 << 20) == 0);
	struct iovec v[3] = {{back, 100}, {back + 200, 2 << 20}, {back + (3 << 20), 5}};
	CHECK(preadv(fd, v, 3, 3) == 105 + (2 << 20) && memcmp(back, big + 3, 100) == 0 && memcmp(back + (3 << 20), big + 103 + (2 << 20), 5) == 0);
	CHECK(preadv2(fd, v, 3, 3, RWF_HIPRI) == 105 + (2 << 20) && pwritev2(fd, v, 1, 3, RWF_DSYNC) == 100);
	CHECK(fcntl(fd, F_SETLK, &l) == 0);
	g = l;
	CHECK(fcntl(fd, F_GETLK, &g) == 0 && g.l_type == F_UNLCK);
	fd2 = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(flock(fd, LOCK_EX) == 0 && flock(fd2, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK && flock(fd, LOCK_UN) == 0);
	l.l_type = F_WRLCK, l.l_pid = 0;
	CHECK(fcntl(fd, F_OFD_SETLK, &l) == -1 || fcntl(fd2, F_OFD_SETLK, &(struct flock){.l_type = F_RDLCK, .l_len = 10}) == -1);
	CHECK(fcntl(fd, F_GETLEASE) == F_UNLCK);
	says("a lease", fcntl(fd2, F_SETLEASE, F_RDLCK));
	CHECK(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &sx) == 0 && sx.stx_size == 5 << 20 && (sx.stx_mode & 07777) == 0640);
	CHECK(syscall(SYS_faccessat2, AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0);
	struct {
		uint64_t flags, mode, resolve;
	} how = {O_RDONLY, 0, 8 /* RESOLVE_BENEATH */};
	int o = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
	says("openat2", o < 0 ? o : 1);
	if (o >= 0)
		close(o);
	how.flags = ~0ull;
	CHECK(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how) == -1 && errno == EINVAL);
	long x = setxattr(path, "user.mosix", "value", 5, 0);
	says("an attribute", x);
	if (x == 0)
		CHECK(getxattr(path, "user.mosix", b, sizeof b) == 5 && memcmp(b, "value", 5) == 0 && fgetxattr(fd, "user.mosix", b, 2) == -1 && errno == ERANGE &&
		      removexattr(path, "user.mosix") == 0);
	int other = memfd_create("objects", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	off_t in = 0, out = 0;
	CHECK(other >= 0 && sendfile(other, fd, &in, 100000) == 100000 && in == 100000);
	in = 5;
	says("copied", copy_file_range(fd, &in, other, &out, 1000, 0));
	CHECK(ftruncate(other, 4096) == 0 && fcntl(other, F_ADD_SEALS, F_SEAL_SHRINK) == 0 && fcntl(other, F_GET_SEALS) == F_SEAL_SHRINK);
	CHECK(ftruncate(other, 10) == -1 && errno == EPERM);
	CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
	CHECK(fsync(fd) == 0 && ftruncate(fd, 7) == 0 && pread(fd, b, 16, 0) == 7);
	close(other);
	close(fd);
	close(fd2);
	free(big);
	free(back);
}

static void sockets(void)
{
	int s[2], tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0), v, c;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	struct ucred cred;
	struct linger li = {1, 3}, lg;
	char text[32] = "";
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0);
	n = sizeof cred;
	CHECK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 && cred.pid == getpid() && cred.uid == work_uid);
	int on = 1;
	CHECK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);

	/* A descriptor and credentials go over. */
	int p[2];
	CHECK(pipe(p) == 0);
	union {
		char b[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} ctl = {0};
	struct iovec iov = {"fd", 2};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.b, .msg_controllen = CMSG_SPACE(sizeof(int))};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &p[1], sizeof(int));
	CHECK(sendmsg(s[0], &m, 0) == 2);
	iov.iov_base = text, iov.iov_len = sizeof text;
	m.msg_controllen = sizeof ctl.b;
	CHECK(recvmsg(s[1], &m, MSG_CMSG_CLOEXEC) == 2);
	int passed = -1, seen = 0;
	for (h = CMSG_FIRSTHDR(&m); h != NULL; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_type == SCM_RIGHTS)
			memcpy(&passed, CMSG_DATA(h), sizeof(int));
		if (h->cmsg_type == SCM_CREDENTIALS && ((struct ucred *)(void *)CMSG_DATA(h))->pid == getpid())
			seen = 1;
	}
	CHECK(seen && passed >= 0 && write(passed, "!", 1) == 1 && read(p[0], text, 1) == 1 && text[0] == '!' && (fcntl(passed, F_GETFD) & FD_CLOEXEC));
	close(passed);
	close(p[0]);
	close(p[1]);

	n = sizeof a;
	CHECK(bind(tcp, (struct sockaddr *)&a, n) == 0 && listen(tcp, 5) == 0 && getsockname(tcp, (struct sockaddr *)&a, &n) == 0 && a.sin_port != 0);
	int cl = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(connect(cl, (struct sockaddr *)&a, sizeof a) == 0 || errno == EINPROGRESS);
	int sv = accept4(tcp, NULL, NULL, SOCK_CLOEXEC);
	CHECK(sv >= 0);
	CHECK(setsockopt(cl, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 && (n = sizeof v, getsockopt(cl, IPPROTO_TCP, TCP_NODELAY, &v, &n) == 0) && v == 1);
	CHECK(setsockopt(cl, SOL_SOCKET, SO_LINGER, &li, sizeof li) == 0 && (n = sizeof lg, getsockopt(cl, SOL_SOCKET, SO_LINGER, &lg, &n) == 0) && lg.l_linger == 3);
	CHECK(setsockopt(cl, IPPROTO_IP, 1 /* IP_TOS */, &(int){16}, sizeof(int)) == 0);
	CHECK((n = sizeof v, getsockopt(cl, SOL_SOCKET, SO_ERROR, &v, &n) == 0) && v == 0);
	struct tcp_info ti;
	CHECK((n = sizeof ti, getsockopt(cl, IPPROTO_TCP, TCP_INFO, &ti, &n) == 0) && ti.tcpi_state == 1);
	struct pollfd pf = {cl, POLLIN | POLLOUT, 0};
	CHECK(poll(&pf, 1, 1000) == 1 && (pf.revents & POLLOUT));
	CHECK(send(sv, "abcdef", 6, 0) == 6);
	do
		pf.events = POLLIN;
	while (poll(&pf, 1, 1000) == -1 && errno == EINTR);
	CHECK(recv(cl, text, 3, MSG_PEEK) == 3 && recv(cl, text, sizeof text, 0) == 6 && memcmp(text, "abcdef", 6) == 0);
	CHECK(ioctl(cl, 0x5411 /* SIOCOUTQ */, &v) == 0 && v == 0);
	CHECK(shutdown(sv, SHUT_WR) == 0);
	pf.revents = 0;
	CHECK(poll(&pf, 1, 1000) == 1 && recv(cl, text, 1, 0) == 0);
	struct ifreq ifs[16];
	struct ifconf ic = {.ifc_len = sizeof ifs, .ifc_req = ifs};
	CHECK(ioctl(udp, SIOCGIFCONF, &ic) == 0 && ic.ifc_len > 0);
	report("interfaces", (uint64_t)ic.ifc_len / sizeof ifs[0]);
	CHECK(strcmp(ifs[0].ifr_name, "lo") == 0 && ioctl(udp, SIOCGIFFLAGS, &ifs[0]) == 0 && (ifs[0].ifr_flags & IFF_LOOPBACK));
	ic.ifc_req = NULL;
	CHECK(ioctl(udp, SIOCGIFCONF, &ic) == 0 && ic.ifc_len > 0);
	for (c = 0; c < 2; c++)
		close(s[c]);
	close(tcp);
	close(udp);
	close(cl);
	close(sv);
}

static void terminals(void)
{
	int m, sl, n = 0, v;
	struct winsize w = {30, 100, 0, 0}, got;
	struct termios t;
	CHECK(openpty(&m, &sl, NULL, NULL, &w) == 0);
	CHECK(ioctl(sl, TIOCGWINSZ, &got) == 0 && got.ws_row == 30 && got.ws_col == 100);
	w.ws_row = 40;
	CHECK(ioctl(m, TIOCSWINSZ, &w) == 0 && ioctl(sl, TIOCGWINSZ, &got) == 0 && got.ws_row == 40);
	CHECK(tcgetattr(sl, &t) == 0 && (t.c_lflag & ECHO));
	cfmakeraw(&t);
	CHECK(tcsetattr(sl, TCSANOW, &t) == 0 && tcgetattr(sl, &t) == 0 && !(t.c_lflag & ECHO));
	struct pollfd in = {sl, POLLIN, 0};
	CHECK(write(m, "typed", 5) == 5 && poll(&in, 1, 2000) == 1 && ioctl(sl, FIONREAD, &n) == 0 && n == 5);
	CHECK(isatty(sl) && ioctl(m, TIOCGPTN, &v) == 0 && tcflush(sl, TCIFLUSH) == 0 && ioctl(sl, FIONREAD, &n) == 0 && n == 0);
	CHECK(ioctl(m, TIOCGPTLCK, &v) == 0 && v == 0 && tcdrain(sl) == 0);
	CHECK(tcgetpgrp(sl) == -1 && errno == ENOTTY);
	close(m);
	close(sl);
}

static void events(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), e = eventfd(3, EFD_NONBLOCK), sem = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK), t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	uint64_t v;
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 77}, got[4];
	CHECK(read(sem, &v, 8) == 8 && v == 1 && read(sem, &v, 8) == 8 && v == 1 && read(sem, &v, 8) == -1 && errno == EAGAIN);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev) == 0 && epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev) == -1 && errno == EEXIST);
	CHECK(epoll_wait(ep, got, 4, 0) == 1 && got[0].data.u64 == 77 && epoll_wait(ep, got, 4, 0) == 1); /* level */
	ev.events = EPOLLIN | EPOLLET;
	CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev) == 0 && epoll_wait(ep, got, 4, 0) == 1 && epoll_wait(ep, got, 4, 0) == 0);
	v = 1;
	CHECK(write(e, &v, 8) == 8 && epoll_wait(ep, got, 4, 0) == 1 && epoll_wait(ep, got, 4, 0) == 0); /* edge */
	ev.events = EPOLLIN | EPOLLONESHOT;
	CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev) == 0 && epoll_wait(ep, got, 4, 0) == 1 && epoll_wait(ep, got, 4, 0) == 0);
	CHECK(write(e, &v, 8) == 8 && epoll_wait(ep, got, 4, 0) == 0); /* one shot */
	CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, e, NULL) == 0);
	ev.events = EPOLLIN | EPOLLEXCLUSIVE;
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev) == 0 && epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev) == -1 && errno == EINVAL);
	CHECK(epoll_wait(ep, got, 4, 0) == 1);
	CHECK(read(e, &v, 8) == 8 && v == 5);
	sigset_t none;
	sigemptyset(&none);
	struct timespec zero = {0, 0};
	CHECK(epoll_pwait(ep, got, 4, 0, &none) == 0);
	struct pollfd pf = {e, POLLIN, 0};
	CHECK(ppoll(&pf, 1, &zero, &none) == 0);
	fd_set r;
	FD_ZERO(&r);
	FD_SET(e, &r);
	CHECK(pselect(e + 1, &r, NULL, NULL, &zero, &none) == 0 && !FD_ISSET(e, &r));
	struct itimerspec its = {{0, 0}, {0, 2000000}}, old;
	CHECK(timerfd_settime(t, 0, &its, NULL) == 0);
	pf = (struct pollfd){t, POLLIN, 0};
	CHECK(poll(&pf, 1, 2000) == 1 && read(t, &v, 8) == 8 && v == 1 && timerfd_gettime(t, &old) == 0 && old.it_value.tv_nsec == 0);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	its.it_value = (struct timespec){now.tv_sec + 100, 0};
	int rt = timerfd_create(CLOCK_REALTIME, 0);
	CHECK(timerfd_settime(rt, TFD_TIMER_ABSTIME, &its, NULL) == 0 && timerfd_gettime(rt, &old) == 0 && old.it_value.tv_sec >= 97 && old.it_value.tv_sec <= 100);
	close(rt);
	int w = inotify_add_watch(in, path, IN_MODIFY | IN_ATTRIB);
	CHECK(w > 0 && truncate(path, 3) == 0);
	char b[512];
	ssize_t n = read(in, b, sizeof b);
	CHECK(n >= (ssize_t)sizeof(struct inotify_event) && ((struct inotify_event *)(void *)b)->wd == w && ((struct inotify_event *)(void *)b)->mask == IN_MODIFY);
	CHECK(inotify_rm_watch(in, w) == 0);
	int fan = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, 0);
	says("fanotify", fan < 0 ? fan : 1);
	if (fan >= 0) {
		says("fanotify_mark", fanotify_mark(fan, FAN_MARK_ADD, FAN_MODIFY, AT_FDCWD, path));
		close(fan);
	}
	says("mount", mount("none", "/nowhere", "tmpfs", 0, NULL) == -1 ? 0 : 1);
	close(ep);
	close(e);
	close(sem);
	close(t);
	close(in);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	snprintf(path, sizeof path, "objects.%d", getpid());
	while (work_more()) {
		files();
		pipes();
		sockets();
		terminals();
		events();
	}
	unlink(path);
	return work_end();
}
