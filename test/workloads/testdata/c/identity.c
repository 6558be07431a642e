/*
 * identity: who the process is and what it may do, asked and set in every way that does not change it for good: ids,
 * capabilities, limits, scheduling, prctl, keyrings, sandboxes. In each round, wherever it is done, the same must come of
 * it. A second thread waits in read() meanwhile: the C library has it change its ids too, by a signal.
 */
#include "work.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>

static int idle[2];

static void *waiter(void *arg)
{
	char b;
	return read(idle[0], &b, 1) == 1 && b == 'e' ? arg : NULL;
}

/* says reports what a call came to: its result, or its errno. */
static void says(const char *name, long r) { report(name, r < 0 ? (uint64_t)(1000 + errno) : (uint64_t)r); }

static void ids(void)
{
	uid_t r, e, s;
	gid_t g[256];
	CHECK(setuid(getuid()) == 0 && setgid(getgid()) == 0);
	CHECK(setreuid((uid_t)-1, geteuid()) == 0 && setregid((gid_t)-1, getegid()) == 0);
	CHECK(setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1) == 0 && setresgid((gid_t)-1, getegid(), (gid_t)-1) == 0);
	CHECK(setfsuid(geteuid()) == (int)geteuid() && setfsgid(getegid()) == (int)getegid());
	CHECK(getresuid(&r, &e, &s) == 0 && r == work_uid && e == work_uid && s == work_uid);
	int n = getgroups(256, g);
	if (work_uid != 0) {
		CHECK(setuid(0) == -1 && errno == EPERM);
		CHECK(setresuid(work_uid, 0, work_uid) == -1 && errno == EPERM);
		CHECK(setgroups(n > 0 ? (size_t)n : 0, g) == -1 && errno == EPERM);
		CHECK(seteuid(0) == -1 && errno == EPERM);
	}
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2], more[2];
	CHECK(syscall(SYS_capget, &h, d) == 0 && syscall(SYS_capset, &h, d) == 0);
	memcpy(more, d, sizeof more);
	more[0].permitted |= 1u << CAP_SYS_ADMIN;
	if (work_uid != 0)
		CHECK(syscall(SYS_capset, &h, more) == -1 && errno == EPERM);
	h.version = 1;
	CHECK(syscall(SYS_capset, &h, d) == -1 && errno == EINVAL && h.version == _LINUX_CAPABILITY_VERSION_3);
}

static void names(void)
{
	char want[16], got[16], file[32] = "";
	snprintf(want, sizeof want, "r%ld-name", work_rounds);
	CHECK(prctl(PR_SET_NAME, want) == 0 && prctl(PR_GET_NAME, got) == 0 && strcmp(want, got) == 0);
	int fd = open("/proc/self/comm", O_RDONLY);
	ssize_t n = read(fd, file, sizeof file - 1);
	close(fd);
	CHECK(n == (ssize_t)strlen(want) + 1 && strncmp(file, want, strlen(want)) == 0);
	CHECK(prctl(PR_SET_NAME, "a name that is longer than a name may be") == 0 && prctl(PR_GET_NAME, got) == 0 && strcmp(got, "a name that is ") == 0);
	CHECK(prctl(PR_SET_NAME, (char *)16) == -1 && errno == EFAULT);
}

static void options(void)
{
	int v = -1;
	CHECK(prctl(PR_SET_PDEATHSIG, 10) == 0 && prctl(PR_GET_PDEATHSIG, &v) == 0 && v == 10 && prctl(PR_SET_PDEATHSIG, 0) == 0);
	CHECK(prctl(PR_SET_TIMERSLACK, 70000) == 0 && prctl(PR_GET_TIMERSLACK) == 70000 && prctl(PR_SET_TIMERSLACK, 0) == 0);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &v) == 0 && v == 1 && prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
	CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0 && prctl(PR_GET_KEEPCAPS) == 1 && prctl(PR_SET_KEEPCAPS, 0) == 0 && prctl(PR_GET_KEEPCAPS) == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 1) == 0 && prctl(PR_GET_DUMPABLE) == 1);
	says("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	says("securebits", prctl(PR_GET_SECUREBITS));
	says("seccomp", prctl(PR_GET_SECCOMP));
	says("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
	says("bounding", prctl(PR_CAPBSET_READ, CAP_CHOWN));
	says("bounding, no such", prctl(PR_CAPBSET_READ, 999));
	says("tsc", prctl(PR_GET_TSC, &v) == 0 ? v : -1);
	says("speculation", prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0));
	CHECK(prctl(PR_MPX_ENABLE_MANAGEMENT, 0, 0, 0, 0) == -1 && errno == EINVAL);
}

