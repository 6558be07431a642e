package eligible

import (
	"fmt"
	"strings"

	"mosix/internal/image"
	"mosix/internal/procfs"
	"mosix/internal/stub"
)

// special reports whether an area is one that the kernel gives to every program.
func special(name string) bool {
	switch name {
	case "[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]", "[heap]", "[stack]":
		return true
	}
	return false
}

// deviceName reports whether an area belongs to a device or to another part of the kernel, by its file where that is known,
// else by its name.
func deviceName(a *Area) bool {
	if a.Known && a.Device {
		return true
	}
	for _, p := range []string{"anon_inode:", "socket:", "/dmabuf:", "/[aio]", "/secretmem", "/anon_hugepage"} {
		if strings.HasPrefix(a.Name, p) {
			return true
		}
	}
	if a.Known || !strings.HasPrefix(a.Name, "/dev/") {
		return false
	}
	for _, p := range []string{"/dev/shm/", "/dev/zero", "/dev/hugepages/", "/dev/mqueue/"} {
		if strings.HasPrefix(a.Name, p) {
			return false
		}
	}
	return true
}

// judgeMemory refuses areas that are not plain memory of the process.
func judgeMemory(r *refusals, f *Facts) {
	if f.Status.HugetlbBytes > 0 {
		r.add(HugePages, hugeWhy, "HugetlbPages: %d kB in /proc/%d/status", f.Status.HugetlbBytes>>10, f.PID)
	}
	watched := false // by an agent, which copies it just now
	for i := range f.Areas {
		watched = watched || strings.HasPrefix(f.Areas[i].Name, "/memfd:"+stub.Name)
	}
	for i := range f.Areas {
		a := &f.Areas[i]
		if special(a.Name) {
			continue
		}
		// Formatted only when something is wrong: there may be thousands of areas.
		ev := func() string { return fmt.Sprintf("%s in /proc/%d/maps", a.String(), f.PID) }
		switch {
		case strings.HasPrefix(a.Name, "anon_inode:[io_uring]"):
			r.add(IOUring, "It uses io_uring, whose kernel side cannot be moved; if the program has another backend (epoll, threads), start it with that.", "%s", ev())
		case strings.HasPrefix(a.Name, "/[aio]"):
			r.add(AIO, "It uses the kernel's asynchronous I/O (libaio), which cannot be moved.", "%s", ev())
		case strings.HasPrefix(a.Name, "/secretmem"):
			r.add(SecretMemory, "It has memory that not even the kernel reads (memfd_secret), so it cannot be carried anywhere.", "%s", ev())
		case strings.HasPrefix(a.Name, "/anon_hugepage"), a.FSType == "hugetlbfs", a.Flags.Has(procfs.FlagHugetlb):
			r.add(HugePages, hugeWhy, "%s", ev())
		case a.Name == image.VDSOName:
			r.add(VDSO, "It has a memory file mapped that bears the name of mosix's own; give it another.", "%s", ev())
		case a.Name == "[uprobes]":
			r.add(Uprobes, "A tracing tool has put probes into its code (uprobes); stop the tool first.", "%s", ev())
		case graphics(a.Name):
			r.add(DeviceMapping, "It has memory of a graphics card mapped (OpenGL, Vulkan, CUDA and their like) and must stay where the card is; a program that draws in software moves (LIBGL_ALWAYS_SOFTWARE=1).", "%s", ev())
		case deviceName(a):
			r.add(DeviceMapping, "It has memory of a device mapped and must stay where the device is.", "%s", ev())
		case isFUSE(a.FSType):
			r.add(FUSEMapping, "It has a file mapped that another program serves (FUSE); copying its memory would wait for that program. Use a copy of the file on a local disk.", "%s", ev())
		}
		if a.Flags == "" {
			continue
		}
		if (a.Flags.Has(procfs.FlagIO) || a.Flags.Has(procfs.FlagPFNMap)) && !graphics(a.Name) {
			r.add(DeviceMapping, "It has memory of a device mapped and must stay where the device is.", "%s", ev())
		}
		if a.Flags.Has(procfs.FlagUffdMissing) || a.Flags.Has(procfs.FlagUffdMinor) || a.Flags.Has(procfs.FlagUffdWP) && !watched {
			r.add(Userfaultfd, "Page faults in its memory are handled by a program (userfaultfd), itself or another, and its memory would be elsewhere.", "%s", ev())
		}
		if a.Flags.Has(procfs.FlagSealed) {
			r.add(SealedMemory, "It has sealed areas of its memory (mseal), which nobody can lay aside while it is away.", "%s", ev())
		}
		if a.Flags.Has(procfs.FlagShadowStack) {
			r.add(ShadowStack, "It uses a shadow stack of the processor, which cannot be set up anew elsewhere; start it with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK.", "%s", ev())
		}
		// An area that can only be executed gets a key from the kernel by itself, also on the host.
		if a.ProtectionKey != 0 && !(a.Executable() && !a.Readable()) {
			r.add(ProtectionKey, "It protects memory by keys of the processor (pkeys), which the host would number differently.",
				"key %d on %s", a.ProtectionKey, ev())
		}
	}
}

