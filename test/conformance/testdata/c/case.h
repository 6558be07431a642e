/*
 * case.h is what every program of the conformance suite shares: cases that check themselves, and how their results are told.
 *
 *   PROGRAM list                          prints the names of its cases
 *   PROGRAM run NAME SECONDS [wait]       runs one of them again and again for SECONDS, at least once
 *   PROGRAM as ROLE [ARGS…]               is what a case of exec turns into
 *
 * A case is one behaviour that POSIX or a manual page of Linux documents: result, errno, and what else is to be seen. It
 * leaves everything as it found it, so that it can be done again. A case that holds prints "ok NAME". The first thing that
 * is not as it is due prints "not ok NAME: …" and ends the program with 1.
 *
 * With "wait" the program says "pid N" on standard error and begins when it reads a byte: by then it has been moved.
 */
#ifndef CASE_H
#define CASE_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAYBE __attribute__((unused))

struct one_case {
	const char *name;
	void (*run)(void);
};
struct one_role {
	const char *name;
	int (*run)(int argc, char **argv);
};

/* CASE(name) { … } is a case: the linker collects them into a table. */
#define CASE(n)                                                                                            \
	static void case_##n(void);                                                                        \
	static const struct one_case entry_##n __attribute__((used, section("cases"), aligned(8))) = {#n, case_##n}; \
	static void case_##n(void)

/* ROLE(name) { … } is what the program does after an exec with "as NAME". */
#define ROLE(n)                                                                                            \
	static int role_##n(int argc, char **argv);                                                        \
	static const struct one_role rentry_##n __attribute__((used, section("roles"), aligned(8))) = {#n, role_##n}; \
	static int role_##n(MAYBE int argc, MAYBE char **argv)

extern const struct one_case __start_cases[], __stop_cases[];
extern const struct one_role __start_roles[] __attribute__((weak)), __stop_roles[] __attribute__((weak));

static const char *case_name = "?";
static char self_path[PATH_MAX]; /* this program's file */
static char scratch[64];	 /* a name in /tmp that no other run has */
static int away;		 /* it was moved before it began */
static int moving;		 /* it is being moved all the time */
static long rounds;
static pid_t me;

static pid_t children[256]; /* what fork gave: ended with the program when a case fails */
static int nchildren;

/* fail tells what is not as it is due, and ends everything. */
MAYBE __attribute__((format(printf, 2, 3), noreturn)) static void fail(int line, const char *fmt, ...)
{
	char b[900];
	int n = snprintf(b, sizeof b, "not ok %s: round %ld, line %d: ", case_name, rounds, line);
	va_list ap;
	va_start(ap, fmt);
	n += vsnprintf(b + n, sizeof b - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof b - 2)
		n = sizeof b - 2;
	b[n++] = '\n';
	if (write(1, b, (size_t)n) < 0)
		_exit(99);
	if (getpid() == me)
		for (int i = 0; i < nchildren; i++)
			kill(children[i], SIGKILL);
	_exit(1);
}

MAYBE static long long eq(int line, const char *what, long long got, int err, long long due)
{
	if (got != due)
		fail(line, "%s is %lld (errno %d %s), due is %lld", what, got, err, got < 0 ? strerror(err) : "", due);
	return got;
}

MAYBE static long long done(int line, const char *what, long long got, int err)
{
	if (got == -1)
		fail(line, "%s fails with errno %d (%s), due is success", what, err, strerror(err));
	return got;
}

MAYBE static void refused(int line, const char *what, long long got, int err, int due)
{
	if (got != -1)
		fail(line, "%s is %lld, due is errno %d (%s)", what, got, due, strerror(due));
	if (err != due)
		fail(line, "%s fails with errno %d (%s), due is %d (%s)", what, err, strerror(err), due, strerror(due));
}

/* The checks: a value, a success (which is the value), a failure with an errno, and anything else. */
#define CHECKED(x, how)                             \
	({                                          \
		errno = 0;                          \
		long long got_ = (long long)(x);    \
		int err_ = errno;                   \
		how;                                \
	})
