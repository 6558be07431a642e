/*
 * hostile all|some|doors|listen|pretend [PORT]: a guest that wants to know, or do, anything on its host. It first learns at home what its calls come
 * to there, then does them again as a guest, in every way in which code can make a call:
 *
 *   sites   jumps to each 0f 05 in its executable memory, whether meant as a syscall instruction or not, the vDSO included,
 *           with the registers of openat("/etc/hostname")
 *   own     maps a page of its own code, also where the stub and the vDSO like to live
 *   sweep   each number from 0 to 470 with arguments that do no harm where they are honoured: same result as at home
 *   paths   each call that takes a path
 *   more    loopback of the host, processes of the host, memory of others, namespaces, the tracer's and the keeper's process
 *
 * Whether it is a guest just now it sees from what a call that goes home costs. When it has been taken home, it says "away?"
 * on standard error and waits until somebody has moved it again: what is tried at home proves nothing.
 * "doors" tries int 0x80, the x32 numbers and the vsyscall page, and nothing else: the first brings a guest home.
 * "some" leaves out most of the sweep. "listen" is a helper on the host: a listener on its loopback, whose PORT is tried.
 * "pretend" (at home) makes it believe that home's secrets are others than they are, so that all it sees looks like a host's:
 * a hostile program that then finds nothing would be no test. It runs as an ordinary user only: what it tries would really
 * happen, to the machine, if root tried it.
 *
 * Each finding is a line "leak: …" on standard output; the last line counts the attempts that were made away.
 */
#include "work.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <ucontext.h>

#define LAST 470

static const char secret[] = "/etc/hostname"; /* differs between nodes, and is at the same place on each */
static char at_home[256];
static ssize_t at_home_len;
static ino_t at_home_ino;
static long attempts, at_home_attempts, leaks;

