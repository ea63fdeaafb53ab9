package settings

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The range that the C library leaves to programs, signal(7): it keeps 32 and
// 33 (musl 34 too) for itself.
const (
	rtMin = 34
	rtMax = 64
)

// ParseSignal reads TERM, SIGTERM, 15, RTMIN, RTMIN+3 or RTMAX-1, in upper or
// lower case.
func ParseSignal(s string) (unix.Signal, bool) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return unix.Signal(n), 1 <= n && n <= rtMax
	}
	return signalByName(s)
}

func signalByName(s string) (unix.Signal, bool) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return n, true
	}
	switch name { // other names of the same numbers, signal(7)
	case "IOT":
		return unix.SIGABRT, true
	case "CLD":
		return unix.SIGCHLD, true
	case "POLL":
		return unix.SIGIO, true
	case "RTMIN":
		return rtMin, true
	case "RTMAX":
		return rtMax, true
	}
	base, offset := rtMin, ""
	if rest, ok := strings.CutPrefix(name, "RTMIN+"); ok {
		offset = rest
	} else if rest, ok := strings.CutPrefix(name, "RTMAX-"); ok {
		base, offset = rtMax, rest
	}
	n, err := strconv.ParseUint(offset, 10, 8)
	if err != nil || n > rtMax-rtMin {
		return 0, false
	}
	if base == rtMax {
		return unix.Signal(rtMax - n), true
	}
	return unix.Signal(rtMin + n), true
}
