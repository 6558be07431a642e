/*
 * mapfile: files are mapped where the program runs, with the content and the errors that they have at its home; what it writes to
 * private pages stays its own, what it gives back is the file's again, and behind the end of the file is a bus error.
 */
#include "work.h"
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096UL
enum { PAGES = 40, TAIL = 1234 };

static sigjmp_buf back;
static volatile sig_atomic_t faults;

static void on_bus(int sig)
{
	faults++;
	siglongjmp(back, sig);
}

static int touch(volatile char *p) /* the signal that reading at p gives, or 0 */
{
	int sig = sigsetjmp(back, 1);
	if (sig == 0)
		(void)*p;
	return sig;
}

static const char *own = "mapfile.data";
static char want[PAGES * PAGE];

static void errors(int rd, int wr, int dir)
{
	errno = 0;
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED && errno == EBADF);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, wr, 0) == MAP_FAILED && errno == EACCES);
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, rd, 0) == MAP_FAILED && errno == EACCES);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, dir, 0) == MAP_FAILED && errno == ENODEV);
	CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, rd, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, rd, 100) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap((void *)(PAGE * 1000 + 1), PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, rd, 0) == MAP_FAILED && errno == EINVAL);
}

static void private_file(int rd)
{
	char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, rd, 0);
	CHECK(p != MAP_FAILED);
	nap(2000);
	CHECK(memcmp(p, want, sizeof want) == 0);
	p[3 * PAGE + 5] = 'x';
	nap(20000);
	CHECK(p[3 * PAGE + 5] == 'x' && memcmp(p, want, 3 * PAGE) == 0 && memcmp(p + 4 * PAGE, want + 4 * PAGE, sizeof want - 4 * PAGE) == 0);
	char c;
	CHECK(pread(rd, &c, 1, 3 * PAGE + 5) == 1 && c == want[3 * PAGE + 5]);
	CHECK(madvise(p + 3 * PAGE, PAGE, MADV_DONTNEED) == 0);
	CHECK(memcmp(p, want, sizeof want) == 0);
	/* a part of it elsewhere, in place of memory, and memory in place of a part that nobody touches */
	char *q = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(q, 'q', 8 * PAGE);
	CHECK(mmap(q + 2 * PAGE, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, rd, 10 * PAGE) == q + 2 * PAGE);
	CHECK(mmap(q + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == q + 3 * PAGE);
	nap(20000);
	CHECK(q[0] == 'q' && q[5 * PAGE] == 'q' && memcmp(q + 2 * PAGE, want + 10 * PAGE, PAGE) == 0 && memcmp(q + 4 * PAGE, want + 12 * PAGE, PAGE) == 0);
	CHECK(q[3 * PAGE] == 0 && q[4 * PAGE - 1] == 0);
	CHECK(mprotect(q + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
	q[2 * PAGE] = 'w';
	nap(5000);
	CHECK(q[2 * PAGE] == 'w' && memcmp(q + 2 * PAGE + 1, want + 10 * PAGE + 1, PAGE - 1) == 0);
	CHECK(munmap(q, 8 * PAGE) == 0 && munmap(p, PAGES * PAGE) == 0);
}

static void end_of_file(int rd)
{
	char *p = mmap(NULL, (PAGES + 4) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, rd, 0);
	CHECK(p != MAP_FAILED);
	nap(10000);
	CHECK(p[PAGES * PAGE + TAIL - 1] == 't' && p[PAGES * PAGE + TAIL] == 0 && touch(p + (PAGES + 1) * PAGE - 1) == 0);
	CHECK(touch(p + (PAGES + 1) * PAGE) == SIGBUS && touch(p + (PAGES + 3) * PAGE) == SIGBUS);
	p[PAGES * PAGE + TAIL] = 'z';
	nap(10000);
	CHECK(p[PAGES * PAGE + TAIL] == 'z' && touch(p + (PAGES + 1) * PAGE) == SIGBUS);
	CHECK(munmap(p, (PAGES + 4) * PAGE) == 0);
}

/* changes: each mapping has what the file has when it is made. */
static void changes(void)
{
	char name[64];
	snprintf(name, sizeof name, "%s.%d", own, getpid());
	int w = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600), r = open(name, O_RDONLY);
	CHECK(w >= 0 && r >= 0);
	for (char c = 'a'; c < 'f'; c++) {
		CHECK(pwrite(w, &c, 1, 10) == 1);
		char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, r, 0);
		CHECK(p != MAP_FAILED && p[10] == c);
		CHECK(munmap(p, PAGE) == 0);
	}
	CHECK(close(w) == 0 && close(r) == 0 && unlink(name) == 0);
}

static void system_file(void)
{
	static char buf[16 * PAGE];
	int fd = open("/etc/passwd", O_RDONLY);
	struct stat st;
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	ssize_t n = read(fd, buf, sizeof buf);
	char *p = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(close(fd) == 0 && p != MAP_FAILED);
	nap(10000);
	CHECK(memcmp(p, buf, (size_t)n) == 0);
	errno = 0;
	CHECK(mprotect(p, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
	CHECK(msync(p, PAGE, MS_SYNC) == 0);
	CHECK(munmap(p, (size_t)n) == 0);
}

static void library(void)
{
	void *h = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
	CHECK(h != NULL);
	double (*f)(double) = (double (*)(double))dlsym(h, "expm1");
	CHECK(f != NULL && f(0.0) == 0.0);
	nap(5000);
	CHECK(f(1.0) > 1.71 && f(1.0) < 1.72);
	CHECK(dlclose(h) == 0);
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	char name[64];
	snprintf(name, sizeof name, "%s.kept.%d", own, getpid());
	int w = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600), rd = open(name, O_RDONLY), wr = open(name, O_WRONLY), dir = open("/", O_RDONLY);
	for (size_t i = 0; i < sizeof want; i += 8)
		*(uint64_t *)(want + i) = mix(91, i);
	CHECK(write_all(w, want, sizeof want) == 0 && pwrite(w, "t", 1, sizeof want + TAIL - 1) == 1);
	CHECK(close(w) == 0 && rd >= 0 && wr >= 0 && dir >= 0);
	struct sigaction sa = {.sa_handler = on_bus};
	CHECK(sigaction(SIGBUS, &sa, NULL) == 0 && sigaction(SIGSEGV, &sa, NULL) == 0);
	while (work_more()) {
		faults = 0;
		errors(rd, wr, dir);
		private_file(rd);
		end_of_file(rd);
		changes();
		system_file();
		library();
		report("faults", (uint64_t)faults);
	}
	CHECK(unlink(name) == 0);
	return work_end();
}
