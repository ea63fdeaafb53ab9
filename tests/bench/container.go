package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each wait for a measured program; none takes nearly as long.
const patience = 2 * time.Minute

// container is one tool running as PID 1 of a namespace of its own.
type container struct {
	cmd     *exec.Cmd
	pid     int    // as this process sees it
	began   uint64 // clock reading just before the tool was executed
	in      *os.File
	out     *os.File
	stopCtx func() bool
	ended   bool
}

type options struct {
	cpu int // the one processor it may use, or -1
	log *os.File
	env []string // beside PATH; nil is none
}

// start runs a tool with a command beneath it, once the stage of the helper
// has mounted the namespace's own /proc.
func start(ctx context.Context, s *setup, t tool, opt options, command ...string) (*container, error) {
	argv := append([]string{s.helper, "stage", strconv.Itoa(opt.cpu)}, t.command(command...)...)
	var pipes [3][2]*os.File
	for i := range pipes {
		var err error
		if pipes[i][0], pipes[i][1], err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	in, out, clock := pipes[0], pipes[1], pipes[2]
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in[0], out[1], opt.log
	cmd.ExtraFiles = []*os.File{clock[1]}
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, opt.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: s.cloneflags, Pdeathsig: unix.SIGKILL}
	if s.cloneflags&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Start()
	in[0].Close()
	out[1].Close()
	clock[1].Close()
	defer clock[0].Close()
	if err != nil {
		in[1].Close()
		out[0].Close()
		return nil, fmt.Errorf("cannot start %s in a fresh PID namespace: %w", t.name, err)
	}
	c := &container{cmd: cmd, pid: cmd.Process.Pid, in: in[1], out: out[0]}
	c.stopCtx = context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	if c.began, err = readStamp(clock[0]); err != nil {
		c.end()
		return nil, fmt.Errorf("%s did not get as far as being executed: %w", t.name, err)
	}
	return c, nil
}

// end kills PID 1, and with it the kernel kills all that is in the namespace,
// pid_namespaces(7).
func (c *container) end() {
	if c.ended {
		return
	}
	c.cmd.Process.Kill()
	_, _ = c.wait()
}

// wait returns how PID 1 ended. One that does not end is killed.
func (c *container) wait() (syscall.WaitStatus, error) {
	c.in.Close()
	timer := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
	err := c.cmd.Wait()
	late := !timer.Stop()
	c.ended = true
	c.stopCtx()
	c.out.Close()
	if late {
		return 0, fmt.Errorf("it did not end within %v and was killed", patience)
	}
	if c.cmd.ProcessState == nil {
		return 0, err
	}
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus), nil
}

// ready reads the byte with which a helper says that it is up.
func (c *container) ready() error {
	var b [1]byte
	c.out.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c.out, b[:]); err != nil {
		return fmt.Errorf("the command beneath the init did not come up: %w", err)
	}
	return nil
}

// tell lets a helper that waits go on.
func (c *container) tell() error {
	_, err := c.in.Write([]byte{'G'})
	return err
}

// stamp reads one clock reading of the helper.
func (c *container) stamp() (uint64, error) { return readStamp(c.out) }

func (c *container) signal(sig unix.Signal) error { return c.cmd.Process.Signal(sig) }

func readStamp(f *os.File) (uint64, error) {
	var b [8]byte
	f.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return 0, fmt.Errorf("no clock reading came: %w", err)
	}
	return parseStamp(b[:])
}

func parseStamp(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("a clock reading has 8 bytes, not %d", len(b))
	}
	return binary.NativeEndian.Uint64(b), nil
}

// now reads the clock that the helper reads.
func now() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // the clock is always there, clock_gettime(2)
	}
	return uint64(t.Nano())
}

// since is in nanoseconds, and negative only where clocks disagree.
func since(earlier, later uint64) time.Duration { return time.Duration(int64(later - earlier)) }
