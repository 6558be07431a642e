package homeproxy

// Calls whose meaning depends on one of their arguments.

// safeAdvice is the advice of madvise that concerns the caller's own memory alone and costs about nothing.
func safeAdvice() [][]Sub {
	var out [][]Sub
	for _, a := range []struct {
		n    uint32
		name string
	}{
		{0, "MADV_NORMAL"}, {1, "MADV_RANDOM"}, {2, "MADV_SEQUENTIAL"}, {3, "MADV_WILLNEED"}, {4, "MADV_DONTNEED"}, {8, "MADV_FREE"},
		{10, "MADV_DONTFORK"}, {11, "MADV_DOFORK"}, {14, "MADV_HUGEPAGE"}, {15, "MADV_NOHUGEPAGE"}, {16, "MADV_DONTDUMP"},
		{17, "MADV_DODUMP"}, {18, "MADV_WIPEONFORK"}, {19, "MADV_KEEPONFORK"}, {20, "MADV_COLD"}, {24, "MADV_DONTNEED_LOCKED"},
	} {
		out = append(out, same(Guest, a.n, a.name, noteLocal))
	}
	return out
}

func itimers() [][]Sub {
	return [][]Sub{
		same(Home, 0, "ITIMER_REAL", ""),
		same(Guest, 1, "ITIMER_VIRTUAL", "CPU time passes where the process runs"),
		same(Guest, 2, "ITIMER_PROF", "CPU time passes where the process runs"),
	}
}

// wallClocks are the clocks on which a call can wait at home.
func wallClocks(c Class) [][]Sub {
	return [][]Sub{
		same(c, 0, "CLOCK_REALTIME", ""), same(c, 1, "CLOCK_MONOTONIC", ""), same(c, 7, "CLOCK_BOOTTIME", ""),
		same(c, 8, "CLOCK_REALTIME_ALARM", ""), same(c, 9, "CLOCK_BOOTTIME_ALARM", ""), same(c, 11, "CLOCK_TAI", ""),
	}
}

// localClocks are those that the guest's time namespace makes home's. CLOCK_MONOTONIC_RAW is not among them: its namespace counts it
// from home's monotonic time on, and how far the two are apart is each machine's own.
func localClocks() []Sub {
	var out []Sub
	out = append(out, same(Guest, 1, "CLOCK_MONOTONIC", "home's, by the time namespace")...)
	out = append(out, same(Guest, 6, "CLOCK_MONOTONIC_COARSE", "home's, by the time namespace")...)
	return append(out, same(Guest, 7, "CLOCK_BOOTTIME", "home's, by the time namespace")...)
}

// list makes Subs of class Home that share their arguments.
func list(args []Arg, subs ...Sub) []Sub {
	for i := range subs {
		subs[i].Class, subs[i].Args = Home, args
	}
	return subs
}

// quiet marks the Subs that neither wait nor raise a signal: all but those named.
func (r Row) quiet(but ...string) Row {
	for i := range r.Subs {
		s := &r.Subs[i]
		s.Quiet = true
		for _, name := range but {
			s.Quiet = s.Quiet && s.Name != name
		}
	}
	return r
}

// quietReads marks the Subs that only ask, and those that change a flag of the descriptor alone.
func (r Row) quietReads() Row {
	for i := range r.Subs {
		s := &r.Subs[i]
		switch s.Name {
		case "FIONBIO", "FIOASYNC", "FIOCLEX", "FIONCLEX":
			s.Quiet = true
		}
		if len(s.Args) == 1 && (s.Args[0].Kind == StructOut || s.Args[0].Kind == StructInOut) {
			s.Quiet = true
		}
	}
	return r
}

