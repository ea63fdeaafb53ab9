package watch

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/release"
)

// mountWatch tells all watchers when a file system is mounted or unmounted anywhere, for
// what is mounted over a watched directory is reported by nothing else. proc(5):
// /proc/self/mountinfo polls as exceptional then, which costs nothing before.
type mountWatch struct {
	mu   sync.Mutex
	file *os.File // nil while nobody wants to know
	outs map[chan<- struct{}]bool
}

var mounts mountWatch

// watch has out told from now on, until end is called.
func (m *mountWatch) watch(out chan<- struct{}) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		fd, err := release.OpenRetry("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK)
		if err != nil {
			return func() {} // no /proc: a mount over the path is found with the next change
		}
		m.file, m.outs = os.NewFile(uintptr(fd), "mountinfo"), make(map[chan<- struct{}]bool)
		go m.serve(m.file)
	}
	m.outs[out] = true
	return func() { m.end(out) }
}

func (m *mountWatch) end(out chan<- struct{}) {
	m.mu.Lock()
	delete(m.outs, out)
	var last *os.File
	if len(m.outs) == 0 {
		last, m.file = m.file, nil
	}
	m.mu.Unlock()
	if last != nil {
		last.Close() // it waits for serve, which may be about to take the lock
	}
}

// serve runs until the file is closed.
func (m *mountWatch) serve(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	// It is always readable, so the runtime's edge-triggered poller wakes us
	// for each change, whatever the kind; the first time is for the opening.
	_ = conn.Read(func(uintptr) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for out := range m.outs {
			select {
			case out <- struct{}{}:
			default: // one is waiting already
			}
		}
		return false
	})
}
