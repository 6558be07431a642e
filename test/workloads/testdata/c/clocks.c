/*
 * clocks: reads every clock that the vDSO has, all the time. None goes back, coarse ones are not far behind, and how fine they are
 * does not change. CLOCK_MONOTONIC_RAW is read seldom: away from home it is a question to home.
 */
#include "work.h"
#include <sched.h>
#include <sys/time.h>

static int64_t ns(clockid_t c)
{
	struct timespec t = {-1, -1};
	if (clock_gettime(c, &t) != 0)
		bad("clock %d: errno %d", (int)c, errno);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	static const clockid_t ids[] = {CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_MONOTONIC_RAW};
	enum { ALL = sizeof ids / sizeof *ids };
	int64_t last[ALL] = {0}, fine[ALL];
	work_begin(argc, argv);
	for (int i = 0; i < ALL; i++) {
		struct timespec t;
		CHECK(clock_getres(ids[i], &t) == 0);
		fine[i] = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	}
	while (work_more()) {
		for (int k = 0; k < 20000; k++) {
			for (int i = 0; i < ALL; i++) {
				if (ids[i] == CLOCK_MONOTONIC_RAW && k % 200 != 0)
					continue;
				int64_t now = ns(ids[i]);
				if (now < last[i])
					bad("round %ld: clock %d went back by %lld ns, from %lld", work_rounds, (int)ids[i], (long long)(last[i] - now), (long long)last[i]);
				last[i] = now;
			}
			if (last[0] - last[1] > 1000000000 || last[2] - last[3] > 1000000000)
				bad("round %ld: the coarse clocks are %lld and %lld ns behind", work_rounds, (long long)(last[0] - last[1]), (long long)(last[2] - last[3]));
			struct timeval tv;
			CHECK(gettimeofday(&tv, NULL) == 0);
			int64_t day = (int64_t)tv.tv_sec * 1000000000 + tv.tv_usec * 1000, secs = (int64_t)time(NULL), now = ns(CLOCK_REALTIME);
			if (day / 1000 < last[0] / 1000 || day > now || secs > now / 1000000000 || now / 1000000000 - secs > 2)
				bad("round %ld: gettimeofday says %lld, time %lld, between %lld and %lld", work_rounds, (long long)day, (long long)secs, (long long)last[0], (long long)now);
			unsigned cpu = ~0u;
			CHECK(syscall(SYS_getcpu, &cpu, NULL, NULL) == 0 && sched_getcpu() >= 0);
		}
		for (int i = 0; i < ALL; i++) {
			struct timespec t;
			CHECK(clock_getres(ids[i], &t) == 0 && (int64_t)t.tv_sec * 1000000000 + t.tv_nsec == fine[i]);
		}
		report("clocks", ALL);
	}
	return work_end();
}
