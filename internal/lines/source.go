package lines

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// longestLine is how much of a line is waited for. A longer one is written in
	// pieces of this size, each a line of its own; continued follows the program's
	// name in those after the first.
	longestLine = 64 << 10
	continued   = "+"
	// chunk is how much is read at once: what a pipe has, pipe(7).
	chunk = 64 << 10
)

// A chunk is taken only while there is something to read, since most programs say
// nothing for most of the time.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}
var written = sync.Pool{New: func() any { b := make([]byte, 0, 2*chunk); return &b }}

// source is one stream of one generation.
type source struct {
	relay  *relay
	file   *os.File
	fd     int // which file owns
	name   string
	target *target
	rest   []byte // of a line that has not ended
	broken bool   // pieces of that line were written
}

// follow reads until nobody can write any more.
func (s *source) follow() {
	defer s.file.Close()
	raw, err := s.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		s.relay.waiting.Add(1)
		n, b := 0, (*[chunk]byte)(nil)
		waited := raw.Read(func(fd uintptr) bool {
			b = chunks.Get().(*[chunk]byte)
			n, err = unix.Read(int(fd), b[:])
			if err == unix.EAGAIN || err == unix.EINTR {
				chunks.Put(b)
				b = nil
				return err == unix.EINTR
			}
			return true
		})
		s.relay.waiting.Add(-1)
		s.relay.moved.Add(1)
		switch {
		case waited == nil && err == unix.EINTR:
			continue
		case errors.Is(waited, os.ErrDeadlineExceeded):
			s.relay.stand()
			continue
		case waited != nil || err != nil || n <= 0:
			s.end()
			return
		}
		s.write(b[:n])
		chunks.Put(b)
		runtime.Gosched() // the others have their turn, however fast this one writes
	}
}

// write writes each line that has ended, and keeps the rest.
func (s *source) write(b []byte) {
	buf := written.Get().(*[]byte)
	out := (*buf)[:0]
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if room := longestLine - len(s.rest); i > room || i < 0 && len(b) >= room {
			// Too long, with what is kept: a piece of it.
			out = s.target.add(out, s.head(), s.rest, b[:room])
			s.rest, s.broken, b = s.rest[:0], true, b[room:]
			continue
		}
		if i < 0 {
			s.rest = append(s.rest, b...)
			break
		}
		if !s.broken || len(s.rest)+i > 0 { // else it ended just where it was broken
			out = s.target.add(out, s.head(), s.rest, b[:i])
		}
		s.rest, s.broken, b = s.rest[:0], false, b[i+1:]
	}
	s.target.write(out)
	if cap(out) <= 2*chunk {
		*buf = out[:0]
	}
	written.Put(buf)
	if len(s.rest) == 0 {
		s.rest = nil
	}
}

// end writes what had no end.
func (s *source) end() {
	if len(s.rest) > 0 {
		s.target.write(s.target.add(nil, s.head(), s.rest, nil))
		s.rest = nil
	}
}

// head is what goes before the next line.
func (s *source) head() string {
	if s.broken {
		return s.name + continued + ": "
	}
	return s.name + ": "
}
