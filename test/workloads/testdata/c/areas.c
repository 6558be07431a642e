/*
 * areas: whatever a program does with its address space, at home or away, what is in it and how it is made up is what it would be
 * without a move. Each round makes the same areas anew, with pauses in which moves fall, then looks at all of their bytes; every
 * few rounds it also holds /proc/self/smaps, ranges, protections, files and flags, to that of the first round.
 */
#include "work.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/shm.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define PAGE 4096UL
#define BASE ((char *)0x600000000000)
#define AT(mib) (BASE + ((unsigned long)(mib) << 20))

static const char padding[1 << 16] = "so that the file of this program has pages enough";
static int fd;
static char *shared, *mem, *sysv, *locked;

static char *map(char *at, unsigned long pages, int prot, int flags)
{
	char *p = mmap(at, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0) | flags, -1, 0);
	CHECK(p != MAP_FAILED && (!at || p == at));
	return p;
}

static void fill(char *p, unsigned long pages, uint64_t seed)
{
	for (unsigned long i = 0; i < pages * PAGE; i += 8)
		*(uint64_t *)(p + i) = mix(seed, i);
}

static void holds(const char *what, const char *p, unsigned long pages, uint64_t seed)
{
	for (unsigned long i = 0; i < pages * PAGE; i += 8)
		if (*(uint64_t *)(p + i) != mix(seed, i)) {
			bad("round %ld: %s: word at %lx is %lx", work_rounds, what, i, (unsigned long)*(uint64_t *)(p + i));
			return;
		}
}

static void zeros(const char *what, const char *p, unsigned long pages)
{
	for (unsigned long i = 0; i < pages * PAGE; i += 8)
		if (*(uint64_t *)(p + i) != 0) {
			bad("round %ld: %s: word at %lx is %lx, not 0", work_rounds, what, i, (unsigned long)*(uint64_t *)(p + i));
			return;
		}
}

/* from_file compares with the file, read anew. */
static void from_file(const char *what, const char *p, unsigned long page, unsigned long pages)
{
	static char buf[16 * PAGE];
	CHECK(pread(fd, buf, pages * PAGE, (off_t)(page * PAGE)) == (ssize_t)(pages * PAGE));
	if (memcmp(buf, p, pages * PAGE) != 0)
		bad("round %ld: %s: it is not what the file has from page %lu on", work_rounds, what, page);
}

static int opens(char *p, int prot) /* whether the page at p can be given prot, and is what it was afterwards */
{
	return mprotect(p, PAGE, prot);
}

static char before[1 << 16], now[1 << 16], raw[1 << 18];

/*
 * picture writes what smaps has, without what says how much memory is in use, and with neighbours that are alike as one. While a
 * process is being copied for a move, and runs on, its pages are watched (uw) and a page is shared with it: that shows.
 */
