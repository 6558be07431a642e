/* Group 9: the processor: what is in its registers stays, and what it can do does not change. arch_prctl(2), rseq(2), fenv(3). */
#include "case.h"
#include <cpuid.h>
#include <fenv.h>
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <sys/rseq.h>

#define ARCH_SET_GS 0x1001
#define ARCH_GET_FS 0x1003
#define ARCH_GET_GS 0x1004

static unsigned first[4][4];
static void features(unsigned f[4][4])
{
	__cpuid_count(0, 0, f[0][0], f[0][1], f[0][2], f[0][3]);
	__cpuid_count(1, 0, f[1][0], f[1][1], f[1][2], f[1][3]);
	__cpuid_count(7, 0, f[2][0], f[2][1], f[2][2], f[2][3]);
	__cpuid_count(0x80000001, 0, f[3][0], f[3][1], f[3][2], f[3][3]);
	f[1][1] = 0; /* the number of the processor */
	f[1][2] &= ~(1u << 27); /* OSXSAVE can differ while a processor comes up */
}
__attribute__((constructor)) static void at_the_start(void) { features(first); }

CASE(features_stay)
{
	unsigned f[4][4];
	features(f);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < 4; k++)
			IS((f[i][k] & first[i][k]) == first[i][k] || i == 0, "leaf %d register %d: %x, it was %x", i, k, f[i][k], first[i][k]);
}

__attribute__((target("xsave"))) static uint64_t xcr0(void) { return _xgetbv(0); }

CASE(saved_state_stays)
{
	static uint64_t was;
	unsigned a, b, c, d;
	__cpuid(1, a, b, c, d);
	if (!(c & 1u << 27))
		return;
	if (was == 0)
		was = xcr0();
	EQ(xcr0() & was, was);
}

/* spun computes for a while without any call, so that moves find the registers full. */
#define SPIN(ms)                                                                                   \
	for (uint64_t end_ = __builtin_ia32_rdtsc() + (uint64_t)(ms) * 2000000; __builtin_ia32_rdtsc() < end_;) \
		;

CASE(general_registers_stay)
{
	int64_t until = MONO + wait_ms();
	while (MONO < until) {
		uint64_t r[6] = {0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0};
		__asm__ volatile("mov %0, %%r8\n mov %1, %%r9\n mov %2, %%r12\n mov %3, %%r13\n mov %4, %%r15\n"
				 "mov $3000000, %%rcx\n 1: dec %%rcx\n jnz 1b\n"
				 "mov %%r8, %0\n mov %%r9, %1\n mov %%r12, %2\n mov %%r13, %3\n mov %%r15, %4\n"
				 : "+m"(r[0]), "+m"(r[1]), "+m"(r[2]), "+m"(r[3]), "+m"(r[4])
				 :
				 : "rcx", "r8", "r9", "r12", "r13", "r15", "cc");
		EQ(r[0] == 0x1111 && r[1] == 0x2222 && r[2] == 0x3333 && r[3] == 0x4444 && r[4] == 0x5555, 1);
	}
}

CASE(sse_registers_stay)
{
	int64_t until = MONO + wait_ms();
	while (MONO < until) {
		uint64_t in[4] = {0x0123456789abcdef, 0xfedcba9876543210, 1, 2}, out[4] = {0};
		__asm__ volatile("movdqu %2, %%xmm3\n movdqu %3, %%xmm15\n mov $3000000, %%rcx\n 1: dec %%rcx\n jnz 1b\n movdqu %%xmm3, %0\n movdqu %%xmm15, %1"
				 : "=m"(*(uint64_t(*)[2])out), "=m"(*(uint64_t(*)[2])(out + 2))
				 : "m"(*(uint64_t(*)[2])in), "m"(*(uint64_t(*)[2])(in + 2))
				 : "rcx", "xmm3", "xmm15", "cc");
		EQ(memcmp(in, out, sizeof in), 0);
	}
}

