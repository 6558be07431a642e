/* Group 6: descriptors, those of sockets. socket(7), unix(7), tcp(7), udp(7), cmsg(3), getsockopt(2). */
#include "case.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static void pair(int type, int *s)
{
	OK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, s));
}

static void end(int *s) { close(s[0]), close(s[1]); }

static struct sockaddr_in loopback(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

/* tcp makes a connection: s[0] has connected, s[1] was accepted, and a is where it listened. */
static void tcp(int *s, struct sockaddr_in *a)
{
	socklen_t n = sizeof *a;
	int l = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	*a = loopback();
	OK(bind(l, (struct sockaddr *)a, sizeof *a));
	OK(listen(l, 5));
	OK(getsockname(l, (struct sockaddr *)a, &n));
	s[0] = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	OK(connect(s[0], (struct sockaddr *)a, sizeof *a));
	s[1] = (int)OK(accept4(l, NULL, NULL, SOCK_CLOEXEC));
	close(l);
}

CASE(stream_of_a_pair)
{
	int s[2];
	char b[16] = "";
	pair(SOCK_STREAM, s);
	EQ(send(s[0], "abc", 3, 0), 3);
	EQ(write(s[0], "de", 2), 2);
	EQ(recv(s[1], b, 4, MSG_PEEK), 4);
	EQ(recv(s[1], b, 16, 0), 5);
	SAME(b, "abcde");
	ERR(recv(s[1], b, 16, MSG_DONTWAIT), EAGAIN);
	OK(shutdown(s[0], SHUT_WR));
	EQ(recv(s[1], b, 16, 0), 0);
	EQ(send(s[1], "back", 4, 0), 4);
	EQ(recv(s[0], b, 16, 0), 4);
	ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	end(s);
}

CASE(datagrams_keep_their_borders)
{
	int s[2];
	char b[8] = "";
	pair(SOCK_DGRAM, s);
	EQ(send(s[0], "one", 3, 0), 3);
	EQ(send(s[0], "", 0, 0), 0);
	EQ(send(s[0], "toolongforit", 12, 0), 12);
	EQ(recv(s[1], b, 8, 0), 3);
	EQ(recv(s[1], b, 8, 0), 0);
	EQ(recv(s[1], b, 4, MSG_TRUNC), 12);
	ERR(recv(s[1], b, 8, MSG_DONTWAIT), EAGAIN);
	end(s);
	pair(SOCK_SEQPACKET, s);
	EQ(send(s[0], "packet", 6, 0), 6);
	struct iovec v = {b, 3};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	EQ(recvmsg(s[1], &m, 0), 3);
	EQ(m.msg_flags & MSG_TRUNC, MSG_TRUNC);
	close(s[0]);
	EQ(recv(s[1], b, 8, 0), 0);
	close(s[1]);
}

CASE(unix_names)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX}, b;
	socklen_t n = sizeof b;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", scratch);
	int l = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), c = (int)OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ERR(connect(c, (struct sockaddr *)&a, sizeof a), ENOENT);
	OK(bind(l, (struct sockaddr *)&a, sizeof a));
	ERR(connect(c, (struct sockaddr *)&a, sizeof a), ECONNREFUSED);
	ERR(bind(c, (struct sockaddr *)&a, sizeof a), EADDRINUSE);
	OK(listen(l, 1));
	OK(connect(c, (struct sockaddr *)&a, sizeof a));
	int s = (int)OK(accept4(l, (struct sockaddr *)&b, &n, SOCK_CLOEXEC));
	EQ(n, sizeof(sa_family_t));
	n = sizeof b;
	OK(getpeername(c, (struct sockaddr *)&b, &n));
	SAME(b.sun_path, scratch);
	ERR(connect(c, (struct sockaddr *)&a, sizeof a), EISCONN);
	struct ucred u;
	n = sizeof u;
	OK(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &u, &n));
	EQ(u.pid, me);
	EQ(u.uid, geteuid());
	EQ(u.gid, getegid());
	close(s), close(c), close(l);
	OK(unlink(scratch));
}

CASE(abstract_names)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int k = snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "conformance.%d", me);
	socklen_t n = (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)k);
	int l = (int)OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)), c = (int)OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	OK(bind(l, (struct sockaddr *)&a, n));
	EQ(sendto(c, "dg", 2, 0, (struct sockaddr *)&a, n), 2);
	char b[4];
	struct sockaddr_un from;
	n = sizeof from;
	EQ(recvfrom(l, b, 4, 0, (struct sockaddr *)&from, &n), 2);
	EQ(n, 0); /* from one without a name */
	close(l), close(c);
	c = (int)OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	ERR(sendto(c, "dg", 2, 0, (struct sockaddr *)&a, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)k)), ECONNREFUSED);
	close(c);
}

