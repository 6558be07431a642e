/* Group 7: what a process sees of itself in /proc, and what others see of it. proc(5). */
#include "case.h"
#include <dirent.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/times.h>

/* May it leave a core file, a guest has handlers of mosix's own for faults, which nobody sees. */
__attribute__((constructor)) static void may_leave_a_core_file(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_CORE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_CORE, &l);
	}
}

static char text[1 << 16];

static const char *file(const char *path)
{
	IS(slurp(path, text, sizeof text) >= 0, "%s: errno %d", path, errno);
	return text;
}

/* field is what follows key in a line of a file. */
static long field(const char *path, const char *key)
{
	const char *at = strstr(file(path), key);
	IS(at != NULL, "%s has no %s", path, key);
	return atol(at + strlen(key));
}

/* area finds the line of maps that begins at p. */
static const char *area(const char *path, const void *p)
{
	char begin[32];
	const char *at;
	snprintf(begin, sizeof begin, "%lx-", (unsigned long)(uintptr_t)p);
	at = strstr(file(path), begin);
	IS(at != NULL, "%s has no area at %s", path, begin);
	return at;
}

CASE(maps_shows_an_area)
{
	char *p = MAPPED(mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	OK(mprotect(p + 4096, 4096, PROT_READ));
	unsigned long lo, hi;
	char perms[8];
	const char *line = area("/proc/self/maps", p + 4096);
	EQ(sscanf(line, "%lx-%lx %7s", &lo, &hi, perms), 3);
	EQ(hi - lo, 4096);
	SAME(perms, "r--p");
	OK(munmap(p, 3 * 4096));
}

CASE(maps_shows_the_program)
{
	unsigned long lo, hi, at = (unsigned long)(uintptr_t)&case_maps_shows_the_program;
	char perms[8], path[PATH_MAX];
	int found = 0;
	file("/proc/self/maps");
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		path[0] = 0;
		IS(sscanf(line, "%lx-%lx %7s %*s %*s %*s %s", &lo, &hi, perms, path) >= 3, "%s", line);
		if (at >= lo && at < hi) {
			found++;
			SAME(perms, "r-xp");
			SAME(path, self_path);
		}
	}
	EQ(found, 1);
}

CASE(maps_shows_heap_stack_and_vdso)
{
	char here;
	unsigned long lo, hi;
	free(malloc(100));
	file("/proc/self/maps");
	const char *at = strstr(text, "[stack]");
	IS(at != NULL, "no stack");
	while (at > text && at[-1] != '\n')
		at--;
	EQ(sscanf(at, "%lx-%lx", &lo, &hi), 2);
	IS((unsigned long)(uintptr_t)&here >= lo && (unsigned long)(uintptr_t)&here < hi);
	IS(strstr(text, "[heap]") != NULL, "no heap");
	at = strstr(text, "[vdso]");
	IS(at != NULL, "no vdso");
	while (at > text && at[-1] != '\n')
		at--;
	EQ(sscanf(at, "%lx-", &lo), 1);
	EQ(lo, getauxval(AT_SYSINFO_EHDR));
}

CASE(maps_shows_nothing_foreign)
{
	file("/proc/self/maps");
	char *foreign = strstr(text, "memfd"); /* of which this program has none */
	IS(foreign == NULL, "%.100s", foreign);
}

CASE(smaps_counts_pages)
{
	char *p = MAPPED(mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	OK(madvise(p, 64 * 4096, MADV_NOHUGEPAGE));
	memset(p, 1, 10 * 4096);
	const char *at = strstr(area("/proc/self/smaps", p), "Rss:");
	IS(at != NULL);
	EQ(atol(at + 4), 40);
	OK(munmap(p, 64 * 4096));
}

CASE(stat_of_oneself)
{
	int pid, ppid, pgrp, sid;
	char comm[32], state;
	EQ(sscanf(file("/proc/self/stat"), "%d (%31[^)]) %c %d %d %d", &pid, comm, &state, &ppid, &pgrp, &sid), 6);
	EQ(pid, me);
	EQ(ppid, getppid());
	EQ(pgrp, getpgrp());
	EQ(sid, getsid(0));
	EQ(state, 'R');
	char due[20] = "";
	OK(prctl(PR_GET_NAME, due));
	SAME(comm, due);
}

CASE(stat_counts_processor_time)
{
	unsigned long u0, s0, u1, s1;
	const char *format = "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu";
	EQ(sscanf(file("/proc/self/stat"), format, &u0, &s0), 2);
	struct timespec a, b;
	OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a));
	do
		OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b));
	while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 80);
	EQ(sscanf(file("/proc/self/stat"), format, &u1, &s1), 2);
	long ticks = (long)(u1 + s1 - u0 - s0);
	IS(ticks >= 6 && ticks < 60, "%ld ticks of 10 ms after 80 ms of work", ticks);
}

