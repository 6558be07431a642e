/*
 * direct: reads a file of the system past the page cache, again and again into other memory. The kernel looks the memory up first
 * and the disk fills it later, so nothing but its content tells that it was written.
 */
#include "work.h"
#include <sys/stat.h>

enum { SIZE = 1 << 20, PIECE = 256 << 10, PIECES = 96 };

static unsigned char want[SIZE], buf[PIECES][PIECE] __attribute__((aligned(4096)));

/* holds looks at every page of what was read at off: it may have lain there for long. */
static void holds(const unsigned char *p, size_t off)
{
	for (size_t k = 0; k < PIECE; k += 4096) {
		if (memcmp(p + k, want + off + k, 64) != 0) {
			bad("round %ld: what was read at %zu is something else at %zu of it", work_rounds, off, k);
			return;
		}
	}
}

int main(int argc, char **argv)
{
	static const char *files[] = {"/bin/bash", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib64/libc.so.6", "/bin/busybox"};
	size_t at[PIECES];
	struct stat st;
	int fd = -1;
	work_begin(argc, argv);
	for (size_t i = 0; fd < 0 && i < sizeof files / sizeof *files; i++) {
		if (stat(files[i], &st) != 0 || st.st_size < SIZE)
			continue;
		int f = open(files[i], O_RDONLY);
		if (f < 0 || pread(f, want, SIZE, 0) != SIZE)
			return 2;
		close(f);
		fd = open(files[i], O_RDONLY | O_DIRECT);
		if (fd < 0 && errno == EINVAL) /* a file system without it */
			fd = open(files[i], O_RDONLY);
	}
	if (fd < 0)
		return 2;
	while (work_more()) {
		uint64_t h = 54;
		for (int i = 0; i < 4 * PIECES; i++) {
			size_t n = (size_t)i % PIECES;
			if (i >= PIECES)
				holds(buf[n], at[n]);
			at[n] = mix((uint64_t)i, 55) % ((SIZE - PIECE) / 4096 + 1) * 4096;
			ssize_t k = pread(fd, buf[n], PIECE, (off_t)at[n]);
			if (k != PIECE) {
				bad("round %ld: pread at %zu: %zd, errno %d", work_rounds, at[n], k, errno);
				return 1;
			}
			h = mix(h, at[n]);
		}
		for (int i = 0; i < PIECES; i++)
			holds(buf[i], at[i]);
		report("direct", h);
		nap(500);
	}
	return work_end();
}
