package handoff

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/sockets"
)

// socketFiles makes the paths of unix sockets lead to them, whatever the app does
// to the files. inotify(7) reports what happens in their directories, so nothing
// is polled, and all that touches a file system runs beside the loop.
type socketFiles struct {
	*common
	files []*socketFile

	work   sync.Mutex // held by who changes a directory
	closed bool       // guarded by work

	mu sync.Mutex // guards the faults
}

type socketFile struct {
	*sockets.File
	fault    string    // why the path does not lead to the socket, "" where it does
	said     string    // the last error that was printed
	back     time.Time // when it was last put back
	released bool      // it is none of hotinit's any more; guarded by work
	tries    int       // how often in a row that was soon after the time before
}

// A path that is removed again and again is put back after delays that grow, so
// that hotinit does not race with the app.
const (
	soonAgain      = 10 * time.Second
	longestPutBack = 30 * time.Second
)

// add takes care of the file of a socket: of a new one, or of one that init keeps.
func (s *socketFiles) add(spec sockets.Spec) {
	if !spec.HasFile() {
		return
	}
	name, path := "file/"+spec.Key(), s.fromStart(spec.Path)
	if fd := s.kept.take(name); fd >= 0 {
		s.files = append(s.files, &socketFile{File: &sockets.File{Path: path, FD: fd}})
		return
	}
	f, err := sockets.KeepFile(path)
	if err != nil {
		s.detail("%v: if the app removes the file, it cannot be put back", err)
	}
	if f != nil {
		s.files = append(s.files, &socketFile{File: f})
		_ = s.kept.keep(name, f.FD)
	}
}

// watch begins to watch the directories of the files, soon after the start, which
// does not wait for it.
func (s *socketFiles) watch() {
	if len(s.files) > 0 {
		time.AfterFunc(watchAfter, s.follow)
	}
}

// follow looks at the files now, and then whenever something happens to one of
// the names.
func (s *socketFiles) follow() {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		s.line("cannot watch the files of unix sockets (inotify: %v): one that is removed is not put back", err)
		return
	}
	in := os.NewFile(uintptr(fd), "inotify")
	defer in.Close()
	buf := make([]byte, 16<<10)
	for {
		names := make(map[string]bool)
		for _, f := range s.files {
			if name := f.Watch(fd); name != "" {
				names[name] = true
			}
		}
		if !s.look() {
			return
		}
		for matters := false; !matters; {
			n, err := in.Read(buf)
			if err != nil {
				return
			}
			matters = reported(buf[:n], names)
		}
	}
}

// reported reports whether inotify events are about one of the names, or about a
// directory itself, or say that others were lost.
func reported(b []byte, names map[string]bool) bool {
	matters := false
	for len(b) >= unix.SizeofInotifyEvent {
		mask, size := binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:][:size]), "\x00")
		b = b[unix.SizeofInotifyEvent+size:]
		matters = matters || names[name] || name == "" && mask&unix.IN_IGNORED == 0
	}
	return matters
}

// look puts back what is lost. It reports whether there is more to do.
func (s *socketFiles) look() bool {
	for _, f := range s.files {
		if s.isReleased(f) {
			continue
		}
		lost := f.Lost()
		s.setFault(f, lost)
		if lost == "" {
			continue
		}
		f.tries++
		if time.Since(f.back) > soonAgain {
			f.tries = 0
		} else {
			time.Sleep(min(10*time.Millisecond<<min(f.tries, 20), longestPutBack))
		}
		if !s.putBack(f) {
			return false
		}
	}
	return true
}

func (s *socketFiles) isReleased(f *socketFile) bool {
	s.work.Lock()
	defer s.work.Unlock()
	return f.released
}

// putBack puts a file back, if it is lost still. It reports whether hotinit goes on.
func (s *socketFiles) putBack(f *socketFile) bool {
	s.work.Lock()
	defer s.work.Unlock()
	if s.closed {
		return false
	}
	if f.released {
		return true
	}
	lost := f.Lost()
	if lost == "" {
		s.setFault(f, "")
		return true
	}
	if err := f.PutBack(); err != nil {
		fault := lost + " and cannot be put back: " + err.Error()
		s.setFault(f, fault)
		if f.said != fault {
			f.said = fault
			s.line("the socket file %s %s; clients that connect by its path do not reach the app", f.Path, fault)
		}
		return true
	}
	f.back, f.said = time.Now(), ""
	s.setFault(f, "")
	s.note("the socket file %s %s; it was put back (the app should leave it alone: hotinit removes it)", f.Path, lost)
	return true
}

// release lets go of the file of one socket, before it is removed for good.
func (s *socketFiles) release(spec sockets.Spec) {
	s.work.Lock()
	defer s.work.Unlock()
	path := s.fromStart(spec.Path)
	left := false
	for _, f := range s.files {
		if f.Path == path && !f.released {
			f.released = true
			f.Forget()
			s.setFault(f, "")
		}
		left = left || !f.released
	}
	s.closed = s.closed || !left
}

// watchFiles begins to watch the files of sockets that were bound since.
func (s *program) watchFiles() {
	if len(s.newFiles.files) == 0 {
		return
	}
	s.filesMu.Lock()
	s.files = append(slices.DeleteFunc(s.files, (*socketFiles).over), s.newFiles)
	s.filesMu.Unlock()
	s.newFiles.watch()
	s.newFiles = &socketFiles{common: s.common}
}

// over reports whether there is nothing left to take care of.
func (s *socketFiles) over() bool {
	s.work.Lock()
	defer s.work.Unlock()
	return s.closed
}

// fileFault says which path of the program does not lead to its socket, "" where all
// do. It may be called from any goroutine.
func (s *program) fileFault() string {
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	for _, files := range s.files {
		if fault := files.fault(); fault != "" {
			return fault
		}
	}
	return ""
}

func (s *socketFiles) setFault(f *socketFile, fault string) {
	s.mu.Lock()
	f.fault = fault
	s.mu.Unlock()
}

// fault says which path does not lead to its socket, "" where all do.
func (s *socketFiles) fault() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if f.fault != "" {
			return "the socket file " + f.Path + " " + f.fault
		}
	}
	return ""
}

// close ends it, before the files are removed for good.
func (s *socketFiles) close() {
	s.work.Lock()
	defer s.work.Unlock()
	s.closed = true
	for _, f := range s.files {
		f.Forget()
	}
}
