package handoff

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/reaper"
)

// programName is the name of the one program of the command line.
const programName = "app"

// snapshot is what the next handoff needs of a program, to go on where this one
// ended. encode.go lists its fields.
type snapshot struct {
	State machine.State
	// Forked is a generation whose process was forked and may not have
	// executed the app yet, 0 for none.
	Forked   int
	Releases map[string]release.Release
	Commands map[string]release.Command // what a generation of each release executes
	Since    map[int]time.Time
	Groups   map[int]int    // process groups; MAINPID= may have named another process
	Texts    map[int]string // the last STATUS=
	Past     []control.Past
	Stopped  time.Time
}

func (s *supervisor) record(st machine.State, seq uint64) { s.store(st, seq, 0) }

func (s *supervisor) acted(seq uint64) {
	s.recordedSeq = seq
	if err := s.link.SendWait(&message.Acted{Seq: seq}); err != nil {
		say.Line("cannot tell init of a signal: %v", err)
	}
}

// recordForked is record from within the start of generation n, which the
// loop's state does not have yet.
func (s *supervisor) recordForked(st machine.State, n int) { s.store(st, s.loop.seq, n) }

func (s *supervisor) store(st machine.State, seq uint64, forked int) {
	if st.Stop != 0 && s.stopped.IsZero() {
		s.stopped = time.Now()
		s.tellAbove("STOPPING=1")
	}
	if forked == 0 {
		s.letGo(st)
		s.writeStatusFile(st)
	}
	r := snapshot{State: st, Forked: forked, Past: s.past, Stopped: s.stopped,
		Releases: make(map[string]release.Release), Commands: make(map[string]release.Command), Since: make(map[int]time.Time),
		Groups: make(map[int]int), Texts: make(map[int]string)}
	for key, rel := range s.releases {
		if rel.file != nil {
			r.Releases[key], r.Commands[key] = rel.file.Release, rel.command
		}
	}
	for n, p := range s.procs {
		r.Since[n], r.Groups[n] = p.since, p.group
		if p.status != "" {
			r.Texts[n] = p.status
		}
	}
	b := r.encode()
	if seq == s.recordedSeq && bytes.Equal(b, s.recorded) {
		return
	}
	s.recorded, s.recordedSeq = b, seq
	s.trim.Touch()
	s.tellWatchers()
	if err := s.link.SendRecord(message.Record{Program: programName, Seq: seq, State: b}); err != nil {
		say.Line("cannot hand the record to init: %v", err)
	}
}

// letGo closes the releases that no state can lead back to, and has the
// watcher know of the one that runs.
func (s *supervisor) letGo(st machine.State) {
	if !st.Again {
		s.withdraw()
	}
	needed := st.Releases()
	for key, r := range s.releases {
		if slices.Contains(needed, key) {
			continue
		}
		s.link.drop(releaseName(key))
		r.file.Close()
		delete(s.releases, key)
	}
	s.readLater()
	s.tellWatcher(st)
}

// resume takes over the generations of the handoff before. What happened to
// them since comes as events of its own once the loop runs.
func (s *supervisor) resume(recorded []byte) (machine.Event, error) {
	var r snapshot
	if err := r.decode(recorded); err != nil {
		return machine.Event{}, fmt.Errorf("the record of the handoff before cannot be read: %w", err)
	}
	s.past, s.stopped = r.Past, r.Stopped
	for key, rel := range r.Releases {
		if fd := s.link.take(releaseName(key)); fd >= 0 {
			s.releases[key] = &heldRelease{file: release.Resume(rel, fd), path: rel.Path, command: r.Commands[key]}
		}
	}
	for i := range r.State.Gens {
		g := &r.State.Gens[i]
		if g.Phase == machine.Preparing {
			continue
		}
		pidfd := s.link.take(processName(g.N))
		if g.Phase == machine.Lingering && pidfd < 0 {
			// What it left was told to go. Its PIDs may be others' by now; only
			// its cgroup still tells what is left.
			if len(s.inCgroup(g.N)) > 0 {
				s.procs[g.N] = &process{n: g.N, pid: -1, group: -1, status: r.Texts[g.N], since: r.Since[g.N]}
			}
			continue
		}
		if g.N == r.Forked && !executed(g.PID, g.Start) {
			// It was forked and ended before it executed the app.
			g.Phase, g.PID, g.Start = machine.Preparing, 0, 0
			if g.Source == machine.Newest {
				g.Release = ""
			}
			if pidfd >= 0 {
				unix.Close(pidfd)
			}
			s.link.drop(processName(g.N))
			continue
		}
		p := &process{n: g.N, pid: g.PID, group: r.Groups[g.N], status: r.Texts[g.N], since: r.Since[g.N], main: reaper.Adopt(g.PID, pidfd)}
		if pidfd < 0 && startOf(g.PID) != g.Start {
			p.main.Close() // it is gone, and its PID may be another's: nobody knows how it ended
		}
		s.procs[g.N] = p
	}
	s.loop.state = r.State
	if len(s.procs) > 0 {
		s.findTerminal()
	}
	for _, g := range r.State.Gens {
		p := s.procs[g.N]
		if g.Phase == machine.Lingering {
			if p != nil {
				p.ended = true
			}
			s.sweep(g.N)
			continue
		}
		if p == nil {
			continue
		}
		s.await(p)
		if g.Phase == machine.Candidate {
			s.awaitReady(p, s.resumeReadiness(g.N))
		}
	}
	s.startWatchResumed()
	return machine.Event{Kind: machine.Resumed}, nil
}

func startOf(pid int) uint64 {
	st, err := proc.Read(pid)
	if err != nil {
		return 0
	}
	return st.Start
}

// executed waits until a forked child has either executed the app or ended,
// which it does at once as the handoff that forked it is gone, and tells which.
func executed(pid int, start uint64) bool {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return startOf(pid) == start
	}
	for range 1000 {
		st, err := proc.Read(pid)
		if err != nil || st.Start != start || !st.Alive() {
			return false
		}
		exe, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe")
		if err == nil && !os.SameFile(own, exe) {
			return true
		}
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); err == nil && !strings.HasPrefix(string(b), "hotinit-handoff\x00") {
			return true
		}
		_, _ = unix.Poll(nil, 1) // a millisecond; there is no event to wait for
	}
	return true
}

// mostPast is how many ended generations are remembered for status.
const mostPast = 10

func (s *supervisor) notePast(n int, exit reaper.Exit) {
	s.past = append(s.past, control.Past{N: n, Ended: time.Now(), How: exit.String(), Status: statusOf(exit)})
	if len(s.past) > mostPast {
		s.past = s.past[len(s.past)-mostPast:]
	}
	if g := s.loop.state.Find(n); g != nil && (g.Phase == machine.Retiring || s.cfg.Verbosity > 1) {
		say.Line("generation %d ended: %s", n, exit)
	}
}