CASE(descriptors_are_passed)
{
	int s[2], got[2] = {-1, -1}, f[2];
	char c = 'c', b[8] = "";
	union {
		char b[CMSG_SPACE(sizeof f)];
		struct cmsghdr align;
	} u = {{0}};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
	pair(SOCK_STREAM, s);
	f[0] = temp("passed", 6);
	f[1] = (int)OK(open("/dev/null", O_RDONLY | O_CLOEXEC));
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof f);
	memcpy(CMSG_DATA(h), f, sizeof f);
	EQ(sendmsg(s[0], &m, 0), 1);
	close(f[0]), close(f[1]);
	memset(u.b, 0, sizeof u.b);
	m.msg_controllen = sizeof u.b;
	EQ(recvmsg(s[1], &m, MSG_CMSG_CLOEXEC), 1);
	h = CMSG_FIRSTHDR(&m);
	IS(h != NULL && h->cmsg_type == SCM_RIGHTS && h->cmsg_len == CMSG_LEN(sizeof f));
	memcpy(got, CMSG_DATA(h), sizeof got);
	EQ(read(got[0], b, 8), 6);
	SAME(b, "passed");
	EQ(fcntl(got[1], F_GETFD), FD_CLOEXEC);
	close(got[0]), close(got[1]);
	end(s);
}

CASE(credentials_are_passed)
{
	int s[2], on = 1;
	char c = 'c';
	union {
		char b[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} u = {{0}};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
	struct ucred cred;
	pair(SOCK_DGRAM, s);
	OK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	EQ(send(s[0], "x", 1, 0), 1);
	EQ(recvmsg(s[1], &m, 0), 1);
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	IS(h != NULL && h->cmsg_type == SCM_CREDENTIALS);
	memcpy(&cred, CMSG_DATA(h), sizeof cred);
	EQ(cred.pid, me);
	EQ(cred.uid, getuid());
	cred.pid = 1;
	memcpy(CMSG_DATA(h), &cred, sizeof cred);
	m.msg_controllen = CMSG_SPACE(sizeof cred);
	ERR(sendmsg(s[0], &m, 0), EPERM); /* no other's */
	end(s);
}

CASE(tcp_talks)
{
	int s[2];
	struct sockaddr_in a, b;
	socklen_t n = sizeof b;
	char t[16] = "";
	tcp(s, &a);
	OK(getpeername(s[0], (struct sockaddr *)&b, &n));
	EQ(b.sin_port, a.sin_port);
	OK(getsockname(s[1], (struct sockaddr *)&b, &n));
	EQ(b.sin_port, a.sin_port);
	EQ(send(s[0], "hello", 5, 0), 5);
	EQ(recv(s[1], t, 5, MSG_WAITALL), 5);
	SAME(t, "hello");
	OK(shutdown(s[1], SHUT_WR));
	EQ(recv(s[0], t, 16, 0), 0);
	EQ(send(s[0], "half", 4, 0), 4);
	EQ(recv(s[1], t, 4, MSG_WAITALL), 4);
	SAME(t, "halfo");
	ERR(shutdown(s[0], 9), EINVAL);
	end(s);
}

CASE(tcp_refuses)
{
	struct sockaddr_in a = loopback();
	socklen_t n = sizeof a;
	int s = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), l = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	OK(bind(l, (struct sockaddr *)&a, sizeof a));
	OK(getsockname(l, (struct sockaddr *)&a, &n));
	ERR(connect(s, (struct sockaddr *)&a, sizeof a), ECONNREFUSED);
	ERR(bind(s, (struct sockaddr *)&a, sizeof a), EADDRINUSE);
	ERR(accept(s, NULL, NULL), EINVAL);
	ERR(getpeername(s, (struct sockaddr *)&a, &n), ENOTCONN);
	ERR(send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
	a.sin_family = 200;
	ERR(bind(s, (struct sockaddr *)&a, sizeof a), EAFNOSUPPORT);
	ERR(bind(s, (struct sockaddr *)&a, 3), EINVAL);
	ERR(socket(200, SOCK_STREAM, 0), EAFNOSUPPORT);
	ERR(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
	ERR(listen(0, 1), ENOTSOCK);
	close(s), close(l);
}

CASE(tcp_connects_without_waiting)
{
	struct sockaddr_in a = loopback();
	socklen_t n = sizeof a;
	int l = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), s = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)), e = -1;
	OK(bind(l, (struct sockaddr *)&a, sizeof a));
	OK(listen(l, 1));
	OK(getsockname(l, (struct sockaddr *)&a, &n));
	if (connect(s, (struct sockaddr *)&a, sizeof a) != 0)
		IS(errno == EINPROGRESS, "errno %d", errno);
	struct pollfd f = {s, POLLOUT, 0};
	EQ(poll(&f, 1, 5000), 1);
	EQ(f.revents, POLLOUT);
	n = sizeof e;
	OK(getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n));
	EQ(e, 0);
	close(l);
	close(s);
	s = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	if (connect(s, (struct sockaddr *)&a, sizeof a) != 0 && errno == EINPROGRESS) {
		f = (struct pollfd){s, POLLOUT, 0};
		EQ(poll(&f, 1, 5000), 1);
		OK(getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n));
		EQ(e, ECONNREFUSED);
	}
	close(s);
}

