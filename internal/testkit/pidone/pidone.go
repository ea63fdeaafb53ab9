// Package pidone runs a command as PID 1 of a new PID namespace, with a /proc
// of its own, for tests and for the demonstration.
//
// The process that is started is the command: nothing stands between it and
// its parent, so its exit status is the command's, and to end it ends all
// that it started. To get there, the calling program executes itself in the
// new namespaces, mounts /proc, and then executes the command. So a program
// that uses this package calls Enter first thing in main (a test, in
// TestMain).
//
// A caller who is not root gets a user namespace too, in which it is.
package pidone

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// stage is the name of the program while it prepares the namespace.
const stage = "hotinit-pidone"

// failed is the exit status of the stage where it cannot prepare it.
const failed = 96

// Enter goes on to the command if this process is the stage, and else returns.
func Enter() {
	if len(os.Args) == 0 || os.Args[0] != stage {
		return
	}
	err := enter(os.Args[1:])
	fmt.Fprintln(os.Stderr, "pidone:", err)
	os.Exit(failed)
}

func enter(args []string) error {
	// Whatever is mounted here is to be seen here only (mount_namespaces(7)).
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the mounts private: %w", err)
	}
	// The old /proc shows the PIDs of the namespace it was mounted in.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	if len(args) == 0 {
		os.Exit(0) // Supported wanted to know no more
	}
	path, args := args[0], args[1:]
	return fmt.Errorf("cannot execute %s: %w", path, unix.Exec(path, args, os.Environ()))
}

// Command is the command that executes path with the given words, the first
// of which is its name, as PID 1.
func Command(path string, words ...string) *exec.Cmd {
	return &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        append([]string{stage, path}, words...),
		SysProcAttr: namespaces(),
	}
}

func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// Supported says why there can be no PID 1 here, and nil where there can. It
// tries: no setting foretells it.
var Supported = sync.OnceValue(func() error {
	c := &exec.Cmd{Path: "/proc/self/exe", Args: []string{stage}, SysProcAttr: namespaces()}
	out, err := c.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("no PID namespace: %s", out)
	}
	if err != nil {
		return fmt.Errorf("no PID namespace: %w", err)
	}
	return nil
})

// Start starts the command so that it ends when the calling program does,
// however that ends.
//
// PR_SET_PDEATHSIG goes by the thread that started a process, not by its
// program (prctl(2)), and Go ends threads as it likes. So one goroutine keeps
// a thread for itself and starts them all.
func Start(c *exec.Cmd) error {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = unix.SIGKILL
	starter.Do(func() {
		go func() {
			runtime.LockOSThread()
			for start := range starts {
				start()
			}
		}()
	})
	result := make(chan error)
	starts <- func() { result <- c.Start() }
	return <-result
}

var (
	starter sync.Once
	starts  = make(chan func())
)
