package serving

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What comes from a process, or from the kernel on its behalf, must not be able
// to do more than be wrong.
func FuzzParsers(f *testing.F) {
	for _, s := range []string{
		"7 0x7ffc00000000 0x2 0xffffffff 0x0 0x0 0x0 0x7ffc 0x7f00", "running\n", "-1 0x1 0x2\n", "43 0x3 0 0 0 0 0 0 0",
		"tfd:        5 events:       1d data: ffffffffffffffff  pos:0 ino:61af sdev:7\n",
		"UserFiles:\t1\n    0: socket:[4711]\nPollList:\n  op=13, task_works=0\n",
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0",
		"0000000000000000: 00000003 00000000 00000000 0001 03 4711 /run/app.sock",
		"Uid:\t33\t33\t33\t33\nGid:\t33\t33\t33\t33\n", "socket:[4711]",
		"\x14\x00\x00\x00\x03\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sockets := map[uint64]*Socket{4711: {Inode: 4711, Stream: true}}
		numbers := map[int]*Socket{3: sockets[4711]}
		if c, ok := parseCall(b); ok {
			c.waits(numbers, func(addr uint64, size int) ([]byte, error) {
				if size < 0 || size > 8*mostPolled && size > mostSelected/8 {
					t.Errorf("reads %d bytes", size)
				}
				return b[:min(len(b), size)], nil
			})
		}
		if len(epollMembers(b)) > len(b) {
			t.Error("more members than bytes")
		}
		parseRing(b, sockets, true)
		parseLink(b)
		if _, gid, ok := parseOwner(b); ok && gid < 0 {
			t.Error("a negative group")
		}
		polls(b, numbers)
		selects(b, 64, numbers)
		parseInet(b)
		parseUnix(b)
		trimName(b)
		attributes(b, func(uint16, []byte) {})
		answers(b, true, func([]byte) bool { return true })
		for line := range strings.Lines(string(b)) {
			parseTCP([]byte(line))
			parseUnixLine([]byte(line))
		}
	})
}

func TestOfAllCallsOnlyThoseThatWaitForASocket(t *testing.T) {
	stream, datagram := &Socket{Stream: true}, &Socket{}
	numbers := map[int]*Socket{3: stream, 4: datagram, 70: stream}
	pollfd := func(fd, events byte) string { return string([]byte{fd, 0, 0, 0, events, 0, 0, 0}) }
	set := func(fd int) string {
		b := make([]byte, 16)
		b[fd/8] = 1 << (fd % 8)
		return string(b)
	}
	for _, c := range []struct {
		what   string
		call   call
		memory string
		want   wait
	}{
		{"accept4 on it", call{unix.SYS_ACCEPT4, [6]uint64{3}}, "", inAccept},
		{"accept4 on another", call{unix.SYS_ACCEPT4, [6]uint64{9}}, "", elsewhere},
		{"recvfrom on a stream", call{unix.SYS_RECVFROM, [6]uint64{3}}, "", elsewhere},
		{"recvfrom on a datagram socket", call{unix.SYS_RECVFROM, [6]uint64{4}}, "", inAccept},
		{"ppoll", call{unix.SYS_PPOLL, [6]uint64{1, 2}}, pollfd(9, 1) + pollfd(3, 1), inPoll},
		{"ppoll for output", call{unix.SYS_PPOLL, [6]uint64{1, 1}}, pollfd(3, 4), elsewhere},
		{"ppoll of nothing", call{unix.SYS_PPOLL, [6]uint64{0, 0}}, "", elsewhere},
		{"ppoll that goes on", call{unix.SYS_RESTART_SYSCALL, [6]uint64{1, 1}}, pollfd(3, 1), inPoll},
		{"pselect6", call{unix.SYS_PSELECT6, [6]uint64{71, 1}}, set(70), inPoll},
		{"pselect6 of less", call{unix.SYS_PSELECT6, [6]uint64{70, 1}}, set(70), elsewhere},
		{"pselect6 of another", call{unix.SYS_PSELECT6, [6]uint64{71, 1}}, set(9), elsewhere},
		{"pselect6 for output", call{unix.SYS_PSELECT6, [6]uint64{71, 0, 1}}, set(70), elsewhere},
		{"epoll_pwait", call{unix.SYS_EPOLL_PWAIT, [6]uint64{7}}, "", inEpoll},
		{"futex", call{unix.SYS_FUTEX, [6]uint64{3}}, "", elsewhere},
	} {
		how, _, err := c.call.waits(numbers, func(uint64, int) ([]byte, error) { return []byte(c.memory), nil })
		if how != c.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", c.what, how, err, c.want)
		}
	}
}
