package adopt

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// journal is memory that outlives this process, for init keeps it. It holds
// what a handoff that is killed in the middle of an answer must not take along:
//
// The kernel gives each notification out once. So it is received into this
// memory: there is no moment at which a thread waits for an answer and the next
// handoff could not know to what. The options that an app has set on a socket
// that it has not bound yet are in it as well.
type journal struct {
	fd     int // -1 where there is none to keep
	memory *layout
}

const (
	slots     = 256
	notes     = 512
	noteBytes = 20
)

type layout struct {
	slots [slots]slot
	notes [notes]note
	next  uint32 // note to be written
}

// slot is what one generation's listener received last.
type slot struct {
	n    notification
	gen  uint32
	done uint32 // n's descriptor was replaced: only the answer is missing
	// instance is that of the generation. There was none once, and 0 in its place.
	instance uint32
	_        [20]byte
}

// note is an option that an app has set on a socket.
type note struct {
	inode             uint64
	level, name, size int32
	value             [noteBytes]byte
}

// newJournal makes one, or goes on with the one that fd is.
func newJournal(fd int) *journal {
	j := &journal{fd: fd}
	size := int(unsafe.Sizeof(layout{}))
	if fd < 0 {
		made, err := unix.MemfdCreate("hotinit-adopt", unix.MFD_CLOEXEC)
		if err == nil && unix.Ftruncate(made, int64(size)) == nil {
			j.fd = made
		}
	}
	if j.fd >= 0 {
		var st unix.Stat_t
		if unix.Fstat(j.fd, &st) == nil && st.Size == int64(size) {
			if b, err := unix.Mmap(j.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
				j.memory = (*layout)(unsafe.Pointer(unsafe.SliceData(b)))
				return j
			}
		}
		unix.Close(j.fd)
		j.fd = -1
	}
	j.memory = new(layout) // what is under way is lost with this process
	return j
}

// slot returns the one of a generation.
func (j *journal) slot(n Gen) *slot {
	var free *slot
	for i := range j.memory.slots {
		s := &j.memory.slots[i]
		if s.gen == uint32(n.N) && s.instance == uint32(n.Instance) {
			return s
		}
		if s.gen == 0 && free == nil {
			free = s
		}
	}
	if free == nil { // more generations than anybody drains: one without a journal
		free = new(slot)
	}
	*free = slot{gen: uint32(n.N), instance: uint32(n.Instance)}
	return free
}

// note remembers an option. The oldest gives way.
func (j *journal) note(inode uint64, level, name int, value []byte) {
	n := &j.memory.notes[j.memory.next%notes]
	*n = note{inode: inode, level: int32(level), name: int32(name), size: int32(min(len(value), noteBytes))}
	copy(n.value[:], value)
	j.memory.next++
}

// noted calls f with the options of a socket, in the order in which they were
// set.
func (j *journal) noted(inode uint64, f func(level, name int, value []byte)) {
	for i := range uint32(notes) {
		n := &j.memory.notes[(j.memory.next+i)%notes]
		if n.inode == inode && n.size >= 0 && n.size <= noteBytes {
			f(int(n.level), int(n.name), n.value[:n.size])
		}
	}
}
