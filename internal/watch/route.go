package watch

import (
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/release"
)

// inode names one file or directory.
type inode struct{ dev, ino uint64 }

// A need is one watch that a route or a tree asks for: a directory in which one
// name matters, or all do, or a file by itself.
type need struct {
	path string
	inode
	name string // the name that matters; of roleTree, the directory's path below its base
	role role
}

type role uint8

const (
	roleStep     role = iota // a directory or a symbolic link on the way
	roleFinal                // the last name on the way
	roleChecksum             // the checksum file or the signature beside it
	roleFile                 // the file itself, by its inode: no name
	roleTree                 // a directory of which every name matters
)

// A route is how a path leads to a file: each directory and symbolic link that is
// passed, so that a change of any of them is noticed.
type route struct {
	needs  []need
	real   string        // the path without symbolic links, as far as it goes
	file   release.Stamp // zero: not there
	remote bool          // passes a file system that reports nothing
	fault  string
}

const maxLinks = 40 // as the kernel has it: path_resolution(7)

// walk follows path, which is absolute, name by name. What does not exist (yet)
// is waited for in the directory that exists.
func walk(path string) route {
	r := route{real: "/"}
	rest := strings.Split(path, "/")
	var here unix.Stat_t
	if err := unix.Lstat("/", &here); err != nil {
		r.fault = "cannot be followed: /: " + err.Error()
		return r
	}
	dev := ^uint64(0)
	links := 0
	sawLast := false
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			// real has no symbolic links, so its text tells the parent.
			r.real = filepath.Dir(r.real)
			if err := unix.Lstat(r.real, &here); err != nil {
				r.fault = "cannot be followed: " + r.real + ": " + err.Error()
				return r
			}
			continue
		}
		if uint64(here.Dev) != dev {
			dev = uint64(here.Dev)
			r.remote = r.remote || remotePath(r.real)
		}
		at := len(r.needs)
		r.needs = append(r.needs, need{path: r.real, inode: inode{uint64(here.Dev), here.Ino}, name: name})
		if !sawLast && strings.Trim(strings.Join(rest, ""), "/.") == "" {
			// The last name as asked for, maybe a symbolic link: beside it is
			// the checksum file that speaks for it.
			sawLast = true
			r.checksumAt(r.needs[at])
		}
		next := filepath.Join(r.real, name)
		err := unix.Lstat(next, &here)
		if err == unix.ENOENT {
			if len(strings.Trim(strings.Join(rest, ""), "/.")) == 0 {
				r.needs[at].role = roleFinal
			}
			r.real = filepath.Join(next, filepath.Join(rest...))
			return r
		}
		if err != nil {
			r.fault = "cannot be followed: " + next + ": " + err.Error()
			return r
		}
		if here.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err := readlink(next)
			links++
			if err == nil && links > maxLinks {
				err = unix.ELOOP
			}
			if err != nil {
				r.fault = "cannot be followed: " + next + ": " + err.Error()
				return r
			}
			if strings.HasPrefix(target, "/") {
				r.real = "/"
			}
			if err := unix.Lstat(r.real, &here); err != nil {
				r.fault = "cannot be followed: " + r.real + ": " + err.Error()
				return r
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		}
		more := false
		for _, n := range rest {
			more = more || n != "" && n != "."
		}
		if !more {
			r.real = next
			r.needs[at].role = roleFinal
			r.file = release.StampOf(&here)
			if links > 0 {
				r.checksumAt(r.needs[at])
			}
			r.remote = r.remote || uint64(here.Dev) != dev && remotePath(next)
			return r
		}
		if here.Mode&unix.S_IFMT != unix.S_IFDIR {
			r.real = next
			r.fault = "cannot be followed: " + next + " is not a directory"
			return r
		}
		r.real = next
	}
	r.file = release.StampOf(&here) // the path was a directory's after all: /, or it ended in ..
	return r
}

// checksumAt asks to watch the checksum file and the signature of the name that n
// waits for.
func (r *route) checksumAt(n need) {
	name := n.name
	n.role = roleChecksum
	for _, suffix := range []string{release.ChecksumSuffix, release.SignatureSuffix} {
		n.name = name + suffix
		if !slices.Contains(r.needs, n) {
			r.needs = append(r.needs, n)
		}
	}
}

func readlink(path string) (string, error) {
	buf := make([]byte, unix.PathMax)
	for {
		n, err := unix.Readlink(path, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		return string(buf[:n]), nil
	}
}

// remotePath reports whether changes under path may come unreported.
func remotePath(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) != nil || release.RemoteType(int64(fs.Type))
}
