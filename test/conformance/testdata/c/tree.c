/* Group 1: the process tree, its fork(2), vfork(2), wait(2), waitid(2), exit(3), setsid(2) and setpgid(2). */
#include "case.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

CASE(fork_exit_status)
{
	pid_t p = forked();
	if (p == 0)
		_exit(7);
	EXITS(p, 7);
}

CASE(fork_exit_status_has_8_bits)
{
	pid_t p = forked();
	if (p == 0)
		_exit(0x1203);
	EXITS(p, 3);
}

CASE(fork_killed_status)
{
	pid_t p = forked();
	if (p == 0)
		for (;;)
			pause();
	OK(kill(p, SIGKILL));
	DIES(p, SIGKILL);
}

CASE(fork_numbers_agree)
{
	int fd[2];
	pid_t told[2];
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		told[0] = getpid();
		told[1] = getppid();
		_exit(write_all(fd[1], told, sizeof told) != 0);
	}
	OK(read_all(fd[0], told, sizeof told));
	EQ(told[0], p);
	EQ(told[1], me);
	EXITS(p, 0);
	close(fd[0]);
	close(fd[1]);
}

static volatile int variable;

CASE(fork_memory_is_private)
{
	variable = 1;
	pid_t p = forked();
	if (p == 0) {
		variable = 2;
		_exit(variable);
	}
	EXITS(p, 2);
	EQ(variable, 1);
}

CASE(fork_shares_file_offset)
{
	int fd = temp("0123456789", 10);
	pid_t p = forked();
	if (p == 0)
		_exit(lseek(fd, 4, SEEK_SET) != 4);
	EXITS(p, 0);
	EQ(lseek(fd, 0, SEEK_CUR), 4);
	close(fd);
}

CASE(fork_descriptors_are_copies)
{
	int fd = temp("x", 1);
	pid_t p = forked();
	if (p == 0)
		_exit(close(fd) != 0);
	EXITS(p, 0);
	OK(fcntl(fd, F_GETFD));
	close(fd);
}

CASE(fork_clears_pending_signals)
{
	sigset_t s;
	caught(SIGUSR1, 0);
	block(SIGUSR1, 0);
	OK(raise(SIGUSR1));
	IN_CHILD
	{
		OK(sigpending(&s));
		EQ(sigismember(&s, SIGUSR1), 0);
	}
	OK(sigpending(&s));
	EQ(sigismember(&s, SIGUSR1), 1);
	unblock(SIGUSR1, 0);
	EQ(seen, SIGUSR1);
	signal(SIGUSR1, SIG_DFL);
}

CASE(fork_keeps_mask_and_handlers)
{
	caught(SIGUSR2, 0);
	signal(SIGHUP, SIG_IGN);
	block(SIGTERM, 0);
	IN_CHILD
	{
		sigset_t s;
		struct sigaction a;
		OK(sigprocmask(SIG_BLOCK, NULL, &s));
		EQ(sigismember(&s, SIGTERM), 1);
		EQ(sigismember(&s, SIGUSR2), 0);
		OK(sigaction(SIGUSR2, NULL, &a));
		IS(a.sa_sigaction == note);
		OK(sigaction(SIGHUP, NULL, &a));
		IS(a.sa_handler == SIG_IGN);
		OK(raise(SIGUSR2));
		EQ(seen, SIGUSR2);
	}
	EQ(seen, 0);
	unblock(SIGTERM, 0);
	signal(SIGUSR2, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
}

CASE(fork_clears_alarm_and_timers)
{
	struct itimerval v = {{0, 0}, {100, 0}};
	OK(setitimer(ITIMER_REAL, &v, NULL));
	IN_CHILD
	{
		EQ(alarm(0), 0);
		OK(getitimer(ITIMER_REAL, &v));
		EQ(v.it_value.tv_sec, 0);
	}
	OK(getitimer(ITIMER_REAL, &v));
	IS(v.it_value.tv_sec > 90, "%ld s are left of 100", (long)v.it_value.tv_sec);
	IS(alarm(0) > 90);
}

CASE(fork_clears_times)
{
	struct rusage u;
	for (int64_t t = MONO; MONO - t < 30;)
		;
	IN_CHILD
	{
		OK(getrusage(RUSAGE_SELF, &u));
		IS(u.ru_utime.tv_sec == 0 && u.ru_utime.tv_usec < 25000, "%ld us", (long)u.ru_utime.tv_usec);
		OK(getrusage(RUSAGE_CHILDREN, &u));
		EQ(u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec, 0);
	}
}

CASE(fork_drops_record_locks)
{
	int fd = temp("0123456789", 10);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 5};
	OK(fcntl(fd, F_SETLK, &l));
	IN_CHILD
	{
		l.l_type = F_WRLCK;
		OK(fcntl(fd, F_GETLK, &l));
		EQ(l.l_type, F_WRLCK);
		EQ(l.l_pid, getppid());
		l.l_type = F_RDLCK;
		ERR(fcntl(fd, F_SETLK, &l), EAGAIN);
	}
	close(fd);
}

