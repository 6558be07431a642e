/* compute: one thread that sieves, sorts, and multiplies, and keeps everything it has in registers and on its heap. */
#include "work.h"

static int cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static uint64_t sieve(void)
{
	enum { N = 400000 };
	static unsigned char composite[N];
	uint64_t h = 1;
	memset(composite, 0, sizeof composite);
	for (uint32_t i = 2; i < N; i++) {
		if (composite[i])
			continue;
		h = mix(h, i);
		for (uint32_t j = i + i; j < N; j += i)
			composite[j] = 1;
	}
	return h;
}

static uint64_t sorted(void)
{
	enum { N = 60000 };
	uint32_t *v = malloc(N * sizeof *v), x = 2463534242u;
	uint64_t h = 2;
	for (int i = 0; i < N; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		v[i] = x;
	}
	qsort(v, N, sizeof *v, cmp);
	for (int i = 0; i < N; i++)
		h = mix(h, v[i]);
	free(v);
	return h;
}

static uint64_t registers(void)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8;
	for (int i = 0; i < 2000000; i++) {
		a += b ^ c;
		b = (b << 7) | (b >> 57);
		c += d * 0x2545F4914F6CDD1Du;
		d ^= e >> 3;
		e += f;
		f = (f ^ g) * 5;
		g += h;
		h ^= a;
	}
	return a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	while (work_more()) {
		report("sieve", sieve());
		report("sorted", sorted());
		report("registers", registers());
		nap(10000);
	}
	return work_end();
}
