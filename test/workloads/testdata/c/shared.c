/* shared: shared anonymous memory that nobody else maps any more counts as private, and moves with its process. */
#include "work.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
	enum { WORDS = (4 << 20) / 8 };
	work_begin(argc, argv);
	uint64_t *m = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return 2;
	pid_t c = fork();
	if (c == 0) { /* a second holder, who is gone before the first round */
		for (size_t i = 0; i < WORDS; i++)
			m[i] = mix(131, i);
		_exit(0);
	}
	join(c);
	while (work_more()) {
		uint64_t h = 133;
		for (size_t i = 0; i < WORDS; i++)
			h = mix(h, m[i]);
		report("words", h);
		size_t at = (size_t)work_rounds * 4099 % WORDS;
		uint64_t was = m[at];
		m[at] = 0;
		nap(5000);
		CHECK(m[at] == 0);
		m[at] = was;
		nap(2000);
	}
	return work_end();
}