CASE(fork_keeps_cwd_and_umask)
{
	char was[PATH_MAX], is[PATH_MAX];
	IS(getcwd(was, sizeof was) != NULL);
	mode_t m = umask(027);
	OK(chdir("/tmp"));
	IN_CHILD
	{
		IS(getcwd(is, sizeof is) != NULL);
		SAME(is, "/tmp");
		EQ(umask(0), 027);
		OK(chdir("/"));
	}
	IS(getcwd(is, sizeof is) != NULL);
	SAME(is, "/tmp");
	EQ(umask(m), 027);
	OK(chdir(was));
}

CASE(fork_of_a_fork_of_a_fork)
{
	for (int depth = 0;; depth++) {
		pid_t p = forked();
		if (p != 0) {
			EXITS(p, 6 - depth);
			if (depth > 0)
				_exit(6 - depth + 1);
			return;
		}
		if (depth == 5)
			_exit(1);
	}
}

CASE(fork_of_many)
{
	pid_t p[12];
	int left = 0;
	for (int i = 0; i < 12; i++) {
		p[i] = forked();
		if (p[i] == 0)
			_exit(i + 1);
		left++;
	}
	while (left-- > 0) {
		int st, i = 0;
		pid_t got = (pid_t)OK(wait(&st));
		while (i < 12 && p[i] != got)
			i++;
		IS(i < 12, "wait gives %d, which is no child", got);
		EQ(WEXITSTATUS(st), i + 1);
		forget(got);
	}
	ERR(waitpid(p[0], NULL, WNOHANG), ECHILD);
}

CASE(vfork_shares_memory_until_exit)
{
	variable = 1;
	pid_t p = vfork();
	if (p == 0) {
		variable = 5;
		_exit(3);
	}
	EQ(variable, 5);
	EXITS(p, 3);
}

CASE(vfork_exec)
{
	pid_t p = vfork();
	if (p == 0) {
		execl("/bin/false", "false", NULL);
		_exit(99);
	}
	EXITS(p, 1);
}

CASE(wait_without_children)
{
	IN_CHILD
	{
		ERR(wait(NULL), ECHILD);
		ERR(waitpid(-1, NULL, WNOHANG), ECHILD);
		siginfo_t si;
		ERR(waitid(P_ALL, 0, &si, WEXITED), ECHILD);
		ERR(waitpid(1, NULL, 0), ECHILD);
		ERR(waitpid(-1, NULL, 0x100), EINVAL);
		ERR(waitid(P_ALL, 0, &si, 0), EINVAL);
	}
}

CASE(wait_nohang)
{
	int fd[2], st = 77;
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		char c;
		_exit(read(fd[0], &c, 1) != 1);
	}
	EQ(waitpid(p, &st, WNOHANG), 0);
	EQ(st, 77);
	siginfo_t si;
	memset(&si, 7, sizeof si);
	OK(waitid(P_PID, (id_t)p, &si, WEXITED | WNOHANG));
	EQ(si.si_pid, 0);
	EQ(si.si_signo, 0);
	EQ(write(fd[1], "x", 1), 1);
	EXITS(p, 0);
	close(fd[0]);
	close(fd[1]);
}