static void limits(void)
{
	struct rlimit old, now, set;
	for (int r = 0; r < 16; r++) {
		CHECK(getrlimit(r, &old) == 0);
		char name[32];
		snprintf(name, sizeof name, "limit %d", r);
		report(strdup(name), mix(old.rlim_cur, old.rlim_max));
		CHECK(setrlimit(r, &old) == 0);
	}
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	set = (struct rlimit){100, old.rlim_max};
	CHECK(setrlimit(RLIMIT_NOFILE, &set) == 0 && dup2(0, 100) == -1 && errno == EBADF);
	CHECK(prlimit(getpid(), RLIMIT_NOFILE, &old, &now) == 0 && now.rlim_cur == 100);

	/* A limit of memory binds where the memory is. */
	CHECK(getrlimit(RLIMIT_AS, &old) == 0);
	set = (struct rlimit){1ul << 30, old.rlim_max};
	CHECK(setrlimit(RLIMIT_AS, &set) == 0);
	void *m;
	CHECK((m = mmap(NULL, 2ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) == MAP_FAILED && errno == ENOMEM);
	CHECK(prlimit(0, RLIMIT_AS, &old, &now) == 0 && now.rlim_cur == 1ul << 30);
	m = mmap(NULL, 2ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(m != MAP_FAILED && munmap(m, 2ul << 30) == 0);

	CHECK(getrlimit(RLIMIT_CPU, &old) == 0);
	set = (struct rlimit){100000, old.rlim_max};
	CHECK(setrlimit(RLIMIT_CPU, &set) == 0 && getrlimit(RLIMIT_CPU, &now) == 0 && now.rlim_cur == 100000 && setrlimit(RLIMIT_CPU, &old) == 0);
	set = (struct rlimit){5, 4};
	CHECK(setrlimit(RLIMIT_STACK, &set) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_setrlimit, RLIMIT_AS, (void *)16) == -1 && errno == EFAULT);
}

static void scheduling(void)
{
	cpu_set_t cpus;
	struct sched_param p = {0};
	struct timespec ts;
	CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0);
	report("processors", (uint64_t)CPU_COUNT(&cpus));
	CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
	CHECK(sched_getscheduler(0) == SCHED_OTHER);
	CHECK(sched_setscheduler(0, SCHED_BATCH, &p) == 0 && sched_getscheduler(0) == SCHED_BATCH);
	CHECK(sched_setscheduler(0, SCHED_OTHER, &p) == 0 && sched_getscheduler(0) == SCHED_OTHER);
	CHECK(sched_setparam(0, &p) == 0 && sched_getparam(0, &p) == 0 && p.sched_priority == 0);
	p.sched_priority = 1;
	CHECK(sched_setparam(0, &p) == -1 && errno == EINVAL);
	CHECK(sched_rr_get_interval(0, &ts) == 0);
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t min, max;
	} a = {.size = 48};
	CHECK(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) == 0 && a.policy == SCHED_OTHER);
	a.size = 48;
	CHECK(syscall(SYS_sched_setattr, 0, &a, 0) == 0);
	a.size = 5000;
	CHECK(syscall(SYS_sched_setattr, 0, &a, 0) == -1 && errno == E2BIG);
	errno = 0;
	says("nice", getpriority(PRIO_PROCESS, 0) + 100);
	CHECK(setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0)) == 0);
	says("ioprio", syscall(SYS_ioprio_get, 1, 0));
	CHECK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 5) == 0 && syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 5));
	CHECK(syscall(SYS_ioprio_set, 1, 0, 0) == 0);
}

