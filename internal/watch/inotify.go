package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
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

// The queue is one watcher's table of interests. It translates kernel reports into
// notes. Most reports concern no target and are dropped without an allocation.
type queue struct {
	wants func(target int, dir, name string, isDir bool) bool // of a tree
	hub   *hub
	out   chan<- []note
	done  <-chan struct{}

	mu      sync.Mutex
	closed  bool
	byInode map[inode]*watch
	byWD    map[int32]*watch
	adding  int // watches being added: reports of unknown descriptors may be theirs
	scratch []note
	waiting []note // not taken by the loop yet, one of each target at most
	sending bool

	concerned bool // guarded by hub.mu
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

func newQueue(targets int, h *hub, out chan<- []note, done <-chan struct{}) *queue {
	return &queue{
		hub: h, out: out, done: done, scratch: make([]note, targets),
		byInode: map[inode]*watch{}, byWD: map[int32]*watch{},
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.hub.leave(q, slices.Collect(maps.Keys(q.byWD)))
}

// join begins to hear, and reports whether q is open.
func (q *queue) join() (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, nil
	}
	return true, q.hub.join(q)
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
	if open, err := q.join(); !open || err != nil {
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
		wd, aerr := q.hub.add(q, w.path, mask)
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
		q.insert(wd, w.inode, w.mask)
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
			q.hub.remove(q, p.wd)
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

// report has the loop told of what concerns it. It does not wait for the loop, for
// other watchers' reports come by the same way.
func (q *queue) report(batch []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	notes := q.translate(batch, q.scratch)
	if notes == nil || q.closed {
		return
	}
	q.waiting = merge(q.waiting, notes)
	if !q.sending {
		q.sending = true
		go q.send()
	}
}

// send hands over what waits.
func (q *queue) send() {
	for {
		q.mu.Lock()
		notes := q.waiting
		q.waiting = nil
		q.sending = len(notes) > 0
		q.mu.Unlock()
		if len(notes) == 0 {
			return
		}
		select {
		case q.out <- notes:
		case <-q.done:
			return
		}
	}
}

// merge adds notes to those that wait: at most one of a target.
func merge(waiting, notes []note) []note {
	for _, n := range notes {
		i := slices.IndexFunc(waiting, func(w note) bool { return w.target == n.target })
		if i < 0 {
			waiting = append(waiting, n)
			continue
		}
		waiting[i].finished = waiting[i].finished || n.finished
	}
	return waiting
}

const overflow = -1 // as a note's target: reports were lost, look at everything

// translate turns a batch of reports into at most one note a target, and nil
// where nobody is concerned. scratch has a place for each target. Who calls it holds
// q.mu.
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