func fcntlRow() Row {
	return come(72, "fcntl", "a command that this table does not know").args(dsc("fd"), num("cmd"), val("arg")).block(512).by(1,
		list([]Arg{num("arg")}, Sub{Sel: 0, Name: "F_DUPFD"}, Sub{Sel: 2, Name: "F_SETFD"}, Sub{Sel: 4, Name: "F_SETFL"}, Sub{Sel: 8, Name: "F_SETOWN"},
			Sub{Sel: 10, Name: "F_SETSIG"}, Sub{Sel: 1024, Name: "F_SETLEASE"}, Sub{Sel: 1026, Name: "F_NOTIFY"}, Sub{Sel: 1027, Name: "F_DUPFD_QUERY"},
			Sub{Sel: 1030, Name: "F_DUPFD_CLOEXEC"}, Sub{Sel: 1031, Name: "F_SETPIPE_SZ"}, Sub{Sel: 1033, Name: "F_ADD_SEALS"}),
		list([]Arg{}, Sub{Sel: 1, Name: "F_GETFD"}, Sub{Sel: 3, Name: "F_GETFL"}, Sub{Sel: 9, Name: "F_GETOWN"}, Sub{Sel: 11, Name: "F_GETSIG"},
			Sub{Sel: 1025, Name: "F_GETLEASE"}, Sub{Sel: 1028, Name: "F_CREATED_QUERY"}, Sub{Sel: 1032, Name: "F_GETPIPE_SZ"}, Sub{Sel: 1034, Name: "F_GET_SEALS"}),
		list([]Arg{rw("lock", 32)}, Sub{Sel: 5, Name: "F_GETLK"}, Sub{Sel: 36, Name: "F_OFD_GETLK"}),
		list([]Arg{rd("lock", 32)}, Sub{Sel: 6, Name: "F_SETLK"}, Sub{Sel: 7, Name: "F_SETLKW"}, Sub{Sel: 37, Name: "F_OFD_SETLK"}, Sub{Sel: 38, Name: "F_OFD_SETLKW"}),
		list([]Arg{rd("owner", 8)}, Sub{Sel: 15, Name: "F_SETOWN_EX"}),
		list([]Arg{wr("owner", 8)}, Sub{Sel: 16, Name: "F_GETOWN_EX"}, Sub{Sel: 17, Name: "F_GETOWNER_UIDS"}),
		list([]Arg{rw("deleg", 8)}, Sub{Sel: 1039, Name: "F_GETDELEG"}),
		list([]Arg{rd("deleg", 8)}, Sub{Sel: 1040, Name: "F_SETDELEG"}),
		list([]Arg{wr("hint", 8)}, Sub{Sel: 1035, Name: "F_GET_RW_HINT"}, Sub{Sel: 1037, Name: "F_GET_FILE_RW_HINT"}),
		list([]Arg{rd("hint", 8)}, Sub{Sel: 1036, Name: "F_SET_RW_HINT"}, Sub{Sel: 1038, Name: "F_SET_FILE_RW_HINT"}),
	).quiet("F_SETLKW", "F_OFD_SETLKW")
}

