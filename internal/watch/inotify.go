package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A note says that the kernel reported something about a target. What changed
// is found by looking.
type note struct {
	target   int
	finished bool   // a close after writing, or a rename into place
	name     string // what it was about, where a target has many names
}

// An interest is what one target wants reported of one inode.
type interest struct {
	target int
	name   string // as in need
	role   role
}

// A watch is one inode that the kernel watches.
type watch struct {
	at        inode
	wd        int32
	mask      uint32
	interests []interest
}

// The queue is the process's one inotify instance and the table of interests.
// Its goroutine translates kernel reports into notes. Most reports concern no
// target and are dropped without an allocation.
type queue struct {
	wants func(target int, dir, name string, isDir bool) bool // of a tree
	calls calls
	out   chan<- []note
	done  <-chan struct{}

	mu      sync.Mutex
	file    *os.File // nil: no inotify (yet)
	fd      int
	byInode map[inode]*watch
	byWD    map[int32]*watch
	adding  int // watches being added: reports of unknown descriptors may be theirs
	targets int
}

// calls are the system calls that tests make fail.
type calls struct {
	init func() (int, error)
	add  func(fd int, path string, mask uint32) (int, error)
}

var realCalls = calls{
	init: func() (int, error) { return unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK) },
	add:  unix.InotifyAddWatch,
}

const (
	maskStep  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	maskFinal = maskStep | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB
	// The file itself, beside its directory: a write through another hard link, or
	// to the source of a bind mount of a single file, is reported for the inode
	// only. Not instead of its directory: a copy-up in overlayfs makes it another.
	maskFile = unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_MOVE_SELF
	maskTree = maskStep | unix.IN_CLOSE_WRITE
	// No IN_MODIFY: it would report each write, and the close after the last
	// one is what says that the file is finished.
)

func (r role) mask() uint32 {
	switch r {
	case roleFinal, roleChecksum:
		return maskFinal
	case roleFile:
		return maskFile
	case roleTree:
		return maskTree
	}
	return maskStep
}

func newQueue(targets int, c calls, out chan<- []note, done <-chan struct{}) *queue {
	return &queue{
		calls: c, out: out, done: done, targets: targets, fd: -1,
		byInode: map[inode]*watch{}, byWD: map[int32]*watch{},
	}
}

// start makes the inotify instance unless there is one.
func (q *queue) start() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.file != nil {
		return nil
	}
	fd, err := q.calls.init()
	if err != nil {
		return err
	}
	// Non-blocking, hence in the runtime's poller: a Read parks the goroutine
	// and no thread. Never call Fd() on it, that would make it blocking.
	q.fd, q.file = fd, os.NewFile(uintptr(fd), "inotify")
	go q.read(q.file)
	return nil
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.file != nil {
		q.file.Close()
	}
}

// What the kernel means when a limit of inotify is reached.
var (
	errWatches   = errors.New("inotify limit: fs.inotify.max_user_watches is used up")
	errInstances = errors.New("inotify limit: fs.inotify.max_user_instances or the limit of open files is used up")
)

func limitError(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return errWatches
	case errors.Is(err, unix.EMFILE):
		return errInstances
	}
	return err
}

// limitOf is the limit that err is about, nil where it is about something else.
func limitOf(err error) error {
	for _, limit := range []error{errWatches, errInstances} {
		if errors.Is(err, limit) {
			return limit
		}
	}
	return nil
}

