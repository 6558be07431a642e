/* Group 1: the process tree, its clone(2), clone3(2) and threads: pthreads(7), exit_group(2). */
#include "case.h"
#include <linux/sched.h>

CASE(clone_child_settid_and_cleartid)
{
	pid_t *tid = MAPPED(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pid_t parent_tid = 0;
	pid_t p = remember(__LINE__, (pid_t)syscall(SYS_clone, CLONE_CHILD_SETTID | CLONE_PARENT_SETTID | SIGCHLD, NULL, &parent_tid, tid, 0));
	if (p == 0)
		_exit(*tid != (pid_t)syscall(SYS_getpid));
	EQ(parent_tid, p);
	EXITS(p, 0);
	EQ(*tid, p);
	OK(munmap(tid, 4096));
}

CASE(clone_without_exit_signal_needs_wclone)
{
	pid_t p = remember(__LINE__, (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0));
	if (p == 0)
		_exit(4);
	ERR(waitpid(p, NULL, WNOHANG), ECHILD);
	int st;
	EQ(waitpid(p, &st, __WCLONE), p);
	EQ(st, 4 << 8);
	forget(p);
}

CASE(clone_exit_signal_of_choice)
{
	caught(SIGUSR1, 0);
	pid_t p = remember(__LINE__, (pid_t)syscall(SYS_clone, SIGUSR1, NULL, NULL, NULL, 0));
	if (p == 0)
		_exit(0);
	int st;
	EQ(TEMP_FAILURE_RETRY(waitpid(p, &st, __WALL)), p);
	forget(p);
	EQ(st, 0);
	EQ(seen, SIGUSR1);
	EQ(seen_info.si_pid, p);
	signal(SIGUSR1, SIG_DFL);
}

CASE(clone_files_shares_descriptors)
{
	int fd = temp("x", 1);
	pid_t p = remember(__LINE__, (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0));
	if (p == 0)
		_exit(close(fd) != 0);
	EXITS(p, 0);
	ERR(fcntl(fd, F_GETFD), EBADF);
}

CASE(clone_fs_shares_cwd_and_umask)
{
	char was[PATH_MAX], is[PATH_MAX];
	mode_t m = umask(022);
	IS(getcwd(was, sizeof was) != NULL);
	pid_t p = remember(__LINE__, (pid_t)syscall(SYS_clone, CLONE_FS | SIGCHLD, NULL, NULL, NULL, 0));
	if (p == 0) {
		umask(077);
		_exit(chdir("/tmp") != 0);
	}
	EXITS(p, 0);
	IS(getcwd(is, sizeof is) != NULL);
	SAME(is, "/tmp");
	EQ(umask(m), 077);
	OK(chdir(was));
}

CASE(clone_parent_makes_a_sibling)
{
	int fd[2];
	pid_t sibling = 0;
	OK(pipe(fd));
	pid_t p = forked();
	if (p == 0) {
		pid_t s = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0);
		if (s == 0)
			_exit(getppid() == me ? 9 : 8);
		_exit(write_all(fd[1], &s, sizeof s) != 0);
	}
	OK(read_all(fd[0], &sibling, sizeof sibling));
	EXITS(p, 0);
	EXITS(sibling, 9);
	close(fd[0]);
	close(fd[1]);
}

CASE(clone3_pidfd)
{
	int pidfd = -1;
	struct clone_args a = {.flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
	pid_t p = remember(__LINE__, (pid_t)syscall(SYS_clone3, &a, sizeof a));
	if (p == 0) {
		nap(20);
		_exit(6);
	}
	struct pollfd f = {pidfd, POLLIN, 0};
	EQ(poll(&f, 1, 5000), 1);
	siginfo_t si = {0};
	OK(waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED));
	forget(p);
	EQ(si.si_pid, p);
	EQ(si.si_status, 6);
	EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	close(pidfd);
}

