package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hotinit/hotinit/internal/sockets"
)

// socket is one that generations inherit.
type socket struct {
	spec   sockets.Spec
	fd     int // here
	number int // in the app
}

// contract is what the app's environment and descriptors are made from.
type contract struct {
	base    []string // the environment that hotinit was started with
	envdir  string
	sockets []socket
	// always has SERVER_STARTER_PORT there though there is no socket.
	always bool
	// plain leaves the environment as it is: the app of a tini or dumb-init.
	plain  bool
	notify string // NOTIFY_SOCKET, "" for none
	// readyFD is the number of the descriptor that --ready fd:N names, or -1.
	readyFD int
	// watchdog is WATCHDOG_USEC, "" for none.
	watchdog string
	// kept are descriptors hotinit was started with, by number, for the app.
	kept map[int]int
}

// own are the variables that hotinit sets or removes for each generation. What
// came in under these names was meant for hotinit itself.
var own = []string{
	"SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION",
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES",
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "HOTINIT_GENERATION",
	daemonVariable,
}

// environment returns the environment of generation n, and which variables
// are to have its own PID as their value.
func (c *contract) environment(n int) (env, selfPID []string, err error) {
	base, err := c.fromDir(c.base)
	if err != nil || c.plain {
		return base, nil, err
	}
	env = make([]string, 0, len(base)+len(own))
	for _, v := range base {
		name, _, _ := strings.Cut(v, "=")
		if !isOwn(name) {
			env = append(env, v)
		}
	}
	generation := strconv.Itoa(n)
	env = append(env, "HOTINIT_GENERATION="+generation, "SERVER_STARTER_GENERATION="+generation)
	specs, numbers := c.specs()
	if len(c.sockets) > 0 || c.always {
		env = append(env, "SERVER_STARTER_PORT="+sockets.PortVariable(specs, numbers))
	}
	if count, names := sockets.ListenFDs(specs, numbers); count > 0 {
		env = append(env, "LISTEN_FDS="+strconv.Itoa(count), "LISTEN_FDNAMES="+names)
		selfPID = append(selfPID, "LISTEN_PID")
	}
	if c.notify != "" {
		env = append(env, "NOTIFY_SOCKET="+c.notify)
	}
	if c.watchdog != "" {
		env = append(env, "WATCHDOG_USEC="+c.watchdog)
		selfPID = append(selfPID, "WATCHDOG_PID")
	}
	return env, selfPID, nil
}

func (c *contract) specs() (specs []sockets.Spec, numbers []int) {
	for _, s := range c.sockets {
		specs, numbers = append(specs, s.spec), append(numbers, s.number)
	}
	return specs, numbers
}

func isOwn(name string) bool {
	for _, o := range own {
		if name == o {
			return true
		}
	}
	return false
}

// fromDir adds what --envdir has, as envdir(8) of daemontools: the name of a
// file is a variable, its first line the value; an empty file removes it.
func (c *contract) fromDir(env []string) ([]string, error) {
	if c.envdir == "" {
		return env, nil
	}
	files, err := os.ReadDir(c.envdir)
	if err != nil {
		return nil, fmt.Errorf("cannot read --envdir %s: %w", c.envdir, err)
	}
	for _, f := range files {
		name := f.Name()
		if strings.HasPrefix(name, ".") || strings.Contains(name, "=") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(c.envdir, name))
		if err != nil {
			if info, err := os.Stat(filepath.Join(c.envdir, name)); err == nil && !info.Mode().IsRegular() {
				continue // a folder, as ..data of mounted configuration
			}
			return nil, fmt.Errorf("cannot read variable %s of --envdir: %w", name, err)
		}
		env = setenv(env, name, b)
	}
	return env, nil
}

func setenv(env []string, name string, b []byte) []string {
	prefix := name + "="
	kept := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, prefix) {
			kept = append(kept, v)
		}
	}
	if len(b) == 0 {
		return kept
	}
	line, _, _ := strings.Cut(string(b), "\n")
	// A NUL stands for a newline, which a file's first line cannot hold.
	line = strings.ReplaceAll(strings.TrimRight(line, " \t\r"), "\x00", "\n")
	return append(kept, prefix+line)
}

// files returns the descriptors of a generation: at index i what becomes its
// descriptor i, -1 where it has none. ready is what becomes readyFD.
func (c *contract) files(std [3]int, ready int) []int {
	files := std[:len(std):len(std)]
	set := func(number, fd int) {
		for len(files) <= number {
			files = append(files, -1)
		}
		files[number] = fd
	}
	for number, fd := range c.kept {
		set(number, fd)
	}
	for _, s := range c.sockets {
		set(s.number, s.fd)
	}
	if c.readyFD >= 0 {
		set(c.readyFD, ready)
	}
	return files
}