CASE(tcp_urgent_data)
{
	int s[2], at = 0;
	char c = 0;
	struct sockaddr_in a;
	tcp(s, &a);
	caught(SIGURG, 0);
	OK(fcntl(s[1], F_SETOWN, me));
	EQ(send(s[0], "ab", 2, 0), 2);
	EQ(send(s[0], "!", 1, MSG_OOB), 1);
	struct pollfd f = {s[1], POLLPRI, 0};
	EQ(TEMP_FAILURE_RETRY(poll(&f, 1, 5000)), 1);
	EQ(f.revents, POLLPRI);
	EQ(recv(s[1], &c, 1, MSG_OOB), 1);
	EQ(c, '!');
	for (int i = 0; i < 2000 && seen == 0; i++)
		nap(1);
	EQ(seen, SIGURG);
	char b[8];
	EQ(recv(s[1], b, 8, 0), 2);
	OK(ioctl(s[1], SIOCATMARK, &at));
	EQ(at, 1);
	end(s);
	signal(SIGURG, SIG_DFL);
}

CASE(tcp_resets)
{
	int s[2];
	char c;
	struct linger l = {1, 0};
	struct sockaddr_in a;
	tcp(s, &a);
	OK(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &l, sizeof l));
	close(s[0]);
	ERR(recv(s[1], &c, 1, 0), ECONNRESET);
	EQ(recv(s[1], &c, 1, 0), 0);
	ERR(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	close(s[1]);
}

