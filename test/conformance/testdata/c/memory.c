/* Group 5: memory, private, shared and of files. mmap(2), mremap(2), mprotect(2), madvise(2), mlock(2), shmget(2), shm_open(3). */
#include "case.h"
#include <linux/futex.h>
#include <setjmp.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/uio.h>

#define PAGE 4096L

static char *anonymous(size_t n, int prot)
{
	return MAPPED(mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static sigjmp_buf back;
static void jumps(int sig, siginfo_t *si, MAYBE void *uc)
{
	note(sig, si, uc);
	siglongjmp(back, 1);
}

/* faults reports which signal comes of reading or writing one byte: 0 for none. */
static int faults(volatile char *p, int write)
{
	struct sigaction a = {.sa_sigaction = jumps, .sa_flags = SA_SIGINFO}, was[2];
	seen = 0;
	OK(sigaction(SIGSEGV, &a, &was[0]));
	OK(sigaction(SIGBUS, &a, &was[1]));
	if (sigsetjmp(back, 1) == 0) {
		if (write)
			*p = *p + 1;
		else
			(void)*p;
	}
	OK(sigaction(SIGSEGV, &was[0], NULL));
	OK(sigaction(SIGBUS, &was[1], NULL));
	return seen;
}

CASE(anonymous_memory_is_zero_and_holds)
{
	size_t n = 300 * PAGE;
	unsigned char *p = (unsigned char *)anonymous(n, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < n; i += 512)
		EQ(p[i], 0);
	for (size_t i = 0; i < n; i += 512)
		p[i] = (unsigned char)(i / 512 * 7);
	if (moving)
		nap(60);
	for (size_t i = 0; i < n; i += 512)
		EQ(p[i], (unsigned char)(i / 512 * 7));
	OK(munmap(p, n));
	EQ(faults((char *)p, 0), SIGSEGV);
}

CASE(mmap_refuses)
{
	int fd = temp("x", 1), r, p[2];
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	r = (int)OK(open(path, O_RDONLY | O_CLOEXEC));
	OK(pipe2(p, O_CLOEXEC));
	ERR((intptr_t)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
	ERR((intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
	ERR((intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
	ERR((intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
	ERR((intptr_t)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0), EACCES);
	ERR((intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, p[0], 0), ENODEV);
	ERR((intptr_t)mmap(NULL, 1L << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
	ERR((intptr_t)mmap((void *)123, PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
	close(fd), close(r), close(p[0]), close(p[1]);
}

CASE(map_fixed_replaces)
{
	char *p = anonymous(3 * PAGE, PROT_READ | PROT_WRITE);
	p[0] = p[PAGE] = p[2 * PAGE] = 'a';
	IS(mmap(p + PAGE, PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == p + PAGE);
	EQ(p[0] + p[PAGE] + p[2 * PAGE], 'a' + 0 + 'a');
	ERR((intptr_t)mmap(p, PAGE, PROT_READ, MAP_FIXED_NOREPLACE | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EEXIST);
	OK(munmap(p + PAGE, PAGE));
	IS(mmap(p + PAGE, PAGE, PROT_READ, MAP_FIXED_NOREPLACE | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == p + PAGE);
	OK(munmap(p, 3 * PAGE));
}

CASE(file_mapped_private)
{
	char text[2 * PAGE], b[4];
	memset(text, 'f', sizeof text);
	int fd = temp(text, sizeof text);
	char *p = MAPPED(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	EQ(p[PAGE + 5], 'f');
	p[3] = 'g';
	EQ(pread(fd, b, 1, 3), 1);
	EQ(b[0], 'f');
	EQ(pwrite(fd, "h", 1, PAGE + 9), 1);
	EQ(p[PAGE + 9], 'h'); /* of an unwritten page it is unspecified by POSIX; Linux shows the file */
	EQ(p[3], 'g');
	OK(munmap(p, 2 * PAGE));
	close(fd);
}

CASE(file_mapped_with_an_offset)
{
	char text[3 * PAGE];
	for (int i = 0; i < 3; i++)
		memset(text + i * PAGE, 'a' + i, PAGE);
	int fd = temp(text, sizeof text);
	char *p = MAPPED(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 2 * PAGE));
	close(fd);
	EQ(p[0] + p[PAGE - 1], 2 * 'c');
	EQ(faults(p, 1), SIGSEGV);
	OK(munmap(p, PAGE));
}

CASE(file_mapped_shared_for_reading)
{
	int fd = temp("shared text", 11);
	char *p = MAPPED(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	EQ(memcmp(p, "shared text\0", 12), 0);
	EQ(pwrite(fd, "S", 1, 0), 1);
	EQ(p[0], 'S');
	OK(munmap(p, PAGE));
	close(fd);
}

CASE(file_mapped_shared_for_writing)
{
	char b[8] = "";
	int fd = temp("0123456789", 10);
	char *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	memcpy(p + 2, "AB", 2);
	OK(msync(p, PAGE, MS_SYNC));
	EQ(pread(fd, b, 6, 0), 6);
	SAME(b, "01AB45");
	EQ(pwrite(fd, "z", 1, 0), 1);
	EQ(p[0], 'z');
	p[100] = 'x'; /* beyond the end of the file: never written */
	struct stat st;
	OK(fstat(fd, &st));
	EQ(st.st_size, 10);
	OK(munmap(p, PAGE));
	close(fd);
}

CASE(file_mapped_beyond_its_end)
{
	int fd = temp("x", 1);
	char *p = MAPPED(mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	EQ(p[1], 0);
	EQ(faults(p + PAGE, 0), SIGBUS);
	EQ(seen_info.si_code, BUS_ADRERR);
	OK(ftruncate(fd, 2 * PAGE));
	EQ(faults(p + PAGE, 0), 0);
	OK(munmap(p, 2 * PAGE));
	close(fd);
}

CASE(dev_zero_mapped)
{
	int fd = (int)OK(open("/dev/zero", O_RDWR | O_CLOEXEC));
	char *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	EQ(p[7], 0);
	p[7] = 1;
	EQ(p[7], 1);
	OK(munmap(p, PAGE));
	close(fd);
}

CASE(shared_anonymous_memory_of_a_child)
{
	volatile int *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	p[0] = 1;
	pid_t c = forked();
	if (c == 0) {
		for (int i = 0; i < 5000 && p[0] != 2; i++)
			nap(1);
		p[1] = p[0] + 40;
		_exit(0);
	}
	nap(wait_ms());
	p[0] = 2;
	EXITS(c, 0);
	EQ(p[1], 42);
	OK(munmap((void *)p, PAGE));
}

/* futex is the call itself: glibc has no function for it. */
static long futex(volatile int *at, int op, int val, const struct timespec *limit)
{
	return syscall(SYS_futex, at, op, val, limit, NULL, 0);
}

CASE(futex_between_processes)
{
	volatile int *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pid_t c = forked();
	if (c == 0) {
		p[1] = 1; /* about to wait */
		while (p[0] == 0)
			if (futex(p, FUTEX_WAIT, 0, NULL) != 0 && errno != EAGAIN)
				_exit(errno);
		p[2] = p[0] + 1;
		_exit(0);
	}
	for (int i = 0; i < 5000 && p[1] == 0; i++)
		nap(1);
	nap(wait_ms());
	struct timespec no = {0, 30000000};
	ERR(futex(p + 8, FUTEX_WAIT, 0, &no), ETIMEDOUT);
	p[0] = 4;
	IS(futex(p, FUTEX_WAKE, 9, NULL) <= 1, "more than one woken");
	EXITS(c, 0);
	EQ(p[2], 5);
	OK(munmap((void *)p, PAGE));
}

CASE(mutex_of_processes_whose_owner_dies)
{
	struct {
		pthread_mutex_t lock;
		volatile int has, value;
	} *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	EQ(pthread_mutex_init(&p->lock, &a), 0);
	pid_t c = forked();
	if (c == 0) {
		pthread_mutex_lock(&p->lock);
		p->value = 77;
		p->has = 1;
		for (;;)
			pause();
	}
	for (int i = 0; i < 5000 && p->has == 0; i++)
		nap(1);
	EQ(pthread_mutex_trylock(&p->lock), EBUSY);
	nap(wait_ms() / 2);
	OK(kill(c, SIGKILL));
	EQ(pthread_mutex_lock(&p->lock), EOWNERDEAD);
	EQ(p->value, 77);
	EQ(pthread_mutex_consistent(&p->lock), 0);
	EQ(pthread_mutex_unlock(&p->lock), 0);
	EQ(pthread_mutex_lock(&p->lock), 0);
	EQ(pthread_mutex_unlock(&p->lock), 0);
	int status = 0;
	EQ(waitpid(c, &status, 0), c);
	IS(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %#x", status);
	OK(munmap(p, PAGE));
}

CASE(shared_memory_of_three_generations)
{
	volatile int *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pid_t c = forked();
	if (c == 0) {
		pid_t g = fork();
		if (g == 0) {
			for (int i = 0; i < 8000 && p[0] == 0; i++)
				nap(1);
			p[1] = p[0] * 2;
			_exit(0);
		}
		int status = 0;
		_exit(waitpid(g, &status, 0) == g && status == 0 ? p[1] : 99);
	}
	nap(wait_ms());
	p[0] = 21;
	EXITS(c, 42);
	OK(munmap((void *)p, PAGE));
}

CASE(shared_memory_that_nobody_shares)
{
	volatile int *p = MAPPED(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	p[2000] = 9;
	nap(wait_ms() / 2);
	EQ(p[2000], 9);
	OK(munmap((void *)p, 4 * PAGE));
}

CASE(memfd_mapped_twice)
{
	int fd = (int)OK(memfd_create("case", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	OK(ftruncate(fd, 2 * PAGE));
	volatile char *a = MAPPED(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	volatile char *b = MAPPED(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE));
	a[PAGE + 3] = 'm';
	EQ(b[3], 'm');
	nap(wait_ms() / 2);
	EQ(pwrite(fd, "n", 1, PAGE + 3), 1);
	EQ(a[PAGE + 3] + b[3], 2 * 'n');
	ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	OK(munmap((void *)a, 2 * PAGE));
	OK(munmap((void *)b, PAGE));
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK));
	EQ(fcntl(fd, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SHRINK);
	ERR(pwrite(fd, "o", 1, 0), EPERM);
	ERR(ftruncate(fd, 0), EPERM);
	close(fd);
}

CASE(memfd_of_a_child)
{
	int fd = (int)OK(memfd_create("case", 0));
	OK(ftruncate(fd, PAGE));
	pid_t c = forked();
	if (c == 0) {
		int *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
		p[1] = 77;
		_exit(0);
	}
	EXITS(c, 0);
	int *p = MAPPED(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	EQ(p[1], 77);
	OK(munmap(p, PAGE));
	close(fd);
}

CASE(mremap_grows_moves_and_shrinks)
{
	char *p = anonymous(4 * PAGE, PROT_READ | PROT_WRITE), *q;
	OK(munmap(p + 2 * PAGE, 2 * PAGE));
	p[0] = 'a';
	p[2 * PAGE - 1] = 'z';
	IS(mremap(p, 2 * PAGE, 3 * PAGE, 0) == p);
	EQ(p[2 * PAGE - 1] + p[2 * PAGE], 'z');
	q = MAPPED(mmap(p + 3 * PAGE, PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ERR((intptr_t)mremap(p, 3 * PAGE, 4 * PAGE, 0), ENOMEM);
	char *r = MAPPED(mremap(p, 3 * PAGE, 4 * PAGE, MREMAP_MAYMOVE));
	IS(r != p);
	EQ(r[0] + r[2 * PAGE - 1], 'a' + 'z');
	EQ(faults(p, 0), SIGSEGV);
	IS(mremap(r, 4 * PAGE, PAGE, 0) == r);
	EQ(faults(r + PAGE, 0), SIGSEGV);
	EQ(r[0], 'a');
	OK(munmap(r, PAGE));
	OK(munmap(q, PAGE));
	ERR((intptr_t)mremap(q, PAGE, PAGE * 2, 0), EFAULT);
}

CASE(mremap_to_an_address)
{
	char *p = anonymous(2 * PAGE, PROT_READ | PROT_WRITE), *q = anonymous(2 * PAGE, PROT_READ);
	p[PAGE] = 'm';
	IS(mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
	EQ(q[PAGE], 'm');
	q[0] = 1;
	EQ(faults(p, 0), SIGSEGV);
	char *r = MAPPED(mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
	EQ(r[PAGE], 'm');
	EQ(q[PAGE], 0); /* left mapped, and empty */
	OK(munmap(q, 2 * PAGE));
	OK(munmap(r, 2 * PAGE));
}

CASE(mprotect_is_kept)
{
	char *p = anonymous(3 * PAGE, PROT_READ | PROT_WRITE);
	p[0] = p[PAGE] = p[2 * PAGE] = 1;
	OK(mprotect(p + PAGE, PAGE, PROT_READ));
	nap(wait_ms() / 2);
	EQ(faults(p, 1), 0);
	EQ(faults(p + PAGE, 0), 0);
	EQ(faults(p + PAGE, 1), SIGSEGV);
	EQ(seen_info.si_code, SEGV_ACCERR);
	EQ(faults(p + 2 * PAGE, 1), 0);
	OK(mprotect(p + PAGE, PAGE, PROT_NONE));
	nap(wait_ms() / 2);
	EQ(faults(p + PAGE, 0), SIGSEGV);
	OK(mprotect(p + PAGE, PAGE, PROT_READ));
	EQ(p[PAGE], 1);
	OK(munmap(p, 3 * PAGE));
	ERR(mprotect(p, PAGE, PROT_READ), ENOMEM);
	ERR(mprotect(p + 1, PAGE, PROT_READ), EINVAL);
}

CASE(memory_that_is_executed)
{
	static const unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
	char *p = anonymous(PAGE, PROT_READ | PROT_WRITE);
	memcpy(p, code, sizeof code);
	OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	EQ(((int (*)(void))(void *)p)(), 42);
	nap(wait_ms() / 2);
	EQ(((int (*)(void))(void *)p)(), 42);
	OK(mprotect(p, PAGE, PROT_READ));
	struct sigaction a = {.sa_sigaction = jumps, .sa_flags = SA_SIGINFO};
	seen = 0;
	OK(sigaction(SIGSEGV, &a, NULL));
	if (sigsetjmp(back, 1) == 0)
		((int (*)(void))(void *)p)();
	EQ(seen, SIGSEGV);
	IS(seen_info.si_addr == p);
	signal(SIGSEGV, SIG_DFL);
	OK(munmap(p, PAGE));
}

CASE(growsdown_grows)
{
	char *p = anonymous(64 * PAGE, PROT_NONE);
	OK(munmap(p, 64 * PAGE));
	char *top = p + 60 * PAGE;
	IS(mmap(top, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0) == top);
	nap(wait_ms() / 2);
	for (int i = 0; i < 20; i++)
		EQ(faults(top - i * PAGE, 1), 0);
	EQ(top[-5 * PAGE], 1);
	OK(munmap(top - 19 * PAGE, 20 * PAGE));
}

static int deep(int n)
{
	volatile char b[4000];
	b[0] = (char)n;
	return n == 0 ? b[0] : deep(n - 1) + (b[0] == (char)n);
}

CASE(stack_grows_by_itself)
{
	EQ(deep(500), 500);
	nap(wait_ms() / 2);
	EQ(deep(900), 900);
}

CASE(brk_grows_and_shrinks)
{
	char *was = sbrk(0), *p = sbrk(5 * PAGE);
	IS(p == was);
	p[4 * PAGE] = 'b';
	nap(wait_ms() / 2);
	EQ(p[4 * PAGE], 'b');
	IS(sbrk(0) == was + 5 * PAGE);
	OK((intptr_t)sbrk(-5 * PAGE));
	IS(sbrk(0) == was);
}

CASE(noreserve_of_much)
{
	size_t n = 1UL << 36;
	char *p = MAPPED(mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	p[n / 2] = 1;
	nap(wait_ms() / 2);
	EQ(p[n / 2] + p[n - 1], 1);
	OK(munmap(p, n));
}

CASE(madvise_dontneed_forgets)
{
	char *p = anonymous(4 * PAGE, PROT_READ | PROT_WRITE);
	memset(p, 'd', 4 * PAGE);
	OK(madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED));
	EQ(p[0] + p[PAGE] + p[2 * PAGE] + p[3 * PAGE], 2 * 'd');
	if (moving)
		nap(80);
	EQ(p[0] + p[PAGE] + p[2 * PAGE] + p[3 * PAGE], 2 * 'd');
	OK(munmap(p, 4 * PAGE));
	ERR(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
	ERR(madvise(p, PAGE, 9999), EINVAL);
}

CASE(madvise_dontfork)
{
	char *p = anonymous(2 * PAGE, PROT_READ | PROT_WRITE);
	p[0] = p[PAGE] = 'f';
	OK(madvise(p, PAGE, MADV_DONTFORK));
	nap(wait_ms() / 2);
	IN_CHILD
	{
		EQ(faults(p, 0), SIGSEGV);
		EQ(p[PAGE], 'f');
	}
	EQ(p[0], 'f');
	OK(madvise(p, PAGE, MADV_DOFORK));
	IN_CHILD { EQ(p[0], 'f'); }
	OK(munmap(p, 2 * PAGE));
}

CASE(madvise_wipeonfork)
{
	char *p = anonymous(2 * PAGE, PROT_READ | PROT_WRITE);
	p[0] = p[PAGE] = 'w';
	OK(madvise(p, PAGE, MADV_WIPEONFORK));
	nap(wait_ms() / 2);
	IN_CHILD
	{
		EQ(p[0], 0);
		EQ(p[PAGE], 'w');
	}
	EQ(p[0], 'w');
	OK(munmap(p, 2 * PAGE));
}

CASE(madvise_hints_change_nothing)
{
	static const int hints[] = {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_COLD};
	char *p = anonymous(600 * PAGE, PROT_READ | PROT_WRITE);
	for (long i = 0; i < 600; i++)
		p[i * PAGE] = (char)i;
	for (unsigned i = 0; i < sizeof hints / sizeof hints[0]; i++)
		if (madvise(p, 600 * PAGE, hints[i]) != 0)
			IS(errno == EINVAL, "madvise %d: errno %d", hints[i], errno); /* a kernel without huge pages */
	for (long i = 0; i < 600; i++)
		EQ(p[i * PAGE], (char)i);
	OK(munmap(p, 600 * PAGE));
}

static long kilobytes(const char *path, const char *key)
{
	static char b[16384];
	IS(slurp(path, b, sizeof b) > 0, "%s: errno %d", path, errno);
	char *at = strstr(b, key);
	return at == NULL ? -1 : atol(at + strlen(key));
}

CASE(mlock_is_counted)
{
	char *p = anonymous(3 * PAGE, PROT_READ | PROT_WRITE);
	EQ(kilobytes("/proc/self/status", "VmLck:"), 0);
	OK(mlock(p, 2 * PAGE));
	nap(wait_ms() / 2);
	EQ(kilobytes("/proc/self/status", "VmLck:"), 8);
	unsigned char v[3];
	OK(mincore(p, 2 * PAGE, v));
	EQ((v[0] & 1) + (v[1] & 1), 2);
	OK(munlock(p, 2 * PAGE));
	EQ(kilobytes("/proc/self/status", "VmLck:"), 0);
	OK(munmap(p, 3 * PAGE));
	ERR(mlock(p, PAGE), ENOMEM);
}

CASE(mincore_tells_what_is_there)
{
	char *p = anonymous(3 * PAGE, PROT_READ | PROT_WRITE);
	unsigned char v[3] = {9, 9, 9};
	p[PAGE] = 1;
	OK(mincore(p, 3 * PAGE, v));
	EQ(v[1] & 1, 1);
	OK(munmap(p, 3 * PAGE));
	ERR(mincore(p, PAGE, v), ENOMEM);
	ERR(mincore((void *)(intptr_t)((uintptr_t)v & ~4095UL) + 1, PAGE, v), EINVAL);
}

CASE(sysv_memory_within_a_family)
{
	struct shmid_ds ds;
	int id = (int)OK(shmget(IPC_PRIVATE, 3 * PAGE, 0600));
	volatile char *p = shmat(id, NULL, 0);
	IS((intptr_t)p != -1, "shmat: errno %d", errno);
	p[5] = 's';
	OK(shmctl(id, IPC_STAT, &ds));
	EQ(ds.shm_nattch, 1);
	EQ(ds.shm_segsz, 3 * PAGE);
	EQ(ds.shm_cpid, me);
	pid_t c = forked();
	if (c == 0) {
		p[6] = p[5] + 1;
		_exit(0);
	}
	EXITS(c, 0);
	EQ(p[6], 't');
	char *q = shmat(id, NULL, SHM_RDONLY);
	IS((intptr_t)q != -1, "shmat: errno %d", errno);
	nap(wait_ms() / 2);
	EQ(q[6], 't');
	EQ(faults(q, 1), SIGSEGV);
	OK(shmdt(q));
	ERR(shmdt(q), EINVAL);
	OK(shmctl(id, IPC_RMID, NULL));
	EQ(p[6], 't'); /* until the last detaches */
	OK(shmdt((void *)p));
	ERR(shmctl(id, IPC_STAT, &ds), EINVAL);
	ERR((intptr_t)shmat(id, NULL, 0), EINVAL);
}

CASE(posix_shared_memory)
{
	char name[64];
	snprintf(name, sizeof name, "/conformance.%d", me);
	int fd = (int)OK(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
	OK(ftruncate(fd, PAGE));
	volatile char *p = MAPPED(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	p[0] = 'p';
	pid_t c = forked();
	if (c == 0) {
		int f = shm_open(name, O_RDONLY, 0);
		char *q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, f, 0);
		_exit(q[0]);
	}
	EXITS(c, 'p');
	ERR(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	OK(shm_unlink(name));
	ERR(shm_open(name, O_RDWR, 0600), ENOENT);
	OK(munmap((void *)p, PAGE));
	close(fd);
}

CASE(calls_and_memory_that_they_may_not_touch)
{
	char *p = anonymous(3 * PAGE, PROT_READ | PROT_WRITE);
	int fd = temp("0123456789", 10);
	OK(mprotect(p + PAGE, PAGE, PROT_NONE));
	OK(mprotect(p + 2 * PAGE, PAGE, PROT_READ));
	ERR(read(fd, p + PAGE, 5), EFAULT);
	ERR(read(fd, p + 2 * PAGE, 5), EFAULT);
	ERR(write(fd, p + PAGE, 5), EFAULT);
	EQ(write(fd, p + 2 * PAGE, 5), 5);
	ERR(read(fd, (void *)-1, 1), EFAULT);
	ERR(open((char *)p + PAGE, O_RDONLY), EFAULT);
	ERR(pipe((int *)(p + PAGE)), EFAULT);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(read(fd, p + PAGE - 3, 5), 3); /* up to where it may */
	struct stat *st = (struct stat *)(p + 2 * PAGE - 8);
	ERR(fstat(fd, st), EFAULT);
	int two[2], next = (int)OK(dup(fd));
	OK(close(next));
	ERR(pipe((int *)(p + PAGE)), EFAULT);
	EQ(dup(fd), next); /* nothing was opened, and nothing is read that cannot be given */
	OK(close(next));
	OK(pipe(two));
	OK(write(two[1], "0123456789", 10));
	ERR(read(two[0], p + 2 * PAGE, 5), EFAULT);
	EQ(read(two[0], p, PAGE), 10);
	EQ(memcmp(p, "0123456789", 10), 0);
	close(two[0]);
	close(two[1]);
	OK(munmap(p, 3 * PAGE));
	close(fd);
}

CASE(process_vm_of_oneself)
{
	char a[16] = "from", b[16] = "";
	struct iovec l = {b, 5}, r = {a, 5};
	EQ(process_vm_readv(me, &l, 1, &r, 1, 0), 5);
	SAME(b, "from");
	memcpy(b, "to!!", 5);
	EQ(process_vm_writev(me, &l, 1, &r, 1, 0), 5);
	SAME(a, "to!!");
	ERR(process_vm_readv(99999999, &l, 1, &r, 1, 0), ESRCH);
}

CASE(proc_mem_of_oneself)
{
	static char word[8] = "memory";
	char b[8] = "";
	int fd = (int)OK(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
	EQ(pread(fd, b, 7, (off_t)(intptr_t)word), 7);
	SAME(b, "memory");
	EQ(pwrite(fd, "M", 1, (off_t)(intptr_t)word), 1);
	SAME(word, "Memory");
	word[0] = 'm';
	close(fd);
}

CASE(large_memory_is_whole)
{
	size_t n = 24UL << 20;
	uint64_t *p = (uint64_t *)(void *)anonymous(n, PROT_READ | PROT_WRITE), sum = 0, due = 0;
	for (size_t i = 0; i < n / 8; i += 64) {
		p[i] = i * 0x9E3779B97F4A7C15u;
		due += p[i];
	}
	for (int k = 0; k < 3; k++) {
		sum = 0;
		for (size_t i = 0; i < n / 8; i += 64)
			sum += p[i];
		IS(sum == due);
		if (moving)
			nap(30);
	}
	OK(munmap(p, n));
}

CASE(holes_are_kept)
{
	char *p = anonymous(9 * PAGE, PROT_READ | PROT_WRITE);
	for (int i = 0; i < 9; i++)
		p[i * PAGE] = (char)(i + 1);
	for (int i = 1; i < 9; i += 2)
		OK(munmap(p + i * PAGE, PAGE));
	nap(wait_ms() / 2);
	for (int i = 0; i < 9; i++) {
		EQ(faults(p + i * PAGE, 0), i % 2 ? SIGSEGV : 0);
		if (i % 2 == 0)
			EQ(p[i * PAGE], i + 1);
	}
	OK(munmap(p, 9 * PAGE));
}

CASE(protection_keys)
{
	int k = pkey_alloc(0, PKEY_DISABLE_WRITE);
	if (k < 0) {
		IS(errno == ENOSPC || errno == ENOSYS || errno == EINVAL, "errno %d", errno); /* a processor without them */
		return;
	}
	char *p = anonymous(PAGE, PROT_READ | PROT_WRITE);
	p[0] = 1;
	OK(pkey_mprotect(p, PAGE, PROT_READ | PROT_WRITE, k));
	nap(wait_ms() / 2);
	EQ(faults(p, 0), 0);
	EQ(faults(p, 1), SIGSEGV);
	EQ(seen_info.si_code, SEGV_PKUERR);
	EQ(pkey_get(k), PKEY_DISABLE_WRITE);
	OK(pkey_set(k, 0));
	EQ(faults(p, 1), 0);
	OK(munmap(p, PAGE));
	OK(pkey_free(k));
}

CASE(guard_pages_fault)
{
	enum { INSTALL = 102, REMOVE = 103 };
	char *p = anonymous(16 * PAGE, PROT_READ | PROT_WRITE);
	memset(p, 'g', 16 * PAGE);
	if (madvise(p + 4 * PAGE, 2 * PAGE, INSTALL) != 0) {
		EQ(errno, EINVAL); /* a kernel before 6.13 */
		OK(munmap(p, 16 * PAGE));
		return;
	}
	for (int i = 0; i < 3; i++) {
		EQ(faults(p + 4 * PAGE, 1), SIGSEGV);
		EQ(faults(p + 6 * PAGE - 1, 0), SIGSEGV);
		EQ(faults(p + 6 * PAGE, 1), 0);
		if (moving)
			nap(100);
	}
	IN_CHILD { EQ(faults(p + 5 * PAGE, 0), SIGSEGV); }
	MAPPED(mmap(p + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EQ(faults(p + 4 * PAGE, 1), 0);
	EQ(faults(p + 5 * PAGE, 1), SIGSEGV);
	OK(madvise(p + 5 * PAGE, PAGE, REMOVE));
	EQ(p[5 * PAGE], 0);
	OK(munmap(p, 16 * PAGE));
}

CASE(file_that_is_cut_off_by_its_name)
{
	int fd = (int)OK(open(scratch, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	char page[4096];
	memset(page, 'c', sizeof page);
	for (int i = 0; i < 4; i++)
		EQ(write(fd, page, sizeof page), sizeof page);
	OK(close(fd));
	fd = (int)OK(open(scratch, O_RDONLY | O_CLOEXEC));
	char *p = MAPPED(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	OK(close(fd));
	p[3 * PAGE] = 'd';
	nap(wait_ms());
	OK(truncate(scratch, 2 * (off_t)PAGE));
	EQ(faults(p + PAGE, 0), 0);
	EQ(faults(p + 2 * PAGE, 0), SIGBUS);
	EQ(faults(p + 3 * PAGE, 0), SIGBUS); /* what the process had written goes with the file */
	OK(munmap(p, 4 * PAGE));
	OK(unlink(scratch));
}

CASE(limit_of_address_space_is_exact)
{
	struct rlimit was, l;
	OK(getrlimit(RLIMIT_AS, &was));
	char b[8192], *at;
	IS(slurp("/proc/self/status", b, sizeof b) > 0 && (at = strstr(b, "\nVmSize:")) != NULL);
	l.rlim_cur = (rlim_t)(atol(at + 8) + 65536) << 10;
	l.rlim_max = was.rlim_max;
	OK(setrlimit(RLIMIT_AS, &l));
	size_t n = 65536 << 10;
	void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ERR(mmap(NULL, 65536 << 10, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0, ENOMEM);
	OK(setrlimit(RLIMIT_AS, &was));
	if (p == MAP_FAILED) {
		char *now = slurp("/proc/self/status", b, sizeof b) > 0 ? strstr(b, "\nVmSize:") : NULL;
		IS(p != MAP_FAILED, "%zu KiB more do not fit under a limit of %llu KiB, of which %ld are used", n >> 10, (unsigned long long)l.rlim_cur >> 10, now ? atol(now + 8) : 0);
	}
	OK(munmap(p, n));
}

/* What another process writes to a file shows where it is mapped for reading, and where it is private and not written; at the latest when
 * one hears of it, by a pipe or a signal. */
CASE(file_that_another_writes_shows)
{
	int fd = (int)OK(open(scratch, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)), go[2], did[2];
	char page[4096];
	memset(page, 'o', sizeof page);
	for (int i = 0; i < 4; i++)
		EQ(write(fd, page, sizeof page), sizeof page);
	OK(close(fd));
	fd = (int)OK(open(scratch, O_RDONLY | O_CLOEXEC));
	volatile char *s = MAPPED(mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0));
	volatile char *p = MAPPED(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	OK(close(fd));
	EQ(s[0] + s[3 * PAGE] + p[0] + p[3 * PAGE], 4 * 'o');
	p[PAGE] = 'm';
	OK(pipe2(go, O_CLOEXEC));
	OK(pipe2(did, O_CLOEXEC));
	sigset_t usr, was;
	sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &usr, &was));
	pid_t parent = getpid(), c = forked();
	if (c == 0) {
		int w = open(scratch, O_WRONLY | O_CLOEXEC);
		char b;
		close(go[1]);
		for (int i = 0; read(go[0], &b, 1) == 1; i++) {
			for (int k = 0; k < 4; k++)
				if (pwrite(w, &b, 1, k * PAGE) != 1)
					_exit(errno);
			if (i % 2 == 0 ? write(did[1], &b, 1) != 1 : kill(parent, SIGUSR1) != 0)
				_exit(errno);
		}
		_exit(0);
	}
	OK(close(go[0]));
	for (int i = 0; i < 4; i++) {
		char b = (char)('a' + i);
		siginfo_t si;
		nap(wait_ms());
		EQ(write(go[1], &b, 1), 1);
		if (i % 2 == 0)
			EQ(read(did[0], &b, 1), 1);
		else
			EQ(sigwaitinfo(&usr, &si), SIGUSR1);
		EQ(s[0], b);
		EQ(s[3 * PAGE], b);
		EQ(p[0], b);
		EQ(p[PAGE], 'm');
	}
	OK(close(go[1]));
	EXITS(c, 0);
	OK(sigprocmask(SIG_SETMASK, &was, NULL));
	OK(close(did[0])), OK(close(did[1]));
	OK(munmap((void *)s, 4 * PAGE));
	OK(munmap((void *)p, 4 * PAGE));
	OK(unlink(scratch));
}

CASE(shared_memory_that_nobody_may_touch)
{
	char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	IS(p != MAP_FAILED);
	for (int i = 0; i < 3; i++)
		p[i * 4096] = (char)('a' + i);
	OK(mprotect(p + 4096, 4096, PROT_NONE));
	nap(wait_ms());
	OK(mprotect(p + 4096, 4096, PROT_READ));
	for (int i = 0; i < 3; i++)
		EQ(p[i * 4096], 'a' + i);
	munmap(p, 3 * 4096);
}

/* what one mmap has made is one area, also where there were others before */
CASE(what_is_mapped_at_once_is_one_area)
{
	const size_t page = 4096, len = 32 * page;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	IS(p != MAP_FAILED);
	munmap(p + 8 * page, 8 * page);
	munmap(p + 20 * page, 4 * page);
	p[0] = p[16 * page] = p[31 * page] = 1;
	nap(moving ? 12 : 1);
	IS(mmap(p, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	for (size_t i = 0; i < 32; i++)
		p[i * page] = (char)(i + 3);
	nap(moving ? 12 : 1);
	char *q = mremap(p, len, 2 * len, MREMAP_MAYMOVE);
	IS(q != MAP_FAILED, "errno %d", errno);
	for (size_t i = 0; i < 32; i++)
		EQ(q[i * page], i + 3);
	munmap(q, 2 * len);
}
