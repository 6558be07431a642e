/*
 * work.h is what every C workload shares: the rounds, the checks that hold in each of them, and how a result is told.
 *
 *   PROGRAM SECONDS STOPFILE [MORE…]
 *
 * A workload does one and the same round of work again and again, for at least SECONDS and until STOPFILE exists ("-": no
 * such file), at least once. What it prints on standard output depends on the work only, never on how often or how long it
 * was done: the first round prints, each later one must come to the same. So a run that was moved thirty times prints the
 * same bytes as a native one of a single round. Its number, and what went wrong, go to standard error.
 */
#ifndef WORK_H
#define WORK_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORK_UNUSED __attribute__((unused))
#define WORK_CAP_SECONDS 240 /* nobody waits longer for a stop file that never comes */

static double work_seconds;
static const char *work_stop = "-";
static pid_t work_pid, work_ppid, work_tid;
static uid_t work_uid;
static struct utsname work_uts;
static uint64_t work_start, work_mono, work_real, work_boot;
static int work_bad;
static long work_rounds;

WORK_UNUSED static uint64_t clock_ns(clockid_t c)
{
	struct timespec ts;
	clock_gettime(c, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

WORK_UNUSED static void work_say(const char *word, const char *fmt, va_list ap)
{
	char line[512];
	int n = snprintf(line, sizeof line, "%s: ", word);
	n += vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	if (n > (int)sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	if (write(2, line, (size_t)n) < 0)
		_exit(99);
}

/* bad tells of a broken promise. The run goes on, so that one report shows several, and ends with status 1. */
WORK_UNUSED __attribute__((format(printf, 1, 2))) static void bad(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	work_say("bad", fmt, ap);
	va_end(ap);
	if (__atomic_add_fetch(&work_bad, 1, __ATOMIC_SEQ_CST) >= 20) {
		fflush(stdout);
		_exit(1);
	}
}

#define CHECK(c)                                                                                          \
	do {                                                                                              \
		errno = 0;                                                                                \
		if (!(c))                                                                                 \
			bad("%s:%d: round %ld: %s (errno %d)", __FILE__, __LINE__, work_rounds, #c, errno); \
	} while (0)

WORK_UNUSED static inline uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v;
	h *= 0x9E3779B97F4A7C15u;
	return h ^ (h >> 29);
}

WORK_UNUSED static uint64_t mix_bytes(uint64_t h, const void *p, size_t n)
{
	const unsigned char *b = p;
	for (; n >= 8; b += 8, n -= 8) {
		uint64_t w;
		memcpy(&w, b, 8);
		h = mix(h, w);
	}
	for (; n > 0; n--)
		h = mix(h, *b++);
	return h;
}

/* report prints the line "name value" in the first round and holds each later round to it. */
WORK_UNUSED static void report(const char *name, uint64_t value)
{
	static struct {
		const char *name;
		uint64_t value;
	} seen[128];
	static int n;
	for (int i = 0; i < n; i++) {
		if (strcmp(seen[i].name, name) == 0) {
			if (seen[i].value != value)
				bad("round %ld: %s is %016llx, was %016llx", work_rounds, name,
				    (unsigned long long)value, (unsigned long long)seen[i].value);
			return;
		}
	}
	if (n < 128) {
		seen[n].name = name;
		seen[n++].value = value;
	}
	printf("%s %016llx\n", name, (unsigned long long)value);
}

/* nap sleeps for at least us microseconds, whatever signals come. */
WORK_UNUSED static void nap(long us)
{
	struct timespec ts = {us / 1000000, us % 1000000 * 1000};
	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

WORK_UNUSED static void work_begin(int argc, char **argv)
{
	if (argc > 1)
		work_seconds = atof(argv[1]);
	if (argc > 2)
		work_stop = argv[2];
	work_pid = getpid();
	work_ppid = getppid();
	work_tid = (pid_t)syscall(SYS_gettid);
	work_uid = getuid();
	uname(&work_uts);
	work_start = work_mono = clock_ns(CLOCK_MONOTONIC);
	work_real = clock_ns(CLOCK_REALTIME);
	work_boot = clock_ns(CLOCK_BOOTTIME);
	dprintf(2, "pid %d\n", work_pid);
}

/* work_same holds the process to what it was at its start. */
WORK_UNUSED static void work_same(void)
{
	struct utsname uts;
	uint64_t m = clock_ns(CLOCK_MONOTONIC), r = clock_ns(CLOCK_REALTIME), b = clock_ns(CLOCK_BOOTTIME);
	CHECK(getpid() == work_pid);
	CHECK(syscall(SYS_gettid) == work_tid);
	CHECK(getppid() == work_ppid);
	CHECK(getuid() == work_uid && geteuid() == work_uid);
	CHECK(uname(&uts) == 0 && memcmp(&uts, &work_uts, sizeof uts) == 0);
	if (m < work_mono || b < work_boot || r < work_real)
		bad("round %ld: a clock went backward: monotonic by %lld, boot by %lld, real by %lld ns", work_rounds,
		    (long long)(work_mono - m), (long long)(work_boot - b), (long long)(work_real - r));
	work_mono = m;
	work_real = r;
	work_boot = b;
}

/* work_more starts the next round, or says that it is enough. */
WORK_UNUSED static int work_more(void)
{
	if (work_rounds > 0) {
		double t = (double)(clock_ns(CLOCK_MONOTONIC) - work_start) / 1e9;
		work_same();
		if (t >= WORK_CAP_SECONDS) {
			bad("no stop file %s after %d s", work_stop, WORK_CAP_SECONDS);
			return 0;
		}
		if (t >= work_seconds && (strcmp(work_stop, "-") == 0 || access(work_stop, F_OK) == 0))
			return 0;
	}
	work_rounds++;
	return 1;
}

WORK_UNUSED static int work_end(void)
{
	work_same();
	printf("%s\n", work_bad ? "BAD" : "good");
	fflush(stdout);
	dprintf(2, "end %d after %ld rounds\n", getpid(), work_rounds);
	return work_bad ? 1 : 0;
}

/* read_all and write_all move exactly n bytes, or say that they could not. */
WORK_UNUSED static int read_all(int fd, void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = read(fd, (char *)p + done, n - done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		done += (size_t)k;
	}
	return 0;
}

WORK_UNUSED static int write_all(int fd, const void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = write(fd, (const char *)p + done, n - done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		done += (size_t)k;
	}
	return 0;
}

/* join waits for a helper that the workload forked at its start and that must have ended well. */
WORK_UNUSED static void join(pid_t child)
{
	int status = -1;
	pid_t p;
	do
		p = waitpid(child, &status, 0);
	while (p < 0 && errno == EINTR);
	if (p != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		bad("helper %d: waitpid gave %d, status %x", child, p, status);
}
#endif
