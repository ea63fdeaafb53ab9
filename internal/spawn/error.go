package spawn

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
)

// stage numbers the steps of a start. The child reports the step that failed.
type stage uint32

const (
	stageFork stage = iota
	stageFilter
	stageSession
	stageGroup
	stageFiles
	stageTerminal
	stageForeground
	stageLimit
	stageGroups
	stageGID
	stageUID
	stageNoNewPrivs
	stageChdir
	stageSignals
	stageExec
)

var stages = [...]struct {
	op    string // Error.Op
	what  string // after "cannot "
	names bool   // Error.Path follows
}{
	stageFork:       {"fork", "start a process for ", true},
	stageFilter:     {"seccomp", "install the seccomp filter", false},
	stageSession:    {"setsid", "start a session", false},
	stageGroup:      {"setpgid", "start a process group", false},
	stageFiles:      {"files", "pass the file descriptors", false},
	stageTerminal:   {"ctty", "make the terminal the new session's controlling terminal", false},
	stageForeground: {"tcsetpgrp", "give the terminal to the new process group", false},
	stageLimit:      {"setrlimit", "set the limit of open files", false},
	stageGroups:     {"setgroups", "set the supplementary groups", false},
	stageGID:        {"setgid", "set the group ID", false},
	stageUID:        {"setuid", "set the user ID", false},
	stageNoNewPrivs: {"no_new_privs", "set no_new_privs", false},
	stageChdir:      {"chdir", "change the working directory to ", true},
	stageSignals:    {"signals", "set the signal mask", false},
	stageExec:       {"exec", "execute ", true},
}

// Error says which step of a start failed.
type Error struct {
	Op   string // "fork", "chdir", "setgroups", "setgid", "setuid", "tcsetpgrp", "exec", ...
	Path string // the program or directory, for an Op that has one
	Err  unix.Errno
}

func (e *Error) Error() string {
	s := "cannot " + e.Op
	for _, st := range stages {
		if st.op == e.Op {
			s = "cannot " + st.what
			if st.names {
				s += strconv.Quote(e.Path)
			}
		}
	}
	s += ": " + e.Err.Error()
	if h := e.hint(); h != "" {
		s += " (" + h + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// hint says what to do about the error, where that is not obvious.
func (e *Error) hint() string {
	switch {
	case e.Op == "fork" && e.Err == unix.EAGAIN:
		return "the limit of processes is reached: see ulimit -u and the cgroup's pids.max"
	case e.Op == "fork" && (e.Err == unix.EMFILE || e.Err == unix.ENFILE):
		return "the limit of open files is reached: see ulimit -n and fs.file-max"
	case e.Op == "fork" && e.Err == unix.ENOMEM:
		return "memory is short"
	case e.Op == "exec" && e.Err == unix.ENOENT:
		if isThere(e.Path) {
			return "the file exists, but its interpreter or loader (#! line, ld.so) does not"
		}
		return "check the command and PATH"
	case e.Op == "exec" && e.Err == unix.EACCES:
		return "is it a regular file with its x bit set, on a file system mounted without noexec, in directories that may be searched?"
	case e.Op == "exec" && e.Err == unix.ENOEXEC:
		return "is it built for this machine?"
	case e.Op == "exec" && e.Err == unix.ETXTBSY:
		return "it is still being written"
	case e.Op == "exec" && e.Err == unix.ETIMEDOUT:
		return "its file system does not answer, or somebody has stopped it; it is killed"
	case e.Op == "exec" && e.Err == unix.E2BIG:
		return "the arguments and environment are too long"
	case e.Err == unix.EPERM && (e.Op == "setgroups" || e.Op == "setgid" || e.Op == "setuid"):
		return "this needs root, or CAP_SETUID and CAP_SETGID"
	}
	return ""
}

// isThere reports whether a file is there. Whoever words an error does not wait for a
// file system that has stopped to answer.
func isThere(path string) bool {
	answer := make(chan bool, 1)
	go func() {
		var st unix.Stat_t
		answer <- unix.Stat(path, &st) == nil
	}()
	limit := time.NewTimer(500 * time.Millisecond)
	defer limit.Stop()
	select {
	case there := <-answer:
		return there
	case <-limit.C:
		return false
	}
}

// ExitCode is the status to exit with for the error.
func (e *Error) ExitCode() int {
	switch {
	case e.Op != "exec":
		return exitcode.Failure
	case e.Err == unix.ENOENT || e.Err == unix.ENOTDIR:
		return exitcode.NotFound
	default:
		return exitcode.NotExecutable
	}
}
