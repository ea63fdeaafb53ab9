package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/load"
)

// screen shows what happens. On a terminal its last line is the state of the
// load, which is drawn anew all the time; elsewhere that is a line a second.
type screen struct {
	mu       sync.Mutex
	out      *os.File
	terminal bool
	began    time.Time
	drawn    bool // the last line is the state

	watching sync.WaitGroup
	stop     chan struct{}
}

func newScreen(out *os.File) *screen {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	return &screen{out: out, terminal: err == nil, began: time.Now()}
}

func (s *screen) style(code, text string) string {
	if !s.terminal {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// print writes a line above the state. The mutex is held.
func (s *screen) print(line string) {
	if s.drawn {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.drawn = false
	}
	fmt.Fprintln(s.out, line)
}

// step announces what is done next.
func (s *screen) step(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(fmt.Sprintf("%5.1f s  %s", time.Since(s.began).Seconds(), s.style("1", fmt.Sprintf(format, args...))))
}

// say tells what came of it.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print("         " + fmt.Sprintf(format, args...))
}

// watch shows the state of a load until unwatch.
func (s *screen) watch(l *load.Load) {
	stop := make(chan struct{})
	s.stop = stop
	every := time.Second
	if s.terminal {
		every = 100 * time.Millisecond
	}
	s.watching.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				s.state(l.Report())
			}
		}
	})
}

// unwatch may be called more than once.
func (s *screen) unwatch() {
	if s.stop != nil {
		close(s.stop)
		s.stop = nil
		s.watching.Wait()
	}
}

func (s *screen) state(r load.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.style("32", "0 lost")
	if n := r.Losses(); n > 0 {
		lost = s.style("31", fmt.Sprintf("%d lost", n))
	}
	line := fmt.Sprintf("         %s · %d requests · %s · slowest %v",
		s.style("36", strings.TrimSpace(r.Last)), r.Done, lost, r.Slowest.Round(time.Millisecond))
	if !s.terminal {
		fmt.Fprintln(s.out, line)
		return
	}
	fmt.Fprint(s.out, "\r\x1b[K"+line)
	s.drawn = true
}

// summary is the end.
func (s *screen) summary(r load.Report, init string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	verdict := s.style("1;32", "No request was lost.")
	if r.Losses() > 0 {
		verdict = s.style("1;31", fmt.Sprintf("%d requests were lost: %v", r.Losses(), r.Lost))
	}
	s.print("")
	s.print(fmt.Sprintf("%s %d were answered, by v1 %d and by v2 %d; the slowest took %v.",
		verdict, r.Done, r.By["v1"], r.By["v2"], r.Slowest.Round(time.Millisecond)))
	s.print(fmt.Sprintf("4 generations, 3 swaps, 1 kill of the handoff, in %.1f s; hotinit was %s.", time.Since(s.began).Seconds(), init))
}
