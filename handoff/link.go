package handoff

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
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
}

// connect takes what init passed on: the socket, the kept descriptors, the
// working directory, and the record of each program.
func connect() (l *link, dir string, records map[string][]byte, err error) {
	l = &link{Link: message.NewLink(message.Socket), kept: make(map[string]int), held: make(map[string]bool)}
	var start *message.Start
	err = l.Next(func(m message.Message) { start, _ = m.(*message.Start) })
	if err != nil || start == nil {
		return nil, "", nil, fmt.Errorf("descriptor %d is not the socket to init (only hotinit itself starts this role)", message.Socket)
	}
	unix.CloseOnExec(message.Socket)
	for _, k := range start.Kept {
		unix.CloseOnExec(k.FD)
		l.kept[k.Name], l.held[k.Name] = k.FD, true
	}
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
			return nil, "", nil, fmt.Errorf("cannot receive the records that init keeps: %w", err)
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

// receive calls handle with each signal that init passes on, until init is
// gone. Without init nothing reaps and nothing holds the sockets, so the
// handoff then ends too.
func (l *link) receive(handle func(*message.Signal)) {
	l.Receive(func(m message.Message) bool {
		if sig, ok := m.(*message.Signal); ok {
			handle(sig)
		}
		return true
	}, func(error) {})
	os.Exit(exitcode.Failure)
}

// kept is what init keeps for one program: names begin with the program's.
type kept struct {
	link   *link
	prefix string
}

func (k *kept) keep(name string, fd int) error { return k.link.keep(k.prefix+name, fd) }

func (k *kept) take(name string) int { return k.link.take(k.prefix + name) }

func (k *kept) drop(name string) { k.link.drop(k.prefix + name) }
