// Package box runs hotinit for a test: as a real PID 1, in a PID namespace
// with a /proc of its own, or as an ordinary process, which is then a
// subreaper.
//
// A test never waits for a time to pass. It waits for what it means: a line of
// output (Lines), an answer, a state in /proc (Until), the end of hotinit
// (Wait). Whatever a test started has ended when it has: a Box kills what is
// left.
//
// box.go starts hotinit and waits for it, process.go looks inside, build.go
// makes the binaries, and web.go asks the application.
package box

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/pidone"
)

// T is what a Box needs of a test; a testing.TB is one, and so is a script.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Options say how to run hotinit.
type Options struct {
	Binary string   // Hotinit by default
	Args   []string // behind the name
	Env    []string // all of it; Environment gives the usual one
	Dir    string
	Sub    bool // not as PID 1
	Stdin  *os.File
	Name   string                     // argv[0]; "hotinit" by default
	Attr   func(*syscall.SysProcAttr) // changes it
}

// Box is a running hotinit.
type Box struct {
	Output *Lines // standard output and standard error

	t         T
	cmd       *exec.Cmd
	namespace string // its name, "" where hotinit is not PID 1
	ended     chan struct{}
}

// Port is that of every Address. It is not one that something else on the machine
// may listen on at all addresses, such as 8080, nor one that the kernel gives out.
const Port = "18080"

// Host returns a loopback address that no other test uses.
func Host() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// Address returns a Host with the Port.
func Address() string { return Host() + ":" + Port }

// Environment is a plain one, with more variables.
func Environment(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LANG=C"}, more...)
}

// Start starts hotinit.
func Start(t T, o Options) *Box {
	t.Helper()
	if o.Binary == "" {
		o.Binary = Hotinit
	}
	if o.Name == "" {
		o.Name = "hotinit"
	}
	if o.Env == nil {
		o.Env = Environment()
	}
	words := append([]string{o.Name}, o.Args...)
	b := &Box{Output: NewLines(), t: t, ended: make(chan struct{})}
	if o.Sub {
		// A session of its own tells its processes from others.
		b.cmd = &exec.Cmd{Path: o.Binary, Args: words, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	} else {
		b.cmd = pidone.Command(o.Binary, words...)
	}
	if o.Attr != nil {
		o.Attr(b.cmd.SysProcAttr)
	}
	b.cmd.Env, b.cmd.Dir = o.Env, o.Dir
	if o.Stdin != nil {
		b.cmd.Stdin = o.Stdin
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatalf("cannot make a pipe: %v", err)
	}
	b.cmd.Stdout, b.cmd.Stderr = in, in
	err = pidone.Start(b.cmd)
	in.Close()
	if err != nil {
		out.Close()
		t.Fatalf("cannot start hotinit: %v", err)
	}
	if !o.Sub {
		b.identify()
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(b.Output, out)
		out.Close()
		b.Output.End()
	}()
	go func() {
		b.cmd.Wait()
		if o.Sub {
			// What hotinit left behind could hold the pipe; Wait's callers look
			// for it, and cleaning up ends it.
			out.SetReadDeadline(time.Now().Add(Patience))
		}
		<-read
		close(b.ended)
	}()
	t.Cleanup(b.clean)
	return b
}

// identify finds out the name of the namespace, and holds on to it: the kernel
// gives the name of one that has gone to the next one.
func (b *Box) identify() {
	b.t.Helper()
	path := fmt.Sprintf("/proc/%d/ns/pid", b.PID())
	held, err := os.Open(path)
	if err != nil {
		b.t.Fatalf("cannot open the namespace: %v", err)
	}
	b.t.Cleanup(func() { held.Close() })
	if b.namespace, err = os.Readlink(path); err != nil {
		b.t.Fatalf("cannot read the name of the namespace: %v", err)
	}
}

// clean ends whatever is left.
func (b *Box) clean() {
	for range 100 { // an app may be forking
		list, err := processes(b.cmd.Process.Pid, b.namespace)
		if err != nil {
			break
		}
		alive := 0
		for _, p := range list {
			if !p.Zombie() {
				alive++
				unix.Kill(p.PID, unix.SIGKILL)
			}
		}
		if alive == 0 {
			break
		}
	}
	<-b.ended
}

// PID is hotinit's, outside.
func (b *Box) PID() int { return b.cmd.Process.Pid }

// Ended is closed when hotinit has ended and its output was read.
func (b *Box) Ended() <-chan struct{} { return b.ended }

// Signal sends a signal to hotinit.
func (b *Box) Signal(s syscall.Signal) {
	b.t.Helper()
	b.SignalTo(b.PID(), s)
}

// SignalTo sends a signal to a process, by its PID outside. One that is to stop it
// has done so then: until that a thread of it may go on for a while.
func (b *Box) SignalTo(pid int, s syscall.Signal) {
	b.t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		b.t.Fatalf("cannot send %s to process %d: %v\noutput:\n%s", unix.SignalName(s), pid, err, b.Output)
	}
	if s == unix.SIGSTOP {
		b.Until("the process has stopped", func() bool { return stopped(pid) })
	}
}

// KillHandoff kills the handoff, and returns false if it has just ended.
func (b *Box) KillHandoff() bool {
	b.t.Helper()
	err := unix.Kill(b.Handoff().PID, unix.SIGKILL)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		b.t.Fatalf("cannot kill the handoff: %v", err)
	}
	return err == nil
}

// ReplaceHandoff kills the handoff and waits for the next one. What hotinit says of it is
// not waited for: with other output in the way, nobody reading, that line is dropped.
func (b *Box) ReplaceHandoff() {
	b.t.Helper()
	before := b.Handoff().PID
	b.SignalTo(before, unix.SIGKILL)
	b.Until("there is another handoff", func() bool { return b.Handoff().PID != before })
}

// Line waits for the next line of output that matches, and returns what its
// groups matched, as regexp has it.
func (b *Box) Line(pattern string) []string {
	b.t.Helper()
	found, err := b.Output.Find(pattern)
	if err != nil {
		b.t.Fatalf("%v; output:\n%s", err, b.Output)
	}
	return found
}

// Wait waits for the end of hotinit and returns its status, as a shell has it:
// 128+N for signal N.
func (b *Box) Wait() int {
	b.t.Helper()
	select {
	case <-b.ended:
	case <-time.After(Patience):
		b.t.Fatalf("hotinit does not end within %v\nprocesses: %v\noutput:\n%s", Patience, b.Processes(), b.Output)
	}
	status := b.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
