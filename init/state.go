package pid1

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
)

// commPath is the name of init's process, as ps(1) shows it. execve(2) changes it
// to a number, that of the descriptor that is executed.
const commPath = "/proc/self/comm"

// state is all that the next init has to know. It shares the records' memory.
func (p *pid1) state() *message.State {
	a := &p.answers
	st := &message.State{
		Dir: p.dir, LastSeq: p.lastSeq, Orphans: p.orphans, Gone: p.gone, Caught: p.caught, Permitted: permitted(),
		Warn: p.warn, Suspend: p.suspend, Suspended: p.suspended, ParentDeath: p.parentDeath, JSON: p.json,
		Stops: a.stops, StopTimeout: a.timeout, Stop: int(a.stop), Acted: a.acted, Strikes: a.strikes,
		Upgrade: p.upgrade.Attempt,
	}
	if b, err := os.ReadFile(commPath); err == nil {
		st.Name = strings.TrimSuffix(string(b), "\n")
	}
	if a.stop != 0 {
		st.Since = time.Since(a.since)
	}
	for name, fd := range p.kept {
		st.Kept = append(st.Kept, message.Kept{Name: name, FD: fd})
	}
	for program, state := range p.records {
		st.Records = append(st.Records, message.Stored{Program: program, State: state})
	}
	for _, s := range p.pending {
		st.Pending = append(st.Pending, message.Signal{Seq: s.seq, Signal: int(s.sig), Hangup: s.hangup})
	}
	if h := p.hand; h != nil {
		st.Handoff = message.Running{PID: h.child.PID, PIDFD: h.child.PIDFD, Start: h.start, Socket: h.link.FD(), Sent: h.sent}
	}
	return st
}

// descriptors are those that a state names.
func descriptors(st *message.State) (fds []int) {
	for _, k := range st.Kept {
		fds = append(fds, k.FD)
	}
	for _, fd := range []int{st.Handoff.PIDFD, st.Handoff.Socket, st.Caught} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// Resume is Run for a hotinit that is executed in the place of another one, whose
// children, descriptors and pending signals it has. Where it is only to try the
// state it answers whether it could go on, and ends.
func Resume(args []string, handed *entry.Handed) int {
	debug.SetGCPercent(-1)
	st, err := load(handed.State)
	if handed.Answer >= 0 {
		return answerTrial(args, st, err, handed.Answer)
	}
	if err != nil {
		say.Line("cannot go on in the place of another hotinit: %v", err)
		return exitcode.Failure
	}
	_ = fault.At("init.resumed")
	p := newInit(args)
	p.restore(st)
	if err := p.listen(); err != nil {
		say.Line("%v", err)
		return exitcode.Failure
	}
	go p.receive(p.hand, nil)
	p.flush()
	p.expectNext()
	status := p.run()
	p.removeCgroups()
	return status
}

// answerTrial does all that Resume does and that leaves no trace, and says how it
// went.
func answerTrial(args []string, st *message.State, err error, fd int) int {
	link := message.NewLink(fd)
	unix.CloseOnExec(fd)
	if err == nil {
		err = fault.At("trial")
	}
	if lost := uint64(0); err == nil {
		if lost = st.Permitted &^ permitted(); lost != 0 {
			err = fmt.Errorf("it would lose capabilities of the one that runs (%#x; are they set on that one's file, and not on this one's?)", lost)
		}
	}
	if err == nil {
		err = newInit(args).listen()
	}
	if err != nil {
		_ = link.Send(&message.Refused{Why: err.Error()})
		return exitcode.Failure
	}
	_ = link.Send(&message.Able{})
	return 0
}

// load reads a state and closes its descriptor.
func load(fd int) (*message.State, error) {
	unix.CloseOnExec(fd)
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	b := make([]byte, st.Size)
	for n := 0; n < len(b); {
		m, err := unix.Pread(fd, b[n:], int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case m == 0:
			return nil, errors.New("the state was cut short")
		}
		n += max(m, 0)
	}
	return message.DecodeState(b)
}

// restore takes over what state has left.
func (p *pid1) restore(st *message.State) {
	closeOnExec(descriptors(st), true)
	if st.Name != "" {
		_ = os.WriteFile(commPath, []byte(st.Name), 0)
	}
	p.dir, p.lastSeq, p.orphans, p.gone = st.Dir, st.LastSeq, st.Orphans, st.Gone
	p.warn, p.suspend, p.suspended, p.parentDeath, p.greeted = st.Warn, st.Suspend, st.Suspended, st.ParentDeath, true
	p.json = st.JSON
	say.SetJSON(st.JSON)
	if st.ParentDeath != 0 {
		// A file that gives privileges takes it off, prctl(2).
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(st.ParentDeath), 0, 0, 0)
	}
	for _, k := range st.Kept {
		p.kept[k.Name] = k.FD
	}
	for _, r := range st.Records {
		if p.records == nil {
			p.records = make(map[string][]byte)
		}
		p.records[r.Program] = slices.Clone(r.State) // it is to be appended to
	}
	for _, s := range st.Pending {
		p.pending = append(p.pending, signal{s.Seq, unix.Signal(s.Signal), s.Hangup})
	}
	h := st.Handoff
	p.hand = &handoff{
		child: spawn.Child{PID: h.PID, PIDFD: h.PIDFD, Listener: -1},
		start: h.Start, link: message.NewLink(h.Socket), sent: h.Sent, trial: true,
	}
	p.attempts.started, p.attempts.greeted = time.Now(), true
	a := &p.answers
	a.stops, a.timeout = st.Stops, st.StopTimeout
	a.stop, a.acted, a.strikes = unix.Signal(st.Stop), st.Acted, st.Strikes
	if a.stop != 0 {
		a.since = time.Now().Add(-st.Since)
	}
	if a.acted && a.timeout > 0 {
		a.last.Reset(a.timeout + lastWithin - st.Since)
	}
	p.upgrade.Attempt = st.Upgrade
	p.drain(st.Caught)
}

// drain takes what the handler of the one before has written and nobody has read.
func (p *pid1) drain(caught int) {
	if caught < 0 {
		return
	}
	defer unix.Close(caught)
	var b [256]byte
	for {
		n, err := unix.Read(caught, b[:])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		for _, sig := range b[:n] {
			p.lastSeq++
			p.pending = append(p.pending, signal{seq: p.lastSeq, sig: unix.Signal(sig)})
		}
	}
}

// permitted are this process's capabilities, capabilities(7).
func permitted() uint64 {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&h, &data[0]) != nil {
		return 0
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
}
