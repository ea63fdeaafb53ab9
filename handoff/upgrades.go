package handoff

import (
	"fmt"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/version"
)

// upgrades replaces hotinit by another one: `hotinit upgrade`, and --watch-self.
// Its fields belong to the loop.
//
// What could be wrong with the executable is found out here, beside the loop, by
// newcomer.go. Then the loop waits until no generation is being started, and no command of
// --on-event runs or is about to, hands the
// executable to init, and acts upon nothing more: this process is ended by init.
// Whichever handoff comes next learns from init what became of it.
type upgrades struct {
	s       *supervisor
	wanted  *newcomer     // waits until nothing is being started; nil for none
	late    *time.Timer   // runs meanwhile
	changed chan struct{} // closed when wanted or the last attempt has changed
}

// idleWithin is how long an upgrade waits for generations that are being started, and for
// commands of --on-event. Then it does not wait any more: the next handoff goes on with
// them, as it does when one was killed.
const idleWithin = time.Minute

// prepare comes before the first request.
func (u *upgrades) prepare(s *supervisor) {
	u.s, u.changed = s, make(chan struct{})
}

// start says that this hotinit has taken over, if it has, and begins to watch its
// file. It runs before the loop.
func (u *upgrades) start() {
	if last := u.s.link.last; u.s.link.upgraded {
		say.Note("hotinit %s has taken over (upgrade %d, from %s)", version.Number, last.Number, pathIn(last.File))
	}
	after := u.s.loop.after
	u.s.loop.after = func() {
		if after != nil {
			after()
		}
		u.proceed()
	}
	u.s.reports.idle = func() { u.s.loop.do(func() {}) }
	if u.s.cfg.WatchSelf {
		time.AfterFunc(watchAfter, u.watch)
	}
}

// answer acts upon a request, and reports whether it is one of an upgrade. It runs
// on a goroutine of its own.
func (u *upgrades) answer(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) bool {
	switch r.Op {
	case "upgrade":
		err := u.begin(r.File, func(n int) {
			reply(control.Response{OK: true, Upgrade: n, Text: fmt.Sprintf("upgrade %d is being tried", n)})
		})
		if err != nil {
			reply(control.Response{Text: err.Error()})
		}
	case "upgraded":
		u.await(r.Upgrade, reply, gone)
	default:
		return false
	}
	return true
}

// begin checks the executable at a path and has the loop wait for the moment.
// Before that moment it calls accepted, in the loop, with the upgrade's number.
func (u *upgrades) begin(path string, accepted func(n int)) error {
	err := u.take(path, accepted)
	if err != nil {
		say.Line("hotinit is not upgraded: %v", err)
		u.s.loop.ask(func() {
			u.s.link.refused = err.Error()
			u.s.reports.tell(didRefuse, err.Error())
		})
	}
	return err
}

func (u *upgrades) take(path string, accepted func(n int)) error {
	if path == "" {
		var err error
		if path, err = u.ownPath(); err != nil {
			return err
		}
	}
	c, err := u.check(path)
	if err != nil {
		return err
	}
	u.s.loop.ask(func() {
		if u.wanted != nil {
			err = fmt.Errorf("another upgrade is waiting for %s", u.awaited())
			return
		}
		u.s.link.refused = ""
		c.number = u.s.link.last.Number + 1
		u.wanted = c
		u.late = time.AfterFunc(idleWithin, func() { u.s.loop.do(func() { c.waited = true }) })
		u.notify()
		accepted(c.number)
	})
	if err != nil {
		c.file.Close()
	}
	return err
}

// proceed hands over once nothing is being started. It is called by the loop after
// each input.
func (u *upgrades) proceed() {
	c := u.wanted
	if c == nil {
		return
	}
	if u.s.stopping || u.s.done || u.s.app != nil && u.s.app.engine.state.Stop != 0 {
		u.drop("hotinit stops")
		return
	}
	if u.awaited() != "" && !c.waited {
		return
	}
	if err := fault.At("handoff.asked"); err != nil {
		u.drop(err.Error())
		return
	}
	if u.s.reports.watched {
		_ = u.s.link.keep(handedOver, c.file.FD())
	}
	if err := u.s.link.SendWait(&message.Upgrade{Number: c.number, File: c.name(), FD: c.file.FD()}); err != nil {
		u.drop(err.Error())
		return
	}
	if n := u.s.reports.waiting(); n > 0 {
		say.Line("%d events are not reported: another hotinit takes over, and the command of --on-event takes too long", n)
	}
	select {} // init ends this process
}

// awaited names what an upgrade waits for, "" for nothing.
func (u *upgrades) awaited() string {
	for _, e := range u.s.loop.engines {
		for _, g := range e.state.Gens {
			if g.Phase == machine.Preparing || g.Phase == machine.Candidate {
				return fmt.Sprintf("generation %d, which is being started", g.N)
			}
		}
	}
	if u.s.reports.waiting() >= 0 {
		return "the command of --on-event"
	}
	return ""
}

// drop gives up what waits.
func (u *upgrades) drop(why string) {
	c := u.wanted
	u.wanted = nil
	u.late.Stop()
	c.file.Close()
	u.s.link.last = message.Attempt{Number: c.number, File: c.name(), Why: why}
	say.Line("the upgrade of hotinit was given up: %s", why)
	u.s.reports.tell(didRefuse, why)
	u.notify()
	for _, p := range u.s.programs {
		p.touch()
	}
	u.s.settle()
}

// waits reports whether an upgrade waits for what is being started. A roll of instances
// leaves it the time between two of them.
func (u *upgrades) waits() bool { return u.wanted != nil }

func (u *upgrades) notify() {
	close(u.changed)
	u.changed = make(chan struct{})
}

// await answers once an upgrade is decided.
func (u *upgrades) await(n int, reply func(control.Response) bool, gone <-chan struct{}) {
	for {
		var r control.Response
		decided, changed := false, (chan struct{})(nil)
		u.s.loop.ask(func() {
			r, decided = u.outcome(n)
			changed = u.changed
		})
		if decided {
			reply(r)
			return
		}
		select {
		case <-changed:
		case <-gone:
			return
		}
	}
}

// outcome is what became of an upgrade, if that is known.
func (u *upgrades) outcome(n int) (r control.Response, decided bool) {
	last := u.s.link.last
	switch {
	case u.wanted != nil && u.wanted.number == n:
		return r, false
	case last.Number == n && last.Why == "":
		return control.Response{OK: true, Text: "hotinit " + version.Number + " runs"}, true
	case last.Number == n:
		return control.Response{Text: fmt.Sprintf("rejected: %s; hotinit %s goes on", last.Why, version.Number)}, true
	case last.Number > n:
		return control.Response{Text: fmt.Sprintf("another upgrade came after it; hotinit %s runs", version.Number)}, true
	}
	return control.Response{Text: "the handoff that was to hand over was lost before it had; ask again"}, true
}

// upgradeText says in the status what became of the last upgrade, "" where nothing
// went wrong.
func upgradeText(l *link) string {
	a := l.last
	switch {
	case l.refused != "":
		return "the last upgrade of hotinit was rejected: " + l.refused
	case a.Why == "":
		return ""
	}
	return fmt.Sprintf("the upgrade of hotinit to %s was rejected: %s", pathIn(a.File), a.Why)
}

// pathIn is the path in the name that init knows an executable by.
func pathIn(name string) string {
	_, path, _ := strings.Cut(name, " ")
	return path
}

// digestIn is the digest in it, of its content.
func digestIn(name string) (d release.Digest) {
	text, _, _ := strings.Cut(name, " ")
	_ = d.UnmarshalText([]byte(text))
	return d
}
