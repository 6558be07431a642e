package homeproxy

import "sort"

// buildTable puts the parts together, in ascending order of numbers.
func buildTable() []Row {
	var rows []Row
	for _, part := range [][]Row{tableOld(), tableMiddle(), tableNew()} {
		rows = append(rows, part...)
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Nr < rows[j].Nr })
	return rows
}

// Sizes of structures of linux/amd64, in bytes.
const (
	sizeStat      = 144
	sizeTimespec  = 16
	sizeTimeval   = 16
	sizeRusage    = 144
	sizeSiginfo   = 128
	sizeSigevent  = 64
	sizeItimer    = 32
	sizeStatfs    = 120
	sizeStatx     = 256
	sizeTimex     = 208
	sizeRlimit    = 16
	sizePollFD    = 8
	sizeEpollEvt  = 12
	sizeIOVec     = 16
	sizeMsghdr    = 56
	sizeMMsghdr   = 64
	maxPath       = 4096
	maxXattr      = 65536
	maxSockaddr   = 128
	maxSockopt    = 65536
	maxIOVecs     = 1024
	maxPollFDs    = 65536
	maxSelectBits = 1 << 20
)

// Notes that several rows share.
const (
	noteBirth     = "home makes it first, and its number is taken over; a process that shares memory with others, or wants namespaces, comes home"
	noteExec      = "home executes the program, and the process is there then: there is no memory to carry; with threads or pending signals it comes home first"
	noteImage     = "replaces or inspects the image"
	noteIDs       = "home changes them, in this thread, and looks whether the process may still be away"
	noteMemory    = "changes or shows memory that is with the guest"
	notePrivilege = "administration of the machine: home decides, natively"
	noteLocal     = "own memory or thread only"
	noteSignals   = "from then on what its signals are blocked for pends at home, where the descriptor is"
	noteAIO       = "the kernel keeps addresses of the program after the call"
)

