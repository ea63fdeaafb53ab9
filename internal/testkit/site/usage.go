package site

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Usage is what a process of hotinit holds of the machine.
type Usage struct {
	Descriptors, Threads, Watches int
	Dirty                         int // KB of memory that is its own and was written to
}

// Usage measures init, or with handoff the handoff.
func (s *Site) Usage(handoff bool) (u Usage) {
	s.T.Helper()
	pid := s.PID()
	if handoff {
		pid = s.Handoff().PID
	}
	dir := fmt.Sprintf("/proc/%d/", pid)
	read := func(name string) string {
		b, err := os.ReadFile(dir + name)
		if err != nil {
			s.T.Fatal(err)
		}
		return string(b)
	}
	list := func(name string) []string {
		found, err := filepath.Glob(dir + name)
		if err != nil || len(found) == 0 {
			s.T.Fatalf("%s%s: %v", dir, name, err)
		}
		return found
	}
	u.Descriptors, u.Threads = len(list("fd/*")), len(list("task/*"))
	for _, path := range list("fdinfo/*") {
		text, _ := os.ReadFile(path) // it may have been closed just now
		u.Watches += strings.Count(string(text), "inotify wd:")
	}
	if m := regexp.MustCompile(`Private_Dirty: +(\d+) kB`).FindStringSubmatch(read("smaps_rollup")); m != nil {
		u.Dirty, _ = strconv.Atoi(m[1])
	}
	return u
}
