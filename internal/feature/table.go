package feature

// The features, in the order in which mosixctl check shows them. A new one gets the next free Bit.
var (
	Root = &Probe{Name: "root", Bit: 0, fn: root,
		Why: "the agent traces, makes namespaces and enters those of others"}

	PtraceSeize = &Probe{Name: "ptrace-seize", Since: "3.4", Bit: 1, fn: ptraceSeize,
		Why: "a process is stopped without a signal that its relatives could see"}
	PtraceRseq = &Probe{Name: "ptrace-rseq", Since: "5.13", Bit: 2, fn: ptraceRseq, Config: "CONFIG_RSEQ",
		Why: "restartable sequences are found, unregistered in the shadow and registered in the guest"}
	SuspendSeccomp = &Probe{Name: "ptrace-suspend-seccomp", Since: "4.3", Bit: 3, fn: suspendSeccomp, Config: "CONFIG_CHECKPOINT_RESTORE",
		Why: "injected calls of the agent pass the filter of a guest"}
	XState = &Probe{Name: "ptrace-xstate", Since: "2.6", Bit: 4, fn: xstate,
		Why: "vector registers travel whole"}
	ProcessVM = &Probe{Name: "process-vm", Since: "3.2", Bit: 5, fn: processVM, Config: "CONFIG_CROSS_MEMORY_ATTACH",
		Why: "pages and arguments of calls are copied between processes"}
	Pidfd = &Probe{Name: "pidfd", Since: "5.6", Bit: 6, fn: pidfd,
		Why: "a process is held by a handle that is never reused, and its descriptors are taken over"}
	Kcmp = &Probe{Name: "kcmp", Since: "3.5", Bit: 7, fn: kcmp, Config: "CONFIG_KCMP",
		Why: "it is told whether two processes share memory or descriptors"}

	SeccompNotify = &Probe{Name: "seccomp-notify", Since: "5.0", Bit: 8, fn: seccompNotify, Config: "CONFIG_SECCOMP_FILTER",
		Why: "calls of a guest go to its home"}
	SeccompWaitKillable = &Probe{Name: "seccomp-wait-killable", Since: "5.19", Bit: 9, fn: seccompWaitKillable,
		Why: "a signal does not tear a forwarded call in two"}
	SeccompTSyncESRCH = &Probe{Name: "seccomp-tsync-esrch", Since: "5.7", Bit: 10, fn: seccompTSyncESRCH,
		Why: "one filter with one listener covers all threads of a guest"}
	SeccompSyncWakeUp = &Probe{Name: "seccomp-sync-wake-up", Since: "6.6", Bit: 11, fn: seccompSyncWakeUp,
		Why: "a forwarded call wakes the agent on the same processor", Without: "forwarded calls take longer on an idle machine"}

	UffdWPAsync = &Probe{Name: "userfaultfd-wp-async", Since: "6.7", Bit: 12, fn: uffdWPAsync, Config: "CONFIG_PTE_MARKER_UFFD_WP",
		Why: "pages that are written while they are copied are noted by the kernel", Without: "a process is stopped while all its memory is copied"}
	PagemapScan = &Probe{Name: "pagemap-scan", Since: "6.7", Bit: 13, fn: pagemapScan, Config: "CONFIG_PROC_PAGE_MONITOR",
		Why: "those pages are found, and protected again, in one step", Without: "a process is stopped while all its memory is copied"}

	SetTID = &Probe{Name: "clone3-set-tid", Since: "5.5", Bit: 14, fn: setTID,
		Why: "a guest and its threads have the numbers that they have at home"}
	PIDNamespace = &Probe{Name: "namespace-pid", Since: "3.8", Bit: 15, fn: namespace(newPID), Config: "CONFIG_PID_NS",
		Why: "those numbers are free there"}
	MountNamespace = &Probe{Name: "namespace-mount", Since: "3.8", Bit: 16, fn: namespace(newMount),
		Why: "a guest sees no file of its host"}
	NetNamespace = &Probe{Name: "namespace-net", Since: "3.8", Bit: 17, fn: namespace(newNet), Config: "CONFIG_NET_NS",
		Why: "a guest reaches no network of its host"}
	IPCNamespace = &Probe{Name: "namespace-ipc", Since: "3.8", Bit: 18, fn: namespace(newIPC), Config: "CONFIG_IPC_NS",
		Why: "a guest reaches no shared memory of its host"}
	UTSNamespace = &Probe{Name: "namespace-uts", Since: "3.8", Bit: 19, fn: namespace(newUTS), Config: "CONFIG_UTS_NS",
		Why: "a guest has the host name of its home"}
	UserNamespace = &Probe{Name: "namespace-user", Since: "3.8", Bit: 20, fn: namespace(newUser), Config: "CONFIG_USER_NS",
		Why: "a guest has no rights over anything of its host"}
	TimeNamespace = &Probe{Name: "namespace-time", Since: "5.6", Bit: 21, fn: namespace(newTime), Config: "CONFIG_TIME_NS",
		Why: "a guest's clocks are a matter of its own"}
	TimeOffsets = &Probe{Name: "time-offsets", Since: "5.6", Bit: 22, fn: timeOffsets, Config: "CONFIG_TIME_NS",
		Why: "a guest's monotonic clock goes on where it stood at home"}

	MemfdSeal = &Probe{Name: "memfd-seal", Since: "3.17", Bit: 23, fn: memfdSeal, Config: "CONFIG_MEMFD_CREATE",
		Why: "nobody can pull the shared page away from under the agent"}
	MMMap = &Probe{Name: "prctl-mm-map", Since: "3.18", Bit: 24, fn: mmMap, Config: "CONFIG_CHECKPOINT_RESTORE",
		Why: "heap, stack, arguments and environment lie where they lay at home"}
	MapFiles = &Probe{Name: "map-files", Since: "3.3", Bit: 25, fn: mapFiles, Config: "CONFIG_CHECKPOINT_RESTORE",
		Why: "a new agent opens the shared page of a shadow that it did not make"}
	RemapVDSO = &Probe{Name: "vdso-remap", Since: "4.8", Bit: 26, fn: remapVDSO, Config: "CONFIG_CHECKPOINT_RESTORE",
		Why: "the vDSO lies where the program has found it at home"}
	FSGSBase = &Probe{Name: "fsgsbase", Since: "5.9", Bit: 27, fn: fsgsBase, CPU: "fsgsbase",
		Why: "programs that set their segment bases by themselves are moved to nodes where they can", Without: "such programs do not move to or from this node"}

	CPUQuota = &Probe{Name: "cgroup-cpu", Since: "3.2", Bit: 28, fn: cpuQuota, Config: "CONFIG_CFS_BANDWIDTH",
		Why: "guests, and the nodes of a lab, get no more processor time than they may", Without: "the lab cannot make nodes of a fraction of a processor, and guests are not limited"}
	Schedstat = &Probe{Name: "schedstat", Since: "2.6", Bit: 29, fn: schedstat, Config: "CONFIG_SCHED_INFO",
		Why: "load is measured as time on a processor or waiting for one", Without: "load is sampled by counting runnable tasks"}
)

// All lists every feature.
func All() []*Probe {
	return []*Probe{
		Root,
		PtraceSeize, PtraceRseq, SuspendSeccomp, XState, ProcessVM, Pidfd, Kcmp,
		SeccompNotify, SeccompWaitKillable, SeccompTSyncESRCH, SeccompSyncWakeUp,
		UffdWPAsync, PagemapScan,
		SetTID, PIDNamespace, MountNamespace, NetNamespace, IPCNamespace, UTSNamespace, UserNamespace, TimeNamespace, TimeOffsets,
		MemfdSeal, MMMap, MapFiles, RemapVDSO, FSGSBase,
		CPUQuota, Schedstat,
	}
}
