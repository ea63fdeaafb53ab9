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

// places are where the hierarchy is mounted in nearly every container and on
// nearly every machine; the second where v1 is in use beside it.
var places = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// Own returns the directory of the cgroup that hotinit is in, where it may make
// others there without being asked to. That is so
//
//   - in a container: hotinit is its PID 1, or its cgroup is the root of a
//     cgroup namespace (under docker run --init, or where the containers of a
//     pod share a PID namespace);
//   - elsewhere, where that was delegated: systemd takes what is below its
//     cgroups for its own, and marks those that it leaves to a service
//     (Delegate=yes) by an attribute.
//
// It is not so where that cgroup has a limit of memory or processor time. Many
// an app looks for its limits in its own cgroup and not above (Java up to 23,
// Go's runtime, Node), and would find none there: it would take all of the
// machine for itself, and be killed for it.
//
// In most containers nothing may be written, and this runs before the app is
// started: one system call then tells, or two.
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
		// Of all cgroups only the machine's root has no such file.
		err = errors.New("hotinit is in the root of all cgroups, which is whoever's that manages the machine")
	case !pid1 && path != "/" && !delegated(dir):
		err = errors.New("hotinit is not PID 1, and the cgroup that it is in is not delegated (Delegate=yes of systemd)")
	default:
		err = unlimited(dir)
	}
	if err != nil {
		unix.Close(dir)
		return -1, err
	}
	return dir, nil
}

// OwnAnywhere is Own where somebody asked for it: it is looked for in all
// mounts, and whose it is and what limits it has is not.
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

// writable returns which of the usual places is a mount of the hierarchy that
// can be written to.
func writable() (string, error) {
	for _, place := range places {
		var st unix.Statfs_t
		if unix.Statfs(place, &st) != nil {
			break // there is nothing below it either
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
	// What is listed in is one's own. This is all where the mount shows the
	// hierarchy from the same point on as /proc does: in a container with a
	// cgroup namespace, and without one.
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
	return -1, fmt.Errorf("the cgroup that hotinit is in, %s, is not to be seen in %s", path, point)
}

// ownPath returns which cgroup this process is in, from the root of its cgroup
// namespace.
func ownPath() (string, error) {
	text, err := read(unix.AT_FDCWD, "/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	if path, ok := parsePath(text); ok {
		return path, nil
	}
	return "", errors.New("hotinit is in no cgroup (v2)")
}

// parsePath finds the line of v2, "0::PATH", in a text of cgroups(7).
func parsePath(text []byte) (string, bool) {
	for line := range bytes.Lines(text) {
		if path, ok := bytes.CutPrefix(line, []byte("0::/")); ok {
			return "/" + string(bytes.TrimRight(path, "\n")), true
		}
	}
	return "", false
}

// has opens the directory of a cgroup if that process is in it, -1 if not.
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

// below says where a cgroup is in a mount that shows the hierarchy from root
// on; both are paths from the root of this cgroup namespace. Where the mount
// begins above that, as /sys/fs/cgroup of the machine does in a container, the
// names on the way down are not to be known, but their number up is: root is
// "/../..", cgroup_namespaces(7).
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

// search looks for the cgroup with that process in it so many levels below a
// directory.
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

// mount is one of the hierarchy.
type mount struct{ root, point string }

// mounts reads where the hierarchy is mounted.
func mounts() ([]mount, error) {
	text, err := read(unix.AT_FDCWD, "/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(text)), nil
}

// parseMounts reads mountinfo as proc(5) has it: the root is the fourth field,
// the point the fifth, and the type the first behind a lone hyphen.
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

// delegated reports whether systemd left the cgroup to those in it. The second
// attribute is for root's eyes only, and older.
func delegated(dir int) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		b := make([]byte, 8)
		if n, err := unix.Fgetxattr(dir, name, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// unlimited returns an error where the cgroup has a limit that an app may look
// up to choose its size by.
func unlimited(dir int) error {
	for _, file := range []string{"memory.max", "memory.high", "cpu.max"} {
		if b, err := read(dir, file); err == nil && !bytes.HasPrefix(b, []byte("max")) {
			return fmt.Errorf("an app may look for its limit (%s) in its own cgroup, and would not find it there", file)
		}
	}
	return nil
}
