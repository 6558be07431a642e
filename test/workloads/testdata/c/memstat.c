/*
 * memstat: what /proc says of the memory that a process uses is what it uses, where it uses it.
 */
#include "work.h"
#include <sys/mman.h>

static long field(const char *file, const char *key) /* kB of a line of status, or the number of pages at key in statm */
{
	static char buf[8192];
	int fd = open(file, O_RDONLY);
	CHECK(fd >= 0);
	ssize_t n = read(fd, buf, sizeof buf - 1);
	CHECK(n > 0 && read(fd, buf + n, sizeof buf - 1 - (size_t)n) == 0);
	buf[n > 0 ? n : 0] = 0;
	close(fd);
	if (*key >= '0' && *key <= '9') {
		long v[7] = {0};
		CHECK(sscanf(buf, "%ld %ld %ld %ld %ld %ld %ld", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6) == 7);
		return v[atoi(key)] * 4;
	}
	if (strcmp(key, "rss") == 0 || strcmp(key, "size") == 0) {
		char *s = strrchr(buf, ')');
		for (int i = 2; s && i < (*key == 'r' ? 24 : 23); i++)
			s = strchr(s + 1, ' ');
		return s ? atol(s + 1) * (*key == 'r' ? 4 : 1) / (*key == 'r' ? 1 : 1024) : -1;
	}
	char *s = strstr(buf, key);
	return s ? atol(s + strlen(key) + 1) : -1;
}

static void within(const char *what, long have, long want, long slack)
{
	if (have < want - slack || have > want + slack)
		bad("round %ld: %s is %ld kB, not about %ld", work_rounds, what, have, want);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	long size = field("/proc/self/status", "VmSize:"), rss = field("/proc/self/status", "VmRSS:");
	enum { MIB = 24 };
	int fd = open("/proc/self/statm", O_RDONLY);
	CHECK(fd >= 0);
	while (work_more()) {
		char *p = mmap(NULL, (size_t)MIB << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(p != MAP_FAILED);
		memset(p, 1, (size_t)MIB << 19);
		nap(10000);
		within("VmSize", field("/proc/self/status", "VmSize:"), size + (MIB << 10), 1024);
		within("VmRSS", field("/proc/self/status", "VmRSS:"), rss + (MIB << 9), 4096);
		within("statm size", field("/proc/self/statm", "0"), size + (MIB << 10), 1024);
		within("statm resident", field("/proc/self/statm", "1"), rss + (MIB << 9), 4096);
		within("stat vsize", field("/proc/self/stat", "size"), size + (MIB << 10), 1024);
		within("stat rss", field("/proc/self/stat", "rss"), rss + (MIB << 9), 4096);
		long pages = 0;
		char line[128] = {0};
		CHECK(pread(fd, line, sizeof line - 1, 0) > 0 && sscanf(line, "%*d %ld", &pages) == 1);
		within("statm read again", pages * 4, rss + (MIB << 9), 4096);
		CHECK(field("/proc/self/status", "VmPeak:") >= size + (MIB << 10));
		CHECK(munmap(p, (size_t)MIB << 20) == 0);
		nap(10000);
		within("VmSize afterwards", field("/proc/self/status", "VmSize:"), size, 1024);
		report("round", 1);
	}
	return work_end();
}
