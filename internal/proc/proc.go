// Package proc reads what /proc tells of other processes, proc(5).
//
// A process can be gone, and its PID be another's, the moment after it was
// read. So nothing here is proof: callers signal by pidfd, or compare Start.
package proc

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Stat is what /proc/PID/stat says of a process.
type Stat struct {
	PID    int
	State  byte // R, S, D, T, Z, ...
	Parent int
	Group  int
	Start  uint64 // in clock ticks since boot; with PID it names one process
}

// Key names one process, among all that ever had its PID.
func (s Stat) Key() string { return strconv.Itoa(s.PID) + "@" + strconv.FormatUint(s.Start, 10) }

// Read reads one process. Its error is the file's, os.ErrNotExist for a
// process that is gone.
func Read(pid int) (Stat, error) {
	b, err := readSmall("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	return parse(pid, b)
}

// readSmall is os.ReadFile for /proc: one read(2) has it all, and no second
// one or fstat(2) is needed.
func readSmall(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 1024)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

func parse(pid int, b []byte) (Stat, error) {
	s := Stat{PID: pid}
	// The name is in parentheses and may hold spaces and parentheses itself.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return s, unix.EINVAL
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 {
		return s, unix.EINVAL
	}
	s.State = f[0][0]
	var errs [3]error
	s.Parent, errs[0] = strconv.Atoi(string(f[1]))
	s.Group, errs[1] = strconv.Atoi(string(f[2]))
	s.Start, errs[2] = strconv.ParseUint(string(f[19]), 10, 64)
	for _, err := range errs {
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// All reads every process that there is. It returns none where /proc is not
// mounted.
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

// Descendants returns the processes below root, the zombies left out.
func Descendants(root int) []int {
	var found []int
	for _, s := range Below(All(), root) {
		if s.State != 'Z' {
			found = append(found, s.PID)
		}
	}
	return found
}

// Below picks from all the processes that descend from root.
func Below(all []Stat, root int) []Stat {
	children := make(map[int][]Stat, len(all))
	for _, s := range all {
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

// Getenv returns the value that a process was started with for a variable.
// ok is false where it has none, or where it may not be read (another user's
// process, ptrace(2)).
func Getenv(pid int, name string) (value string, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return "", false
	}
	prefix := []byte(name + "=")
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if bytes.HasPrefix(v, prefix) {
			return string(v[len(prefix):]), true
		}
	}
	return "", false
}
