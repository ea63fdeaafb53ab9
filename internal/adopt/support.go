package adopt

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported returns nil where the kernel, and the profile that hotinit runs
// under, let a filter's notifications be answered.
func Supported() error {
	if !supported {
		return errors.New("it is for amd64 and arm64 only")
	}
	// SECCOMP_IOCTL_NOTIF_ADDFD came with Linux 5.9, and nothing asks for it but
	// a notification.
	if release := kernelRelease(); !atLeast(release, 5, 9) {
		return errors.New("it needs Linux 5.9, and this is " + release)
	}
	var sizes struct{ notif, resp, data uint16 }
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	if e != 0 {
		return errors.New("seccomp notifications are forbidden here: " + e.Error())
	}
	if uintptr(sizes.notif) != unsafe.Sizeof(notification{}) || uintptr(sizes.resp) != unsafe.Sizeof(response{}) {
		return errors.New("this kernel's seccomp notifications are of another size")
	}
	if !flagsKnown(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
		return errors.New("seccomp filters are forbidden here")
	}
	return nil
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// atLeast compares the first two numbers of a kernel's release.
func atLeast(release string, major, minor int) bool {
	a, rest, _ := strings.Cut(release, ".")
	b := strings.FieldsFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	x, err := strconv.Atoi(a)
	if err != nil || len(b) == 0 {
		return false
	}
	y, err := strconv.Atoi(b[0])
	return err == nil && (x > major || x == major && y >= minor)
}

// CanTake reports whether the app's own sockets can be taken: whether
// pidfd_getfd(2) is allowed, and would be for a process of the app's user, who is
// another where other says so.
func CanTake(other bool) bool {
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, pidfd, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return !other || HasCap(unix.CAP_SYS_PTRACE)
}

// HasCap reports whether this process has a capability in effect.
func HasCap(c uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[c/32].Effective&(1<<(c%32)) != 0
}

// NeedsPrivs reports whether a filter can be installed only with no_new_privs.
func NeedsPrivs() bool { return !HasCap(unix.CAP_SYS_ADMIN) }

// noNewPrivs reports whether this process has no_new_privs set already.
func noNewPrivs() bool {
	v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil && v != 0
}

// Harm says what no_new_privs would take away from a command, as the end of a
// sentence; "" for nothing. path is the app's PATH. A program that is set-user-ID
// or has file capabilities would not get them; and who is not root, and has sudo,
// may well use it below the app.
func Harm(command, path string) string {
	if !NeedsPrivs() || noNewPrivs() {
		return ""
	}
	var st unix.Stat_t
	if err := unix.Stat(command, &st); err == nil {
		if st.Mode&unix.S_ISUID != 0 || st.Mode&unix.S_ISGID != 0 && st.Mode&0o010 != 0 {
			return command + " is set-user-ID or set-group-ID"
		}
		if _, err := unix.Getxattr(command, "security.capability", nil); err == nil {
			return command + " has file capabilities"
		}
	}
	if unix.Geteuid() == 0 {
		return ""
	}
	for dir := range strings.SplitSeq(path, ":") {
		for _, name := range []string{"sudo", "doas"} {
			if file := filepath.Join(dir, name); dir != "" && unix.Access(file, unix.X_OK) == nil {
				return file + " is there"
			}
		}
	}
	return ""
}
