package cgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// places are the usual mount points of cgroup2; the second one where cgroup v1 is
// in use as well.
var places = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// Own returns the directory of hotinit's own cgroup, if hotinit may create others
// below it without being told to. It may
//
//   - in a container: hotinit is PID 1 there, or its cgroup is the root of a
//     cgroup namespace (docker run --init, or a pod whose containers share a
//     PID namespace);
//   - elsewhere, if the cgroup was delegated: systemd owns everything below its
//     cgroups, and marks the ones it leaves to a service (Delegate=yes) with an
//     extended attribute.
//
// It may not where that cgroup limits memory or processor time. Many apps look for
// their limits in their own cgroup only (Java up to 23, Go's runtime, Node). They
// would find none, size themselves by the whole machine, and be killed for it.
//
// This runs before the app starts. In most containers the mount is read-only,
// which one or two system calls tell.
func Own(pid1 bool) (int, error) {
	place, err := writable()
	if err != nil {
		return -1, err
	}
	path, err := ownPath()
	if err != nil {
		return -1, err
	}
	dir, err := open(place, path)
	if err != nil {
		return -1, err
	}
	switch {
	case unix.Faccessat(dir, "cgroup.events", unix.F_OK, 0) != nil:
		// Only the machine's root cgroup has no such file.
		err = errors.New("hotinit is in the root cgroup, which belongs to the host's cgroup manager")
	case !pid1 && path != "/" && !delegated(dir):
		err = errors.New("hotinit is not PID 1, and its cgroup is not delegated (Delegate=yes in systemd)")
	default:
		err = unlimited(dir)
	}
	if err != nil {
		unix.Close(dir)
		return -1, err
	}
	return dir, nil
}

// OwnAnywhere is Own for --cgroup on: it searches all mounts, and ignores
// ownership and limits.
func OwnAnywhere() (int, error) {
	path, err := ownPath()
	if err != nil {
		return -1, err
	}
	found, err := mounts()
	if err != nil {
		return -1, err
	}
	err = errors.New("cgroup2 is not mounted")
	for _, m := range found {
		var dir int
		if dir, err = open(m.point, path); err != nil {
			continue
		}
		var st unix.Statfs_t
		if unix.Fstatfs(dir, &st) == nil && st.Flags&unix.ST_RDONLY != 0 {
			err = errReadOnly(m.point)
			unix.Close(dir)
			continue
		}
		return dir, nil
	}
	return -1, err
}

func errReadOnly(place string) error { return fmt.Errorf("%s is mounted read-only", place) }

// writable returns the usual place at which cgroup2 is mounted writable.
func writable() (string, error) {
	for _, place := range places {
		var st unix.Statfs_t
		if unix.Statfs(place, &st) != nil {
			break // the second place is below the first
		}
		if st.Type == unix.CGROUP2_SUPER_MAGIC {
			if st.Flags&unix.ST_RDONLY != 0 {
				return "", errReadOnly(place)
			}
			return place, nil
		}
	}
	return "", fmt.Errorf("cgroup2 is not mounted at %s", strings.Join(places, " or "))
}

// open opens the directory of this process's own cgroup, path, below a mount.
func open(point, path string) (int, error) {
	// The cgroup that lists this process is its own. The path of /proc is enough
	// where the mount has the same root as /proc's view: in a container with a
	// cgroup namespace, and on a machine without one.
	if dir := has(point+path, os.Getpid()); dir >= 0 {
		return dir, nil
	}
	found, err := mounts()
	if err != nil {
		return -1, err
	}
	for _, m := range found {
		if m.point != point {
			continue
		}
		rest, up, ok := below(m.root, path)
		switch {
		case !ok:
		case up == 0:
			if dir := has(point+rest, os.Getpid()); dir >= 0 {
				return dir, nil
			}
		default:
			if dir := search(point, up, os.Getpid()); dir >= 0 {
				return dir, nil
			}
		}
	}
	return -1, fmt.Errorf("hotinit's cgroup %s is not visible in %s", path, point)
}

