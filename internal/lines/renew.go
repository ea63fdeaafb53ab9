package lines

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/say"
)

// A hotinit that takes over has the process execute the new executable in its own place,
// execve(2): the PID, the socket, the pipes and the targets stay, and what was read of
// lines that have not ended goes along in a file without a name. Where it cannot be
// executed, the process goes on as it is.

// form is the version of what goes along. An executable of another one is not executed.
const form = "1"

// handed is the variable with the descriptor of what goes along.
const handed = "HOTINIT_LINES_STATE"

const (
	// standWithin is how long sources wait, in their pipes, for one that is just
	// writing. Where its target takes nothing, they go on, and it is tried again.
	standWithin = 200 * time.Millisecond
	// The pause between two tries, at first and at most.
	firstPause = time.Second
	mostPause  = time.Minute
)

// Renew has the process go on as an executable, unless that is what it runs. Every
// handoff asks for it, so that none has to know what became of another one's request.
func Renew(socket *os.File, executable int) error { return send(socket, form, executable) }

// stream is a source, as it goes along.
type stream struct {
	Name     string
	From, To int    // descriptors
	Rest     []byte // of a line that has not ended
	Broken   bool   // pieces of that line were written
	Torn     bool   // the target's last line could not be written to its end
}

// renewal is the replacement of the process by another executable.
type renewal struct {
	execute func(file, state int) error // which does not return where it succeeds
	file    int                         // the executable, -1 for none
	pause   time.Duration
	moves   chan struct{} // a source has come to stand, or has ended
	// With the relay's lock: sources stand until on is closed, and so many do.
	on       chan struct{}
	standing int
}

// asked takes in what Renew has sent. It returns when renew is to be called again.
func (r *relay) asked(wanted string, file int) time.Time {
	if r.file >= 0 {
		unix.Close(r.file)
	}
	r.file, r.pause = file, firstPause
	wants, err := identify(file)
	var own unix.Stat_t
	if err == nil {
		err = unix.Stat("/proc/self/exe", &own)
	}
	if err != nil || wanted != form || wants == (identity{uint64(own.Dev), own.Ino}) {
		unix.Close(file)
		r.file = -1
		return time.Time{}
	}
	return r.renew()
}

// renew executes the other executable, if all sources come to stand. It returns when it
// is to be called again.
func (r *relay) renew() time.Time {
	if r.file < 0 {
		return time.Time{}
	}
	defer r.release()
	if !r.halt() {
		again := time.Now().Add(r.pause)
		r.pause = min(2*r.pause, mostPause)
		return again
	}
	state, err := r.store()
	if err == nil {
		err = r.execute(r.file, state)
		unix.Close(state)
	}
	say.Line("what puts programs' names before their lines (--log-prefix) goes on as the executable that it is: %v", err)
	unix.Close(r.file)
	r.file = -1
	return time.Time{}
}

// halt has all sources stand: each has written what it has read, but for a line that has
// not ended. It reports whether they do.
func (r *relay) halt() bool {
	r.mu.Lock()
	r.on = make(chan struct{})
	for _, s := range r.sources {
		_ = s.file.SetReadDeadline(time.Unix(1, 0))
	}
	r.mu.Unlock()
	late := time.NewTimer(standWithin)
	defer late.Stop()
	for {
		r.mu.Lock()
		all := r.standing == len(r.sources)
		r.mu.Unlock()
		if all {
			return true
		}
		select {
		case <-r.moves:
		case <-late.C:
			return false
		}
	}
}

// release has the sources go on.
func (r *relay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sources {
		_ = s.file.SetReadDeadline(time.Time{})
	}
	close(r.on)
	r.on, r.standing = nil, 0
}

// stand returns once the sources go on.
func (r *relay) stand() {
	r.mu.Lock()
	on := r.on
	if on != nil {
		r.standing++
	}
	r.mu.Unlock()
	if on != nil {
		r.move()
		<-on
	}
}

func (r *relay) move() {
	select {
	case r.moves <- struct{}{}:
	default:
	}
}

// store writes what goes along to a file without a name, and has its descriptors go
// along, too. All sources stand.
func (r *relay) store() (fd int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	streams, passed := []stream{}, []int{}
	for _, s := range r.sources {
		streams = append(streams, stream{s.name, s.fd, s.target.fd, s.rest, s.broken, s.target.torn})
		passed = append(passed, s.fd, s.target.fd)
	}
	b, err := json.Marshal(streams)
	if err != nil {
		return -1, err
	}
	if fd, err = unix.MemfdCreate(Name, unix.MFD_CLOEXEC); err != nil {
		return -1, fmt.Errorf("cannot make a file for what was read: %w", err)
	}
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			unix.Close(fd)
			return -1, fmt.Errorf("cannot write down what was read: %w", err)
		}
		b = b[max(n, 0):]
	}
	for _, fd := range append(passed, fd) {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0) // it executes nothing else
	}
	return fd, nil
}

// execute executes an executable in the process's place.
func execute(file, state int) error {
	_, _ = unix.FcntlInt(Socket, unix.F_SETFD, 0)
	defer unix.CloseOnExec(Socket)
	env := append(Environ(say.IsJSON()), handed+"="+strconv.Itoa(state))
	return unix.Exec("/proc/self/fd/"+strconv.Itoa(file), []string{Name}, env)
}

// resume goes on with what came along, from the descriptor in text, "" for nothing.
func (r *relay) resume(text string) error {
	if text == "" {
		return nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s is %q", handed, text)
	}
	f := os.NewFile(uintptr(fd), handed)
	defer f.Close()
	var streams []stream
	if _, err = f.Seek(0, 0); err == nil {
		err = json.NewDecoder(f).Decode(&streams)
	}
	if err != nil {
		return fmt.Errorf("cannot read what the executable before has left: %w", err)
	}
	for _, st := range streams {
		unix.CloseOnExec(st.From)
		unix.CloseOnExec(st.To)
		r.follow(st)
	}
	return nil
}
