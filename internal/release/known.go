package release

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A file that nobody has touched since it was read is not read again: a reload
// starts the same file, and to read it takes the processor from those who serve.
//
// The kernel sets a file's ctime at each change, and nobody can set it back. It is
// as coarse as the kernel's tick, so what was read so soon after a change that
// another one may have got the same ctime is not remembered.

// state tells a file with its content from all others on this machine.
type state struct {
	dev, ino           uint64
	size, mtime, ctime int64
}

// settled is how long a file must have been as it was when it is read. (FAT knows
// the even seconds only.)
const settled = 3 * time.Second

// mostKnown is how many files are remembered.
const mostKnown = 8

var (
	now = time.Now // tests have their own

	knownMu sync.Mutex
	known   []knownFile // the latest last
)

type knownFile struct {
	state
	digest Digest
}

// state is what the file is now. On other file systems than local ones, whose clock
// the ctime is of, nobody knows.
func (f *File) state() (state, bool) {
	var st unix.Stat_t
	if !f.local || unix.Fstat(f.fd, &st) != nil {
		return state{}, false
	}
	return state{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, true
}

// recall returns the digest of a file that was read before.
func recall(s state) (Digest, bool) {
	knownMu.Lock()
	defer knownMu.Unlock()
	i := slices.IndexFunc(known, func(k knownFile) bool { return k.state == s })
	if i < 0 {
		return Digest{}, false
	}
	return known[i].digest, true
}

// remember notes the digest of a file that was s when it began to be read, at this
// time, and still is.
func remember(s state, began time.Time, d Digest) {
	if began.UnixNano()-s.ctime < settled.Nanoseconds() {
		return
	}
	knownMu.Lock()
	defer knownMu.Unlock()
	if len(known) >= mostKnown {
		known = slices.Delete(known, 0, len(known)-mostKnown+1)
	}
	known = append(known, knownFile{s, d})
}
