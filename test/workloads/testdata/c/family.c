/*
 * family: processes that share memory move as one. A parent and three children work on common memory, each round in turns that a
 * mutex and a condition of processes give them, then all at once with atomic operations; one that would be left behind, or see an
 * old page, ends the round with a wrong sum, or never.
 */
#include "work.h"
#include <pthread.h>
#include <sys/mman.h>

enum { KIDS = 3, WORDS = (1 << 20) / 8, TURNS = 60, ADDS = 20000 };

struct common {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	long turn, limit; /* whose turn it is, of all turns; how many there are up to the end of this round */
	int ended;
	uint64_t log; /* what each turn made of the last one */
	uint64_t sum; /* of all atomic additions of a round */
	int done;     /* who have made theirs */
	uint64_t words[WORDS];
};

static struct common *m;

/* take takes one turn in K+1, K of which are children's; it returns 0 at the end of the round, -1 at the end of all. */
static int take(int who)
{
	int r = 1;
	pthread_mutex_lock(&m->lock);
	while (m->turn < m->limit && m->turn % (KIDS + 1) != who && !m->ended)
		pthread_cond_wait(&m->changed, &m->lock);
	if (m->ended)
		r = -1;
	else if (m->turn >= m->limit)
		r = 0;
	else {
		size_t at = (size_t)(m->turn * 2654435761u) % WORDS;
		m->words[at] = mix(m->words[at], (uint64_t)who);
		m->log = mix(m->log, m->words[at]);
		m->turn++;
		pthread_cond_broadcast(&m->changed);
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static void add(int who)
{
	for (int i = 0; i < ADDS; i++)
		__atomic_add_fetch(&m->sum, (uint64_t)(who + 1), __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&m->lock);
	m->done++;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

static void child(int who)
{
	for (;;) {
		int r;
		pthread_mutex_lock(&m->lock);
		while (m->turn >= m->limit && !m->ended) /* for the next round, and at first for the first */
			pthread_cond_wait(&m->changed, &m->lock);
		pthread_mutex_unlock(&m->lock);
		while ((r = take(who)) > 0)
			;
		if (r < 0)
			_exit(40 + who);
		add(who);
	}
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	pid_t kids[KIDS];

	work_begin(argc, argv);
	m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return 2;
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&m->lock, &ma);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&m->changed, &ca);
	for (int i = 0; i < KIDS; i++)
		if ((kids[i] = fork()) == 0)
			child(i + 1);
	while (work_more()) {
		pthread_mutex_lock(&m->lock);
		memset(m->words, 0, sizeof m->words);
		m->log = m->sum = 0;
		m->done = 0;
		m->turn = 0;
		m->limit = TURNS * (KIDS + 1);
		pthread_cond_broadcast(&m->changed);
		pthread_mutex_unlock(&m->lock);
		while (take(0) > 0)
			;
		add(0);
		pthread_mutex_lock(&m->lock);
		while (m->done < KIDS + 1)
			pthread_cond_wait(&m->changed, &m->lock);
		uint64_t h = mix(m->log, m->sum);
		for (size_t i = 0; i < WORDS; i++)
			h = mix(h, m->words[i]);
		pthread_mutex_unlock(&m->lock);
		CHECK(m->sum == (uint64_t)ADDS * (1 + 2 + 3 + 4));
		report("common", h);
		nap(2000);
	}
	pthread_mutex_lock(&m->lock);
	m->ended = 1;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	for (int i = 0; i < KIDS; i++) {
		int status = 0;
		CHECK(waitpid(kids[i], &status, 0) == kids[i]);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 41 + i);
	}
	return work_end();
}
