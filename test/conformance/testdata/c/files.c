/* Group 6: descriptors, those of files and folders. open(2), read(2), stat(2), fcntl(2), flock(2), rename(2), xattr(7) and others. */
#include "case.h"
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>

/* with enters a fresh folder, and leaves it again with what was made in it removed. */
static char folder[80];
static void enter(void)
{
	snprintf(folder, sizeof folder, "%s.d", scratch);
	OK(mkdir(folder, 0700));
	OK(chdir(folder));
}
static void leave(void)
{
	OK(chdir("/tmp"));
	OK(rmdir(folder)); /* what a case has made it has removed */
}

static int fresh(const char *name, const char *text)
{
	int fd = (int)OK(open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
	OK(write_all(fd, text, strlen(text)));
	EQ(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

CASE(open_flags)
{
	char b[20] = "";
	enter();
	int fd = fresh("f", "12345");
	ERR(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	ERR(open("g", O_RDONLY), ENOENT);
	ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	ERR(open(".", O_WRONLY), EISDIR);
	ERR(open("f/x", O_RDONLY), ENOTDIR);
	ERR(open("", O_RDONLY), ENOENT);
	int a = (int)OK(open("f", O_WRONLY | O_APPEND | O_CLOEXEC));
	EQ(lseek(a, 0, SEEK_SET), 0);
	EQ(write(a, "67", 2), 2);
	EQ(pread(fd, b, 19, 0), 7);
	SAME(b, "1234567");
	EQ(fcntl(a, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
	close(a);
	a = (int)OK(open("f", O_RDONLY | O_TRUNC | O_CLOEXEC));
	EQ(read(fd, b, 1), 0);
	close(a);
	close(fd);
	OK(unlink("f"));
	leave();
}

CASE(open_and_symbolic_links)
{
	enter();
	close(fresh("f", "x"));
	OK(symlink("f", "l"));
	OK(symlink("loop", "loop"));
	char b[10] = "";
	EQ(readlink("l", b, 9), 1);
	SAME(b, "f");
	EQ(readlink("l", b, 0) == -1 && errno == EINVAL, 1);
	ERR(readlink("f", b, 9), EINVAL);
	ERR(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
	ERR(open("loop", O_RDONLY), ELOOP);
	int fd = (int)OK(open("l", O_PATH | O_NOFOLLOW | O_CLOEXEC));
	struct stat st;
	OK(fstat(fd, &st));
	IS(S_ISLNK(st.st_mode));
	ERR(read(fd, b, 1), EBADF);
	close(fd);
	OK(unlink("l")), OK(unlink("loop")), OK(unlink("f"));
	leave();
}

CASE(open_of_a_file_without_a_name)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	IS(fd >= 0 || errno == EOPNOTSUPP, "errno %d", errno);
	if (fd < 0)
		return;
	struct stat st;
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	close(fd);
}

CASE(permissions_are_checked)
{
	enter();
	close(fresh("f", "x"));
	OK(chmod("f", 0));
	ERR(open("f", O_RDONLY), EACCES);
	ERR(access("f", R_OK), EACCES);
	OK(access("f", F_OK));
	OK(chmod("f", 0500));
	OK(access("f", R_OK | X_OK));
	ERR(access("f", W_OK), EACCES);
	ERR(open("f", O_WRONLY), EACCES);
	ERR(open("/etc/shadow", O_RDONLY), EACCES);
	ERR(mkdir("/etc/x", 0700), EACCES);
	ERR(chown("f", 0, 0), EPERM);
	ERR(chmod("/etc/passwd", 0600), EPERM);
	OK(unlink("f"));
	leave();
}

CASE(stat_tells_all)
{
	struct stat a, b;
	struct statx x;
	enter();
	mode_t m = umask(022);
	int fd = fresh("f", "123456");
	OK(fchmod(fd, 04751));
	OK(link("f", "g"));
	OK(stat("g", &a));
	OK(fstat(fd, &b));
	EQ(memcmp(&a, &b, sizeof a), 0);
	EQ(a.st_size, 6);
	EQ(a.st_nlink, 2);
	EQ(a.st_mode, S_IFREG | 04751);
	EQ(a.st_uid, geteuid());
	OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
	EQ(x.stx_ino, a.st_ino);
	EQ(x.stx_mtime.tv_nsec, a.st_mtim.tv_nsec);
	OK(fstatat(AT_FDCWD, "g", &b, AT_SYMLINK_NOFOLLOW));
	EQ(a.st_ino, b.st_ino);
	ERR(stat("h", &a), ENOENT);
	ERR(fstat(99, &a), EBADF);
	umask(m);
	OK(unlink("f")), OK(unlink("g"));
	OK(fstat(fd, &a));
	EQ(a.st_nlink, 0);
	close(fd);
	leave();
}

CASE(read_and_write_keep_an_offset)
{
	char b[20] = "";
	int fd = temp("abcdefghij", 10);
	EQ(read(fd, b, 3), 3);
	EQ(lseek(fd, 0, SEEK_CUR), 3);
	EQ(pread(fd, b, 2, 8), 2);
	SAME(b, "ijc");
	EQ(lseek(fd, 0, SEEK_CUR), 3);
	EQ(write(fd, "XY", 2), 2);
	EQ(pwrite(fd, "Z", 1, 0), 1);
	EQ(lseek(fd, -2, SEEK_END), 8);
	EQ(read(fd, b, 10), 2);
	EQ(read(fd, b, 10), 0);
	EQ(lseek(fd, 100, SEEK_SET), 100);
	EQ(write(fd, "!", 1), 1);
	struct stat st;
	OK(fstat(fd, &st));
	EQ(st.st_size, 101);
	EQ(pread(fd, b, 5, 0), 5);
	EQ(memcmp(b, "ZbcXY", 5), 0);
	EQ(pread(fd, b, 1, 50), 1);
	EQ(b[0], 0);
	ERR(lseek(fd, -1, SEEK_SET), EINVAL);
	ERR(lseek(fd, 0, 77), EINVAL);
	ERR(pread(fd, b, 1, -1), EINVAL);
	close(fd);
	ERR(read(fd, b, 1), EBADF);
	ERR(close(fd), EBADF);
}

CASE(big_transfers_are_whole)
{
	size_t n = 5 << 20;
	char *a = malloc(n), *b = calloc(n, 1);
	for (size_t i = 0; i < n; i++)
		a[i] = (char)(i * 31 + i / 4096);
	int fd = temp("", 0);
	EQ(write(fd, a, n), n);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(read(fd, b, n), n);
	EQ(memcmp(a, b, n), 0);
	memset(b, 0, n);
	struct iovec v[3] = {{b, 1000}, {b + 1000, n - 3000}, {b + n - 2000, 2000}};
	EQ(preadv(fd, v, 3, 0), n);
	EQ(memcmp(a, b, n), 0);
	close(fd);
	free(a);
	free(b);
}

CASE(readv_and_writev)
{
	char a[4] = "", b[4] = "";
	int fd = temp("", 0);
	struct iovec w[3] = {{"one", 3}, {"", 0}, {"two", 3}}, r[2] = {{a, 2}, {b, 3}};
	EQ(writev(fd, w, 3), 6);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(readv(fd, r, 2), 5);
	SAME(a, "on");
	SAME(b, "etw");
	EQ(pwritev(fd, w, 1, 10), 3);
	EQ(preadv(fd, r, 1, 11), 2);
	SAME(a, "ne");
	ERR(syscall(SYS_readv, fd, r, -1), EINVAL);
	ERR(syscall(SYS_readv, fd, r, 5000), EINVAL);
	close(fd);
}

CASE(dup_shares_an_offset)
{
	int fd = temp("0123456789", 10);
	int d = (int)OK(dup(fd)), e = (int)OK(fcntl(fd, F_DUPFD_CLOEXEC, 40));
	IS(e >= 40);
	EQ(lseek(fd, 6, SEEK_SET), 6);
	EQ(lseek(d, 0, SEEK_CUR), 6);
	EQ(fcntl(d, F_GETFD), 0);
	EQ(fcntl(e, F_GETFD), FD_CLOEXEC);
	EQ(dup2(fd, e), e);
	EQ(fcntl(e, F_GETFD), 0);
	EQ(dup2(fd, fd), fd);
	ERR(dup3(fd, fd, 0), EINVAL);
	EQ(dup3(fd, e, O_CLOEXEC), e);
	EQ(fcntl(e, F_GETFD), FD_CLOEXEC);
	ERR(dup(77), EBADF);
	ERR(dup2(77, e), EBADF);
	ERR(dup2(fd, -1), EBADF);
	ERR(fcntl(fd, F_DUPFD, -1), EINVAL);
	close(fd);
	EQ(lseek(d, 0, SEEK_CUR), 6);
	close(d), close(e);
}

CASE(the_lowest_number_is_taken)
{
	int a = temp("", 0), b = (int)OK(dup(a)), c = (int)OK(dup(a));
	close(b);
	EQ(dup(a), b);
	close(a);
	EQ(open("/dev/null", O_RDONLY | O_CLOEXEC), a);
	close(a), close(b), close(c);
}

CASE(close_range_closes)
{
	int fd = temp("x", 1);
	for (int i = 50; i < 55; i++)
		EQ(dup2(fd, i), i);
	OK(syscall(SYS_close_range, 51, 53, 4)); /* CLOSE_RANGE_CLOEXEC */
	EQ(fcntl(50, F_GETFD) * 10 + fcntl(52, F_GETFD), FD_CLOEXEC);
	OK(syscall(SYS_close_range, 50, 54, 0));
	ERR(fcntl(50, F_GETFD), EBADF);
	ERR(fcntl(54, F_GETFD), EBADF);
	ERR(syscall(SYS_close_range, 54, 50, 0), EINVAL);
	close(fd);
}

CASE(too_many_descriptors)
{
	IN_CHILD
	{
		struct {
			uint64_t cur, max;
		} r = {20, 20};
		OK(syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, &r, NULL));
		int n = 0;
		while (dup(1) >= 0)
			n++;
		ERR(dup(1), EMFILE);
		ERR(open("/dev/null", O_RDONLY), EMFILE);
		IS(n < 20);
	}
}

CASE(record_locks_of_a_process)
{
	int fd = temp("0123456789", 10);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3};
	OK(fcntl(fd, F_SETLK, &l));
	OK(fcntl(fd, F_SETLK, &l)); /* one's own locks never conflict */
	l.l_type = F_RDLCK;
	OK(fcntl(fd, F_GETLK, &l));
	EQ(l.l_type, F_UNLCK);
	EQ(ask_friend(WISH_LOCK, 0, 0, 0, fd), -1);
	l.l_type = F_UNLCK;
	l.l_start = l.l_len = 0;
	OK(fcntl(fd, F_SETLK, &l));
	ask_friend(WISH_LOCK, 10 * wait_ms(), 0, 0, fd);
	l = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
	OK(fcntl(fd, F_GETLK, &l));
	EQ(l.l_type, F_WRLCK);
	EQ(l.l_pid, friend_pid);
	EQ(l.l_start, 0);
	EQ(l.l_len, 10);
	l.l_type = 55;
	ERR(fcntl(fd, F_SETLK, &l), EINVAL);
	close(fd);
}

CASE(record_locks_end_with_any_close)
{
	int fd = temp("0123456789", 10), other = (int)OK(dup(fd));
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	OK(fcntl(fd, F_SETLK, &l));
	EQ(ask_friend(WISH_LOCK, 0, 0, 0, fd), -1);
	close(other);
	EQ(ask_friend(WISH_LOCK, 0, 0, 0, fd), 0);
	close(fd);
}

CASE(ofd_locks_belong_to_the_description)
{
	char path[64];
	int fd = temp("0123456789", 10);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int other = (int)OK(open(path, O_RDWR | O_CLOEXEC));
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	OK(fcntl(fd, F_OFD_SETLK, &l));
	ERR(fcntl(other, F_OFD_SETLK, &l), EAGAIN);
	OK(fcntl(other, F_OFD_GETLK, &l));
	EQ(l.l_type, F_WRLCK);
	EQ(l.l_pid, -1);
	int d = (int)OK(dup(fd));
	close(fd);
	l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
	ERR(fcntl(other, F_OFD_SETLK, &l), EAGAIN);
	close(d);
	OK(fcntl(other, F_OFD_SETLK, &l));
	l.l_pid = 5;
	ERR(fcntl(other, F_OFD_SETLK, &l), EINVAL);
	close(other);
}

CASE(flock_belongs_to_the_description)
{
	char path[64];
	int fd = temp("", 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int other = (int)OK(open(path, O_RDWR | O_CLOEXEC)), d = (int)OK(dup(fd));
	OK(flock(fd, LOCK_SH));
	OK(flock(other, LOCK_SH | LOCK_NB));
	ERR(flock(fd, LOCK_EX | LOCK_NB), EAGAIN);
	OK(flock(other, LOCK_UN));
	OK(flock(d, LOCK_EX | LOCK_NB));
	ERR(flock(other, LOCK_SH | LOCK_NB), EAGAIN);
	close(fd);
	ERR(flock(other, LOCK_SH | LOCK_NB), EAGAIN);
	close(d);
	OK(flock(other, LOCK_EX | LOCK_NB));
	ERR(flock(other, 77), EINVAL);
	close(other);
}

CASE(leases)
{
	int fd = temp("x", 1);
	char path[64];
	int r = fcntl(fd, F_SETLEASE, F_WRLCK);
	if (r < 0) { /* a file system without leases */
		IS(errno == EINVAL || errno == EAGAIN, "errno %d", errno);
		close(fd);
		return;
	}
	EQ(fcntl(fd, F_GETLEASE), F_WRLCK);
	caught(SIGIO, 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ERR(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), EAGAIN);
	EQ(seen, SIGIO);
	OK(fcntl(fd, F_SETLEASE, F_UNLCK));
	int o = (int)OK(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	close(o), close(fd);
	signal(SIGIO, SIG_DFL);
}

CASE(fcntl_flags)
{
	int fd = temp("", 0);
	EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	OK(fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND));
	EQ(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND), O_NONBLOCK | O_APPEND);
	OK(fcntl(fd, F_SETFL, 0));
	EQ(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND), 0);
	ERR(fcntl(fd, 9999, 0), EINVAL);
	ERR(fcntl(77, F_GETFD), EBADF);
	close(fd);
}

CASE(names_are_made_and_removed)
{
	struct stat a, b;
	enter();
	close(fresh("f", "f")), close(fresh("g", "g"));
	OK(stat("f", &a));
	OK(rename("f", "g"));
	OK(stat("g", &b));
	EQ(a.st_ino, b.st_ino);
	ERR(rename("f", "g"), ENOENT);
	OK(mkdir("d", 0700));
	ERR(mkdir("d", 0700), EEXIST);
	ERR(unlink("d"), EISDIR);
	ERR(rmdir("g"), ENOTDIR);
	ERR(rename("d", "d/x"), EINVAL);
	ERR(rename("g", "d"), EISDIR);
	OK(link("g", "d/h"));
	ERR(rmdir("d"), ENOTEMPTY);
	ERR(link("g", "d/h"), EEXIST);
	ERR(link("d", "e"), EPERM);
	OK(syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, "d/h", 2 /* RENAME_EXCHANGE */));
	ERR(syscall(SYS_renameat2, AT_FDCWD, "g", AT_FDCWD, "d/h", 1 /* RENAME_NOREPLACE */), EEXIST);
	OK(unlink("d/h")), OK(rmdir("d")), OK(unlink("g"));
	char name[300];
	memset(name, 'n', 299);
	name[299] = 0;
	ERR(open(name, O_RDONLY), ENAMETOOLONG);
	leave();
}

CASE(folders_list_their_names)
{
	enter();
	char name[16];
	int found = 0, other = 0;
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof name, "name%d", i);
		close(fresh(name, ""));
	}
	DIR *d = opendir(".");
	IS(d != NULL);
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (sscanf(e->d_name, "name%d", &other) == 1)
			found++, EQ(e->d_type == DT_REG || e->d_type == DT_UNKNOWN, 1);
	EQ(found, 60);
	rewinddir(d);
	found = 0;
	while (readdir(d) != NULL)
		found++;
	EQ(found, 62);
	closedir(d);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof name, "name%d", i);
		OK(unlink(name));
	}
	leave();
}