func ioctlRow() Row {
	in := func(n uint32) []Arg { return []Arg{rd("arg", n)} }
	out := func(n uint32) []Arg { return []Arg{wr("arg", n)} }
	inout := func(n uint32) []Arg { return []Arg{rw("arg", n)} }
	value, nothing := []Arg{val("arg")}, []Arg{}
	return come(16, "ioctl", "a request that this table does not know: its size and direction are never guessed").
		args(dsc("fd"), num("request"), val("arg")).block(512).by(1,
		list(out(36), Sub{Sel: 0x5401, Name: "TCGETS"}),
		list(in(36), Sub{Sel: 0x5402, Name: "TCSETS"}, Sub{Sel: 0x5403, Name: "TCSETSW"}, Sub{Sel: 0x5404, Name: "TCSETSF"}),
		list(out(18), Sub{Sel: 0x5405, Name: "TCGETA"}),
		list(in(18), Sub{Sel: 0x5406, Name: "TCSETA"}, Sub{Sel: 0x5407, Name: "TCSETAW"}, Sub{Sel: 0x5408, Name: "TCSETAF"}),
		list(out(44), Sub{Sel: 0x802c542a, Name: "TCGETS2"}),
		list(in(44), Sub{Sel: 0x402c542b, Name: "TCSETS2"}, Sub{Sel: 0x402c542c, Name: "TCSETSW2"}, Sub{Sel: 0x402c542d, Name: "TCSETSF2"}),
		list(value, Sub{Sel: 0x5409, Name: "TCSBRK"}, Sub{Sel: 0x540a, Name: "TCXONC"}, Sub{Sel: 0x540b, Name: "TCFLSH"}, Sub{Sel: 0x540e, Name: "TIOCSCTTY"},
			Sub{Sel: 0x5425, Name: "TCSBRKP"}, Sub{Sel: 0x5441, Name: "TIOCGPTPEER"}),
		list(nothing, Sub{Sel: 0x540c, Name: "TIOCEXCL"}, Sub{Sel: 0x540d, Name: "TIOCNXCL"}, Sub{Sel: 0x541d, Name: "TIOCCONS"}, Sub{Sel: 0x5422, Name: "TIOCNOTTY"},
			Sub{Sel: 0x5427, Name: "TIOCSBRK"}, Sub{Sel: 0x5428, Name: "TIOCCBRK"}, Sub{Sel: 0x5450, Name: "FIONCLEX"}, Sub{Sel: 0x5451, Name: "FIOCLEX"}),
		list(out(4), Sub{Sel: 0x540f, Name: "TIOCGPGRP"}, Sub{Sel: 0x5411, Name: "TIOCOUTQ"}, Sub{Sel: 0x5415, Name: "TIOCMGET"}, Sub{Sel: 0x5419, Name: "TIOCGSOFTCAR"},
			Sub{Sel: 0x541b, Name: "FIONREAD"}, Sub{Sel: 0x5424, Name: "TIOCGETD"}, Sub{Sel: 0x5429, Name: "TIOCGSID"}, Sub{Sel: 0x80045430, Name: "TIOCGPTN"},
			Sub{Sel: 0x80045432, Name: "TIOCGDEV"}, Sub{Sel: 0x80045438, Name: "TIOCGPKT"}, Sub{Sel: 0x80045439, Name: "TIOCGPTLCK"}, Sub{Sel: 0x80045440, Name: "TIOCGEXCL"}),
		list(in(4), Sub{Sel: 0x5410, Name: "TIOCSPGRP"}, Sub{Sel: 0x5416, Name: "TIOCMBIS"}, Sub{Sel: 0x5417, Name: "TIOCMBIC"}, Sub{Sel: 0x5418, Name: "TIOCMSET"},
			Sub{Sel: 0x541a, Name: "TIOCSSOFTCAR"}, Sub{Sel: 0x5420, Name: "TIOCPKT"}, Sub{Sel: 0x5421, Name: "FIONBIO"}, Sub{Sel: 0x5423, Name: "TIOCSETD"},
			Sub{Sel: 0x40045431, Name: "TIOCSPTLCK"}, Sub{Sel: 0x5452, Name: "FIOASYNC"}),
		list(in(1), Sub{Sel: 0x5412, Name: "TIOCSTI"}),
		list(out(8), Sub{Sel: 0x5413, Name: "TIOCGWINSZ"}, Sub{Sel: 0x5460, Name: "FIOQSIZE"}),
		list(in(8), Sub{Sel: 0x5414, Name: "TIOCSWINSZ"}),
		// Files and block devices. The long in the encoding of FS_IOC_GETFLAGS is an int in truth.
		list(out(4), Sub{Sel: 2, Name: "FIGETBSZ"}, Sub{Sel: 0x80086601, Name: "FS_IOC_GETFLAGS"}, Sub{Sel: 0x80087601, Name: "FS_IOC_GETVERSION"},
			Sub{Sel: 0x1268, Name: "BLKSSZGET"}, Sub{Sel: 0x80081270, Name: "BLKBSZGET"}, Sub{Sel: 0x125e, Name: "BLKROGET"}, Sub{Sel: 0x80045200, Name: "RNDGETENTCNT"}),
		list(in(4), Sub{Sel: 0x40086602, Name: "FS_IOC_SETFLAGS"}),
		list(value, Sub{Sel: 0x40049409, Name: "FICLONE"}),
		list(in(32), Sub{Sel: 0x4020940d, Name: "FICLONERANGE"}),
		list(out(28), Sub{Sel: 0x801c581f, Name: "FS_IOC_FSGETXATTR"}),
		list(in(28), Sub{Sel: 0x401c5820, Name: "FS_IOC_FSSETXATTR"}),
		list(out(8), Sub{Sel: 0x80081272, Name: "BLKGETSIZE64"}, Sub{Sel: 0x1260, Name: "BLKGETSIZE"}),
		list(nothing, Sub{Sel: 0x1261, Name: "BLKFLSBUF"}),
		list(in(8), Sub{Sel: 0x40085400, Name: "TFD_IOC_SET_TICKS"}, Sub{Sel: 0x40088a01, Name: "EPIOCSPARAMS"}),
		list(out(8), Sub{Sel: 0x80088a02, Name: "EPIOCGPARAMS"}),
		// Sockets. A struct ifreq has 40 bytes; the requests in which it holds a pointer are not here.
		list(in(4), Sub{Sel: 0x8901, Name: "FIOSETOWN"}, Sub{Sel: 0x8902, Name: "SIOCSPGRP"}),
		list(out(4), Sub{Sel: 0x8903, Name: "FIOGETOWN"}, Sub{Sel: 0x8904, Name: "SIOCGPGRP"}, Sub{Sel: 0x8905, Name: "SIOCATMARK"}, Sub{Sel: 0x894b, Name: "SIOCOUTQNSD"}),
		list(out(16), Sub{Sel: 0x8906, Name: "SIOCGSTAMP_OLD"}, Sub{Sel: 0x8907, Name: "SIOCGSTAMPNS_OLD"}, Sub{Sel: 0x80108906, Name: "SIOCGSTAMP_NEW"},
			Sub{Sel: 0x80108907, Name: "SIOCGSTAMPNS_NEW"}),
		list(inout(40), Sub{Sel: 0x8910, Name: "SIOCGIFNAME"}, Sub{Sel: 0x8913, Name: "SIOCGIFFLAGS"}, Sub{Sel: 0x8915, Name: "SIOCGIFADDR"},
			Sub{Sel: 0x8917, Name: "SIOCGIFDSTADDR"}, Sub{Sel: 0x8919, Name: "SIOCGIFBRDADDR"}, Sub{Sel: 0x891b, Name: "SIOCGIFNETMASK"},
			Sub{Sel: 0x891d, Name: "SIOCGIFMETRIC"}, Sub{Sel: 0x8921, Name: "SIOCGIFMTU"}, Sub{Sel: 0x8927, Name: "SIOCGIFHWADDR"},
			Sub{Sel: 0x8933, Name: "SIOCGIFINDEX"}, Sub{Sel: 0x8942, Name: "SIOCGIFTXQLEN"}, Sub{Sel: 0x8970, Name: "SIOCGIFMAP"}),
		list(in(40), Sub{Sel: 0x8914, Name: "SIOCSIFFLAGS"}, Sub{Sel: 0x8916, Name: "SIOCSIFADDR"}, Sub{Sel: 0x8918, Name: "SIOCSIFDSTADDR"},
			Sub{Sel: 0x891a, Name: "SIOCSIFBRDADDR"}, Sub{Sel: 0x891c, Name: "SIOCSIFNETMASK"}, Sub{Sel: 0x891e, Name: "SIOCSIFMETRIC"},
			Sub{Sel: 0x8922, Name: "SIOCSIFMTU"}, Sub{Sel: 0x8924, Name: "SIOCSIFHWADDR"}, Sub{Sel: 0x8943, Name: "SIOCSIFTXQLEN"}),
		list([]Arg{of(IfConf, "arg", 0)}, Sub{Sel: 0x8912, Name: "SIOCGIFCONF"}),
		list(inout(68), Sub{Sel: 0x8954, Name: "SIOCGARP"}),
		// Serial lines and consoles, namespaces, pidfds.
		list(out(72), Sub{Sel: 0x541e, Name: "TIOCGSERIAL"}),
		list(in(72), Sub{Sel: 0x541f, Name: "TIOCSSERIAL"}),
		list(value, Sub{Sel: 0x545c, Name: "TIOCMIWAIT"}),
		list(out(80), Sub{Sel: 0x545d, Name: "TIOCGICOUNT"}),
		list(nothing, Sub{Sel: 0x5437, Name: "TIOCVHANGUP"}),
		list(out(4), Sub{Sel: 0x4b3b, Name: "KDGETMODE"}, Sub{Sel: 0x4b44, Name: "KDGKBMODE"}),
		list(out(1), Sub{Sel: 0x4b33, Name: "KDGKBTYPE"}),
		list(nothing, Sub{Sel: 0xb701, Name: "NS_GET_USERNS"}, Sub{Sel: 0xb702, Name: "NS_GET_PARENT"}, Sub{Sel: 0xb703, Name: "NS_GET_NSTYPE"}),
		list(out(4), Sub{Sel: 0xb704, Name: "NS_GET_OWNER_UID"}),
		list(inout(64), Sub{Sel: 0xc040ff0b, Name: "PIDFD_GET_INFO"}),
		list(inout(72), Sub{Sel: 0xc048ff0b, Name: "PIDFD_GET_INFO, second form"}),
		list(nothing, Sub{Sel: 0xff01, Name: "PIDFD_GET_CGROUP_NAMESPACE"}, Sub{Sel: 0xff02, Name: "PIDFD_GET_IPC_NAMESPACE"}, Sub{Sel: 0xff03, Name: "PIDFD_GET_MNT_NAMESPACE"},
			Sub{Sel: 0xff04, Name: "PIDFD_GET_NET_NAMESPACE"}, Sub{Sel: 0xff05, Name: "PIDFD_GET_PID_NAMESPACE"}, Sub{Sel: 0xff06, Name: "PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE"},
			Sub{Sel: 0xff07, Name: "PIDFD_GET_TIME_NAMESPACE"}, Sub{Sel: 0xff08, Name: "PIDFD_GET_TIME_FOR_CHILDREN_NAMESPACE"},
			Sub{Sel: 0xff09, Name: "PIDFD_GET_USER_NAMESPACE"}, Sub{Sel: 0xff0a, Name: "PIDFD_GET_UTS_NAMESPACE"}),
	).quietReads()
}

