//go:build faults

package fault

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/version"
)

const forever = 1<<63 - 1

var (
	mu sync.Mutex
	// line is what the file said last, and met is how often its point was met since.
	line string
	met  int
)

// At acts upon the file that the variable _HOTINIT_FAULT names: one line,
// "VERSION POINT ACTION", or "VERSION POINT ACTION NTH". The point of a call is its
// words with dots between them; a POINT that ends with * stands for all that begin
// so. Where the version is this build's and the process comes to the point for the
// first time, or the NTH, the file is removed, so that it happens once, and then
// the process does what ACTION says:
//
//	kill   is killed by SIGKILL (not PID 1, which is immune to its own)
//	exit   exits with status 3
//	hang   stops the goroutine for ever
//	wait   stops it until there is such a file again
//	late   stops it for two seconds
//	stop   stops the process by SIGSTOP
//	fail   goes on, and At returns an error
func At(words ...string) error {
	path := os.Getenv("_HOTINIT_FAULT")
	if path == "" {
		return nil
	}
	b, err := safepath.ReadFile(path, 4096)
	if err != nil {
		return nil
	}
	point := strings.Join(words, ".")
	f := strings.Fields(string(b))
	if len(f) < 3 || f[0] != version.Number || !is(point, f[1]) || !due(string(b), f[3:]) || safepath.Remove(path) != nil {
		return nil
	}
	switch f[2] {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(forever)
	case "exit":
		os.Exit(3)
	case "hang":
		time.Sleep(forever)
	case "late":
		time.Sleep(2 * time.Second)
		return nil
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return nil
	case "wait":
		for _, err := safepath.Stat(path); err != nil; _, err = safepath.Stat(path) {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	return errors.New("it was told to fail at " + point)
}

func is(point, wanted string) bool {
	if prefix, ok := strings.CutSuffix(wanted, "*"); ok {
		return strings.HasPrefix(point, prefix)
	}
	return point == wanted
}

// due reports whether this is the time at which the point of a line is to be acted
// upon.
func due(what string, nth []string) bool {
	mu.Lock()
	defer mu.Unlock()
	if what != line {
		line, met = what, 0
	}
	met++
	n := 1
	if len(nth) > 0 {
		n, _ = strconv.Atoi(nth[0])
	}
	if met != n {
		return false
	}
	line = ""
	return true
}
