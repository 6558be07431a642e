package homeproxy

// Operations of futex that wait until a time of CLOCK_REALTIME: with the flag for that, and PI locks of the first kind always. The flag of
// private futexes is left out.
const (
	futexRealtime                    = 256
	futexRealtimeMask                = 0x7f | futexRealtime
	futexLockPI, futexWaitBitset     = 6, 9
	futexWaitRequeuePI, futexLockPI2 = 11, 13
)

// tableMiddle holds the calls 156 to 313.
func tableMiddle() []Row {
	return []Row{
		gone(156, "_sysctl"),
		prctlRow(),
		come(158, "arch_prctl", "changes what the processor does for the process").args(num("op"), ptr("addr")).by(0,
			same(Guest, 0x1001, "ARCH_SET_GS", noteLocal), same(Guest, 0x1002, "ARCH_SET_FS", noteLocal),
			same(Guest, 0x1003, "ARCH_GET_FS", noteLocal), same(Guest, 0x1004, "ARCH_GET_GS", noteLocal),
			list([]Arg{wr("addr", 8)}, Sub{Sel: 0x1021, Name: "ARCH_GET_XCOMP_SUPP"}, Sub{Sel: 0x1022, Name: "ARCH_GET_XCOMP_PERM"}),
			list([]Arg{val("addr")}, Sub{Sel: 0x1011, Name: "ARCH_GET_CPUID"}, Sub{Sel: 0x3001, Name: "ARCH_CET_STATUS"})),
		home(159, "adjtimex", rw("buf", sizeTimex)),
		home(160, "setrlimit", num("resource"), rd("rlim", sizeRlimit)).rule(Both, limitsOfGuest(0)).
			note("limits of memory and CPU time are set at home, and then on the guest by the host's agent"),
		home(161, "chroot", str("path")),
		home(162, "sync"),
		come(163, "acct", notePrivilege),
		home(164, "settimeofday", rd("tv", sizeTimeval), rd("tz", 8)),
		come(165, "mount", notePrivilege).args(str("source"), str("target"), str("fstype"), val("flags"), ptr("data")).rule(Home, isNull(4)),
		home(166, "umount2", str("target"), num("flags")),
		come(167, "swapon", notePrivilege),
		come(168, "swapoff", notePrivilege),
		come(169, "reboot", notePrivilege),
		home(170, "sethostname", rdN("name", 1, 1).over(64, einval), num("len")),
		home(171, "setdomainname", rdN("name", 1, 1).over(64, einval), num("len")),
		come(172, "iopl", notePrivilege),
		come(173, "ioperm", notePrivilege),
		gone(174, "create_module"),
		come(175, "init_module", notePrivilege),
		come(176, "delete_module", notePrivilege),
		gone(177, "get_kernel_syms"),
		gone(178, "query_module"),
		come(179, "quotactl", notePrivilege),
		gone(180, "nfsservctl"),
		gone(181, "getpmsg"),
		gone(182, "putpmsg"),
		gone(183, "afs_syscall"),
		gone(184, "tuxcall"),
		gone(185, "security"),
		guest(186, "gettid").note("same TID, by set_tid"),
		home(187, "readahead", dsc("fd"), val("offset"), val("count")),
		home(188, "setxattr", str("path"), xattrName(), rdN("value", 3, 1).over(maxXattr, e2big), val("size"), num("flags")),
		home(189, "lsetxattr", str("path"), xattrName(), rdN("value", 3, 1).over(maxXattr, e2big), val("size"), num("flags")),
		home(190, "fsetxattr", dsc("fd"), xattrName(), rdN("value", 3, 1).over(maxXattr, e2big), val("size"), num("flags")),
		home(191, "getxattr", str("path"), xattrName(), xattrValue(3), val("size")),
		home(192, "lgetxattr", str("path"), xattrName(), xattrValue(3), val("size")),
		home(193, "fgetxattr", dsc("fd"), xattrName(), xattrValue(3), val("size")),
		home(194, "listxattr", str("path"), xattrValue(2), val("size")),
		home(195, "llistxattr", str("path"), xattrValue(2), val("size")),
		home(196, "flistxattr", dsc("fd"), xattrValue(2), val("size")),
		home(197, "removexattr", str("path"), xattrName()),
		home(198, "lremovexattr", str("path"), xattrName()),
		home(199, "fremovexattr", dsc("fd"), xattrName()),
		both(200, "tkill", num("tid"), num("sig")).mask().
			note("own thread: local, then that thread's forwarded call is cancelled; stop signals and other processes: home"),
		both(201, "time", wr("tloc", 8)).note("answered on the host from home's clock"),
		guest(202, "futex", ptr("uaddr"), num("op"), num("val"), ptr("timeout"), ptr("uaddr2"), num("val3")).byHand().
			rule(Guest, isNull(3)).
			rule(Both, Cond{1, futexRealtimeMask, []uint64{futexWaitBitset | futexRealtime, futexWaitRequeuePI | futexRealtime,
				futexLockPI2 | futexRealtime, futexLockPI, futexLockPI | futexRealtime}}).
			note("a guest shares memory with its family alone, which is on the same host. Both: a wait until a realtime, which is home's: where the host's clock is another it comes home"),
		home(203, "sched_setaffinity", num("pid"), num("len"), rdN("mask", 1, 1).over(8192, einval)).
			note("kept at home, whose processors it names; the host places its guests itself"),
		home(204, "sched_getaffinity", num("pid"), num("len"), wrN("mask", 1, 1).capped(8192).when(RetBytes)).
			note("home's processors"),
		gone(205, "set_thread_area"),
		come(206, "io_setup", noteAIO),
		come(207, "io_destroy", noteAIO),
		come(208, "io_getevents", noteAIO),
		come(209, "io_submit", noteAIO),
		come(210, "io_cancel", noteAIO),
		gone(211, "get_thread_area"),
		gone(212, "lookup_dcookie"),
		home(213, "epoll_create", num("size")),
		gone(214, "epoll_ctl_old"),
		gone(215, "epoll_wait_old"),
		come(216, "remap_file_pages", noteMemory),
		home(217, "getdents64", dsc("fd"), of(DataOut, "dirp", 2), num("count")).xfer(TransferOnce),
		guest(218, "set_tid_address", ptr("tidptr")).note(noteLocal),
		home(219, "restart_syscall").block(516).
			note("continues the shadow's last call that ended with -516, whose areas still stand at their own addresses; " +
				"after a call that slept in the guest (futex) it belongs to the guest"),
		home(220, "semtimedop", num("semid"), rdN("sops", 2, 6).over(4096, e2big), num("nsops"), rd("timeout", sizeTimespec)).
			block(0).time(3, TimeoutTimespec),
		home(221, "fadvise64", dsc("fd"), val("offset"), val("len"), num("advice")),
		come(222, "timer_create", "timers on CPU time count where the process runs").
			args(num("clockid"), rd("sevp", sizeSigevent), wr("timerid", 4)).by(0, wallClocks(Home)...),
		home(223, "timer_settime", num("timerid"), num("flags"), rd("new", sizeItimer), wr("old", sizeItimer)),
		home(224, "timer_gettime", num("timerid"), wr("curr", sizeItimer)),
		home(225, "timer_getoverrun", num("timerid")),
		home(226, "timer_delete", num("timerid")),
		home(227, "clock_settime", num("clockid"), rd("tp", sizeTimespec)),
		home(228, "clock_gettime", num("clockid"), wr("tp", sizeTimespec)).rule(Both, cpuClock()...).by(0, localClocks(),
			same(Both, 0, "CLOCK_REALTIME", "home's clock"), same(Both, 5, "CLOCK_REALTIME_COARSE", "home's clock"),
			same(Both, 8, "CLOCK_REALTIME_ALARM", "home's clock"), same(Both, 11, "CLOCK_TAI", "home's clock"),
			same(Both, 2, "CLOCK_PROCESS_CPUTIME_ID", "home's count and what was used away"),
			same(Both, 3, "CLOCK_THREAD_CPUTIME_ID", "home's count and what was used away"),
			same(Home, 9, "CLOCK_BOOTTIME_ALARM", ""), same(Home, 4, "CLOCK_MONOTONIC_RAW", "")).
			note("a clock of CPU time that a number of a process or a thread names: what was used away is added if it is its own"),
		home(229, "clock_getres", num("clockid"), wr("res", sizeTimespec)).
			by(0, localClocks(), same(Guest, 4, "CLOCK_MONOTONIC_RAW", "as fine as everywhere")),
		come(230, "clock_nanosleep", "CPU time passes where the process runs").
			args(num("clockid"), num("flags"), rd("req", sizeTimespec), rw("rem", sizeTimespec).when(OnInterrupt).inPlace().opt()).
			by(0, wallClocks(Home)...).block(516).time(2, TimeoutTimespec).
			note("with TIMER_ABSTIME the code is 514 and rem is not looked at"),
		both(231, "exit_group", num("status")).byHand().note("told to home before any thread of the guest may die"),
		home(232, "epoll_wait", dsc("epfd"), wrN("events", 2, sizeEpollEvt).capped(65536).elems(sizeEpollEvt), num("maxevents"), num("timeout")).
			block(0).time(3, TimeoutMillis),
		home(233, "epoll_ctl", dsc("epfd"), num("op"), dsc("fd"), rd("event", sizeEpollEvt).opt()),
		both(234, "tgkill", num("tgid"), num("tid"), num("sig")).mask().
			note("own process: local, then that thread's forwarded call is cancelled; stop signals and other processes: home"),
		home(235, "utimes", str("filename"), rd("times", 32)),
		gone(236, "vserver"),
		come(237, "mbind", noteMemory),
		come(238, "set_mempolicy", noteMemory),
		come(239, "get_mempolicy", noteMemory),
		home(240, "mq_open", name("name", 256, enametoolong), num("oflag"), num("mode"), rd("attr", 64)),
		home(241, "mq_unlink", name("name", 256, enametoolong)),
		home(242, "mq_timedsend", dsc("mqdes"), rdN("msg", 2, 1).over(1<<19, emsgsize), val("len"), num("prio"), rd("timeout", sizeTimespec)).
			block(512).time(4, TimeoutAbs),
		home(243, "mq_timedreceive", dsc("mqdes"), wrN("msg", 2, 1).capped(1<<19).when(RetBytes), val("len"), wr("prio", 4), rd("timeout", sizeTimespec)).
			block(512).time(4, TimeoutAbs),
		home(244, "mq_notify", dsc("mqdes"), of(MqEvent, "sevp", 0)).note("with SIGEV_THREAD home reads the cookie too"),
		home(245, "mq_getsetattr", dsc("mqdes"), rd("new", 64), wr("old", 64)),
		come(246, "kexec_load", notePrivilege),
		home(247, "waitid", num("which"), num("id"), rw("infop", sizeSiginfo).when(Always), num("options"), rw("rusage", sizeRusage)).block(512).
			note("infop is cleared by the kernel whatever the result"),
		home(248, "add_key", name("type", 32, einval), str("description"), rdN("payload", 3, 1).over(1<<20-8192, einval), val("plen"), num("ring")).
			note("the keyrings are home's"),
		home(249, "request_key", name("type", 32, einval), str("description"), str("callout"), num("ring")).block(512).
			note("the keyrings are home's"),
		keyctlRow(),
		home(251, "ioprio_set", num("which"), num("who"), num("ioprio")),
		home(252, "ioprio_get", num("which"), num("who")),
		home(253, "inotify_init"),
		home(254, "inotify_add_watch", dsc("fd"), str("pathname"), num("mask")),
		home(255, "inotify_rm_watch", dsc("fd"), num("wd")),
		come(256, "migrate_pages", noteMemory),
		home(257, "openat", dsc("dirfd"), str("pathname"), num("flags"), num("mode")).block(512).follows(),
		home(258, "mkdirat", dsc("dirfd"), str("pathname"), num("mode")),
		home(259, "mknodat", dsc("dirfd"), str("pathname"), num("mode"), num("dev")),
		home(260, "fchownat", dsc("dirfd"), str("pathname"), num("owner"), num("group"), num("flags")),
		home(261, "futimesat", dsc("dirfd"), str("pathname"), rd("times", 32)),
		home(262, "newfstatat", dsc("dirfd"), str("pathname"), wr("statbuf", sizeStat), num("flags")),
		home(263, "unlinkat", dsc("dirfd"), str("pathname"), num("flags")),
		home(264, "renameat", dsc("olddirfd"), str("oldpath"), dsc("newdirfd"), str("newpath")),
		home(265, "linkat", dsc("olddirfd"), str("oldpath"), dsc("newdirfd"), str("newpath"), num("flags")),
		home(266, "symlinkat", str("target"), dsc("newdirfd"), str("linkpath")),
		home(267, "readlinkat", dsc("dirfd"), str("pathname"), wrN("buf", 3, 1).capped(maxPath).when(RetBytes), num("bufsiz")).
			refuse(einval, is(3, 0)),
		home(268, "fchmodat", dsc("dirfd"), str("pathname"), num("mode")),
		home(269, "faccessat", dsc("dirfd"), str("pathname"), num("mode")),
		home(270, "pselect6", num("nfds"), of(FDSet, "readfds", 0), of(FDSet, "writefds", 0), of(FDSet, "exceptfds", 0),
			rw("timeout", sizeTimespec).when(Always), of(SigmaskArg, "sigmask", 0)).block(514).time(4, TimeoutTimespec).
			note("the time that remains is written back also when a signal cuts it short"),
		home(271, "ppoll", rwN("fds", 1, sizePollFD).over(maxPollFDs, einval).when(OnInterrupt), num("nfds"), rw("tmo", sizeTimespec).when(Always),
			of(Sigset, "sigmask", 4), val("sigsetsize")).block(514).time(2, TimeoutTimespec).
			note("the time that remains is written back also when a signal cuts it short"),
		come(272, "unshare", "namespaces, and descriptors that threads do not share").args(num("flags")).
			by(0, same(Home, 0, "nothing", ""), same(Home, 0x200, "CLONE_FS", "the shadow's thread"), same(Home, 0x40000, "CLONE_SYSVSEM", "the shadow's thread"),
				same(Home, 0x40200, "CLONE_FS|CLONE_SYSVSEM", "the shadow's thread")),
		guest(273, "set_robust_list", ptr("head"), val("len")).note(noteLocal),
		come(274, "get_robust_list", "another thread's: home knows whether it may be seen").
			args(num("pid"), ptr("head"), ptr("len")).by(0, same(Guest, 0, "self", noteLocal)),
		home(275, "splice", dsc("fd_in"), rw("off_in", 8), dsc("fd_out"), rw("off_out", 8), val("len"), num("flags")).block(512),
		home(276, "tee", dsc("fd_in"), dsc("fd_out"), val("len"), num("flags")).block(512),
		home(277, "sync_file_range", dsc("fd"), val("offset"), val("nbytes"), num("flags")),
		come(278, "vmsplice", "the pipe would hold pages of the slot"),
		come(279, "move_pages", noteMemory),
		home(280, "utimensat", dsc("dirfd"), str("pathname"), rd("times", 32), num("flags")),
		home(281, "epoll_pwait", dsc("epfd"), wrN("events", 2, sizeEpollEvt).capped(65536).elems(sizeEpollEvt), num("maxevents"), num("timeout"),
			of(Sigset, "sigmask", 5), val("sigsetsize")).block(0).time(3, TimeoutMillis),
		home(282, "signalfd", dsc("fd"), of(Sigset, "mask", 2), val("sizemask")).pending().note(noteSignals),
		home(283, "timerfd_create", num("clockid"), num("flags")),
		home(284, "eventfd", num("initval")),
		home(285, "fallocate", dsc("fd"), num("mode"), val("offset"), val("len")).mask().note("raises SIGXFSZ"),
		home(286, "timerfd_settime", dsc("fd"), num("flags"), rd("new", sizeItimer), wr("old", sizeItimer)),
		home(287, "timerfd_gettime", dsc("fd"), wr("curr", sizeItimer)),
		home(288, "accept4", dsc("sockfd"), of(SockOut, "addr", 2), of(LenPtr, "addrlen", 0), num("flags")).block(512).
			note("a socket with SO_RCVTIMEO gives EINTR instead of a restart"),
		home(289, "signalfd4", dsc("fd"), of(Sigset, "mask", 2), val("sizemask"), num("flags")).pending().note(noteSignals),
		home(290, "eventfd2", num("initval"), num("flags")),
		home(291, "epoll_create1", num("flags")),
		home(292, "dup3", dsc("oldfd"), dsc("newfd"), num("flags")),
		home(293, "pipe2", wr("pipefd", 8), num("flags")),
		home(294, "inotify_init1", num("flags")),
		home(295, "preadv", dsc("fd"), of(IOVecOut, "iov", 2), val("iovcnt"), val("pos_l"), val("pos_h")).block(512).xfer(TransferRead).at(3),
		home(296, "pwritev", dsc("fd"), of(IOVecIn, "iov", 2), val("iovcnt"), val("pos_l"), val("pos_h")).block(512).xfer(TransferSend).at(3),
		both(297, "rt_tgsigqueueinfo", num("tgid"), num("tid"), num("sig"), rd("info", sizeSiginfo)).mask().note("as tgkill"),
		come(298, "perf_event_open", "counts where the process runs"),
		home(299, "recvmmsg", dsc("sockfd"), of(MMsgOut, "msgvec", 2), num("vlen"), num("flags"), rw("timeout", sizeTimespec)).block(512).flags(3).
			note("messages that do not fit into a slot together are left for the next call; a socket with SO_RCVTIMEO gives EINTR"),
		home(300, "fanotify_init", num("flags"), num("event_f_flags")),
		home(301, "fanotify_mark", dsc("fd"), num("flags"), val("mask"), dsc("dirfd"), str("pathname")),
		home(302, "prlimit64", num("pid"), num("resource"), rd("new", sizeRlimit), wr("old", sizeRlimit)).
			rule(Home, isNull(2)).rule(Both, limitsOfGuest(1)).
			note("limits of memory and CPU time are set at home, and then on the guest by the host's agent"),
		home(303, "name_to_handle_at", dsc("dirfd"), str("pathname"), of(HandleOut, "handle", 0), wr("mount_id", 4), num("flags")).
			rule(ComeHome, bits(4, 1, 1)).note("AT_HANDLE_MNT_ID_UNIQUE comes home: the number has another size"),
		home(304, "open_by_handle_at", dsc("mount_fd"), of(HandleIn, "handle", 0), num("flags")).block(512),
		home(305, "clock_adjtime", num("clockid"), rw("buf", sizeTimex)),
		home(306, "syncfs", dsc("fd")),
		home(307, "sendmmsg", dsc("sockfd"), of(MMsgIn, "msgvec", 2), num("vlen"), num("flags")).block(512).flags(3).
			rule(ComeHome, bits(3, msgZerocopy, msgZerocopy)).note("messages that do not fit into a slot together are left for the next call"),
		come(308, "setns", "namespaces"),
		guest(309, "getcpu", ptr("cpu"), ptr("node"), ptr("unused")).note("the host's processor: a named exception"),
		come(310, "process_vm_readv", noteMemory),
		come(311, "process_vm_writev", noteMemory),
		home(312, "kcmp", num("pid1"), num("pid2"), num("type"), val("idx1"), val("idx2")).
			by(2, list([]Arg{val("idx1"), rd("idx2", 12)}, Sub{Sel: 7, Name: "KCMP_EPOLL_TFD"})).note("what it compares is home's"),
		come(313, "finit_module", notePrivilege),
	}
}

