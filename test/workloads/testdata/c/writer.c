/*
 * writer: two descriptors that append to one file in turn, holes and truncation, 3 MiB in one write (never short), positions
 * shared by dup, rename over an old file, links, times. Argument 3 is the name of the directory that it makes; what stands
 * in there at the end is compared with that of a native run.
 */
#include "work.h"
#include <sys/stat.h>
#include <sys/uio.h>

enum { BIG = 3 << 20 };

static unsigned char big[BIG];

int main(int argc, char **argv)
{
	const char *dir = argc > 3 ? argv[3] : "writer.d";
	char line[128];
	struct stat st;
	work_begin(argc, argv);
	umask(027);
	if (mkdir(dir, 0750) != 0 || chdir(dir) != 0) {
		bad("make directory %s: errno %d", dir, errno);
		return work_end();
	}
	/* a stop file is named from where the program was started */
	char stop[512];
	if (work_stop[0] != '/' && work_stop[0] != '-') {
		snprintf(stop, sizeof stop, "../%s", work_stop);
		work_stop = stop;
	}
	for (size_t i = 0; i < BIG; i++)
		big[i] = (unsigned char)(mix(61, i / 8) >> (i % 8 * 8));
	int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0666);
	int log2 = open("log", O_WRONLY | O_APPEND);
	int dupped = dup(log2);
	CHECK(log >= 0 && log2 >= 0 && dupped >= 0);
	while (work_more()) {
		CHECK(ftruncate(log, 0) == 0);
		off_t size = 0;
		for (int i = 0; i < 60; i++) {
			int n = snprintf(line, sizeof line, "record %d by %s\n", i, i % 3 == 0 ? "one" : "two");
			CHECK(write(i % 3 == 0 ? log : i % 3 == 1 ? log2 : dupped, line, (size_t)n) == n);
		size += n;
			if (i % 20 == 0)
				nap(1000);
		}
		CHECK(fstat(log, &st) == 0 && st.st_size == size);
		CHECK(lseek(log, 0, SEEK_CUR) <= size);
		CHECK(fsync(log) == 0 && fdatasync(log2) == 0);

		int fd = open("new", O_RDWR | O_CREAT | O_TRUNC | O_EXCL, 0644);
		CHECK(fd >= 0);
		CHECK(write(fd, big, BIG) == BIG);
		CHECK(pwrite(fd, "hole", 4, BIG + 8192) == 4);
		struct iovec iov[3] = {{big, 10}, {big + 4000, 5000}, {"\n", 1}};
		CHECK(writev(fd, iov, 3) == 5011);
		CHECK(lseek(fd, 0, SEEK_CUR) == BIG + 5011);
		CHECK(fstat(fd, &st) == 0 && st.st_size == BIG + 8196);
		CHECK(fallocate(fd, 0, BIG + 8196, 100) == 0);
		CHECK(pread(fd, line, 4, BIG + 8192) == 4 && memcmp(line, "hole", 4) == 0);
		CHECK(fchmod(fd, 0604) == 0);
		struct timespec when[2] = {{1000000000, 5}, {1234567890, 123456789}};
		CHECK(futimens(fd, when) == 0);
		CHECK(close(fd) == 0);
		CHECK(rename("new", "data") == 0);
		CHECK(stat("data", &st) == 0 && st.st_size == BIG + 8296 && (st.st_mode & 07777) == 0604);
		CHECK(st.st_mtim.tv_sec == 1234567890 && st.st_mtim.tv_nsec == 123456789);
		CHECK(link("data", "data2") == 0 && stat("data", &st) == 0 && st.st_nlink == 2);
		CHECK(unlink("data2") == 0);
		CHECK(truncate("data", 100000) == 0);
		CHECK(symlink("data", "alias") == 0 && unlink("alias") == 0);
		CHECK(mkdir("sub", 0777) == 0 && stat("sub", &st) == 0 && (st.st_mode & 07777) == 0750);
		CHECK(rmdir("sub") == 0);
		nap(2000);
	}
	report("log", (uint64_t)lseek(log, 0, SEEK_END));
	return work_end();
}
