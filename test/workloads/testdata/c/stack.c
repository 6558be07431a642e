/*
 * stack: recursion that goes deeper in each round, to 6 MiB, so that the stack grows on whichever node the process is; each
 * frame holds a pattern that is verified on the way back, and the process naps at the bottom.
 */
#include "work.h"

enum { FRAME = 4096, DEEPEST = 1500 };

static uint64_t __attribute__((noinline)) down(int depth, int deepest, uint64_t h)
{
	volatile unsigned char frame[FRAME];
	for (int i = 0; i < FRAME; i += 64)
		frame[i] = (unsigned char)(h >> (i / 64 % 8 * 8));
	uint64_t r = h;
	if (depth < deepest)
		r = down(depth + 1, deepest, mix(h, (uint64_t)depth));
	else
		nap(3000);
	if (depth % 256 == 0)
		nap(200);
	for (int i = 0; i < FRAME; i += 64) {
		if (frame[i] != (unsigned char)(h >> (i / 64 % 8 * 8)))
			bad("round %ld: frame %d, byte %d", work_rounds, depth, i);
		r = mix(r, frame[i]);
	}
	return r;
}

int main(int argc, char **argv)
{
	work_begin(argc, argv);
	while (work_more()) {
		int deep = (int)(work_rounds * 16 < DEEPEST ? work_rounds * 16 : DEEPEST);
		uint64_t a = down(0, deep, 41), b = down(0, deep, 41);
		CHECK(a == b);
		nap(2000);
	}
	report("deepest", down(0, DEEPEST, 43));
	return work_end();
}