static void picture(char *out, size_t room)
{
	static char line[1024], flags[256], head[400];
	int in = open("/proc/self/smaps", O_RDONLY);
	size_t n = 0, used = 0;
	ssize_t k;
	CHECK(in >= 0);
	while (n < sizeof raw - 1 && (k = read(in, raw + n, sizeof raw - 1 - n)) > 0)
		n += (size_t)k;
	close(in);
	raw[n] = 0;
	unsigned long start = 0, end = 0, lo = 0, hi = 0, off = 0, ino = 0, last_off = 0, first_off = 0;
	static char what[800], last[800];
	last[0] = 0;
	what[0] = 0;
	for (char *s = raw; *s;) {
		char *e = strchr(s, '\n');
		*e = 0;
		char perms[8], dev[16];
		int name = 0;
		if ((*s < 'A' || *s > 'Z') && sscanf(s, "%lx-%lx %7s %lx %15s %lu %n", &lo, &hi, perms, &off, dev, &ino, &name) == 6) {
			snprintf(head, sizeof head, "%s %s %lu %s", perms, dev, ino, s + name);
		} else if (strncmp(s, "VmFlags:", 8) == 0 && !strstr(head, "[v") && !strstr(head, "mosix-shadow")) {
			flags[0] = 0;
			for (char *f = strtok(s + 8, " "); f; f = strtok(NULL, " "))
				if (strcmp(f, "ac") && strcmp(f, "sd") && strcmp(f, "uw")) {
					strcat(flags, f);
					strcat(flags, " ");
				}
			snprintf(what, sizeof what, "%s: %s", head, flags);
			if (strstr(head, "[stack]"))
				lo = hi; /* it grows as it likes */
			if (strcmp(what, last) == 0 && lo == end && (ino == 0 || off == last_off + (end - start))) {
				end = hi;
			} else {
				if (last[0])
					used += (size_t)snprintf(line, sizeof line, "%lx-%lx %lx %s\n", start, end, first_off, last);
				if (last[0] && used < room)
					strcat(out, line);
				start = lo;
				end = hi;
				first_off = last_off = ino ? off : 0;
				strcpy(last, what);
			}
		}
		s = e + 1;
	}
	snprintf(line, sizeof line, "%lx-%lx %lx %s\n", start, end, first_off, last);
	strcat(out, line);
}

static void compare(void)
{
	now[0] = 0;
	picture(now, sizeof now);
	if (before[0] == 0) {
		strcpy(before, now);
		return;
	}
	if (strcmp(before, now) == 0)
		return;
	/* the lines that differ */
	for (int side = 0; side < 2; side++) {
		char *a = side ? now : before, *b = side ? before : now;
		for (char *s = a; *s;) {
			char *e = strchr(s, '\n');
			char line[1024];
			snprintf(line, sizeof line, "%.*s\n", (int)(e - s), s);
			if (!strstr(b, line))
				bad("round %ld: smaps %s: %.*s", work_rounds, side ? "has now" : "had", (int)(e - s), s);
			s = e + 1;
		}
	}
	strcpy(before, now);
}