const hugeWhy = "It has memory in huge pages of its own choice (hugetlb), which the host has not reserved; transparent huge pages move."

// judgeShared refuses shared memory that is not wholly the process's own.
func judgeShared(r *refusals, f *Facts) {
	for i := range f.Shared {
		s := &f.Shared[i]
		ev := fmt.Sprintf("%s in /proc/%d/maps", s.Area.String(), f.PID)
		if s.Kind == SharedFile && s.Writable {
			r.add(SharedMemory, "It shares memory with whoever maps the same file, and its writes must reach that file at once; a program that does so stays at home.",
				"%s in /proc/%d/maps", s.WritableAt.String(), f.PID)
			continue
		}
		if s.Attachable {
			r.add(SharedMemory, "It has a System V segment that other programs can attach; remove the segment's key (ipcrm) once all have it who need it.", "%s", ev)
		}
		judgeHolders(r, f, s, ev)
		if s.Unscanned > 0 && len(s.Others) == 0 {
			r.add(SharedMemory, "It has shared memory, and it cannot be seen who else has it; an agent that runs as root can see.",
				"%s; %d processes could not be looked at", ev, s.Unscanned)
		}
		// Memory without a name is another thing: what is done to it through a descriptor is done at home, after the process.
		if s.OwnFD >= 0 && s.Kind == SharedFile {
			r.add(AliasedMemory, "It has a file open for writing that it also maps: away from home, what it writes would not be seen in the mapping. Programs that close the descriptor after mmap move.",
				"%s; fd %d is the same", ev, s.OwnFD)
		}
	}
}

// judgeHolders refuses an object that somebody has who does not move together with the process.
func judgeHolders(r *refusals, f *Facts, s *Shared, ev string) {
	var who []int
	how := ""
	byFD := false
	for _, h := range s.Others {
		if s.Kind != SharedFile && h.FD < 0 && f.Family[h.PID] {
			continue
		}
		switch {
		case len(who) > 0:
			how = "have it too"
		case h.FD >= 0:
			how = fmt.Sprintf("has it as fd %d", h.FD)
		default:
			how = "maps it too"
		}
		byFD = byFD || h.FD >= 0
		who = append(who, h.PID)
	}
	switch comm := display(s.Others); {
	case len(who) == 0:
	case comm != "":
		r.add(SharedMemory, displayWhy(s.Kind), "%s; process %s (%s) %s", ev, numbersText(who), comm, how)
	default:
		r.add(SharedMemory, sharedWhy(s.Kind, byFD), "%s; process %s %s", ev, numbersText(who), how)
	}
}

// graphics reports whether an area is of a graphics card, by its name.
func graphics(name string) bool {
	for _, p := range []string{"/dev/dri/", "/dev/nvidia", "/dev/kfd", "/dmabuf:", "anon_inode:i915.gem", "anon_inode:dmabuf"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// display is the name of the first holder that is a display: an X server, or a compositor of Wayland; or nothing.
func display(hs []Holder) string {
	for _, h := range hs {
		switch h.Comm {
		case "Xorg", "Xwayland", "Xvfb", "Xnest", "Xephyr", "Xvnc", "Xtigervnc", "X", "weston", "sway", "labwc", "wayfire", "river", "hyprland", "Hyprland",
			"gnome-shell", "mutter", "kwin_wayland", "kwin_x11", "cage", "phosh", "cosmic-comp":
			return h.Comm
		}
	}
	return ""
}

func displayWhy(k Kind) string {
	if k == SharedSysV {
		return "It draws through memory that it shares with its display (X11's MIT-SHM), which exists on this machine only; programs that do without move (QT_X11_NO_MITSHM=1, GDK_DISABLE=shm, or a display reached by TCP)."
	}
	return "It draws into memory that it shares with its display (Wayland's buffers, or X11's MIT-SHM), which exists on this machine only."
}

func sharedWhy(k Kind, byFD bool) string {
	switch {
	case byFD:
		return "It shares memory with another process that has a descriptor of it, and could read and write it there. Programs that close the descriptor after mmap move, together."
	case k == SharedFile:
		return "It reads a file through a shared mapping while another program writes it; what is written would not be seen at a distance."
	}
	return "It shares memory with another process, and both must see each other's writes at once: they move together, by command (mosixctl migrate), and never by themselves."
}
