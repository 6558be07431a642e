package eligible

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mosix/internal/image"
	"mosix/internal/procfs"
)

var recordings = procfs.FS{Root: "testdata/proc"}

const recordedUID = 65534

func recorded(t *testing.T, pid int, thorough bool) Facts {
	t.Helper()
	f, err := Gather(recordings, pid, Options{Thorough: thorough})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func words(rs image.Refusals) []string {
	out := []string{}
	for _, r := range rs {
		out = append(out, r.What)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wantWords compares reasons, and that each is a sentence with evidence.
func wantWords(t *testing.T, rs image.Refusals, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := words(rs); !slices.Equal(got, want) {
		t.Errorf("reasons %q, want %q: %v", got, want, rs)
	}
	for _, r := range rs {
		if r.Evidence == "" || !strings.HasSuffix(r.Why, ".") || strings.Contains(r.Why+r.Evidence, "%!") {
			t.Errorf("not a sentence with evidence: %+v", r)
		}
	}
}

func TestRecordedProcesses(t *testing.T) {
	owner, root := Asker{UID: recordedUID, GID: recordedUID}, Asker{Root: true}
	for _, thorough := range []bool{false, true} {
		wantWords(t, Judge(recorded(t, 4711, thorough), owner, nil))
		wantWords(t, Judge(recorded(t, 4711, thorough), root, nil))
		wantWords(t, Judge(recorded(t, 4712, thorough), owner, nil), DeviceMapping)
		wantWords(t, Judge(recorded(t, 2, thorough), root, nil), KernelThread)
		wantWords(t, Judge(recorded(t, 2, thorough), owner, nil), KernelThread)
	}
	rs := Judge(recorded(t, 4712, false), owner, nil)
	if len(rs) != 1 || !strings.Contains(rs[0].Evidence, "/dev/dri/renderD128") {
		t.Errorf("the evidence does not name the device: %v", rs)
	}
}

// Each row changes one fact of a process that can move, and names what must come of it.
func TestJudge(t *testing.T) {
	area := func(name string, set func(*Area)) func(*Facts) {
		return func(f *Facts) {
			a := f.Areas[0]
			a.Name, a.Flags, a.FSType, a.Known, a.Device = name, "", "ext4", false, false
			if set != nil {
				set(&a)
			}
			f.Areas = append(f.Areas, a)
		}
	}
	fd := func(link string) func(*Facts) {
		return func(f *Facts) { f.FDs = append(f.FDs, procfs.FD{N: 9, Link: link}) }
	}
	timer := func(clock int) func(*Facts) {
		return func(f *Facts) { f.Timers = append(f.Timers, procfs.Timer{ID: 3, Clock: clock}) }
	}
	thread := func(set func(*Thread)) func(*Facts) {
		return func(f *Facts) {
			th := f.Threads[0]
			th.TID, th.InnerTID = 4800, 4800
			set(&th)
			f.Threads = append(f.Threads, th)
		}
	}
	shared := func(s Shared) func(*Facts) {
		return func(f *Facts) { f.Shared = append(f.Shared, s) }
	}
	alone := Shared{Kind: SharedMemfd, OwnFD: -1, Writable: true}
	with := func(set func(*Shared)) Shared { s := alone; set(&s); return s }

	for name, c := range map[string]struct {
		change func(*Facts)
		want   []string
	}{
		"nothing":                 {func(*Facts) {}, nil},
		"the agent":               {func(f *Facts) { f.IsAgent = true }, []string{Agent}},
		"zombie":                  {func(f *Facts) { f.Stat.State = 'Z' }, []string{Ended}},
		"exiting":                 {func(f *Facts) { f.Stat.Flags |= 4 }, []string{Ended}},
		"dumping core":            {func(f *Facts) { f.Status.CoreDumping = true }, []string{Ended}},
		"leader ended":            {func(f *Facts) { f.Stat.State, f.Stat.Threads = 'Z', 3 }, []string{LeaderEnded}},
		"set-id thread":           {thread(func(th *Thread) { th.UID.Saved = 7 }), []string{NotTraceable, SetID}},
		"set-gid":                 {thread(func(th *Thread) { th.GID.Effective = 7 }), []string{NotTraceable, SetID}},
		"root thread":             {thread(func(th *Thread) { th.UID = procfs.IDs{} }), []string{NotTraceable, Privileged}},
		"file system uid of root": {thread(func(th *Thread) { th.UID.FS = 0 }), []string{Privileged}},
		"capability":              {thread(func(th *Thread) { th.Caps.Permitted = 1 << 10 }), []string{NotTraceable, Privileged}},
		"inheritable only":        {thread(func(th *Thread) { th.Caps.Inheritable = 1 << 10 }), nil},
		"undumpable":              {func(f *Facts) { f.Owner = 0 }, []string{Undumpable}},
		"filter in one thread":    {thread(func(th *Thread) { th.Seccomp = 2 }), []string{Seccomp}},
		"strict mode":             {thread(func(th *Thread) { th.Seccomp = 1 }), []string{Seccomp}},
		"one thread traced":       {thread(func(th *Thread) { th.TracerPID = 9 }), []string{Traced}},
		"worker of io_uring":      {thread(func(th *Thread) { th.Comm, th.Flags = "iou-wrk-4711", th.Flags|procfs.FlagIOWorker }), []string{IOUring}},
		"only called so":          {thread(func(th *Thread) { th.Comm = "iou-wrk-4711" }), nil},
		"vhost":                   {thread(func(th *Thread) { th.Comm, th.Flags = "vhost-4711", th.Flags|procfs.FlagUserWorker }), []string{KernelWorker}},
		"fifo":                    {thread(func(th *Thread) { th.Policy = procfs.SchedFIFO }), []string{Realtime}},
		"deadline":                {thread(func(th *Thread) { th.Policy = procfs.SchedDeadline }), []string{Realtime}},
		"batch":                   {thread(func(th *Thread) { th.Policy = procfs.SchedBatch }), nil},
		"init of a container":     {func(f *Facts) { f.Status.NSPID = []int{4711, 1} }, []string{Init}},
		"deep in a container":     {func(f *Facts) { f.Status.NSPID = []int{4711, 12, 7} }, []string{PIDNamespace}},
		"high number":             {thread(func(th *Thread) { th.InnerTID = 32768 }), []string{PIDMax}},
		"highest number":          {thread(func(th *Thread) { th.InnerTID = 32767 }), nil},
		"high only outside":       {thread(func(th *Thread) { th.TID, th.InnerTID = 99999, 12 }), nil},
		"time namespace":          {func(f *Facts) { f.NS.Time++ }, []string{TimeNamespace}},
		"time of its children":    {func(f *Facts) { f.NS.Time, f.NS.TimeChildren = 5, 6 }, []string{TimeNamespace}},
		"PIDs of its children":    {func(f *Facts) { f.NS.PID, f.NS.PIDChildren = 5, procfs.NoNamespace }, []string{PIDNamespace}},
		"another number inside":   {func(f *Facts) { f.Status.NSPID = []int{f.PID, 7} }, []string{PIDNamespace}},
		"other namespaces":        {func(f *Facts) { f.NS.PID, f.NS.Mount, f.NS.Net, f.NS.UTS, f.NS.IPC, f.NS.Cgroup = 1, 1, 1, 1, 1, 1 }, nil},
		"user namespace, no map":  {func(f *Facts) { f.NS.User++ }, []string{UserNamespace}},
		"user namespace, mapped": {func(f *Facts) {
			f.NS.User++
			f.UIDMap = []procfs.IDRange{{Inside: 0, Outside: recordedUID, Count: 1}}
			f.GIDMap = f.UIDMap
		}, nil},
		"32 bits":                   {func(f *Facts) { f.Auxv.Class32 = true }, []string{Bits32}},
		"read implies exec":         {func(f *Facts) { f.Personality = 0x400000 }, []string{Personality}},
		"no randomization":          {func(f *Facts) { f.Personality = 0x40000 }, nil},
		"shadow stack":              {func(f *Facts) { f.Status.ThreadFeatures = "shstk wrss" }, []string{ShadowStack}},
		"vfork":                     {func(f *Facts) { f.SameSpace = []int{5} }, []string{SharedSpace}},
		"io_uring":                  {fd("anon_inode:[io_uring]"), []string{IOUring}},
		"bpf map":                   {fd("anon_inode:bpf-map"), []string{BPF}},
		"bpf program":               {fd("anon_inode:bpf-prog"), []string{BPF}},
		"perf":                      {fd("anon_inode:[perf_event]"), []string{Perf}},
		"kvm":                       {fd("anon_inode:kvm-vcpu:0"), []string{KVM}},
		"vfio":                      {fd("anon_inode:[vfio-device]"), []string{VFIO}},
		"userfaultfd":               {fd("anon_inode:[userfaultfd]"), []string{Userfaultfd}},
		"signalfd":                  {fd("anon_inode:[signalfd]"), nil},
		"a timer":                   {timer(1), nil},
		"a timer on CPU time":       {timer(2), []string{CPUTimer}},
		"on another's CPU time":     {timer(-1234), []string{CPUTimer}},
		"harmless descriptors":      {func(f *Facts) { fd("anon_inode:[eventfd]")(f); fd("anon_inode:[eventpoll]")(f); fd("socket:[1]")(f) }, nil},
		"device by name":            {area("/dev/ttyACM0", nil), []string{DeviceMapping}},
		"graphics card":             {area("/dev/nvidia0", nil), []string{DeviceMapping}},
		"graphics card, by flag":    {area("/dev/dri/renderD128", func(a *Area) { a.Flags = "rd wr io pf" }), []string{DeviceMapping}},
		"buffer of a card":          {area("/dmabuf:", nil), []string{DeviceMapping}},
		"device by file":            {area("/srv/container/gpu", func(a *Area) { a.Known, a.Device = true, true }), []string{DeviceMapping}},
		"a file under /dev":         {area("/dev/data", func(a *Area) { a.Known = true }), nil},
		"posix shared memory, rdly": {area("/dev/shm/x", nil), nil},
		"packet ring":               {area("socket:[4711]", nil), []string{DeviceMapping}},
		"perf ring":                 {area("anon_inode:[perf_event]", nil), []string{DeviceMapping}},
		"page frames":               {area("/opt/x", func(a *Area) { a.Flags = "rd mr pf" }), []string{DeviceMapping}},
		"ring of io_uring":          {area("anon_inode:[io_uring]", nil), []string{IOUring}},
		"aio":                       {area("/[aio] (deleted)", nil), []string{AIO}},
		"secret":                    {area("/secretmem (deleted)", nil), []string{SecretMemory}},
		"huge pages":                {area("/anon_hugepage (deleted)", nil), []string{HugePages}},
		"huge pages by flag":        {area("/SYSV00000000 (deleted)", func(a *Area) { a.Flags = "rd wr sh ht" }), []string{HugePages}},
		"huge pages in use":         {func(f *Facts) { f.Status.HugetlbBytes = 2 << 20 }, []string{HugePages}},
		"fuse":                      {area("/home/u/remote/prog", func(a *Area) { a.FSType = "fuse.sshfs" }), []string{FUSEMapping}},
		"virtiofs":                  {area("/prog", func(a *Area) { a.FSType = "virtiofs" }), nil},
		"uprobes":                   {area("[uprobes]", nil), []string{Uprobes}},
		"sealed":                    {area("", func(a *Area) { a.Flags = "rd wr sl" }), []string{SealedMemory}},
		"sealed by the kernel":      {area("[vdso]", func(a *Area) { a.Flags = "rd ex sl" }), nil},
		"watched by userfaultfd":    {area("", func(a *Area) { a.Flags = "rd wr um" }), []string{Userfaultfd}},
		"protected by userfaultfd":  {area("", func(a *Area) { a.Flags = "rd wr uw" }), []string{Userfaultfd}},
		"copied by an agent": {func(f *Facts) {
			area("", func(a *Area) { a.Flags = "rd wr uw" })(f)
			area("/memfd:mosix-shadow (deleted)", nil)(f)
		}, nil},
		"locked":                   {area("", func(a *Area) { a.Flags = "rd wr lo" }), nil},
		"key":                      {area("", func(a *Area) { a.Flags, a.ProtectionKey = "rd wr", 1 }), []string{ProtectionKey}},
		"private shared memory":    {shared(alone), nil},
		"shared":                   {shared(with(func(s *Shared) { s.Others = []Holder{{PID: 5, FD: -1, Write: true}} })), []string{SharedMemory}},
		"shared by descriptor":     {shared(with(func(s *Shared) { s.Others = []Holder{{PID: 5, FD: 3}, {PID: 6, FD: -1}} })), []string{SharedMemory}},
		"shared with an X server":  {shared(with(func(s *Shared) { s.Kind, s.Others = SharedSysV, []Holder{{PID: 5, FD: -1, Comm: "Xorg"}} })), []string{SharedMemory}},
		"shared with a compositor": {shared(with(func(s *Shared) { s.Others = []Holder{{PID: 5, FD: 3, Comm: "sway"}} })), []string{SharedMemory}},
		"who shares is unknown":    {shared(with(func(s *Shared) { s.Unscanned = 4 })), []string{SharedMemory}},
		"attachable":               {shared(with(func(s *Shared) { s.Kind, s.Attachable = SharedSysV, true })), []string{SharedMemory}},
		"own descriptor":           {shared(with(func(s *Shared) { s.OwnFD = 3 })), nil},
		"own descriptor of a file": {shared(with(func(s *Shared) { s.Kind, s.Writable, s.OwnFD = SharedFile, false, 3 })), []string{AliasedMemory}},
		"written file":             {shared(with(func(s *Shared) { s.Kind = SharedFile })), []string{SharedMemory}},
		"read file":                {shared(with(func(s *Shared) { s.Kind, s.Writable = SharedFile, false })), nil},
		"could not be read":        {func(f *Facts) { f.Unread = []string{"maps: permission denied"} }, []string{Unreadable}},
		"all at once": {func(f *Facts) {
			thread(func(th *Thread) { th.Seccomp, th.TracerPID, th.Policy = 2, 3, procfs.SchedRR })(f)
			area("/dev/fb0", nil)(f)
			fd("anon_inode:[io_uring]")(f)
			f.NS.Time++
		}, []string{Seccomp, Traced, Realtime, DeviceMapping, IOUring, TimeNamespace}},
	} {
		t.Run(name, func(t *testing.T) {
			f := recorded(t, 4711, false)
			target := &Target{Name: "n2", CPU: LocalCPU(), VDSOBuildID: f.VDSOBuildID, PIDMax: 32768}
			c.change(&f)
			wantWords(t, Judge(f, OwnerOf(f), target), c.want...)
		})
	}
}

// Root may move what others own, but privileges only by his explicit word; nobody else's word counts.
func TestAskers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		asker  Asker
		want   []string
	}{
		"owner":                     {nil, Asker{UID: recordedUID, GID: recordedUID}, nil},
		"another user":              {nil, Asker{UID: 1000, GID: 1000}, []string{NotTraceable}},
		"another group":             {nil, Asker{UID: recordedUID, GID: 1000}, []string{NotTraceable}},
		"root":                      {nil, Asker{Root: true}, nil},
		"capability, same":          {capable, Asker{UID: recordedUID, GID: recordedUID, Caps: 1 << 21}, []string{Privileged}},
		"capability, root":          {capable, Asker{Root: true}, []string{Privileged}},
		"capability, root's word":   {capable, Asker{Root: true, AllowPrivileged: true}, nil},
		"capability, a user's word": {capable, Asker{UID: recordedUID, GID: recordedUID, AllowPrivileged: true}, []string{NotTraceable, Privileged}},
		"undumpable, root's word":   {func(f *Facts) { f.Owner = 0 }, Asker{Root: true, AllowPrivileged: true}, []string{Undumpable}},
		"set-id, root's word":       {setID, Asker{Root: true, AllowPrivileged: true}, []string{SetID}},
		"set-id, its user":          {setID, Asker{UID: recordedUID, GID: recordedUID}, []string{NotTraceable, SetID, Privileged}},
		// What only the owner may read in /proc is not told to others, nor that it exists.
		"private reasons": {func(f *Facts) {
			f.FDs = append(f.FDs, procfs.FD{N: 7, Link: "anon_inode:[io_uring]"})
			f.Areas[0].Name = "/dev/secret"
			f.Areas[0].Known = false
			f.Threads[0].Seccomp = 2
		}, Asker{UID: 1000, GID: 1000}, []string{NotTraceable, Seccomp}},
	} {
		t.Run(name, func(t *testing.T) {
			f := recorded(t, 4711, false)
			if c.change != nil {
				c.change(&f)
			}
			wantWords(t, Judge(f, c.asker, nil), c.want...)
		})
	}
}

func capable(f *Facts) {
	f.Threads[0].Caps.Permitted = 1 << 21
	f.Status.Caps = f.Threads[0].Caps
}

func setID(f *Facts) {
	f.Threads[0].UID = procfs.IDs{Real: recordedUID}
	f.Status.UID = f.Threads[0].UID
	f.Owner = 0
}

func TestTarget(t *testing.T) {
	f := recorded(t, 4711, false)
	own := Target{Name: "n2", CPU: LocalCPU(), VDSOBuildID: f.VDSOBuildID, PIDMax: 4194304}
	for name, c := range map[string]struct {
		change func(*Target)
		want   []string
		said   string
	}{
		"same":           {func(*Target) {}, nil, ""},
		"other kernel":   {func(t *Target) { t.VDSOBuildID = "beef" }, nil, ""},
		"small numbers":  {func(t *Target) { t.PIDMax = 4711 }, []string{PIDMax}, "pid_max is 4711"},
		"enough numbers": {func(t *Target) { t.PIDMax = 4712 }, nil, ""},
		"old processor": {func(t *Target) {
			t.CPU.Words = slices.Clone(t.CPU.Words)
			t.CPU.Words[0] &^= 1 << 23
		}, []string{CPUFeature}, "missing: popcnt"},
	} {
		t.Run(name, func(t *testing.T) {
			target := own
			c.change(&target)
			rs := Judge(f, OwnerOf(f), &target)
			wantWords(t, rs, c.want...)
			if c.said != "" && !strings.Contains(rs.String(), c.said) {
				t.Errorf("%v does not say %q", rs, c.said)
			}
		})
	}
}

// TestOwnVDSO: a process whose vDSO is not the kernel's would not have its own elsewhere.
func TestOwnVDSO(t *testing.T) {
	f := recorded(t, 4711, false)
	target := Target{Name: "n2", CPU: LocalCPU(), VDSOBuildID: f.VDSOBuildID, PIDMax: 4194304}
	f.VDSOBuildID = "beef"
	wantWords(t, Judge(f, OwnerOf(f), &target), VDSO)
}

func TestMissing(t *testing.T) {
	c := LocalCPU()
	if m := Missing(c, c); len(m) > 0 {
		t.Errorf("this processor lacks what it has: %q", m)
	}
	if m := Missing(CPU{}, c); len(m) > 0 {
		t.Errorf("a processor without features lacks %q", m)
	}
	if m := Missing(c, CPU{}); !slices.Contains(m, "sse2") || !slices.Contains(m, "cmov") {
		t.Errorf("a processor without features has all but %q", m)
	}
	need := CPU{Words: slices.Clone(c.Words), XCR0: 0xe7, XSave: make([]XSaveSet, 8), HWCap2: 2}
	need.XSave[5] = XSaveSet{1088, 64}
	have := need
	have.XCR0, have.HWCap2 = 7, 0
	if m := Missing(need, have); !reflect.DeepEqual(m, []string{"avx512 opmask registers", "avx512 zmm_hi256 registers", "avx512 hi16_zmm registers", "fsgsbase instructions"}) {
		t.Errorf("%q", m)
	}
	have = need
	have.XSave = slices.Clone(need.XSave)
	have.XSave[5].Offset = 832
	if m := Missing(need, have); !reflect.DeepEqual(m, []string{"avx512 opmask registers at the same place of the XSAVE area"}) {
		t.Errorf("%q", m)
	}
	// A newer agent compares words that this one has no names for.
	need = CPU{Words: append(slices.Clone(c.Words), 1<<3)}
	if m := Missing(need, c); len(m) != 1 || !strings.Contains(m[0], "bit 3") {
		t.Errorf("%q", m)
	}
}

// What the kernel says about the processor is also found by CPUID, and every word names its bits once.
func TestLocalCPU(t *testing.T) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip("no /proc/cpuinfo: ", err)
	}
	c := LocalCPU()
	flags := ""
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "flags"); ok {
			flags = v
			break
		}
	}
	alias := map[string]string{"pni": "sse3", "ssse3": "ssse3", "cx16": "cx16", "abm": "abm", "clflush": "clflush"}
	checked := 0
	for _, fl := range strings.Fields(flags) {
		name := fl
		if a, ok := alias[fl]; ok {
			name = a
		}
		for i := range cpuWords {
			for bit := range 32 {
				if cpuWords[i].mask()&(1<<bit) != 0 && cpuWords[i].name(bit) == name {
					checked++
					if c.Words[i]&(1<<bit) == 0 {
						t.Errorf("the kernel has %s, CPUID has not", fl)
					}
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d features could be compared", checked)
	}
	if c.XCR0&3 != 3 || len(c.Words) != len(cpuWords) {
		t.Errorf("%+v", c)
	}
	for i := range cpuWords {
		w := &cpuWords[i]
		for bit := range 32 {
			named := !strings.HasPrefix(w.name(bit), "cpuid ")
			if named && slices.Contains(w.ignore, bit) {
				t.Errorf("leaf %#x.%d: bit %d (%s) has a name and is ignored", w.leaf, w.sub, bit, w.name(bit))
			}
		}
	}
}

func TestUnfit(t *testing.T) {
	busy := Activity{Ready: 3 * time.Second, Last: 900 * time.Millisecond, Period: time.Second}
	name := func(s string) func(*Facts) { return func(f *Facts) { f.Stat.Comm = s } }
	leader := func(s string, tty uint32) func(*Facts) {
		return func(f *Facts) { f.Stat.Comm, f.Stat.Session, f.Stat.TTY = s, f.PID, tty }
	}
	const tty1, pts0 = 4<<8 | 1, 136 << 8
	for what, c := range map[string]struct {
		change func(*Facts)
		act    Activity
		want   []string
	}{
		"busy":                   {func(*Facts) {}, busy, nil},
		"just two seconds":       {func(*Facts) {}, Activity{Ready: 2 * time.Second, Last: time.Second, Period: time.Second}, []string{Young}},
		"half the period":        {func(*Facts) {}, Activity{Ready: 3 * time.Second, Last: 500 * time.Millisecond, Period: time.Second}, []string{Idle}},
		"nothing":                {func(*Facts) {}, Activity{}, []string{Young, Idle}},
		"begun a moment ago":     {func(*Facts) {}, Activity{Newly: true}, nil},
		"many threads":           {func(*Facts) {}, Activity{Ready: 8 * time.Second, Last: 4 * time.Second, Period: time.Second}, nil},
		"root":                   {func(f *Facts) { f.Threads[0].UID = procfs.IDs{}; f.Status.UID = procfs.IDs{}; f.Owner = 0 }, busy, []string{Privileged}},
		"capability":             {capable, busy, []string{Privileged}},
		"compositor":             {name("gnome-shell"), busy, []string{Desktop}},
		"a long name":            {name("xdg-desktop-por"), busy, []string{Desktop}},
		"a name with a blank":    {name("tmux: server"), busy, []string{Session}},
		"sshd":                   {name("sshd"), busy, []string{Session}},
		"script":                 {name("bash"), busy, nil},
		"login shell":            {leader("bash", pts0), busy, []string{Session}},
		"program on its own pty": {leader("python3", pts0), busy, nil},
		"program on the console": {leader("game", tty1), busy, []string{Session}},
		"job on the console":     {func(f *Facts) { f.Stat.TTY = tty1 }, busy, nil},
		"daemon":                 {leader("python3", 0), busy, nil},
		"the desktop's own services": {func(f *Facts) {
			f.Cgroups = []procfs.Cgroup{{Path: "/user.slice/user@1000.service/session.slice/x.service"}}
		}, busy, []string{Desktop}},
		"an app": {func(f *Facts) { f.Cgroups = []procfs.Cgroup{{Path: "/user.slice/app.slice/my-session.slice.scope"}} }, busy, nil},
	} {
		t.Run(what, func(t *testing.T) {
			f := recorded(t, 4711, false)
			c.change(&f)
			wantWords(t, Unfit(f, c.act), c.want...)
		})
	}
}

func TestParseRules(t *testing.T) {
	r, err := ParseRules("desktop a \"b c\" # note\n\n shell\tzsh\ncgroup x.slice\n")
	if err != nil || r.names["a"] != Desktop || r.names["b c"] != Desktop || !r.shells["zsh"] || !slices.Equal(r.cgroups, []string{"x.slice"}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"desk a", "desktop \"a", "desktop \"\""} {
		if _, err := ParseRules(bad); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add(defaultRules)
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRules(s); err == nil {
			_ = r.Unfit(Facts{}, Activity{})
		}
	})
}

func FuzzBuildID(f *testing.F) {
	if b := ownVDSO(f); b != nil {
		f.Add(b)
	}
	f.Add([]byte("\x7fELF\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := BuildID(b); err == nil && id == "" {
			t.Error("an empty build id")
		}
	})
}