// tableOld holds the calls 0 to 155.
func tableOld() []Row {
	return []Row{
		home(0, "read", dsc("fd"), of(DataOut, "buf", 2), val("count")).block(512).xfer(TransferRead),
		home(1, "write", dsc("fd"), of(DataIn, "buf", 2), val("count")).block(512).xfer(TransferSend),
		home(2, "open", str("pathname"), num("flags"), num("mode")).block(512).follows(),
		home(3, "close", dsc("fd")),
		home(4, "stat", str("pathname"), wr("statbuf", sizeStat)),
		home(5, "fstat", dsc("fd"), wr("statbuf", sizeStat)),
		home(6, "lstat", str("pathname"), wr("statbuf", sizeStat)),
		home(7, "poll", rwN("fds", 1, sizePollFD).over(maxPollFDs, einval).when(OnInterrupt).inPlace(), num("nfds"), num("timeout")).
			block(516).time(2, TimeoutMillis).
			note("the restart block keeps the address of fds: they stand at their own place in the shadow"),
		home(8, "lseek", dsc("fd"), val("offset"), num("whence")),
		come(9, "mmap", "").args(ptr("addr"), val("length"), num("prot"), val("flags"), dsc("fd"), val("offset")).byHand().
			rule(Guest, bits(3, ^uint64(mmapHarmless), mapPrivate|mapAnonymous)).
			rule(Both, bits(3, ^uint64(mmapOfFile), mapPrivate)).
			rule(Both, bits(3, ^uint64(mmapOfFile), mapShared)).
			note("Guest: private anonymous memory, without MAP_HUGETLB and MAP_LOCKED; the descriptor is not looked at then. " +
				"Both: a regular file, private, or shared by a descriptor that only reads and of a file that only root can change: home maps it too, " +
				"and what the mapping shows of it travels once. When another writes to the file, the process comes home before it learns of anything. " +
				"ComeHome: devices, huge pages, locked memory, files that the descriptor can write, memory that is shared for " +
				"writing, and more than 64 MiB of files in all"),
		guest(10, "mprotect", ptr("addr"), val("len"), num("prot")).note(noteLocal),
		guest(11, "munmap", ptr("addr"), val("length")).note(noteLocal),
		guest(12, "brk", ptr("addr")).note(noteLocal),
		both(13, "rt_sigaction", num("signum"), ptr("act"), ptr("oldact"), val("sigsetsize")).byHand().mask().
			note("the guest keeps its handlers, the shadow learns what is caught, ignored and left alone; the default action of a fault that may leave a core file is set at home"),
		guest(14, "rt_sigprocmask", num("how"), ptr("set"), ptr("oldset"), val("sigsetsize")).
			note("the mask travels with each call that needs it"),
		guest(15, "rt_sigreturn").note(noteLocal),
		ioctlRow(),
		home(17, "pread64", dsc("fd"), of(DataOut, "buf", 2), val("count"), val("offset")).block(512).xfer(TransferRead).at(3),
		home(18, "pwrite64", dsc("fd"), of(DataIn, "buf", 2), val("count"), val("offset")).block(512).xfer(TransferSend).at(3),
		home(19, "readv", dsc("fd"), of(IOVecOut, "iov", 2), val("iovcnt")).block(512).xfer(TransferRead),
		home(20, "writev", dsc("fd"), of(IOVecIn, "iov", 2), val("iovcnt")).block(512).xfer(TransferSend),
		home(21, "access", str("pathname"), num("mode")),
		home(22, "pipe", wr("pipefd", 8)),
		home(23, "select", num("nfds"), of(FDSet, "readfds", 0), of(FDSet, "writefds", 0), of(FDSet, "exceptfds", 0),
			rw("timeout", sizeTimeval).when(Always)).block(514).time(4, TimeoutTimeval).
			note("the time that remains is written back also when a signal cuts it short"),
		guest(24, "sched_yield"),
		both(25, "mremap", ptr("old"), val("oldlen"), val("newlen"), num("flags"), ptr("new")).byHand().
			note("of its own memory: the guest's kernel, by itself; what is part of a file comes home, where the rest of the file is"),
		guest(26, "msync", ptr("addr"), val("len"), num("flags")).note("a guest has no shared file mappings: nothing to write"),
		guest(27, "mincore", ptr("addr"), val("len"), ptr("vec")).note("a guest maps no file of the host"),
		come(28, "madvise", "advice that reaches beyond the process, or costs the host's kernel time").
			args(ptr("addr"), val("len"), num("advice")).by(2, safeAdvice()...),
		come(29, "shmget", noteMemory),
		come(30, "shmat", noteMemory),
		come(31, "shmctl", noteMemory),
		home(32, "dup", dsc("oldfd")),
		home(33, "dup2", dsc("oldfd"), dsc("newfd")),
		guest(34, "pause").note("signals enter the guest and end it there"),
		home(35, "nanosleep", rd("req", sizeTimespec), rw("rem", sizeTimespec).when(OnInterrupt).inPlace().opt()).
			block(516).time(0, TimeoutTimespec).note("the restart block keeps the address of rem; up to 20 ms are slept on the host (decision 0023)"),
		home(36, "getitimer", num("which"), wr("curr", sizeItimer)).by(0, itimers()...).note("those that count CPU time go with the process"),
		home(37, "alarm", num("seconds")),
		home(38, "setitimer", num("which"), rd("new", sizeItimer), wr("old", sizeItimer)).by(0, itimers()...).
			note("those that count CPU time go with the process"),
		guest(39, "getpid").note("same PID, by set_tid"),
		home(40, "sendfile", dsc("out_fd"), dsc("in_fd"), rw("offset", 8).when(Always), val("count")).block(512),
		home(41, "socket", num("domain"), num("type"), num("protocol")),
		home(42, "connect", dsc("sockfd"), of(SockIn, "addr", 2), num("addrlen")).block(512),
		home(43, "accept", dsc("sockfd"), of(SockOut, "addr", 2), of(LenPtr, "addrlen", 0)).block(512).
			note("a socket with SO_RCVTIMEO gives EINTR instead of a restart"),
		home(44, "sendto", dsc("sockfd"), of(DataIn, "buf", 2), val("len"), num("flags"), of(SockIn, "addr", 5), num("addrlen")).
			block(512).xfer(TransferSend).flags(3).rule(ComeHome, bits(3, msgZerocopy, msgZerocopy)).
			note("MSG_ZEROCOPY: the kernel reads the buffer after the call"),
		home(45, "recvfrom", dsc("sockfd"), of(DataOut, "buf", 2), val("len"), num("flags"), of(SockOut, "addr", 5), of(LenPtr, "addrlen", 0)).
			block(512).xfer(TransferRecv).flags(3).note("a socket with SO_RCVTIMEO gives EINTR instead of a restart"),
		home(46, "sendmsg", dsc("sockfd"), of(MsgIn, "msg", 0), num("flags")).block(512).xfer(TransferSend).flags(2).
			rule(ComeHome, bits(2, msgZerocopy, msgZerocopy)).note("descriptors in control messages are home's: they pass as they are"),
		home(47, "recvmsg", dsc("sockfd"), of(MsgOut, "msg", 0), num("flags")).block(512).xfer(TransferRecv).flags(2).
			note("descriptors in control messages are home's: they pass as they are"),
		home(48, "shutdown", dsc("sockfd"), num("how")),
		home(49, "bind", dsc("sockfd"), of(SockIn, "addr", 2), num("addrlen")),
		home(50, "listen", dsc("sockfd"), num("backlog")),
		home(51, "getsockname", dsc("sockfd"), of(SockOut, "addr", 2), of(LenPtr, "addrlen", 0)),
		home(52, "getpeername", dsc("sockfd"), of(SockOut, "addr", 2), of(LenPtr, "addrlen", 0)),
		home(53, "socketpair", num("domain"), num("type"), num("protocol"), wr("sv", 8)),
		home(54, "setsockopt", dsc("sockfd"), num("level"), num("optname"), of(OptIn, "optval", 4), num("optlen")).
			note("options of levels that are not known, or that hold pointers, come home"),
		home(55, "getsockopt", dsc("sockfd"), num("level"), num("optname"), of(OptOut, "optval", 4), of(LenPtr, "optlen", 0)).
			note("options of levels that are not known, or that hold pointers, come home"),
		both(56, "clone", val("flags"), ptr("stack"), ptr("parent_tid"), ptr("child_tid"), ptr("tls")).byHand().note(noteBirth),
		both(57, "fork").byHand().note(noteBirth),
		both(58, "vfork").byHand().note(noteBirth + "; the caller waits on the host until its child executes a program or ends"),
		both(59, "execve", str("pathname"), ptr("argv"), ptr("envp")).byHand().note(noteExec),
		both(60, "exit", num("status")).byHand().note("the thread ends on both sides, the shadow's first"),
		home(61, "wait4", num("pid"), wr("wstatus", 4).min(1), num("options"), wr("rusage", sizeRusage).min(1)).block(512),
		home(62, "kill", num("pid"), num("sig")).mask().note("to itself too: home's kernel chooses, and the signal enters the guest from there"),
		home(63, "uname", wr("buf", 390)),
		home(64, "semget", num("key"), num("nsems"), num("semflg")),
		home(65, "semop", num("semid"), rdN("sops", 2, 6).over(4096, e2big), num("nsops")).block(0),
		semctlRow(),
		come(67, "shmdt", noteMemory),
		home(68, "msgget", num("key"), num("msgflg")),
		home(69, "msgsnd", num("msqid"), of(MsgBufIn, "msgp", 2).over(maxXattr, einval), val("msgsz"), num("msgflg")).block(514),
		home(70, "msgrcv", num("msqid"), of(MsgBufOut, "msgp", 2).capped(maxXattr), val("msgsz"), val("msgtyp"), num("msgflg")).block(514).
			rule(ComeHome, bits(4, 0x4000, 0x4000)).note("a buffer above 64 KiB is lowered to that; MSG_COPY comes home"),
		msgctlRow(),
		fcntlRow(),
		home(73, "flock", dsc("fd"), num("operation")).block(512),
		home(74, "fsync", dsc("fd")),
		home(75, "fdatasync", dsc("fd")),
		home(76, "truncate", str("path"), val("length")).block(512).note("can wait for a lease, and raises SIGXFSZ"),
		home(77, "ftruncate", dsc("fd"), val("length")).mask().note("raises SIGXFSZ"),
		home(78, "getdents", dsc("fd"), of(DataOut, "dirp", 2), num("count")).xfer(TransferOnce),
		home(79, "getcwd", wrN("buf", 1, 1).capped(maxPath).when(RetBytes), val("size")),
		home(80, "chdir", str("path")),
		home(81, "fchdir", dsc("fd")),
		home(82, "rename", str("oldpath"), str("newpath")),
		home(83, "mkdir", str("pathname"), num("mode")),
		home(84, "rmdir", str("pathname")),
		home(85, "creat", str("pathname"), num("mode")).block(512),
		home(86, "link", str("oldpath"), str("newpath")),
		home(87, "unlink", str("pathname")),
		home(88, "symlink", str("target"), str("linkpath")),
		home(89, "readlink", str("pathname"), wrN("buf", 2, 1).capped(maxPath).when(RetBytes), num("bufsiz")).refuse(einval, is(2, 0)),
		home(90, "chmod", str("pathname"), num("mode")),
		home(91, "fchmod", dsc("fd"), num("mode")),
		home(92, "chown", str("pathname"), num("owner"), num("group")),
		home(93, "fchown", dsc("fd"), num("owner"), num("group")),
		home(94, "lchown", str("pathname"), num("owner"), num("group")),
		home(95, "umask", num("mask")),
		both(96, "gettimeofday", wr("tv", sizeTimeval), wr("tz", 8)).note("answered on the host from home's clock"),
		home(97, "getrlimit", num("resource"), wr("rlim", sizeRlimit)),
		both(98, "getrusage", num("who"), wr("usage", sizeRusage)).note("what home has counted, and what was used away, added by the host's agent"),
		home(99, "sysinfo", wr("info", 112)),
		both(100, "times", wr("buf", 32)).note("what home has counted, and what was used away, added by the host's agent"),
		come(101, "ptrace", "a tracer works at home"),
		home(102, "getuid"),
		home(103, "syslog", num("type"), of(DataOut, "buf", 2), num("len")).block(512).xfer(TransferOnce),
		home(104, "getgid"),
		home(105, "setuid", num("uid")).looks().note(noteIDs),
		home(106, "setgid", num("gid")).looks().note(noteIDs),
		home(107, "geteuid"),
		home(108, "getegid"),
		home(109, "setpgid", num("pid"), num("pgid")),
		home(110, "getppid"),
		home(111, "getpgrp"),
		home(112, "setsid"),
		home(113, "setreuid", num("ruid"), num("euid")).looks().note(noteIDs),
		home(114, "setregid", num("rgid"), num("egid")).looks().note(noteIDs),
		home(115, "getgroups", num("size"), wrN("list", 0, 4).over(65536, einval).elems(4)),
		home(116, "setgroups", num("size"), rdN("list", 0, 4).over(65536, einval)).looks().note(noteIDs),
		home(117, "setresuid", num("ruid"), num("euid"), num("suid")).looks().note(noteIDs),
		home(118, "getresuid", wr("ruid", 4), wr("euid", 4), wr("suid", 4)),
		home(119, "setresgid", num("rgid"), num("egid"), num("sgid")).looks().note(noteIDs),
		home(120, "getresgid", wr("rgid", 4), wr("egid", 4), wr("sgid", 4)),
		home(121, "getpgid", num("pid")),
		home(122, "setfsuid", num("uid")).looks().note(noteIDs),
		home(123, "setfsgid", num("gid")).looks().note(noteIDs),
		home(124, "getsid", num("pid")),
		home(125, "capget", of(CapHeader, "hdrp", 0), of(CapData, "datap", 0)),
		home(126, "capset", of(CapHeader, "hdrp", 0), of(CapDataIn, "datap", 0)).looks().note(noteIDs),
		home(127, "rt_sigpending", wrN("set", 1, 1).over(8, einval), val("sigsetsize")).pending().note("what pends at home and what pends in the guest"),
		home(128, "rt_sigtimedwait", of(Sigset, "set", 3), wr("info", sizeSiginfo), rd("timeout", sizeTimespec), val("sigsetsize")).
			block(0).pending().time(2, TimeoutTimespec).note("what pends in the guest is taken there; else home's kernel waits"),
		home(129, "rt_sigqueueinfo", num("pid"), num("sig"), rd("info", sizeSiginfo)).mask(),
		guest(130, "rt_sigsuspend", ptr("mask"), val("sigsetsize")).note("signals enter the guest and end it there"),
		guest(131, "sigaltstack", ptr("ss"), ptr("old_ss")).note(noteLocal),
		home(132, "utime", str("filename"), rd("times", 16)),
		home(133, "mknod", str("pathname"), num("mode"), num("dev")),
		come(134, "uselib", noteImage),
		come(135, "personality", "a layout of memory that the guest would have too").args(num("persona")).
			rule(Home, bits(0, personalityOfMemory, 0)).by(0, sub(Home, 0xffffffff, "query")).
			note("what changes the layout of memory comes home; the rest takes effect where the calls are made"),
		home(136, "ustat", num("dev"), wr("ubuf", 32)),
		home(137, "statfs", str("path"), wr("buf", sizeStatfs)),
		home(138, "fstatfs", dsc("fd"), wr("buf", sizeStatfs)),
		come(139, "sysfs", "its arguments depend on one another, and nobody uses it"),
		home(140, "getpriority", num("which"), num("who")),
		home(141, "setpriority", num("which"), num("who"), num("prio")).note("kept at home; a guest's weight is the host's to give"),
		home(142, "sched_setparam", num("pid"), rd("param", 4)).looks().note("kept at home; a guest's weight is the host's to give"),
		home(143, "sched_getparam", num("pid"), wr("param", 4)),
		come(144, "sched_setscheduler", "real-time classes are the machine's").args(num("pid"), num("policy"), rd("param", 4)).
			rule(Home, ordinaryPolicy(1)).note("SCHED_OTHER, SCHED_BATCH and SCHED_IDLE are kept at home; real-time classes are the machine's"),
		home(145, "sched_getscheduler", num("pid")),
		home(146, "sched_get_priority_max", num("policy")),
		home(147, "sched_get_priority_min", num("policy")),
		home(148, "sched_rr_get_interval", num("pid"), wr("tp", sizeTimespec)),
		come(149, "mlock", noteMemory),
		come(150, "munlock", noteMemory),
		come(151, "mlockall", noteMemory),
		come(152, "munlockall", noteMemory),
		home(153, "vhangup"),
		come(154, "modify_ldt", noteImage),
		come(155, "pivot_root", notePrivilege),
	}
}

