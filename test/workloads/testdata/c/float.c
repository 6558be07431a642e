/*
 * float: everything that the floating point units hold. All sixteen ymm registers (and with AVX-512 zmm16-31 and the mask
 * registers) and the whole x87 stack stay loaded over long loops and over raw system calls; rounding modes, flush-to-zero
 * and the x87 precision are set once and must still be set in every round.
 */
#include "work.h"
#include <fenv.h>
#include <immintrin.h>
#include <math.h>

static unsigned mxcsr_want;
static unsigned short cw_want;

static void check_modes(void)
{
	unsigned short cw;
	__asm__ volatile("fnstcw %0" : "=m"(cw));
	CHECK((_mm_getcsr() & ~0x3fu) == (mxcsr_want & ~0x3fu)); /* the low bits are sticky flags */
	CHECK(cw == cw_want);
}

/*
 * ymm keeps sixteen vectors in registers for about 15 ms and over getppid calls, which go home when the process is away.
 * Fifteen of them iterate x*x - c, which is chaotic: a bit that is lost once changes all that follows.
 */
__attribute__((target("avx2,fma"))) static uint64_t ymm(void)
{
	double in[16][4], out[16][4];
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 4; j++)
			in[i][j] = i == 15 ? 1.9 + j * 0.01 : 0.05 + i * 0.03125 + j * 0.0078125;
	long outer = 40;
	__asm__ volatile(
#define LOAD(n) "vmovupd " #n "*32(%[in]), %%ymm" #n "\n\t"
#define SAVE(n) "vmovupd %%ymm" #n ", " #n "*32(%[out])\n\t"
#define STEP(n) "vfmsub213pd %%ymm15, %%ymm" #n ", %%ymm" #n "\n\t"
#define MOST(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14)
		MOST(LOAD) LOAD(15)
		"1:\n\t"
		"movq $40000, %%rbx\n\t"
		"2:\n\t"
		MOST(STEP)
		"decq %%rbx\n\t"
		"jnz 2b\n\t"
		"movl $110, %%eax\n\t" /* getppid */
		"syscall\n\t"
		"decq %[outer]\n\t"
		"jnz 1b\n\t"
		MOST(SAVE) SAVE(15)
		"vzeroupper\n\t"
		: [outer] "+r"(outer)
		: [in] "r"(in), [out] "r"(out)
		: "rax", "rbx", "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	for (int i = 0; i < 15; i++)
		CHECK(out[i][0] > -2.1 && out[i][0] < 2.1 && out[i][0] != in[i][0]);
	return mix_bytes(3, out, sizeof out);
}

/* zmm does the same for the upper registers and the masks of AVX-512. */
__attribute__((target("avx512f,avx512bw"))) static uint64_t zmm(void)
{
	uint64_t in[8], out[4][8], masks[3] = {0};
	for (int i = 0; i < 8; i++)
		in[i] = mix(11, (uint64_t)i);
	long outer = 40;
	__asm__ volatile(
		"vmovdqu64 (%[in]), %%zmm16\n\t"
		"vpaddq %%zmm16, %%zmm16, %%zmm17\n\t"
		"vpaddq %%zmm16, %%zmm17, %%zmm30\n\t"
		"vpaddq %%zmm30, %%zmm17, %%zmm31\n\t"
		"movq $0x123456789abcdef0, %%rax\n\t"
		"kmovq %%rax, %%k1\n\t"
		"knotq %%k1, %%k2\n\t"
		"1:\n\t"
		"movq $4000, %%rbx\n\t"
		"2:\n\t"
		"vpaddq %%zmm16, %%zmm17, %%zmm17\n\t"
		"vprolq $7, %%zmm30, %%zmm30\n\t"
		"vpxorq %%zmm17, %%zmm30, %%zmm31%{%%k1%}\n\t"
		"vpaddq %%zmm31, %%zmm16, %%zmm16\n\t"
		"kxorq %%k1, %%k2, %%k3\n\t"
		"kshiftrq $1, %%k3, %%k3\n\t"
		"kaddq %%k3, %%k2, %%k2\n\t"
		"decq %%rbx\n\t"
		"jnz 2b\n\t"
		"movl $110, %%eax\n\t"
		"syscall\n\t"
		"decq %[outer]\n\t"
		"jnz 1b\n\t"
		"vmovdqu64 %%zmm16, (%[out])\n\t"
		"vmovdqu64 %%zmm17, 64(%[out])\n\t"
		"vmovdqu64 %%zmm30, 128(%[out])\n\t"
		"vmovdqu64 %%zmm31, 192(%[out])\n\t"
		"kmovq %%k1, %%rax\n\t" "movq %%rax, (%[masks])\n\t"
		"kmovq %%k2, %%rax\n\t" "movq %%rax, 8(%[masks])\n\t"
		"kmovq %%k3, %%rax\n\t" "movq %%rax, 16(%[masks])\n\t"
		: [outer] "+r"(outer)
		: [in] "r"(in), [out] "r"(out), [masks] "r"(masks)
		: "rax", "rbx", "rcx", "r11", "memory", "cc", "xmm16", "xmm17", "xmm30", "xmm31", "k1", "k2", "k3");
	return mix_bytes(mix_bytes(5, out, sizeof out), masks, sizeof masks);
}

