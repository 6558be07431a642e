/*
 * comehome: now and then does what may only be doable at home: fork, vfork with exec, a new thread, mapping a file, shared
 * memory with a child. The process may come home for it, and can be moved again; nobody may see a difference.
 */
#include "work.h"
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>

extern char **environ;

static void *thread(void *arg)
{
	nap(1000);
	return (void *)((intptr_t)arg * 2);
}

static void forks(void)
{
	int p[2], status = 0;
	uint64_t got = 0;
	CHECK(pipe(p) == 0);
	pid_t c = fork();
	if (c == 0) {
		uint64_t h = mix(121, (uint64_t)(getppid() == work_pid));
		_exit(write(p[1], &h, 8) == 8 ? 42 : 1);
	}
	CHECK(c > 0);
	CHECK(read_all(p[0], &got, 8) == 0 && got == mix(121, 1));
	CHECK(waitpid(c, &status, 0) == c && WIFEXITED(status) && WEXITSTATUS(status) == 42);
	close(p[0]);
	close(p[1]);
}

static void execs(void)
{
	char *args[] = {"sh", "-c", "exit 17", NULL};
	pid_t c;
	int status = 0;
	CHECK(posix_spawn(&c, "/bin/sh", NULL, NULL, args, environ) == 0);
	CHECK(waitpid(c, &status, 0) == c && WIFEXITED(status) && WEXITSTATUS(status) == 17);
}

static void threads(void)
{
	pthread_t t[3];
	void *r;
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, thread, (void *)(intptr_t)i) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(t[i], &r) == 0 && (intptr_t)r == i * 2);
}

static void maps(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(fd >= 0 && m != MAP_FAILED && memcmp(m, "\177ELF", 4) == 0);
	munmap(m, 4096);
	close(fd);
	uint64_t *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t c = fork();
	if (c == 0) {
		s[7] = 12345;
		_exit(0);
	}
	join(c);
	CHECK(s[7] == 12345);
	munmap(s, 4096);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	while (work_more()) {
		volatile uint64_t h = 123;
		for (int i = 0; i < 200; i++) {
			for (int j = 0; j < 20000; j++)
				h = mix(h, (uint64_t)j);
			if (i % 10 == 0)
				nap(1000);
		}
		report("computed", h);
		switch (work_rounds % 4) {
		case 0: forks(); break;
		case 1: execs(); break;
		case 2: threads(); break;
		case 3: maps(); break;
		}
	}
	forks(), execs(), threads(), maps();
	report("kinds", 4);
	return work_end();
}
