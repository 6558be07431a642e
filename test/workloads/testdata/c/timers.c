/*
 * timers: interval timers of all three clocks, POSIX timers with a value, timerfd, alarm. None may fire early or be lost;
 * those armed at the start run through every move, and the clocks of CPU time never step back.
 */
#include "sender.h"
#include <sys/time.h>
#include <sys/timerfd.h>

static volatile sig_atomic_t alarms, virtuals, profs, posix, wrong, background;

static void on_timer(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (sig == SIGALRM)
		alarms++;
	else if (sig == SIGVTALRM)
		virtuals++;
	else if (sig == SIGPROF)
		profs++;
	else if (sig == SIGRTMIN + 1) {
		posix++;
		wrong += si->si_value.sival_int != 777 || si->si_code != SI_TIMER;
	} else if (sig == SIGRTMIN + 2) {
		background += 1 + si->si_overrun;
		wrong += si->si_value.sival_int != 888;
	}
}

/* await naps until *n has reached want. */
static void await(volatile sig_atomic_t *n, int want)
{
	for (int i = 0; *n < want && i < 20000; i++)
		nap(1000);
	CHECK(*n >= want);
}

static void burn(volatile sig_atomic_t *n, int want)
{
	uint64_t t = clock_ns(CLOCK_MONOTONIC);
	volatile uint64_t x = 1;
	while (*n < want && clock_ns(CLOCK_MONOTONIC) - t < 20000000000u)
		for (int i = 0; i < 10000; i++)
			x = mix(x, 1);
	CHECK(*n >= want);
}

static void not_early(const char *what, uint64_t since, uint64_t ns)
{
	uint64_t t = clock_ns(CLOCK_MONOTONIC) - since;
	if (t + 1000000 < ns)
		bad("round %ld: %s fired after %llu us of %llu", work_rounds, what, (unsigned long long)t / 1000, (unsigned long long)ns / 1000);
}

int main(int argc, char **argv)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 777};
	struct itimerspec once = {.it_value = {0, 10000000}}, every = {{0, 20000000}, {0, 20000000}}, left;
	struct itimerval tick = {{0, 10000}, {0, 10000}}, off = {{0, 0}, {0, 0}}, now;
	timer_t one, back;
	uint64_t t, n, cpu = 0, thread_cpu = 0, fd_total = 0;
	work_begin(argc, argv);
	int sigs[] = {SIGALRM, SIGVTALRM, SIGPROF, SIGRTMIN + 1, SIGRTMIN + 2};
	for (int i = 0; i < 5; i++)
		action(sigs[i], on_timer, SA_RESTART, 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &one) == 0);
	ev.sigev_signo = SIGRTMIN + 2;
	ev.sigev_value.sival_int = 888;
	CHECK(timer_create(CLOCK_MONOTONIC, &ev, &back) == 0);
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	CHECK(timer_settime(back, 0, &every, NULL) == 0);
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), running = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	CHECK(timerfd_settime(running, 0, &every, NULL) == 0);
	while (work_more()) {
		alarms = 0;
		t = clock_ns(CLOCK_MONOTONIC);
		CHECK(setitimer(ITIMER_REAL, &tick, NULL) == 0);
		await(&alarms, 4);
		not_early("setitimer", t, 40000000);
		CHECK(getitimer(ITIMER_REAL, &now) == 0 && now.it_interval.tv_usec == 10000);
		CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
		virtuals = profs = 0;
		CHECK(setitimer(ITIMER_VIRTUAL, &tick, NULL) == 0 && setitimer(ITIMER_PROF, &tick, NULL) == 0);
		burn(&virtuals, 2);
		burn(&profs, 2);
		CHECK(setitimer(ITIMER_VIRTUAL, &off, NULL) == 0 && setitimer(ITIMER_PROF, &off, NULL) == 0);

		for (int i = 0; i < 4; i++) {
			posix = 0;
			t = clock_ns(CLOCK_MONOTONIC);
			CHECK(timer_settime(one, 0, &once, NULL) == 0);
			CHECK(timer_gettime(one, &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_nsec <= 10000000);
			await(&posix, 1);
			not_early("timer_settime", t, 10000000);
			CHECK(posix == 1);
		}
		t = clock_ns(CLOCK_MONOTONIC);
		CHECK(timerfd_settime(fd, 0, &once, NULL) == 0);
		CHECK(read(fd, &n, 8) == 8 && n == 1);
		not_early("timerfd", t, 10000000);
		if (read(running, &n, 8) == 8)
			fd_total += n;

		t = clock_ns(CLOCK_MONOTONIC);
		alarm(100);
		unsigned rest = alarm(0);
		CHECK(rest + (clock_ns(CLOCK_MONOTONIC) - t) / 1000000000 >= 99);
		uint64_t c = clock_ns(CLOCK_PROCESS_CPUTIME_ID), h = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		if (c < cpu || h < thread_cpu)
			bad("round %ld: CPU time stepped back, process by %lld us, thread by %lld us", work_rounds,
			    (long long)(cpu - c) / 1000, (long long)(thread_cpu - h) / 1000);
		cpu = c;
		thread_cpu = h;
		nap(3000);
	}
	/* what ran in the background ran all the time: 50 a second, none lost, none twice */
	double want = (double)(clock_ns(CLOCK_MONOTONIC) - began) / 20e6;
	if (read(running, &n, 8) == 8)
		fd_total += n;
	double most = (double)(clock_ns(CLOCK_MONOTONIC) - began) / 20e6; /* the reading may have waited for a processor */
	if ((double)background < want - 25 - want / 20 || (double)background > most + 2)
		bad("the timer in the background fired %d times, want %.0f to %.0f", (int)background, want, most);
	if ((double)fd_total < want - 2 || (double)fd_total > most + 2)
		bad("the timerfd in the background fired %llu times, want %.0f to %.0f", (unsigned long long)fd_total, want, most);
	CHECK(wrong == 0);
	report("timers", 6);
	return work_end();
}
