package serving

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// scan looks many times in a row at what one process has open. A look takes a
// few microseconds, so that it sees a connection that is over at once.
type scan struct {
	fd   int             // /proc/PID/fd
	skip map[string]bool // numbers of what is known; it stays what it is for so long
	buf  []byte
}

func newScan(pid int) (scan, bool) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return scan{fd, make(map[string]bool), make([]byte, 8192)}, err == nil
}

func (s *scan) close() { unix.Close(s.fd) }

// fresh adds the sockets that the process has and that are not known. Of a
// process with hundreds of descriptors it looks at the first ones: the kernel
// lists them by number, and gives a new one the lowest that is free.
func (s *scan) fresh(known func(inode uint64) bool, held map[uint64]bool) {
	if _, err := unix.Seek(s.fd, 0, unix.SEEK_SET); err != nil {
		return
	}
	n, err := unix.Getdents(s.fd, s.buf)
	if err != nil || n <= 0 {
		return
	}
	var target [64]byte
	_, _, list := unix.ParseDirent(s.buf[:n], -1, nil)
	for _, name := range list {
		if s.skip[name] {
			continue
		}
		n, err := unix.Readlinkat(s.fd, name, target[:])
		if err != nil {
			continue
		}
		if inode, ok := parseLink(target[:n]); ok && !known(inode) {
			held[inode] = true
		} else {
			s.skip[name] = true
		}
	}
}
