package serving

import (
	"bytes"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// asOwner calls f with the file system identity of the process whose open
// /proc/PID is dir. Root without CAP_SYS_PTRACE, as in most containers, may not
// look at another user's process; the user itself may, ptrace(2) under "Ptrace
// access mode checking". The identity is this thread's alone, setfsuid(2).
//
// f does not run where that cannot be had.
func asOwner(dir int, f func()) {
	if unix.Geteuid() != 0 {
		return
	}
	b, err := readAt(dir, "status", 8192)
	if err != nil {
		return
	}
	uid, gid, ok := parseOwner(b)
	if !ok || uid == 0 {
		return
	}
	runtime.LockOSThread()
	oldGID, _ := unix.SetfsgidRetGid(gid)
	oldUID, _ := unix.SetfsuidRetUid(uid)
	// A call with an invalid identity fails and returns the one in force.
	if now, _ := unix.SetfsuidRetUid(-1); now == uid {
		f()
	}
	unix.SetfsuidRetUid(oldUID)
	unix.SetfsgidRetGid(oldGID)
	u, _ := unix.SetfsuidRetUid(-1)
	g, _ := unix.SetfsgidRetGid(-1)
	if u == oldUID && g == oldGID {
		runtime.UnlockOSThread()
	} // else the thread ends with its goroutine
}

// parseOwner reads the effective user and group from /proc/PID/status, proc(5):
//
//	Uid:	33	33	33	33
func parseOwner(b []byte) (uid, gid int, ok bool) {
	found := 0
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) != 5 || string(f[0]) != "Uid:" && string(f[0]) != "Gid:" {
			continue
		}
		n, err := strconv.ParseUint(string(f[2]), 10, 31)
		if err != nil {
			return 0, 0, false
		}
		if f[0][0] == 'U' {
			uid = int(n)
		} else {
			gid = int(n)
		}
		found++
	}
	return uid, gid, found == 2
}
