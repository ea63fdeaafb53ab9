package adopt

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is the thread that waits for an answer, as /proc shows it. Whatever
// is read of it counts only if the notification is still valid afterwards.
type process struct {
	tid, tgid int
	dir       string // /proc/TID
	uid, gid  int    // those that it has thrice (real, effective, saved), else -1
	caps      uint64 // effective
}

// findProcess reads what is public of a thread.
func findProcess(tid uint32) (*process, error) {
	p := &process{tid: int(tid), dir: "/proc/" + strconv.Itoa(int(tid)), uid: -1, gid: -1}
	b, err := os.ReadFile(p.dir + "/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		switch {
		case len(f) == 0:
		case name == "Tgid":
			p.tgid, _ = strconv.Atoi(f[0])
		case name == "Uid":
			p.uid = thrice(f)
		case name == "Gid":
			p.gid = thrice(f)
		case name == "CapEff":
			p.caps, _ = strconv.ParseUint(f[0], 16, 64)
		}
	}
	if p.tgid <= 0 {
		return nil, unix.ESRCH
	}
	return p, nil
}

// thrice returns the number that the first three fields have, or -1.
func thrice(f []string) int {
	n, err := strconv.Atoi(f[0])
	if err != nil || len(f) < 3 || f[1] != f[0] || f[2] != f[0] {
		return -1
	}
	return n
}

// as runs f, and where it may not do what it tries, once more under the file
// system user of the process: ptrace(2) lets those of the same user look at each
// other. So hotinit as root needs no CAP_SYS_PTRACE for an app that runs as
// another user, but what changing users needs.
func (p *process) as(f func() error) error {
	err := f()
	if !denied(err) {
		return err
	}
	if again := p.always(f); again != unix.EPERM {
		return again
	}
	return err
}

// always runs f under the file system user of the process, or not at all.
func (p *process) always(f func() error) error {
	uid, gid := unix.Geteuid(), unix.Getegid()
	if p.uid < 0 || p.gid < 0 {
		return unix.EPERM
	}
	if p.uid == uid && p.gid == gid {
		return f()
	}
	// The file system user belongs to the thread. A thread that cannot change it
	// back ends with this goroutine, which then stays locked to it.
	runtime.LockOSThread()
	err := error(unix.EPERM)
	if becomeFS(p.uid, p.gid) {
		err = f()
	}
	back := becomeFS(uid, gid)
	// Each change clears PR_SET_DUMPABLE(2const) for the whole process, which
	// then would be a stranger to others of its own user.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	if back {
		runtime.UnlockOSThread()
	}
	return err
}

// sameRoot reports whether a path means the same to the process as here.
func (p *process) sameRoot() bool {
	var own, its unix.Stat_t
	err := unix.Stat("/", &own)
	if err == nil {
		err = p.as(func() error { return unix.Stat(p.dir+"/root/.", &its) })
	}
	return err == nil && own.Dev == its.Dev && own.Ino == its.Ino
}

// becomeFS changes the thread's file system user and group, and reports whether
// they are those. setfsuid(2) fails without an error.
func becomeFS(uid, gid int) bool {
	_, _ = unix.SetfsgidRetGid(gid)
	_, _ = unix.SetfsuidRetUid(uid)
	u, _ := unix.SetfsuidRetUid(-1)
	g, _ := unix.SetfsgidRetGid(-1)
	return u == uid && g == gid
}

func denied(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

// inode returns what socket a descriptor is, by its inode.
func (p *process) inode(fd int) (inode uint64, err error) {
	err = p.as(func() error {
		inode, err = socketInode(p.dir + "/fd/" + strconv.Itoa(fd))
		return err
	})
	return inode, err
}

// socketInode reads a link of /proc/PID/fd: "socket:[4711]".
func socketInode(path string) (uint64, error) {
	link, err := os.Readlink(path)
	if err != nil {
		return 0, err
	}
	return parseSocket(link)
}

func parseSocket(link string) (uint64, error) {
	rest, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, unix.ENOTSOCK
	}
	return strconv.ParseUint(strings.TrimSuffix(rest, "]"), 10, 64)
}

// sameNet reports whether the thread is in this process's network namespace.
// That belongs to threads.
func (p *process) sameNet() (same bool, err error) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return false, err
	}
	err = p.as(func() error {
		link, err := os.Readlink(p.dir + "/ns/net")
		same = link == own
		return err
	})
	return same, err
}

