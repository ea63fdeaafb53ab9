// Package cgroup gives each generation a cgroup (v2) of its own, below the one
// that hotinit itself is in, see cgroups(7).
//
// The invariant: a process can leave its process group, its session, its parent
// and its environment, but not its cgroup, unless it may write there. So every
// descendant of a generation is found in that generation's cgroup.
//
// No controller is enabled for these cgroups (cgroup.subtree_control stays as it
// is). The kernel's rule against processes in inner cgroups applies only with
// controllers, so hotinit may stay in its own. The limits of hotinit's cgroup
// apply to everything below it.
//
// The package keeps no state: a cgroup is a name in the directory of hotinit's
// own cgroup, so a handoff that takes over finds all that the last one made.
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

// Make returns a descriptor of the cgroup name below parent. It creates the cgroup
// unless a handoff that was killed already has.
func Make(parent int, name string) (int, error) {
	for range 3 {
		if err := unix.Mkdirat(parent, name, 0o755); err != nil && err != unix.EEXIST {
			return -1, err
		}
		dir, err := unix.Openat(parent, name, directory, 0)
		if err != unix.ENOENT {
			return dir, err
		}
		// Another hotinit that starts just now took it for one left behind, and
		// removed it.
	}
	return -1, unix.ENOENT
}

// Enter moves a process into the cgroup of a directory.
func Enter(dir, pid int) error {
	return write(dir, "cgroup.procs", strconv.Itoa(pid))
}

// Kill sends SIGKILL to all processes in the cgroup name and below it at once, so
// that none can fork in between. Linux before 5.14 has no cgroup.kill: ENOENT.
func Kill(parent int, name string) error {
	return write(parent, name+"/cgroup.kill", "1")
}

// Members returns the processes in the cgroup name and in the cgroups below it,
// which the app may have made. It returns none if the cgroup does not exist.
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

// Remove removes the cgroup name and the cgroups below it, the deepest first. A
// cgroup that still has a process in it stays, and so do its parents.
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
		return unix.EBUSY // its empty children may still be needed
	}
	for _, child := range children(dir) {
		if err := Remove(dir, child); err != nil {
			return err
		}
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

// RemoveAll removes each cgroup whose name has the prefix.
func RemoveAll(parent int, prefix string) {
	for _, name := range Names(parent, prefix) {
		_ = Remove(parent, name)
	}
}

// Names returns the cgroups below parent whose names have the prefix.
func Names(parent int, prefix string) []string {
	var names []string
	for _, name := range children(parent) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// processes returns the processes in a cgroup. Processes of another PID namespace
// are listed as 0; they cannot be signalled, and are left out.
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

// populated reports whether a process is in the cgroup or below it.
func populated(dir int) bool {
	b, err := read(dir, "cgroup.events")
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}

// children returns the names of the cgroups directly below one.
func children(dir int) []string {
	// An open directory has one read position, and dir may be shared with others.
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

// directories returns the names of the directories in the entries that
// getdents64(2) wrote: inode and offset (8 bytes each), length of the entry (2),
// type (1), and the name with a final NUL. Every directory there is a cgroup.
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
