package conformance

// fault is a case that is known not to hold in some modes, and why.
type fault struct {
	modes []Mode
	why   string
	// sometimes: it depends on the moment. Such a fault may hold in a run without being struck from the table.
	sometimes bool
}

var (
	away  = []Mode{Forwarded, Moving}
	moved = []Mode{Moving}
)

const (
	whyPage    = "at home, while it is copied and for a while after it is back, what mosix has put into a process counts as its memory"
	whyShort   = "a transfer that is cut by the way home ends with what is done"
	whyAgain   = "a wait that a move cuts short begins anew, with all of its time"
	whyLook    = "who looks at the descriptors of a running process, as an agent does before a move, and lsof, keeps one that is just being closed open for a moment"
	whyGuess   = "whether a queued signal was for one thread or for the process nobody tells: it is guessed by what the first thread blocks, which a move changes for a moment"
	whySignals = "a signal that arrives in the middle of a move is late or lost"
)

// known lists all faults that are known, by the names of their cases. Whoever mends one strikes its line.
var known = map[string]fault{
	"tree/wait4_rusage_of_the_child":         {modes: moved, why: "home's kernel does not know what a child used away, when it is asked by a parent that is at home", sometimes: true},
	"signals/sigcont_discards_stop_signals":  {modes: away, why: "what pends with the guest is not discarded by a SIGCONT", sometimes: true},
	"signals/fatal_signals_end_the_process":  {modes: away, why: "on a busy machine a child that was born away and dies of a signal at once was ended with SIGKILL; the cause is not found", sometimes: true},
	"self/stat_counts_processor_time":        {modes: moved, why: "processor time that was used away is not in /proc at home again", sometimes: true},
	"identity/processor_time_is_counted":     {modes: moved, why: "getrusage and times of a process that is home again show home's count only (decision 0006)", sometimes: true},
	"tree/kill_of_a_process_group":           {modes: away, why: whySignals, sometimes: true},
	"blocked/futex_wait_its_time":            {modes: moved, why: whyAgain, sometimes: true},
	"channels/fifo_has_a_name":               {modes: moved, why: whyLook, sometimes: true},
	"blocked/write_to_a_full_pipe":           {modes: moved, why: whyShort, sometimes: true},
	"blocked/transfers_come_whole":           {modes: moved, why: whyShort, sometimes: true},
	"blocked/recv_of_everything":             {modes: moved, why: whyShort, sometimes: true},
	"signals/sigsuspend_waits_with_its_mask": {modes: moved, why: "two signals that wait for a call with a mask of its own may change their order on the way home", sometimes: true},
	"blocked/semop_waits_for_another":        {modes: moved, why: "a set that is removed while the process is held is gone when the call is made again: EINVAL instead of EIDRM", sometimes: true},
	"self/others_see_the_process":            {modes: moved, why: "who looks at a process in the milliseconds in which it is held sees it held, and by whom", sometimes: true},
	"signals/another_queues_to_a_thread":     {modes: moved, why: whyGuess, sometimes: true},
	"signals/sigqueue_to_a_thread":           {modes: moved, why: whySignals, sometimes: true},
	"identity/posix_timer_counts_overruns":   {modes: away, why: "overruns of a timer are not carried", sometimes: true},
	"memory/limit_of_address_space_is_exact": {modes: moved, why: whyPage, sometimes: true},
	"self/maps_shows_nothing_foreign":        {modes: moved, why: "at home again the maps show for a while what held the process", sometimes: true},
	"signals/fault_of_a_breakpoint":          {modes: moved, why: "a breakpoint of the program's own is taken for the one that ends an injected call", sometimes: true},
	"self/arguments_that_are_written_show":   {modes: away, why: "memory of the arguments that is written away does not show in /proc at home", sometimes: true},
}

// knownFault is the line of a case in a mode.
func knownFault(c Case, mode Mode) (fault, bool) {
	f, ok := known[c.String()]
	for _, m := range f.modes {
		if ok && m == mode {
			return f, true
		}
	}
	return fault{}, false
}
