/*
 * heap: MIB mebibytes (argument 3, default 200), a quarter by brk and the rest by mmap, written with a pattern and verified
 * stripe by stripe, while small areas are mapped, grown, moved, protected, given back and punched with holes. Faults that
 * the program provokes must come back as its own SIGSEGV, with the address.
 */
#include "work.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static sigjmp_buf fault;
static void *volatile fault_addr;

static void on_segv(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	fault_addr = si->si_addr;
	siglongjmp(fault, 1);
}

static void fill(uint64_t *p, size_t words, uint64_t seed)
{
	for (size_t i = 0; i < words; i++)
		p[i] = mix(seed, i);
}

static int verify(const uint64_t *p, size_t words, uint64_t seed)
{
	for (size_t i = 0; i < words; i++)
		if (p[i] != mix(seed, i)) {
			bad("round %ld: word %zu of the stripe at %p is %llx, want %llx", work_rounds, i, (const void *)p,
			    (unsigned long long)p[i], (unsigned long long)mix(seed, i));
			return 0;
		}
	return 1;
}

/* faults expects that touching p, by reading or writing, is a SIGSEGV at p. */
static int faults(volatile char *p, int write)
{
	fault_addr = NULL;
	if (sigsetjmp(fault, 1) == 0) {
		if (write)
			*p = 1;
		else
			(void)*p;
		return 0;
	}
	return fault_addr == (void *)p;
}

static void areas(void)
{
	const size_t page = 4096, len = 64 * page;
	char *a = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(a != MAP_FAILED);
	fill((uint64_t *)a, len / 8, 21);
	a = mremap(a, len, 4 * len, MREMAP_MAYMOVE);
	CHECK(a != MAP_FAILED);
	CHECK(verify((uint64_t *)a, len / 8, 21));
	CHECK(a[len] == 0 && a[4 * len - 1] == 0);
	a = mremap(a, 4 * len, len, 0);
	CHECK(a != MAP_FAILED && verify((uint64_t *)a, len / 8, 21));
	CHECK(mprotect(a, page, PROT_READ) == 0 && faults(a, 1) && a[0] != 0);
	CHECK(mprotect(a + page, page, PROT_NONE) == 0 && faults(a + page, 0));
	nap(1000);
	CHECK(mprotect(a, 2 * page, PROT_READ | PROT_WRITE) == 0 && verify((uint64_t *)a, len / 8, 21));
	CHECK(madvise(a + 4 * page, page, MADV_DONTNEED) == 0 && a[4 * page] == 0 && a[5 * page - 1] == 0);
	CHECK(munmap(a + 8 * page, 8 * page) == 0 && faults(a + 8 * page, 0));
	CHECK(a[16 * page] != 0);
	CHECK(munmap(a, len) == 0);
}

int main(int argc, char **argv)
{
	size_t mib = argc > 3 ? (size_t)atol(argv[3]) : 200;
	size_t stripe = (size_t)8 << 20, stripes = mib / 8, low = stripes / 4;
	struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	uint64_t *at[512], seed[512], h = 23;
	work_begin(argc, argv);
	sigaction(SIGSEGV, &sa, NULL);
	if (stripes < 4 || stripes > 512)
		return 2;
	char *brk0 = sbrk(0);
	brk0 += (-(uintptr_t)brk0) & 4095;
	if (brk(brk0 + low * stripe) != 0)
		return 2;
	for (size_t i = 0; i < stripes; i++) {
		if (i < low)
			at[i] = (uint64_t *)(brk0 + i * stripe);
		else
			at[i] = mmap(NULL, stripe, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at[i] == MAP_FAILED)
			return 2;
		seed[i] = mix(31, i);
		fill(at[i], stripe / 8, seed[i]);
	}
	while (work_more()) {
		size_t i = (size_t)work_rounds * 7 % stripes, j = (size_t)work_rounds * 5 % stripes;
		CHECK(verify(at[i], stripe / 8, seed[i]));
		seed[j] = mix(seed[j], (uint64_t)work_rounds);
		fill(at[j], stripe / 8, seed[j]);
		areas();
		/* the heap grows by a page in each round of the first thousand, wherever the process is */
		if (work_rounds < 1000) {
			char *end = brk0 + low * stripe + work_rounds * 4096;
			CHECK(brk(end) == 0 && end[-1] == 0);
			end[-1] = 1;
		}
		nap(3000);
	}
	for (size_t i = 0; i < stripes; i++) {
		CHECK(verify(at[i], stripe / 8, seed[i]));
		h = mix(h, i);
	}
	report("stripes", h);
	return work_end();
}
