package message

import (
	"encoding/binary"
	"time"
)

// coder writes the fields of a message, or reads them. A message of another
// version of hotinit (the handoff's file can be replaced) must never crash
// PID 1, so each length that is read is checked.
type coder struct {
	b       []byte // written so far, or left to read
	reading bool
	bad     bool // what is read is no message
	fd      int  // the descriptor that goes with the message, -1 for none
}

func encode(m Message) (b []byte, fd int) {
	var c coder
	c.write(m)
	return c.b, c.fd
}

// write begins anew, in the same memory.
func (c *coder) write(m Message) {
	if c.b == nil {
		c.b = make([]byte, 0, 256)
	}
	c.b, c.fd = append(c.b[:0], m.kind()), -1
	m.fields(c)
}

// decode reads what encode wrote. fd came with it; where the message has no
// place for it, or lacks one, ok is false.
func decode(b []byte, fd int) (m Message, ok bool) { return new(inbox).decode(b, fd) }

func (in *inbox) decode(b []byte, fd int) (m Message, ok bool) {
	if len(b) == 0 {
		return nil, false
	}
	if m = in.message(b[0]); m == nil {
		return nil, false
	}
	in.coder = coder{b: b[1:], reading: true, fd: fd}
	c := &in.coder
	m.fields(c)
	return m, !c.bad && len(c.b) == 0 && c.fd < 0
}

func (c *coder) fail() {
	c.b, c.bad = nil, true
}

func (c *coder) uint(v *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	u, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return
	}
	*v, c.b = u, c.b[n:]
}

func (c *coder) int64(v *int64) {
	if !c.reading {
		c.b = binary.AppendVarint(c.b, *v)
		return
	}
	i, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail()
		return
	}
	*v, c.b = i, c.b[n:]
}

func (c *coder) int(v *int) {
	i := int64(*v)
	c.int64(&i)
	*v = int(i)
}

func (c *coder) duration(v *time.Duration) { c.int64((*int64)(v)) }

func (c *coder) bool(v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	c.uint(&u)
	*v = u != 0
}

func (c *coder) bytes(v *[]byte) {
	n := uint64(len(*v))
	c.uint(&n)
	switch {
	case !c.reading:
		c.b = append(c.b, *v...)
	case n > uint64(len(c.b)):
		c.fail()
	default:
		*v, c.b = c.b[:n:n], c.b[n:]
	}
}

func (c *coder) string(v *string) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	var b []byte
	c.bytes(&b)
	if *v != string(b) { // else it is as in the message before
		*v = string(b)
	}
}

// attached is a descriptor, which goes beside the bytes.
func (c *coder) attached(fd *int) {
	if !c.reading {
		c.fd = *fd
		return
	}
	if c.fd < 0 {
		c.fail()
	}
	*fd, c.fd = c.fd, -1
}

// list writes or reads a slice, element by element.
func list[T any](c *coder, v *[]T, one func(*T)) {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.reading {
		for i := range *v {
			one(&(*v)[i])
		}
		return
	}
	if n > uint64(len(c.b)) { // each element has a byte at least
		c.fail()
	}
	for range n {
		if c.bad {
			return
		}
		var e T
		one(&e)
		*v = append(*v, e)
	}
}
