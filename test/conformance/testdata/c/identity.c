/* Group 8: identity and time. credentials(7), getrlimit(2), time(7), clock_gettime(2), timer_create(2), uname(2). */
#include "case.h"
#include <grp.h>
#include <linux/capability.h>
#include <netdb.h>
#include <pwd.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>

static struct utsname uts_first;
static uid_t ids_first[8];
static char cwd_first[PATH_MAX];

static void ids(uid_t *v)
{
	OK(getresuid(&v[0], &v[1], &v[2]));
	OK(getresgid(&v[3], &v[4], &v[5]));
	v[6] = getuid();
	v[7] = getegid();
}

/* What a process is does not change: it is noted before any move, in a constructor. */
__attribute__((constructor)) static void at_the_start(void)
{
	uname(&uts_first);
	ids(ids_first);
	if (getcwd(cwd_first, sizeof cwd_first) == NULL)
		cwd_first[0] = 0;
}

CASE(node_name_is_home_s)
{
	struct utsname u;
	char name[80] = "";
	OK(uname(&u));
	EQ(memcmp(&u, &uts_first, sizeof u), 0);
	OK(gethostname(name, sizeof name));
	SAME(name, u.nodename);
	ERR(sethostname("x", 1), EPERM);
}

CASE(user_and_groups_stay)
{
	uid_t v[8];
	gid_t g[64];
	ids(v);
	EQ(memcmp(v, ids_first, sizeof v), 0);
	int n = (int)OK(getgroups(64, g));
	EQ(getgroups(0, NULL), n);
	if (n > 0)
		ERR(getgroups(n - 1 == 0 ? -1 : n - 1, g), EINVAL);
	EQ(syscall(SYS_geteuid), geteuid());
}

CASE(ids_cannot_be_gained)
{
	IS(getuid() != 0, "it is run by root");
	ERR(setuid(0), EPERM);
	ERR(setgid(0), EPERM);
	ERR(setresuid(0, 0, 0), EPERM);
	gid_t g = 0;
	ERR(setgroups(1, &g), EPERM);
	OK(setuid(getuid()));
	OK(setresgid((gid_t)-1, getgid(), (gid_t)-1));
	EQ(syscall(SYS_setfsuid, -1), geteuid());
}

CASE(capabilities_are_none)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];
	memset(d, 7, sizeof d);
	OK(syscall(SYS_capget, &h, d));
	EQ(d[0].effective | d[0].permitted | d[1].effective | d[1].permitted, 0);
	d[0].effective = d[0].permitted = 1;
	ERR(syscall(SYS_capset, &h, d), EPERM);
	h.version = 5;
	ERR(syscall(SYS_capget, &h, d), EINVAL);
	EQ(h.version, _LINUX_CAPABILITY_VERSION_3);
	IS(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) >= 0);
}

CASE(privileges_are_refused)
{
	struct timespec t = {1, 0};
	ERR(mount("none", "/mnt", "tmpfs", 0, NULL), EPERM);
	ERR(chroot("/tmp"), EPERM);
	ERR(clock_settime(CLOCK_REALTIME, &t), EPERM);
	ERR(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL), EPERM);
	ERR(swapoff("/none"), EPERM);
	ERR(acct("/none"), EPERM);
	ERR(mknod(scratch, S_IFCHR | 0600, 0x103), EPERM);
	ERR(setpriority(PRIO_PROCESS, 1, 0), EPERM);
}

