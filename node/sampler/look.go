package sampler

import (
	"time"

	"mosix/internal/procfs"
)

const (
	// coldAfter is the number of looks in a row in which a process must have done nothing to be looked at less often,
	coldAfter = 8
	// coldTurns is how many periods then lie between two looks. What it does meanwhile is found at the second, and
	// counts as the average that it is.
	coldTurns = 4
	// youth is how many periods a process is young, from its start or from when it has executed a program, and a young one that was
	// ready for youngReady in a period computes.
	youth      = 3
	youngReady = 100 * time.Millisecond
	// idle is the number of ready tasks, on average, below which a process does nothing.
	idle = 0.002
	// slack covers that start times are known to a hundredth of a second, and that looking at all processes takes time.
	slack = 50 * time.Millisecond
)

// process is what the sampler remembers of one.
type process struct {
	pid      int
	turn     int           // of the last sample that listed it
	looked   time.Duration // when its counters were read last
	idle     int           // looks in a row in which it did nothing
	excluded bool          // by Options.Exclude
	info     procfs.SchedProc
	stat     kept          // its stat file
	tasks    map[int]*task // by thread number
	ready    time.Duration // of all threads, at the last look
	dead     procfs.SchedStat
	children int           // that were seen to begin
	executed time.Duration // when it was seen to execute another program than before; 0: it was not
}

// task is one thread.
type task struct {
	turn int
	last procfs.SchedStat
	file kept // its schedstat file
}

// look measures one process, and enters it into the snapshot.
func (s *Sampler) look(pid int, now, up time.Duration, snap *Snapshot) {
	p := s.procs[pid]
	young := p == nil
	if young {
		info, err := s.files.info(pid, nil)
		if err != nil {
			return // it has ended
		}
		p = &process{pid: pid, info: info, looked: s.last, tasks: map[int]*task{}}
		s.procs[pid] = p
	}
	p.turn = s.turn
	excluded := s.opt.Exclude != nil && s.opt.Exclude(pid)
	included := p.excluded && !excluded // as a pooled process that has become a guest
	if p.excluded = excluded; excluded {
		return
	}
	age := max(0, up-time.Duration(p.info.Start)*procfs.SchedTicks)
	if p.idle >= coldAfter && (s.turn+pid)%coldTurns != 0 && s.files.counts {
		s.report(p, 0, 0, age, snap)
		return
	}
	elapsed := now - p.looked
	grown, tasks, ok := s.advance(p, elapsed)
	if !ok {
		s.forget(pid) // it has ended; if another one has got its number, the next sample will find it
		return
	}
	p.looked = now
	snap.Tasks += tasks
	if included || young && (s.turn == 1 || age > elapsed+slack) {
		return // what it did before is no load of this period
	}
	if young {
		if parent := s.procs[p.info.PPID]; parent != nil {
			parent.children++
		}
		// It is taken to have been here all the time, for others that came and went unseen.
		elapsed = min(elapsed, max(age, procfs.SchedTicks))
		grown = min(grown, time.Duration(tasks)*elapsed)
	}
	if elapsed <= 0 {
		return
	}
	average := float64(grown) / float64(elapsed)
	snap.Ready += average
	if p.idle++; average >= idle {
		p.idle = 0
	}
	if p.ready >= s.opt.Follow {
		s.refresh(p, &p.stat, now)
	}
	s.report(p, grown, average, age, snap)
}

// advance reads the counters of all threads of a process and returns by how much their ready time grew.
func (s *Sampler) advance(p *process, elapsed time.Duration) (grown time.Duration, tasks int, ok bool) {
	tids, err := s.files.tids(p.pid, len(p.tasks) <= 1)
	if err != nil {
		return 0, 0, false
	}
	follow := p.ready >= s.opt.Follow
	var live time.Duration
	for _, tid := range tids {
		t := p.tasks[tid]
		if t == nil {
			t = &task{}
		}
		var st procfs.SchedStat
		if s.files.counts {
			st, err = s.files.counters(p.pid, tid, &t.file, follow)
		} else {
			st, err = s.files.guess(p.pid, tid, t.last, elapsed)
		}
		if err != nil {
			continue // it has ended since it was listed
		}
		if st.Ready() < t.last.Ready() {
			return 0, 0, false // another one has its number
		}
		grown += st.Ready() - t.last.Ready()
		live += st.Ready()
		t.last, t.turn = st, s.turn
		p.tasks[tid] = t
		tasks++
	}
	for tid, t := range p.tasks {
		if t.turn != s.turn {
			p.dead.CPU += t.last.CPU
			p.dead.Wait += t.last.Wait
			s.files.drop(&t.file)
			delete(p.tasks, tid)
		}
	}
	p.ready = live + p.dead.Ready()
	return grown, tasks, tasks > 0
}

// refresh reads what is reported of a process, from the file that k keeps, or nil.
func (s *Sampler) refresh(p *process, k *kept, now time.Duration) {
	info, err := s.files.info(p.pid, k)
	if err != nil {
		return
	}
	if info.Command != p.info.Command {
		p.executed = now
	}
	p.info = info
}

// report enters a process into the snapshot, if it is followed.
func (s *Sampler) report(p *process, grown time.Duration, average float64, age time.Duration, snap *Snapshot) {
	followed := p.ready >= s.opt.Follow
	if p.info.Kernel || !followed && grown < youngReady {
		return
	}
	began := age
	if !followed {
		s.refresh(p, nil, p.looked)
	}
	if p.executed != 0 {
		began = min(began, p.looked-p.executed)
	}
	young := grown >= youngReady && began <= youth*snap.Period
	if !followed && !young {
		return
	}
	cpu := p.dead.CPU
	for _, t := range p.tasks {
		cpu += t.last.CPU
	}
	x := Process{
		PID: p.pid, Start: p.info.Start, Command: p.info.Command, State: p.info.State, PPID: p.info.PPID, Session: p.info.Session, TTY: p.info.TTY,
		// The kernel counts threads too that came and went unseen, but only in hundredths of a second.
		CPU: max(cpu, p.info.CPU), Ready: max(p.ready, p.info.CPU), ReadyLast: grown, ReadyTasks: average, Age: age, RSS: p.info.RSS,
		Threads: len(p.tasks), Children: p.children, Young: young,
	}
	if followed {
		snap.Processes = append(snap.Processes, x)
	} else {
		snap.Young = append(snap.Young, x)
	}
}

// forget gives up what is kept of a process that has ended.
func (s *Sampler) forget(pid int) {
	p := s.procs[pid]
	for _, t := range p.tasks {
		s.files.drop(&t.file)
	}
	s.files.drop(&p.stat)
	delete(s.procs, pid)
}
