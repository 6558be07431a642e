/*
 * children: processes and threads come and go all the time: forks two deep, vfork and posix_spawn with programs that are there and
 * that are not, threads with their own storage, children that are stopped, continued and killed, orphans. Each may be away when it
 * makes another.
 */
#include "work.h"
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>

extern char **environ;
static __thread int own;
static int lots[4096];

static void *thread(void *arg)
{
	own += (int)(intptr_t)arg;
	for (volatile int i = 0; i < 50000; i++)
		;
	return (void *)(intptr_t)(own * 2 + (syscall(SYS_gettid) != getpid()));
}

static void threads(void)
{
	pthread_t t[8];
	void *r;
	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&t[i], NULL, thread, (void *)(intptr_t)i) == 0);
	for (int i = 0; i < 8; i++)
		CHECK(pthread_join(t[i], &r) == 0 && (intptr_t)r == i * 2 + 1);
}

/* tree forks depth generations, two of each; each writes who it is, and whether its memory is its own. */
static uint64_t tree(int depth, uint64_t h)
{
	if (depth == 0)
		return h;
	for (int k = 0; k < 2; k++) {
		int p[2], status = 0;
		uint64_t got[3] = {0, 0, 0};
		pid_t me = getpid();
		CHECK(pipe(p) == 0);
		lots[k] = depth;
		pid_t c = fork();
		if (c == 0) {
			CHECK(lots[k] == depth && getppid() == me);
			lots[k] = 100 + depth; /* the parent must not see it */
			uint64_t say[3] = {tree(depth - 1, mix(h, (uint64_t)k)), (uint64_t)getpid(), (uint64_t)getppid()};
			CHECK(write_all(p[1], say, sizeof say) == 0);
			_exit(!work_bad ? 40 + depth : 1);
		}
		CHECK(c > 0 && close(p[1]) == 0);
		CHECK(read_all(p[0], got, sizeof got) == 0 && got[1] == (uint64_t)c && got[2] == (uint64_t)me);
		CHECK(waitpid(c, &status, 0) == c && WIFEXITED(status) && WEXITSTATUS(status) == 40 + depth);
		CHECK(lots[k] == depth);
		h = mix(h, got[0]);
		close(p[0]);
	}
	return h;
}

static void spawns(void)
{
	pid_t c;
	int status = 0, p[2];
	char *args[] = {"sh", "-c", "test \"$WORD\" = here && read x <&7 && exit $x", NULL}, *env[] = {"WORD=here", "PATH=/bin:/usr/bin", NULL};
	posix_spawn_file_actions_t a;
	CHECK(pipe2(p, O_CLOEXEC) == 0 && write(p[1], "23\n", 3) == 3);
	CHECK(posix_spawn_file_actions_init(&a) == 0 && posix_spawn_file_actions_adddup2(&a, p[0], 7) == 0);
	CHECK(posix_spawn(&c, "/bin/sh", &a, NULL, args, env) == 0);
	CHECK(waitpid(c, &status, 0) == c && WIFEXITED(status) && WEXITSTATUS(status) == 23);
	posix_spawn_file_actions_destroy(&a);
	close(p[0]);
	close(p[1]);
	CHECK(posix_spawn(&c, "/nonexistent/program", NULL, NULL, args, environ) == ENOENT);
	CHECK(posix_spawnp(&c, "true", NULL, NULL, (char *[]){"true", NULL}, environ) == 0);
	CHECK(waitpid(c, &status, 0) == c && status == 0);
	c = vfork();
	if (c == 0) {
		execl("/bin/sh", "sh", "-c", "kill -9 $$", (char *)NULL);
		_exit(9);
	}
	CHECK(waitpid(c, &status, 0) == c && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void stops(void)
{
	int status = 0;
	pid_t c = fork();
	if (c == 0)
		for (volatile uint64_t i = 0;; i++)
			;
	CHECK(kill(c, SIGSTOP) == 0);
	CHECK(waitpid(c, &status, WUNTRACED) == c && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	CHECK(kill(c, SIGCONT) == 0);
	CHECK(waitpid(c, &status, WCONTINUED) == c && WIFCONTINUED(status));
	CHECK(waitpid(c, &status, WNOHANG) == 0);
	CHECK(kill(c, SIGTERM) == 0);
	CHECK(waitpid(c, &status, 0) == c && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	CHECK(kill(c, 0) < 0 && errno == ESRCH);
}

/* orphans: the grandchild outlives its parent, comes to this process, which is its subreaper, and ends. */
static void orphans(void)
{
	int p[2], status = 0;
	char b;
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
	CHECK(pipe(p) == 0);
	pid_t c = fork();
	if (c == 0) {
		pid_t mid = getpid(), g = fork();
		if (g == 0) {
			while (getppid() == mid)
				nap(1000);
			_exit(write(p[1], "o", 1) == 1 && getppid() == work_pid ? 5 : 6);
		}
		_exit(g > 0 ? 0 : 1);
	}
	CHECK(waitpid(c, &status, 0) == c && status == 0);
	CHECK(read(p[0], &b, 1) == 1 && b == 'o');
	CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 5);
	CHECK(wait(&status) < 0 && errno == ECHILD);
	close(p[0]);
	close(p[1]);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	while (work_more()) {
		volatile uint64_t h = 124;
		for (int j = 0; j < 2000000; j++)
			h = mix(h, (uint64_t)j);
		report("computed", h);
		report("tree", tree(2, 125));
		threads();
		spawns();
		stops();
		orphans();
	}
	return work_end();
}
