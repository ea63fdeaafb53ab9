package handoff

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/reaper"
)

// userRecord is who the app runs as. The name of --user is looked up once: it may
// have left /etc/passwd when the next handoff starts.
type userRecord struct {
	Known      bool
	UID, GID   uint32
	Groups     []int
	Name, Home string
}

func recordUser(id *passwd.Identity) (u userRecord) {
	if id == nil {
		return u
	}
	u = userRecord{Known: true, UID: id.UID, GID: id.GID, Name: id.Name, Home: id.Home}
	for _, g := range id.Groups {
		u.Groups = append(u.Groups, int(g))
	}
	return u
}

func (u userRecord) identity() *passwd.Identity {
	id := &passwd.Identity{Credential: passwd.Credential{UID: u.UID, GID: u.GID}, Name: u.Name, Home: u.Home}
	for _, g := range u.Groups {
		id.Groups = append(id.Groups, uint32(g))
	}
	return id
}

func (s *program) record(st machine.State, seq uint64) {
	s.store(st, seq, false)
	s.clients.deliver()
}

func (s *program) acted(seq uint64) {
	s.recordedSeq = seq
	if err := s.link.SendWait(&message.Acted{Seq: seq}); err != nil {
		s.line("cannot tell init of a signal: %v", err)
	}
}

// recordForked is record from within a start, while the process waits for it:
// what need not be done now is left for the record that follows.
func (s *program) recordForked() { s.store(s.engine.state, s.engine.seq, true) }

func (s *program) store(st machine.State, seq uint64, forked bool) {
	if s.disposed {
		return
	}
	if s.member && s.empty() {
		defer s.settled()
	}
	if st.Stop != 0 && s.stopped.IsZero() {
		s.stopped = time.Now()
		if !s.member {
			s.manager.tellStopping()
		}
	}
	current := 0
	if g := st.Current(); g != nil {
		current = g.N
	}
	s.queues.serves(current)
	if !forked {
		s.releases.memory.learn(st, s.releases.held)
		s.releases.letGo(st)
		s.adoption.tell(st)
		s.statusFile.write(st)
		s.announceKnown(st)
	}
	if s.loop.over() {
		return // no handoff follows this one
	}
	r := snapshot{State: st, Past: s.processes.past, Stopped: s.stopped, User: recordUser(s.contract.Identity), Signed: s.newestSigned(), Counts: s.counts, Spoken: !s.engine.policy.Quiet,
		Releases: make(map[string]release.Release), Commands: make(map[string]release.Command), Origins: make(map[string]release.Command), Copies: make(map[string]string), Kept: make(map[string]bool), Since: make(map[int]time.Time),
		Groups: make(map[int]int), Texts: make(map[int]string)}
	for key, rel := range s.releases.held {
		if rel.file != nil {
			r.Releases[key], r.Commands[key] = rel.file.Release, rel.command
			if rel.copy != nil {
				r.Origins[key], r.Copies[key] = rel.origin, rel.copy.Path
			}
			if rel.kept {
				r.Kept[key] = true
			}
		}
	}
	for n, p := range s.processes.all {
		r.Since[n], r.Groups[n] = p.since, p.group
		if p.status != "" {
			r.Texts[n] = p.status
		}
	}
	if s.member {
		s.recordPlans(&r)
	}
	b := r.encode()
	sum := sha256.Sum256(b) // a copy of each record would take more than all else
	if seq == s.recordedSeq && sum == s.recorded {
		return
	}
	s.recorded, s.recordedSeq = sum, seq
	s.trim.Touch()
	s.clients.changed()
	_ = fault.At("effect", "before", "send")
	if err := s.link.SendRecord(message.Record{Program: s.name, Seq: seq, State: b}); err != nil {
		s.line("cannot hand the record to init: %v", err)
	}
	_ = fault.At("effect", "after", "send")
}

// resume takes over the generations of the last handoff. What has happened to
// them since then comes as events once the loop runs.
func (s *program) resume(recorded []byte) error {
	var r snapshot
	if err := r.decode(recorded); err != nil {
		return fmt.Errorf("cannot read the record of the last handoff: %w", err)
	}
	return s.resumeFrom(&r)
}