CASE(limits_are_kept)
{
	struct rlimit r, was;
	OK(getrlimit(RLIMIT_CORE, &was));
	r = was;
	r.rlim_cur = was.rlim_max < 4096 ? was.rlim_max : 4096;
	OK(setrlimit(RLIMIT_CORE, &r));
	memset(&r, 0, sizeof r);
	OK(getrlimit(RLIMIT_CORE, &r));
	EQ(r.rlim_cur, was.rlim_max < 4096 ? was.rlim_max : 4096);
	EQ(r.rlim_max, was.rlim_max);
	OK(setrlimit(RLIMIT_CORE, &was));
	OK(getrlimit(RLIMIT_NOFILE, &r));
	r.rlim_max++;
	ERR(setrlimit(RLIMIT_NOFILE, &r), EPERM);
	r.rlim_max = 5;
	ERR(setrlimit(RLIMIT_NOFILE, &r), EINVAL);
	ERR(getrlimit(99, &r), EINVAL);
	OK(getrlimit(RLIMIT_AS, &r));
	ERR(prlimit(1, RLIMIT_NOFILE, NULL, &r), EPERM);
}

CASE(file_size_limit_raises_sigxfsz)
{
	IN_CHILD
	{
		struct rlimit r = {100, 100};
		int fd = temp("", 0);
		char b[200] = "";
		caught(SIGXFSZ, 0);
		OK(setrlimit(RLIMIT_FSIZE, &r));
		EQ(write(fd, b, 200), 100);
		ERR(write(fd, b, 1), EFBIG);
		EQ(seen, SIGXFSZ);
	}
}

