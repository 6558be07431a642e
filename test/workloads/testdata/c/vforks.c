/*
 * vforks: a child that uses its parent's memory takes its time to find out that there is no program, and says so in that memory.
 */
#include "work.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	static volatile int seen, why;
	work_begin(argc, argv);
	while (work_more()) {
		int status = 0;
		seen = why = 0;
		pid_t c = vfork();
		if (c == 0) {
			seen = 1;
			nap(250000);
			seen++;
			execl("/nonexistent/program", "program", (char *)NULL);
			why = errno;
			_exit(127);
		}
		CHECK(seen == 2 && why == ENOENT);
		CHECK(waitpid(c, &status, 0) == c && WIFEXITED(status) && WEXITSTATUS(status) == 127);
		nap(400000);
		report("seen", 2);
	}
	return work_end();
}
