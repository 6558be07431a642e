/* Group 2: exec, what a process keeps and what it loses. execve(2), execveat(2), posix_spawn(3), system(3). */
#include "case.h"
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/time.h>

/* May it leave a core file, a guest has handlers of mosix's own for faults, which nobody sees. */
__attribute__((constructor)) static void may_leave_a_core_file(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_CORE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_CORE, &l);
	}
}

extern char **environ;

/* becomes runs this program as a role in a child that has just been forked, and holds its status to what is due. */
#define EXEC(role, ...)                                                                                  \
	do {                                                                                             \
		char *argv_[] = {(char *)"self", (char *)"as", (char *)role, ##__VA_ARGS__, NULL};       \
		execv(self_path, argv_);                                                                 \
		fail(__LINE__, "exec of %s: errno %d (%s)", self_path, errno, strerror(errno));          \
	} while (0)

static char *number(long n)
{
	static char b[8][24];
	static int i;
	char *p = b[i++ % 8];
	snprintf(p, sizeof b[0], "%ld", n);
	return p;
}

ROLE(arguments)
{
	EQ(argc, 4);
	SAME(argv[0], "one");
	SAME(argv[1], "");
	SAME(argv[2], "three with blanks");
	EQ(strlen(argv[3]), 5000);
	SAME(getenv("CASE_A"), "b=c");
	IS(getenv("HOME") == NULL);
	return 17;
}

CASE(exec_passes_arguments_and_environment)
{
	pid_t p = forked();
	if (p == 0) {
		char longer[5001];
		memset(longer, 'l', 5000);
		longer[5000] = 0;
		char *argv[] = {"self", "as", "arguments", "one", "", "three with blanks", longer, NULL};
		char *env[] = {"CASE_A=b=c", NULL};
		execve(self_path, argv, env);
		_exit(99);
	}
	EXITS(p, 17);
}

ROLE(same_numbers)
{
	EQ(getpid(), atol(argv[0]));
	EQ(getppid(), atol(argv[1]));
	EQ(getpgrp(), atol(argv[2]));
	EQ(getsid(0), atol(argv[3]));
	EQ(gettid_(), getpid());
	return 0;
}

CASE(exec_keeps_numbers)
{
	pid_t p = forked();
	if (p == 0) {
		OK(setpgid(0, 0));
		EXEC("same_numbers", number(getpid()), number(getppid()), number(getpgrp()), number(getsid(0)));
	}
	EXITS(p, 0);
}

ROLE(descriptors)
{
	char b[4] = "";
	ERR(fcntl((int)atol(argv[0]), F_GETFD), EBADF);
	EQ(fcntl((int)atol(argv[1]), F_GETFD), 0);
	EQ(lseek((int)atol(argv[1]), 0, SEEK_CUR), 3);
	EQ(read((int)atol(argv[1]), b, 3), 3);
	SAME(b, "345");
	return 0;
}

CASE(exec_closes_on_exec_and_keeps_the_rest)
{
	int gone = temp("a", 1), kept = temp("0123456789", 10);
	OK(fcntl(kept, F_SETFD, 0));
	EQ(lseek(kept, 3, SEEK_SET), 3);
	pid_t p = forked();
	if (p == 0)
		EXEC("descriptors", number(gone), number(kept));
	EXITS(p, 0);
	EQ(lseek(kept, 0, SEEK_CUR), 6);
	OK(fcntl(gone, F_GETFD));
	close(gone);
	close(kept);
}

ROLE(signals)
{
	struct sigaction a;
	sigset_t s;
	stack_t st;
	OK(sigaction(SIGUSR1, NULL, &a));
	IS(a.sa_handler == SIG_DFL);
	OK(sigaction(SIGUSR2, NULL, &a));
	IS(a.sa_handler == SIG_IGN);
	OK(sigprocmask(SIG_BLOCK, NULL, &s));
	EQ(sigismember(&s, SIGTERM), 1);
	EQ(sigismember(&s, SIGINT), 0);
	OK(sigpending(&s));
	EQ(sigismember(&s, SIGTERM), 1);
	EQ(sigismember(&s, SIGHUP), 0);
	OK(sigaltstack(NULL, &st));
	EQ(st.ss_flags, SS_DISABLE);
	caught(SIGTERM, 0);
	unblock(SIGTERM, 0);
	EQ(seen, SIGTERM);
	EQ(seen_info.si_pid, getpid());
	return 0;
}

static char other_stack[65536];

CASE(exec_and_signals)
{
	pid_t p = forked();
	if (p == 0) {
		stack_t st = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
		OK(sigaltstack(&st, NULL));
		caught(SIGUSR1, 0);
		signal(SIGUSR2, SIG_IGN);
		block(SIGTERM, 0);
		OK(kill(getpid(), SIGTERM));
		EXEC("signals");
	}
	EXITS(p, 0);
}

ROLE(timers)
{
	struct itimerval v;
	struct itimerspec ts;
	OK(getitimer(ITIMER_REAL, &v));
	IS(v.it_value.tv_sec >= 90 && v.it_value.tv_sec < 100, "%ld s", (long)v.it_value.tv_sec);
	ERR(syscall(SYS_timer_gettime, (int)atol(argv[0]), &ts), EINVAL);
	return 0;
}

CASE(exec_keeps_the_alarm_and_drops_posix_timers)
{
	pid_t p = forked();
	if (p == 0) {
		int id = -1;
		struct sigevent e = {.sigev_notify = SIGEV_NONE};
		struct itimerspec ts = {{0, 0}, {100, 0}};
		alarm(100);
		OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &id));
		OK(syscall(SYS_timer_settime, id, 0, &ts, NULL));
		EXEC("timers", number(id));
	}
	EXITS(p, 0);
}

