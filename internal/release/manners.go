package release

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mostGiven is how long a digest waits for others in all. On a machine whose
// processors are always busy each turn of the others takes tens of milliseconds, and
// there is one for each block: the digest of a large release would take minutes.
const mostGiven = 250 * time.Millisecond

// manners are those of a computation that takes long beside an app that serves: it
// gives the processor away after each step.
type manners struct {
	given time.Duration // how long others had it
	now   func() time.Time
	yield func()
}

func polite() manners { return manners{now: time.Now, yield: schedYield} }

// step gives the processor away. hotinit has one processor of Go's scheduler (package
// entry), and neither a read from the page cache nor a hash gives it up by itself.
func (m *manners) step() {
	runtime.Gosched()
	if m.given >= mostGiven {
		return
	}
	before := m.now()
	m.yield()
	m.given += m.now().Sub(before)
}

// schedYield lets others run that wait for the machine's processor, sched_yield(2).
func schedYield() { _, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
