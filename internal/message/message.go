// Package message is what init and the handoff say to each other.
//
// Its invariant: a message arrives whole or not at all, whenever either side is
// killed. The two processes are joined by a pair of SOCK_SEQPACKET sockets, one
// message is one packet, and a packet that the kernel had to cut is an error.
//
// Init sends Start once, then one Record for each program, then a Signal for
// each signal that PID 1 receives. The handoff sends Hello, and then Keep,
// Output, Terminal, Drop, Record, Forget, Acted and at last Exit. No message has
// a reply: a Record or an Acted with the number of a signal acknowledges that
// signal and all before it.
//
// When hotinit is replaced by another executable, Upgrade, Able, Refused and
// Upgraded are sent, and State is what the one init leaves to the other.
//
// Read message.go for the messages, link.go for how they are sent and received,
// state.go for State and the versions, and coder.go for their bytes.
package message

import "time"

// Message is one of the types below, as a pointer.
type Message interface {
	kind() byte
	// fields names each field once, in the order of the packet; the coder
	// writes or reads them.
	fields(c *coder)
}

const (
	// Socket is the handoff's descriptor of its end of the socket pair.
	Socket = 3
	// FirstKept is the handoff's descriptor of the first one that init keeps,
	// but for a handoff that the entry point started.
	FirstKept = 4
	// Inherited begins the names of the descriptors that hotinit itself was
	// started with; the number that each had follows.
	Inherited = "inherited/"
	// OutputName is the name under which init keeps what Output carries.
	OutputName = "output"
	// Cgroup begins the name of the directory of hotinit's own cgroup. What
	// follows begins the names of the cgroups that hotinit makes there; init
	// removes them at the end.
	Cgroup = "cgroup/"
	// Max is the size in bytes of the largest message. It is below the
	// default send buffer of a socket, which bounds a packet.
	Max = 128 << 10
	// maxState is the size in bytes of the largest state in one Record.
	maxState = Max - 1024
)

// Start is init's first message to each handoff.
type Start struct {
	Version int    // of all messages, see Version
	Dir     string // the working directory that hotinit was started in
	Kept    []Kept // what init keeps, and the handoff inherits
	Records int    // the records of this many programs follow
	More    bool   // another Start follows first, with more of Kept: one packet has not room for all
	// Trial says that init is another hotinit, which may go back to its own
	// handoff. The handoff then reads all that it is given, says Able, and acts
	// upon nothing before Upgraded.
	Trial   bool
	Upgrade Attempt // the last one; the one that is tried, in a Trial
}

// Attempt is what became of an attempt to replace hotinit.
type Attempt struct {
	Number int    // 0 for none; as the handoff counted it in Upgrade
	File   string // what the handoff called the executable
	Why    string // why it was rejected, "" if it was not
}

// Kept is a descriptor that init keeps.
type Kept struct {
	Name string
	FD   int // its number in the handoff
}

// Signal says that PID 1 received a signal.
type Signal struct {
	Seq    uint64 // counts the signals from 1
	Signal int    // 0 for none: init only wants to see that the handoff acts
	Hangup bool   // the kernel sent SIGHUP, since the terminal is gone
	Reaped uint64 // how many orphans init has reaped by now
}

// Hello says that the handoff is at work, and what the command line asks of init. In a
// Trial it is sent again after each step that may take long.
type Hello struct {
	Warn        bool // print which orphans were reaped
	Suspend     bool // stop with the app after a job control signal
	ParentDeath int  // the signal for init when its own parent ends, 0 for none
	// Stops says that SIGTERM, SIGINT and SIGQUIT stop hotinit. Otherwise they
	// are only passed on to the app.
	Stops bool
	// StopTimeout is how long the app may take to end after a signal to stop.
	StopTimeout time.Duration
	JSON        bool // init's own lines are JSON objects
}

// Keep gives init a descriptor to hold under a name, in place of one that it
// holds under the same name.
type Keep struct {
	Name string
	FD   int
}

// Output gives init a descriptor to keep, and to use as its own standard output
// and standard error.
type Output struct{ FD int }

// Terminal makes init, which leads the session, give up its controlling
// terminal, so that another session can have it. Init closes FD when it has.
type Terminal struct {
	Number int // init's own descriptor of the terminal
	FD     int
}

// Drop makes init close what it keeps under a name.
type Drop struct{ Name string }

// Record is all that a later handoff needs to know of one program.
type Record struct {
	Program string
	Seq     uint64 // the last signal acted upon
	State   []byte // a received one lies in the buffer of the receiver
	// More says that State goes on in the next Record, since one message would
	// be too large. What was recorded before holds until all of it has arrived.
	More bool
}

// Forget makes init drop the record of a program, and close all that it keeps under
// names that begin with Kept, where that is not "".
type Forget struct {
	Program string
	Kept    string
}

// Acted acknowledges signals that changed no record.
type Acted struct{ Seq uint64 }

// Ask makes init send a Signal without a signal, for what else is in it.
type Ask struct{}

