// A program with one property that decides whether it may move, told by its first argument. It prints "ready" when it has the
// property and then blocks until its standard input ends. Threads that block elsewhere print their name if they ever return.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
  printf("cannot %s: %s\n", what, strerror(errno));
  fflush(stdout);
  _exit(77);
}

static void ready(long pid) {
  printf("ready %ld\n", pid);
  fflush(stdout);
}

static void block(void) {
  char c;
  while (read(0, &c, 1) > 0)
    ;
}

static void *map(size_t n, int prot, int flags, int fd) {
  void *p = mmap(0, n, prot, flags, fd, 0);
  if (p == MAP_FAILED) die("mmap");
  if (prot & PROT_WRITE) *(volatile char *)p = 1;
  return p;
}

static int memfd(size_t n) {
  int fd = syscall(SYS_memfd_create, "victim", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, n)) die("memfd_create");
  return fd;
}

static void filter(void) {
  struct sock_filter f[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog p = {1, f};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p)) die("install a filter");
}

// keep starts a child that lives as long as this process.
static pid_t keep(void (*f)(void)) {
  int p[2];
  if (pipe(p)) die("pipe");
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (f) f();
    if (write(p[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char c;
  if (read(p[0], &c, 1) != 1) die("start a child");
  close(p[0]);
  close(p[1]);
  return pid;
}

static void traceme(void) { ptrace(PTRACE_TRACEME, 0, 0, 0); }

static void said(const char *what) {
  printf("returned %s\n", what);
  fflush(stdout);
}

static int pfd[2], sfd[2];
static void *t_read(void *a) { char c; if (read(pfd[0], &c, 1) != 99) said("read"); return a; }
static void *t_epoll(void *a) { struct epoll_event e; epoll_wait(epoll_create1(0), &e, 1, 600000); said("epoll_wait"); return a; }
static void *t_sleep(void *a) { struct timespec t = {600, 0}; nanosleep(&t, 0); said("nanosleep"); return a; }
static void *t_futex(void *a) { static int f; struct timespec t = {600, 0}; syscall(SYS_futex, &f, FUTEX_WAIT, 0, &t, 0, 0); said("futex"); return a; }
static void *t_sig(void *a) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  struct timespec t = {600, 0};
  sigtimedwait(&s, 0, &t);
  said("sigtimedwait");
  return a;
}
static void *t_sem(void *a) {
  int id = semget(IPC_PRIVATE, 1, 0600);
  struct sembuf b = {0, -1, 0};
  struct timespec t = {600, 0};
  // Marked for removal only when the thread waits would be a race; the program removes it at its end.
  *(int *)a = id;
  semtimedop(id, &b, 1, &t);
  said("semtimedop");
  return 0;
}
static void *t_recv(void *a) {
  struct timeval t = {600, 0};
  char c;
  setsockopt(sfd[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
  if (recv(sfd[0], &c, 1, 0) != 99) said("recv");
  return a;
}
static void *t_pause(void *a) { pause(); said("pause"); return a; }
static void *t_filter(void *a) { filter(); ready(getpid()); block(); exit(0); return a; }
static void *t_leader(void *a) { usleep(200000); ready(getpid()); block(); _exit(0); return a; }

int main(int argc, char **argv) {
  const char *m = argc > 1 ? argv[1] : "";
  size_t n = 16384;
  const int rw = PROT_READ | PROT_WRITE;
  setvbuf(stdout, 0, _IOLBF, 0);

  if (!strcmp(m, "plain")) {
  } else if (!strcmp(m, "seccomp")) {
    filter();
  } else if (!strcmp(m, "seccomp-thread")) {
    pthread_t t;
    pthread_create(&t, 0, t_filter, 0);
    pause();
  } else if (!strcmp(m, "undumpable")) {
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  } else if (!strcmp(m, "traced")) {
    pid_t c = keep(traceme);
    ready(c);
    block();
    return 0;
  } else if (!strcmp(m, "shared-anon-alone")) {
    map(n, rw, MAP_SHARED | MAP_ANONYMOUS, -1);
  } else if (!strcmp(m, "shared-anon-child")) {
    map(n, rw, MAP_SHARED | MAP_ANONYMOUS, -1);
    keep(0);
  } else if (!strcmp(m, "shared-anon-was")) {
    map(n, rw, MAP_SHARED | MAP_ANONYMOUS, -1);
    pid_t c = keep(0);
    kill(c, SIGKILL);
    waitpid(c, 0, 0);
  } else if (!strcmp(m, "memfd-alone")) {
    int fd = memfd(n);
    map(n, rw, MAP_SHARED, fd);
    close(fd);
  } else if (!strcmp(m, "memfd-open")) {
    map(n, rw, MAP_SHARED, memfd(n));
  } else if (!strcmp(m, "memfd-twice")) {
    int fd = memfd(n);
    map(n, rw, MAP_SHARED, fd);
    map(n, PROT_READ, MAP_SHARED, fd);
    close(fd);
  } else if (!strcmp(m, "memfd-split")) {
    int fd = memfd(n);
    char *p = map(n, rw, MAP_SHARED, fd);
    mprotect(p + 4096, 4096, PROT_READ);
    close(fd);
  } else if (!strcmp(m, "memfd-child-fd")) {
    int fd = memfd(n);
    keep(0);
    map(n, rw, MAP_SHARED, fd);
    close(fd);
  } else if (!strcmp(m, "sysv") || !strcmp(m, "sysv-removed")) {
    int id = shmget(IPC_PRIVATE, n, 0600);
    char *p = id < 0 ? (char *)-1 : shmat(id, 0, 0);
    if (p == (char *)-1) die("shmat");
    if (m[4]) shmctl(id, IPC_RMID, 0);
    ready(getpid());
    block();
    shmctl(id, IPC_RMID, 0);
    return 0;
  } else if (!strcmp(m, "file-write") || !strcmp(m, "file-read") || !strcmp(m, "file-read-writer") || !strcmp(m, "file-own-writer") || !strcmp(m, "file-unlinked")) {
    int fd = open(argv[2], O_RDWR | O_CREAT, 0644);
    if (fd < 0 || ftruncate(fd, n)) die("open the file");
    if (!strcmp(m, "file-write")) {
      map(n, rw, MAP_SHARED, fd);
      close(fd);
    } else if (!strcmp(m, "file-unlinked")) {
      unlink(argv[2]);
      map(n, rw, MAP_SHARED, fd);
      close(fd);
    } else {
      int ro = open(argv[2], O_RDONLY);
      map(n, PROT_READ, MAP_SHARED, ro);
      if (!strcmp(m, "file-read-writer")) keep(0);
      if (strcmp(m, "file-own-writer")) close(fd);
    }
  } else if (!strcmp(m, "file-readonly-system")) {
    map(4096, PROT_READ, MAP_SHARED, open(argv[2], O_RDONLY));
  } else if (!strcmp(m, "device")) {
    int fd = open(argv[2], O_RDONLY);
    if (fd < 0) die("open the device");
    map(4096, PROT_READ, MAP_PRIVATE, fd);
  } else if (!strcmp(m, "zero")) {
    int fd = open("/dev/zero", O_RDWR);
    map(n, rw, MAP_PRIVATE, fd);
    map(n, rw, MAP_SHARED, fd);
  } else if (!strcmp(m, "io_uring")) {
    char params[120] = {0};
    if (syscall(SYS_io_uring_setup, 4, params) < 0) die("io_uring_setup");
  } else if (!strcmp(m, "aio")) {
    aio_context_t ctx = 0;
    if (syscall(SYS_io_setup, 8, &ctx)) die("io_setup");
  } else if (!strcmp(m, "perf")) {
    struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1};
    if (syscall(SYS_perf_event_open, &a, 0, -1, -1, 0) < 0) die("perf_event_open");
  } else if (!strcmp(m, "userfaultfd")) {
    if (syscall(SYS_userfaultfd, O_CLOEXEC | 1) < 0) die("userfaultfd");
  } else if (!strcmp(m, "signalfd")) {
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    if (signalfd(-1, &s, 0) < 0) die("signalfd");
  } else if (!strcmp(m, "cpu-timer")) {
    timer_t t;
    struct sigevent ev = {.sigev_notify = SIGEV_NONE};
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &t)) die("timer_create");
  } else if (!strcmp(m, "hugetlb")) {
    void *p = mmap(0, 2 << 20, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) die("mmap huge pages");
  } else if (!strcmp(m, "secret")) {
    int fd = syscall(447, 0);
    if (fd < 0 || ftruncate(fd, n)) die("memfd_secret");
    map(n, rw, MAP_SHARED, fd);
  } else if (!strcmp(m, "sealed")) {
    char *p = map(n, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (syscall(462, p, n, 0)) die("mseal");
  } else if (!strcmp(m, "pkey")) {
    char *p = map(n, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int k = pkey_alloc(0, 0);
    if (k < 0 || pkey_mprotect(p, n, rw, k)) die("pkey_mprotect");
  } else if (!strcmp(m, "exec-only")) {
    char *p = map(n, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (mprotect(p, n, PROT_EXEC)) die("mprotect");
  } else if (!strcmp(m, "realtime")) {
    struct sched_param p = {1};
    if (sched_setscheduler(0, SCHED_RR, &p)) die("sched_setscheduler");
  } else if (!strcmp(m, "personality")) {
    if (personality(READ_IMPLIES_EXEC) < 0) die("personality");
  } else if (!strcmp(m, "time-namespace")) {
    if (unshare(CLONE_NEWTIME)) die("unshare");
    pid_t c = keep(0);
    ready(c);
    block();
    return 0;
  } else if (!strcmp(m, "user-namespace")) {
    if (unshare(CLONE_NEWUSER)) die("unshare");
  } else if (!strcmp(m, "pid-namespace")) {
    if (unshare(CLONE_NEWPID)) die("unshare");
    pid_t c = keep(0); // PID 1
    printf("second %d\n", keep(0));
    ready(c);
    block();
    return 0;
  } else if (!strcmp(m, "vfork")) {
    // The child tells its own number; the parent waits until the child ends or execs.
    if (vfork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      char b[32];
      int k = snprintf(b, sizeof b, "ready %ld\n", (long)syscall(SYS_getppid));
      if (write(1, b, k) != k) _exit(1);
      block();
      _exit(0);
    }
    return 0;
  } else if (!strcmp(m, "leader-ended")) {
    pthread_t t;
    pthread_create(&t, 0, t_leader, 0);
    pthread_exit(0);
  } else if (!strcmp(m, "zombie")) {
    pid_t c = fork();
    if (c == 0) _exit(3);
    siginfo_t i;
    waitid(P_PID, c, &i, WEXITED | WNOWAIT);
    ready(c);
    block();
    return 0;
  } else if (!strcmp(m, "blockers")) {
    static void *(*const f[])(void *) = {t_read, t_epoll, t_sleep, t_futex, t_sig, t_sem, t_recv, t_pause};
    int sem = -1;
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    sigprocmask(SIG_BLOCK, &s, 0);
    if (pipe(pfd) || socketpair(AF_UNIX, SOCK_STREAM, 0, sfd)) die("pipe");
    for (size_t i = 0; i < sizeof f / sizeof *f; i++) {
      pthread_t t;
      if (pthread_create(&t, 0, f[i], &sem)) die("pthread_create");
    }
    ready(getpid());
    block();
    semctl(sem, 0, IPC_RMID);
    _exit(0);
  } else {
    die("do that");
  }
  ready(getpid());
  block();
  return 0;
}