CASE(wait_by_process_group)
{
	pid_t p = forked();
	if (p == 0) {
		nap(10);
		_exit(2);
	}
	OK(setpgid(p, p));
	int st;
	ERR(waitpid(-friend_pid, &st, WNOHANG), ECHILD);
	EQ(waitpid(-p, &st, 0), p);
	EQ(st, 2 << 8);
	forget(p);
}

CASE(waitid_nowait_leaves_the_zombie)
{
	siginfo_t si = {0};
	pid_t p = forked();
	if (p == 0)
		_exit(33);
	for (int i = 0; i < 2; i++) {
		OK(waitid(P_PID, (id_t)p, &si, WEXITED | WNOWAIT));
		EQ(si.si_signo, SIGCHLD);
		EQ(si.si_code, CLD_EXITED);
		EQ(si.si_pid, p);
		EQ(si.si_uid, getuid());
		EQ(si.si_status, 33);
	}
	OK(kill(p, 0));
	EXITS(p, 33);
	ERR(kill(p, 0), ESRCH);
}

CASE(wait_stopped_and_continued)
{
	int st;
	pid_t p = forked();
	if (p == 0)
		for (;;)
			pause();
	OK(kill(p, SIGSTOP));
	EQ(waitpid(p, &st, WUNTRACED), p);
	EQ(WIFSTOPPED(st), 1);
	EQ(WSTOPSIG(st), SIGSTOP);
	EQ(waitpid(p, &st, WUNTRACED | WNOHANG), 0);
	OK(kill(p, SIGCONT));
	EQ(waitpid(p, &st, WCONTINUED), p);
	EQ(WIFCONTINUED(st), 1);
	OK(kill(p, SIGTERM));
	DIES(p, SIGTERM);
}

CASE(waitid_stopped_and_killed)
{
	siginfo_t si = {0};
	pid_t p = forked();
	if (p == 0) {
		raise(SIGTSTP);
		for (;;)
			pause();
	}
	OK(kill(p, SIGSTOP)); /* a SIGTSTP to an orphaned group would be ignored */
	OK(waitid(P_PID, (id_t)p, &si, WSTOPPED));
	EQ(si.si_code, CLD_STOPPED);
	IS(si.si_status == SIGSTOP || si.si_status == SIGTSTP);
	OK(kill(p, SIGKILL));
	OK(waitid(P_PID, (id_t)p, &si, WEXITED));
	EQ(si.si_code, CLD_KILLED);
	EQ(si.si_status, SIGKILL);
	forget(p);
}

CASE(wait4_rusage_of_the_child)
{
	struct rusage u;
	int st;
	pid_t p = forked();
	if (p == 0) {
		struct timespec t;
		do
			clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
		while (t.tv_sec == 0 && t.tv_nsec < 40000000);
		_exit(0);
	}
	memset(&u, 0xee, sizeof u);
	EQ(wait4(p, &st, 0, &u), p);
	forget(p);
	EQ(st, 0);
	long us = u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec;
	IS(us >= 30000 && us < 5000000, "%ld us", us);
}

CASE(sigchld_tells_of_the_child)
{
	caught(SIGCHLD, 0);
	pid_t p = forked();
	if (p == 0)
		_exit(11);
	EXITS(p, 11);
	EQ(seen, SIGCHLD);
	EQ(seen_info.si_code, CLD_EXITED);
	EQ(seen_info.si_pid, p);
	EQ(seen_info.si_uid, getuid());
	EQ(seen_info.si_status, 11);
	signal(SIGCHLD, SIG_DFL);
}

CASE(sigchld_of_a_killed_child)
{
	caught(SIGCHLD, 0);
	pid_t p = forked();
	if (p == 0)
		for (;;)
			pause();
	OK(kill(p, SIGTERM));
	DIES(p, SIGTERM);
	EQ(seen_info.si_code, CLD_KILLED);
	EQ(seen_info.si_status, SIGTERM);
	signal(SIGCHLD, SIG_DFL);
}

