package release

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Command is what a generation executes. Its paths are resolved at one
// moment, so that a symbolic link that is turned later leads no generation of
// this release into another one's directory.
type Command struct {
	Path string // of the executable
	Argv []string
	Dir  string // working directory
}

// A Move replaces the path From, and what is below it, by To.
type Move struct{ From, To string }

// Resolve returns c as the kernel resolves it now: the working directory, the
// file that counts (the executable, or argument number script where an
// interpreter runs that) and whatever else leads through the same symbolic
// links. target is the file that counts, absolute and without a link.
func (c Command) Resolve(script int) (resolved Command, target string) {
	path := c.Path
	if script >= 0 {
		path = c.Argv[script]
	}
	path = c.absolute(path)
	target, moves := follow(path)
	dir, more := follow(c.Dir)
	moves = append(moves, more...)
	resolved = c.Move(moves)
	resolved.Dir = dir
	switch {
	case script >= 0 && target != path:
		resolved.Argv[script] = target
	case script < 0 && target != path:
		resolved.Path = target
		// A name by which a program with many names knows what to do
		// (busybox) stays; else argv[0] leads to the release as well.
		if c.absolute(c.Argv[0]) == path && filepath.Base(target) == filepath.Base(path) {
			resolved.Argv[0] = target
		} else if c.absolute(c.Argv[0]) == path {
			resolved.Argv[0] = filepath.Join(move(filepath.Dir(path), moves), filepath.Base(path))
		}
	}
	return resolved, target
}

// Move returns c with each path that is, or is below, one of moves replaced:
// the executable, the working directory and the arguments, also in the form
// --option=PATH. Of several moves the longest one holds.
func (c Command) Move(moves []Move) Command {
	out := Command{Path: move(c.Path, moves), Dir: move(c.Dir, moves), Argv: make([]string, len(c.Argv))}
	for i, arg := range c.Argv {
		out.Argv[i] = c.moveArgument(arg, moves)
	}
	return out
}

// ExecutesIn reports whether the file that the command executes is below a
// directory. One that a link there leads out of, as to the Python of a virtual
// environment, is not.
func (c Command) ExecutesIn(root string) bool {
	path := c.absolute(c.Path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return under(path, root)
}

func (c Command) moveArgument(arg string, moves []Move) string {
	switch {
	case strings.HasPrefix(arg, "/"):
		return move(arg, moves)
	case strings.HasPrefix(arg, "-"):
		if option, path, ok := strings.Cut(arg, "=/"); ok {
			return option + "=" + move("/"+path, moves)
		}
		return arg
	case !strings.Contains(arg, "/"):
		return arg // a word, or a name that the working directory leads to
	}
	// A relative path stays one unless a move lies on its way below the
	// working directory, for that is moved as well.
	absolute := c.absolute(arg)
	for _, m := range moves {
		if under(absolute, m.From) && under(m.From, c.Dir) && m.From != c.Dir {
			return move(absolute, moves)
		}
	}
	return arg
}

func (c Command) absolute(path string) string {
	if filepath.IsAbs(path) || c.Dir == "" {
		return path
	}
	return strings.TrimSuffix(c.Dir, "/") + "/" + strings.TrimPrefix(path, "./")
}

func move(path string, moves []Move) string {
	best := Move{}
	for _, m := range moves {
		if under(path, m.From) && len(m.From) > len(best.From) {
			best = m
		}
	}
	if best.From == "" {
		return path
	}
	return best.To + path[len(best.From):]
}

// follow returns where path leads, and each symbolic link on its way as the
// move that it makes. Where it cannot be followed to its end the rest is left
// as it is: whoever opens it will know why.
func follow(path string) (real string, moves []Move) {
	if !filepath.IsAbs(path) {
		return path, nil
	}
	real = "/"
	asked := ""
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		asked += "/" + name
		if name == ".." {
			real = filepath.Dir(real) // real has no link, so its text has the parent
			continue
		}
		next := filepath.Join(real, name)
		var st unix.Stat_t
		if unix.Lstat(next, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK && !procLink(next) {
			if to, err := filepath.EvalSymlinks(next); err == nil {
				next = to
				moves = append(moves, Move{asked, to})
			}
		}
		real = next
	}
	return real, moves
}

// procLink reports whether a link is one of /proc, which leads to something
// without a path that could stand for it: /proc/self/fd/3.
func procLink(path string) bool {
	if !under(path, "/proc") && !under(path, "/dev/fd") {
		return false
	}
	_, err := os.Stat("/proc/self")
	return err == nil
}
