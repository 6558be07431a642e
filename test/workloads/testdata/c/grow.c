/* grow MIB SECONDS takes memory step by step, so that it has MIB after SECONDS, and computes all the while. Then it adds up what it has
 * written and prints that. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	const size_t mib = 1 << 20;
	int n = argc > 1 ? atoi(argv[1]) : 0;
	double seconds = argc > 2 ? atof(argv[2]) : 0, began = now();
	unsigned char **p = calloc((size_t)n + 1, sizeof *p);
	uint64_t sum = 0;
	fprintf(stderr, "pid %d\n", getpid());
	for (int i = 0; i < n; i++) {
		p[i] = malloc(mib);
		if (p == NULL || p[i] == NULL)
			return 2;
		memset(p[i], i % 251 + 1, mib);
		while (now() - began < seconds * (i + 1) / n)
			sum++;
	}
	sum = 0;
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < mib; k += 512)
			sum += p[i][k];
	printf("%d MiB, sum %llu\n", n, (unsigned long long)sum);
	return 0;
}
