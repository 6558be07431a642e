/*
 * ledger COUNT: every call once. It copies COUNT numbers, one by one, from a file that is read through one descriptor into a
 * file that is written in append mode, sleeps a little after each, sends itself a signal now and then, and passes what it has
 * read through a pipe. A read that was made twice skips a number, one whose result was lost repeats it; a write that was made
 * twice stands twice in the file. At the end it reads the file, says "COUNT entered once", and ends with 7.
 */
#include "work.h"
#include <signal.h>

static volatile sig_atomic_t signals;

static void on_usr1(int sig)
{
	(void)sig;
	signals++;
}

static void fail(const char *what, long i, long got)
{
	dprintf(2, "bad: %s at %ld: %ld, errno %d\n", what, i, got, errno);
	_exit(1);
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 100, v, sent = 0;
	char from[64], into[64];
	int ends[2], in, out;
	struct sigaction sa = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
	sigaction(SIGUSR1, &sa, NULL);
	snprintf(from, sizeof from, "/tmp/ledger-%d-from", getpid());
	snprintf(into, sizeof into, "/tmp/ledger-%d-into", getpid());
	out = open(from, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	for (v = 0; v < count; v++)
		if (write(out, &v, sizeof v) != sizeof v)
			return 2;
	close(out);
	in = open(from, O_RDONLY);
	out = open(into, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
	if (in < 0 || out < 0 || pipe(ends) != 0)
		return 2;
	dprintf(2, "pid %d\n", getpid());
	for (long i = 0; i < count; i++) {
		struct timespec rest = {0, 2000000};
		ssize_t n = read(in, &v, sizeof v);
		if (n != sizeof v || v != i)
			fail("read", i, n == sizeof v ? v : n);
		if ((n = write(ends[1], &v, sizeof v)) != sizeof v)
			fail("write into the pipe", i, n);
		v = -1;
		if ((n = read(ends[0], &v, sizeof v)) != sizeof v || v != i)
			fail("read from the pipe", i, n == sizeof v ? v : n);
		if ((n = write(out, &v, sizeof v)) != sizeof v)
			fail("write", i, n);
		if (i % 16 == 0) {
			raise(SIGUSR1);
			sent++;
		}
		while (nanosleep(&rest, &rest) != 0)
			if (errno != EINTR)
				fail("nanosleep", i, -1);
	}
	if (signals != sent)
		fail("signals", sent, signals);
	close(out);
	if ((in = open(into, O_RDONLY)) < 0)
		fail("open", 0, in);
	for (long i = 0; i < count; i++)
		if (read(in, &v, sizeof v) != sizeof v || v != i)
			fail("entry", i, v);
	if (read(in, &v, 1) != 0)
		fail("end", count, 1);
	unlink(from);
	unlink(into);
	printf("%ld entered once\n", count);
	fflush(stdout);
	return 7;
}