static void machine(void)
{
	struct sysinfo s;
	struct timespec r;
	struct timex t = {.modes = 0};
	CHECK(sysinfo(&s) == 0);
	report("memory", s.totalram);
	unsigned long pers = (unsigned long)personality(0xffffffff);
	report("personality", pers);
	CHECK(personality(pers | ADDR_NO_RANDOMIZE) == (int)pers && personality(pers) == (int)(pers | ADDR_NO_RANDOMIZE));
	for (int c = 0; c < 12; c++) {
		char name[32];
		snprintf(name, sizeof name, "clock %d", c);
		says(strdup(name), clock_getres(c, &r) == 0 ? (long)(r.tv_nsec * 0 + 1) : -1);
	}
	CHECK(adjtimex(&t) >= 0);
	says("syslog", klogctl(10, NULL, 0));
	says("a handle with no room", ({
		     struct {
			     uint32_t bytes;
			     int type;
			     char h[128];
		     } h = {0};
		     int mount;
		     long n = syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &h, &mount, 0);
		     if (n == -1 && errno == EOVERFLOW) {
			     uint32_t want = h.bytes;
			     CHECK(want > 0 && want <= 128);
			     n = syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &h, &mount, 0);
			     if (n == 0)
				     n = (long)(mix_bytes(want, h.h, h.bytes) & 0xffffff);
		     }
		     n;
	     }));
}

static void objects(void)
{
	int a = dup(0), b = open("/dev/null", O_RDWR), pfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	long same = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 0, a), other = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 0, b);
	says("the same file", same);
	CHECK(same < 0 || (same == 0 && other != 0));
	long got = syscall(SYS_pidfd_getfd, pfd, b, 0);
	says("a descriptor of its own", got < 0 ? got : 1);
	if (got >= 0) {
		CHECK(write((int)got, "x", 1) == 1 && (fcntl((int)got, F_GETFD) & FD_CLOEXEC));
		close((int)got);
	}
	close(a);
	close(b);
	close(pfd);
	unsigned action = 0x7fff0000;
	unsigned short sizes[3] = {0};
	says("landlock", syscall(444, NULL, 0, 1));
	says("seccomp knows allow", syscall(SYS_seccomp, 2, 0, &action));
	CHECK(syscall(SYS_seccomp, 3, 0, sizes) != 0 || (sizes[0] == 80 && sizes[1] == 24));
	long key = syscall(SYS_add_key, "user", "mosix:identity", "secret", 6, -2);
	says("a key", key < 0 ? key : 1);
	if (key > 0) {
		char text[16] = "";
		CHECK(syscall(SYS_keyctl, 11, key, text, sizeof text) == 6 && strcmp(text, "secret") == 0);
		CHECK(syscall(SYS_keyctl, 10, -2, "user", "mosix:identity", 0) == key);
		CHECK(syscall(SYS_request_key, "user", "mosix:identity", NULL, 0) == key);
		CHECK(syscall(SYS_keyctl, 3, key) == 0);
	}
	if (work_uid != 0) {
		CHECK(syscall(SYS_umount2, "/nowhere", 0) == -1 && (errno == EPERM || errno == ENOENT));
		CHECK(syscall(SYS_acct, NULL) == -1 && errno == EPERM);
		CHECK(syscall(SYS_vhangup) == -1 && errno == EPERM);
		CHECK(syscall(SYS_fsopen, "tmpfs", 0) == -1 && (errno == EPERM || errno == ENOSYS));
		CHECK(syscall(SYS_swapoff, "/nowhere") == -1 && errno == EPERM);
	}
}

int main(int argc, char **argv)
{
	pthread_t t;
	void *r = NULL;
	CHECK(pipe(idle) == 0 && pthread_create(&t, NULL, waiter, &idle) == 0);
	CHECK(unshare(CLONE_FS) == 0);
	work_begin(argc, argv);
	while (work_more()) {
		ids();
		names();
		options();
		limits();
		scheduling();
		machine();
		objects();
		nap(1000);
	}
	CHECK(write(idle[1], "e", 1) == 1 && pthread_join(t, &r) == 0 && r == &idle);
	return work_end();
}
