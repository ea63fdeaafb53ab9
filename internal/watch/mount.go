package watch

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SingleFileMount reports whether path leads to a file that is mounted by itself,
// as `docker run -v ./server:/app/server` does. Such a mount stays on the file
// that was there when it was made: whatever is renamed over that file on the host
// is another one, which this mount namespace never shows (mount_namespaces(7)).
func SingleFileMount(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	if st, err := os.Stat(real); err != nil || !st.Mode().IsRegular() {
		return false
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && mountedAt(string(b), real)
}

// mountedAt finds a mount point in the text of /proc/PID/mountinfo, proc(5).
func mountedAt(mountinfo, path string) bool {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) > 4 && unescape(fields[4]) == path {
			return true
		}
	}
	return false
}

// Describe says on which file system a path is and how it is watched there, and
// why, for a person.
func Describe(path string, poll time.Duration) (fileSystem, how string) {
	r := walk(path)
	at := r.real
	if at == "" {
		at = path
	}
	fileSystem = "an unknown file system"
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		if name := fileSystemOf(string(b), at); name != "" {
			fileSystem = name
		}
	}
	err := inotifyWorks(filepath.Dir(at))
	switch {
	case err != nil && poll < 0:
		return fileSystem, "not at all: inotify fails (" + err.Error() + "), and polling is off (--poll)"
	case err != nil:
		return fileSystem, "polled every " + interval(poll).String() + ": inotify fails: " + err.Error()
	case r.remote && poll < 0:
		return fileSystem, "inotify, which may miss what changes elsewhere; polling is off (--poll)"
	case r.remote:
		return fileSystem, "inotify, and polled every " + interval(poll).String() + ": what changes elsewhere is not reported"
	case poll > 0:
		return fileSystem, "inotify, and polled every " + poll.String() + " (--poll)"
	}
	return fileSystem, "inotify: the file system reports each change"
}

func interval(poll time.Duration) time.Duration {
	if poll > 0 {
		return poll
	}
	return DefaultPoll
}

// inotifyWorks tries a watch, and takes it away again.
func inotifyWorks(dir string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return limitError(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil && err != unix.ENOENT {
		return limitError(err)
	}
	return nil
}

// fileSystemOf finds the type of the mount that a path is below, in the text of
// /proc/PID/mountinfo.
func fileSystemOf(mountinfo, path string) string {
	longest, name := -1, ""
	for line := range strings.Lines(mountinfo) {
		mount, source, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(mount), strings.Fields(source)
		if !ok || len(fields) < 5 || len(kind) == 0 {
			continue
		}
		// The last one that is mounted at a place is the one that is seen there.
		point := unescape(fields[4])
		below := point == "/" || path == point || strings.HasPrefix(path, point+"/")
		if below && len(point) >= longest {
			longest, name = len(point), kind[0]
		}
	}
	return name
}

// unescape undoes the octal escapes of blanks and backslashes: \040.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