ROLE(surroundings)
{
	char b[PATH_MAX];
	struct rlimit r;
	int sig = 0;
	IS(getcwd(b, sizeof b) != NULL);
	SAME(b, "/usr");
	EQ(umask(0), 0137);
	OK(getrlimit(RLIMIT_NOFILE, &r));
	EQ(r.rlim_cur, 77);
	EQ(getpriority(PRIO_PROCESS, 0), atoi(argv[0]));
	OK(prctl(PR_GET_PDEATHSIG, &sig));
	EQ(sig, SIGHUP);
	EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	EQ(prctl(PR_GET_CHILD_SUBREAPER, &sig), 0);
	EQ(sig, 1);
	return 0;
}

CASE(exec_keeps_its_surroundings)
{
	pid_t p = forked();
	if (p == 0) {
		struct rlimit r = {77, 77};
		OK(chdir("/usr"));
		umask(0137);
		OK(setrlimit(RLIMIT_NOFILE, &r));
		int niceness = getpriority(PRIO_PROCESS, 0) + 3;
		EQ(nice(3), niceness);
		OK(prctl(PR_SET_PDEATHSIG, SIGHUP));
		OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
		EXEC("surroundings", number(niceness));
	}
	EXITS(p, 0);
}

static void file_with(const char *text, mode_t mode)
{
	int fd = (int)OK(open(scratch, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700));
	OK(write_all(fd, text, strlen(text)));
	OK(fchmod(fd, mode));
	close(fd);
}

CASE(exec_that_fails_changes_nothing)
{
	char *argv[] = {"x", NULL}, name[PATH_MAX + 100], **huge = calloc(200, sizeof *huge);
	int fd = temp("abc", 3);
	pid_t tid = gettid_();
	caught(SIGUSR1, 0);
	ERR(execv("/no/such/file", argv), ENOENT);
	ERR(execv("", argv), ENOENT);
	ERR(execv("/etc/passwd/x", argv), ENOTDIR);
	ERR(execv("/etc/passwd", argv), EACCES);
	ERR(execv("/tmp", argv), EACCES);
	ERR(syscall(SYS_execve, (char *)16, argv, environ), EFAULT);
	ERR(syscall(SYS_execve, "/bin/true", (char **)16, environ), EFAULT);
	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = 0;
	ERR(execv(name, argv), ENAMETOOLONG);
	char *big = malloc(140000); /* more than MAX_ARG_STRLEN */
	memset(big, 'b', 139999);
	big[139999] = 0;
	huge[0] = big;
	ERR(execv("/bin/true", huge), E2BIG);
	free(big);
	free(huge);
	OK(raise(SIGUSR1));
	EQ(seen, SIGUSR1);
	OK(fcntl(fd, F_GETFD));
	EQ(gettid_(), tid);
	close(fd);
	signal(SIGUSR1, SIG_DFL);
}

CASE(exec_of_no_program)
{
	char *argv[] = {"x", NULL};
	file_with("neither a program nor a script\n", 0700);
	ERR(execv(scratch, argv), ENOEXEC);
	OK(chmod(scratch, 0600));
	ERR(execv(scratch, argv), EACCES);
	OK(unlink(scratch));
	OK(symlink(scratch, scratch));
	ERR(execv(scratch, argv), ELOOP);
	OK(unlink(scratch));
	file_with("#!/no/such/interpreter\n", 0700);
	ERR(execv(scratch, argv), ENOENT);
	OK(unlink(scratch));
}