// tableNew holds the calls from 314 on.
func tableNew() []Row {
	return []Row{
		home(314, "sched_setattr", num("pid"), of(SizedIn, "attr", 0), num("flags")).looks().
			note("kept at home; with a real-time class it may not be away any more"),
		home(315, "sched_getattr", num("pid"), rwN("attr", 2, 1).over(4096, einval), num("size"), num("flags")),
		home(316, "renameat2", dsc("olddirfd"), str("oldpath"), dsc("newdirfd"), str("newpath"), num("flags")),
		come(317, "seccomp", "a filter of the program's own would judge the calls of the shadow").args(num("op"), num("flags"), val("args")).by(0,
			list([]Arg{num("flags"), rd("action", 4)}, Sub{Sel: 2, Name: "SECCOMP_GET_ACTION_AVAIL"}),
			list([]Arg{num("flags"), wr("sizes", 6)}, Sub{Sel: 3, Name: "SECCOMP_GET_NOTIF_SIZES"})),
		guest(318, "getrandom", ptr("buf"), val("buflen"), num("flags")),
		home(319, "memfd_create", name("name", 250, einval), num("flags")).note("the descriptor is home's; mapping it comes home"),
		come(320, "kexec_file_load", notePrivilege),
		come(321, "bpf", notePrivilege),
		both(322, "execveat", dsc("dirfd"), str("pathname"), ptr("argv"), ptr("envp"), num("flags")).byHand().note(noteExec),
		come(323, "userfaultfd", noteMemory),
		come(324, "membarrier", "a barrier on all processors of the machine").args(num("cmd"), num("flags"), num("cpu_id")).by(0,
			same(Guest, 0, "QUERY", ""), same(Guest, 8, "PRIVATE_EXPEDITED", noteLocal), same(Guest, 16, "REGISTER_PRIVATE_EXPEDITED", noteLocal),
			same(Guest, 32, "PRIVATE_EXPEDITED_SYNC_CORE", noteLocal), same(Guest, 64, "REGISTER_PRIVATE_EXPEDITED_SYNC_CORE", noteLocal),
			same(Guest, 128, "PRIVATE_EXPEDITED_RSEQ", noteLocal), same(Guest, 256, "REGISTER_PRIVATE_EXPEDITED_RSEQ", noteLocal),
			same(Guest, 512, "GET_REGISTRATIONS", noteLocal)),
		come(325, "mlock2", noteMemory),
		home(326, "copy_file_range", dsc("fd_in"), rw("off_in", 8), dsc("fd_out"), rw("off_out", 8), val("len"), num("flags")).block(512),
		home(327, "preadv2", dsc("fd"), of(IOVecOut, "iov", 2), val("iovcnt"), val("pos_l"), val("pos_h"), num("flags")).block(512).xfer(TransferRead).at(3),
		home(328, "pwritev2", dsc("fd"), of(IOVecIn, "iov", 2), val("iovcnt"), val("pos_l"), val("pos_h"), num("flags")).block(512).xfer(TransferSend).at(3),
		come(329, "pkey_mprotect", noteMemory),
		come(330, "pkey_alloc", noteMemory),
		come(331, "pkey_free", noteMemory),
		home(332, "statx", dsc("dirfd"), str("pathname"), num("flags"), num("mask"), wr("statxbuf", sizeStatx)),
		come(333, "io_pgetevents", noteAIO),
		guest(334, "rseq", ptr("rseq"), num("len"), num("flags"), num("sig")).note(noteLocal),
		come(335, "uretprobe", "the kernel's own trampoline"),
		come(336, "uprobe", "the kernel's own trampoline"),
		home(424, "pidfd_send_signal", dsc("pidfd"), num("sig"), rd("info", sizeSiginfo), num("flags")).mask(),
		come(425, "io_uring_setup", "rings are memory shared with the kernel; locked at home"),
		come(426, "io_uring_enter", "rings are memory shared with the kernel"),
		come(427, "io_uring_register", "rings are memory shared with the kernel"),
		home(428, "open_tree", dsc("dirfd"), str("path"), num("flags")),
		home(429, "move_mount", dsc("from_dirfd"), str("from_path"), dsc("to_dirfd"), str("to_path"), num("flags")),
		come(430, "fsopen", notePrivilege),
		come(431, "fsconfig", notePrivilege),
		home(432, "fsmount", dsc("fs_fd"), num("flags"), num("attr_flags")),
		home(433, "fspick", dsc("dirfd"), str("path"), num("flags")),
		home(434, "pidfd_open", num("pid"), num("flags")),
		both(435, "clone3", ptr("cl_args"), val("size")).byHand().note(noteBirth),
		home(436, "close_range", num("first"), num("last"), num("flags")),
		home(437, "openat2", dsc("dirfd"), str("pathname"), rdN("how", 3, 1).over(4096, e2big), val("size")).block(512).follows(),
		home(438, "pidfd_getfd", dsc("pidfd"), num("targetfd"), num("flags")).note("descriptors are home's, those of other guests too"),
		home(439, "faccessat2", dsc("dirfd"), str("pathname"), num("mode"), num("flags")),
		come(440, "process_madvise", noteMemory),
		home(441, "epoll_pwait2", dsc("epfd"), wrN("events", 2, sizeEpollEvt).capped(65536).elems(sizeEpollEvt), num("maxevents"),
			rd("timeout", sizeTimespec), of(Sigset, "sigmask", 5), val("sigsetsize")).block(0).time(3, TimeoutTimespec),
		home(442, "mount_setattr", dsc("dirfd"), str("path"), num("flags"), rdN("attr", 4, 1).over(4096, e2big), val("size")),
		come(443, "quotactl_fd", notePrivilege),
		home(444, "landlock_create_ruleset", rdN("attr", 1, 1).over(4096, e2big), val("size"), num("flags")),
		home(445, "landlock_add_rule", dsc("ruleset_fd"), num("rule_type"), val("attr"), num("flags")).by(1,
			list([]Arg{rd("attr", 12), num("flags")}, Sub{Sel: 1, Name: "LANDLOCK_RULE_PATH_BENEATH"}),
			list([]Arg{rd("attr", 16), num("flags")}, Sub{Sel: 2, Name: "LANDLOCK_RULE_NET_PORT"})),
		home(446, "landlock_restrict_self", dsc("ruleset_fd"), num("flags")).note("it restricts what the shadow's thread does, and that does all"),
		come(447, "memfd_secret", noteMemory),
		home(448, "process_mrelease", dsc("pidfd"), num("flags")),
		guest(449, "futex_waitv", ptr("waiters"), num("nr"), num("flags"), ptr("timeout"), num("clockid")).
			rule(Guest, isNull(3)).rule(ComeHome, is(4, 0)).
			note("a guest shares memory with its family alone, which is on the same host. ComeHome: a wait until a realtime, which is home's"),
		come(450, "set_mempolicy_home_node", noteMemory),
		home(451, "cachestat", dsc("fd"), rd("range", 16), wr("stat", 40), num("flags")),
		home(452, "fchmodat2", dsc("dirfd"), str("pathname"), num("mode"), num("flags")),
		come(453, "map_shadow_stack", noteMemory),
		guest(454, "futex_wake", ptr("uaddr"), val("mask"), num("nr"), num("flags")).note("a guest shares memory with its family alone, which is on the same host"),
		guest(455, "futex_wait", ptr("uaddr"), val("val"), val("mask"), num("flags"), ptr("timeout"), num("clockid")).
			rule(Guest, isNull(4)).rule(ComeHome, is(5, 0)).
			note("a guest shares memory with its family alone, which is on the same host. ComeHome: a wait until a realtime, which is home's"),
		guest(456, "futex_requeue", ptr("waiters"), num("flags"), num("nr_wake"), num("nr_requeue")).note("a guest shares memory with its family alone, which is on the same host"),
		home(457, "statmount", of(SizedIn, "req", 0), wrN("buf", 2, 1).capped(maxXattr), val("bufsize"), num("flags")),
		home(458, "listmount", of(SizedIn, "req", 0), wrN("mnt_ids", 2, 8).capped(8192).elems(8), val("nr_mnt_ids"), num("flags")),
		come(459, "lsm_get_self_attr", notePrivilege),
		come(460, "lsm_set_self_attr", notePrivilege),
		come(461, "lsm_list_modules", notePrivilege),
		come(462, "mseal", noteMemory),
		home(463, "setxattrat", dsc("dirfd"), str("path"), num("flags"), xattrName(), of(XattrIn, "args", 5), val("size")),
		home(464, "getxattrat", dsc("dirfd"), str("path"), num("flags"), xattrName(), of(XattrOut, "args", 5), val("size")),
		home(465, "listxattrat", dsc("dirfd"), str("path"), num("flags"), xattrValue(4), val("size")),
		home(466, "removexattrat", dsc("dirfd"), str("path"), num("flags"), xattrName()),
		come(467, "open_tree_attr", notePrivilege),
		home(468, "file_getattr", dsc("dirfd"), str("path"), wrN("attr", 3, 1).over(4096, e2big), val("size"), num("flags")),
		home(469, "file_setattr", dsc("dirfd"), str("path"), rdN("attr", 3, 1).over(4096, e2big), val("size"), num("flags")),
		come(470, "listns", notePrivilege),
		come(471, "rseq_slice_yield", "newer than what a host may have"),
	}
}

func xattrName() Arg { return name("name", 256, erange) }

func xattrValue(length uint8) Arg { return wrN("value", length, 1).capped(maxXattr).when(RetBytes) }

// cpuClock holds for the clocks that count the CPU time of a process or a thread, which a negative number names: its lower two
// bits say what is counted, and 3 there is a device.
func cpuClock() []Cond {
	return []Cond{{Arg: 0, Mask: 0x80000003, Vals: []uint64{0x80000000, 0x80000001, 0x80000002}}}
}

// limitsOfGuest holds for the resource limits that a guest's own kernel enforces: CPU time, data, stack, locked memory,
// address space, real-time CPU time.
func limitsOfGuest(arg uint8) Cond { return is(arg, 0, 2, 3, 8, 9, 15) }
