package pid1

import (
	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/kernel"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/spawn"
)

// trial is the child in which the new init proves itself.
type trial struct {
	child  spawn.Child
	link   *message.Link
	reaped bool
}

// answer is what a trial says: why is "" where it is able.
type answer struct {
	from *trial
	why  string
}

// prove starts the child that reads what init would leave to it.
func (p *pid1) prove() {
	u := &p.upgrade
	u.stage = proving
	u.limit.Reset(proveWithin)
	if fault.At("init.prove") != nil {
		p.hand.kill()
	}
	t, err := p.startTrial()
	if err != nil {
		p.reject("its init cannot be tried: " + err.Error())
		return
	}
	u.trial = t
	go func() {
		a := answer{from: t, why: "its init ended without an answer"}
		if t.link.Next(func(m message.Message) {
			switch m := m.(type) {
			case *message.Able:
				a.why = ""
			case *message.Refused:
				a.why = m.Why
			}
		}) != nil {
			a.why = "its init ended without an answer"
		}
		t.link.Close()
		u.answers <- a
	}()
}

func (p *pid1) startTrial() (*trial, error) {
	state, err := store(p.state())
	if err != nil {
		return nil, err
	}
	defer unix.Close(state)
	ours, theirs, err := message.Pair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	t := &trial{link: message.NewLink(ours)}
	const stateFD, answerFD = 3, 4
	t.child, err = spawn.Start(&spawn.Spec{
		Path: "hotinit", FD: p.upgrade.file, Argv: p.args,
		Env:     entry.TrialEnviron(stateFD, answerFD),
		Signals: entry.Signals{Blocked: ^uint64(0), Ignored: entry.Inherited().Ignored}, // as after Execute
		Files:   append(first(), state, theirs),
		Umask:   -1, Foreground: -1, Cgroup: -1,
	})
	if err != nil {
		t.link.Close()
		return nil, err
	}
	return t, nil
}

// tried acts upon a trial's answer.
func (p *pid1) tried(a answer) {
	u := &p.upgrade
	if a.from != u.trial || u.stage != proving {
		return
	}
	u.limit.Stop()
	p.endTrial()
	if a.why != "" {
		p.reject(a.why)
		return
	}
	if fault.At("init.tried") != nil {
		p.hand.kill()
	}
	p.replace()
}

// endTrial ends the child that proves something, if there is one.
func (p *pid1) endTrial() {
	if t := p.upgrade.trial; t != nil {
		p.upgrade.trial = nil
		if !t.reaped {
			p.gone = t.child.PID
		}
		if t.child.PIDFD >= 0 {
			_ = unix.PidfdSendSignal(t.child.PIDFD, unix.SIGKILL, nil, 0)
			unix.Close(t.child.PIDFD)
		}
		// Without a pidfd it ends by itself: nobody reads its answer.
	}
}

// store writes a state to a file that has no name and is never changed.
func store(st *message.State) (int, error) {
	// MFD_NOEXEC_SEAL is there since Linux 6.3, and may be asked for by then.
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("hotinit-state", flags|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL || kernel.Missing(err) {
		fd, err = unix.MemfdCreate("hotinit-state", flags)
	}
	if err != nil {
		return -1, err
	}
	for b := st.Encode(); err == nil && len(b) > 0; {
		var n int
		if n, err = unix.Write(fd, b); err == unix.EINTR {
			n, err = 0, nil
		}
		b = b[max(n, 0):]
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