// flags returns the flags of a descriptor as open(2) has them, O_CLOEXEC and
// O_NONBLOCK among them.
func (p *process) flags(fd int) (flags int, err error) {
	err = p.as(func() error {
		b, err := os.ReadFile(p.dir + "/fdinfo/" + strconv.Itoa(fd))
		if err != nil {
			return err
		}
		flags, err = parseFlags(b)
		return err
	})
	return flags, err
}

func parseFlags(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("flags:")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(rest)), 8, 64)
			return int(n), err
		}
	}
	return 0, unix.EINVAL
}

// protocol returns the name of a socket's protocol in the kernel, "TCPv6".
func (p *process) protocol(fd int) (name string, err error) {
	err = p.as(func() error {
		var b [32]byte
		n, err := unix.Getxattr(p.dir+"/fd/"+strconv.Itoa(fd), "system.sockprotoname", b[:])
		if err == nil {
			name = unix.ByteSliceToString(b[:n])
		}
		return err
	})
	return name, err
}

// protocols are the sockets that are adopted where only the name of their
// protocol is known. (That of a unix socket says whether it is a stream since
// Linux 5.15.)
var protocols = map[string]struct{ domain, kind, protocol int }{
	"TCP":         {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"TCPv6":       {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"MPTCP":       {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	"MPTCPv6":     {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	"UDP":         {unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"UDPv6":       {unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"UNIX-STREAM": {unix.AF_UNIX, unix.SOCK_STREAM, 0},
}

// take returns a descriptor of ours for the one of the process, if that is still
// the socket with this inode.
func (p *process) take(fd int, inode uint64) (int, error) {
	pidfd, err := unix.PidfdOpen(p.tgid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	taken, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, err
	}
	// A thread may have a table of descriptors of its own, clone(2).
	var st unix.Stat_t
	if err := unix.Fstat(taken, &st); err != nil || st.Ino != inode {
		unix.Close(taken)
		return -1, unix.EBADF
	}
	return taken, nil
}

// readMemory fills buf from the memory of the process. EFAULT says that the
// process itself could not read it.
func (p *process) readMemory(at uint64, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	if at == 0 || at+uint64(len(buf)) < at || at > 1<<62 {
		return unix.EFAULT
	}
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(p.tgid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
	switch {
	case err == nil && n == len(buf):
		return nil
	case err == nil:
		return unix.EFAULT
	case !denied(err) && err != unix.ENOSYS:
		return err
	}
	return p.as(func() error {
		// What /proc/PID/mem reads may be forbidden to the process itself.
		if ok, err := p.mapped(at, uint64(len(buf))); err != nil || !ok {
			return cmpError(err, unix.EFAULT)
		}
		fd, err := unix.Open(p.dir+"/mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		n, err := unix.Pread(fd, buf, int64(at))
		if err == nil && n != len(buf) || err == unix.EIO {
			err = unix.EFAULT
		}
		return err
	})
}

func cmpError(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// mapped reports whether the process may read all of a range of its memory.
func (p *process) mapped(at, size uint64) (bool, error) {
	b, err := os.ReadFile(p.dir + "/maps")
	if err != nil {
		return false, err
	}
	return readable(b, at, size), nil
}

// readable reads proc_pid_maps(5): "start-end rwxp ...", in order.
func readable(maps []byte, at, size uint64) bool {
	end := at + size
	for line := range bytes.Lines(maps) {
		first, rest, _ := bytes.Cut(line, []byte(" "))
		from, to, _ := strings.Cut(string(first), "-")
		a, errA := strconv.ParseUint(from, 16, 64)
		b, errB := strconv.ParseUint(to, 16, 64)
		if errA != nil || errB != nil || b <= at || len(rest) == 0 {
			continue
		}
		if a > at || rest[0] != 'r' {
			return false
		}
		if at = b; at >= end {
			return true
		}
	}
	return false
}

// takeEach calls f with a descriptor of ours for each socket that a process has open and
// that is wanted, with its number and inode, until f keeps one.
func takeEach(pid int, wanted func(inode uint64) bool, f func(number int, inode uint64, fd int) (keeps bool)) {
	p, err := findProcess(uint32(pid))
	if err != nil {
		return
	}
	names, err := os.ReadDir(p.dir + "/fd")
	if err != nil {
		return
	}
	for _, name := range names {
		number, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		inode, err := p.inode(number)
		if err != nil || !wanted(inode) {
			continue
		}
		fd, err := p.take(number, inode)
		if err != nil {
			continue
		}
		if f(number, inode, fd) {
			return
		}
		unix.Close(fd)
	}
}
