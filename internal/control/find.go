package control

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Variable names the hotinit that is asked where no --pid does, by its PID.
const Variable = "HOTINIT_CONTROL"

// errNobody is that find has found none.
var errNobody = errors.New("there is no hotinit here that answers (run this in its container, and in its network namespace, or name its PID with --pid)")

// find returns the PID of the hotinit that is meant where none is named: PID 1, as
// in a container, or else the only one of this PID namespace. Under `docker run
// --init`, and where containers share a PID namespace, hotinit is not PID 1.
func find() (int, error) {
	if text := os.Getenv(Variable); text != "" {
		pid, err := strconv.Atoi(text)
		if err != nil || pid < 1 {
			return 0, fmt.Errorf("%s=%q: not a process ID", Variable, text)
		}
		return pid, nil
	}
	// Whether PID 1 listens is asked by connecting: /proc may not be mounted.
	if fd, err := connect(1, 0); err == nil {
		unix.Close(fd)
		return 1, nil
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		return 1, nil // the caller says what is wrong
	}
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return 1, nil
	}
	switch pids := listening(string(text), Namespace()); len(pids) {
	case 0:
		return 0, errNobody
	case 1:
		return pids[0], nil
	default:
		return 0, fmt.Errorf("there are several hotinit here; name one with --pid or %s:%s", Variable, describe(pids))
	}
}

// listening returns the PIDs of a namespace whose hotinit listens, by the text of
// /proc/net/unix, proc(5): it has abstract addresses with an @ in the place of the
// null byte.
func listening(text, namespace string) (pids []int) {
	const accepting = "00010000" // __SO_ACCEPTCON
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 || f[3] != accepting {
			continue
		}
		number, ok := strings.CutPrefix(f[7], "@hotinit/control/"+namespace+"/")
		if pid, err := strconv.Atoi(number); ok && err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// describe lists processes with their command lines.
func describe(pids []int) string {
	var b strings.Builder
	for _, pid := range pids {
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		words := strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")
		fmt.Fprintf(&b, " %d (%.60s)", pid, words)
	}
	return b.String()
}

// connect connects to the hotinit with a PID, unless that takes longer than limit;
// 0 is for ever. The descriptor does not block.
func connect(pid int, limit time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot make a socket: %w", err)
	}
	if limit > 0 {
		// The time-out for sending is that of connect(2) too: nobody may accept.
		wait := unix.NsecToTimeval(limit.Nanoseconds())
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: Address(pid)}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, unix.SetNonblock(fd, true)
}
