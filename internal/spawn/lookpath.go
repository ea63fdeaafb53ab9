package spawn

import (
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is what execvp(3) searches where PATH is not set.
const defaultPath = "/bin:/usr/bin"

// LookPath searches pathEnv, the value of PATH, for file as execvp(3) does. A
// file with a slash in its name is not searched for. dir is the folder that
// the program will be started in: relative elements of PATH, and empty ones,
// which mean the working folder, are relative to it ("" is the current one).
// The path found is meant to be executed there.
//
// The error is an *Error whose ExitCode is 127 if there is no such file
// (ENOENT), 126 if there is but none may be executed (EACCES), by the caller:
// for another user it may turn out otherwise at exec.
func LookPath(file, pathEnv, dir string) (string, error) {
	if strings.Contains(file, "/") {
		return file, nil
	}
	result := unix.ENOENT
	if file == "" {
		return "", &Error{Op: "exec", Path: file, Err: result}
	}
	if pathEnv == "" {
		pathEnv = defaultPath
	}
	for elem := range strings.SplitSeq(pathEnv, ":") {
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

// executable tells what execve(2) would say of the file, before it reads it.
func executable(path string) unix.Errno {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return errno(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EACCES
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
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
