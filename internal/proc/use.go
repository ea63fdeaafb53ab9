package proc

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process uses.
type Usage struct {
	Stat
	CPU          time.Duration
	Resident     uint64 // bytes of memory; 0 where that may not be read
	Proportional uint64 // the same, with what is shared divided by those that share it
}

// ticks is USER_HZ, in which /proc counts time; it is the same on every Linux
// architecture that Go knows.
const ticks = 100

// Use reads what a process uses.
func Use(pid int) (u Usage, err error) {
	b, err := readSmall("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return u, err
	}
	if u.Stat, err = parse(pid, b); err != nil {
		return u, err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	user, _ := strconv.ParseUint(string(f[11]), 10, 64)
	system, _ := strconv.ParseUint(string(f[12]), 10, 64)
	u.CPU = time.Duration(user+system) * time.Second / ticks
	// The sums of /proc/PID/stat are inexact, proc(5).
	if b, err := readSmall("/proc/" + strconv.Itoa(pid) + "/smaps_rollup"); err == nil {
		u.Resident, u.Proportional = kilobytes(b, "Rss:"), kilobytes(b, "Pss:")
	}
	return u, nil
}

// kilobytes finds a line such as "Rss:   1234 kB", and returns it in bytes.
func kilobytes(b []byte, name string) uint64 {
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == name {
			n, _ := strconv.ParseUint(string(f[1]), 10, 64)
			return n << 10
		}
	}
	return 0
}

// StartedAt returns when a process was started that has this start time in
// /proc/PID/stat.
func StartedAt(start uint64) (time.Time, bool) {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}, false
	}
	// In a time namespace, time_namespaces(7), /proc counts as this clock does.
	age := time.Duration(now.Nano()) - time.Duration(start)*time.Second/ticks
	return time.Now().Add(-age), age >= 0
}