CASE(calls_relative_to_a_folder)
{
	enter();
	int d = (int)OK(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	OK(mkdirat(d, "s", 0700));
	int fd = (int)OK(openat(d, "s/f", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	OK(faccessat(d, "s/f", R_OK, 0));
	OK(symlinkat("f", d, "s/l"));
	char b[8] = "";
	EQ(readlinkat(d, "s/l", b, 7), 1);
	ERR(openat(fd, "x", O_RDONLY), ENOTDIR);
	ERR(openat(77, "x", O_RDONLY), EBADF);
	ERR(unlinkat(d, "s", 0), EISDIR);
	OK(unlinkat(d, "s/l", 0)), OK(unlinkat(d, "s/f", 0)), OK(unlinkat(d, "s", AT_REMOVEDIR));
	OK(fchdir(d));
	ERR(fchdir(fd), ENOTDIR);
	close(fd), close(d);
	leave();
}

CASE(size_is_changed)
{
	struct stat st;
	char b[10];
	int fd = temp("0123456789", 10);
	OK(ftruncate(fd, 3));
	EQ(read(fd, b, 10), 3);
	OK(ftruncate(fd, 8));
	EQ(pread(fd, b, 10, 0), 8);
	EQ(b[2] + b[3], '2');
	ERR(ftruncate(fd, -1), EINVAL);
	int r = posix_fallocate(fd, 0, 10000);
	IS(r == 0 || r == EOPNOTSUPP || r == EINVAL, "posix_fallocate: %d", r);
	OK(fstat(fd, &st));
	EQ(st.st_size, r == 0 ? 10000 : 8);
	close(fd);
}

CASE(holes_are_found)
{
	int fd = temp("", 0);
	EQ(pwrite(fd, "x", 1, 1 << 20), 1);
	EQ(lseek(fd, 0, SEEK_DATA), 1 << 20);
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
	EQ(lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 1);
	ERR(lseek(fd, 2 << 20, SEEK_DATA), ENXIO);
	close(fd);
}

CASE(times_are_set)
{
	struct stat st;
	struct timespec ts[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
	int fd = temp("", 0);
	OK(futimens(fd, ts));
	OK(fstat(fd, &st));
	EQ(st.st_atim.tv_sec, 1000000000);
	EQ(st.st_mtim.tv_nsec, 987654321);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_nsec = UTIME_NOW;
	OK(futimens(fd, ts));
	OK(fstat(fd, &st));
	EQ(st.st_atim.tv_sec, 1000000000);
	IS(llabs((long long)st.st_mtim.tv_sec - (long long)time(NULL)) <= 1);
	close(fd);
}

CASE(extended_attributes)
{
	char b[32] = "";
	int fd = temp("", 0);
	if (fsetxattr(fd, "user.case", "value", 5, 0) != 0) { /* a file system without them */
		IS(errno == ENOTSUP, "errno %d", errno);
		close(fd);
		return;
	}
	EQ(fgetxattr(fd, "user.case", b, sizeof b), 5);
	SAME(b, "value");
	EQ(fgetxattr(fd, "user.case", NULL, 0), 5);
	ERR(fgetxattr(fd, "user.case", b, 2), ERANGE);
	ERR(fgetxattr(fd, "user.none", b, 2), ENODATA);
	ERR(fsetxattr(fd, "user.case", "v", 1, XATTR_CREATE), EEXIST);
	EQ(flistxattr(fd, b, sizeof b), 10);
	OK(fremovexattr(fd, "user.case"));
	close(fd);
}

CASE(mode_follows_umask)
{
	struct stat st;
	enter();
	mode_t m = umask(0137);
	close((int)OK(open("f", O_CREAT | O_WRONLY | O_CLOEXEC, 0777)));
	OK(stat("f", &st));
	EQ(st.st_mode & 0777, 0640);
	OK(mkfifo("p", 0666));
	OK(stat("p", &st));
	EQ(st.st_mode, S_IFIFO | 0640);
	EQ(umask(m), 0137);
	OK(unlink("f")), OK(unlink("p"));
	leave();
}

CASE(dev_null_zero_full_and_random)
{
	char b[64], c[64];
	int null = (int)OK(open("/dev/null", O_RDWR | O_CLOEXEC)), zero = (int)OK(open("/dev/zero", O_RDWR | O_CLOEXEC));
	int full = (int)OK(open("/dev/full", O_RDWR | O_CLOEXEC)), random = (int)OK(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	EQ(read(null, b, 64), 0);
	EQ(write(null, b, 64), 64);
	memset(b, 1, 64);
	EQ(read(zero, b, 64), 64);
	for (int i = 0; i < 64; i++)
		EQ(b[i], 0);
	EQ(write(zero, b, 64), 64);
	ERR(write(full, b, 1), ENOSPC);
	EQ(read(random, b, 64), 64);
	EQ(read(random, c, 64), 64);
	IS(memcmp(b, c, 64) != 0);
	struct stat st;
	OK(fstat(null, &st));
	EQ(st.st_rdev, 0x103);
	EQ(lseek(null, 5, SEEK_SET), 0);
	close(null), close(zero), close(full), close(random);
}

static void *closes(void *fd)
{
	nap(2);
	OK(close((int)(intptr_t)fd));
	return NULL;
}

static int closes_too(void *fd)
{
	return close((int)(intptr_t)fd) == 0 ? 0 : 1;
}

/* A descriptor that was a device, and read as one, is another file from one call to the next. */
CASE(devices_give_way)
{
	static char stack[65536] __attribute__((aligned(16)));
	char b[16];
	pthread_t t;
	int file = temp("0123456789", 10), fd = (int)OK(open("/dev/zero", O_RDWR | O_CLOEXEC)), st;
	for (int i = 0; i < 3; i++) {
		memset(b, 'x', sizeof b);
		EQ(read(fd, b, 5), 5);
		EQ(memcmp(b, "\0\0\0\0\0xxx", 8), 0);
		EQ(write(fd, "abc", 3), 3);
	}
	OK(dup2(file, fd));
	EQ(pread(fd, b, 5, 3), 5);
	EQ(lseek(fd, 2, SEEK_SET), 2);
	EQ(read(fd, b, 5), 5);
	EQ(memcmp(b, "23456", 5), 0);
	OK(close(fd));
	ERR(read(fd, b, 5), EBADF);
	ERR(write(fd, b, 5), EBADF);

	EQ(open("/dev/null", O_WRONLY | O_CLOEXEC), fd);
	EQ(write(fd, b, 5), 5);
	EQ(write(fd, NULL, 1 << 20), 1 << 20);
	ERR(read(fd, b, 5), EBADF);
	OK(close_range((unsigned)fd, (unsigned)fd, 0));
	ERR(write(fd, b, 5), EBADF);
	EQ(open("/dev/null", O_RDONLY | O_CLOEXEC), fd);
	EQ(read(fd, b, 5), 0);
	EQ(read(fd, b, 5), 0);
	ERR(write(fd, b, 5), EBADF);

	EQ(pthread_create(&t, NULL, closes, (void *)(intptr_t)fd), 0);
	int64_t until = MONO + 20000000000;
	while (read(fd, b, 1) == 0)
		IS(MONO < until);
	ERR(read(fd, b, 1), EBADF);
	EQ(pthread_join(t, NULL), 0);

	EQ(open("/dev/urandom", O_RDONLY | O_CLOEXEC), fd);
	EQ(read(fd, b, 5), 5);
	EQ(read(fd, b, 5), 5);
	pid_t k = (pid_t)OK(clone(closes_too, stack + sizeof stack, CLONE_FILES | SIGCHLD, (void *)(intptr_t)fd));
	EQ(waitpid(k, &st, 0), k);
	EQ(st, 0);
	ERR(read(fd, b, 5), EBADF);
	close(file);
}

CASE(working_folder_is_kept)
{
	char b[200], due[200];
	enter();
	IS(getcwd(b, sizeof b) == b);
	SAME(b, folder);
	ERR((intptr_t)getcwd(b, 3) == 0 ? -1 : 0, ERANGE);
	OK(mkdir("s", 0700));
	OK(chdir("s"));
	snprintf(due, sizeof due, "%s/s", folder);
	SAME(getcwd(b, sizeof b), due);
	OK(rmdir("../s"));
	ERR(syscall(SYS_getcwd, b, sizeof b), ENOENT);
	OK(chdir(folder));
	ERR(chdir("nothing"), ENOENT);
	leave();
}

CASE(file_system_is_home)
{
	struct statvfs a;
	struct stat st;
	OK(statvfs("/tmp", &a));
	IS(a.f_bsize > 0 && a.f_namemax >= 255);
	OK(stat("/proc/self", &st));
	OK(access("/etc/passwd", R_OK));
	int n = 0, fd = temp("123", 3);
	OK(ioctl(fd, FIONREAD, &n));
	EQ(n, 3);
	ERR(ioctl(fd, TIOCGWINSZ, &n), ENOTTY);
	close(fd);
}
