/*
 * tcpclient: speaks with an echo server in a helper that stays at home, over one connection that it keeps and a new one in
 * each round, with blocking and non-blocking calls, scattered buffers, a half-closed end, a refused connection and a limit in time.
 */
#include "work.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { MOST = 200 << 10 };

static unsigned char out[MOST], in[MOST];

/* helper echoes every byte of every connection, each with its upper bit turned over. */
static int helper(int l)
{
	struct pollfd p[16] = {{.fd = l, .events = POLLIN}};
	int n = 1, served = 0;
	static unsigned char b[65536];
	while (!(served && n == 1)) {
		if (poll(p, (nfds_t)n, 60000) <= 0)
			return 20;
		if (p[0].revents && n < 16) {
			p[n].fd = accept(l, NULL, NULL);
			p[n].events = POLLIN;
			p[n++].revents = 0;
			served = 1;
		}
		for (int i = 1; i < n; i++) {
			if (!p[i].revents)
				continue;
			ssize_t k = read(p[i].fd, b, sizeof b);
			for (ssize_t j = 0; j < k; j++)
				b[j] ^= 0x80;
			if (k <= 0 || write_all(p[i].fd, b, (size_t)k) != 0) {
				close(p[i].fd);
				p[i] = p[--n];
				i--;
			}
		}
	}
	return 0;
}

static int dial(struct sockaddr_in at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
	return fd;
}

/* trip sends n bytes and takes them back, a part at a time so that neither side's buffer stands in the way. */
static uint64_t trip(int fd, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)mix(seed, i / 8);
	for (size_t done = 0; done < n;) {
		size_t part = n - done < 30000 ? n - done : 30000, half = part / 2;
		struct iovec iov[2] = {{out + done, half}, {out + done + half, part - half}};
		ssize_t k = writev(fd, iov, 2);
		if (k < 0 || (k < (ssize_t)part && write_all(fd, out + done + k, part - (size_t)k) != 0)) {
			bad("send: errno %d", errno);
			return 0;
		}
		ssize_t got = recv(fd, in + done, part, MSG_WAITALL);
		if (got != (ssize_t)part) {
			bad("round %ld: recv with MSG_WAITALL gave %zd of %zu, errno %d", work_rounds, got, part, errno);
			return 0;
		}
		done += part;
	}
	for (size_t i = 0; i < n; i++)
		if (in[i] != (out[i] ^ 0x80)) {
			bad("round %ld: byte %zu of %zu came back as %02x, went as %02x", work_rounds, i, n, in[i], out[i]);
			return 0;
		}
	return mix_bytes(seed, in, n);
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, me, closed = at;
	socklen_t len = sizeof at;
	work_begin(argc, argv);
	int l = socket(AF_INET, SOCK_STREAM, 0), unused = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (struct sockaddr *)&at, sizeof at) != 0 || listen(l, 8) != 0)
		return 2;
	getsockname(l, (struct sockaddr *)&at, &len);
	bind(unused, (struct sockaddr *)&closed, sizeof closed); /* a port on which nobody listens */
	getsockname(unused, (struct sockaddr *)&closed, &len);
	pid_t child = fork();
	if (child == 0) {
		alarm(WORK_CAP_SECONDS + 30);
		_exit(helper(l));
	}
	close(l);
	int kept = dial(at);
	while (work_more()) {
		uint64_t h = 0;
		for (int i = 0; i < 10; i++)
			h += trip(kept, (size_t)(mix(101, (uint64_t)i) % 5000 + 1), (uint64_t)i);
		h += trip(kept, MOST, 103);
		int fresh = dial(at);
		len = sizeof me;
		CHECK(getsockname(fresh, (struct sockaddr *)&me, &len) == 0 && me.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
		CHECK(getpeername(fresh, (struct sockaddr *)&me, &len) == 0 && me.sin_port == at.sin_port);
		h += trip(fresh, 70000, 107);
		struct timeval tv = {0, 30000};
		CHECK(setsockopt(fresh, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
		uint64_t t = clock_ns(CLOCK_MONOTONIC);
		CHECK(recv(fresh, in, 1, 0) == -1 && errno == EAGAIN);
		CHECK(clock_ns(CLOCK_MONOTONIC) - t >= 29000000);
		CHECK(fcntl(fresh, F_SETFL, fcntl(fresh, F_GETFL) | O_NONBLOCK) == 0);
		CHECK(recv(fresh, in, 1, 0) == -1 && errno == EAGAIN);
		CHECK(shutdown(fresh, SHUT_WR) == 0);
		struct pollfd p = {.fd = fresh, .events = POLLIN};
		CHECK(poll(&p, 1, 20000) == 1 && recv(fresh, in, 1, 0) == 0);
		close(fresh);
		int none = socket(AF_INET, SOCK_STREAM, 0);
		CHECK(connect(none, (struct sockaddr *)&closed, sizeof closed) == -1 && errno == ECONNREFUSED);
		close(none);
		report("bytes", h);
		nap(3000);
	}
	close(kept);
	join(child);
	return work_end();
}
