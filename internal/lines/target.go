package lines

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/say"
)

// pipeBuf is how much may be written at once, beside programs and a hotinit that write
// to the same pipe themselves: PIPE_BUF, up to which the kernel mixes nothing, pipe(7).
const pipeBuf = 4096

// target is what several sources write to, one at a time.
type target struct {
	users int
	fd    int
	most  int // how much is written at once

	mu   sync.Mutex
	torn bool // the last line could not be written to its end
	lost say.Seldom
}

func newTarget(fd int) *target {
	t := &target{fd: fd, most: pipeBuf}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		t.most = chunk // a write to a file mixes with no other one, whatever its size
	}
	return t
}

// nameOf is what an open file is called, for a person.
func nameOf(fd int) string {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "what they go to"
	}
	return name
}

func (t *target) close() { unix.Close(t.fd) }

// add adds a line to those that are to be written, and writes those before it where
// there are enough of them.
func (t *target) add(out []byte, head string, parts ...[]byte) []byte {
	n := len(head) + 1
	for _, p := range parts {
		n += len(p)
	}
	if len(out) > 0 && len(out)+n > t.most {
		t.write(out)
		out = out[:0]
	}
	out = append(out, head...)
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, '\n')
}

// write writes whole lines. It waits for whoever reads them, and with it all that
// write to the same target: their pipes fill, and nothing is lost.
func (t *target) write(b []byte) {
	if len(b) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.torn {
		b = append([]byte{'\n'}, b...)
	}
	whole := b
	for len(b) > 0 {
		n, err := unix.Write(t.fd, b)
		switch {
		case n > 0:
			b = b[n:]
		case err == unix.EINTR:
		case err == unix.EAGAIN: // a program has made the open file so
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLOUT}}, -1)
		default:
			// A disk is full, or the reader has gone. What comes is still read, so
			// that no program waits for it.
			if len(b) < len(whole) {
				t.torn = whole[len(whole)-len(b)-1] != '\n'
			}
			t.lost.Line("lines of programs are lost: cannot write them to %s (--log-prefix): %v", nameOf(t.fd), err)
			return
		}
	}
	t.torn = false
}
