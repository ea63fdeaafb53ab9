package spawn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/passwd"
)

const (
	maxDigits   = 20
	signals     = 64
	sigIgn      = 1
	shell       = "/bin/sh"
	fdPrefix    = "/dev/fd/"
	reportBytes = 8
)

// sigaction is the kernel's struct sigaction, see rt_sigaction(2). Only the
// handler is not zero, so the layout of the rest does not matter.
type sigaction struct {
	handler uintptr
	rest    [3]uint64
}

// image holds everything that the child reads and writes, prepared before the
// fork. The parent reads nothing that the child writes there.
type image struct {
	spec  *Spec  // for messages; the child reads no strings of it
	stack []byte // the child's, if it shares the parent's memory

	pidfd  int32 // written by clone(2)
	report uintptr
	gated  bool       // wait for a byte from gate before anything else
	gate   [2]uintptr // a pipe
	result [2]uint32  // stage, errno

	path   *byte // of the file, or "" with fd
	fd     int
	empty  [1]byte
	fdPath [len(fdPrefix) + maxDigits + 1]byte // "/dev/fd/N", N is known in the child
	shell  *byte
	argv   []*byte // with a NULL at the end
	shArgv []*byte // the same for /bin/sh: [sh, file, arguments]
	env    []*byte
	self   [][]byte // where the child's PID goes: "LISTEN_PID=" and room

	files    []int
	moved    []uintptr // scratch: the descriptors out of each other's way
	noRange  bool      // the kernel has no close_range(2) that sets close-on-exec
	fdTable  int       // then: no descriptor is as high as that
	dir      *byte
	umask    int
	signals  entry.Signals
	slack    uintptr // 0 leaves it
	action   sigaction
	limit    *unix.Rlimit
	cred     *passwd.Credential
	groups   *uint32
	nGroups  int
	noPrivs  bool
	setsid   bool
	setpgid  bool
	terminal int
	pgid     int32
	byte     [1]byte // what comes from gate

	filter      *unix.SockFprog
	filterFlags uintptr
	filterPrivs bool
	filterTo    uintptr // where the child sends the descriptor of its notifications
	filterMsg   unix.Msghdr
	filterIov   unix.Iovec
	filterRight rights
	listener    int // what the parent received there

	cgroup   int
	args     cloneArgs // for cgroup
	inCgroup bool      // fork started the child in it
}

func newImage(s *Spec) (*image, error) {
	im := &image{
		spec:     s,
		pidfd:    -1,
		fd:       s.FD,
		files:    s.Files,
		moved:    make([]uintptr, len(s.Files)),
		umask:    s.Umask,
		signals:  s.Signals,
		slack:    uintptr(entry.TimerSlack()),
		noPrivs:  s.NoNewPrivs,
		setsid:   s.Setsid,
		setpgid:  s.Setpgid && !s.Setsid,
		terminal: s.Foreground,
		cgroup:   s.Cgroup,
	}
	copy(im.fdPath[:], fdPrefix)
	im.listener = -1
	if len(s.Filter) > 0 {
		im.layFilter(s)
	}

	c := converter{}
	im.path = c.bytes(s.Path)
	interpreter := shell
	if s.NoShell {
		interpreter = "" // execve(2) fails, and so does the start
	}
	im.shell = c.bytes(interpreter)
	if s.Dir != "" {
		im.dir = c.bytes(s.Dir)
	}
	im.argv = c.list(s.Argv)
	// As execvp(3): the shell gets the file, then the arguments from the first on.
	im.shArgv = append(im.shArgv, im.shell, im.path)
	if s.FD >= 0 {
		im.path = &im.empty[0]
		im.shArgv[1] = &im.fdPath[0]
	}
	if len(s.Argv) > 1 {
		im.shArgv = append(im.shArgv, im.argv[1:]...)
	} else {
		im.shArgv = append(im.shArgv, nil)
	}
	im.environment(&c)
	if c.bad {
		return nil, &Error{Op: "exec", Path: s.Path, Err: unix.EINVAL}
	}

	if im.limit = s.NoFile; im.limit == nil {
		if l, ok := entry.NoFile(); ok {
			im.limit = &unix.Rlimit{Cur: l.Cur, Max: l.Max}
		}
	}
	if im.cred = s.Credential; im.cred != nil {
		if im.nGroups = len(im.cred.Groups); im.nGroups > 0 {
			im.groups = &im.cred.Groups[0]
		}
	}
	if !rangeWorks() {
		im.noRange, im.fdTable = true, fdTableSize()
	}
	return im, nil
}

// environment prepares Env, with room for the PID in the variables of SelfPID.
func (im *image) environment(c *converter) {
	im.env = make([]*byte, 0, len(im.spec.Env)+len(im.spec.SelfPID)+1)
next:
	for _, v := range im.spec.Env {
		for _, name := range im.spec.SelfPID {
			if rest, ok := strings.CutPrefix(v, name); ok && strings.HasPrefix(rest, "=") {
				continue next
			}
		}
		im.env = append(im.env, c.bytes(v))
	}
	for _, name := range im.spec.SelfPID {
		v := make([]byte, len(name)+1+maxDigits+1) // zeroed: it ends with NUL
		copy(v, name+"=")
		im.env = append(im.env, &v[0])
		im.self = append(im.self, v[len(name)+1:])
	}
	im.env = append(im.env, nil)
}

// converter makes C strings, and records whether one contained a NUL.
type converter struct{ bad bool }

func (c *converter) bytes(s string) *byte {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		c.bad = true
	}
	return b
}

func (c *converter) list(ss []string) []*byte {
	l := make([]*byte, 0, len(ss)+1)
	for _, s := range ss {
		l = append(l, c.bytes(s))
	}
	return append(l, nil)
}

// forceNoRange is for tests.
var forceNoRange bool

// rangeWorks reports whether close_range(2) can set close-on-exec. It tries that
// on a number that no descriptor has: Linux before 5.11 returns EINVAL, before 5.9
// ENOSYS.
func rangeWorks() bool {
	const none = ^uint32(0)
	return !forceNoRange && unix.CloseRange(uint(none), uint(none), unix.CLOSE_RANGE_CLOEXEC) == nil
}

// fdTableSize returns the size of the kernel's table of this process's
// descriptors, FDSize in proc(5); no open descriptor has a higher number. Where
// /proc is not mounted it returns the limit of open files, although descriptors
// opened before a lower limit was set may be above it.
func fdTableSize() int {
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		if _, rest, ok := bytes.Cut(b, []byte("\nFDSize:\t")); ok {
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			if n, err := strconv.Atoi(string(line)); err == nil {
				return n
			}
		}
	}
	const enough = 1 << 20
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil && l.Cur < enough {
		return int(l.Cur)
	}
	return enough
}

// readReport reads the child's report of a failure, or the end of the pipe, which
// execve(2) closes. It calls last, and closes fd. Go's poller waits for the pipe: a blocking read
// would cost another thread.
func readReport(fd int, last func()) (stage, unix.Errno, bool) {
	_ = unix.SetNonblock(fd, true)
	file := os.NewFile(uintptr(fd), "report")
	defer func() { last(); _ = file.Close() }()
	var b [reportBytes]byte
	n, err := file.Read(b[:])
	for errors.Is(err, unix.EAGAIN) { // the poller could not add the descriptor
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		n, err = file.Read(b[:])
	}
	// A write of eight bytes to a pipe is atomic, see pipe(7).
	if n != len(b) || err != nil {
		return 0, 0, false
	}
	st := stage(binary.NativeEndian.Uint32(b[:4]))
	return st, unix.Errno(binary.NativeEndian.Uint32(b[4:])), true
}
