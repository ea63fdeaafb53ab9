package release

import "golang.org/x/sys/unix"

// Stamp is what stat(2) says of one file. The zero Stamp is a file that is not
// there.
type Stamp struct {
	Dev, Ino     uint64
	Size         int64
	MTime, CTime int64  // nanoseconds since 1970
	Mode         uint32 // with the type
}

// StampOf takes the stamp from a stat.
func StampOf(st *unix.Stat_t) Stamp {
	return Stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Mode}
}

// StatStamp follows symbolic links. It returns the zero Stamp where there is
// no file.
func StatStamp(path string) Stamp {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return Stamp{}
	}
	return StampOf(&st)
}