CASE(status_of_oneself)
{
	EQ(field("/proc/self/status", "\nPid:"), me);
	EQ(field("/proc/self/status", "\nTgid:"), me);
	EQ(field("/proc/self/status", "\nPPid:"), getppid());
	EQ(field("/proc/self/status", "\nUid:"), getuid());
	EQ(field("/proc/self/status", "\nThreads:"), 1);
	EQ(field("/proc/self/status", "\nTracerPid:"), 0);
	EQ(field("/proc/self/status", "\nSeccomp:"), 0);
	EQ(field("/proc/self/status", "\nNoNewPrivs:"), 0);
	IS(field("/proc/self/status", "\nVmRSS:") > 50);
}

static unsigned long mask_of(const char *key)
{
	const char *at = strstr(file("/proc/self/status"), key);
	IS(at != NULL);
	return strtoul(at + strlen(key), NULL, 16);
}

CASE(status_shows_signals)
{
	block(SIGUSR1, 0);
	caught(SIGUSR2, 0);
	signal(SIGHUP, SIG_IGN);
	OK(kill(me, SIGUSR1));
	EQ(mask_of("\nSigBlk:"), 1UL << (SIGUSR1 - 1));
	EQ(mask_of("\nShdPnd:"), 1UL << (SIGUSR1 - 1));
	EQ(mask_of("\nSigIgn:") & 1UL << (SIGHUP - 1), 1UL << (SIGHUP - 1));
	EQ(mask_of("\nSigCgt:"), 1UL << (SIGUSR2 - 1));
	signal(SIGUSR1, SIG_IGN);
	unblock(SIGUSR1, 0);
	signal(SIGUSR1, SIG_DFL), signal(SIGUSR2, SIG_DFL), signal(SIGHUP, SIG_DFL);
}

static volatile int stop_thread;
static void *until_told(void *tid)
{
	OK(prctl(PR_SET_NAME, "second"));
	*(volatile pid_t *)tid = gettid_();
	while (!stop_thread)
		nap(1);
	return NULL;
}

CASE(task_lists_threads)
{
	pthread_t t;
	volatile pid_t tid = 0;
	char path[64];
	int n = 0, mine = 0;
	stop_thread = 0;
	EQ(pthread_create(&t, NULL, until_told, (void *)&tid), 0);
	while (tid == 0)
		nap(1);
	nap(3);
	for (int i = 0; i < 1000 && n != 2; i++) { /* one that was joined in the round before may still be on its way out */
		nap(i > 0);
		n = mine = 0;
		DIR *d = opendir("/proc/self/task");
		IS(d != NULL);
		for (struct dirent *e; (e = readdir(d)) != NULL;)
			if (e->d_name[0] != '.')
				n++, mine += atoi(e->d_name) == tid;
		closedir(d);
	}
	EQ(n, 2);
	EQ(mine, 1);
	EQ(field("/proc/self/status", "\nThreads:"), 2);
	snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
	SAME(file(path), "second\n");
	stop_thread = 1;
	EQ(pthread_join(t, NULL), 0);
}

CASE(names_can_be_set)
{
	char was[20] = "", b[20] = "";
	OK(prctl(PR_GET_NAME, was));
	OK(prctl(PR_SET_NAME, "a longer name than fits"));
	OK(prctl(PR_GET_NAME, b));
	SAME(b, "a longer name t");
	SAME(file("/proc/self/comm"), "a longer name t\n");
	int fd = (int)OK(open("/proc/self/comm", O_WRONLY | O_CLOEXEC));
	EQ(write(fd, "other", 5), 5);
	close(fd);
	memset(b, 0, sizeof b);
	OK(prctl(PR_GET_NAME, b));
	SAME(b, "other");
	OK(prctl(PR_SET_NAME, was));
}

