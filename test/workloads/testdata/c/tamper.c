/*
 * tamper MODE STOP: a guest that turns on what its host's agent needs of it: the page that both share, through which calls are
 * injected, the vDSO, and the agent's time. It waits until it is away, does what MODE says, says "done", and goes on until the
 * file STOP is there.
 *
 *   table      maps memory of its own where the agent writes the calls that are made without the filter, with calls of its own in it:
 *              if one is ever made, it finds that out
 *   code       replaces the code that makes injected calls by one that never ends
 *   unmap      unmaps the page and the vDSO
 *   scribble   a thread writes into all of the page that can be written, all the time: this alone must change nothing
 *   flood      threads make calls that cost them nothing, and send each other signals, as fast as they can, for as long as it runs
 *
 * SIGUSR1 is counted. The last line says "nothing", or what it got.
 */
#include "work.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#define BASE 0x100000000000ul
#define CODE_SIZE 0x2000ul
#define HEADER 0x2000ul
#define TABLE 0x10000ul
#define TABLE_SIZE 0x80000ul
#define PAGE_END 0x500000ul
#define UNTOUCHED 0x5ca1ab1e

struct injected {
	uint64_t nr, args[6];
	int64_t ret;
};

static volatile int begun, ended;
static volatile long usr1;
static pthread_t threads[8];
static int count;

static void on_usr1(int sig)
{
	(void)sig;
	usr1++;
}

static void on_usr2(int sig) { (void)sig; }

/* away tells by the cheapest call that goes home. */
static int away(void)
{
	uint64_t best = ~0ull;
	for (int i = 0; i < 15; i++) {
		uint64_t t = clock_ns(CLOCK_MONOTONIC);
		syscall(SYS_getppid);
		t = clock_ns(CLOCK_MONOTONIC) - t;
		if (t < best)
			best = t;
	}
	return best > 3000;
}

static sigjmp_buf gone;

/* on_segv ends the scribbling where the page goes while it is written to: it has come home. */
static void on_segv(int sig, siginfo_t *info, void *context)
{
	uint64_t at = (uint64_t)info->si_addr;
	(void)context;
	if (at < BASE || at >= BASE + PAGE_END || !pthread_equal(pthread_self(), threads[0])) {
		signal(sig, SIG_DFL); /* a fault of another kind ends the program, when it is made again */
		return;
	}
	siglongjmp(gone, 1);
}

static void *scribbler(void *arg)
{
	uint64_t x = 88172645463325252ull;
	(void)arg;
	while (!begun)
		nap(1000);
	if (sigsetjmp(gone, 1) != 0)
		begun = 2;
	while (!ended) {
		for (int i = 0; i < 20000 && begun == 1; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			uint64_t at = HEADER + x % (PAGE_END - HEADER - 8);
			if (i % 4 == 0)
				at = HEADER + x % 0x200;
			*(volatile uint64_t *)(BASE + at) = x;
		}
		if (!away())
			begun = 2; /* at home the page is gone */
	}
	return NULL;
}

static void *flooder(void *arg)
{
	long n = (long)arg;
	while (!begun)
		nap(1000);
	while (!ended) {
		for (int i = 0; i < 200; i++) {
			syscall(SYS_time, NULL);
			syscall(SYS_readlink, "/", NULL, 0);
			if (n % 2 == 0) {
				syscall(SYS_tgkill, work_pid, work_pid, SIGURG); /* ignored, and sent to one that waits */
				pthread_kill(threads[(n + 1) % count], SIGUSR2);
			}
		}
	}
	return NULL;
}

static void tables(void)
{
	struct injected *t = mmap((void *)(BASE + TABLE), TABLE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (t == MAP_FAILED) {
		bad("mmap: %d", errno);
		return;
	}
	static const char root[] = "/";
	for (size_t i = 0; i < TABLE_SIZE / sizeof *t; i++)
		t[i] = (struct injected){SYS_openat, {(uint64_t)AT_FDCWD, (uint64_t)root, O_DIRECTORY | O_CLOEXEC, 0, 0, 0}, UNTOUCHED};
}

static void look(void)
{
	struct injected *t = (struct injected *)(BASE + TABLE);
	for (size_t i = 0; i < TABLE_SIZE / sizeof *t; i++)
		if (t[i].ret != UNTOUCHED) {
			printf("leak: call %zu of the guest's own table was made for it and gave %lld\n", i, (long long)t[i].ret);
			bad("leak");
			return;
		}
}

static void unmap(void)
{
	unsigned long vdso = 0;
	/* where the vDSO lies the program was told at its start */
	extern char **environ;
	char **e = environ;
	while (*e != NULL)
		e++;
	for (unsigned long *aux = (unsigned long *)(e + 1); aux[0] != 0; aux += 2)
		if (aux[0] == 33)
			vdso = aux[1];
	if (vdso != 0)
		CHECK(syscall(SYS_munmap, vdso, 0x2000) == 0);
	CHECK(syscall(SYS_munmap, BASE, PAGE_END) == 0);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	const char *mode = argv[1], *stop = argv[2];
	struct sigaction sa = {.sa_handler = on_usr1};
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_handler = on_usr2;
	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR2, &sa, NULL);
	if (strcmp(mode, "scribble") == 0) {
		struct sigaction segv = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
		sigaction(SIGSEGV, &segv, NULL);
		pthread_create(&threads[count++], NULL, scribbler, NULL);
	}
	if (strcmp(mode, "flood") == 0)
		for (; count < 8; count++)
			pthread_create(&threads[count], NULL, flooder, (void *)(long)count);
	work_begin(0, argv);
	while (!away())
		nap(5000);
	if (*(volatile uint64_t *)(BASE + HEADER) == 0)
		bad("there is no shared page at %lx", BASE);
	if (strcmp(mode, "table") == 0)
		tables();
	if (strcmp(mode, "code") == 0) {
		CHECK(mprotect((void *)BASE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
		memset((void *)BASE, 0x90, CODE_SIZE - 2); /* wherever it is entered, it comes to the end */
		memcpy((void *)(BASE + CODE_SIZE - 2), "\xeb\xfe", 2);
	}
	if (strcmp(mode, "unmap") == 0) {
		unmap();
		for (int i = 0; access(stop, F_OK) != 0 && i < 60000; i++) { /* no clock of the C library is left */
			struct timespec ts = {0, 2000000};
			if (i == 0)
				dprintf(2, "done\n");
			syscall(SYS_nanosleep, &ts, NULL);
		}
		printf("nothing\n");
		return work_bad != 0;
	}
	begun = 1;
	dprintf(2, "done\n");
	for (int i = 0; access(stop, F_OK) != 0 && i < 60000; i++) {
		if (strcmp(mode, "table") == 0)
			look();
		for (volatile int k = 0; k < 1000000; k++)
			;
		nap(1000);
	}
	ended = 1;
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	dprintf(2, "usr1 %ld\n", usr1);
	if (work_bad == 0)
		printf("nothing\n");
	return work_bad != 0;
}