#define EQ(x, due) CHECKED(x, eq(__LINE__, #x, got_, err_, (long long)(due)))
#define OK(x) CHECKED(x, done(__LINE__, #x, got_, err_))
#define ERR(x, due) CHECKED(x, refused(__LINE__, #x, got_, err_, due))
#define IS(c, ...)                                                  \
	do {                                                        \
		if (!(c))                                           \
			is_not(__LINE__, #c, ": " __VA_ARGS__);     \
	} while (0)
#define MAPPED(x) mapped(__LINE__, #x, x)
#define SAME(got, due) same_text(__LINE__, #got, got, due)

MAYBE __attribute__((format(printf, 3, 4), noreturn)) static void is_not(int line, const char *what, const char *fmt, ...)
{
	char b[500];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	fail(line, "%s does not hold%s", what, b);
}

MAYBE static void *mapped(int line, const char *what, void *p)
{
	if (p == MAP_FAILED)
		fail(line, "%s fails with errno %d (%s)", what, errno, strerror(errno));
	return p;
}

MAYBE static void same_text(int line, const char *what, const char *got, const char *due)
{
	if (got == NULL || strcmp(got, due) != 0)
		fail(line, "%s is \"%s\", due is \"%s\"", what, got == NULL ? "(null)" : got, due);
}

MAYBE static int64_t now_ms(clockid_t c)
{
	struct timespec ts;
	clock_gettime(c, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

#define MONO now_ms(CLOCK_MONOTONIC)

/*
 * A wait of wait_ms is long enough for some moves when there are any, and long enough that what a case waits for does not
 * happen before it has begun to wait.
 */
MAYBE static int wait_ms(void)
{
	return moving ? 400 : away ? 120 : 40;
}

/* took holds the time since began to what was asked for: never less, and not so much more that it was begun anew. */
MAYBE static void took(int line, int64_t began, int64_t asked)
{
	int64_t t = MONO - began;
	if (t < asked - 2 || t > asked + 1500) /* clocks of other ticks may round by one */
		fail(line, "it took %lld ms, due are %lld", (long long)t, (long long)asked);
}

MAYBE static void nap(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

MAYBE static pid_t gettid_(void)
{
	return (pid_t)syscall(SYS_gettid);
}

/* forked is fork, whose children end with a case that fails. */
#define forked() remember(__LINE__, fork())
MAYBE static pid_t remember(int line, pid_t p)
{
	if (p < 0)
		fail(line, "fork fails with errno %d (%s)", errno, strerror(errno));
	if (p == 0)
		nchildren = 0;
	else if (nchildren < 256)
		children[nchildren++] = p;
	return p;
}

MAYBE static void forget(pid_t p)
{
	for (int i = 0; i < nchildren; i++)
		if (children[i] == p)
			children[i--] = children[--nchildren];
}

/* ended waits for a child and holds its status to what is due. */
#define EXITS(pid, code) ended(__LINE__, pid, (code) << 8)
#define DIES(pid, sig) ended(__LINE__, pid, sig)
MAYBE static void ended(int line, pid_t p, int due)
{
	int st = -1;
	pid_t got;
	do
		got = waitpid(p, &st, 0);
	while (got < 0 && errno == EINTR);
	forget(p);
	if (got != p)
		fail(line, "waitpid(%d) is %d (errno %d %s)", p, got, errno, strerror(errno));
	if ((st & 0xff7f) != due)
		fail(line, "child %d ended with status 0x%x, due is 0x%x", p, st, due);
}

/* IN_CHILD { … } runs a block in a child that must end with 0; the block may use all checks. */
#define IN_CHILD for (pid_t child_ = forked(); child_ >= 0; child_ = child_ == 0 ? (_exit(0), 0) : (ended(__LINE__, child_, 0), -1)) if (child_ == 0)

MAYBE static int write_all(int fd, const void *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t k = write(fd, (const char *)p + at, n - at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		at += (size_t)k;
	}
	return 0;
}

MAYBE static int read_all(int fd, void *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t k = read(fd, (char *)p + at, n - at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		at += (size_t)k;
	}
	return 0;
}

/* slurp reads a file, or what is left of it, into b and ends it with a NUL. */
MAYBE static long slurp(const char *path, char *b, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	if (fd < 0)
		return -1;
	for (ssize_t k; n < size - 1 && (k = read(fd, b + n, size - 1 - n)) > 0;)
		n += (size_t)k;
	b[n] = 0;
	close(fd);
	return (long)n;
}

/* temp is a fresh file with n bytes of text, without a name. */
MAYBE static int temp(const char *text, size_t n)
{
	int fd = (int)OK(open(scratch, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	OK(unlink(scratch));
	EQ(write(fd, text, n), (ssize_t)n);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/*
 * The friend is a process that was born before any move and stays where it is: it does something a while later, so that a
 * case can wait for it without making a process.
 */
struct wish {
	int op;
	int after; /* milliseconds */
	int arg;
	int64_t value;
};
enum { WISH_WRITE = 1, WISH_KILL, WISH_QUEUE, WISH_READ, WISH_CLOSE, WISH_FLOCK, WISH_LOCK, WISH_CALL, WISH_QUEUE_TO };

static int friend_fd = -1;
static pid_t friend_pid;
#define CALLS 8
MAYBE static long (*friend_calls[CALLS])(long, int fd); /* set before main, by constructors */

MAYBE static void friend_main(int s, pid_t parent)
{
	for (;;) {
		struct wish w;
		char control[64];
		struct iovec v = {&w, sizeof w};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		int fd = -1;
		static char buf[65536];
		if (recvmsg(s, &m, MSG_CMSG_CLOEXEC) != sizeof w)
			_exit(0); /* the program has ended */
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		if (c != NULL && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
		int64_t answer = 0;
		if (w.op == WISH_FLOCK) /* held from before the answer until after the wait */
			answer = flock(fd, LOCK_EX);
		if (w.op == WISH_LOCK) {
			struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
			answer = fcntl(fd, F_SETLK, &l);
		}
		if (w.op != WISH_CALL && write(s, &answer, sizeof answer) != sizeof answer)
			_exit(0);
		nap(w.after);
		switch (w.op) {
		case WISH_WRITE:
			memset(buf, (int)w.value, sizeof buf);
			for (int n = w.arg; n > 0;) {
				ssize_t k = write(fd, buf, (size_t)(n < (int)sizeof buf ? n : (int)sizeof buf));
				if (k <= 0)
					break;
				n -= (int)k;
			}
			break;
		case WISH_READ:
			for (int n = w.arg; n > 0;) {
				ssize_t k = read(fd, buf, (size_t)(n < (int)sizeof buf ? n : (int)sizeof buf));
				if (k <= 0)
					break;
				n -= (int)k;
			}
			break;
		case WISH_KILL:
			kill(parent, w.arg);
			if (w.value > 0) { /* who is stopped can ask for nothing */
				nap((int)w.value);
				kill(parent, SIGCONT);
			}
			break;
		case WISH_QUEUE:
			sigqueue(parent, w.arg, (union sigval){.sival_ptr = (void *)w.value});
			break;
		case WISH_QUEUE_TO: { /* to the one thread that value names */
			siginfo_t si = {.si_signo = w.arg, .si_code = SI_QUEUE};
			si.si_pid = getpid(), si.si_value.sival_int = 9;
			syscall(SYS_rt_tgsigqueueinfo, parent, (pid_t)w.value, w.arg, &si);
			break;
		}
		case WISH_CALL:
			answer = friend_calls[w.arg]((long)w.value, fd);
			if (write(s, &answer, sizeof answer) != sizeof answer)
				_exit(0);
			break;
		}
		close(fd); /* also for WISH_CLOSE, WISH_FLOCK and WISH_LOCK */
	}
}

MAYBE static void friend_start(void)
{
	int s[2];
	pid_t parent = getpid();
	OK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s));
	friend_pid = fork();
	if (friend_pid == 0) {
		close(s[0]);
		signal(SIGINT, SIG_IGN);
		friend_main(s[1], parent);
	}
	close(s[1]);
	friend_fd = s[0];
}

/* ask_friend has op done after a while; it returns when the friend has begun to wait. A descriptor below 0 is none. */
MAYBE static int64_t ask_friend(int op, int after, int arg, int64_t value, int fd)
{
	struct wish w = {op, after, arg, value};
	union {
		char b[CMSG_SPACE(sizeof fd)];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec v = {&w, sizeof w};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	int64_t answer = -1;
	if (fd >= 0) {
		m.msg_control = control.b;
		m.msg_controllen = sizeof control.b;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	EQ(sendmsg(friend_fd, &m, MSG_NOSIGNAL), sizeof w);
	ssize_t k;
	do
		k = read(friend_fd, &answer, sizeof answer);
	while (k < 0 && errno == EINTR);
	EQ(k, sizeof answer);
	return answer;
}

/* seen is what a handler notes. */
static volatile sig_atomic_t seen;
static volatile siginfo_t seen_info; /* volatile: glibc declares its calls as leaves, which call nothing of ours */

MAYBE static void note(int sig, siginfo_t *si, MAYBE void *uc)
{
	seen_info = *si;
	seen = seen * 100 + sig;
}

/* caught sets note as the handler of sig and forgets what was seen. */
MAYBE static void caught(int sig, int flags)
{
	struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | flags};
	seen = 0;
	seen_info = (siginfo_t){0};
	OK(sigaction(sig, &a, NULL));
}

MAYBE static sigset_t set_of(int a, int b)
{
	sigset_t s;
	sigemptyset(&s);
	if (a)
		sigaddset(&s, a);
	if (b)
		sigaddset(&s, b);
	return s;
}

MAYBE static void block(int a, int b)
{
	sigset_t s = set_of(a, b);
	OK(sigprocmask(SIG_BLOCK, &s, NULL));
}

MAYBE static void unblock(int a, int b)
{
	sigset_t s = set_of(a, b);
	OK(sigprocmask(SIG_UNBLOCK, &s, NULL));
}

static int open_files(void)
{
	int n = 0;
	for (int fd = 0; fd < 80; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void run_case(const struct one_case *c, double seconds, int wait)
{
	me = getpid();
	away = wait;
	moving = seconds > 0 && wait;
	friend_start();
	int files = open_files();
	if (wait) {
		char go;
		dprintf(2, "pid %d\n", me);
		if (read_all(0, &go, 1) != 0)
			_exit(98);
	}
	int64_t began = MONO;
	do {
		rounds++;
		c->run();
		EQ(getpid(), me);
	} while ((double)(MONO - began) < seconds * 1000);
	int left = open_files() - files;
	IS(left == 0, "%d more descriptors are open than before", left);
	close(friend_fd);
	waitpid(friend_pid, NULL, 0);
	dprintf(1, "ok %s\n", c->name);
	dprintf(2, "%ld rounds\n", rounds);
}

int main(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
	if (n <= 0)
		return 97;
	self_path[n] = 0;
	snprintf(scratch, sizeof scratch, "/tmp/conformance.%d", getpid());
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (const struct one_case *c = __start_cases; c < __stop_cases; c++)
			puts(c->name);
		return 0;
	}
	if (argc >= 3 && strcmp(argv[1], "as") == 0)
		for (const struct one_role *r = __start_roles; r < __stop_roles; r++)
			if (strcmp(r->name, argv[2]) == 0) {
				case_name = r->name;
				me = getpid();
				return r->run(argc - 3, argv + 3);
			}
	if (argc >= 4 && strcmp(argv[1], "run") == 0)
		for (const struct one_case *c = __start_cases; c < __stop_cases; c++)
			if (strcmp(c->name, argv[2]) == 0) {
				case_name = c->name;
				for (int s = 1; s <= 64; s++) /* who starts us may ignore some, as nohup does */
					signal(s, SIG_DFL);
				run_case(c, atof(argv[3]), argc > 4);
				return 0;
			}
	fprintf(stderr, "usage: %s list | run NAME SECONDS [wait] | as ROLE\n", argv[0]);
	return 2;
}
#endif
