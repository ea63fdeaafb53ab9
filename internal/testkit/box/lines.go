package box

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Patience is how long the tests wait for an event that must come. It decides
// how late a failure is noticed, never whether a test passes: a machine with
// two busy cores and the race detector needs far less.
const Patience = 90 * time.Second

// Lines collects what a process prints, and tells when a line comes.
type Lines struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	next    int // where Next goes on
	changed chan struct{}
	closed  bool
}

// NewLines returns an empty one.
func NewLines() *Lines { return &Lines{changed: make(chan struct{})} }

// Write takes in more output.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 {
			break
		}
		l.lines = append(l.lines, strings.TrimSuffix(string(l.partial[:i]), "\r"))
		l.partial = l.partial[i+1:]
	}
	l.wake()
	return len(p), nil
}

func (l *Lines) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// End says that no more comes.
func (l *Lines) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		l.lines = append(l.lines, string(l.partial))
		l.partial = nil
	}
	l.closed = true
	l.wake()
}

// All returns the lines so far.
func (l *Lines) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// Text returns all of it so far.
func (l *Lines) Text() string {
	return strings.Join(l.All(), "\n")
}

// String is what the message of a failure shows: the first lines and the last ones. A
// failure that prints 80,000 lines is one that nobody reads.
func (l *Lines) String() string {
	const first, last = 50, 150
	all := l.All()
	if n := len(all) - first - last; n > 0 {
		all = slices.Concat(all[:first], []string{fmt.Sprintf("… %d lines …", n)}, all[len(all)-last:])
	}
	return strings.Join(all, "\n")
}

// Next waits for a line that matches, behind the one that the call before
// found, and returns it with what its groups matched.
func (l *Lines) Next(pattern *regexp.Regexp) ([]string, error) {
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		for i := l.next; i < len(l.lines); i++ {
			if found := pattern.FindStringSubmatch(l.lines[i]); found != nil {
				l.next = i + 1
				l.mu.Unlock()
				return found, nil
			}
		}
		changed, closed := l.changed, l.closed
		l.mu.Unlock()
		if closed {
			return nil, fmt.Errorf("the output ended without a line that matches %q", pattern)
		}
		select {
		case <-changed:
		case <-deadline.C:
			return nil, fmt.Errorf("no line that matches %q within %v", pattern, Patience)
		}
	}
}

// Find is Next for a pattern that is not compiled yet.
func (l *Lines) Find(pattern string) ([]string, error) {
	p, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return l.Next(p)
}

// Count returns how many lines match.
func (l *Lines) Count(pattern *regexp.Regexp) int {
	n := 0
	for _, line := range l.All() {
		if pattern.MatchString(line) {
			n++
		}
	}
	return n
}
