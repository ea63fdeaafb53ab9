package spawn

import (
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is what execvp(3) searches where PATH is not set.
const defaultPath = "/bin:/usr/bin"

// LookPath searches for file as execvp(3) does, in the PATH of env, a program's
// environment. A file with a slash in its name is not searched for. dir is the
// directory that the program will be started in ("" is the current one): the
// relative elements of PATH, and the empty ones, which mean the working
// directory, are relative to it. So is the path that is returned.
//
// The error is an *Error whose ExitCode is 127 if there is no such file
// (ENOENT), 126 if there is one but the caller may execute none (EACCES).
// Another user may be able to.
func LookPath(file string, env []string, dir string) (string, error) {
	if strings.Contains(file, "/") {
		return file, nil
	}
	result := unix.ENOENT
	if file == "" {
		return "", &Error{Op: "exec", Path: file, Err: result}
	}
	path := defaultPath
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok && p != "" {
			path = p
			break // getenv(3) takes the first, too
		}
	}
	for elem := range strings.SplitSeq(path, ":") {
		if elem == "" {
			elem = "."
		}
		found := strings.TrimSuffix(elem, "/") + "/" + file
		at := found
		if !strings.HasPrefix(found, "/") && dir != "" {
			at = strings.TrimSuffix(dir, "/") + "/" + found
		}
		switch executable(at) {
		case 0:
			return found, nil
		case unix.EACCES:
			// execvp goes on too, and remembers that there was one.
			result = unix.EACCES
		}
	}
	return "", &Error{Op: "exec", Path: file, Err: result}
}

// executable returns what execve(2) would say about the file before reading it.
func executable(path string) unix.Errno {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return errno(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EACCES
	}
	// AT_EACCESS is a flag of faccessat2(2), which is newer and not to be had
	// everywhere. It makes no difference but to a setuid executable.
	flags := 0
	if unix.Getuid() != unix.Geteuid() || unix.Getgid() != unix.Getegid() {
		flags = unix.AT_EACCESS
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, flags); err != nil {
		return errno(err)
	}
	return 0
}

func errno(err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EINVAL
}
