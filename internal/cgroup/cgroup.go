// Package cgroup gives each generation a cgroup (v2) of its own, below the one
// that hotinit itself is in, see cgroups(7).
//
// Its one invariant: a process can leave its group, its session, its parent and
// its environment, but not its cgroup, unless it may write there. So whatever
// descends from a generation is found in that generation's.
//
// No controller is enabled for these cgroups (cgroup.subtree_control is left
// alone). So the kernel's rule that processes are either in a cgroup or below
// it, which is for those with controllers, does not bite, and hotinit may stay
// where it is. Limits of the cgroup that hotinit is in hold for all below it.
//
// Nothing is remembered: a cgroup is its name in the directory of hotinit's own,
// and so a handoff that takes over finds all that the one before has made.
//
// Read own.go for where cgroups may be made, and this file for what is done
// with them.
package cgroup

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Prefix begins the name of each cgroup that any hotinit makes.
const Prefix = "hotinit-"

const directory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// Make returns the directory of the cgroup name in the directory parent, and makes it
// where it is not there yet: a handoff that was killed may have.
func Make(parent int, name string) (int, error) {
	if err := unix.Mkdirat(parent, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return unix.Openat(parent, name, directory, 0)
}

// Enter moves a process into the cgroup of a directory.
func Enter(dir, pid int) error {
	return write(dir, "cgroup.procs", strconv.Itoa(pid))
}

// Kill sends SIGKILL to all processes in the cgroup name and below it at once,
// so that none can fork in between. Linux before 5.14 has no cgroup.kill.
func Kill(parent int, name string) error {
	return write(parent, name+"/cgroup.kill", "1")
}

// Members returns the processes in the cgroup name and in those below it, which
// the app may have made. There are none where there is no such cgroup.
func Members(parent int, name string) []int {
	dir, err := unix.Openat(parent, name, directory, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	pids := processes(dir)
	for _, child := range children(dir) {
		pids = append(pids, Members(dir, child)...)
	}
	return pids
}

// Remove removes the cgroup name and those below it, the deepest first. One
// with a process in it stays, and so do those above it.
func Remove(parent int, name string) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err != unix.EBUSY && err != unix.ENOTEMPTY {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	dir, err := unix.Openat(parent, name, directory, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if populated(dir) {
		return unix.EBUSY // those below it that are empty may be needed yet
	}
	for _, child := range children(dir) {
		if err := Remove(dir, child); err != nil {
			return err
		}
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

// RemoveAll is Remove for each cgroup whose name begins so.
func RemoveAll(parent int, prefix string) {
	for _, name := range Names(parent, prefix) {
		_ = Remove(parent, name)
	}
}

// Names returns the cgroups in a directory whose names begin so.
func Names(parent int, prefix string) []string {
	var names []string
	for _, name := range children(parent) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// processes reads which processes are in the cgroup of a directory. Those of
// another PID namespace show as 0, and cannot be signalled.
func processes(dir int) []int {
	b, _ := read(dir, "cgroup.procs")
	var pids []int
	for line := range bytes.Lines(b) {
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// populated reports whether there is a process in the cgroup or below it.
func populated(dir int) bool {
	b, err := read(dir, "cgroup.events")
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}

// children returns the names of the cgroups in a directory.
func children(dir int) []string {
	// An open directory has one position, and this one may be shared.
	own, err := unix.Openat(dir, ".", directory, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(own)
	var names []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.Getdents(own, buf)
		if err != nil || n <= 0 {
			return names
		}
		names = append(names, directories(buf[:n])...)
	}
}

// directories picks the names of directories from what getdents64(2) gives: the inode
// and the offset (8 bytes each), the length of the entry (2), its type, and its
// name with a NUL behind it. A file of a cgroup is no directory, and all that is
// one is a cgroup.
func directories(b []byte) (names []string) {
	for len(b) > 19 {
		length := int(native.Uint16(b[16:]))
		if length <= 19 || length > len(b) {
			return names
		}
		name, _, _ := bytes.Cut(b[19:length], []byte{0})
		if b[18] == unix.DT_DIR && string(name) != "." && string(name) != ".." {
			names = append(names, string(name))
		}
		b = b[length:]
	}
	return names
}

func write(dir int, file, text string) error {
	fd, err := unix.Openat(dir, file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

func read(dir int, file string) ([]byte, error) {
	fd, err := unix.Openat(dir, file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return all, err
		}
		all = append(all, buf[:n]...)
	}
}
