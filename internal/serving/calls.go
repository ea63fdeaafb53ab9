package serving

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// A call is the system call that a thread is blocked in.
type call struct {
	number int
	args   [6]uint64
}

// parseCall reads /proc/PID/task/TID/syscall, proc(5): the number, six
// arguments, the stack pointer and the program counter. A thread that runs has
// "running", one that is blocked outside of any call "-1".
func parseCall(b []byte) (c call, ok bool) {
	f := bytes.Fields(b)
	if len(f) < 7 {
		return c, false
	}
	var err error
	if c.number, err = strconv.Atoi(string(f[0])); err != nil || c.number < 0 {
		return c, false
	}
	for i := range c.args {
		if c.args[i], err = strconv.ParseUint(string(f[i+1]), 0, 64); err != nil {
			return c, false
		}
	}
	return c, true
}

// How a thread waits.
type wait uint8

const (
	elsewhere wait = iota
	inAccept       // accept(2) on one of the sockets, or a read of a datagram socket
	inPoll         // poll(2) or select(2), with one of the sockets among the descriptors
	inEpoll        // epoll_wait(2) on descriptor epoll
)

// What is read of another process's memory at most. Nobody polls for more, or
// else the first ones have to do.
const (
	mostPolled   = 4096
	mostSelected = 64 << 10 // bits
)

// waits works out what a thread waits for. sockets are the numbers that the
// process has the sockets under, memory reads the process's memory. err is that
// of memory.
func (c *call) waits(sockets map[int]*Socket, memory func(addr uint64, size int) ([]byte, error)) (how wait, epoll int, err error) {
	fd := int(int32(c.args[0]))
	switch c.number {
	case sysAccept, unix.SYS_ACCEPT4:
		if s := sockets[fd]; s != nil && s.Stream {
			return inAccept, 0, nil
		}
	case unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_READ:
		if s := sockets[fd]; s != nil && !s.Stream {
			return inAccept, 0, nil
		}
	case sysEpollWait, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2:
		return inEpoll, fd, nil
	case sysPoll, unix.SYS_PPOLL, unix.SYS_RESTART_SYSCALL:
		// A poll that was interrupted, as by a debugger, goes on as
		// restart_syscall(2) with the same arguments.
		if len(sockets) == 0 || c.args[1] == 0 || c.args[0] == 0 {
			return elsewhere, 0, nil
		}
		b, err := memory(c.args[0], 8*int(min(c.args[1], mostPolled)))
		if err != nil {
			if c.number == unix.SYS_RESTART_SYSCALL {
				err = nil // of another call, with other arguments
			}
			return elsewhere, 0, err
		}
		if polls(b, sockets) {
			return inPoll, 0, nil
		}
	case sysSelect, unix.SYS_PSELECT6:
		if len(sockets) == 0 || c.args[0] == 0 || c.args[1] == 0 {
			return elsewhere, 0, nil
		}
		n := int(min(c.args[0], mostSelected))
		b, err := memory(c.args[1], (n+63)/64*8)
		if err != nil {
			return elsewhere, 0, err
		}
		if selects(b, n, sockets) {
			return inPoll, 0, nil
		}
	}
	return elsewhere, 0, nil
}

// pollRdNorm is POLLRDNORM, the same on all that Linux runs on but MIPS and SPARC.
const pollRdNorm = 0x40

// polls reports whether an array of struct pollfd asks for input on one of the
// sockets.
func polls(b []byte, sockets map[int]*Socket) bool {
	for ; len(b) >= 8; b = b[8:] {
		fd := int(int32(binary.NativeEndian.Uint32(b)))
		events := binary.NativeEndian.Uint16(b[4:])
		if events&(unix.POLLIN|pollRdNorm) != 0 && sockets[fd] != nil {
			return true
		}
	}
	return false
}

// selects reports whether one of the sockets is in an fd_set of n bits. It is an
// array of longs, select(2); those of a 64-bit machine are 64 bits long.
func selects(b []byte, n int, sockets map[int]*Socket) bool {
	for at := 0; len(b) >= 8; b, at = b[8:], at+64 {
		for word := binary.NativeEndian.Uint64(b); word != 0; word &= word - 1 {
			if fd := at + bits.TrailingZeros64(word); fd < n && sockets[fd] != nil {
				return true
			}
		}
	}
	return false
}

// readMemory returns what is at an address of a process. proc is an open
// /proc/PID.
func readMemory(proc int, addr uint64, size int) ([]byte, error) {
	fd, err := unix.Openat(proc, "mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, size)
	n, err := unix.Pread(fd, b, int64(addr))
	if err != nil {
		if err == unix.EIO || err == unix.EFAULT || err == unix.EINVAL {
			return nil, nil // nothing is there: not what it seemed to be
		}
		return nil, err
	}
	return b[:n], nil
}

// is32bit reports whether a process runs a 32-bit program, whose calls have
// other numbers.
func is32bit(proc int) bool {
	fd, err := unix.Openat(proc, "exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	head := make([]byte, 5)
	n, err := unix.Pread(fd, head, 0)
	return err == nil && n == 5 && string(head[:4]) == "\x7fELF" && head[4] == 1
}

// readAt reads a file below an open directory, limit bytes at most.
func readAt(dir int, name string, limit int) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, min(limit, 4096))
	for len(b) < limit {
		if len(b) == cap(b) {
			b = slices.Grow(b, min(cap(b), limit-len(b)))
		}
		n, err := unix.Read(fd, b[len(b):min(cap(b), limit)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		b = b[:len(b)+n]
	}
	return b, nil
}

// names lists a directory of /proc, limit entries at most.
func names(dir int, name string, limit int) ([]string, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	list, err := f.Readdirnames(limit)
	if err == io.EOF {
		return nil, nil // an empty one: a process without descriptors
	}
	if len(list) > 0 {
		err = nil
	}
	return list, err
}