CASE(sigchld_nocldstop)
{
	int st;
	caught(SIGCHLD, SA_NOCLDSTOP);
	pid_t p = forked();
	if (p == 0)
		for (;;)
			pause();
	OK(kill(p, SIGSTOP));
	EQ(TEMP_FAILURE_RETRY(waitpid(p, &st, WUNTRACED)), p);
	EQ(seen, 0);
	OK(kill(p, SIGKILL));
	DIES(p, SIGKILL);
	EQ(seen, SIGCHLD);
	signal(SIGCHLD, SIG_DFL);
}

CASE(sigchld_ignored_reaps)
{
	IN_CHILD
	{
		signal(SIGCHLD, SIG_IGN);
		pid_t p = forked();
		if (p == 0)
			_exit(1);
		ERR(waitpid(p, NULL, 0), ECHILD);
		ERR(kill(p, 0), ESRCH);
	}
}

CASE(sigchld_nocldwait_reaps)
{
	IN_CHILD
	{
		caught(SIGCHLD, SA_NOCLDWAIT | SA_RESTART);
		pid_t p = forked();
		if (p == 0)
			_exit(1);
		ERR(waitpid(p, NULL, 0), ECHILD);
		EQ(seen, SIGCHLD);
	}
}

CASE(orphan_goes_to_the_subreaper)
{
	int fd[2];
	pid_t told[2];
	OK(pipe(fd));
	OK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	pid_t p = forked();
	if (p == 0) {
		pid_t middle = getpid(), g = fork();
		if (g == 0) {
			while (getppid() == middle)
				nap(1);
			told[0] = getpid();
			told[1] = getppid();
			_exit(write_all(fd[1], told, sizeof told) ? 1 : 21);
		}
		_exit(0);
	}
	EXITS(p, 0);
	OK(read_all(fd[0], told, sizeof told));
	EQ(told[1], me);
	EXITS(told[0], 21);
	OK(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0));
	close(fd[0]);
	close(fd[1]);
}

CASE(orphan_without_subreaper_leaves)
{
	int fd[2];
	pid_t told = 0;
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		pid_t middle = getpid();
		if (fork() == 0) {
			while (getppid() == middle)
				nap(1);
			told = getppid();
			_exit(write_all(fd[1], &told, sizeof told));
		}
		_exit(0);
	}
	EXITS(p, 0);
	OK(read_all(fd[0], &told, sizeof told));
	IS(told != me && told != p, "the orphan's parent is %d", told);
	close(fd[0]);
	close(fd[1]);
}

CASE(setsid_makes_session_and_group)
{
	IN_CHILD
	{
		pid_t p = getpid();
		EQ(setsid(), p);
		EQ(getsid(0), p);
		EQ(getpgrp(), p);
		ERR(setsid(), EPERM);
		ERR(setpgid(0, 0), EPERM);
		ERR(open("/dev/tty", O_RDWR), ENXIO);
	}
}

CASE(setpgid_of_a_child)
{
	int fd[2];
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		char c;
		OK(read_all(fd[0], &c, 1));
		EQ(getpgrp(), getpid());
		_exit(0);
	}
	EQ(getpgid(p), getpgrp());
	OK(setpgid(p, 0));
	EQ(getpgid(p), p);
	EQ(getsid(p), getsid(0));
	EQ(write(fd[1], "x", 1), 1);
	EXITS(p, 0);
	ERR(getpgid(p), ESRCH);
	close(fd[0]);
	close(fd[1]);
}

CASE(setpgid_refuses)
{
	ERR(setpgid(0, -1), EINVAL);
	ERR(setpgid(1, 0), ESRCH);
	IN_CHILD
	{
		OK(setpgid(0, 0));
		ERR(setpgid(0, 1), EPERM);
	}
}

CASE(kill_of_a_process_group)
{
	pid_t a = forked();
	if (a == 0)
		for (;;)
			pause();
	OK(setpgid(a, a));
	pid_t b = forked();
	if (b == 0)
		for (;;)
			pause();
	OK(setpgid(b, a));
	OK(kill(-a, SIGTERM));
	DIES(a, SIGTERM);
	DIES(b, SIGTERM);
	ERR(kill(-a, 0), ESRCH);
}

