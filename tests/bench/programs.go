package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// manager is one way to run many programs from files.
type manager struct {
	name  string
	needs string
	stop  unix.Signal // has PID 1 stop its programs, and end
	slow  bool        // it waits up to a second for each program, one after the other: not waited for
	// files writes what it reads, and returns its command line.
	files func(dir string, n int, sleep string) ([]string, error)
}

func (b *bench) managers() []manager {
	return []manager{
		{nameHotinit, "", unix.SIGTERM, false, func(dir string, n int, sleep string) ([]string, error) {
			for i := range n {
				text := fmt.Sprintf("HOTINIT_COMMAND=%s 1000000\nHOTINIT_ON_EXIT=restart\nHOTINIT_PROBATION=%v\n", sleep, b.scale.probation)
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("p%04d.env", i)), []byte(text), 0o644); err != nil {
					return nil, err
				}
			}
			return []string{b.hotinit, "--verbosity", "0", "--programs", dir}, nil
		}},
		{"s6", "s6-svscan", unix.SIGTERM, false, func(dir string, n int, sleep string) ([]string, error) {
			// Nothing is logged, and the end of s6-svscan as PID 1 is its script's.
			if err := script(filepath.Join(dir, ".s6-svscan", "finish"), "exit 0"); err != nil {
				return nil, err
			}
			return []string{"s6-svscan", "-c", strconv.Itoa(n + 500), dir}, runScripts(dir, n, sleep)
		}},
		{"runit", "runsvdir", unix.SIGHUP, false, func(dir string, n int, sleep string) ([]string, error) {
			return []string{"runsvdir", dir}, runScripts(dir, n, sleep)
		}},
		{"supervisord", "supervisord", unix.SIGTERM, true, func(dir string, n int, sleep string) ([]string, error) {
			var conf strings.Builder
			fmt.Fprintf(&conf, "[supervisord]\nnodaemon=true\nuser=root\nloglevel=error\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=%s/pid\nminfds=%d\nminprocs=200\n", dir, 5*n+100)
			for i := range n {
				fmt.Fprintf(&conf, "[program:p%04d]\ncommand=%s 1000000\nautorestart=true\nstdout_logfile=NONE\nstderr_logfile=NONE\n", i, sleep)
			}
			path := filepath.Join(dir, "supervisord.conf")
			return []string{"supervisord", "-n", "-c", path}, os.WriteFile(path, []byte(conf.String()), 0o644)
		}},
	}
}

func script(path, line string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte("#!/bin/sh\n"+line+"\n"), 0o755)
}

func runScripts(dir string, n int, sleep string) error {
	for i := range n {
		if err := script(filepath.Join(dir, fmt.Sprintf("p%04d", i), "run"), "exec "+sleep+" 1000000"); err != nil {
			return err
		}
	}
	return nil
}

// inside is a process of a container, by its PID outside.
type inside struct {
	pid     int
	program bool // one of those that are managed
}

// members lists the processes of the container. program is the name of what is managed.
func (c *container) members(program string) ([]inside, error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.pid))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []inside
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err != nil || ns != own {
			continue // another's, or it has just ended
		}
		all = append(all, inside{pid, nameOf("/proc/"+e.Name()) == program})
	}
	return all, nil
}

