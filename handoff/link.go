package handoff

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/message"
)

// link is the handoff's end of the socket to init.
type link struct {
	fd int
	// kept are this process's copies of the descriptors that init kept when it
	// started this process, by name. Whoever takes one owns it.
	kept map[string]int
	// held are the names that init keeps something under.
	held map[string]bool
}

// connect takes what init passed on: the socket, the kept descriptors, and the
// first message.
func connect() (*link, message.Message, error) {
	l := &link{fd: message.Socket, kept: make(map[string]int), held: make(map[string]bool)}
	message.Widen(l.fd)
	buf, free := message.Buffer()
	defer free()
	m, err := message.Receive(l.fd, buf)
	for err == unix.EAGAIN { // init comes up beside this, see package entry
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}, -1)
		m, err = message.Receive(l.fd, buf)
	}
	m.Blob = bytes.Clone(m.Blob)
	if err != nil || m.Kind != message.Start {
		return nil, m, fmt.Errorf("descriptor %d is not the socket to init (this role is for hotinit itself, not to be started by hand)", l.fd)
	}
	unix.CloseOnExec(l.fd)
	for i, name := range m.Names {
		fd := message.FirstKept + i
		if m.Value != 0 {
			fd, _ = strconv.Atoi(strings.TrimPrefix(name, message.Inherited))
			if fd == message.Socket {
				fd = m.Value
			}
		}
		unix.CloseOnExec(fd)
		l.kept[name], l.held[name] = fd, true
	}
	return l, m, nil
}

// send sends a message, and waits where init has not read the ones before.
func (l *link) send(m message.Message) error {
	for {
		err := message.Send(l.fd, m)
		if err != unix.EAGAIN {
			return err
		}
		poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLOUT}}
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return err
		}
	}
}

// keep has init hold a copy of fd, so that it outlives this process.
func (l *link) keep(name string, fd int) error {
	if err := l.send(message.Message{Kind: message.Keep, Text: name, FD: fd}); err != nil {
		return fmt.Errorf("cannot have init keep %s: %w", name, err)
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

// drop has init close what it keeps under name.
func (l *link) drop(name string) {
	if l.held[name] {
		delete(l.held, name)
		_ = l.send(message.Message{Kind: message.Drop, Text: name})
	}
}

// receive calls handle with each signal that init passes on, until init is
// gone. Without init nothing reaps and nothing holds the sockets, so that the
// handoff ends with it.
func (l *link) receive(handle func(sig unix.Signal, seq uint64)) {
	file := os.NewFile(uintptr(l.fd), "init")
	raw, err := file.SyscallConn()
	buf := make([]byte, 4096) // init sends nothing larger after Start
	for err == nil {
		var m message.Message
		var failed error
		err = raw.Read(func(fd uintptr) bool {
			m, failed = message.Receive(int(fd), buf)
			return failed != unix.EAGAIN
		})
		if failed == unix.EPIPE {
			break
		}
		if err == nil && failed == nil && m.Kind == message.Signal {
			handle(unix.Signal(m.Value), m.Seq)
		}
	}
	os.Exit(exitcode.Failure)
}
