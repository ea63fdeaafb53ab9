package pid1

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
)

// hotinit is replaced by another executable in steps, each of which can fail
// without a loss:
//
//   - handing: the handoff has asked for it, acts upon nothing more, and is ended.
//   - trying: the executable runs as the handoff. It reads all that it is given,
//     acts upon nothing, and says Able.
//   - proving: the executable runs as a child that reads the state of init, and
//     says Able.
//   - init executes it in its own place, and tells the handoff by Upgraded.
//
// Before the last step a failure of any kind leads back: the handoff is ended,
// and the next one is init's own executable. It goes on from the record that the
// one before has left, since nothing was recorded meanwhile.
type stage int

const (
	settled   stage = iota // no upgrade is under way
	handing                // the handoff that asked for it is being ended
	trying                 // the new handoff has to say Able
	proving                // the new init has to say Able
	returning              // the new handoff is being ended, the upgrade was rejected
)

const (
	// tryWithin is how long the new handoff has to say Able, or anything else: one with
	// many programs says Hello after each of them. A signal that is not acted upon ends
	// it sooner, see answer.go.
	tryWithin = 10 * time.Second
	// proveWithin is the same for the child.
	proveWithin = 5 * time.Second
)

// mostWhy bounds what a foreign executable may have init keep.
const mostWhy = 1000

// upgrade is the replacement of hotinit that is under way, or was the last one.
type upgrade struct {
	message.Attempt
	stage   stage
	file    int         // the executable, -1 for none
	limit   *time.Timer // of the stage
	trial   *trial      // nil while nothing is proven
	answers chan answer
}

func newUpgrade() upgrade { return upgrade{file: -1, limit: stopped(), answers: make(chan answer)} }

// executable is what the next handoff executes instead of init's own executable,
// -1 for nothing else.
func (u *upgrade) executable() int {
	if u.stage == trying {
		return u.file
	}
	return -1
}

// tries reports whether the handoff is one that has to prove itself.
func (u *upgrade) tries() bool {
	return u.stage == trying || u.stage == proving || u.stage == returning
}

// take acts upon a message of the handoff.
func (p *pid1) take(r received) {
	switch {
	case p.upgrade.stage == returning:
		r.discard()
		return
	case p.upgrade.tries():
		p.takeOfTrial(r)
	default:
		p.handle(r.m)
	}
	r.done <- struct{}{}
}

// takeOfTrial acts upon a message of a handoff that has to prove itself. What it
// keeps is for the app that runs; a record would be of its version.
func (p *pid1) takeOfTrial(r received) {
	switch m := r.m.(type) {
	case *message.Hello, *message.Keep, *message.Drop, *message.Output, *message.Terminal, *message.Ask:
		p.handle(m)
		if p.upgrade.stage == trying {
			p.upgrade.limit.Reset(tryWithin)
		}
	case *message.Able:
		if p.upgrade.stage == trying {
			p.prove()
		}
	case *message.Refused:
		p.reject(m.Why)
	case *message.Exit:
		p.reject("its handoff would end hotinit")
	default:
		if m, ok := m.(*message.Upgrade); ok {
			unix.Close(m.FD)
		}
		p.reject("its handoff acted before its time")
	}
}

// beginUpgrade ends the handoff that asks for it.
func (p *pid1) beginUpgrade(m *message.Upgrade) {
	u := &p.upgrade
	if u.stage != settled {
		unix.Close(m.FD)
		return
	}
	u.Attempt, u.file, u.stage = message.Attempt{Number: m.Number, File: m.File}, m.FD, handing
	p.hand.kill()
}

// handedOver goes on when the handoff has ended.
func (p *pid1) handedOver() {
	u := &p.upgrade
	switch u.stage {
	case handing:
		u.stage = trying
		u.limit.Reset(tryWithin)
		p.start()
	case returning:
		u.stage = settled
		p.start()
	default:
		p.reject("its handoff ended before it acted")
	}
	if fault.At("init.handed") != nil && p.hand != nil {
		p.hand.kill()
	}
}

// reject goes back to init's own executable.
func (p *pid1) reject(why string) {
	u := &p.upgrade
	u.Why = why[:min(len(why), mostWhy)]
	say.Line("the other hotinit was rejected: %s; this one goes on", why)
	u.limit.Stop()
	p.endTrial()
	unix.Close(u.file)
	u.file, u.stage = -1, returning
	if p.hand != nil {
		p.hand.kill()
		return
	}
	p.handedOver()
}

// tooLate rejects what did not prove itself in time.
func (p *pid1) tooLate() {
	switch p.upgrade.stage {
	case trying:
		p.reject("its handoff did not act within " + tryWithin.String())
	case proving:
		p.reject("its init did not answer within " + proveWithin.String())
	}
}

// replace executes the other hotinit. Where that fails, everything goes on.
func (p *pid1) replace() {
	lost := p.freeze()
	switch {
	case lost:
		p.thaw(false)
		p.lost()
		return
	case p.upgrade.stage != proving: // a message that came meanwhile
		p.thaw(true)
		return
	}
	st := p.state()
	state, err := store(st)
	if err == nil {
		passed := append(descriptors(st), state)
		closeOnExec(passed, false)
		if err = fault.At("init.execute"); err == nil {
			err = entry.Execute(p.upgrade.file, p.args, state)
		}
		closeOnExec(passed, true)
		unix.Close(state)
	}
	p.thaw(true)
	p.reject("it cannot be executed in init's place: " + err.Error())
}

// freeze stops what reads signals and messages, so that none is read and not
// passed on: what is not read stays in the kernel. It reports whether the handoff
// was lost meanwhile.
func (p *pid1) freeze() (lost bool) {
	for _, s := range p.sources {
		_ = s.file.SetReadDeadline(time.Unix(1, 0))
	}
	p.hand.link.Stop()
	for n := len(p.sources) + 1; n > 0; {
		select {
		case <-p.still:
			n--
		case s := <-p.signals:
			p.queue(s)
		case pid := <-p.reaped:
			p.noteReaped(pid)
		case r := <-p.messages:
			switch {
			case r.from != p.hand:
				r.discard()
			case r.m == nil && !r.opened:
				lost = true
				n--
			case r.m == nil:
				r.done <- struct{}{}
			default:
				p.take(r)
			}
		}
	}
	return lost
}

// thaw undoes freeze.
func (p *pid1) thaw(receive bool) {
	for _, s := range p.sources {
		_ = s.file.SetReadDeadline(time.Time{})
		p.follow(s)
	}
	if receive {
		go p.receive(p.hand, nil)
	}
}

// closeOnExec sets the flag of descriptors, or takes it off.
func closeOnExec(fds []int, on bool) {
	flag := 0
	if on {
		flag = unix.FD_CLOEXEC
	}
	for _, fd := range fds {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag)
	}
}