// TestPoorerProcessor: what Without takes away is missing, by name, and a process is refused for it.
func TestPoorerProcessor(t *testing.T) {
	cpu := LocalCPU()
	if !cpu.has("avx") {
		t.Skip("this machine has no AVX to take away")
	}
	poor := cpu.Without("avx")
	missing := Missing(cpu, poor)
	if !slices.Contains(missing, "avx") || !slices.Contains(missing, "avx registers") || len(Missing(poor, cpu)) != 0 || !cpu.has("avx") {
		t.Errorf("it lacks %v; and the other way %v", missing, Missing(poor, cpu))
	}
	f := Facts{PID: 7, CPU: cpu}
	r := &refusals{}
	judgeTarget(r, &f, &Target{Name: "n2", CPU: poor})
	if rs := r.done(); len(rs) != 1 || rs[0].What != CPUFeature || !strings.Contains(rs[0].Evidence, "avx") {
		t.Errorf("refusals %v", rs)
	}
	// And from there to here: a program that has found room for its registers there overruns it.
	f, r = Facts{PID: 7, CPU: poor}, &refusals{}
	judgeTarget(r, &f, &Target{Name: "n1", CPU: cpu})
	if rs := r.done(); len(rs) != 1 || rs[0].What != CPUFeature || !strings.Contains(rs[0].Evidence, "avx") {
		t.Errorf("refusals of more registers %v", rs)
	}
	withTiles := poor
	withTiles.XCR0 |= 3 << 17
	if w := Wider(poor, withTiles); len(w) > 0 {
		t.Errorf("the tiles of AMX take room: %v", w)
	}
}

