/*
 * ends SECONDS STOPFILE HOW: works as long as it is asked to and then ends as HOW says: "exit 7" as exit7, "term" by its own
 * SIGTERM, "kill", "segv" and "abort" of the same signals, "thread" by exit_group from a thread, "main" by main's thread
 * leaving first, "wait" by whatever signal comes.
 */
#include "work.h"
#include <pthread.h>
#include <signal.h>

static void *leaver(void *arg)
{
	nap(20000);
	if (arg != NULL)
		exit(23);
	return NULL;
}

int main(int argc, char **argv)
{
	const char *how = argc > 3 ? argv[3] : "exit7";
	volatile uint64_t h = 141;
	volatile uintptr_t nowhere = 8;
	pthread_t t, keep;
	work_begin(argc, argv);
	if (strcmp(how, "thread") == 0 || strcmp(how, "main") == 0)
		pthread_create(&keep, NULL, leaver, NULL);
	while (work_more()) {
		h = 141;
		for (int i = 0; i < 1000000; i++)
			h = mix(h, (uint64_t)i);
		report("computed", h);
		nap(5000);
	}
	printf("good\n");
	fflush(stdout);
	dprintf(2, "end %d after %ld rounds\n", getpid(), work_rounds);
	if (strcmp(how, "term") == 0)
		raise(SIGTERM);
	else if (strcmp(how, "kill") == 0)
		kill(getpid(), SIGKILL);
	else if (strcmp(how, "segv") == 0)
		*(volatile int *)(uintptr_t)nowhere = 1;
	else if (strcmp(how, "abort") == 0)
		abort();
	else if (strcmp(how, "wait") == 0)
		for (;;)
			pause();
	else if (strcmp(how, "thread") == 0 || strcmp(how, "main") == 0) {
		pthread_create(&t, NULL, leaver, (void *)how);
		if (strcmp(how, "main") == 0)
			pthread_exit(NULL);
		for (;;)
			pause();
	}
	return 7;
}
