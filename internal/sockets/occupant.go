package sockets

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// States of TCP sockets in /proc/net/tcp, as the kernel's tcp_states.h numbers them.
const (
	tcpTimeWait = "06"
	tcpListen   = "0A"
)

// occupant says why the port of s is in use, and what to do.
//
// SO_REUSEADDR does not help where the old socket had not set it: as long as one
// of its connections is in TIME_WAIT, the port cannot be bound, though nobody
// listens.
func (s Spec) occupant() string {
	const somebody = "another process listens there; choose another port"
	if s.Network != TCP {
		return somebody
	}
	waiting, open := 0, 0
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/net/" + file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			f := strings.Fields(line)
			if len(f) < 10 {
				continue
			}
			_, port, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(port, 16, 16); err != nil || int(n) != s.Port {
				continue
			}
			switch f[3] {
			case tcpListen:
				return strings.Replace(somebody, "another process", holder(f[9]), 1)
			case tcpTimeWait:
				waiting++
			default:
				open++
			}
		}
	}
	switch {
	case waiting > 0:
		return fmt.Sprintf("nobody listens there, but connections of a process that has ended are in TIME_WAIT: %d of them, for up to a minute; try again then, or choose another port", waiting)
	case open > 0:
		return "nobody listens there, but connections of another process have this port; choose another port"
	}
	return "another process has it; choose another port"
}

// holder describes the first process that has a socket open, by its inode. It
// may not be seen: it is another user's, or in another PID namespace.
func holder(inode string) string {
	const unknown = "another process"
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return unknown
	}
	lowest := 0
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
		if err == nil && pid != os.Getpid() && (lowest == 0 || pid < lowest) {
			lowest = pid
		}
	}
	if lowest == 0 {
		return unknown
	}
	return processName(lowest)
}

// processName describes a process for an error: its PID, and the name that it has
// if /proc shows it.
func processName(pid int) string {
	name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return "process " + strconv.Itoa(pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
}
