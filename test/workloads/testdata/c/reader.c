/*
 * reader: reads a file of 8 MiB, which it has written at its start, in every way: small reads of odd sizes, 3 MiB at once
 * (never short: it is a regular file), pread, readv, lseek from all three ends, through a private mapping, and asks for
 * what is known about it.
 */
#include "work.h"
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { SIZE = 8 << 20, BIG = 3 << 20 };

static unsigned char buf[BIG + 16];

static unsigned char at(size_t off)
{
	return (unsigned char)(mix(51, off / 8) >> (off % 8 * 8));
}

static void expect(const unsigned char *p, size_t off, size_t n)
{
	size_t step = n > 65536 ? 61 : 1;
	for (size_t i = 0; i < n; i += step)
		if (p[i] != at(off + i)) {
			bad("round %ld: byte %zu of the file read as %02x, is %02x", work_rounds, off + i, p[i], at(off + i));
			return;
		}
}

int main(int argc, char **argv)
{
	char name[64], link[80];
	struct stat st, st0;
	work_begin(argc, argv);
	snprintf(name, sizeof name, "reader.%d", getpid());
	snprintf(link, sizeof link, "%s.link", name);
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0640);
	if (fd < 0)
		return 2;
	for (size_t off = 0; off < SIZE; off += 1 << 20) {
		for (size_t i = 0; i < 1 << 20; i++)
			buf[i] = at(off + i);
		if (write_all(fd, buf, 1 << 20) != 0)
			return 2;
	}
	close(fd);
	fd = open(name, O_RDONLY);
	unsigned char *map = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd < 0 || map == MAP_FAILED || fstat(fd, &st0) != 0 || symlink(name, link) != 0)
		return 2;
	while (work_more()) {
		uint64_t h = 53, x = 88172645463325252u;
		CHECK(lseek(fd, 0, SEEK_SET) == 0);
		for (size_t off = 0, i = 0; i < 60; i++) {
			x = mix(x, i);
			size_t n = x % 5000 + 1;
			CHECK(read(fd, buf, n) == (ssize_t)n);
			expect(buf, off, n);
			h = mix_bytes(h, buf, n);
			off += n;
			CHECK(lseek(fd, 0, SEEK_CUR) == (off_t)off);
		}
		CHECK(lseek(fd, 4321, SEEK_SET) == 4321);
		CHECK(read(fd, buf, BIG) == BIG);
		expect(buf, 4321, BIG);
		CHECK(lseek(fd, 0, SEEK_CUR) == 4321 + BIG);
		CHECK(lseek(fd, -100, SEEK_END) == SIZE - 100);
		CHECK(read(fd, buf, 4096) == 100);
		expect(buf, SIZE - 100, 100);
		CHECK(read(fd, buf, 4096) == 0);
		for (int i = 0; i < 20; i++) {
			size_t off = (size_t)(mix(x, (uint64_t)i) % (SIZE - 9000));
			CHECK(pread(fd, buf, 9000, (off_t)off) == 9000);
			expect(buf, off, 9000);
		}
		CHECK(lseek(fd, 0, SEEK_CUR) == SIZE);
		struct iovec iov[4] = {{buf, 3}, {buf + 100, 700}, {buf + 1000, 1}, {buf + 5000, 70000}};
		CHECK(lseek(fd, 777, SEEK_SET) == 777);
		CHECK(readv(fd, iov, 4) == 3 + 700 + 1 + 70000);
		expect(buf, 777, 3);
		expect(buf + 100, 780, 700);
		expect(buf + 1000, 1480, 1);
		expect(buf + 5000, 1481, 70000);
		CHECK(preadv(fd, iov, 4, 99) == 70704);
		expect(buf + 5000, 99 + 704, 70000);
		for (int i = 0; i < 30; i++) {
			size_t off = (size_t)(mix(x, (uint64_t)(i + 1000)) % (SIZE - 4096));
			expect(map + off, off, 4096);
		}
		CHECK(fstat(fd, &st) == 0 && st.st_size == SIZE && st.st_ino == st0.st_ino && st.st_dev == st0.st_dev);
		CHECK(stat(name, &st) == 0 && st.st_ino == st0.st_ino && st.st_mtim.tv_nsec == st0.st_mtim.tv_nsec);
		CHECK(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
		ssize_t n = readlink(link, (char *)buf, sizeof buf);
		CHECK(n == (ssize_t)strlen(name) && memcmp(buf, name, (size_t)n) == 0);
		CHECK(open("reader.nowhere", O_RDONLY) == -1 && errno == ENOENT);
		CHECK(access(name, W_OK | R_OK) == 0);
		DIR *d = opendir(".");
		int seen = 0;
		for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
			seen += strcmp(e->d_name, name) == 0 || strcmp(e->d_name, link) == 0;
		closedir(d);
		CHECK(seen == 2);
		report("small", h);
		nap(3000);
	}
	unlink(name);
	unlink(link);
	return work_end();
}