func prctlRow() Row {
	out4 := []Arg{wr("out", 4)}
	value := []Arg{val("arg2"), val("arg3"), val("arg4"), val("arg5")}
	r := come(157, "prctl", "an option that this table does not know, or that changes what a host may do with the process").
		args(num("option"), val("arg2"), val("arg3"), val("arg4"), val("arg5")).
		rule(Guest, is(0, 0x53564d41), bits(1, ^uint64(0), 0)).
		rule(Home, is(0, 4), bits(1, ^uint64(0), 1)). // PR_SET_DUMPABLE: who becomes dumpable may stay away
		by(0,
			list(value, Sub{Sel: 1, Name: "PR_SET_PDEATHSIG"}, Sub{Sel: 3, Name: "PR_GET_DUMPABLE"}, Sub{Sel: 7, Name: "PR_GET_KEEPCAPS"}, Sub{Sel: 8, Name: "PR_SET_KEEPCAPS"},
				Sub{Sel: 13, Name: "PR_GET_TIMING"}, Sub{Sel: 14, Name: "PR_SET_TIMING"},
				Sub{Sel: 21, Name: "PR_GET_SECCOMP"}, Sub{Sel: 23, Name: "PR_CAPBSET_READ"}, Sub{Sel: 24, Name: "PR_CAPBSET_DROP"}, Sub{Sel: 27, Name: "PR_GET_SECUREBITS"},
				Sub{Sel: 28, Name: "PR_SET_SECUREBITS"}, Sub{Sel: 29, Name: "PR_SET_TIMERSLACK"},
				Sub{Sel: 30, Name: "PR_GET_TIMERSLACK"}, Sub{Sel: 31, Name: "PR_TASK_PERF_EVENTS_DISABLE"}, Sub{Sel: 32, Name: "PR_TASK_PERF_EVENTS_ENABLE"},
				Sub{Sel: 34, Name: "PR_MCE_KILL_GET"}, Sub{Sel: 36, Name: "PR_SET_CHILD_SUBREAPER"},
				Sub{Sel: 38, Name: "PR_SET_NO_NEW_PRIVS"}, Sub{Sel: 39, Name: "PR_GET_NO_NEW_PRIVS"}, Sub{Sel: 42, Name: "PR_GET_THP_DISABLE"},
				Sub{Sel: 43, Name: "PR_MPX_ENABLE_MANAGEMENT"}, Sub{Sel: 44, Name: "PR_MPX_DISABLE_MANAGEMENT"}, Sub{Sel: 47, Name: "PR_CAP_AMBIENT"},
				Sub{Sel: 52, Name: "PR_GET_SPECULATION_CTRL"}, Sub{Sel: 57, Name: "PR_SET_IO_FLUSHER"}, Sub{Sel: 58, Name: "PR_GET_IO_FLUSHER"},
				Sub{Sel: 66, Name: "PR_GET_MDWE"}, Sub{Sel: 68, Name: "PR_GET_MEMORY_MERGE"},
				Sub{Sel: 77, Name: "PR_TIMER_CREATE_RESTORE_IDS"}, Sub{Sel: 0x59616d61, Name: "PR_SET_PTRACER"}),
			list(out4, Sub{Sel: 2, Name: "PR_GET_PDEATHSIG"}, Sub{Sel: 25, Name: "PR_GET_TSC"}, Sub{Sel: 37, Name: "PR_GET_CHILD_SUBREAPER"}),
			list([]Arg{wr("name", 16)}, Sub{Sel: 16, Name: "PR_GET_NAME"}),
			list([]Arg{wrN("auxv", 2, 1).over(4096, einval).when(RetBytes), val("size"), val("arg4"), val("arg5")}, Sub{Sel: 0x41555856, Name: "PR_GET_AUXV"}),
			same(Guest, 40, "PR_GET_TID_ADDRESS", "kept by the guest's kernel"),
		).looks()
	r.Subs = append(r.Subs, Sub{Sel: 15, Name: "PR_SET_NAME", Class: Both, Args: []Arg{name("name", 16, 0).capped(16)},
		Note: "set at home and on the host"})
	for i := range r.Subs { // of these only some can take something from the process, or give it
		switch s := &r.Subs[i]; s.Name {
		case "PR_SET_KEEPCAPS", "PR_CAPBSET_DROP", "PR_SET_SECUREBITS", "PR_CAP_AMBIENT":
		default:
			s.Blind = true
		}
	}
	return r.note("Guest: PR_SET_VMA_ANON_NAME, which names own memory; Home: PR_SET_DUMPABLE with 1")
}