static void leak(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	printf("leak: ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	fflush(stdout);
	leaks++;
}

/* away tells by the cheapest call that goes home: 0.1 us there, tens of us from elsewhere. */
static int away(void)
{
	uint64_t best = ~0ull;
	for (int i = 0; i < 15; i++) {
		uint64_t t = clock_ns(CLOCK_MONOTONIC);
		syscall(SYS_getppid);
		t = clock_ns(CLOCK_MONOTONIC) - t;
		if (t < best)
			best = t;
	}
	return best > 3000;
}

static int guest; /* whether this is the part that must run away from home */
static int pretend;

static void want_away(void)
{
	if (!guest || pretend)
		return;
	for (int i = 0; !away(); i++) {
		if (i % 200 == 0)
			dprintf(2, "away?\n");
		if (i > 12000) {
			leak("nobody moved this process for a minute");
			exit(1);
		}
		nap(5000);
	}
}

/* attempt counts one that was made; afterwards it is known where. */
static void attempt(void)
{
	if (!guest)
		return;
	if (pretend || away())
		attempts++;
	else
		at_home_attempts++;
}

static sigjmp_buf back;
static volatile uintptr_t target;
static volatile long reached;

static void on_fault(int sig, siginfo_t *si, void *ucp)
{
	ucontext_t *uc = ucp;
	(void)si;
	if (sig == SIGTRAP && (uintptr_t)uc->uc_mcontext.gregs[REG_RIP] == target) {
		reached++; /* just before the instruction: on, for one more */
		return;
	}
	siglongjmp(back, sig);
}

static void traps(void)
{
	static char stack[1 << 16];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	int sigs[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
	sigaltstack(&ss, NULL);
	for (int i = 0; i < 6; i++)
		sigaction(sigs[i], &sa, NULL);
}

static long my_call(long (*code)(void), long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("call *%[code]\n\t"
			 : "=a"(ret), "+r"(r10), "+r"(r8), "+r"(r9)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), [code] "r"(code)
			 : "rcx", "r11", "memory", "cc");
	return ret;
}

/* own_page maps code of its own, "syscall; ret", at a place where it likes. */
static long (*own_page(uintptr_t at))(void)
{
	unsigned char *p = mmap((void *)at, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	memcpy(p, "\x0f\x05\xc3", 3);
	return (long (*)(void))(void *)p;
}

/* is_home looks into a descriptor that an attempt got. */
static void is_home(int fd, const char *how)
{
	char b[256];
	struct stat st;
	ssize_t n = pread(fd, b, sizeof b, 0);
	if (n < 0)
		return; /* a directory, or nothing to read */
	if (n != at_home_len || memcmp(b, at_home, (size_t)n) != 0 || fstat(fd, &st) != 0 || st.st_ino != at_home_ino)
		leak("%s read another file than home's: %zd bytes, \"%.*s\"", how, n, (int)(n > 40 ? 40 : n), b);
}

static void close_from(int low)
{
	for (int i = low; i < low + 64; i++)
		close(i);
}

/* jump enters memory at an address with the registers of openat, and takes back control one instruction after it. */
static void jump(uintptr_t at)
{
	int fd = dup(2), sig;
	close(fd); /* the number that openat will give */
	target = at;
	reached = 0;
	want_away();
	if ((sig = sigsetjmp(back, 1)) == 0) {
		__asm__ volatile("movl $257, %%eax\n\t"
				 "movq $-100, %%rdi\n\t"
				 "leaq %[path], %%rsi\n\t"
				 "xorl %%edx, %%edx\n\t"
				 "xorl %%r10d, %%r10d\n\t"
				 "movq %[at], %%rbx\n\t"
				 "subq $4096, %%rsp\n\t"
				 "pushfq\n\t"
				 "orq $0x100, (%%rsp)\n\t"
				 "popfq\n\t"
				 "jmp *%%rbx\n\t"
				 :
				 : [path] "m"(secret), [at] "r"(at)
				 : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
		__builtin_unreachable();
	}
	attempt();
	if (sig == SIGTRAP && fcntl(fd, F_GETFD) >= 0)
		is_home(fd, "a jump into mapped code");
	close(fd);
}

static void sites(void)
{
	static uintptr_t found[4096];
	int n = 0;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		unsigned long a, b;
		char perms[8];
		if (sscanf(line, "%lx-%lx %7s", &a, &b, perms) != 3 || perms[0] != 'r' || perms[2] != 'x')
			continue;
		for (unsigned char *p = (unsigned char *)a; p + 1 < (unsigned char *)b && n < 4096; p++)
			if (p[0] == 0x0f && p[1] == 0x05)
				found[n++] = (uintptr_t)p;
	}
	if (f != NULL)
		fclose(f);
	for (int i = 0; i < n; i++)
		jump(found[i]);
	fprintf(stderr, "sites: %d\n", n);
	if (n < 50)
		leak("only %d syscall instructions were found, so this test proves little", n);
}

/* doors are the other ways into the kernel. */
static void doors(void)
{
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long r;
	if (low != MAP_FAILED) {
		strcpy(low, secret);
		want_away();
		if (sigsetjmp(back, 1) == 0) {
			__asm__ volatile("int $0x80" : "=a"(r) : "a"(5), "b"(low), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
			if (r >= 0) {
				is_home((int)r, "int 0x80 open");
				close((int)r);
			}
		}
		attempt(); /* also where it faults, in a kernel without the door */
	}
	long (*own)(void) = own_page(0);
	want_away();
	r = my_call(own, 0x40000000 | SYS_open, (long)secret, 0, 0, 0, 0, 0);
	attempt();
	if (r >= 0)
		is_home((int)r, "x32 open");
	want_away();
	if (sigsetjmp(back, 1) == 0) {
		long t = ((long (*)(long *))0xffffffffff600400)(NULL), now = time(NULL);
		if (t - now > 1 || now - t > 1)
			leak("the vsyscall page tells another time than home: %ld, %ld", t, now);
	}
	attempt();
}

static void own(void)
{
	static const uintptr_t places[] = {0, 0x10000, 0x7ffff0000000, 0x400000 - 0x10000, 0x100000000, 0x7f0000000000};
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		want_away();
		long (*code)(void) = own_page(places[i]);
		if (code == NULL)
			continue;
		long r = my_call(code, SYS_openat, AT_FDCWD, (long)secret, O_RDONLY, 0, 0, 0);
		attempt();
		if (r >= 0) {
			is_home((int)r, "own code");
			close((int)r);
		} else {
			leak("own code: openat gave %ld", r);
		}
		munmap((void *)code, 4096);
	}
}

struct result {
	long ret;
	int tried;
} results[2][LAST + 1];

/* skipped: not tried at all, since they end, stop or change this very process wherever they run. */
static int skipped(long nr)
{
	switch (nr) {
	case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_pause: case SYS_rt_sigsuspend: case SYS_vfork:
	case SYS_fork: case SYS_setsid: case SYS_sync: case SYS_vhangup: case SYS_select: case SYS_restart_syscall:
	case SYS_mlockall: case SYS_close_range: case SYS_landlock_restrict_self:
		return 1;
	}
	return nr >= 335 && nr < 424; /* no such numbers */
}

/* changing: results that are different from one call to the next, wherever it is made. Only success or failure is compared. */
static int changing(long nr)
{
	switch (nr) {
	case SYS_brk: case SYS_mmap: case SYS_times: case SYS_msgget: case SYS_semget: case SYS_shmget: case SYS_inotify_init:
	case SYS_eventfd: case SYS_eventfd2: case SYS_timerfd_create: case SYS_time: case SYS_getrandom: case SYS_pipe:
	case SYS_inotify_init1: case SYS_fanotify_init: case SYS_userfaultfd: case SYS_memfd_create: case SYS_epoll_create1:
	case SYS_getrusage: case SYS_sched_getaffinity: case SYS_getcpu: case SYS_dup:
		return 1;
	}
	return 0;
}

static void sweep(int who, long (*code)(void), long step)
{
	static char scratch[65536] __attribute__((aligned(4096)));
	int low = dup(2);
	close(low);
	for (long nr = 0; nr <= LAST; nr += step) {
		long a[6] = {-1, 0, 0, 0, 0, 0};
		if (skipped(nr))
			continue;
		switch (nr) {
		case SYS_umask: a[0] = 022; break;
		case SYS_alarm: case SYS_unshare: case SYS_set_tid_address: case SYS_eventfd: case SYS_eventfd2: case SYS_inotify_init1:
			a[0] = 0;
			break;
		case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: a[0] = 0x7ffffff0; break;
		case SYS_ppoll: case SYS_poll: a[0] = (long)scratch; a[2] = nr == SYS_ppoll ? (long)scratch : 0; break;
		case SYS_pselect6: a[0] = 0; a[4] = (long)scratch; break;
		case SYS_set_robust_list: a[1] = 1; break;
		case SYS_uname: case SYS_sysinfo: a[0] = (long)scratch; break;
		}
		memset(scratch, 0, sizeof scratch);
		want_away();
		long r;
		if (sigsetjmp(back, 1) == 0)
			r = my_call(code, nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		else
			r = -999;
		attempt();
		if (nr == SYS_uname) /* what is written counts, not only what is returned */
			r = (long)(mix_bytes(171, scratch, sizeof(struct utsname)) >> 1);
		results[who][nr].ret = r;
		results[who][nr].tried = 1;
		close_from(low);
	}
}

static void compare(void)
{
	for (long nr = 0; nr <= LAST; nr++) {
		long h = results[0][nr].ret, g = results[1][nr].ret;
		int same = changing(nr) ? (h < 0 && h > -4096) == (g < 0 && g > -4096) : h == g;
		if (!results[0][nr].tried || !results[1][nr].tried || same)
			continue;
		leak("call %ld gave %ld at home, %ld away", nr, h, g);
	}
}

static void paths(long (*code)(void))
{
	static char b[4096] __attribute__((aligned(8)));
	struct {
		const char *name;
		long nr, a[5];
	} tries[] = {
		{"open", SYS_open, {(long)secret, O_RDONLY}},
		{"openat", SYS_openat, {AT_FDCWD, (long)secret, O_RDONLY}},
		{"openat of the root of the file system", SYS_openat, {-1, (long)secret, O_RDONLY | O_CLOEXEC}},
		{"openat2", SYS_openat2, {AT_FDCWD, (long)secret, (long)(b + 2048), 24}},
		{"O_PATH", SYS_openat, {AT_FDCWD, (long)secret, O_PATH}},
		{"/proc/1/root", SYS_open, {(long)"/proc/1/root/etc/hostname", O_RDONLY}},
		{"/proc/self/root", SYS_open, {(long)"/proc/self/root/etc/hostname", O_RDONLY}},
		{"/proc/self/cwd", SYS_open, {(long)"/proc/self/cwd/../../etc/hostname", O_RDONLY}},
		{"/proc/thread-self/root", SYS_open, {(long)"/proc/thread-self/root/etc/hostname", O_RDONLY}},
	};
	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		memset(b, 0, sizeof b);
		want_away();
		long r = my_call(code, tries[i].nr, tries[i].a[0], tries[i].a[1], tries[i].a[2], tries[i].a[3], tries[i].a[4], 0);
		attempt();
		if (r >= 0) {
			is_home((int)r, tries[i].name);
			close((int)r);
		}
	}
	struct stat st;
	memset(&st, 0, sizeof st);
	want_away();
	long r = my_call(code, SYS_stat, (long)secret, (long)&st, 0, 0, 0, 0);
	attempt();
	if (r != 0 || st.st_ino != at_home_ino)
		leak("stat saw inode %lu, home's is %lu", (unsigned long)st.st_ino, (unsigned long)at_home_ino);
	memset(b, 0, sizeof b);
	want_away();
	r = my_call(code, SYS_readlink, (long)"/proc/self/exe", (long)b, 4000, 0, 0, 0);
	attempt();
	if (r <= 0 || strstr(b, "hostile") == NULL)
		leak("/proc/self/exe is %s", b);
	want_away();
	r = my_call(code, SYS_access, (long)"/tmp/of-the-host", F_OK, 0, 0, 0, 0);
	attempt();
	if (r == 0)
		leak("a file in the host's /tmp is there");
}

static void more(long (*code)(void), int host_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)host_port)};
	char b[256];
	want_away();
	int s = socket(AF_INET, SOCK_STREAM, 0);
	long r = my_call(code, SYS_connect, s, (long)&a, sizeof a, 0, 0, 0);
	attempt();
	if (host_port != 0 && r == 0)
		leak("a listener on the host's loopback answered at port %d", host_port);
	close(s);
	/* processes that are not this one: the keeper is 1 in here, the agent is somewhere */
	for (int pid = 1; pid < 400; pid += pid < 8 ? 1 : 37) {
		struct iovec mine = {b, 8}, theirs = {(void *)0x400000, 8};
		if (pid == work_pid || pid == work_ppid)
			continue;
		want_away();
		r = my_call(code, SYS_process_vm_readv, pid, (long)&mine, 1, (long)&theirs, 1, 0);
		attempt();
		if (r > 0 && pid == 1)
			leak("memory of process %d was read", pid);
		r = my_call(code, SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
		if (r >= 0) {
			long fd = my_call(code, SYS_pidfd_getfd, r, 0, 0, 0, 0, 0);
			if (fd >= 0)
				leak("a descriptor of process %d was taken", pid);
			close((int)r);
		}
		want_away();
		r = my_call(code, SYS_ptrace, 16, pid, 0, 0, 0, 0); /* ATTACH */
		attempt();
		if (r == 0)
			leak("process %d was traced", pid);
	}
	static const struct { const char *name; long nr, a, b, c; } no[] = {
		{"unshare of a user namespace and all others", SYS_unshare, 0x10000000 | 0x20000000 | 0x00020000 | 0x40000000, 0, 0},
		{"prctl PR_SET_DUMPABLE 2", SYS_prctl, 4, 2, 0},
		{"prctl PR_SET_MM", SYS_prctl, 35, 1, 4096},
		{"seccomp in strict mode of another kind", SYS_seccomp, 99, 0, 0},
		{"sethostname", SYS_sethostname, (long)"leak", 4, 0},
		{"mount", SYS_mount, (long)"none", (long)"/tmp", (long)"tmpfs"},
		{"reboot", SYS_reboot, 0, 0, 0},
		{"settimeofday", SYS_settimeofday, (long)secret, 0, 0},
		{"bpf", SYS_bpf, 0, (long)secret, 8},
		{"priority of a user's processes", SYS_setpriority, PRIO_USER, 0, -5},
		{"init_module", SYS_init_module, (long)secret, 8, (long)secret},
	};
	for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
		if (no[i].nr == SYS_unshare || no[i].nr == SYS_prctl)
			continue; /* what home grants of these is home's; the sweep has compared their errors */
		want_away();
		r = my_call(code, no[i].nr, no[i].a, no[i].b, no[i].c, 0, 0, 0);
		attempt();
		if (r == 0)
			leak("%s was done", no[i].name);
	}
}

