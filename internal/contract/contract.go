// Package contract makes what a generation inherits: its environment, and its
// descriptors by number.
//
// Invariant: an app gets the environment that hotinit was started with, except
// for the variables in own, which are hotinit's to set; what came in under
// those names was meant for hotinit itself.
package contract

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/sockets"
)

// DaemonVariable marks the hotinit that --daemonize started in the background.
// Its value is the descriptor to report on.
const DaemonVariable = "_HOTINIT_DAEMON"

// own are the variables that hotinit sets or removes for each generation.
var own = []string{
	"SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION",
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES",
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "HOTINIT_GENERATION",
	DaemonVariable,
}

// Socket is one that generations inherit.
type Socket struct {
	Spec   sockets.Spec
	FD     int // in this process
	Number int // in the app
}

// Contract is what environments and descriptors are made from.
type Contract struct {
	Base    []string // the environment that hotinit was started with
	EnvDir  string
	Sockets []Socket
	// Always sets SERVER_STARTER_PORT even where there is no socket.
	Always bool
	// Plain leaves the environment as it is: the app of a tini or dumb-init.
	Plain    bool
	Identity *passwd.Identity // nil: the app runs as hotinit itself
	Notify   string           // NOTIFY_SOCKET, "" for none
	ReadyFD  int              // the number that --ready fd:N names, -1 for none
	Watchdog time.Duration    // 0: none
	// Kept are descriptors that hotinit was started with and the app gets too,
	// by number.
	Kept map[int]int
}

// Environment returns the environment of generation n, and which variables
// get the app's own PID as their value.
func (c *Contract) Environment(n int) (env, selfPID []string, err error) {
	env, err = c.fromDir(c.Base)
	if err != nil {
		return nil, nil, err
	}
	if !c.Plain {
		env, selfPID = c.variables(env, n)
	}
	if id := c.Identity; id != nil && id.Home != "" {
		env = setenv(env, "HOME", id.Home)
		env = setenv(env, "USER", id.Name)
		env = setenv(env, "LOGNAME", id.Name)
	}
	return env, selfPID, nil
}

// variables replaces the variables that are hotinit's to set.
func (c *Contract) variables(base []string, n int) (env, selfPID []string) {
	env = make([]string, 0, len(base)+len(own))
	for _, v := range base {
		if !isOwn(v) {
			env = append(env, v)
		}
	}
	generation := strconv.Itoa(n)
	env = append(env, "HOTINIT_GENERATION="+generation, "SERVER_STARTER_GENERATION="+generation)
	specs, numbers := c.specs()
	if len(c.Sockets) > 0 || c.Always {
		env = append(env, "SERVER_STARTER_PORT="+sockets.PortVariable(specs, numbers))
	}
	if count, names := sockets.ListenFDs(specs, numbers); count > 0 {
		env = append(env, "LISTEN_FDS="+strconv.Itoa(count), "LISTEN_FDNAMES="+names)
		selfPID = append(selfPID, "LISTEN_PID")
	}
	if c.Notify != "" {
		env = append(env, "NOTIFY_SOCKET="+c.Notify)
	}
	if c.Watchdog > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(c.Watchdog.Microseconds(), 10))
		selfPID = append(selfPID, "WATCHDOG_PID")
	}
	return env, selfPID
}

func (c *Contract) specs() (specs []sockets.Spec, numbers []int) {
	for _, s := range c.Sockets {
		specs, numbers = append(specs, s.Spec), append(numbers, s.Number)
	}
	return specs, numbers
}

// WithoutSockets returns the environment of a command that runs as the app
// would, but gets none of its descriptors.
func WithoutSockets(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return isOwn(v) && !strings.HasPrefix(v, "HOTINIT_GENERATION=")
	})
}

// isOwn reports whether a variable, "NAME=value", is hotinit's to set.
func isOwn(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains(own, name)
}

// fromDir adds what --envdir has, as envdir(8) of daemontools: a file's name is
// the variable, its first line the value; an empty file removes the variable.
func (c *Contract) fromDir(env []string) ([]string, error) {
	if c.EnvDir == "" {
		return env, nil
	}
	dir, err := safepath.OpenDir(c.EnvDir)
	if err != nil {
		return nil, fmt.Errorf("cannot read --envdir %s: %w", c.EnvDir, err)
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, fmt.Errorf("cannot read --envdir %s: %w", c.EnvDir, err)
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasPrefix(name, ".") || strings.Contains(name, "=") {
			continue
		}
		regular, err := dir.IsRegular(name)
		if err == nil && !regular {
			continue // a directory, or a FIFO, which would not end
		}
		var b []byte
		if err == nil {
			b, err = dir.ReadFile(name, longestVariable)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read variable %s of --envdir: %w", name, err)
		}
		if len(b) == 0 {
			env = unsetenv(env, name)
			continue
		}
		line, _, _ := strings.Cut(string(b), "\n")
		// A NUL stands for a newline, which a file's first line cannot hold.
		line = strings.ReplaceAll(strings.TrimRight(line, " \t\r"), "\x00", "\n")
		env = setenv(env, name, line)
	}
	return env, nil
}

// longestVariable bounds a file of --envdir. The kernel allows 128 KiB for a
// variable, execve(2); only the first line counts.
const longestVariable = 1 << 20

func setenv(env []string, name, value string) []string {
	return append(unsetenv(env, name), name+"="+value)
}

// unsetenv returns a copy of env without a variable.
func unsetenv(env []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, name+"=") })
}

// Files returns the descriptors of a generation: at index i what becomes its
// descriptor i, -1 where it has none. ready becomes descriptor ReadyFD.
func (c *Contract) Files(std [3]int, ready int) []int {
	files := std[:len(std):len(std)]
	set := func(number, fd int) {
		for len(files) <= number {
			files = append(files, -1)
		}
		files[number] = fd
	}
	for number, fd := range c.Kept {
		set(number, fd)
	}
	for _, s := range c.Sockets {
		set(s.Number, s.FD)
	}
	if c.ReadyFD >= 0 {
		set(c.ReadyFD, ready)
	}
	return files
}
