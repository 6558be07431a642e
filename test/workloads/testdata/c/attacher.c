/* attacher PID attaches to a process as a debugger does, and lets it go again. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int status;
	pid_t pid = argc == 2 ? atoi(argv[1]) : 0;
	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) != 0 || waitpid(pid, &status, __WALL) != pid) {
		perror("attach");
		return 1;
	}
	usleep(400000);
	if (ptrace(PTRACE_DETACH, pid, NULL, NULL) != 0) {
		perror("detach");
		return 1;
	}
	return 0;
}