CASE(exec_of_a_file_that_is_written)
{
	char *argv[] = {"x", NULL};
	file_with("#!/bin/sh\nexit 3\n", 0700);
	int fd = (int)OK(open(scratch, O_WRONLY | O_CLOEXEC));
	ERR(execv(scratch, argv), ETXTBSY);
	close(fd);
	pid_t p = forked();
	if (p == 0) {
		execv(scratch, argv);
		_exit(99);
	}
	EXITS(p, 3);
	OK(unlink(scratch));
}

CASE(exec_of_a_script)
{
	char b[200] = "", due[300];
	int fd[2];
	file_with("#!/bin/sh -e\necho \"$0|$1|$#|$-\"\nexit 4\n", 0700);
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		dup2(fd[1], 1);
		execl(scratch, "ignored", "first", "second", NULL);
		_exit(99);
	}
	close(fd[1]);
	for (size_t n = 0; n < sizeof b - 1;) {
		ssize_t k = read(fd[0], b + n, sizeof b - 1 - n);
		if (k <= 0)
			break;
		n += (size_t)k;
	}
	EXITS(p, 4);
	snprintf(due, sizeof due, "%s|first|2|e\n", scratch);
	SAME(b, due);
	close(fd[0]);
	OK(unlink(scratch));
}

CASE(fexecve_of_a_descriptor)
{
	char *argv[] = {"true", NULL};
	int fd = (int)OK(open("/bin/false", O_RDONLY | O_CLOEXEC));
	pid_t p = forked();
	if (p == 0) {
		fexecve(fd, argv, environ);
		_exit(99);
	}
	EXITS(p, 1);
	close(fd);
}