__attribute__((target("avx"))) static int avx_round(void)
{
	double in[4] = {1.5, -2.25, 3e300, 4e-300}, out[4] = {0};
	__asm__ volatile("vmovupd %1, %%ymm7\n mov $3000000, %%rcx\n 1: dec %%rcx\n jnz 1b\n vmovupd %%ymm7, %0\n vzeroupper" : "=m"(out) : "m"(in) : "rcx", "xmm7", "cc");
	return memcmp(in, out, sizeof in) == 0;
}

CASE(avx_registers_stay)
{
	if (!__builtin_cpu_supports("avx"))
		return;
	for (int64_t until = MONO + wait_ms(); MONO < until;)
		EQ(avx_round(), 1);
}

__attribute__((target("avx512f"))) static int avx512_round(void)
{
	uint64_t in[8] = {1, 2, 3, 4, 5, 6, 7, 0x8000000000000008}, out[9] = {0}, mask = 0xbeef;
	__asm__ volatile("vmovdqu64 %2, %%zmm29\n kmovw %k3, %%k5\n mov $3000000, %%rcx\n 1: dec %%rcx\n jnz 1b\n vmovdqu64 %%zmm29, %0\n kmovw %%k5, %%ecx\n mov %%rcx, %1\n vzeroupper"
			 : "=m"(out), "=m"(out[8])
			 : "m"(in), "r"(mask)
			 : "rcx", "cc");
	return memcmp(in, out, sizeof in) == 0 && (out[8] & 0xffff) == 0xbeef;
}

CASE(avx512_registers_stay)
{
	if (!__builtin_cpu_supports("avx512f"))
		return;
	for (int64_t until = MONO + wait_ms(); MONO < until;)
		EQ(avx512_round(), 1);
}

CASE(x87_stack_and_control_stay)
{
	unsigned short cw, was;
	__asm__ volatile("fnstcw %0" : "=m"(was));
	cw = was | 0x0c00; /* towards zero */
	__asm__ volatile("fldcw %0" : : "m"(cw));
	for (int64_t until = MONO + wait_ms(); MONO < until;) {
		double a = 0, b = 0;
		__asm__ volatile("fldpi\n fld1\n mov $3000000, %%rcx\n 1: dec %%rcx\n jnz 1b\n fstpl %0\n fstpl %1" : "=m"(a), "=m"(b) : : "rcx", "cc", "st", "st(1)");
		EQ(a == 1.0 && b > 3.14159 && b < 3.1416, 1);
	}
	unsigned short now;
	__asm__ volatile("fnstcw %0" : "=m"(now));
	EQ(now, cw);
	__asm__ volatile("fldcw %0" : : "m"(was));
}

CASE(rounding_and_exceptions_stay)
{
	volatile double one = 1, three = 3, zero = 0;
	EQ(fesetround(FE_UPWARD), 0);
	feclearexcept(FE_ALL_EXCEPT);
	double up = one / three;
	IS(isinf(one / zero));
	nap(wait_ms());
	EQ(fegetround(), FE_UPWARD);
	EQ(fetestexcept(FE_DIVBYZERO) != 0, 1);
	EQ(fesetround(FE_DOWNWARD), 0);
	double down = one / three;
	IS(up > down);
	EQ(fesetround(FE_TONEAREST), 0);
	feclearexcept(FE_ALL_EXCEPT);
}

CASE(segment_bases_stay)
{
	unsigned long fs = 0, gs = 1, was = 0;
	static long at_gs[4] = {0, 4711, 0, 0};
	OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
	IS(fs == (unsigned long)pthread_self());
	OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &was));
	OK(syscall(SYS_arch_prctl, ARCH_SET_GS, at_gs));
	nap(wait_ms());
	long v = 0;
	__asm__ volatile("mov %%gs:8, %0" : "=r"(v));
	EQ(v, 4711);
	OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
	IS(gs == (unsigned long)(uintptr_t)at_gs);
	OK(syscall(SYS_arch_prctl, ARCH_SET_GS, was));
	ERR(syscall(SYS_arch_prctl, 0x7777, 0), EINVAL);
}

static __thread int own = 5;

CASE(thread_variables_stay)
{
	own = 6;
	nap(wait_ms());
	EQ(own, 6);
	own = 5;
}

