package eligible

// Values of image.Refusal.What that Judge gives. They are released: programs compare them.
const (
	Agent         = "agent"            // it is this agent
	Ended         = "ended"            // a zombie, or ending
	Init          = "init"             // PID 1 of a namespace
	KernelThread  = "kernel-thread"    //
	LeaderEnded   = "leader-ended"     // the first thread is gone, others run on
	NotTraceable  = "not-traceable"    // the asking user has no right over it
	Privileged    = "privileged"       // uid 0 or a capability
	SetID         = "set-id"           // it runs with rights that its user does not have
	Traced        = "traced"           // a debugger has it
	Undumpable    = "undumpable"       // it keeps its memory to itself
	Unreadable    = "unreadable"       // the agent could not look at it
	Seccomp       = "seccomp"          // its own system-call filter
	Realtime      = "realtime"         // scheduling policy
	KernelWorker  = "kernel-worker"    // threads in it that the kernel runs
	IOUring       = "io-uring"         //
	AIO           = "aio"              // kernel AIO contexts
	BPF           = "bpf"              //
	Perf          = "perf"             // perf events
	KVM           = "kvm"              //
	VFIO          = "vfio"             //
	Userfaultfd   = "userfaultfd"      // its page faults are somebody's business
	CPUTimer      = "cpu-timer"        // a POSIX timer that counts CPU time
	DeviceMapping = "device-mapping"   //
	FUSEMapping   = "fuse-mapping"     // memory behind a file system that a program serves
	HugePages     = "hugetlb"          //
	SecretMemory  = "secret-memory"    // memfd_secret
	SealedMemory  = "sealed-memory"    // mseal
	ProtectionKey = "protection-key"   //
	ShadowStack   = "shadow-stack"     //
	Uprobes       = "uprobes"          //
	SharedMemory  = "shared-memory"    // somebody else has it, or can have it
	AliasedMemory = "aliased-memory"   // the process itself has it twice
	SharedSpace   = "shared-space"     // another process in the same address space
	Bits32        = "32-bit"           //
	Personality   = "personality"      //
	TimeNamespace = "time-namespace"   //
	PIDNamespace  = "pid-namespace"    // in which it, or its children, have other numbers
	UserNamespace = "user-namespace"   // its ids have no number outside
	VDSO          = "vdso"             // it has changed its own
	Dispatch      = "syscall-dispatch" // it serves its own system calls
	ProcessorMode = "processor-mode"   // RDTSC or CPUID are to fault in it
	LDT           = "ldt"              // it has segments of its own
	WriteExec     = "write-execute"    // it may make nothing executable, which our code must be
	CPUFeature    = "cpu"              // the target's processor lacks features
	PIDMax        = "pid-max"          // the target cannot give that number
)

// Values of image.Refusal.What that only Unfit gives.
const (
	Young   = "young"   // has not been ready to run for long enough in all
	Idle    = "idle"    // was not ready to run most of the last period
	Desktop = "desktop" // serves the person at the machine
	Session = "session" // holds a session together
)
