// Package proc reads what /proc shows of other processes, proc(5).
//
// Its invariant: nothing that it returns is proof of what is true now. A process
// can end, and its PID can go to another process, the moment after it was read.
// Callers signal by pidfd, or compare Stat.Start.
package proc

import (
	"bytes"
	"errors"
	"math"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Stat is what /proc/PID/stat says about a process.
type Stat struct {
	PID     int
	State   byte // R, S, D, T, Z, ... of its first thread
	Parent  int
	Group   int
	Threads int
	Start   uint64 // in clock ticks since boot; with PID it identifies one process
}

// Key identifies one process among all that ever have its PID.
func (s Stat) Key() string { return strconv.Itoa(s.PID) + "@" + strconv.FormatUint(s.Start, 10) }

// Alive reports whether the process runs: whether it is no zombie. A process
// whose first thread has called pthread_exit(3) has the state of a zombie too,
// but it still has other threads.
func (s Stat) Alive() bool {
	switch s.State {
	case 'Z', 'X', 'x':
		return s.Threads > 1
	}
	return true
}

// Read reads one process. Its error is that of the file: os.ErrNotExist for a
// process that is gone.
func Read(pid int) (Stat, error) {
	b, err := readSmall("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	return parse(pid, b)
}

// readSmall reads a small file of /proc: a single read(2) returns all of it.
func readSmall(path string) ([]byte, error) { return read(path, 1) }

// readWhole reads a file of /proc of any length.
func readWhole(path string) ([]byte, error) { return read(path, math.MaxInt) }

// read is os.ReadFile with so many calls of read(2) at most, and without the five by which
// that asks fstat(2) and epoll(7) what kind of file it is.
func read(path string, calls int) (b []byte, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for range calls {
		b = slices.Grow(b, 1024)
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		b = b[:len(b)+n]
	}
	return b, nil
}

func parse(pid int, b []byte) (Stat, error) {
	s := Stat{PID: pid}
	// The name is in parentheses and may contain spaces and parentheses.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return s, unix.EINVAL
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 {
		return s, unix.EINVAL
	}
	s.State = f[0][0]
	var errs [4]error
	s.Parent, errs[0] = strconv.Atoi(string(f[1]))
	s.Group, errs[1] = strconv.Atoi(string(f[2]))
	s.Threads, errs[2] = strconv.Atoi(string(f[17]))
	s.Start, errs[3] = strconv.ParseUint(string(f[19]), 10, 64)
	return s, errors.Join(errs[:]...)
}

// Descendants returns the processes below root, zombies included, each parent
// before its children. It returns none where /proc is not mounted, or is that of
// another PID namespace, whose PIDs would mean other processes.
//
// Linux can list the children of each thread (CONFIG_PROC_CHILDREN). Where it
// does not, every process of the machine is read, once.
func Descendants(root int) []Stat {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil
	}
	if _, err := os.Lstat(taskDir(root) + strconv.Itoa(root) + "/children"); err != nil {
		return Below(All(), root)
	}
	var found []Stat
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, pid := range children(queue[0]) {
			if s, err := Read(pid); err == nil {
				found = append(found, s)
				queue = append(queue, pid)
			}
		}
	}
	return found
}

// Children returns the children of a process, zombies included, none where
// Descendants returns none.
func Children(pid int) (pids []int) {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil
	}
	if _, err := os.Lstat(taskDir(pid) + strconv.Itoa(pid) + "/children"); err == nil {
		return children(pid)
	}
	for _, s := range All() {
		if s.Parent == pid {
			pids = append(pids, s.PID)
		}
	}
	return pids
}

func taskDir(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/task/" }

// threads returns the thread IDs of a process.
func threads(pid int) []string {
	d, err := os.Open(taskDir(pid))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return names
}

// children reads the lists of children of all threads of a process.
func children(pid int) (pids []int) {
	for _, tid := range threads(pid) {
		b, err := readWhole(taskDir(pid) + tid + "/children")
		if err != nil {
			continue
		}
		for word := range bytes.FieldsSeq(b) {
			if n, err := strconv.Atoi(string(word)); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// All reads every process. It returns none where /proc is not mounted.
func All() []Stat {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	all := make([]Stat, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, err := Read(pid); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// Below returns those of the processes that descend from root, each parent
// before its children.
func Below(processes []Stat, root int) []Stat {
	children := make(map[int][]Stat, len(processes))
	for _, s := range processes {
		children[s.Parent] = append(children[s.Parent], s)
	}
	var found []Stat
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			found = append(found, c)
			queue = append(queue, c.PID)
		}
	}
	return found
}

// Getenv returns the value that a variable had when the process was executed.
// ok is false where the variable was not set, and where the environment may not
// be read (another user's process, ptrace(2)).
func Getenv(pid int, name string) (value string, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return "", false
	}
	if len(b) == 0 {
		// The first thread has ended, and its memory can only be seen by way of
		// another thread. Older kernels say nothing, newer ones ESRCH.
		for _, tid := range threads(pid) {
			if b, _ = os.ReadFile(taskDir(pid) + tid + "/environ"); len(b) > 0 {
				break
			}
		}
	}
	prefix := []byte(name + "=")
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if bytes.HasPrefix(v, prefix) {
			return string(v[len(prefix):]), true
		}
	}
	return "", false
}
