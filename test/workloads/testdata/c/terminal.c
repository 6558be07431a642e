/*
 * terminal: talks with whoever sits at the terminal. In canonical mode it reads lines and answers each; "size" tells the
 * window's size, "raw" takes the terminal into raw mode, where each byte is answered by its number until 'q', and "quit"
 * ends it. ^C in canonical mode is counted and told. The conversation decides how long it runs: SECONDS and STOPFILE are not used.
 */
#include "work.h"
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

/* on_int answers by itself: it may run before, in or after the wait for the next line. */
static void on_int(int sig)
{
	(void)sig;
	if (write(1, "interrupt\n", 10) != 10)
		_exit(5);
}

static void say(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (write_all(1, line, (size_t)n) != 0)
		_exit(4);
}

static void raw(void)
{
	struct termios old, t;
	unsigned char c = 0;
	CHECK(tcgetattr(0, &old) == 0);
	t = old;
	cfmakeraw(&t);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	CHECK(tcsetattr(0, TCSADRAIN, &t) == 0);
	say("raw\r\n");
	while (c != 'q') {
		ssize_t n = read(0, &c, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1) {
			bad("read a key: %zd, errno %d", n, errno);
			break;
		}
		say("key %d\r\n", c);
	}
	CHECK(tcsetattr(0, TCSADRAIN, &old) == 0);
	say("cooked\n");
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_int};
	struct termios t;
	struct winsize ws;
	char line[256];
	work_begin(argc, argv);
	sigaction(SIGINT, &sa, NULL);
	CHECK(isatty(0) && isatty(1));
	CHECK(tcgetattr(0, &t) == 0);
	t.c_lflag &= (tcflag_t)~ECHO;
	CHECK(tcsetattr(0, TCSANOW, &t) == 0);
	CHECK(tcgetpgrp(0) == getpgrp());
	say("ready\n");
	for (;;) {
		ssize_t n = read(0, line, sizeof line - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			say("end of input\n");
			break;
		}
		line[n] = 0;
		if (strcmp(line, "quit\n") == 0)
			break;
		work_same();
		if (strcmp(line, "raw\n") == 0) {
			raw();
		} else if (strcmp(line, "size\n") == 0) {
			CHECK(ioctl(0, TIOCGWINSZ, &ws) == 0);
			say("size %d %d\n", ws.ws_row, ws.ws_col);
		} else {
			say("line %zd %016llx\n", n, (unsigned long long)mix_bytes(83, line, (size_t)n));
		}
	}
	t.c_lflag |= ECHO;
	tcsetattr(0, TCSANOW, &t);
	return work_end();
}
