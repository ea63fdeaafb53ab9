package adopt

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options that golang.org/x/sys/unix does not name.
const (
	soBufLock  = 72 // SO_BUF_LOCK, Linux 5.14
	sndBufLock = 1  // SOCK_SNDBUF_LOCK
	rcvBufLock = 2  // SOCK_RCVBUF_LOCK
)

// noted are the options that are notified where the app's own socket cannot be
// taken: those that bind(2) or listen(2) need. Options that servers set on each
// connection (TCP_NODELAY, SO_KEEPALIVE) are not among them, for each would cost
// a notification.
var noted = []struct {
	level uint32
	label string
	names []int
}{
	{unix.SOL_SOCKET, "socket", []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_BINDTODEVICE, unix.SO_RCVBUF, unix.SO_SNDBUF}},
	{unix.IPPROTO_IP, "ip", []int{unix.IP_FREEBIND, unix.IP_TRANSPARENT}},
	{unix.IPPROTO_IPV6, "ipv6", []int{unix.IPV6_V6ONLY, unix.IPV6_FREEBIND, unix.IPV6_TRANSPARENT}},
	{unix.IPPROTO_TCP, "tcp", []int{unix.TCP_DEFER_ACCEPT, unix.TCP_FASTOPEN}},
}

// carried are the options that a held socket gets from the one whose place it
// takes, where that can be looked at. Left out are those that the kernel changes
// by itself, and IPV6_V6ONLY and SO_BINDTODEVICE, which are part of the address.
var carried = []struct{ level, name int }{
	{unix.SOL_SOCKET, unix.SO_REUSEADDR},
	{unix.SOL_SOCKET, unix.SO_REUSEPORT},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	{unix.SOL_SOCKET, unix.SO_LINGER},
	{unix.SOL_SOCKET, unix.SO_BROADCAST},
	{unix.SOL_SOCKET, unix.SO_PRIORITY},
	{unix.SOL_SOCKET, unix.SO_MARK},
	{unix.SOL_SOCKET, unix.SO_RCVTIMEO},
	{unix.SOL_SOCKET, unix.SO_SNDTIMEO},
	{unix.SOL_SOCKET, unix.SO_PASSCRED},
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL},
	{unix.IPPROTO_IP, unix.IP_TOS},
	{unix.IPPROTO_IP, unix.IP_TTL},
	{unix.IPPROTO_IP, unix.IP_FREEBIND},
	{unix.IPPROTO_IP, unix.IP_TRANSPARENT},
	{unix.IPPROTO_IP, unix.IP_PKTINFO},
	{unix.IPPROTO_IP, unix.IP_RECVERR},
	{unix.IPPROTO_IP, unix.IP_RECVTOS},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
	{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND},
	{unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT},
	{unix.IPPROTO_TCP, unix.TCP_CONGESTION},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN},
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
	{unix.IPPROTO_UDP, unix.UDP_GRO},
}

// carryOptions makes the options of to what those of from are. What the kernel
// refuses stays as it is: the app could have set it, so hotinit may as well, but
// for rights that only the app has.
func carryOptions(to, from int) {
	for _, o := range carried {
		var want, is [64]byte
		n, err := getsockopt(from, o.level, o.name, want[:])
		if err != nil {
			continue
		}
		m, err := getsockopt(to, o.level, o.name, is[:])
		if err == nil && !bytes.Equal(want[:n], is[:m]) {
			_ = setsockopt(to, o.level, o.name, want[:n])
		}
	}
	// A size that nobody set is the kernel's to change; one that was set is read
	// as twice what was asked for, socket(7).
	locks, err := unix.GetsockoptInt(from, unix.SOL_SOCKET, soBufLock)
	if err != nil {
		return
	}
	for name, lock := range map[int]int{unix.SO_RCVBUF: rcvBufLock, unix.SO_SNDBUF: sndBufLock} {
		if locks&lock == 0 {
			continue
		}
		if size, err := unix.GetsockoptInt(from, unix.SOL_SOCKET, name); err == nil {
			_ = unix.SetsockoptInt(to, unix.SOL_SOCKET, name, size/2)
		}
	}
}

// boolean reports whether an option is set.
func boolean(fd, level, name int) bool {
	v, err := unix.GetsockoptInt(fd, level, name)
	return err == nil && v != 0
}

func getsockopt(fd, level, name int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, e := syscall.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func setsockopt(fd, level, name int, value []byte) error {
	_, _, e := syscall.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(len(value)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// number is an option's value where that is an int.
func number(value []byte) int {
	if len(value) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(value)))
}