// ownPath returns the path of this process's cgroup from the root of its cgroup
// namespace.
func ownPath() (string, error) {
	text, err := read(unix.AT_FDCWD, "/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	if path, ok := parsePath(text); ok {
		return path, nil
	}
	return "", errors.New("hotinit is in no cgroup of version 2")
}

// parsePath returns PATH of the line for version 2, "0::PATH", see cgroups(7).
func parsePath(text []byte) (string, bool) {
	for line := range bytes.Lines(text) {
		if path, ok := bytes.CutPrefix(line, []byte("0::/")); ok {
			return "/" + string(bytes.TrimRight(path, "\n")), true
		}
	}
	return "", false
}

// has opens the directory of a cgroup if the process is in it; else it returns -1.
func has(path string, pid int) int {
	dir, err := unix.Open(path, directory, 0)
	if err != nil {
		return -1
	}
	for _, p := range processes(dir) {
		if p == pid {
			return dir
		}
	}
	unix.Close(dir)
	return -1
}

// below returns where the cgroup path is in a mount whose root is root. Both are
// paths from the root of this cgroup namespace. A mount may begin above that, as
// the machine's /sys/fs/cgroup does in a container: root is then "/../..", see
// cgroup_namespaces(7). The names of the levels in between are unknown; up is
// their number.
func below(root, path string) (rest string, up int, ok bool) {
	if root == "/" {
		return path, 0, true
	}
	if ups := strings.Count(root, "/.."); ups*len("/..") == len(root) {
		if path != "/" {
			return "", 0, false
		}
		return "", ups, true
	}
	rest, ok = strings.CutPrefix(path, root)
	return rest, 0, ok && (rest == "" || rest[0] == '/')
}

// mostLooks bounds search on machines with many containers.
const mostLooks = 2000

// search looks for the cgroup of a process exactly levels below path.
func search(path string, levels, pid int) int {
	paths := []string{path}
	for looks := 0; levels > 0; levels-- {
		var next []string
		for _, p := range paths {
			if looks++; looks > mostLooks {
				return -1
			}
			dir, err := unix.Open(p, directory, 0)
			if err != nil {
				continue
			}
			for _, name := range children(dir) {
				next = append(next, p+"/"+name)
			}
			unix.Close(dir)
		}
		paths = next
	}
	for _, p := range paths[:min(len(paths), mostLooks)] {
		if dir := has(p, pid); dir >= 0 {
			return dir
		}
	}
	return -1
}

// mount is a mount of cgroup2.
type mount struct{ root, point string }

// mounts returns all mounts of cgroup2.
func mounts() ([]mount, error) {
	text, err := read(unix.AT_FDCWD, "/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(text)), nil
}

// parseMounts parses mountinfo, proc(5): the root is the fourth field, the mount
// point the fifth, and the type the first after a lone hyphen.
func parseMounts(text string) (found []mount) {
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(text) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if len(f) >= 6 && strings.HasPrefix(after, "cgroup2 ") {
			found = append(found, mount{plain.Replace(f[3]), plain.Replace(f[4])})
		}
	}
	return found
}

// delegated reports whether systemd delegated the cgroup. The second attribute is
// older, and only root can read it.
func delegated(dir int) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		b := make([]byte, 8)
		if n, err := unix.Fgetxattr(dir, name, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// unlimited returns an error if the cgroup has a limit that apps size themselves
// by.
func unlimited(dir int) error {
	for _, file := range []string{"memory.max", "memory.high", "cpu.max"} {
		if b, err := read(dir, file); err == nil && !bytes.HasPrefix(b, []byte("max")) {
			return fmt.Errorf("apps look for their limit (%s) in their own cgroup, and would not find it in a new one", file)
		}
	}
	return nil
}