// Flags of mmap. mmapHarmless are those that a guest may add to MAP_PRIVATE|MAP_ANONYMOUS.
const (
	mapShared         = 0x01
	mapPrivate        = 0x02
	mapFixed          = 0x10
	mapAnonymous      = 0x20
	map32Bit          = 0x40
	mapGrowsDown      = 0x0100
	mapDenyWrite      = 0x0800
	mapExecutable     = 0x1000
	mapNoReserve      = 0x4000
	mapPopulate       = 0x8000
	mapNonblock       = 0x10000
	mapStack          = 0x20000
	mapFixedNoReplace = 0x100000

	mmapHarmless = mapFixed | map32Bit | mapGrowsDown | mapDenyWrite | mapExecutable | mapNoReserve | mapStack | mapFixedNoReplace | mapPopulate | mapNonblock
	mmapOfFile   = mmapHarmless &^ mapGrowsDown &^ mapAnonymous
)

// args gives a row arguments after the fact: for rows of which only some calls are described.
func (r Row) args(args ...Arg) Row {
	r.Args = args
	return r
}

// personalityOfMemory are the bits of a personality that decide where memory lies and what may be done with it: MMAP_PAGE_ZERO,
// ADDR_COMPAT_LAYOUT, READ_IMPLIES_EXEC, ADDR_LIMIT_32BIT, ADDR_LIMIT_3GB. The rest concerns execve, which is made at home, and
// what calls say that are made there.
const personalityOfMemory = 0x0100000 | 0x0200000 | 0x0400000 | 0x0800000 | 0x8000000

// ordinaryPolicy holds for the scheduling policies that a guest may have: SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, each also with
// SCHED_RESET_ON_FORK.
func ordinaryPolicy(arg uint8) Cond {
	const resetOnFork = 0x40000000
	return is(arg, 0, 3, 5, resetOnFork, 3|resetOnFork, 5|resetOnFork)
}