CASE(memory_limit_is_obeyed)
{
	IN_CHILD
	{
		struct rlimit r = {1 << 28, 1 << 28};
		OK(setrlimit(RLIMIT_AS, &r));
		ERR((intptr_t)mmap(NULL, 1 << 29, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
		OK((intptr_t)mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	}
}

CASE(niceness)
{
	IN_CHILD
	{
		int was = getpriority(PRIO_PROCESS, 0); /* it may have been started with nice */
		IS(was >= 0 && was <= 12);
		OK(setpriority(PRIO_PROCESS, 0, was + 5));
		EQ(getpriority(PRIO_PROCESS, 0), was + 5);
		EQ(nice(2), was + 7);
		EQ(syscall(SYS_getpriority, PRIO_PROCESS, getpid()), 13 - was);
		struct rlimit r;
		OK(getrlimit(RLIMIT_NICE, &r));
		if (r.rlim_cur == 0)
			ERR(setpriority(PRIO_PROCESS, 0, was), EACCES);
	}
}

CASE(working_folder_stays)
{
	char b[PATH_MAX];
	SAME(getcwd(b, sizeof b), cwd_first);
}

CASE(umask_stays)
{
	mode_t m = umask(0123);
	nap(wait_ms() / 2);
	EQ(umask(m), 0123);
}

CASE(users_and_hosts_have_names)
{
	char b[4096], name[80];
	IS(slurp("/etc/passwd", b, sizeof b) > 0 && strstr(b, "root:") != NULL);
	IS(slurp("/etc/group", b, sizeof b) > 0 && strstr(b, "root:") != NULL);
	OK(gethostname(name, sizeof name));
	IS(slurp("/etc/hosts", b, sizeof b) >= 0);
	if (slurp("/etc/hostname", b, sizeof b) > 0 && access("/run/mosix-lab", F_OK) == 0) {
		b[strcspn(b, "\n")] = 0;
		SAME(b, name);
	}
}

CASE(flags_of_prctl)
{
	IN_CHILD
	{
		int v = -1;
		EQ(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
		OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
		OK(prctl(PR_GET_PDEATHSIG, &v));
		EQ(v, SIGUSR1);
		ERR(prctl(PR_SET_PDEATHSIG, 99), EINVAL);
		EQ(prctl(PR_GET_TIMERSLACK), 50000);
		OK(prctl(PR_SET_TIMERSLACK, 60000));
		EQ(prctl(PR_GET_TIMERSLACK), 60000);
		EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
		OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
		ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
		EQ(prctl(PR_GET_SECCOMP), 0);
		EQ(prctl(PR_GET_KEEPCAPS), 0);
		ERR(prctl(9999), EINVAL);
		EQ(personality(0xffffffff) & 0xff, 0);
	}
}

CASE(no_new_privs_of_the_process_itself)
{
	EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	EQ(prctl(PR_GET_SECCOMP), 0);
	EQ(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
}

CASE(scheduling)
{
	struct sched_param p = {5};
	EQ(sched_getscheduler(0), SCHED_OTHER);
	OK(sched_getparam(0, &p));
	EQ(p.sched_priority, 0);
	EQ(sched_get_priority_max(SCHED_FIFO), 99);
	p.sched_priority = 1;
	struct rlimit r;
	OK(getrlimit(RLIMIT_RTPRIO, &r));
	if (r.rlim_cur == 0)
		ERR(sched_setscheduler(0, SCHED_FIFO, &p), EPERM);
	ERR(sched_getscheduler(99999999), ESRCH);
	OK(sched_yield());
}

CASE(affinity)
{
	cpu_set_t was, one, got;
	OK(sched_getaffinity(0, sizeof was, &was));
	IS(CPU_COUNT(&was) > 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &was)) {
			CPU_SET(i, &one);
			break;
		}
	OK(sched_setaffinity(0, sizeof one, &one));
	nap(wait_ms() / 4);
	OK(sched_getaffinity(0, sizeof got, &got));
	IS(CPU_EQUAL(&got, &one), "%d processors", CPU_COUNT(&got));
	OK(sched_setaffinity(0, sizeof was, &was));
	CPU_ZERO(&one);
	ERR(sched_setaffinity(0, sizeof one, &one), EINVAL);
}

CASE(clocks_never_step_back)
{
	static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
	int64_t last[9] = {0};
	for (int64_t began = MONO; MONO - began < wait_ms();)
		for (int i = 0; i < 9; i++) {
			struct timespec t;
			OK(clock_gettime(clocks[i], &t));
			int64_t n = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
			IS(n >= last[i], "clock %d went back by %lld ns", clocks[i], (long long)(last[i] - n));
			last[i] = n;
		}
	ERR(clock_gettime(77, &(struct timespec){0, 0}), EINVAL);
}

CASE(clocks_agree_with_one_another)
{
	for (int i = 0; i < 20; i++) {
		struct timespec a, b, c;
		struct timeval v;
		OK(clock_gettime(CLOCK_REALTIME, &a));
		OK(gettimeofday(&v, NULL));
		OK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &b));
		time_t t = time(NULL);
		int64_t x = (int64_t)a.tv_sec * 1000000 + a.tv_nsec / 1000, y = (int64_t)v.tv_sec * 1000000 + v.tv_usec, z = (int64_t)b.tv_sec * 1000000 + b.tv_nsec / 1000;
		IS(y >= x && z >= y && z - x < 500000, "%lld us, then %lld, then %lld", (long long)x, (long long)y, (long long)z);
		IS(t >= a.tv_sec - 1 && t <= b.tv_sec + 1, "time is %lld, between %lld and %lld", (long long)t, (long long)a.tv_sec, (long long)b.tv_sec); /* it may lag by a tick */
		OK(clock_gettime(CLOCK_MONOTONIC, &a));
		OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b));
		OK(clock_gettime(CLOCK_MONOTONIC, &c));
		IS((a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec <= b.tv_nsec)), "the monotonic clock of the call is behind that of the vDSO");
		IS((b.tv_sec < c.tv_sec || (b.tv_sec == c.tv_sec && b.tv_nsec <= c.tv_nsec)), "the monotonic clock of the vDSO is behind that of the call");
		nap(wait_ms() / 20);
	}
}

CASE(files_are_as_old_as_the_clock_says)
{
	for (int i = 0; i < 5; i++) {
		struct stat st;
		struct timespec a, b;
		OK(clock_gettime(CLOCK_REALTIME_COARSE, &a));
		int fd = temp("x", 1);
		OK(fstat(fd, &st));
		OK(clock_gettime(CLOCK_REALTIME, &b));
		int64_t x = (int64_t)a.tv_sec * 1000 + a.tv_nsec / 1000000, f = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000, y = (int64_t)b.tv_sec * 1000 + b.tv_nsec / 1000000;
		IS(f >= x - 20 && f <= y + 20, "the file is of %lld ms, between %lld and %lld", (long long)f, (long long)x, (long long)y);
		close(fd);
		nap(wait_ms() / 10);
	}
}

