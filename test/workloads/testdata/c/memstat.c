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

/* While it is copied for a move, and runs on, a page that is shared with mosix counts as its own: that passes. */
static void comes_to(const char *what, const char *file, const char *key, long want)
{
	long have = 0;
	for (int i = 0; i < 20; i++) {
		have = field(file, key);
		if (have > want - 1024 && have < want + 1024)
			return;
		nap(200000);
	}
	bad("round %ld: %s is %ld kB, not about %ld", work_rounds, what, have, want);
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
		comes_to("VmSize", "/proc/self/status", "VmSize:", size + (MIB << 10));
		within("VmRSS", field("/proc/self/status", "VmRSS:"), rss + (MIB << 9), 4096);
		comes_to("statm size", "/proc/self/statm", "0", size + (MIB << 10));
		within("statm resident", field("/proc/self/statm", "1"), rss + (MIB << 9), 4096);
		comes_to("stat vsize", "/proc/self/stat", "size", size + (MIB << 10));
		within("stat rss", field("/proc/self/stat", "rss"), rss + (MIB << 9), 4096);
		long pages = 0;
		char line[128] = {0};
		CHECK(pread(fd, line, sizeof line - 1, 0) > 0 && sscanf(line, "%*d %ld", &pages) == 1);
		within("statm read again", pages * 4, rss + (MIB << 9), 4096);
		CHECK(field("/proc/self/status", "VmPeak:") >= size + (MIB << 10));
		CHECK(munmap(p, (size_t)MIB << 20) == 0);
		nap(10000);
		comes_to("VmSize afterwards", "/proc/self/status", "VmSize:", size);
		report("round", 1);
	}
	return work_end();
}