// apply replaces the needs of target: it adds missing watches and removes
// those without an interest. added reports whether a watch is new: a change may
// have happened before it was set, so the caller looks again.
func (q *queue) apply(target int, needs []need) (added bool, err error) {
	if err := q.start(); err != nil {
		return false, limitError(err)
	}
	// What target wants to hear, an inode at a time.
	type wanted struct {
		need
		mask      uint32
		interests []interest
	}
	wants := make(map[inode]*wanted, len(needs))
	order := make([]*wanted, 0, len(needs))
	for _, n := range needs {
		w := wants[n.inode]
		if w == nil {
			w = &wanted{need: n}
			wants[n.inode] = w
			order = append(order, w)
		}
		w.mask |= n.role.mask()
		w.interests = append(w.interests, interest{target: target, name: n.name, role: n.role})
	}

	var missing []*wanted
	q.mu.Lock()
	fd := q.fd
	for _, w := range order {
		if p := q.byInode[w.inode]; p == nil || p.mask&w.mask != w.mask {
			missing = append(missing, w)
		}
	}
	q.adding++
	q.mu.Unlock()

	// Outside the lock, for the path may be on a file system that hangs.
	for _, w := range missing {
		mask := w.mask | unix.IN_MASK_ADD
		if w.role != roleFile {
			mask |= unix.IN_ONLYDIR
		}
		wd, aerr := q.calls.add(fd, w.path, mask)
		if aerr == unix.ENOENT || aerr == unix.ENOTDIR {
			added = true // it is going: look again
			continue
		}
		if aerr != nil {
			if err == nil {
				err = fmt.Errorf("%s: %w", w.path, limitError(aerr))
			}
			continue
		}
		added = true
		q.mu.Lock()
		q.insert(int32(wd), w.inode, w.mask)
		q.mu.Unlock()
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	q.adding--
	for at, p := range q.byInode {
		p.interests = slices.DeleteFunc(p.interests, func(in interest) bool { return in.target == target })
		if w := wants[at]; w != nil {
			p.interests = append(p.interests, w.interests...)
		}
		if len(p.interests) == 0 {
			delete(q.byInode, at)
			delete(q.byWD, p.wd)
			unix.InotifyRmWatch(fd, uint32(p.wd))
		}
	}
	return added, err
}

// insert notes that wd watches an inode. The kernel gives the same descriptor
// again for an inode that it watches already, whatever the path.
func (q *queue) insert(wd int32, at inode, mask uint32) {
	p := q.byWD[wd]
	if p == nil {
		p = &watch{at: at, wd: wd}
		q.byWD[wd] = p
	}
	if p.at != at {
		// An inode may change its number: overlayfs, when it copies up.
		delete(q.byInode, p.at)
		p.at = at
	}
	if old := q.byInode[at]; old != nil && old != p {
		// The number of a removed inode was given to a new one, and the
		// report of the removal is still on its way.
		delete(q.byWD, old.wd)
		p.interests = append(p.interests, old.interests...)
	}
	q.byInode[at] = p
	p.mask |= mask
}

// read runs until the file is closed.
func (q *queue) read(f *os.File) {
	buf := make([]byte, 16<<10)
	bits := make([]note, q.targets)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if notes := q.translate(buf[:n], bits); notes != nil {
				select {
				case q.out <- notes:
				case <-q.done:
					return
				}
			}
		}
		if err != nil {
			return // closed: inotify(7) has no other error that lasts
		}
	}
}

const overflow = -1 // as a note's target: reports were lost, look at everything

// translate turns a batch of reports into at most one note a target, and nil
// where nobody is concerned. scratch has a place for each target.
func (q *queue) translate(batch []byte, scratch []note) []note {
	for i := range scratch {
		scratch[i] = note{target: overflow}
	}
	concerned := 0
	mark := func(target int, finished bool, name string) {
		n := &scratch[target]
		if n.target == overflow {
			n.target = target
			n.name = name
			concerned++
		}
		n.finished = n.finished || finished
	}
	lost := false
	q.mu.Lock()
	for len(batch) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(batch))
		mask := binary.NativeEndian.Uint32(batch[4:])
		size := int(binary.NativeEndian.Uint32(batch[12:]))
		name := batch[unix.SizeofInotifyEvent:]
		if size > len(name) {
			break
		}
		batch = name[size:]
		name = name[:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if mask&unix.IN_Q_OVERFLOW != 0 {
			lost = true
			continue
		}
		p := q.byWD[wd]
		if p == nil {
			// Either of a watch that was dropped, or of one that apply adds
			// at this moment.
			if q.adding > 0 && mask&unix.IN_IGNORED == 0 {
				for t := range scratch {
					mark(t, false, "")
				}
			}
			continue
		}
		q.match(p, mask, name, mark)
		if mask&unix.IN_IGNORED != 0 {
			// Removed or unmounted: the descriptor is gone (inotify(7)).
			delete(q.byWD, wd)
			if q.byInode[p.at] == p {
				delete(q.byInode, p.at)
			}
		}
	}
	q.mu.Unlock()
	if lost {
		return []note{{target: overflow}}
	}
	if concerned == 0 {
		return nil
	}
	notes := make([]note, 0, concerned)
	for _, n := range scratch {
		if n.target != overflow {
			notes = append(notes, n)
		}
	}
	return notes
}

// match finds who is concerned by one report.
func (q *queue) match(p *watch, mask uint32, name []byte, mark func(target int, finished bool, name string)) {
	for i := range p.interests {
		in := &p.interests[i]
		switch {
		case mask&(unix.IN_IGNORED|unix.IN_UNMOUNT|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
			mark(in.target, false, "")
		case in.role == roleFile:
			if len(name) == 0 {
				mark(in.target, mask&unix.IN_CLOSE_WRITE != 0, "")
			}
		case in.role == roleTree:
			if s := string(name); len(name) > 0 && q.wants(in.target, in.name, s, mask&unix.IN_ISDIR != 0) {
				mark(in.target, false, s)
			}
		case string(name) == in.name: // compiles to a comparison without a copy
			finished := mask&unix.IN_MOVED_TO != 0 || mask&unix.IN_CLOSE_WRITE != 0 && in.role == roleFinal
			mark(in.target, finished && in.role != roleChecksum, "")
		}
	}
}
