package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Version is the version of the messages and of State. It is counted up when a
// field is added to one of their lists, moved, or means something else: the golden
// file of each version stays in testdata, and a test reads it.
//
// A handoff in a Trial talks to an init of another version, and reads what another
// version's handoffs have recorded. So hotinit refuses a version outside of Oldest
// and Version, before anything is replaced.
const (
	Version = 1
	Oldest  = 1
)

// CheckVersion says why another hotinit's messages cannot be understood.
func CheckVersion(v int) error {
	if v < Oldest || v > Version {
		return fmt.Errorf("its messages have version %d, and this hotinit understands %s", v, Range(Oldest, Version))
	}
	return nil
}

// Range names the versions from oldest to newest.
func Range(oldest, newest int) string {
	if oldest == newest {
		return fmt.Sprintf("version %d", newest)
	}
	return fmt.Sprintf("versions %d to %d", oldest, newest)
}

// State is all that init knows, for the hotinit that is executed in its place:
// execve(2) keeps the process with its children, its descriptors, its pending
// signals and its terminal, and nothing else. What is a time counts from that
// moment.
type State struct {
	Name string // of the process, as ps(1) shows it
	// Permitted are init's capabilities. A hotinit that would have fewer does not
	// take its place.
	Permitted uint64
	Dir       string
	Kept      []Kept // FD is init's own number
	Records   []Stored
	Handoff   Running
	Pending   []Signal // received and not acknowledged, oldest first
	LastSeq   uint64
	Orphans   uint64 // how many were reaped
	Gone      int    // a child of init's own that is not reaped yet, 0 for none
	Caught    int    // the pipe of the signals that cannot be blocked, -1 for none

	Warn, Suspend, Suspended bool // as Hello said, and whether to stop with the app
	ParentDeath              int
	JSON                     bool
	Stops                    bool
	StopTimeout              time.Duration

	Stop    int           // the oldest signal to stop, 0 for none
	Since   time.Duration // so long ago it came
	Acted   bool          // the handoff has acted upon it
	Strikes int           // periods without an answer, in a row

	Upgrade Attempt
}

// Stored is the record of a program.
type Stored struct {
	Program string
	State   []byte
}

// Running is the handoff.
type Running struct {
	PID, PIDFD int
	Start      uint64 // when it started, see proc.Stat
	Socket     int    // init's end of the pair
	Sent       uint64 // the last signal that was sent to it
}

func (s *State) fields(c *coder) {
	c.string(&s.Name)
	c.uint(&s.Permitted)
	c.string(&s.Dir)
	list(c, &s.Kept, func(k *Kept) {
		c.string(&k.Name)
		c.int(&k.FD)
	})
	list(c, &s.Records, func(r *Stored) {
		c.string(&r.Program)
		c.bytes(&r.State)
	})
	c.int(&s.Handoff.PID)
	c.int(&s.Handoff.PIDFD)
	c.uint(&s.Handoff.Start)
	c.int(&s.Handoff.Socket)
	c.uint(&s.Handoff.Sent)
	list(c, &s.Pending, func(m *Signal) { m.fields(c) })
	c.uint(&s.LastSeq)
	c.uint(&s.Orphans)
	c.int(&s.Gone)
	c.int(&s.Caught)
	c.bool(&s.Warn)
	c.bool(&s.Suspend)
	c.bool(&s.Suspended)
	c.int(&s.ParentDeath)
	c.bool(&s.JSON)
	c.bool(&s.Stops)
	c.duration(&s.StopTimeout)
	c.int(&s.Stop)
	c.duration(&s.Since)
	c.bool(&s.Acted)
	c.int(&s.Strikes)
	s.Upgrade.fields(c)
}

// magic begins a State, so that nothing else is taken for one.
const magic = "hotinit state\n"

// Encode writes the state, with the version before it.
func (s *State) Encode() []byte {
	c := coder{b: binary.AppendUvarint([]byte(magic), Version), fd: -1}
	s.fields(&c)
	return c.b
}

// DecodeState reads what Encode wrote. What it returns lies in b.
func DecodeState(b []byte) (*State, error) {
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return nil, errors.New("it is not the state of a hotinit")
	}
	c := coder{b: b[len(magic):], reading: true, fd: -1}
	var v uint64
	c.uint(&v)
	if c.bad {
		return nil, errState
	}
	if err := CheckVersion(int(min(v, 1<<30))); err != nil {
		return nil, err
	}
	s := &State{}
	s.fields(&c)
	if c.bad || len(c.b) > 0 {
		return nil, errState
	}
	return s, nil
}

var errState = errors.New("the state of the hotinit before makes no sense")