CASE(execveat_of_a_folder)
{
	char *argv[] = {"true", NULL};
	int fd = (int)OK(open("/bin", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	pid_t p = forked();
	if (p == 0) {
		syscall(SYS_execveat, fd, "true", argv, environ, 0);
		_exit(99);
	}
	EXITS(p, 0);
	ERR(syscall(SYS_execveat, fd, "nothing", argv, environ, 0), ENOENT);
	ERR(syscall(SYS_execveat, 77, "true", argv, environ, 0), EBADF);
	ERR(syscall(SYS_execveat, fd, "true", argv, environ, 0x8000), EINVAL);
	close(fd);
}

static void *execs(void *role)
{
	char *argv[] = {"self", "as", role, number(getpid()), number(getppid()), number(getpgrp()), number(getsid(0)), NULL};
	execv(self_path, argv);
	_exit(99);
}

static void *sleeps_for_ever(MAYBE void *p)
{
	for (;;)
		pause();
	return NULL;
}

CASE(exec_by_a_thread_ends_the_others)
{
	pid_t p = forked();
	if (p == 0) {
		pthread_t t;
		for (int i = 0; i < 3; i++)
			pthread_create(&t, NULL, sleeps_for_ever, NULL);
		pthread_create(&t, NULL, execs, "same_numbers");
		for (;;)
			pause();
	}
	EXITS(p, 0);
}

ROLE(names)
{
	char b[PATH_MAX], comm[17] = "";
	const char *base = strrchr(self_path, '/') + 1;
	OK(prctl(PR_GET_NAME, comm));
	snprintf(b, sizeof b, "%.15s", base);
	SAME(comm, b);
	SAME((char *)getauxval(AT_EXECFN), self_path);
	EQ(getauxval(AT_SECURE), 0);
	EQ(getauxval(AT_UID), getuid());
	IS(slurp("/proc/self/cmdline", b, sizeof b) > 0);
	SAME(b, "self");
	SAME(b + 5, "as");
	OK(slurp("/proc/self/comm", b, sizeof b));
	b[strcspn(b, "\n")] = 0;
	SAME(b, comm);
	return 0;
}

CASE(exec_names_the_process)
{
	pid_t p = forked();
	if (p == 0)
		EXEC("names");
	EXITS(p, 0);
}

CASE(exec_without_arguments)
{
	pid_t p = forked();
	if (p == 0) {
		char *none[] = {NULL};
		execve("/bin/true", none, none);
		_exit(99);
	}
	EXITS(p, 0);
}

CASE(exec_with_much_environment)
{
	pid_t p = forked();
	if (p == 0) {
		static char e[40][3001];
		char *env[42], *argv[] = {"sh", "-c", "test ${#V39} = 2990 && test ${#V0} = 2990", NULL};
		for (int i = 0; i < 40; i++) {
			memset(e[i], 'e', 3000);
			int n = snprintf(e[i], 20, "V%d=", i);
			e[i][n] = 'e';
			e[i][n + 2990] = 0;
			env[i] = e[i];
		}
		env[40] = NULL;
		execve("/bin/sh", argv, env);
		_exit(99);
	}
	EXITS(p, 0);
}

ROLE(fresh_memory)
{
	void *p = (void *)strtoul(argv[0], NULL, 16);
	unsigned char v;
	ERR(mincore(p, 4096, &v), ENOMEM);
	return 0;
}

CASE(exec_drops_memory)
{
	char b[32];
	/* high above where a new program puts anything */
	void *p = MAPPED(mmap((void *)0x123456700000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	snprintf(b, sizeof b, "%lx", (unsigned long)p);
	pid_t c = forked();
	if (c == 0)
		EXEC("fresh_memory", b);
	EXITS(c, 0);
	OK(munmap(p, 4096));
}

CASE(setpgid_after_exec_is_refused)
{
	int fd[2], in[2];
	char c;
	OK(pipe(fd));
	OK(pipe(in));
	pid_t p = forked();
	if (p == 0) {
		dup2(fd[1], 1);
		dup2(in[0], 0);
		execl("/bin/sh", "sh", "-c", "echo; read x", NULL);
		_exit(99);
	}
	OK(read_all(fd[0], &c, 1));
	ERR(setpgid(p, p), EACCES);
	OK(kill(p, SIGKILL));
	DIES(p, SIGKILL);
	close(fd[0]), close(fd[1]), close(in[0]), close(in[1]);
}

CASE(posix_spawn_with_actions)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	pid_t p;
	char b[64] = "", *argv[] = {"sh", "-c", "read x; echo \"<$x>\"; test $(cut -d' ' -f5 /proc/$$/stat) = $$", NULL};
	int in[2], out[2];
	OK(pipe2(in, O_CLOEXEC));
	OK(pipe2(out, O_CLOEXEC));
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	posix_spawn_file_actions_adddup2(&fa, out[1], 1);
	posix_spawnattr_init(&at);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setpgroup(&at, 0);
	EQ(posix_spawn(&p, "/bin/sh", &fa, &at, argv, environ), 0);
	remember(__LINE__, p);
	OK(write_all(in[1], "hello\n", 6));
	EXITS(p, 0);
	EQ(read(out[0], b, sizeof b - 1), 8);
	SAME(b, "<hello>\n");
	EQ(posix_spawn(&p, "/no/such", NULL, NULL, argv, environ), ENOENT);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	close(in[0]), close(in[1]), close(out[0]), close(out[1]);
}

CASE(system_and_popen)
{
	char b[64] = "";
	EQ(system("exit 5"), 5 << 8);
	EQ(system("kill -9 $$"), SIGKILL);
	FILE *f = popen("echo one; cat /dev/null; echo two", "re");
	IS(f != NULL);
	EQ(fread(b, 1, sizeof b - 1, f), 8);
	SAME(b, "one\ntwo\n");
	EQ(pclose(f), 0);
	f = popen("cat >/dev/null; exit 6", "we");
	IS(f != NULL);
	fputs("text", f);
	EQ(pclose(f), 6 << 8);
}

CASE(pipeline_of_a_shell)
{
	char b[64] = "";
	FILE *f = popen("i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); done | (read a; cat) | wc -l; (exit 3); echo $?", "re");
	IS(f != NULL);
	EQ(fread(b, 1, sizeof b - 1, f), 5);
	SAME(b, "19\n3\n");
	EQ(pclose(f), 0);
}

/* The process that was moved itself becomes another program: itself, some times. */
ROLE(again)
{
	int left = atoi(argv[0]);
	EQ(getpid(), atol(argv[1]));
	EQ(getppid(), atol(argv[2]));
	EQ(gettid_(), getpid());
	friend_fd = atoi(argv[3]);
	OK(fcntl(friend_fd, F_GETFD));
	nap(atoi(argv[4]));
	if (left > 0)
		EXEC("again", number(left - 1), argv[1], argv[2], argv[3], argv[4]);
	close(friend_fd);
	case_name = "exec_of_the_process_itself";
	OK(wait(NULL));
	dprintf(1, "ok %s\n", case_name);
	dprintf(2, "1 rounds\n");
	return 0;
}

CASE(exec_of_the_process_itself)
{
	OK(fcntl(friend_fd, F_SETFD, 0));
	EXEC("again", number(moving ? 20 : 3), number(me), number(getppid()), number(friend_fd), number(moving ? 50 : 0));
}