/* x87 fills the stack of eight: seven values iterate x*x - c, the eighth is c; it spins, and calls home. */
static uint64_t x87(void)
{
	long double in[8], out[8];
	long outer = 20;
	uint64_t h = 17;
	memset(out, 0, sizeof out); /* the padding of a long double is part of no value */
	for (int i = 0; i < 8; i++)
		in[i] = i == 0 ? 1.9L : 0.05L + 0.1L * i;
	__asm__ volatile(
		"fldt (%[in])\n\t" "fldt 16(%[in])\n\t" "fldt 32(%[in])\n\t" "fldt 48(%[in])\n\t"
		"fldt 64(%[in])\n\t" "fldt 80(%[in])\n\t" "fldt 96(%[in])\n\t" "fldt 112(%[in])\n\t"
		"1:\n\t"
		"movq $10000, %%rbx\n\t"
		"2:\n\t"
#define SQUARE "fmul %%st(0), %%st\n\t" "fsub %%st(7), %%st\n\t"
		SQUARE "fxch %%st(1)\n\t" SQUARE "fxch %%st(2)\n\t" SQUARE "fxch %%st(3)\n\t" SQUARE
		"fxch %%st(4)\n\t" SQUARE "fxch %%st(5)\n\t" SQUARE "fxch %%st(6)\n\t" SQUARE
		"decq %%rbx\n\t"
		"jnz 2b\n\t"
		"movl $110, %%eax\n\t"
		"syscall\n\t"
		"decq %[outer]\n\t"
		"jnz 1b\n\t"
		"fstpt (%[out])\n\t" "fstpt 16(%[out])\n\t" "fstpt 32(%[out])\n\t" "fstpt 48(%[out])\n\t"
		"fstpt 64(%[out])\n\t" "fstpt 80(%[out])\n\t" "fstpt 96(%[out])\n\t" "fstpt 112(%[out])\n\t"
		: [outer] "+r"(outer)
		: [in] "r"(in), [out] "r"(out)
		: "rax", "rbx", "rcx", "r11", "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
	for (int i = 0; i < 7; i++)
		CHECK(out[i] > -2.1L && out[i] < 2.1L);
	for (int i = 0; i < 8; i++)
		h = mix_bytes(h, &out[i], 10);
	return h;
}

/* scalar depends on the rounding mode and on denormals being flushed. */
static uint64_t scalar(void)
{
	volatile double tiny = 4.9406564584124654e-324, third = 3.0;
	double sum = 0;
	uint64_t h = 19;
	for (int i = 1; i < 20000; i++) {
		sum += 1.0 / (third * i);
		h = mix_bytes(h, &sum, 8);
	}
	double d = tiny * 2;
	h = mix_bytes(h, &d, 8);
	return h;
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	fesetround(FE_UPWARD);
	_mm_setcsr((_mm_getcsr() & ~0x6000u) | 0x6000u | 0x8000u | 0x0040u); /* toward zero, flush denormals out and in */
	cw_want = 0x0a7f;                                                    /* 53 bits, round up, all masked */
	__asm__ volatile("fldcw %0" : : "m"(cw_want));
	mxcsr_want = _mm_getcsr();
	__builtin_cpu_init();
	while (work_more()) {
		check_modes();
		report("scalar", scalar());
		report("x87", x87());
		check_modes();
		if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
			report("ymm", ymm());
		if (__builtin_cpu_supports("avx512bw"))
			report("zmm", zmm());
		nap(5000);
		check_modes();
	}
	return work_end();
}