// keyctlRow is the commands of keyrings that programs use, all of which look at home's.
func keyctlRow() Row {
	key, what, ring := num("key"), name("type", 32, einval), num("ring")
	return come(250, "keyctl", "a command that this table does not know").args(num("cmd"), val("arg2"), val("arg3"), val("arg4"), val("arg5")).by(0,
		list([]Arg{key, num("create")}, Sub{Sel: 0, Name: "KEYCTL_GET_KEYRING_ID"}),
		list([]Arg{str("name")}, Sub{Sel: 1, Name: "KEYCTL_JOIN_SESSION_KEYRING"}),
		list([]Arg{key, rdN("payload", 3, 1).over(1<<20-8192, einval), val("plen")}, Sub{Sel: 2, Name: "KEYCTL_UPDATE"}),
		list([]Arg{key}, Sub{Sel: 3, Name: "KEYCTL_REVOKE"}, Sub{Sel: 7, Name: "KEYCTL_CLEAR"}, Sub{Sel: 14, Name: "KEYCTL_SET_REQKEY_KEYRING"},
			Sub{Sel: 16, Name: "KEYCTL_ASSUME_AUTHORITY"}, Sub{Sel: 21, Name: "KEYCTL_INVALIDATE"}),
		list([]Arg{key, num("uid"), num("gid")}, Sub{Sel: 4, Name: "KEYCTL_CHOWN"}),
		list([]Arg{key, num("perm")}, Sub{Sel: 5, Name: "KEYCTL_SETPERM"}),
		list([]Arg{key, wrN("buf", 3, 1).capped(maxXattr).when(RetBytes), val("buflen")}, Sub{Sel: 6, Name: "KEYCTL_DESCRIBE"}, Sub{Sel: 11, Name: "KEYCTL_READ"},
			Sub{Sel: 17, Name: "KEYCTL_GET_SECURITY"}),
		list([]Arg{key, ring}, Sub{Sel: 8, Name: "KEYCTL_LINK"}, Sub{Sel: 9, Name: "KEYCTL_UNLINK"}, Sub{Sel: 22, Name: "KEYCTL_GET_PERSISTENT"}),
		list([]Arg{key, what, str("description"), ring}, Sub{Sel: 10, Name: "KEYCTL_SEARCH"}),
		list([]Arg{key, num("timeout")}, Sub{Sel: 15, Name: "KEYCTL_SET_TIMEOUT"}),
		list([]Arg{wrN("buf", 2, 1).capped(4096).when(RetBytes), val("buflen")}, Sub{Sel: 31, Name: "KEYCTL_CAPABILITIES"}),
	)
}