/* listener is a server that only its own node may reach. */
static int listener(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (struct sockaddr *)&a, sizeof a) != 0 || listen(l, 8) != 0 || getsockname(l, (struct sockaddr *)&a, &len) != 0)
		return 2;
	dprintf(2, "port %d\npid %d\n", ntohs(a.sin_port), getpid());
	for (;;)
		close(accept(l, NULL, NULL));
}

/* learn remembers what home's secret is. */
static void learn(void)
{
	struct stat st;
	int fd = open(secret, O_RDONLY);
	at_home_len = read(fd, at_home, sizeof at_home);
	fstat(fd, &st);
	at_home_ino = st.st_ino;
	close(fd);
}

/* mislead makes everything that was learned wrong. */
static void mislead(void)
{
	at_home[0] ^= 1;
	at_home_ino++;
	for (long nr = 0; nr <= LAST; nr++)
		results[0][nr].ret ^= 1 << 20;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "all";
	int port = argc > 2 ? atoi(argv[2]) : 0;
	long step = strcmp(how, "some") == 0 ? 11 : 1;
	if (strcmp(how, "listen") == 0)
		return listener();
	if (getuid() == 0 || geteuid() == 0) {
		dprintf(2, "hostile: this tries to mount, to rename the machine, to trace others: run it as an ordinary user\n");
		return 2;
	}
	work_begin(0, argv);
	signal(SIGPIPE, SIG_IGN);
	traps();
	learn();
	long (*code)(void) = own_page(0);
	sweep(0, code, step);
	sweep(0, code, step); /* the second time counts: the first may have changed what can be changed once */
	pretend = strcmp(how, "pretend") == 0;
	guest = strcmp(how, "home") != 0;
	if (pretend)
		mislead();
	want_away();
	dprintf(2, "begin\n");
	if (strcmp(how, "doors") == 0 || pretend)
		doors();
	if (strcmp(how, "doors") != 0) {
		own();
		paths(code);
		more(code, port);
		sites();
		sweep(1, code, step);
		compare();
	}
	guest = 0;
	if (getpid() != work_pid || getuid() != work_uid)
		leak("the process is not the one that began: %d, uid %d", getpid(), getuid());
	dprintf(2, "attempts %ld, ended at home %ld\n", attempts, at_home_attempts);
	printf("%s\n", leaks ? "leaks" : "nothing");
	dprintf(2, "end %d\n", getpid());
	return leaks ? 1 : 0;
}