CASE(udp_sends_and_receives)
{
	struct sockaddr_in a = loopback(), from;
	socklen_t n = sizeof a;
	char b[16] = "";
	int r = (int)OK(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), s = (int)OK(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	OK(bind(r, (struct sockaddr *)&a, sizeof a));
	OK(getsockname(r, (struct sockaddr *)&a, &n));
	EQ(sendto(s, "udp", 3, 0, (struct sockaddr *)&a, sizeof a), 3);
	n = sizeof from;
	EQ(recvfrom(r, b, 16, 0, (struct sockaddr *)&from, &n), 3);
	EQ(n, sizeof from);
	EQ(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
	EQ(sendto(r, "back", 4, 0, (struct sockaddr *)&from, n), 4);
	EQ(recv(s, b, 16, 0), 4);
	SAME(b, "back");
	OK(connect(s, (struct sockaddr *)&a, sizeof a));
	close(r);
	EQ(send(s, "x", 1, 0), 1);
	ERR(recv(s, b, 16, 0), ECONNREFUSED); /* what ICMP has told */
	static char big[70000];
	ERR(sendto(s, big, sizeof big, 0, (struct sockaddr *)&a, sizeof a), EMSGSIZE);
	close(s);
}

CASE(many_messages_at_once)
{
	int s[2];
	char a[3][8] = {"one", "two", "three"}, b[3][8] = {"", "", ""};
	struct iovec v[3], w[3];
	struct mmsghdr m[3], k[3];
	memset(m, 0, sizeof m);
	memset(k, 0, sizeof k);
	for (int i = 0; i < 3; i++) {
		v[i] = (struct iovec){a[i], strlen(a[i])};
		w[i] = (struct iovec){b[i], 8};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1};
		k[i].msg_hdr = (struct msghdr){.msg_iov = &w[i], .msg_iovlen = 1};
	}
	pair(SOCK_DGRAM, s);
	EQ(sendmmsg(s[0], m, 3, 0), 3);
	EQ(m[2].msg_len, 5);
	EQ(recvmmsg(s[1], k, 3, MSG_DONTWAIT, NULL), 3);
	for (int i = 0; i < 3; i++) {
		EQ(k[i].msg_len, strlen(a[i]));
		SAME(b[i], a[i]);
	}
	ERR(recvmmsg(s[1], k, 3, MSG_DONTWAIT, NULL), EAGAIN);
	end(s);
}

CASE(options_of_sockets)
{
	int v = 0, s = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	socklen_t n = sizeof v;
	OK(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n));
	EQ(v, SOCK_STREAM);
	OK(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &v, &n));
	EQ(v, AF_INET);
	v = 1;
	OK(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v));
	v = 0;
	OK(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, &n));
	EQ(v, 1);
	v = 5000;
	OK(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v));
	OK(getsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, &n));
	EQ(v, 10000);
	struct tcp_info t;
	n = sizeof t;
	OK(getsockopt(s, IPPROTO_TCP, TCP_INFO, &t, &n));
	EQ(t.tcpi_state, TCP_CLOSE);
	ERR(getsockopt(s, SOL_SOCKET, 9999, &v, &n), ENOPROTOOPT);
	ERR(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, 1), EINVAL);
	ERR(getsockopt(0, SOL_SOCKET, SO_TYPE, &v, &n), ENOTSOCK);
	OK(ioctl(s, FIONBIO, &(int){1}));
	EQ(fcntl(s, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	close(s);
}

CASE(netlink_tells_the_interfaces)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} q = {{sizeof q, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0}, {.ifi_family = AF_UNSPEC}};
	static char b[32768];
	int s = (int)OK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), loop = 0, over = 0;
	struct sockaddr_nl a = {.nl_family = AF_NETLINK};
	EQ(sendto(s, &q, sizeof q, 0, (struct sockaddr *)&a, sizeof a), sizeof q);
	while (!over) {
		ssize_t n = OK(recv(s, b, sizeof b, 0));
		for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)b; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			EQ(h->nlmsg_seq, 7);
			if (h->nlmsg_type == NLMSG_DONE)
				over = 1;
			else if (((struct ifinfomsg *)NLMSG_DATA(h))->ifi_flags & 8 /* IFF_LOOPBACK */)
				loop++;
		}
	}
	EQ(loop, 1);
	close(s);
}

CASE(ipv6_of_the_loopback)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t n = sizeof a;
	int r = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (r < 0 || bind(r, (struct sockaddr *)&a, sizeof a) != 0) { /* a machine without it */
		IS(errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL, "errno %d", errno);
		close(r);
		return;
	}
	OK(getsockname(r, (struct sockaddr *)&a, &n));
	EQ(n, sizeof a);
	int s = (int)OK(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	EQ(sendto(s, "six", 3, 0, (struct sockaddr *)&a, n), 3);
	char b[4] = "";
	EQ(recv(r, b, 4, 0), 3);
	SAME(b, "six");
	close(r), close(s);
}

static int datagrams[2];
static void *sends_four(MAYBE void *arg)
{
	for (int i = 0; i < 4; i++) {
		nap(i == 1 ? wait_ms() : 0);
		if (send(datagrams[0], "d", 1, 0) != 1)
			return arg;
	}
	return NULL;
}

CASE(recvmmsg_leaves_no_error)
{
	pthread_t t;
	char b[4];
	struct iovec v[4];
	struct mmsghdr k[4];
	int e = -1, n = 0;
	socklen_t size = sizeof e;
	OK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagrams));
	EQ(pthread_create(&t, NULL, sends_four, NULL), 0);
	while (n < 4) { /* a move may end it with what it has */
		memset(k, 0, sizeof k);
		for (int i = 0; i < 4; i++) {
			v[i] = (struct iovec){b + i, 1};
			k[i].msg_hdr.msg_iov = &v[i], k[i].msg_hdr.msg_iovlen = 1;
		}
		n += (int)OK(recvmmsg(datagrams[1], k, (unsigned)(4 - n), 0, NULL));
		OK(getsockopt(datagrams[1], SOL_SOCKET, SO_ERROR, &e, &size));
		EQ(e, 0);
	}
	EQ(pthread_join(t, NULL), 0);
	close(datagrams[0]), close(datagrams[1]);
}