// TestSentences: what a kind of refusal has in common with others is told apart by its sentence.
func TestSentences(t *testing.T) {
	for _, c := range []struct {
		change func(*Facts)
		want   string
	}{
		{func(f *Facts) { f.Areas = append(f.Areas, Area{Area: procfs.Area{Name: "/dev/dri/card0"}}) }, "graphics card"},
		{func(f *Facts) { f.Areas = append(f.Areas, Area{Area: procfs.Area{Name: "/dev/fb0"}}) }, "memory of a device"},
		{func(f *Facts) {
			f.Shared = append(f.Shared, Shared{Kind: SharedSysV, OwnFD: -1, Others: []Holder{{PID: 5, FD: -1, Comm: "Xorg"}}})
		}, "MIT-SHM"},
		{func(f *Facts) {
			f.Shared = append(f.Shared, Shared{Kind: SharedMemfd, OwnFD: -1, Others: []Holder{{PID: 5, FD: 3, Comm: "sway"}}})
		}, "Wayland"},
		{func(f *Facts) {
			f.Shared = append(f.Shared, Shared{Kind: SharedMemfd, OwnFD: -1, Others: []Holder{{PID: 5, FD: 3, Comm: "cat"}}})
		}, "shares memory with another process"},
	} {
		f := recorded(t, 4711, false)
		c.change(&f)
		rs := Judge(f, OwnerOf(f), nil)
		if len(rs) != 1 || !strings.Contains(rs[0].Why, c.want) {
			t.Errorf("%v does not say %q", rs, c.want)
		}
	}
}