CASE(rseq_is_registered)
{
	if (__rseq_size == 0)
		return; /* a C library without it */
	struct rseq *r = (struct rseq *)(void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	for (int64_t until = MONO + wait_ms(); MONO < until;)
		IS((int)r->cpu_id >= 0, "cpu_id is %d", (int)r->cpu_id);
	EQ(r->rseq_cs, 0);
	ERR(syscall(SYS_rseq, r, 32, 0, RSEQ_SIG), EBUSY);
	unsigned c = 9999;
	OK(syscall(SYS_getcpu, &c, NULL, NULL));
	IS(c < 4096);
}

CASE(rseq_restarts_in_its_section)
{
	if (__rseq_size == 0)
		return;
	struct rseq *r = (struct rseq *)(void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	struct rseq_cs __attribute__((aligned(32))) cs = {0};
	volatile long aborted = 0, passed = 0;
	int64_t until = MONO + wait_ms() + 20;
	while (MONO < until) {
		long a = 0;
		/* a section that lasts some milliseconds: it is left by its abort handler whenever the thread is preempted or moved */
		__asm__ volatile("lea 1f(%%rip), %%rax\n mov %%rax, 8(%2)\n"
				 "movq $(2f-1f), 16(%2)\n lea 4f(%%rip), %%rax\n mov %%rax, 24(%2)\n"
				 "mov %2, 8(%1)\n"
				 "1: mov $2000000, %%rcx\n 5: dec %%rcx\n jnz 5b\n"
				 "2: jmp 6f\n"
				 ".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
				 "4: mov $1, %0\n"
				 "6:\n"
				 : "+r"(a)
				 : "r"(r), "r"(&cs)
				 : "rax", "rcx", "memory", "cc");
		r->rseq_cs = 0;
		if (a)
			aborted++;
		else
			passed++;
	}
	IS(aborted + passed > 0);
}

CASE(time_stamp_counter_runs)
{
	uint64_t a = __builtin_ia32_rdtsc();
	nap(5);
	IS(__builtin_ia32_rdtsc() != a);
}

CASE(flags_stay)
{
	for (int64_t until = MONO + wait_ms(); MONO < until;) {
		uint64_t f = 0;
		/* the carry lives through a loop of instructions that leave it alone */
		__asm__ volatile("stc\n mov $3000000, %%rcx\n 1: lea -1(%%rcx), %%rcx\n jrcxz 2f\n jmp 1b\n 2: pushfq\n pop %0" : "=r"(f) : : "rcx", "cc");
		EQ(f & 1, 1);
		EQ(f & 0x400, 0);
	}
}

CASE(signal_frames_hold_the_whole_state)
{
	uint64_t in[2] = {0xaaaabbbbccccdddd, 0x1122334455667788}, out[2] = {0};
	caught(SIGUSR1, 0);
	ask_friend(WISH_KILL, 5, SIGUSR1, 0, -1);
	for (int64_t until = MONO + 5000; seen == 0 && MONO < until;) {
		__asm__ volatile("movdqu %1, %%xmm9\n mov $300000, %%rcx\n 1: dec %%rcx\n jnz 1b\n movdqu %%xmm9, %0" : "=m"(out) : "m"(in) : "rcx", "xmm9", "cc");
		EQ(memcmp(in, out, sizeof in), 0);
	}
	EQ(seen, SIGUSR1);
	signal(SIGUSR1, SIG_DFL);
}

CASE(membarrier)
{
	long q = OK(syscall(SYS_membarrier, 0, 0, 0));
	if (!(q & 8))
		return;
	OK(syscall(SYS_membarrier, 16 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0));
	nap(wait_ms() / 2);
	OK(syscall(SYS_membarrier, 8 /* PRIVATE_EXPEDITED */, 0, 0));
	ERR(syscall(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
}

/* calls of i386 can be made by a program of 64 bits, where the kernel has them at all */
CASE(calls_by_int_0x80)
{
	int status, r = 0;
	pid_t pid = (pid_t)OK(fork());
	if (pid == 0) {
		__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
		_exit(r == getpid() ? 0 : 1);
	}
	EQ(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
		return;
	EQ(status, 0);
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	EQ(r, me);
}
