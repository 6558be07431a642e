/*
 * cputime: every way to ask for one's own CPU time. The clocks never go back, wherever the process is. What asks the kernel
 * itself, getrusage and times, does so once after a homecoming: home's kernel has counted less, and nobody can tell it. Away
 * from home they count the same as the clocks.
 */
#include "work.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

static volatile sig_atomic_t virtuals, profs;
static volatile uint64_t sink;

static void on_virtual(int s) { (void)s; virtuals++; }
static void on_prof(int s) { (void)s; profs++; }

static void burn(int k)
{
	uint64_t h = 1;
	for (int i = 0; i < k * 1000; i++)
		h = mix(h, (uint64_t)i);
	sink += h;
}

static uint64_t of_rusage(int who)
{
	struct rusage r;
	CHECK(getrusage(who, &r) == 0);
	return ((uint64_t)r.ru_utime.tv_sec + (uint64_t)r.ru_stime.tv_sec) * 1000000000u + ((uint64_t)r.ru_utime.tv_usec + (uint64_t)r.ru_stime.tv_usec) * 1000;
}

static uint64_t of_self(void) { return of_rusage(RUSAGE_SELF); }
static uint64_t of_thread(void) { return of_rusage(RUSAGE_THREAD); }

static uint64_t of_times(void)
{
	struct tms t;
	CHECK(times(&t) != (clock_t)-1);
	return ((uint64_t)t.tms_utime + (uint64_t)t.tms_stime) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t of_pid(void)
{
	clockid_t c;
	CHECK(clock_getcpuclockid(getpid(), &c) == 0);
	return clock_ns(c);
}

static uint64_t of_tid(void)
{
	clockid_t c;
	CHECK(pthread_getcpuclockid(pthread_self(), &c) == 0);
	return clock_ns(c);
}

/* between holds what f says between two readings of a clock, but for slack, at least once in some tries. */
static void between(const char *name, clockid_t clock, uint64_t (*f)(void), uint64_t slack)
{
	uint64_t a = 0, x = 0, b = 0;
	for (int i = 0; i < 6; i++) {
		struct timespec raw;
		if (syscall(SYS_clock_gettime, clock, &raw) == 0 && (uint64_t)raw.tv_sec * 1000000000u + (uint64_t)raw.tv_nsec + 1000000 < clock_ns(clock))
			return; /* at home again: the kernel has counted less */
		a = clock_ns(clock);
		x = f();
		b = clock_ns(clock);
		if (a <= x + slack && x <= b + slack)
			return;
		nap(30000); /* moved just now */
	}
	bad("round %ld: %s says %llu between %llu and %llu ns", work_rounds, name, (unsigned long long)x, (unsigned long long)a, (unsigned long long)b);
}

/* forward holds a count to never going back, or only once in a round, by coming home. */
static void forward(const char *name, uint64_t *last, uint64_t now, int *back)
{
	if (now < *last && ++*back > 1)
		bad("round %ld: %s went back again, from %llu to %llu ns", work_rounds, name, (unsigned long long)*last, (unsigned long long)now);
	*last = now;
}

/* steps burns until a clock says that it was enough: it must say so. */
static void steps(const char *name, clockid_t clock)
{
	uint64_t began = clock_ns(CLOCK_MONOTONIC), from = clock_ns(clock), now = from;
	while (now - from < 5000000) {
		burn(20);
		if ((now = clock_ns(clock)) < from)
			bad("round %ld: %s went from %llu back to %llu ns", work_rounds, name, (unsigned long long)from, (unsigned long long)now);
		if (clock_ns(CLOCK_MONOTONIC) - began > 20000000000u) {
			bad("round %ld: %s has counted %llu ns in 20 s of work", work_rounds, name, (unsigned long long)(now - from));
			return;
		}
	}
}

static void rings(const char *name, int which, volatile sig_atomic_t *count)
{
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	struct itimerval it = {{0, 3000}, {0, 3000}}, got, off = {{0, 0}, {0, 0}};
	int had = *count;
	CHECK(setitimer(which, &it, NULL) == 0);
	CHECK(getitimer(which, &got) == 0 && got.it_interval.tv_usec == 3000 + 0 * got.it_value.tv_usec);
	while (*count < had + 2) {
		burn(20);
		if (clock_ns(CLOCK_MONOTONIC) - began > 20000000000u) {
			bad("round %ld: %s did not ring in 20 s of work", work_rounds, name);
			break;
		}
	}
	CHECK(setitimer(which, &off, &got) == 0 && got.it_interval.tv_usec == 3000);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	struct sigaction sa = {.sa_handler = on_virtual, .sa_flags = SA_RESTART};
	sigaction(SIGVTALRM, &sa, NULL);
	sa.sa_handler = on_prof;
	sigaction(SIGPROF, &sa, NULL);
	uint64_t lastc = 0, lastt = 0, lastp = 0;
	int never = 1;
	while (work_more()) {
		uint64_t last = 0;
		int back = 0;
		for (int i = 0; i < 20; i++) {
			burn(50);
			forward("getrusage", &last, of_self(), &back);
			forward("the process's clock", &lastc, clock_ns(CLOCK_PROCESS_CPUTIME_ID), &never);
			forward("the thread's clock", &lastt, clock_ns(CLOCK_THREAD_CPUTIME_ID), &never);
			forward("the clock of its number", &lastp, of_pid(), &never);
		}
		/* microseconds, and taken by the agent from outside while the caller waits */
		between("getrusage", CLOCK_PROCESS_CPUTIME_ID, of_self, 100000);
		between("getrusage of the thread", CLOCK_THREAD_CPUTIME_ID, of_thread, 100000);
		between("times", CLOCK_PROCESS_CPUTIME_ID, of_times, 25000000);
		between("the clock of its number", CLOCK_PROCESS_CPUTIME_ID, of_pid, 0);
		between("the clock of its thread", CLOCK_THREAD_CPUTIME_ID, of_tid, 0);
		steps("the process's clock", CLOCK_PROCESS_CPUTIME_ID);
		steps("the thread's clock", CLOCK_THREAD_CPUTIME_ID);
		rings("ITIMER_VIRTUAL", ITIMER_VIRTUAL, &virtuals);
		rings("ITIMER_PROF", ITIMER_PROF, &profs);
		struct timespec res;
		CHECK(clock_getres(CLOCK_PROCESS_CPUTIME_ID, &res) == 0 && res.tv_sec == 0);
	}
	return work_end();
}