CASE(clone_refuses_nonsense)
{
	ERR(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, NULL, NULL, NULL, 0), EINVAL);
	ERR(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, NULL, NULL, NULL, 0), EINVAL);
	struct clone_args a = {.flags = 0, .exit_signal = 200};
	ERR(syscall(SYS_clone3, &a, sizeof a), EINVAL);
	ERR(syscall(SYS_clone3, &a, 8), EINVAL);
}

static void *plus_one(void *p)
{
	return (char *)p + 1;
}

CASE(thread_result)
{
	pthread_t t;
	void *r;
	EQ(pthread_create(&t, NULL, plus_one, (void *)41), 0);
	EQ(pthread_join(t, &r), 0);
	EQ((intptr_t)r, 42);
}

static void *whose(void *p)
{
	pid_t *told = p;
	told[0] = getpid();
	told[1] = gettid_();
	told[2] = getppid();
	return NULL;
}

CASE(thread_numbers)
{
	pthread_t t;
	pid_t told[3];
	EQ(pthread_create(&t, NULL, whose, told), 0);
	EQ(pthread_join(t, NULL), 0);
	EQ(told[0], me);
	IS(told[1] != me, "the thread's number is the process's");
	EQ(told[2], getppid());
	EQ(gettid_(), me);
	for (int i = 0; i < 1000 && syscall(SYS_tgkill, me, told[1], 0) == 0; i++)
		nap(1); /* it has ended for pthread_join a moment before it has for the kernel */
	ERR(syscall(SYS_tgkill, me, told[1], 0), ESRCH);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t barrier;
static long counter;
static __thread long mine;

static void *count_up(void *n)
{
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 1000; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
		mine++;
		if (i % 100 == 0)
			sched_yield();
	}
	return (void *)(mine + (intptr_t)n);
}

CASE(threads_with_mutex_barrier_and_own_variables)
{
	pthread_t t[8];
	counter = 0;
	pthread_barrier_init(&barrier, NULL, 8);
	for (int i = 0; i < 8; i++)
		EQ(pthread_create(&t[i], NULL, count_up, (void *)(intptr_t)i), 0);
	for (int i = 0; i < 8; i++) {
		void *r;
		EQ(pthread_join(t[i], &r), 0);
		EQ((intptr_t)r, 1000 + i);
	}
	EQ(counter, 8000);
	EQ(mine, 0);
	pthread_barrier_destroy(&barrier);
}

static void *exits_5(MAYBE void *p)
{
	nap(5);
	exit(5);
}

CASE(exit_of_a_thread_ends_the_process)
{
	pid_t p = forked();
	if (p == 0) {
		pthread_t t;
		pthread_create(&t, NULL, exits_5, NULL);
		for (;;)
			pause();
	}
	EXITS(p, 5);
}

/* Not before the other has ended: in a static program exit takes away what pthread_exit unwinds the stack by, and it aborts. */
static void *exits_5_alone(void *other)
{
	pthread_join(*(pthread_t *)other, NULL);
	return exits_5(NULL);
}

CASE(process_lives_without_its_main_thread)
{
	pid_t p = forked();
	if (p == 0) {
		static pthread_t self;
		pthread_t t;
		self = pthread_self();
		pthread_create(&t, NULL, exits_5_alone, &self);
		pthread_exit(NULL);
	}
	EXITS(p, 5);
}

static void *forks(MAYBE void *p)
{
	pid_t c = fork();
	if (c == 0) {
		char b[4096], *at;
		slurp("/proc/self/status", b, sizeof b);
		at = strstr(b, "Threads:");
		_exit(at != NULL && atoi(at + 8) == 1 && gettid_() == getpid() ? 13 : 14);
	}
	return (void *)(intptr_t)c;
}

CASE(fork_in_a_thread_copies_that_thread_alone)
{
	pthread_t t;
	void *p;
	EQ(pthread_create(&t, NULL, forks, NULL), 0);
	EQ(pthread_join(t, &p), 0);
	EXITS((pid_t)(intptr_t)p, 13);
}