CASE(resolution_of_clocks)
{
	struct timespec t;
	OK(clock_getres(CLOCK_MONOTONIC, &t));
	EQ(t.tv_sec * 1000000000 + t.tv_nsec, 1);
	OK(clock_getres(CLOCK_REALTIME, &t));
	EQ(t.tv_nsec, 1);
	OK(clock_getres(CLOCK_REALTIME_COARSE, &t));
	IS(t.tv_nsec >= 1000000 && t.tv_nsec <= 10000000);
	ERR(clock_getres(99, &t), EINVAL);
}

static double cpu(clockid_t c)
{
	struct timespec t;
	OK(clock_gettime(c, &t));
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void work(double ms)
{
	for (double t = cpu(CLOCK_THREAD_CPUTIME_ID); cpu(CLOCK_THREAD_CPUTIME_ID) - t < ms;)
		for (volatile int i = 0; i < 200000; i++) /* in the program, not in the kernel */
			;
}

CASE(processor_time_is_counted)
{
	struct rusage u0, u1;
	struct tms t0, t1;
	OK(getrusage(RUSAGE_SELF, &u0));
	OK(times(&t0));
	work(100);
	OK(getrusage(RUSAGE_SELF, &u1));
	OK(times(&t1));
	double u = (double)(u1.ru_utime.tv_sec - u0.ru_utime.tv_sec + u1.ru_stime.tv_sec - u0.ru_stime.tv_sec) * 1e3 +
		   (double)(u1.ru_utime.tv_usec - u0.ru_utime.tv_usec + u1.ru_stime.tv_usec - u0.ru_stime.tv_usec) / 1e3;
	double t = (double)(t1.tms_utime - t0.tms_utime + t1.tms_stime - t0.tms_stime) * 10;
	IS(u >= 80 && u < 600, "%.0f ms of getrusage", u);
	IS(t >= 70 && t < 600, "%.0f ms of times", t);
}

CASE(process_clock_counts_processor_time)
{
	double p0 = cpu(CLOCK_PROCESS_CPUTIME_ID);
	work(100);
	double p = cpu(CLOCK_PROCESS_CPUTIME_ID) - p0;
	IS(p >= 95 && p < 600, "%.0f ms of the process's clock after 100 ms", p);
}

CASE(sleep_costs_no_processor_time)
{
	double p = cpu(CLOCK_PROCESS_CPUTIME_ID);
	nap(wait_ms() + 60);
	p = cpu(CLOCK_PROCESS_CPUTIME_ID) - p;
	IS(p < 50, "%.0f ms", p);
}

static void *works(void *ms)
{
	work(30);
	*(double *)ms = cpu(CLOCK_THREAD_CPUTIME_ID);
	return NULL;
}

CASE(threads_have_processor_time_of_their_own)
{
	pthread_t t;
	double theirs = 0, m = cpu(CLOCK_THREAD_CPUTIME_ID), p = cpu(CLOCK_PROCESS_CPUTIME_ID);
	EQ(pthread_create(&t, NULL, works, &theirs), 0);
	EQ(pthread_join(t, NULL), 0);
	IS(theirs >= 30 && theirs < 200, "%.0f ms", theirs);
	IS(cpu(CLOCK_THREAD_CPUTIME_ID) - m < 25, "%.0f ms", cpu(CLOCK_THREAD_CPUTIME_ID) - m);
	IS(cpu(CLOCK_PROCESS_CPUTIME_ID) - p >= 29);
	clockid_t c;
	EQ(clock_getcpuclockid(me, &c), 0);
	IS(cpu(c) >= 29);
	EQ(pthread_getcpuclockid(pthread_self(), &c), 0);
	IS(cpu(c) >= 0);
}

CASE(alarm_comes_in_time)
{
	caught(SIGALRM, 0);
	EQ(alarm(100), 0);
	nap(20);
	unsigned left = alarm(0);
	IS(left == 100 || left == 99, "%u", left);
	struct itimerval v = {{0, 0}, {0, wait_ms() * 1000}}, w;
	int64_t began = MONO;
	OK(setitimer(ITIMER_REAL, &v, NULL));
	ERR(pause(), EINTR);
	EQ(seen, SIGALRM);
	EQ(seen_info.si_code, SI_KERNEL);
	took(__LINE__, began, wait_ms());
	OK(getitimer(ITIMER_REAL, &w));
	EQ(w.it_value.tv_sec + w.it_value.tv_usec, 0);
	v.it_value.tv_usec = 1000000;
	ERR(setitimer(ITIMER_REAL, &v, NULL), EINVAL);
	signal(SIGALRM, SIG_DFL);
}

static volatile sig_atomic_t ticks;
static void tick(MAYBE int s) { ticks++; }

CASE(interval_timer_repeats)
{
	struct itimerval v = {{0, 10000}, {0, 10000}}, off = {{0, 0}, {0, 0}};
	signal(SIGALRM, tick);
	ticks = 0;
	int64_t began = MONO;
	OK(setitimer(ITIMER_REAL, &v, NULL));
	while (ticks < 8 && MONO - began < 5000)
		pause();
	IS(MONO - began >= 78, "8 intervals of 10 ms in %lld ms", (long long)(MONO - began));
	OK(setitimer(ITIMER_REAL, &off, &v));
	EQ(v.it_interval.tv_usec, 10000);
	signal(SIGALRM, SIG_DFL);
}

CASE(virtual_and_profiling_timers)
{
	struct itimerval v = {{0, 0}, {0, 50000}};
	caught(SIGVTALRM, 0);
	OK(setitimer(ITIMER_VIRTUAL, &v, NULL));
	nap(60);
	EQ(seen, 0); /* sleep is not its time */
	work(150);
	EQ(seen, SIGVTALRM);
	caught(SIGPROF, 0);
	OK(setitimer(ITIMER_PROF, &v, NULL));
	work(150);
	EQ(seen, SIGPROF);
	signal(SIGVTALRM, SIG_DFL), signal(SIGPROF, SIG_DFL);
}

CASE(posix_timer_sends_its_value)
{
	timer_t id;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 31};
	struct itimerspec ts = {{0, 0}, {0, wait_ms() * 1000000L}}, now;
	struct itimerspec far = {{0, 0}, {100, 0}};
	caught(SIGRTMIN + 1, 0);
	OK(timer_create(CLOCK_MONOTONIC, &e, &id));
	OK(timer_settime(id, 0, &far, NULL));
	OK(timer_gettime(id, &now));
	IS(now.it_value.tv_sec >= 90 && now.it_value.tv_sec < 100, "%ld s", (long)now.it_value.tv_sec);
	int64_t began = MONO;
	OK(timer_settime(id, 0, &ts, &now));
	IS(now.it_value.tv_sec >= 90 && now.it_value.tv_sec < 100, "%ld s", (long)now.it_value.tv_sec);
	ERR(pause(), EINTR);
	took(__LINE__, began, wait_ms());
	EQ(seen, SIGRTMIN + 1);
	EQ(seen_info.si_code, SI_TIMER);
	EQ(seen_info.si_value.sival_int, 31);
	OK(timer_delete(id));
	signal(SIGRTMIN + 1, SIG_DFL);
}

