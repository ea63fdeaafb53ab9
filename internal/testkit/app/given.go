package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Given is what the process found when it started.
type Given struct {
	PID         int
	Group       int
	Session     int
	Foreground  int // of descriptor 0, 0 where that is no terminal
	Dir         string
	UID, GID    int
	Groups      []int
	Umask       int
	NoFile      uint64
	Args        []string
	Env         map[string]string
	Signals     map[string]string // SigBlk, SigIgn, SigPnd, ShdPnd, NoNewPrivs as /proc has them
	Descriptors []Descriptor
}

// Descriptor is one that was open, and not close-on-exec: a descriptor with
// that flag cannot have come through execve(2), so the runtime opened it.
type Descriptor struct {
	Number      int
	Target      string
	NonBlocking bool
	Address     string `json:",omitempty"`
}

func take() *Given {
	g := &Given{
		PID:     os.Getpid(),
		Group:   unix.Getpgrp(),
		UID:     os.Getuid(),
		GID:     os.Getgid(),
		Args:    os.Args,
		Env:     map[string]string{},
		Signals: map[string]string{},
	}
	for n := range 1024 {
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		d := Descriptor{Number: n}
		if status, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0); err == nil {
			d.NonBlocking = status&unix.O_NONBLOCK != 0
		}
		d.Target, _ = os.Readlink("/proc/self/fd/" + strconv.Itoa(n))
		d.Address = address(n)
		g.Descriptors = append(g.Descriptors, d)
	}
	g.Session, _ = unix.Getsid(0)
	g.Foreground, _ = unix.IoctlGetInt(0, unix.TIOCGPGRP)
	g.Dir, _ = os.Getwd()
	g.Groups, _ = os.Getgroups()
	g.Umask = unix.Umask(0)
	unix.Umask(g.Umask)
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		g.NoFile = limit.Cur
	}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		g.Env[name] = value
	}
	// Go's runtime has put its handlers in place by now, so that only a plain C
	// program can report SigIgn exactly. What is blocked and pending is true.
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "SigBlk", "SigIgn", "SigPnd", "ShdPnd", "NoNewPrivs":
			g.Signals[name] = strings.TrimSpace(value)
		}
	}
	return g
}

func address(fd int) string {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return strconv.Itoa(sa.Port)
	case *unix.SockaddrInet6:
		return strconv.Itoa(sa.Port)
	case *unix.SockaddrUnix:
		return sa.Name
	}
	return "other"
}

func (g *Given) json() []byte {
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		panic(err) // only plain data in it
	}
	return append(text, '\n')
}
