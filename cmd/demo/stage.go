package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/pidone"
)

const module = "github.com/hotinit/hotinit"

// stage is where the demonstration takes place: a directory with the binaries,
// and hotinit with the server under it.
type stage struct {
	dir     string
	address string
	screen  *screen

	subreaper error // why hotinit is not PID 1
	cmd       *exec.Cmd
	ended     chan struct{}
}

func (st *stage) path(name string) string { return filepath.Join(st.dir, name) }

// build makes the three binaries. Only Go is needed for that.
func (st *stage) build(ctx context.Context) error {
	for _, b := range []struct{ out, flags, from string }{
		{"hotinit", "-s -w -E hotinit_entry", module + "/cmd/hotinit"},
		{"v1", "-s -w -X main.version=v1", module + "/cmd/demo/server"},
		{"v2", "-s -w -X main.version=v2", module + "/cmd/demo/server"},
	} {
		c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", b.flags, "-o", st.path(b.out), b.from)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demonstration
		if out, err := c.CombinedOutput(); err != nil {
			if ctx.Err() != nil {
				return errInterrupted
			}
			return fmt.Errorf("cannot build %s (run this in a checkout of hotinit): %w\n%s", b.from, err, out)
		}
	}
	return nil
}

// install puts a version in the place of the server as a deployment should: a
// complete file, renamed.
func (st *stage) install(version string) error {
	content, err := os.ReadFile(st.path(version))
	if err != nil {
		return err
	}
	if err := os.WriteFile(st.path("server.new"), content, 0o755); err != nil {
		return err
	}
	return os.Rename(st.path("server.new"), st.path("server"))
}

// start starts hotinit, as PID 1 where that is possible.
func (st *stage) start() error {
	words := []string{"hotinit", "--", st.path("server")}
	if st.subreaper = pidone.Supported(); st.subreaper == nil {
		st.cmd = pidone.Command(st.path("hotinit"), words...)
	} else {
		st.cmd = &exec.Cmd{Path: st.path("hotinit"), Args: words, SysProcAttr: &syscall.SysProcAttr{}}
	}
	st.cmd.SysProcAttr.Setsid = true
	st.cmd.Env = append(os.Environ(), "HOTINIT_PORTS="+st.address)
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	st.cmd.Stdout, st.cmd.Stderr = in, in
	err = pidone.Start(st.cmd)
	in.Close()
	if err != nil {
		out.Close()
		return fmt.Errorf("cannot start hotinit: %w", err)
	}
	st.screen.step("Running hotinit -- ./server as %s, HOTINIT_PORTS=%s", st.init(), st.address)
	st.ended = make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			st.screen.say("%s", lines.Text())
		}
		io.Copy(io.Discard, out)
		out.Close()
		st.cmd.Wait()
		close(st.ended)
	}()
	return nil
}

func (st *stage) init() string {
	if st.subreaper != nil {
		return fmt.Sprintf("a subreaper (%v)", st.subreaper)
	}
	return "PID 1 of a PID namespace"
}

// up waits until the server answers for the first time.
func (st *stage) up(ctx context.Context) error {
	l := load.Start(load.Options{Address: st.address, Workers: 1, Pause: 50 * time.Millisecond})
	defer l.Stop()
	if err := st.await(ctx, l.Answered("v1 generation 1 ")); err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	st.screen.say("v1 generation 1 answers")
	return nil
}

// await waits for an event that must come.
func (st *stage) await(ctx context.Context, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-ctx.Done():
		return errInterrupted
	case <-st.ended:
		return fmt.Errorf("hotinit has ended: %v", st.cmd.ProcessState)
	case <-time.After(patience):
		return fmt.Errorf("waited for %v", patience)
	}
}

// wait lets time pass.
func (st *stage) wait(ctx context.Context, over <-chan time.Time) error {
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return errInterrupted
	case <-st.ended:
		return fmt.Errorf("hotinit has ended: %v", st.cmd.ProcessState)
	}
}

func (st *stage) signal(s syscall.Signal) error { return st.cmd.Process.Signal(s) }

// killHandoff kills hotinit's one child of its own.
func (st *stage) killHandoff() error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	parent := fmt.Sprintf("\nPPid:\t%d\n", st.cmd.Process.Pid)
	for _, dir := range dirs {
		status, _ := os.ReadFile(dir + "/status")
		words, _ := os.ReadFile(dir + "/cmdline")
		if !bytes.Contains(status, []byte(parent)) || !strings.HasPrefix(string(words), "hotinit-handoff\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return err
		}
		return unix.Kill(pid, unix.SIGKILL)
	}
	return fmt.Errorf("hotinit (process %d) has no handoff", st.cmd.Process.Pid)
}

// stop ends hotinit in order and returns its exit status.
func (st *stage) stop() (int, error) {
	if err := st.signal(unix.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-st.ended:
		return st.cmd.ProcessState.ExitCode(), nil
	case <-time.After(patience):
		return 0, fmt.Errorf("hotinit does not end within %v", patience)
	}
}

// end ends hotinit if it still runs, and with it all that it started.
func (st *stage) end() {
	select {
	case <-st.ended:
		return
	default:
	}
	if _, err := st.stop(); err != nil {
		st.cmd.Process.Kill()
	}
}
