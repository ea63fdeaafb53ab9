package handoff

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/message"
)

// link is the handoff's connection to init, and what init keeps.
type link struct {
	*message.Link
	// kept are this process's copies of the descriptors that init kept when it
	// started this process, by name. Whoever takes one owns it.
	kept map[string]int
	// held are the names under which init keeps something.
	held map[string]bool
	// programs are the same of each program that a file made.
	programs map[string]*kept
	// trial says that this process may act upon nothing before released has
	// returned; last is what became of the last upgrade.
	trial    bool
	last     message.Attempt
	refused  string // why a later one was not even tried
	upgraded bool   // this process was in a trial, and init has its executable
}

// forPrograms begins the names of what init keeps for programs that files made. The
// program's name follows, and a slash.
const forPrograms = "program/"

// connect takes what init passed on: the socket, the kept descriptors, the
// working directory, and the record of each program.
func connect() (l *link, dir string, records map[string][]byte, err error) {
	l = &link{Link: message.NewLink(message.Socket), kept: make(map[string]int), held: make(map[string]bool), programs: make(map[string]*kept)}
	var start *message.Start
	for start == nil || start.More {
		start = nil
		err = l.Next(func(m message.Message) { start, _ = m.(*message.Start) })
		if err != nil || start == nil {
			return l, "", nil, fmt.Errorf("descriptor %d is not the socket to init (only hotinit itself starts this role)", message.Socket)
		}
		l.trial, l.last = start.Trial, start.Upgrade
		if err := message.CheckVersion(start.Version); err != nil {
			return l, "", nil, fmt.Errorf("cannot understand init: %w", err)
		}
		for _, k := range start.Kept {
			unix.CloseOnExec(k.FD)
			l.got(k.Name, k.FD)
		}
	}
	unix.CloseOnExec(message.Socket)
	records = make(map[string][]byte)
	var join message.Join
	for len(records) < start.Records {
		err := l.Next(func(m message.Message) {
			if r, ok := m.(*message.Record); ok {
				if state, complete := join.Add(r); complete {
					records[r.Program] = bytes.Clone(state)
				}
			}
		})
		if err != nil {
			return l, "", nil, fmt.Errorf("cannot receive the records that init keeps: %w", err)
		}
	}
	return l, start.Dir, records, nil
}

// keep makes init hold a copy of fd, so that it outlives this process.
func (l *link) keep(name string, fd int) error {
	return l.give(name, &message.Keep{Name: name, FD: fd})
}

// output makes init use fd as its standard output and error, and hold it.
func (l *link) output(fd int) error {
	return l.give(message.OutputName, &message.Output{FD: fd})
}

func (l *link) give(name string, m message.Message) error {
	if err := l.SendWait(m); err != nil {
		return fmt.Errorf("cannot make init keep %s: %w", name, err)
	}
	l.held[name] = true
	return nil
}

// take returns this process's own copy of what init keeps under name, -1 where
// there is none.
func (l *link) take(name string) int {
	fd, ok := l.kept[name]
	if !ok {
		return -1
	}
	delete(l.kept, name)
	return fd
}

// drop makes init close what it keeps under name.
func (l *link) drop(name string) {
	if l.held[name] {
		delete(l.held, name)
		_ = l.SendWait(&message.Drop{Name: name})
	}
}

// receive calls handle with the signals that came already, and then with each one
// that init passes on, until init is gone. Without init nothing reaps and nothing
// holds the sockets, so the handoff then ends too.
func (l *link) receive(handle func(*message.Signal), came ...*message.Signal) {
	for _, sig := range came {
		handle(sig)
	}
	l.Receive(func(m message.Message) bool {
		if sig, ok := m.(*message.Signal); ok {
			handle(sig)
		}
		return true
	}, func(error) {})
	os.Exit(exitcode.Failure)
}

// got takes in what init has kept.
func (l *link) got(name string, fd int) {
	if rest, ok := strings.CutPrefix(name, forPrograms); ok {
		if program, name, ok := strings.Cut(rest, "/"); ok {
			k := l.forProgram(program)
			k.got[name], k.held[name] = fd, true
			return
		}
	}
	l.kept[name], l.held[name] = fd, true
}

// forProgram returns what init keeps for a program that a file made.
func (l *link) forProgram(name string) *kept {
	k := l.programs[name]
	if k == nil {
		k = &kept{link: l, prefix: forPrograms + name + "/", got: make(map[string]int), held: make(map[string]bool)}
		l.programs[name] = k
	}
	return k
}

// forApp returns what init keeps for the program of the command line.
func (l *link) forApp(name string) *kept {
	k := &kept{link: l, prefix: name + "/", got: make(map[string]int), held: make(map[string]bool)}
	for full, fd := range l.kept {
		if rest, ok := strings.CutPrefix(full, k.prefix); ok {
			k.got[rest], k.held[rest] = fd, true
			delete(l.kept, full)
			delete(l.held, full)
		}
	}
	return k
}

// refuse tells init why this executable cannot go on in a trial, which init ends
// by going back to its own. Where there is no trial it does nothing.
func (l *link) refuse(err error) {
	if l.trial {
		_ = l.SendWait(&message.Refused{Why: err.Error()})
		os.Exit(exitcode.Failure)
	}
}

// released tells init in a trial that this executable can go on, and waits until
// init has it as well. It returns the signals that came meanwhile.
func (l *link) released() (came []*message.Signal) {
	if !l.trial {
		return nil
	}
	_ = fault.At("handoff.able")
	err := l.SendWait(&message.Able{})
	_ = fault.At("handoff.waits")
	for l.trial && err == nil {
		err = l.Next(func(m message.Message) {
			switch m := m.(type) {
			case *message.Signal:
				came = append(came, m)
			case *message.Upgraded:
				l.trial, l.upgraded = false, true
			}
		})
	}
	if err != nil {
		os.Exit(exitcode.Failure)
	}
	_ = fault.At("handoff.released")
	return came
}

// kept is what init keeps for one program: names begin with the program's.
type kept struct {
	link   *link
	prefix string
	got    map[string]int // as in link.kept
	held   map[string]bool
}

func (k *kept) keep(name string, fd int) error {
	if err := k.link.SendWait(&message.Keep{Name: k.prefix + name, FD: fd}); err != nil {
		return fmt.Errorf("cannot make init keep %s: %w", k.prefix+name, err)
	}
	k.held[name] = true
	return nil
}

// take returns this process's own copy of what init keeps under name, -1 where
// there is none.
func (k *kept) take(name string) int {
	fd, ok := k.got[name]
	if !ok {
		return -1
	}
	delete(k.got, name)
	return fd
}

// takeAll takes all whose names are wanted.
func (k *kept) takeAll(wanted func(name string) bool) map[string]int {
	taken := make(map[string]int)
	for name := range k.got {
		if wanted(name) {
			taken[name] = k.take(name)
		}
	}
	return taken
}

func (k *kept) drop(name string) {
	if k.held[name] {
		delete(k.held, name)
		_ = k.link.SendWait(&message.Drop{Name: k.prefix + name})
	}
}

// leave drops what nobody has taken.
func (k *kept) leave() {
	for name, fd := range k.got {
		unix.Close(fd)
		delete(k.got, name)
		k.drop(name)
	}
}

// forget drops all of it, and the program's record.
func (k *kept) forget(program string) {
	k.leave()
	delete(k.link.programs, program)
	_ = k.link.SendWait(&message.Forget{Program: program, Kept: k.prefix})
}
