package adopt

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The test binary plays the apps: each reads commands, does the system calls, and
// writes what they returned.
const role = "ADOPT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "app":
		app(bufio.NewScanner(os.Stdin))
	}
}

func app(in *bufio.Scanner) {
	for in.Scan() {
		fmt.Println(command(strings.Fields(in.Text())))
	}
}

func command(f []string) string {
	switch f[0] {
	case "socket": // socket tcp|tcp6|udp|unix: the descriptor
		d, k := unix.AF_INET, unix.SOCK_STREAM
		switch f[1] {
		case "tcp6":
			d = unix.AF_INET6
		case "udp", "udp6":
			k = unix.SOCK_DGRAM
			if f[1] == "udp6" {
				d = unix.AF_INET6
			}
		case "unix":
			d = unix.AF_UNIX
		}
		fd, err := unix.Socket(d, k|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return errnoName(err)
		}
		return strconv.Itoa(fd)
	case "set": // set FD LEVEL NAME VALUE
		return errnoName(unix.SetsockoptInt(num(f[1]), num(f[2]), num(f[3]), num(f[4])))
	case "get":
		v, err := unix.GetsockoptInt(num(f[1]), num(f[2]), num(f[3]))
		if err != nil {
			return errnoName(err)
		}
		return strconv.Itoa(v)
	case "bind": // bind FD ADDRESS
		return errnoName(unix.Bind(num(f[1]), sockaddr(f[2])))
	case "raw": // raw FD POINTER LENGTH PORT: bind with these
		b := [200]byte{2, 0, 0x1f, 0x90}
		at, _ := strconv.ParseUint(f[2], 0, 64)
		if len(f) > 4 {
			b[2], b[3] = byte(num(f[4])>>8), byte(num(f[4]))
		}
		if f[2] == "here" {
			at = uint64(uintptr(unsafe.Pointer(&b)))
		}
		if f[2] == "guarded" { // a page that it may not read, with an address in it
			page, _ := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			copy(page, b[:])
			_ = unix.Mprotect(page, unix.PROT_NONE)
			at = uint64(uintptr(unsafe.Pointer(&page[0])))
		}
		_, _, e := unix.Syscall(unix.SYS_BIND, uintptr(num(f[1])), uintptr(at), uintptr(num(f[3])))
		runtime.KeepAlive(&b)
		if e != 0 {
			return errnoName(e)
		}
		return "ok"
	case "listen":
		return errnoName(unix.Listen(num(f[1]), 100))
	case "unlink":
		return errnoName(unix.Unlink(f[1]))
	case "close":
		return errnoName(unix.Close(num(f[1])))
	case "shutdown":
		return errnoName(unix.Shutdown(num(f[1]), num(f[2])))
	case "connect":
		err := unix.Connect(num(f[1]), sockaddr(f[2]))
		if err == unix.EINPROGRESS {
			p := []unix.PollFd{{Fd: int32(num(f[1])), Events: unix.POLLOUT}}
			_, _ = unix.Poll(p, -1)
			err = nil
		}
		return errnoName(err)
	case "accept": // a descriptor of a connection, for which it waits
		p := []unix.PollFd{{Fd: int32(num(f[1])), Events: unix.POLLIN}}
		_, _ = unix.Poll(p, -1)
		fd, _, err := unix.Accept4(num(f[1]), unix.SOCK_CLOEXEC)
		if err != nil {
			return errnoName(err)
		}
		return strconv.Itoa(fd)
	case "inode":
		var st unix.Stat_t
		if err := unix.Fstat(num(f[1]), &st); err != nil {
			return errnoName(err)
		}
		return strconv.FormatUint(st.Ino, 10)
	case "name":
		sa, err := unix.Getsockname(num(f[1]))
		if err != nil {
			return errnoName(err)
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			return strconv.Itoa(sa.Port)
		case *unix.SockaddrInet6:
			return strconv.Itoa(sa.Port)
		}
		return "?"
	case "flags":
		d, _ := unix.FcntlInt(uintptr(num(f[1])), unix.F_GETFD, 0)
		s, _ := unix.FcntlInt(uintptr(num(f[1])), unix.F_GETFL, 0)
		return fmt.Sprint(d&unix.FD_CLOEXEC != 0, s&unix.O_NONBLOCK != 0)
	case "block":
		return errnoName(unix.SetNonblock(num(f[1]), false))
	case "keep": // clears close-on-exec
		_, err := unix.FcntlInt(uintptr(num(f[1])), unix.F_SETFD, 0)
		return errnoName(err)
	case "below": // commands, done by a grandchild in a session of its own
		exe, _ := os.Executable()
		cmd := exec.Command("setsid", "sh", "-c", `"$0" <<END
`+strings.ReplaceAll(strings.Join(f[1:], " "), " ; ", "\n")+`
END`, exe)
		for fd := 3; fd < 20; fd++ {
			cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), "x"))
		}
		for len(cmd.ExtraFiles) > 0 {
			last := cmd.ExtraFiles[len(cmd.ExtraFiles)-1]
			if _, err := unix.FcntlInt(last.Fd(), unix.F_GETFD, 0); err == nil {
				break
			}
			cmd.ExtraFiles = cmd.ExtraFiles[:len(cmd.ExtraFiles)-1]
		}
		out, err := cmd.Output()
		if err != nil {
			return err.Error()
		}
		return strings.Join(strings.Fields(string(out)), " ")
	case "threads": // threads N PORT: N threads bind and listen on N addresses of loopback at once
		var wg sync.WaitGroup
		var mu sync.Mutex
		failed := ""
		for i := range num(f[1]) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				runtime.LockOSThread()
				fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				err := unix.Bind(fd, &unix.SockaddrInet4{Port: num(f[2]), Addr: [4]byte{127, 1, byte(i >> 8), byte(i)}})
				if err == nil {
					err = unix.Listen(fd, 10)
				}
				if err != nil {
					mu.Lock()
					failed += fmt.Sprintf("socket %d: %v; ", i, err)
					mu.Unlock()
				}
			}()
		}
		wg.Wait()
		if failed != "" {
			return failed
		}
		return "ok"
	case "signals": // a signal each millisecond from now on
		go func() {
			for range time.Tick(time.Millisecond) {
				_ = unix.Tgkill(os.Getpid(), os.Getpid(), unix.SIGURG)
			}
		}()
		return "ok"
	case "unshare":
		runtime.LockOSThread()
		return errnoName(unix.Unshare(unix.CLONE_NEWNET))
	case "seteuid":
		return errnoName(unix.Setresuid(num(f[1]), num(f[1]), num(f[1])))
	}
	return "no such command"
}

func num(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// sockaddr reads "127.0.0.1:80", "[::1]:80", "@name" or a path.
func sockaddr(s string) unix.Sockaddr {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return &unix.SockaddrUnix{Name: s}
	}
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func errnoName(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(e)
	}
	return err.Error()
}
