/*
 * world: looks at the world in every way that tells one node from another, at its start, at home, and in each round, when
 * it may be anywhere: always the same must be seen. A helper at home listens on the node's address and touches files, so
 * that home's clock can be read from their times without asking any clock.
 */
#include "work.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>

static char mark[64];
static struct sockaddr_in home;

static uint64_t file(const char *path)
{
	char b[4096];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof b);
	struct stat st = {0};
	if (fd >= 0)
		fstat(fd, &st);
	close(fd);
	return n < 0 ? (uint64_t)errno : mix(mix_bytes(151, b, (size_t)n), st.st_ino);
}

/* list does not depend on the order of a directory, but on which names are in it. */
static uint64_t list(const char *path)
{
	uint64_t h = 0;
	DIR *d = opendir(path);
	if (d == NULL)
		return (uint64_t)errno;
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		h += mix_bytes(153, e->d_name, strlen(e->d_name));
	closedir(d);
	return h;
}

static uint64_t interfaces(void)
{
	struct ifaddrs *all, *i;
	uint64_t h = 0;
	if (getifaddrs(&all) != 0)
		return (uint64_t)errno;
	for (i = all; i != NULL; i = i->ifa_next) {
		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET)
			continue;
		struct sockaddr_in *a = (struct sockaddr_in *)i->ifa_addr;
		h += mix_bytes(a->sin_addr.s_addr, i->ifa_name, strlen(i->ifa_name));
		if (!(i->ifa_flags & IFF_LOOPBACK))
			home.sin_addr = a->sin_addr;
	}
	freeifaddrs(all);
	return h;
}

static void listener(int l, int up)
{
	char name[65] = "";
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the parent may end early, by a complaint */
	gethostname(name, sizeof name - 1);
	if (write(up, "x", 1) != 1)
		_exit(1);
	for (;;) {
		int c = accept(l, NULL, NULL);
		if (c < 0 || write_all(c, name, strlen(name)) != 0)
			_exit(1);
		close(c);
	}
}

static uint64_t banner(struct sockaddr_in to)
{
	char b[128];
	size_t n = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
		close(fd);
		return (uint64_t)errno;
	}
	for (ssize_t k; n < sizeof b && (k = read(fd, b + n, sizeof b - n)) > 0;)
		n += (size_t)k;
	close(fd);
	return mix_bytes(157, b, n);
}

static double seconds(struct timespec t)
{
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* clocks holds every way to ask the time to the time of a file that was written in between. */
static void clocks(void)
{
	static const char *const names[] = {"clock_gettime", "gettimeofday", "time", "raw clock_gettime", "raw gettimeofday", "raw time", "coarse"};
	for (int i = 0; i < 7; i++) {
		struct timespec t = {0, 0};
		struct timeval tv = {0, 0};
		struct stat st;
		double slack = 0.6;
		int fd = open(mark, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		switch (i) {
		case 0: clock_gettime(CLOCK_REALTIME, &t); break;
		case 1: gettimeofday(&tv, NULL); break;
		case 2: t.tv_sec = time(NULL); slack = 1.6; break;
		case 3: syscall(SYS_clock_gettime, CLOCK_REALTIME, &t); break;
		case 4: syscall(SYS_gettimeofday, &tv, NULL); break;
		case 5: t.tv_sec = syscall(SYS_time, NULL); slack = 1.6; break;
		case 6: clock_gettime(CLOCK_REALTIME_COARSE, &t); break;
		}
		if (tv.tv_sec != 0)
			t = (struct timespec){tv.tv_sec, tv.tv_usec * 1000};
		CHECK(write(fd, "x", 1) == 1 && fstat(fd, &st) == 0);
		close(fd);
		double off = seconds(t) - seconds(st.st_mtim);
		if (off > slack || off < -slack)
			bad("round %ld: %s is %+.3f s off home's clock", work_rounds, names[i], off);
	}
}

int main(int argc, char **argv)
{
	struct statfs fs;
	struct stat st;
	char b[512];
	int up[2];
	socklen_t len = sizeof home;
	work_begin(argc, argv);
	snprintf(mark, sizeof mark, "/tmp/world.%d", getpid());
	close(open(mark, O_WRONLY | O_CREAT, 0600));
	interfaces();
	home.sin_family = AF_INET;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (struct sockaddr *)&home, sizeof home) != 0 || listen(l, 8) != 0 || getsockname(l, (struct sockaddr *)&home, &len) != 0 || pipe(up) != 0)
		return 2;
	pid_t helper = fork();
	if (helper == 0)
		listener(l, up[1]);
	if (read(up[0], b, 1) != 1)
		return 2;
	while (work_more()) {
		uint64_t h = 161;
		/* what is printed must be alike in each run; the rest is held to the first round inside one run */
		static uint64_t first[16];
		uint64_t now[16] = {file("/etc/hostname"), file("/proc/sys/kernel/hostname"), list("/tmp"), list("/run"), list("/var/tmp"), interfaces(),
				    banner(home), file("/proc/sys/kernel/random/boot_id"), 0, 0, 0, 0, 0, 0, 0, 0};
		static const char *const names[16] = {"/etc/hostname", "/proc/sys/kernel/hostname", "list of /tmp", "list of /run", "list of /var/tmp",
						      "interfaces", "listener at home's address", "boot id", "inode of /tmp", "type of /tmp",
						      "/proc/self/status", "gethostname", "getcwd", "/proc/self/exe", "netlink", "groups"};
		now[8] = stat("/tmp", &st) == 0 ? mix(st.st_ino, st.st_dev) : (uint64_t)errno;
		now[9] = statfs("/tmp", &fs) == 0 ? (uint64_t)fs.f_type : (uint64_t)errno;
		int fd = open("/proc/self/status", O_RDONLY);
		ssize_t n = read(fd, b, 200);
		close(fd);
		b[n > 0 ? n : 0] = 0;
		char *pid = strstr(b, "\nPid:");
		now[10] = pid != NULL && atoi(pid + 5) == work_pid;
		memset(b, 0, sizeof b);
		now[11] = gethostname(b, sizeof b) == 0 ? mix_bytes(163, b, strlen(b)) : (uint64_t)errno;
		now[12] = getcwd(b, sizeof b) != NULL ? mix_bytes(163, b, strlen(b)) : (uint64_t)errno;
		n = readlink("/proc/self/exe", b, sizeof b);
		now[13] = n > 0 ? mix_bytes(163, b, (size_t)n) : (uint64_t)errno;
		now[14] = if_nametoindex("lo");
		now[15] = (uint64_t)getgroups(0, NULL);
		if (work_rounds == 1)
			memcpy(first, now, sizeof first);
		for (int i = 0; i < 16; i++)
			if (now[i] != first[i])
				bad("round %ld: %s was %016llx, now %016llx", work_rounds, names[i], (unsigned long long)first[i], (unsigned long long)now[i]);
		CHECK(now[10] == 1);
		clocks();
		report("looks", mix(h, 16));
		nap(20000);
	}
	unlink(mark);
	kill(helper, SIGKILL);
	waitpid(helper, NULL, 0);
	return work_end();
}
