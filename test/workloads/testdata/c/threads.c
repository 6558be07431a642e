/*
 * threads: twelve threads, made at the start. Producers and consumers share a bounded queue under a mutex with two
 * conditions; all meet at a barrier; one waits in read() of a pipe and one in a timed futex wait for the whole run, so that
 * each move meets every kind of waiting. Each keeps its own number, its name and its thread-local storage.
 */
#include "work.h"
#include <pthread.h>
#include <sys/prctl.h>

enum { PAIRS = 4, ITEMS = 300, ROOM = 16 };

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER;
static uint64_t queue[ROOM];
static int head, count;
static pthread_barrier_t start, finish;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static uint64_t sums[PAIRS], guarded;
static int over, pipefd[2], backfd[2];
static __thread uint64_t tls;

static void *worker(void *arg)
{
	int me = (int)(intptr_t)arg;
	pid_t tid = (pid_t)syscall(SYS_gettid);
	char want[16], name[16];
	snprintf(want, sizeof want, "worker-%d", me);
	prctl(PR_SET_NAME, want);
	tls = mix(7, (uint64_t)me);
	for (;;) {
		pthread_barrier_wait(&start);
		if (over)
			break;
		if (me < PAIRS) {
			for (uint64_t i = 0; i < ITEMS; i++) {
				pthread_mutex_lock(&mu);
				while (count == ROOM)
					pthread_cond_wait(&not_full, &mu);
				queue[(head + count++) % ROOM] = mix((uint64_t)me, i);
				pthread_cond_signal(&not_empty);
				pthread_mutex_unlock(&mu);
			}
		} else {
			uint64_t sum = 0;
			for (int i = 0; i < ITEMS; i++) {
				pthread_mutex_lock(&mu);
				while (count == 0)
					pthread_cond_wait(&not_empty, &mu);
				sum += queue[head];
				head = (head + 1) % ROOM;
				count--;
				pthread_cond_signal(&not_full);
				pthread_mutex_unlock(&mu);
				if (i % 50 == 0)
					nap(500);
			}
			sums[me - PAIRS] = sum;
		}
		pthread_rwlock_wrlock(&rw);
		guarded++;
		pthread_rwlock_unlock(&rw);
		CHECK(syscall(SYS_gettid) == tid);
		CHECK(tls == mix(7, (uint64_t)me));
		CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, want) == 0);
		pthread_barrier_wait(&finish);
	}
	return (void *)(intptr_t)(me * 3);
}

/* waiter sits in read() until there is a byte, and gives back the next one. */
static void *waiter(void *arg)
{
	unsigned char c;
	(void)arg;
	while (read(pipefd[0], &c, 1) == 1) {
		c++;
		if (write(backfd[1], &c, 1) != 1)
			break;
	}
	return (void *)(intptr_t)100;
}

static pthread_mutex_t timed_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t timed_cond = PTHREAD_COND_INITIALIZER;

/* sleeper waits with a limit, over and over; no wait may end before its time. */
static void *sleeper(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&timed_mu);
	while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 100 * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		int e = pthread_cond_timedwait(&timed_cond, &timed_mu, &until);
		if (e == ETIMEDOUT) {
			struct timespec t;
			clock_gettime(CLOCK_REALTIME, &t);
			long early = (until.tv_sec - t.tv_sec) * 1000000000 + until.tv_nsec - t.tv_nsec;
			if (early > 2000000)
				bad("timed wait ended %ld ns early", early);
		} else if (e != 0) {
			bad("timed wait: %d", e);
		}
	}
	pthread_mutex_unlock(&timed_mu);
	return (void *)(intptr_t)200;
}

int main(int argc, char **argv)
{
	pthread_t t[2 * PAIRS], w, s;
	void *ret;
	unsigned char c = 0, d;
	work_begin(argc, argv);
	if (pipe(pipefd) != 0 || pipe(backfd) != 0)
		return 2;
	pthread_barrier_init(&start, NULL, 2 * PAIRS + 1);
	pthread_barrier_init(&finish, NULL, 2 * PAIRS + 1);
	for (int i = 0; i < 2 * PAIRS; i++)
		pthread_create(&t[i], NULL, worker, (void *)(intptr_t)i);
	pthread_create(&w, NULL, waiter, NULL);
	pthread_create(&s, NULL, sleeper, NULL);
	while (work_more()) {
		uint64_t total = 0;
		guarded = 0;
		pthread_barrier_wait(&start);
		pthread_barrier_wait(&finish);
		for (int i = 0; i < PAIRS; i++)
			total += sums[i];
		report("sum", total);
		report("guarded", guarded);
		CHECK(count == 0);
		CHECK(write(pipefd[1], &c, 1) == 1 && read(backfd[0], &d, 1) == 1 && d == (unsigned char)(c + 1));
		c++;
		nap(5000);
	}
	__atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
	pthread_barrier_wait(&start);
	for (int i = 0; i < 2 * PAIRS; i++)
		CHECK(pthread_join(t[i], &ret) == 0 && (intptr_t)ret == i * 3);
	close(pipefd[1]);
	CHECK(pthread_join(w, &ret) == 0 && (intptr_t)ret == 100);
	CHECK(pthread_join(s, &ret) == 0 && (intptr_t)ret == 200);
	return work_end();
}
