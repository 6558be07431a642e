/*
 * sleep: every call that waits for a time and nothing else, short in each round and long (0.4 s) in turn, so that moves fall
 * into them. None may end early or with an error; how late is bounded generously.
 */
#include "work.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>

static struct timespec span(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

static const char *const names[] = {"nanosleep", "clock_nanosleep relative", "clock_nanosleep monotonic", "clock_nanosleep realtime",
				    "usleep", "poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait", "sem_timedwait"};
enum { KINDS = sizeof names / sizeof *names };

static int doze(int kind, uint64_t ns, int ep, sem_t *sem)
{
	struct timespec ts = span(ns), at;
	struct timeval tv = {(time_t)(ns / 1000000000), (suseconds_t)(ns % 1000000000 / 1000)};
	struct epoll_event ev;
	switch (kind) {
	case 0: return nanosleep(&ts, NULL);
	case 1: return clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &at);
	case 2: at = span(clock_ns(CLOCK_MONOTONIC) + ns); return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	case 3: at = span(clock_ns(CLOCK_REALTIME) + ns); return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL);
	case 4: return usleep((useconds_t)(ns / 1000));
	case 5: return poll(NULL, 0, (int)(ns / 1000000));
	case 6: return ppoll(NULL, 0, &ts, NULL);
	case 7: return select(0, NULL, NULL, NULL, &tv);
	case 8: return pselect(0, NULL, NULL, NULL, &ts, NULL);
	case 9: return epoll_wait(ep, &ev, 1, (int)(ns / 1000000));
	case 10: return epoll_pwait(ep, &ev, 1, (int)(ns / 1000000), NULL);
	case 11:
		at = span(clock_ns(CLOCK_REALTIME) + ns);
		return sem_timedwait(sem, &at) == -1 && errno == ETIMEDOUT ? 0 : -1;
	}
	return -1;
}

int main(int argc, char **argv)
{
	sem_t sem;
	work_begin(argc, argv);
	sem_init(&sem, 0, 0);
	int ep = epoll_create1(0);
	while (work_more()) {
		for (int kind = 0; kind < KINDS; kind++) {
			uint64_t ns = work_rounds > 1 && kind == work_rounds % KINDS ? 400000000u : 10000000u;
			uint64_t t = clock_ns(CLOCK_MONOTONIC);
			errno = 0;
			int r = doze(kind, ns, ep, &sem), e = errno;
			t = clock_ns(CLOCK_MONOTONIC) - t;
			if (r != 0)
				bad("round %ld: %s gave %d, errno %d", work_rounds, names[kind], r, e);
			if (t + 1000000 < ns || t > ns + 5000000000u)
				bad("round %ld: %s of %llu us took %llu us", work_rounds, names[kind], (unsigned long long)ns / 1000,
				    (unsigned long long)t / 1000);
			if (work_rounds == 1)
				printf("%s ok\n", names[kind]);
		}
	}
	return work_end();
}