CASE(posix_timer_counts_overruns)
{
	int id = -1;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec ts = {{0, 5000000}, {0, 5000000}};
	sigset_t s = set_of(SIGUSR1, 0);
	siginfo_t si;
	block(SIGUSR1, 0);
	OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &id));
	OK(syscall(SYS_timer_settime, id, 0, &ts, NULL));
	int64_t began = MONO;
	nap(wait_ms() + 20);
	EQ(sigwaitinfo(&s, &si), SIGUSR1);
	int64_t t = MONO - began;
	EQ(si.si_code, SI_TIMER);
	EQ(si.si_timerid, id);
	IS(si.si_overrun >= (wait_ms() + 20) / 5 - 3 && si.si_overrun <= t / 5 + 1, "%d overruns in %lld ms", si.si_overrun, (long long)t);
	EQ(syscall(SYS_timer_getoverrun, id), si.si_overrun);
	OK(syscall(SYS_timer_delete, id));
	ERR(syscall(SYS_timer_delete, id), EINVAL);
	struct timespec zero = {0, 0};
	while (sigtimedwait(&s, NULL, &zero) > 0)
		;
	unblock(SIGUSR1, 0);
}

CASE(posix_timer_of_one_thread)
{
	int id = -1;
	struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	e._sigev_un._tid = gettid_();
	struct itimerspec ts = {{0, 0}, {0, 1000000}};
	caught(SIGUSR1, 0);
	OK(syscall(SYS_timer_create, CLOCK_REALTIME, &e, &id));
	OK(syscall(SYS_timer_settime, id, 0, &ts, NULL));
	for (int i = 0; i < 2000 && seen == 0; i++)
		nap(1);
	EQ(seen, SIGUSR1);
	OK(syscall(SYS_timer_delete, id));
	ERR(syscall(SYS_timer_create, 99, &e, &id), EINVAL);
	signal(SIGUSR1, SIG_DFL);
}

