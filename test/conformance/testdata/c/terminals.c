/* Group 6: descriptors, those of terminals. pty(7), termios(3), ioctl_tty(2), tcgetpgrp(3), and job control as credentials(7) has it. */
#include "case.h"
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;
static char slave_name[64];
static void make_pty(void)
{
	int zero = 0, n = -1;
	master = (int)OK(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
	OK(ioctl(master, TIOCSPTLCK, &zero));
	OK(ioctl(master, TIOCGPTN, &n));
	snprintf(slave_name, sizeof slave_name, "/dev/pts/%d", n);
	slave = (int)OK(open(slave_name, O_RDWR | O_NOCTTY | O_CLOEXEC));
}
static void end_pty(void) { close(slave), close(master); }

/* arrived waits until n bytes are there to be read: the kernel carries them over at its leisure. */
static void arrived(int fd, int due)
{
	int n = -1;
	for (int i = 0; i < 2000 && n != due; i++) {
		OK(ioctl(fd, FIONREAD, &n));
		nap(n != due);
	}
	EQ(n, due);
}

CASE(terminal_edits_lines)
{
	char b[32] = "";
	make_pty();
	EQ(write(master, "abx\x7f" "c\n", 6), 6);
	EQ(read(slave, b, 32), 4);
	SAME(b, "abc\n");
	memset(b, 0, sizeof b);
	EQ(write(master, "lost\x15" "kept\n", 10), 10);
	EQ(read(slave, b, 32), 5);
	SAME(b, "kept\n");
	EQ(write(master, "\x04", 1), 1);
	EQ(read(slave, b, 32), 0);
	end_pty();
}

CASE(terminal_echoes_and_translates)
{
	char b[32] = "";
	make_pty();
	EQ(write(master, "hi\r", 3), 3);
	EQ(read(slave, b, 32), 3);
	SAME(b, "hi\n");
	memset(b, 0, sizeof b);
	arrived(master, 4);
	EQ(read(master, b, 32), 4);
	SAME(b, "hi\r\n");
	EQ(write(slave, "out\n", 4), 4);
	memset(b, 0, sizeof b);
	arrived(master, 5);
	EQ(read(master, b, 32), 5);
	SAME(b, "out\r\n");
	end_pty();
}

CASE(terminal_made_raw)
{
	struct termios t, u;
	char b[8] = "";
	int n = -1;
	make_pty();
	OK(tcgetattr(slave, &t));
	IS((t.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG));
	cfmakeraw(&t);
	t.c_cc[VMIN] = 2;
	t.c_cc[VTIME] = 0;
	OK(tcsetattr(slave, TCSANOW, &t));
	OK(tcgetattr(master, &u));
	EQ(u.c_lflag & (ICANON | ECHO | ISIG), 0);
	EQ(write(master, "\x03\x04", 2), 2);
	arrived(slave, 2);
	EQ(read(slave, b, 8), 2);
	EQ(b[0] * 10 + b[1], 34);
	t.c_cc[VMIN] = 0;
	t.c_cc[VTIME] = 1;
	OK(tcsetattr(slave, TCSADRAIN, &t));
	int64_t began = MONO;
	EQ(read(slave, b, 8), 0);
	took(__LINE__, began, 95);
	EQ(write(master, "lost", 4), 4);
	arrived(slave, 4);
	OK(tcflush(slave, TCIFLUSH));
	OK(ioctl(slave, FIONREAD, &n));
	EQ(n, 0);
	end_pty();
}

CASE(terminal_has_a_size)
{
	struct winsize w = {33, 77, 1, 2}, v = {0};
	make_pty();
	OK(ioctl(master, TIOCSWINSZ, &w));
	OK(ioctl(slave, TIOCGWINSZ, &v));
	EQ(v.ws_row * 1000 + v.ws_col, 33077);
	EQ(v.ws_xpixel * 10 + v.ws_ypixel, 12);
	end_pty();
}

CASE(terminal_has_a_name)
{
	char b[64] = "";
	make_pty();
	EQ(isatty(slave), 1);
	EQ(ttyname_r(slave, b, sizeof b), 0);
	SAME(b, slave_name);
	int fd = temp("", 0);
	EQ(isatty(fd), 0);
	ERR(tcgetattr(fd, (struct termios *)b), ENOTTY);
	ERR(tcgetpgrp(slave), ENOTTY); /* it is nobody's controlling terminal */
	close(fd);
	end_pty();
}

CASE(terminal_read_waits)
{
	char b[16];
	make_pty();
	ask_friend(WISH_WRITE, wait_ms(), 3, '\n', master);
	EQ(read(slave, b, 16), 1);
	EQ(read(slave, b, 16), 1);
	end_pty();
}

CASE(terminal_hangs_up)
{
	char b[4];
	make_pty();
	close(slave);
	ERR(read(master, b, 4), EIO);
	slave = (int)OK(open(slave_name, O_RDWR | O_NOCTTY | O_CLOEXEC));
	close(master);
	EQ(read(slave, b, 4), 0);
	ERR(write(slave, "x", 1), EIO);
	struct pollfd f = {slave, POLLIN, 0};
	EQ(poll(&f, 1, 0), 1);
	EQ(f.revents & POLLHUP, POLLHUP);
	close(slave);
}

CASE(terminal_poll)
{
	make_pty();
	struct pollfd f = {slave, POLLIN | POLLOUT, 0};
	EQ(poll(&f, 1, 0), 1);
	EQ(f.revents, POLLOUT);
	EQ(write(master, "ab", 2), 2);
	EQ(poll(&f, 1, 0), 1);
	EQ(f.revents, POLLOUT); /* no line yet */
	EQ(write(master, "\n", 1), 1);
	EQ(poll(&f, 1, 1000), 1);
	EQ(f.revents & POLLIN, POLLIN);
	end_pty();
}

/* controlled makes the terminal the one of a fresh session, whose leader the calling child becomes. */
static void controlled(void)
{
	OK(setsid());
	OK(ioctl(slave, TIOCSCTTY, 0));
}

CASE(terminal_of_a_session)
{
	make_pty();
	IN_CHILD
	{
		controlled();
		EQ(tcgetpgrp(slave), getpid());
		EQ(tcgetsid(slave), getpid());
		int fd = (int)OK(open("/dev/tty", O_RDWR | O_CLOEXEC));
		EQ(tcgetpgrp(fd), getpid());
		close(fd);
		ERR(tcsetpgrp(slave, 99999999), ESRCH);
		signal(SIGHUP, SIG_IGN);
		OK(ioctl(slave, TIOCNOTTY));
		ERR(open("/dev/tty", O_RDWR), ENXIO);
	}
	end_pty();
}

CASE(terminal_interrupts_the_foreground)
{
	int st;
	make_pty();
	pid_t p = forked();
	if (p == 0) {
		controlled();
		signal(SIGINT, SIG_DFL);
		OK(write_all(slave, "r", 1));
		for (;;)
			pause();
	}
	char c;
	OK(read_all(master, &c, 1));
	EQ(write(master, "\x03", 1), 1);
	EQ(waitpid(p, &st, 0), p);
	EQ(st & 0x7f, SIGINT);
	forget(p);
	end_pty();
}

CASE(terminal_size_raises_a_signal)
{
	struct winsize w = {20, 70, 0, 0};
	make_pty();
	pid_t p = forked();
	if (p == 0) {
		controlled();
		block(SIGWINCH, 0);
		caught(SIGWINCH, 0);
		OK(write_all(slave, "r", 1));
		sigset_t s = set_of(SIGWINCH, 0);
		struct timespec t = {10, 0};
		_exit(sigtimedwait(&s, NULL, &t) == SIGWINCH ? 3 : 4);
	}
	char c;
	OK(read_all(master, &c, 1));
	OK(ioctl(master, TIOCSWINSZ, &w));
	EXITS(p, 3);
	end_pty();
}

CASE(background_read_stops)
{
	int st, fd[2];
	OK(pipe2(fd, O_CLOEXEC));
	make_pty();
	pid_t p = forked();
	if (p == 0) {
		controlled();
		pid_t c = forked();
		if (c == 0) {
			char b;
			OK(setpgid(0, 0));
			read(slave, &b, 1); /* SIGTTIN */
			_exit(b == 'y' ? 5 : 6);
		}
		EQ(waitpid(c, &st, WUNTRACED), c);
		EQ(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTTIN, 1);
		OK(tcsetpgrp(slave, c));
		OK(kill(-c, SIGCONT));
		OK(write_all(fd[1], "g", 1));
		EXITS(c, 5);
		_exit(0);
	}
	char c;
	OK(read_all(fd[0], &c, 1));
	EQ(write(master, "y\n", 2), 2);
	EXITS(p, 0);
	end_pty();
	close(fd[0]), close(fd[1]);
}

CASE(background_write_stops_if_told_to)
{
	int st;
	make_pty();
	pid_t p = forked();
	if (p == 0) {
		controlled();
		struct termios t;
		OK(tcgetattr(slave, &t));
		t.c_lflag |= TOSTOP;
		OK(tcsetattr(slave, TCSANOW, &t));
		pid_t c = forked();
		if (c == 0) {
			OK(setpgid(0, 0));
			_exit(write(slave, "w", 1) == 1 ? 7 : 8);
		}
		EQ(waitpid(c, &st, WUNTRACED), c);
		EQ(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTTOU, 1);
		OK(kill(c, SIGKILL));
		DIES(c, SIGKILL);
		c = forked();
		if (c == 0) { /* who ignores or blocks the signal may write, and set the foreground */
			OK(setpgid(0, 0));
			block(SIGTTOU, 0);
			OK(tcsetpgrp(slave, getpid()));
			_exit(write(slave, "w", 1) == 1 ? 7 : 8);
		}
		EXITS(c, 7);
		_exit(0);
	}
	EXITS(p, 0);
	end_pty();
}

CASE(session_leader_that_ends_hangs_up)
{
	make_pty();
	int fd[2];
	char c = 0;
	OK(pipe2(fd, O_CLOEXEC));
	pid_t p = forked();
	if (p == 0) {
		controlled();
		if (fork() == 0) { /* the foreground: it gets SIGHUP and SIGCONT */
			block(SIGHUP, 0);
			OK(write_all(fd[1], "r", 1));
			sigset_t s = set_of(SIGHUP, 0);
			struct timespec t = {10, 0};
			_exit(write_all(fd[1], sigtimedwait(&s, NULL, &t) == SIGHUP ? "h" : "n", 1));
		}
		OK(read_all(fd[0], &c, 1));
		_exit(0);
	}
	EXITS(p, 0);
	OK(read_all(fd[0], &c, 1));
	EQ(c, 'h');
	end_pty();
	close(fd[0]), close(fd[1]);
}
