/*
 * tcpserver: serves a helper that stays at home. One connection is made at the start and kept; in each round the helper
 * makes a new one, which is accepted wherever the server is. Requests and answers are of all sizes up to 100 KiB, and a
 * datagram goes each way.
 */
#include "work.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { MOST = 100 << 10, REQUESTS = 12 };

static unsigned char buf[MOST];

static uint32_t size_of(int i)
{
	return (uint32_t)(mix(91, (uint64_t)i) % MOST + 1) >> (i % 3 * 5);
}

/* request sends request i and holds the answer to what it must be. */
static int request(int fd, int i)
{
	uint32_t n = size_of(i), head[2] = {n, (uint32_t)i}, got[2];
	for (uint32_t k = 0; k < n; k++)
		buf[k] = (unsigned char)mix((uint64_t)i, k / 8);
	if (write_all(fd, head, 8) != 0 || write_all(fd, buf, n) != 0 || read_all(fd, got, 8) != 0)
		return -1;
	if (got[0] != n || got[1] != (uint32_t)i || read_all(fd, buf, n) != 0)
		return -1;
	for (uint32_t k = 0; k < n; k++)
		if (buf[k] != (unsigned char)(mix((uint64_t)i, k / 8) + 1))
			return -1;
	return 0;
}

/* helper is the client: each byte on ctl is a round, its end is the end. */
static int helper(int ctl, struct sockaddr_in at, struct sockaddr_in udp)
{
	char c;
	int kept = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
	setsockopt(kept, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(kept, (struct sockaddr *)&at, sizeof at) != 0)
		return 10;
	while (read(ctl, &c, 1) == 1) {
		int fresh = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		for (int i = 0; i < REQUESTS / 2; i++)
			if (request(kept, i) != 0)
				return 11;
		if (sendto(d, "datagram", 8, 0, (struct sockaddr *)&udp, sizeof udp) != 8)
			return 12;
		if (recv(d, buf, sizeof buf, 0) != 9 || memcmp(buf, "datagram!", 9) != 0)
			return 13;
		if (connect(fresh, (struct sockaddr *)&at, sizeof at) != 0)
			return 14;
		for (int i = REQUESTS / 2; i < REQUESTS; i++)
			if (request(fresh, i) != 0)
				return 15;
		shutdown(fresh, SHUT_WR);
		if (read(fresh, buf, 1) != 0)
			return 16;
		close(fresh);
		if (write(ctl, &c, 1) != 1)
			return 17;
	}
	return 0;
}

/* answer serves one request of fd; 0 at the end of it. */
static int answer(int fd, uint64_t *h)
{
	uint32_t head[2];
	ssize_t n = recv(fd, head, 1, MSG_PEEK);
	if (n == 0)
		return 0;
	if (n != 1 || read_all(fd, head, 8) != 0 || head[0] > MOST || read_all(fd, buf, head[0]) != 0) {
		bad("request: errno %d", errno);
		return 0;
	}
	*h += mix(head[1], mix_bytes(97, buf, head[0]));
	for (uint32_t k = 0; k < head[0]; k++)
		buf[k]++;
	struct iovec iov[2] = {{head, 8}, {buf, head[0]}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	size_t want = 8 + head[0];
	ssize_t k = sendmsg(fd, &m, MSG_NOSIGNAL);
	if (k < 0)
		bad("sendmsg: errno %d", errno);
	else if ((size_t)k < want && write_all(fd, buf + (k - 8), want - (size_t)k) != 0)
		bad("rest of the answer: errno %d", errno);
	return 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, udp = at, peer;
	socklen_t len = sizeof at;
	int ctl[2], one = 1;
	char c;
	work_begin(argc, argv);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), d = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(l, (struct sockaddr *)&at, sizeof at) != 0 || listen(l, 8) != 0 || bind(d, (struct sockaddr *)&udp, sizeof udp) != 0)
		return 2;
	getsockname(l, (struct sockaddr *)&at, &len);
	getsockname(d, (struct sockaddr *)&udp, &len);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ctl) != 0)
		return 2;
	pid_t child = fork();
	if (child == 0) {
		close(ctl[0]);
		_exit(helper(ctl[1], at, udp));
	}
	close(ctl[1]);
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN};
	int watch[3] = {l, d, ctl[0]};
	for (int i = 0; i < 3; i++) {
		ev.data.fd = watch[i];
		CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, watch[i], &ev) == 0);
	}
	int open_now = 0;
	while (work_more()) {
		uint64_t h = 0;
		int accepted = 0, ended = 0, done = 0;
		c = (char)work_rounds;
		CHECK(write(ctl[0], &c, 1) == 1);
		while (!done || ended < (work_rounds == 1 ? accepted - 1 : accepted)) {
			struct epoll_event got[4];
			int n = epoll_wait(ep, got, 4, 20000);
			if (n <= 0) {
				bad("round %ld: epoll_wait: %d, errno %d", work_rounds, n, errno);
				break;
			}
			for (int i = 0; i < n; i++) {
				int fd = got[i].data.fd;
				if (fd == l) {
					len = sizeof peer;
					ev.data.fd = accept4(l, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
					CHECK(ev.data.fd >= 0 && peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
					setsockopt(ev.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
					CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev.data.fd, &ev) == 0);
					accepted++;
					open_now++;
				} else if (fd == d) {
					len = sizeof peer;
					ssize_t k = recvfrom(d, buf, sizeof buf - 1, 0, (struct sockaddr *)&peer, &len);
					CHECK(k == 8);
					buf[8] = '!';
					CHECK(sendto(d, buf, 9, 0, (struct sockaddr *)&peer, len) == 9);
				} else if (fd == ctl[0]) {
					CHECK(read(fd, &c, 1) == 1 && c == (char)work_rounds);
					done = 1;
				} else if (!answer(fd, &h)) {
					close(fd);
					ended++;
					open_now--;
				}
			}
		}
		CHECK(open_now == 1);
		report("requests", h);
		nap(3000);
	}
	close(ctl[0]);
	join(child);
	return work_end();
}