CASE(posix_timer_of_processor_time)
{
	int id = -1;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
	struct itimerspec ts = {{0, 0}, {0, 40000000}};
	caught(SIGUSR2, 0);
	OK(syscall(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, &e, &id));
	OK(syscall(SYS_timer_settime, id, 0, &ts, NULL));
	nap(60);
	EQ(seen, 0);
	work(120);
	EQ(seen, SIGUSR2);
	OK(syscall(SYS_timer_delete, id));
	signal(SIGUSR2, SIG_DFL);
}

CASE(sysinfo_and_random)
{
	struct sysinfo s;
	struct timespec t, u;
	char a[32], b[32];
	OK(clock_gettime(CLOCK_BOOTTIME, &t));
	OK(sysinfo(&s));
	OK(clock_gettime(CLOCK_BOOTTIME, &u)); /* a move may lie between any two of them */
	IS(s.uptime >= t.tv_sec - 1 && s.uptime <= u.tv_sec + 1, "%ld s, the clock has %ld to %ld", s.uptime, (long)t.tv_sec, (long)u.tv_sec);
	IS(s.totalram > 0 && s.procs > 0);
	EQ(getrandom(a, 32, 0), 32);
	EQ(getrandom(b, 32, GRND_NONBLOCK), 32);
	IS(memcmp(a, b, 32) != 0);
	ERR(getrandom(a, 32, 0x80), EINVAL);
}

CASE(clocks_are_read_all_the_time)
{
	/* nothing else is done, so that a move finds the process in the middle of reading one */
	for (int64_t until = MONO + wait_ms(); MONO < until;) {
		struct timespec a, b;
		struct timeval v;
		for (int i = 0; i < 2000; i++) {
			clock_gettime(CLOCK_REALTIME, &a);
			gettimeofday(&v, NULL);
			clock_gettime(CLOCK_REALTIME, &b);
			int64_t x = (int64_t)a.tv_sec * 1000000 + a.tv_nsec / 1000, y = (int64_t)v.tv_sec * 1000000 + v.tv_usec, z = (int64_t)b.tv_sec * 1000000 + b.tv_nsec / 1000;
			IS(x <= y && y <= z, "%lld us, then %lld, then %lld", (long long)x, (long long)y, (long long)z);
		}
	}
}
