/*
 * drop WORD: waits, away or not, until the file "go" is there, changes itself as WORD says, and waits until "stop" is.
 *
 *   nothing    sets its ids to what they are
 *   id         becomes user 65534, for good
 *   hide       forbids to look into its memory
 *   realtime   takes a real-time policy, which may be refused
 */
#include "work.h"
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>

static void await(const char *name)
{
	while (access(name, F_OK) != 0)
		nap(5000);
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "nothing";
	long r = 0;
	dprintf(2, "pid %d\n", getpid());
	await("go");
	if (strcmp(word, "id") == 0) {
		r = setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0;
	} else if (strcmp(word, "hide") == 0) {
		r = prctl(PR_SET_DUMPABLE, 0);
	} else if (strcmp(word, "realtime") == 0) {
		uint32_t a[12] = {48, SCHED_FIFO, 0, 0, 0, 1};
		r = syscall(SYS_sched_setattr, 0, a, 0);
	} else {
		r = setgid(getgid()) != 0 || setuid(getuid()) != 0;
	}
	dprintf(2, "did %ld %d\n", r, r != 0 ? errno : 0);
	await("stop");
	dprintf(2, "end %d\n", getpid());
	return 0;
}
