/*
 * kinds KIND: a process of a kind that may not move, which then waits in epoll_wait without end. A wait that returns was
 * disturbed, since nothing ever happens here: that is said, and ends it with 9. SIGTERM ends it as it ends any program.
 *
 *   plain     may move
 *   shared    shares writable memory with a child: it moves with it
 *   mapped    maps a file, which anybody may, for writing
 *   traced    its parent traces it
 *   seccomp   has its own filter
 *   setid     nothing of its own: started from a set-user-id file
 */
#include "work.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

static void wait_for_ever(void)
{
	struct epoll_event ev;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	dprintf(2, "pid %d\n", getpid());
	int r = epoll_wait(ep, &ev, 1, -1);
	dprintf(2, "disturbed: epoll_wait gave %d, errno %d\n", r, errno);
	_exit(9);
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "plain";
	if (strcmp(kind, "shared") == 0) {
		volatile char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		pid_t parent = getpid();
		m[0] = 1;
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (getppid() == parent)
				nap(100000);
			_exit(0);
		}
	} else if (strcmp(kind, "mapped") == 0) {
		char name[64];
		snprintf(name, sizeof name, "/tmp/mapped.%d", getpid());
		int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fd < 0 || ftruncate(fd, 4096) != 0 || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
			return 2;
	} else if (strcmp(kind, "traced") == 0) {
		sigset_t cont;
		sigemptyset(&cont);
		sigaddset(&cont, SIGCONT);
		sigprocmask(SIG_BLOCK, &cont, NULL); /* before there is anybody to miss it */
		pid_t tracee = fork();
		if (tracee != 0) {
			int status;
			if (ptrace(PTRACE_SEIZE, tracee, 0, PTRACE_O_EXITKILL) != 0)
				return 2;
			kill(tracee, SIGCONT); /* may begin */
			while (waitpid(tracee, &status, __WALL) == tracee && !WIFEXITED(status) && !WIFSIGNALED(status))
				ptrace(PTRACE_CONT, tracee, 0, WIFSTOPPED(status) && status >> 16 == 0 ? WSTOPSIG(status) : 0);
			if (WIFSIGNALED(status))
				return 128 + WTERMSIG(status);
			return WEXITSTATUS(status);
		}
		int sig;
		sigwait(&cont, &sig);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	} else if (strcmp(kind, "seccomp") == 0) {
		struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
		struct sock_fprog prog = {1, all};
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
			return 2;
	}
	wait_for_ever();
	return 0;
}