CASE(links_of_oneself)
{
	char b[PATH_MAX] = "";
	ssize_t n = OK(readlink("/proc/self/exe", b, sizeof b - 1));
	b[n] = 0;
	SAME(b, self_path);
	n = OK(readlink("/proc/self/cwd", b, sizeof b - 1));
	b[n] = 0;
	char cwd[PATH_MAX];
	SAME(b, getcwd(cwd, sizeof cwd));
	n = OK(readlink("/proc/self/root", b, sizeof b - 1));
	b[n] = 0;
	SAME(b, "/");
	n = OK(readlink("/proc/self", b, sizeof b - 1));
	b[n] = 0;
	EQ(atoi(b), me);
	n = OK(readlink("/proc/thread-self", b, sizeof b - 1));
	b[n] = 0;
	char due[64];
	snprintf(due, sizeof due, "%d/task/%d", me, me);
	SAME(b, due);
}

CASE(exe_can_be_opened)
{
	char a[64], b[64];
	int x = (int)OK(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)), y = (int)OK(open(self_path, O_RDONLY | O_CLOEXEC));
	struct stat s, t;
	OK(fstat(x, &s));
	OK(fstat(y, &t));
	EQ(s.st_ino, t.st_ino);
	EQ(s.st_dev, t.st_dev);
	EQ(read(x, a, 64), 64);
	EQ(read(y, b, 64), 64);
	EQ(memcmp(a, b, 64), 0);
	close(x), close(y);
}

CASE(fd_lists_descriptors)
{
	char path[64], b[PATH_MAX];
	int p[2], n = 0;
	OK(pipe2(p, O_CLOEXEC));
	snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
	ssize_t k = OK(readlink(path, b, sizeof b - 1));
	b[k] = 0;
	IS(strncmp(b, "pipe:[", 6) == 0, "%s", b);
	DIR *d = opendir("/proc/self/fd");
	IS(d != NULL);
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.' && atoi(e->d_name) < 80; /* as open_files counts */
	EQ(n, open_files());
	closedir(d);
	close(p[0]), close(p[1]);
	ERR(readlink(path, b, sizeof b), ENOENT);
	int fd = temp("0123456789", 10);
	EQ(lseek(fd, 7, SEEK_SET), 7);
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	EQ(field(path, "pos:"), 7);
	close(fd);
}

CASE(cmdline_environ_and_auxv)
{
	unsigned long a[2];
	IS(slurp("/proc/self/cmdline", text, sizeof text) > 0);
	const char *at = text + strlen(text) + 1;
	SAME(at, "run");
	SAME(at + 4, case_name);
	extern char **environ;
	if (environ[0] != NULL)
		SAME(file("/proc/self/environ"), environ[0]);
	int fd = (int)OK(open("/proc/self/auxv", O_RDONLY | O_CLOEXEC)), found = 0;
	while (read(fd, a, sizeof a) == sizeof a && a[0] != AT_NULL)
		if (a[0] == AT_PHDR || a[0] == AT_SYSINFO_EHDR || a[0] == AT_RANDOM) {
			EQ(a[1], getauxval(a[0]));
			found++;
		}
	EQ(found, 3);
	close(fd);
}

CASE(arguments_that_are_written_show)
{
	extern char **environ;
	int fd = (int)OK(open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC));
	EQ(pread(fd, text, sizeof text, 0) > 8, 1);
	size_t at = strlen(text) + 1;
	/* the arguments lie before the environment, in memory of the process */
	char *arg = environ[0] == NULL ? NULL : environ[0] - 1;
	if (arg != NULL) {
		while (strncmp(arg, "run", 4) != 0 || arg[-1] != 0)
			arg--;
		arg[0] = 'R';
		IS(pread(fd, text, sizeof text, 0) > 8);
		EQ(text[at], 'R');
		arg[0] = 'r';
	}
	close(fd);
}

CASE(limits_and_others)
{
	struct rlimit r;
	OK(getrlimit(RLIMIT_NOFILE, &r));
	EQ(field("/proc/self/limits", "Max open files "), (long)r.rlim_cur);
	IS(field("/proc/self/statm", "") > 0);
	IS(strstr(file("/proc/self/mountinfo"), " / ") != NULL);
	SAME(strchr(file("/proc/self/cgroup"), ':') != NULL ? "yes" : "no", "yes");
	IS(field("/proc/self/oom_score_adj", "") >= -1000);
	EQ(field("/proc/self/loginuid", "") != 0 || getuid() == 0 || 1, 1);
	IS(slurp("/proc/self/wchan", text, sizeof text) >= 0);
}

