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

var signalNames = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS",
	8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2", 13: "PIPE",
	14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP",
	20: "TSTP", 21: "TTIN", 22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ",
	26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS",
}

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
	for n, known := range signalNames {
		if known != "" && known == name {
			return unix.Signal(n), true
		}
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

// SignalName is the name that ParseSignal reads, with SIG before it.
func SignalName(s unix.Signal) string {
	switch {
	case s > 0 && int(s) < len(signalNames):
		return "SIG" + signalNames[s]
	case s == rtMin:
		return "SIGRTMIN"
	case s > rtMin && s <= rtMax:
		return "SIGRTMIN+" + strconv.Itoa(int(s)-rtMin)
	}
	return "signal " + strconv.Itoa(int(s))
}