CASE(pdeathsig_when_the_parent_ends)
{
	int fd[2];
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGUSR1);
			block(SIGUSR1, 0);
			sigset_t s = set_of(SIGUSR1, 0);
			siginfo_t si;
			OK(write_all(fd[1], "r", 1));
			struct timespec t = {10, 0};
			int got = sigtimedwait(&s, &si, &t);
			_exit(write_all(fd[1], got == SIGUSR1 ? "y" : "n", 1));
		}
		for (;;)
			pause();
	}
	char c;
	OK(read_all(fd[0], &c, 1));
	EQ(kill(p, SIGKILL), 0);
	DIES(p, SIGKILL);
	OK(read_all(fd[0], &c, 1));
	EQ(c, 'y');
	close(fd[0]);
	close(fd[1]);
}

static int at_exit_fd;
static void at_exit_1(void) { write_all(at_exit_fd, "1", 1); }
static void at_exit_2(void) { write_all(at_exit_fd, "2", 1); }

CASE(exit_runs_handlers_backwards)
{
	int fd[2];
	char b[3] = "";
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		at_exit_fd = fd[1];
		atexit(at_exit_1);
		atexit(at_exit_2);
		exit(0);
	}
	EXITS(p, 0);
	OK(read_all(fd[0], b, 2));
	SAME(b, "21");
	close(fd[0]);
	close(fd[1]);
}

CASE(exit_closes_descriptors)
{
	int fd[2];
	char c;
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		close(fd[0]);
		nap(5);
		_exit(0);
	}
	close(fd[1]);
	EQ(read(fd[0], &c, 1), 0);
	EXITS(p, 0);
	close(fd[0]);
}

static pid_t first_parent;
__attribute__((constructor)) static void at_the_start(void) { first_parent = getppid(); }

CASE(parent_group_and_session_are_constant)
{
	EQ(getppid(), first_parent);
	EQ(getpgid(0), getpgrp());
	EQ(getpgid(me), getpgrp());
	EQ(getsid(0), getsid(me));
}

CASE(pidfd_of_self_and_child)
{
	pid_t p = forked();
	if (p == 0)
		for (;;)
			pause();
	int fd = (int)OK(syscall(SYS_pidfd_open, p, 0));
	struct pollfd f = {fd, POLLIN, 0};
	EQ(poll(&f, 1, 0), 0);
	OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
	EQ(poll(&f, 1, 5000), 1);
	DIES(p, SIGKILL);
	ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
	close(fd);
	ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
	fd = (int)OK(syscall(SYS_pidfd_open, me, 0));
	OK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	close(fd);
}

static int last_pipe[2];

static void *goes_on_alone(void *of)
{
	char b[8] = "";
	EQ(pthread_join(*(pthread_t *)of, NULL), 0);
	nap(10);
	EQ(read(last_pipe[0], b, 5), 5);
	EQ(memcmp(b, "hello", 5), 0);
	caught(SIGUSR1, 0);
	OK(kill(getpid(), SIGUSR1));
	EQ(seen, SIGUSR1);
	IN_CHILD { IS(getppid() != 1); }
	EQ(write(last_pipe[1], "alone", 5), 5);
	syscall(SYS_exit, 3);
	return NULL;
}

/* The first thread of a process ends, and another one goes on: with its memory, its number, its children, its signals. */
CASE(first_thread_ends)
{
	char b[8] = "";
	int there[2], back[2];
	OK(pipe(there));
	OK(pipe(back));
	pid_t k = forked();
	if (k == 0) {
		static pthread_t self;
		pthread_t t;
		last_pipe[0] = there[0], last_pipe[1] = back[1];
		self = pthread_self();
		if (pthread_create(&t, NULL, goes_on_alone, &self) != 0)
			_exit(9);
		nap(20);
		pthread_exit(NULL);
	}
	nap(wait_ms());
	OK(write(there[1], "hello", 5));
	EQ(read(back[0], b, 5), 5);
	EQ(memcmp(b, "alone", 5), 0);
	EXITS(k, 3); /* the status of the last one */
	for (int i = 0; i < 2; i++)
		close(there[i]), close(back[i]);
}