// Exit is the verdict: init ends what is left of the app and exits with Status.
type Exit struct {
	Status int
	// Grace is how long what is left has between SIGTERM and SIGKILL.
	Grace time.Duration
	// Leave makes init exit at once and end nobody.
	Leave bool
	// Alone says that init's PID namespace has no process but init and the handoff:
	// init exits at once.
	Alone bool
	// Terminated are the processes (proc.Stat.Key) that had a SIGTERM already:
	// they get no second one.
	Terminated []string
}

// Upgrade makes init replace hotinit with another executable. The handoff acts
// upon nothing after it, and init ends it. Init starts the executable as the next
// handoff, and executes it in its own place once that handoff has said Able.
type Upgrade struct {
	Number int    // counts the attempts
	File   string // the same executable is called the same
	FD     int    // the executable
}

// Able says that this executable can go on from all that it was given: of a
// handoff in a Trial, and of the process in which init tries State.
type Able struct{}

// Refused says why it cannot, in place of Able.
type Refused struct{ Why string }

// Upgraded ends a Trial: init has the handoff's executable, and so has the next
// handoff.
type Upgraded struct{}

func (*Start) kind() byte    { return 1 }
func (*Signal) kind() byte   { return 2 }
func (*Hello) kind() byte    { return 3 }
func (*Keep) kind() byte     { return 4 }
func (*Output) kind() byte   { return 5 }
func (*Terminal) kind() byte { return 6 }
func (*Drop) kind() byte     { return 7 }
func (*Record) kind() byte   { return 8 }
func (*Forget) kind() byte   { return 9 }
func (*Acted) kind() byte    { return 10 }
func (*Exit) kind() byte     { return 11 }
func (*Upgrade) kind() byte  { return 12 }
func (*Able) kind() byte     { return 13 }
func (*Refused) kind() byte  { return 14 }
func (*Upgraded) kind() byte { return 15 }
func (*Ask) kind() byte      { return 20 }

func empty(kind byte) Message {
	switch kind {
	case 1:
		return new(Start)
	case 2:
		return new(Signal)
	case 3:
		return new(Hello)
	case 4:
		return new(Keep)
	case 5:
		return new(Output)
	case 6:
		return new(Terminal)
	case 7:
		return new(Drop)
	case 8:
		return new(Record)
	case 9:
		return new(Forget)
	case 10:
		return new(Acted)
	case 11:
		return new(Exit)
	case 12:
		return new(Upgrade)
	case 13:
		return new(Able)
	case 14:
		return new(Refused)
	case 15:
		return new(Upgraded)
	case 20:
		return new(Ask)
	}
	return nil
}

func (m *Start) fields(c *coder) {
	c.int(&m.Version)
	c.string(&m.Dir)
	list(c, &m.Kept, func(k *Kept) {
		c.string(&k.Name)
		c.int(&k.FD)
	})
	c.int(&m.Records)
	c.bool(&m.More)
	c.bool(&m.Trial)
	m.Upgrade.fields(c)
}

func (a *Attempt) fields(c *coder) {
	c.int(&a.Number)
	c.string(&a.File)
	c.string(&a.Why)
}

func (m *Signal) fields(c *coder) {
	c.uint(&m.Seq)
	c.int(&m.Signal)
	c.bool(&m.Hangup)
	c.uint(&m.Reaped)
}

func (m *Hello) fields(c *coder) {
	c.bool(&m.Warn)
	c.bool(&m.Suspend)
	c.int(&m.ParentDeath)
	c.bool(&m.Stops)
	c.duration(&m.StopTimeout)
	c.bool(&m.JSON)
}

func (m *Keep) fields(c *coder) {
	c.string(&m.Name)
	c.attached(&m.FD)
}

func (m *Output) fields(c *coder) { c.attached(&m.FD) }

func (m *Terminal) fields(c *coder) {
	c.int(&m.Number)
	c.attached(&m.FD)
}

func (m *Drop) fields(c *coder) { c.string(&m.Name) }

func (m *Record) fields(c *coder) {
	c.string(&m.Program)
	c.uint(&m.Seq)
	c.bytes(&m.State)
	c.bool(&m.More)
}

func (m *Forget) fields(c *coder) {
	c.string(&m.Program)
	c.string(&m.Kept)
}

func (m *Acted) fields(c *coder) { c.uint(&m.Seq) }

func (m *Ask) fields(*coder) {}

func (m *Exit) fields(c *coder) {
	c.int(&m.Status)
	c.duration(&m.Grace)
	c.bool(&m.Leave)
	c.bool(&m.Alone)
	list(c, &m.Terminated, c.string)
}

func (m *Upgrade) fields(c *coder) {
	c.int(&m.Number)
	c.string(&m.File)
	c.attached(&m.FD)
}

func (m *Able) fields(*coder) {}

func (m *Refused) fields(c *coder) { c.string(&m.Why) }

func (m *Upgraded) fields(*coder) {}
