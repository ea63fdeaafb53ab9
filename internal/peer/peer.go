// Package peer acts on another hotinit that --pid-file names: start_server's
// --restart and --stop.
//
// Invariant: a PID is acted on only while it is the process that was found at
// first, which its start time proves, and that process has the PID file open, as
// hotinit and start_server have theirs for as long as they run. A PID in a file that
// was left behind may be anybody's by now.
package peer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/safepath"
)

// poll is how often the other hotinit is looked at: that works with
// start_server itself, too.
const poll = 20 * time.Millisecond

// startup is how long a hotinit that has just written its PID file may take until
// its PID 1 has the file.
const startup = time.Second

// longest bounds what is read of a PID file and a status file.
const longest = 1 << 20

// find reads a PID file. The file of another user may name only a process of
// that user: root would signal any process for them.
func find(pidFile string) (proc.Stat, error) {
	b, err := safepath.ReadFile(pidFile, longest)
	if err != nil {
		return proc.Stat{}, fmt.Errorf("cannot read --pid-file %s: %w", pidFile, err)
	}
	file, err := safepath.Stat(pidFile)
	if err != nil {
		return proc.Stat{}, fmt.Errorf("cannot read --pid-file %s: %w", pidFile, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return proc.Stat{}, fmt.Errorf("--pid-file %s does not hold a PID", pidFile)
	}
	p, err := proc.Read(pid)
	if err != nil {
		return proc.Stat{}, fmt.Errorf("--pid-file %s names process %d, which does not run", pidFile, pid)
	}
	var process unix.Stat_t
	if file.Uid != 0 && int(file.Uid) != os.Geteuid() &&
		(unix.Stat("/proc/"+strconv.Itoa(pid), &process) != nil || process.Uid != file.Uid) {
		return proc.Stat{}, fmt.Errorf("--pid-file %s belongs to user %d, and process %d does not", pidFile, file.Uid, pid)
	}
	for end := time.Now().Add(startup); !holds(p, pidFile, file.Dev, file.Ino); time.Sleep(poll) {
		if gone(p) || time.Now().After(end) {
			return proc.Stat{}, fmt.Errorf("--pid-file %s was left behind: process %d, which it names, does not have it open, as a hotinit that runs would (remove the file)", pidFile, pid)
		}
	}
	return p, nil
}

// holds reports whether a process has the PID file open. Where its descriptors may
// not be looked at, it is enough that somebody has locked the file.
func holds(p proc.Stat, pidFile string, dev, ino uint64) bool {
	dir := "/proc/" + strconv.Itoa(p.PID) + "/fd/"
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrPermission) {
		return locked(pidFile)
	}
	return slices.ContainsFunc(names, func(e os.DirEntry) bool {
		var open unix.Stat_t
		return unix.Stat(dir+e.Name(), &open) == nil && open.Dev == dev && open.Ino == ino
	})
}

// locked reports whether somebody has locked a file.
func locked(path string) bool {
	fd, err := safepath.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// gone reports whether a process has ended.
func gone(p proc.Stat) bool {
	now, err := proc.Read(p.PID)
	return err != nil || now.Start != p.Start
}

// Stop sends SIGTERM and returns once the other hotinit has ended.
func Stop(pidFile string) error {
	p, err := find(pidFile)
	if err == nil {
		err = unix.Kill(p.PID, unix.SIGTERM)
	}
	if err != nil {
		return fmt.Errorf("cannot stop: %w", err)
	}
	for !gone(p) {
		time.Sleep(poll)
	}
	return nil
}

// Restart asks for a new generation and returns once the status file names no
// older one. start_server waits for ever if the new one fails; this asks the
// other hotinit what became of it.
func Restart(pidFile, statusFile string) error {
	p, err := find(pidFile)
	if err != nil {
		return fmt.Errorf("cannot restart: %w", err)
	}
	before := generations(statusFile)
	if len(before) == 0 {
		return fmt.Errorf("cannot restart: --status-file %s names no generation", statusFile)
	}
	newest := before[len(before)-1]
	if err := reload(p.PID); err != nil {
		if errors.Is(err, errRejected) {
			return fmt.Errorf("the new generation failed: %w", err)
		}
		// It does not answer: it is start_server itself, or is in another
		// network namespace.
		if err := unix.Kill(p.PID, unix.SIGHUP); err != nil {
			return fmt.Errorf("cannot send HUP to process %d: %w", p.PID, err)
		}
	}
	for {
		now := generations(statusFile)
		if len(now) > 0 && now[0] > newest {
			return nil
		}
		if gone(p) {
			return fmt.Errorf("process %d has ended", p.PID)
		}
		time.Sleep(poll)
	}
}

// errRejected is the error of a generation that failed.
var errRejected = errors.New("rejected")

// reload asks another hotinit for a new generation and waits for its outcome.
func reload(pid int) error {
	var rejected error
	err := control.Ask(pid, control.Request{Op: "reload", Wait: true}, func(r control.Response) bool {
		if !r.OK {
			rejected = fmt.Errorf("%w: %s", errRejected, r.Text)
		}
		return false
	})
	if err != nil {
		return err
	}
	return rejected
}

// generations returns the numbers in a status file, in order.
func generations(path string) []int {
	b, err := safepath.ReadFile(path, longest)
	if err != nil {
		return nil
	}
	var ns []int
	for line := range strings.SplitSeq(string(b), "\n") {
		text, _, _ := strings.Cut(line, ":")
		if n, err := strconv.Atoi(text); err == nil {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return ns
}
