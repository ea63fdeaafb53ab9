package deploy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
)

// errStopped is that a signal ended this process. What it has made by then that is not
// in place is removed first.
var errStopped = errors.New("stopped by a signal")

// stop is closed when one of these signals comes. A signal that is ignored stays so: that
// is what nohup(1) asks for.
type stop struct {
	c      chan struct{}
	signal syscall.Signal
}

// watchSignals has the signals that end a command close stop.c. Where nobody reads what
// is written any more (SIGPIPE), that is no reason to end halfway.
func (s *stop) watchSignals() {
	signal.Ignore(unix.SIGPIPE)
	s.c = make(chan struct{})
	come := make(chan os.Signal, 1)
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if entry.Inherited().Ignored&(1<<(sig-1)) != 0 {
			continue
		}
		// Go's runtime takes its own handlers for installed, which entry.Restore has
		// replaced. It installs one for a signal that was ignored.
		signal.Ignore(sig)
		signal.Notify(come, sig)
	}
	go func() {
		s.signal = (<-come).(syscall.Signal)
		close(s.c)
	}()
}

// end ends this process by the signal that came, so that a shell sees it, or returns
// what a shell would make of it.
func (s *stop) end() int {
	signal.Reset(s.signal)
	_ = unix.Kill(unix.Getpid(), s.signal)
	return exitcode.Signaled(s.signal)
}

// wait does what may take long, and leaves it alone when a signal comes.
func (s *stop) wait(do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-s.c:
		return errStopped
	}
}

// come is errStopped once a signal has come.
func (s *stop) come() error {
	select {
	case <-s.c:
		return errStopped
	default:
		return nil
	}
}

// input is in until a signal comes: its reader has errStopped then, also where nothing
// comes from in. What is read is bounded.
func (s *stop) input(in io.Reader) io.Reader {
	read, write := io.Pipe()
	go func() {
		_, err := io.Copy(write, in)
		write.CloseWithError(err)
	}()
	go func() {
		<-s.c
		write.CloseWithError(errStopped)
	}()
	return read
}

// tooMuch is that what is deployed is greater than deploy takes.
func tooMuch(most int64) error {
	return fmt.Errorf("it has more than %d GB, the most that is deployed", most>>30)
}