func semctlRow() Row {
	return come(66, "semctl", "arrays whose length is known to the kernel only").args(num("semid"), num("semnum"), num("cmd"), val("arg")).by(2,
		list([]Arg{}, Sub{Sel: 0, Name: "IPC_RMID"}, Sub{Sel: 11, Name: "GETPID"}, Sub{Sel: 12, Name: "GETVAL"}, Sub{Sel: 14, Name: "GETNCNT"}, Sub{Sel: 15, Name: "GETZCNT"}),
		list([]Arg{num("val")}, Sub{Sel: 16, Name: "SETVAL"}),
		list([]Arg{rd("buf", 104)}, Sub{Sel: 1, Name: "IPC_SET"}),
		list([]Arg{wr("buf", 104)}, Sub{Sel: 2, Name: "IPC_STAT"}, Sub{Sel: 18, Name: "SEM_STAT"}, Sub{Sel: 20, Name: "SEM_STAT_ANY"}),
		list([]Arg{wr("buf", 40)}, Sub{Sel: 3, Name: "IPC_INFO"}, Sub{Sel: 19, Name: "SEM_INFO"}),
	)
}

func msgctlRow() Row {
	return come(71, "msgctl", "a command that this table does not know").args(num("msqid"), num("cmd"), val("buf")).by(1,
		list([]Arg{}, Sub{Sel: 0, Name: "IPC_RMID"}),
		list([]Arg{rd("buf", 120)}, Sub{Sel: 1, Name: "IPC_SET"}),
		list([]Arg{wr("buf", 120)}, Sub{Sel: 2, Name: "IPC_STAT"}, Sub{Sel: 11, Name: "MSG_STAT"}, Sub{Sel: 13, Name: "MSG_STAT_ANY"}),
		list([]Arg{wr("buf", 32)}, Sub{Sel: 3, Name: "IPC_INFO"}, Sub{Sel: 12, Name: "MSG_INFO"}),
	)
}