CASE(proc_of_the_machine)
{
	double up;
	struct timespec t;
	EQ(sscanf(file("/proc/uptime"), "%lf", &up), 1);
	OK(clock_gettime(CLOCK_BOOTTIME, &t));
	IS(up > (double)t.tv_sec - 1.5 && up < (double)t.tv_sec + 1.5, "%f s of /proc/uptime, %ld s of the clock", up, (long)t.tv_sec);
	char node[80];
	OK(gethostname(node, sizeof node));
	strcat(node, "\n");
	SAME(file("/proc/sys/kernel/hostname"), node);
	IS(field("/proc/meminfo", "MemTotal:") > 1000);
}

/* what the friend, who has not moved, sees of the process */
static long friend_sees(long what, MAYBE int fd)
{
	char path[64], b[4096];
	pid_t p = getppid();
	static const char *const names[] = {"cmdline", "comm", "status", "stat"};
	snprintf(path, sizeof path, "/proc/%d/%s", p, names[what]);
	if (slurp(path, b, sizeof b) <= 0)
		return -1;
	switch (what) {
	case 0: return strcmp(b + strlen(b) + 1, "run") == 0;
	case 1: return strcmp(b, "watched\n") == 0;
	case 2: return strstr(b, "\nThreads:\t1\n") != NULL && strstr(b, "\nTracerPid:\t0\n") != NULL;
	default: return strchr("RSD", strrchr(b, ')')[2]) != NULL;
	}
}
__attribute__((constructor)) static void calls(void) { friend_calls[0] = friend_sees; }

CASE(others_see_the_process)
{
	char was[20] = "";
	OK(prctl(PR_GET_NAME, was));
	OK(prctl(PR_SET_NAME, "watched"));
	for (int what = 0; what < 4; what++) {
		struct wish w = {WISH_CALL, 0, 0, what};
		int64_t answer = -1;
		EQ(send(friend_fd, &w, sizeof w, 0), sizeof w);
		EQ(read(friend_fd, &answer, sizeof answer), sizeof answer);
		IS(answer == 1, "look %d of another process shows something else", what);
	}
	OK(prctl(PR_SET_NAME, was));
}

/* what a process has of itself in /proc it has by any way that leads there */
CASE(memory_by_other_ways)
{
	static volatile int x;
	int y = 0, z = 7, d = (int)OK(open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int fd = (int)OK(openat(d, "mem", O_RDWR | O_CLOEXEC));
	x = 6;
	EQ(pread(fd, &y, sizeof y, (off_t)(uintptr_t)&x), sizeof y);
	EQ(y, 6);
	EQ(pwrite(fd, &z, sizeof z, (off_t)(uintptr_t)&x), sizeof z);
	EQ(x, 7);
	close(fd), close(d);
}

static size_t pieces(char *to, size_t room, size_t at_once, int vector)
{
	size_t n = 0;
	int fd = (int)OK(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	for (ssize_t k; n + at_once < room; n += (size_t)k) {
		struct iovec v = {to + n, at_once};
		k = OK(vector ? readv(fd, &v, 1) : read(fd, to + n, at_once));
		if (k == 0)
			break;
	}
	close(fd);
	to[n] = 0;
	return n;
}

CASE(status_in_pieces)
{
	static char has[32 << 20];
	char b[8192];
	memset(has, 1, sizeof has);
	block(SIGUSR1, SIGRTMIN + 3);
	unsigned long due = 1UL << (SIGUSR1 - 1) | 1UL << (SIGRTMIN + 2);
	for (int i = 0; i < 3; i++) {
		IS(pieces(b, sizeof b, i == 1 ? 64 : 1024, i == 2) > 500);
		char *rss = strstr(b, "\nVmRSS:"), *mask = strstr(b, "\nSigBlk:"), *last = strstr(b, "\nMems_allowed:");
		IS(rss != NULL && mask != NULL && last != NULL, "%s", b);
		IS(atol(rss + 7) >= 32 << 10, "VmRSS is %ld kB of %d", atol(rss + 7), 32 << 10);
		EQ(strtoul(mask + 8, NULL, 16), due);
	}
	unblock(SIGUSR1, SIGRTMIN + 3);
}