func (s *program) resumeFrom(r *snapshot) error {
	s.processes.past, s.stopped, s.counts = r.Past, r.Stopped, r.Counts
	s.counts.Resumed++
	s.announced = true // by the last handoff
	s.engine.policy.Quiet = s.engine.policy.Quiet && !r.Spoken
	s.resumeSigned(r.Signed)
	for key, rel := range r.Releases {
		if fd := s.kept.take(releaseName(key)); fd >= 0 {
			held := &heldRelease{file: release.Resume(rel, fd), path: rel.Path, command: r.Commands[key], origin: r.Commands[key], kept: r.Kept[key]}
			held.read, held.done = held.kept, held.kept
			if fd := s.kept.take(copyName(key)); fd >= 0 {
				held.copy, held.origin = release.ResumePrivate(r.Copies[key], fd), r.Origins[key]
			}
			s.releases.held[key] = held
		}
	}
	executing := 0 // a generation that was forked and has executed the app
	for _, g := range r.State.Gens {
		if g.Phase == machine.Preparing && g.PID == 0 {
			continue
		}
		pidfd := s.kept.take(processName(g.N))
		if g.Phase == machine.Lingering && pidfd < 0 {
			// What it left got SIGTERM. Its PIDs may be other processes' by now;
			// only its cgroup still shows what is left.
			if len(s.cgroups.members(g.N)) > 0 {
				s.processes.all[g.N] = &process{n: g.N, plan: s.planOf(g.N), pid: -1, group: -1, status: r.Texts[g.N], since: r.Since[g.N]}
			}
			continue
		}
		if g.Phase == machine.Preparing {
			if !executed(g.PID, g.Start) {
				// It ended before it executed the app.
				if pidfd >= 0 {
					unix.Close(pidfd)
				}
				s.kept.drop(processName(g.N))
				continue
			}
			executing = g.N
		}
		p := &process{n: g.N, plan: s.planOf(g.N), pid: g.PID, start: g.Start, group: r.Groups[g.N], status: r.Texts[g.N], since: r.Since[g.N], main: reaper.Adopt(g.PID, pidfd)}
		if pidfd < 0 && startOf(g.PID) != g.Start {
			p.main.Close() // it has ended, and nobody knows how; its PID may be another's
		}
		s.processes.all[g.N] = p
		s.mains.add(p, s.name)
	}
	s.engine.state = r.State
	if r.State.Next > 1 {
		s.engine.first = machine.Event{Kind: machine.Resumed, N: executing}
	}
	if len(s.processes.all) > 0 && !s.member {
		s.terminal.find(true, s.cfg.Session)
	}
	for _, g := range r.State.Gens {
		p := s.processes.all[g.N]
		if g.Phase == machine.Lingering {
			if p != nil {
				p.ended = true
				s.mains.remove(p)
			}
			s.processes.sweep(g.N, false)
			continue
		}
		if p == nil {
			continue
		}
		s.processes.await(p)
		if g.Phase == machine.Candidate || g.N == executing {
			probes := s.starts.with(p.plan).probes
			probes.await(p, probes.resume(g.N))
		}
	}
	s.outputs.resume()
	if !s.member {
		resumeAdopted([]*program{s}, adopt.Below) // of instances, once all of them are known
	}
	s.through.resume(&r.State)
	if !s.member {
		s.starts.watchResumed()
	}
	return nil
}

func startOf(pid int) uint64 {
	st, err := proc.Read(pid)
	if err != nil {
		return 0
	}
	return st.Start
}

// executed waits until a forked child has executed the app or has ended, which it
// does at once when the handoff that forked it is gone. It reports whether the
// child executed the app. Until then its command line is the handoff's, whichever
// hotinit that was.
func executed(pid int, start uint64) bool {
	for range 1000 {
		st, err := proc.Read(pid)
		if err != nil || st.Start != start || !st.Alive() {
			return false
		}
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); err == nil && !strings.HasPrefix(string(b), "hotinit-handoff\x00") {
			return true
		}
		_, _ = unix.Poll(nil, 1) // a millisecond; there is no event to wait for
	}
	return true
}