func nameOf(dir string) string {
	b, err := os.ReadFile(dir + "/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// running counts the managed programs in the container's own /proc.
func (c *container) running(program string) int {
	dir := fmt.Sprintf("/proc/%d/root/proc", c.pid)
	f, err := os.Open(dir)
	if err != nil {
		return 0
	}
	names, _ := f.Readdirnames(-1)
	f.Close()
	n := 0
	for _, name := range names {
		if name[0] >= '0' && name[0] <= '9' && nameOf(dir+"/"+name) == program {
			if state, _, ok := stateAndParent(dir + "/" + name); ok && state != 'Z' {
				n++
			}
		}
	}
	return n
}

// until waits until as many programs run, and returns when that was.
func (c *container) until(ctx context.Context, program string, n int) (uint64, error) {
	deadline := time.Now().Add(patience)
	for {
		runs := c.running(program)
		if runs == n {
			return now(), nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%d of %d programs run after %v", runs, n, patience)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// killSome kills some programs, and returns how long it takes until as many run again.
// kill, if not 0, is killed just before them.
func (c *container) killSome(ctx context.Context, program string, some, n, kill int) (time.Duration, error) {
	all, err := c.members(program)
	if err != nil {
		return 0, err
	}
	var dead []int
	for _, p := range all {
		if p.program && len(dead) < some {
			fd, err := unix.PidfdOpen(p.pid, 0)
			if err != nil {
				return 0, err
			}
			defer unix.Close(fd)
			dead = append(dead, fd)
		}
	}
	began := now()
	if kill != 0 {
		if err := unix.Kill(kill, unix.SIGKILL); err != nil {
			return 0, err
		}
	}
	for _, fd := range dead {
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
			return 0, err
		}
	}
	for _, fd := range dead { // so that none of them is counted
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, _ = unix.Poll(poll, int(patience/time.Millisecond))
	}
	ended, err := c.until(ctx, program, n)
	return since(began, ended), err
}

func threadsOf(pids []int) (n int) {
	for _, pid := range pids {
		if fields, err := keyed(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			n += fields["Threads"]
		}
	}
	return n
}

// measurePrograms has each manager run many programs that do nothing.
func measurePrograms(ctx context.Context, b *bench, r *report) error {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		return err
	}
	if sleep, err = filepath.EvalSymlinks(sleep); err != nil {
		return err
	}
	program, n := filepath.Base(sleep), b.scale.programs
	var (
		up        = r.figure(programsUp, "%.2f s")
		pss       = r.figure(proportional, "%.1f MB")
		processes = r.figure("processes of its own", "%.0f")
		threads   = r.figure("threads", "%.0f")
		wakeups   = r.figure(contextSwitches, "%.2f")
		again     = r.figure(programsAgain, "%.2f s")
		resume    = r.figure("the same for one, with the handoff killed", "%.2f s")
		down      = r.figure("until all have ended", "%.2f s")
	)
	for range b.scale.programsRuns {
		var all []*managed
		err := func() error {
			for _, m := range b.managers() {
				if _, err := exec.LookPath(m.needs); m.needs != "" && err != nil {
					continue
				}
				one, took, err := b.manage(ctx, m, program, sleep, n)
				if err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
				all = append(all, one)
				up.add(m.name, took.Seconds())
			}
			if err := pause(ctx, b.scale.calm); err != nil {
				return err
			}
			before := make([]int, len(all))
			for i, one := range all {
				if err := one.look(program); err != nil {
					return err
				}
				var err error
				if before[i], err = switches(one.own); err != nil {
					return err
				}
			}
			if err := pause(ctx, b.scale.programsIdle); err != nil {
				return err
			}
			for i, one := range all {
				after, err := switches(one.own)
				if err != nil {
					return err
				}
				wakeups.add(one.name, float64(after-before[i])/b.scale.programsIdle.Seconds())
			}
			for _, one := range all {
				mem, err := memoryOf(one.own)
				if err != nil {
					return err
				}
				pss.add(one.name, float64(mem.pss)/1000)
				processes.add(one.name, float64(len(one.own)))
				threads.add(one.name, float64(threadsOf(one.own)))
				took, err := one.killSome(ctx, program, min(100, n/2), n, 0)
				if err != nil {
					return fmt.Errorf("%s: %w", one.name, err)
				}
				again.add(one.name, took.Seconds())
				if one.handoff != 0 {
					if took, err = one.killSome(ctx, program, 1, n, one.handoff); err != nil {
						return fmt.Errorf("%s: %w", one.name, err)
					}
					resume.add(one.name, took.Seconds())
				}
				if one.slow {
					r.note("how long %s takes until all have ended is left out: up to a second for each program", one.name)
					continue
				}
				began := now()
				if err := one.signal(one.stop); err != nil {
					return err
				}
				if _, err := one.wait(); err != nil {
					return fmt.Errorf("%s: %w", one.name, err)
				}
				down.add(one.name, since(began, now()).Seconds())
			}
			return nil
		}()
		for _, one := range all {
			one.end()
			os.RemoveAll(one.dir)
		}
		if err != nil {
			return err
		}
	}
	r.note("%d programs; %d of them are killed", n, min(100, n/2))
	r.note("all of its own processes count, and none of the programs; the context switches are those of %v, from %v after the last start", b.scale.programsIdle, b.scale.calm)
	return nil
}

// managed is a manager with its programs.
type managed struct {
	manager
	*container
	dir     string
	own     []int // its processes, without the programs
	handoff int   // hotinit's, else 0
}

// manage starts a manager, and returns how long it takes until all programs run.
func (b *bench) manage(ctx context.Context, m manager, program, sleep string, n int) (*managed, time.Duration, error) {
	dir, err := os.MkdirTemp(b.dir, "programs")
	if err != nil {
		return nil, 0, err
	}
	argv, err := m.files(dir, n, sleep)
	if err == nil {
		argv[0], err = exec.LookPath(argv[0])
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, 0, err
	}
	unix.Sync()
	c, err := start(ctx, &b.setup, tool{name: m.name}, options{cpu: -1, log: b.log}, argv...)
	if err != nil {
		os.RemoveAll(dir)
		return nil, 0, err
	}
	at, err := c.until(ctx, program, n)
	if err != nil {
		c.end()
		os.RemoveAll(dir)
		return nil, 0, err
	}
	return &managed{manager: m, container: c, dir: dir}, since(c.began, at), nil
}

// look finds the manager's own processes.
func (m *managed) look(program string) error {
	all, err := m.members(program)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.program {
			continue
		}
		m.own = append(m.own, p.pid)
		if nameOf(fmt.Sprintf("/proc/%d", p.pid)) == "hotinit-handoff" {
			m.handoff = p.pid
		}
	}
	return nil
}