static void make(int part)
{
	char *p;
	switch (part) {
	case 0: /* a file; memory over the middle of it that nobody touches; a hole in it that is filled */
		p = mmap(AT(1), 12 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
		CHECK(p == AT(1));
		fill(p + 2 * PAGE, 1, 7);
		map(p + 4 * PAGE, 2, PROT_READ | PROT_WRITE, 0);
		CHECK(munmap(p + 8 * PAGE, PAGE) == 0);
		map(p + 8 * PAGE, 1, PROT_READ | PROT_WRITE, 0);
		CHECK(mprotect(p, PAGE, PROT_READ) == 0);
		CHECK(mprotect(p + 10 * PAGE, PAGE, PROT_NONE) == 0);
		fill(p + 11 * PAGE, 1, 8);
		CHECK(madvise(p + 11 * PAGE, PAGE, MADV_DONTNEED) == 0);
		break;
	case 1: /* memory that grows, moves, and leaves its place behind */
		fill(map(AT(2), 8, PROT_READ | PROT_WRITE, 0), 8, 20);
		CHECK(mremap(AT(2), 8 * PAGE, 24 * PAGE, 0) == AT(2));
		fill(map(AT(3), 8, PROT_READ | PROT_WRITE, 0), 8, 21);
		CHECK(mremap(AT(3), 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT(4)) == AT(4));
		fill(map(AT(5), 8, PROT_READ | PROT_WRITE, 0), 8, 22);
		CHECK(mremap(AT(5), 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, AT(6)) == AT(6));
		CHECK(mremap(AT(2), 24 * PAGE, 20 * PAGE, 0) == AT(2));
		break;
	case 2: /* protections */
		fill(map(AT(7), 32, PROT_READ | PROT_WRITE, 0), 32, 30);
		CHECK(mprotect(AT(7) + 4 * PAGE, 4 * PAGE, PROT_READ) == 0);
		CHECK(mprotect(AT(7) + 12 * PAGE, 4 * PAGE, PROT_NONE) == 0);
		CHECK(mprotect(AT(7) + 20 * PAGE, 4 * PAGE, PROT_READ | PROT_EXEC) == 0);
		CHECK(mprotect(AT(7) + 22 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
		map(AT(8), 16, PROT_NONE, MAP_NORESERVE);
		CHECK(mprotect(AT(8) + 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE) == 0);
		fill(AT(8) + 4 * PAGE, 2, 31);
		break;
	case 3: /* advice */
		p = map(AT(9), 64, PROT_READ | PROT_WRITE, 0);
		fill(p, 64, 40);
		CHECK(madvise(p + 0 * PAGE, 4 * PAGE, MADV_DONTFORK) == 0);
		CHECK(madvise(p + 8 * PAGE, 4 * PAGE, MADV_WIPEONFORK) == 0);
		CHECK(madvise(p + 16 * PAGE, 4 * PAGE, MADV_DONTDUMP) == 0);
		CHECK(madvise(p + 24 * PAGE, 4 * PAGE, MADV_SEQUENTIAL) == 0);
		CHECK(madvise(p + 32 * PAGE, 4 * PAGE, MADV_RANDOM) == 0);
		madvise(p + 40 * PAGE, 4 * PAGE, MADV_NOHUGEPAGE);
		madvise(p + 48 * PAGE, 4 * PAGE, MADV_HUGEPAGE);
		CHECK(madvise(p + 2 * PAGE, PAGE, MADV_DOFORK) == 0);
		CHECK(madvise(p + 56 * PAGE, 4 * PAGE, MADV_DONTNEED) == 0);
		CHECK(madvise(p + 60 * PAGE, 2 * PAGE, MADV_FREE) == 0);
		break;
	case 4: /* what was advised goes with the mapping */
		map(AT(9) + 48 * PAGE, 2, PROT_READ | PROT_WRITE, 0);
		map(AT(9) + 16 * PAGE, 1, PROT_READ | PROT_WRITE, 0);
		map(AT(9) + 10 * PAGE, 1, PROT_READ | PROT_WRITE, MAP_NORESERVE);
		break;
	case 5: /* memory that grows down, and a guard below other memory */
		map(AT(11), 4, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
		fill(AT(11), 4, 50);
		fill(AT(11) - PAGE, 1, 51);
		map(AT(12), 9, PROT_READ | PROT_WRITE, MAP_STACK | MAP_NORESERVE);
		CHECK(mprotect(AT(12), PAGE, PROT_NONE) == 0);
		fill(AT(12) + PAGE, 8, 52);
		break;
	case 6: /* the heap */
		p = sbrk(0);
		CHECK(brk(p + 40 * PAGE) == 0);
		fill((char *)(((unsigned long)p + PAGE - 1) & -PAGE), 30, 60);
		CHECK(brk(p + 8 * PAGE) == 0);
		CHECK(brk(p + 16 * PAGE) == 0);
		zeros("heap that was given back", (char *)(((unsigned long)p + 9 * PAGE - 1) & -PAGE), 7);
		CHECK(brk(p) == 0);
		break;
	case 7: /* memory that could be shared */
		fill(shared, 4, 70);
		CHECK(madvise(shared, 16 * PAGE, MADV_DONTNEED) == 0);
		CHECK(mprotect(shared + 8 * PAGE, 2 * PAGE, PROT_READ) == 0);
		fill(mem + PAGE, 2, 71);
		fill(sysv, 2, 72);
		fill(locked, 3, 73);
		break;
	}
}

static void look(void)
{
	char *p = AT(1);
	from_file("a file for reading", p, 0, 2);
	holds("a page of a file that was written", p + 2 * PAGE, 1, 7);
	from_file("a page of a file", p + 3 * PAGE, 3, 1);
	zeros("memory over a file", p + 4 * PAGE, 2);
	from_file("pages of a file", p + 6 * PAGE, 6, 2);
	zeros("memory in the hole of a file", p + 8 * PAGE, 1);
	CHECK(opens(p + 10 * PAGE, PROT_READ) == 0);
	from_file("a page that was closed", p + 10 * PAGE, 10, 1);
	CHECK(opens(p + 10 * PAGE, PROT_NONE) == 0);
	from_file("a written page that was given back", p + 11 * PAGE, 11, 1);
	holds("grown", AT(2), 8, 20);
	zeros("what it grew by", AT(2) + 8 * PAGE, 12);
	holds("moved", AT(4), 8, 21);
	zeros("the place left behind", AT(5), 8);
	holds("moved from it", AT(6), 8, 22);
	CHECK(mprotect(AT(7) + 12 * PAGE, 4 * PAGE, PROT_READ) == 0);
	holds("protected", AT(7), 32, 30);
	CHECK(mprotect(AT(7) + 12 * PAGE, 4 * PAGE, PROT_NONE) == 0);
	holds("reserved, then opened", AT(8) + 4 * PAGE, 2, 31);
	zeros("the rest of that", AT(8) + 6 * PAGE, 2);
	p = AT(9);
	for (int i = 0; i < 56; i += 8)
		if (i != 8 && i != 16 && i != 48)
			for (unsigned long j = 0; j < 4 * PAGE; j += 8)
				if (*(uint64_t *)(p + (unsigned long)i * PAGE + j) != mix(40, (unsigned long)i * PAGE + j)) {
					bad("round %ld: advised memory at page %d", work_rounds, i);
					break;
				}
	zeros("mapped anew where huge pages were wished", p + 48 * PAGE, 2);
	zeros("mapped anew where no dump was wished", p + 16 * PAGE, 1);
	zeros("mapped anew, not reserved", p + 10 * PAGE, 1);
	zeros("given back", p + 56 * PAGE, 4);
	holds("what grows down", AT(11), 4, 50);
	holds("what it grew by", AT(11) - PAGE, 1, 51);
	holds("above a guard", AT(12) + PAGE, 8, 52);
	holds("shared memory", shared, 4, 70);
	zeros("the rest of it", shared + 4 * PAGE, 12);
	holds("memory with a descriptor's past", mem + PAGE, 2, 71);
	holds("a segment", sysv, 2, 72);
	errno = 0;
	CHECK(madvise(locked, 8 * PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
	holds("locked memory", locked, 3, 73);
	zeros("the rest of that", locked + 3 * PAGE, 5);
	CHECK(mprotect(shared + 8 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
	errno = 0;
}

int main(int argc, char **argv)
{
	int parts = 8, whole = argc > 3 && strcmp(argv[3], "maps") == 0;
	setvbuf(stdout, NULL, _IONBF, 0);
	work_begin(argc, argv);
	fd = open("/proc/self/exe", O_RDONLY);
	CHECK(padding[work_rounds] == 's' && padding[sizeof padding - 1] == 0);
	shared = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int m = (int)syscall(SYS_memfd_create, "of areas", 0);
	CHECK(ftruncate(m, 4 * PAGE) == 0);
	mem = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
	close(m);
	int id = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600);
	sysv = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	locked = map(NULL, 8, PROT_READ | PROT_WRITE, 0);
	CHECK(mlock(locked, 8 * PAGE) == 0);
	CHECK(fd >= 0 && shared != MAP_FAILED && mem != MAP_FAILED && sysv != (void *)-1);
	while (work_more()) {
		CHECK(munmap(BASE, 64UL << 20) == 0);
		for (int i = 0; i < parts; i++) {
			make(i);
			nap(whole ? 40000 : 3000);
		}
		look();
		nap(5000);
		look();
		if (whole)
			compare();
		report("round", 1);
	}
	return work_end();
}
