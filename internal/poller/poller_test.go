package poller

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe returns both ends of a pipe. The writing end is the test's to close.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]) })
	return fds[0], fds[1]
}

// piped is pipe that closes the writing end when the test ends.
func piped(t *testing.T) (r, w int) {
	t.Helper()
	r, w = pipe(t)
	t.Cleanup(func() { unix.Close(w) })
	return r, w
}

func write(t *testing.T, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Error(err)
	}
}

// both runs a test with epoll, and without it.
func both(t *testing.T, f func(t *testing.T, s *Set)) {
	t.Run("epoll", func(t *testing.T) { f(t, &Set{}) })
	t.Run("without", func(t *testing.T) { f(t, &Set{fd: -1, sources: map[uint64]*Source{}}) })
}

func TestAHandlerIsCalledForEachInputAndForTheEnd(t *testing.T) {
	both(t, func(t *testing.T, s *Set) {
		r, w := pipe(t)
		called := make(chan int)
		src := s.Add(r, func(*Source) bool {
			for {
				n, err := unix.Read(r, make([]byte, 1))
				if err != nil {
					return true
				}
				called <- n
				if n == 0 {
					return false
				}
			}
		})
		for range 3 {
			write(t, w)
			if n := <-called; n != 1 {
				t.Error(n)
			}
		}
		unix.Close(w)
		if n := <-called; n != 0 {
			t.Error(n)
		}
		src.Remove()
		src.Remove()
	})
}

func TestAnEndIsReportedThoughSomethingIsLeftToRead(t *testing.T) {
	both(t, func(t *testing.T, s *Set) {
		r, w := pipe(t)
		called := make(chan bool)
		s.Add(r, func(*Source) bool {
			poll := []unix.PollFd{{Fd: int32(r), Events: unix.POLLIN}}
			_, _ = unix.Poll(poll, 0)
			end := poll[0].Revents&unix.POLLHUP != 0
			called <- end
			return !end
		})
		write(t, w) // and nobody takes it
		if <-called {
			t.Error("an end")
		}
		unix.Close(w)
		for !<-called {
		}
	})
}

// TestWhatComesWhileAHandlerRunsCallsItAgain: the kernel reports it once.
func TestWhatComesWhileAHandlerRunsCallsItAgain(t *testing.T) {
	var s Set
	r, w := piped(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	s.Add(r, func(*Source) bool {
		_, _ = unix.Read(r, make([]byte, 1))
		began <- struct{}{}
		<-goOn
		return true
	})
	write(t, w)
	<-began
	write(t, w)
	r2, w2 := piped(t) // the report of the second write has come, too, once this one's has
	other := make(chan struct{})
	s.Add(r2, func(*Source) bool { close(other); return false })
	write(t, w2)
	<-other
	goOn <- struct{}{}
	<-began
	goOn <- struct{}{}
}

func TestAHandlerThatWaitsHoldsUpNobody(t *testing.T) {
	both(t, func(t *testing.T, s *Set) {
		r1, w1 := piped(t)
		r2, w2 := piped(t)
		began, goOn, other := make(chan struct{}), make(chan struct{}), make(chan struct{})
		s.Add(r1, func(*Source) bool { close(began); <-goOn; return false })
		s.Add(r2, func(*Source) bool { close(other); return false })
		write(t, w1)
		<-began
		write(t, w2)
		<-other
		close(goOn)
	})
}

func TestARemovedDescriptorIsForgottenThoughItsFileIsOpen(t *testing.T) {
	var s Set
	r, w := piped(t)
	other, err := unix.FcntlInt(uintptr(r), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	s.Add(r, func(*Source) bool { t.Error("it was removed"); return false }).Remove()
	write(t, w)
	r2, w2 := piped(t)
	called := make(chan struct{})
	s.Add(r2, func(*Source) bool { close(called); return false })
	write(t, w2)
	<-called
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.sources); n > 1 {
		t.Errorf("%d descriptors are known", n)
	}
}

func TestAHandlerMayRemoveAndCloseItsDescriptor(t *testing.T) {
	both(t, func(t *testing.T, s *Set) {
		r, w := piped(t)
		fd, err := unix.FcntlInt(uintptr(r), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		called := make(chan struct{})
		s.Add(fd, func(src *Source) bool {
			src.Remove()
			unix.Close(fd)
			close(called)
			return true
		})
		write(t, w)
		<-called
	})
}

// TestManyDescriptorsNeedOneGoroutine: and no thread.
func TestManyDescriptorsNeedOneGoroutine(t *testing.T) {
	const many = 300
	var s Set
	goroutines, threads := runtime.NumGoroutine(), threadsNow(t)
	done := make(chan struct{})
	var ends []int
	for range many {
		r, w := piped(t)
		ends = append(ends, w)
		s.Add(r, func(*Source) bool { _, _ = unix.Read(r, make([]byte, 1)); done <- struct{}{}; return false })
	}
	if n := runtime.NumGoroutine() - goroutines; n > 1 {
		t.Errorf("%d goroutines wait for %d descriptors", n, many)
	}
	if n := threadsNow(t) - threads; n > 3 {
		t.Errorf("%d threads wait for %d descriptors", n, many)
	}
	for _, w := range ends {
		write(t, w)
	}
	for range many {
		<-done
	}
}

func threadsNow(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil && !strings.Contains(err.Error(), "no such file") {
		t.Fatal(err)
	}
	return len(tasks)
}
