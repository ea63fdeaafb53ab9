//go:build faults

package fault

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/version"
)

const forever = 1<<63 - 1

// At acts upon the file that the variable _HOTINIT_FAULT names: one line,
// "VERSION POINT ACTION". Where the version is this build's and the point is the
// one of the call, the file is removed, so that it happens once, and then the
// process does what ACTION says:
//
//	kill   is killed by SIGKILL (not PID 1, which is immune to its own)
//	exit   exits with status 3
//	hang   stops the goroutine for ever
//	wait   stops it until there is such a file again
//	fail   goes on, and At returns an error
func At(point string) error {
	path := os.Getenv("_HOTINIT_FAULT")
	if path == "" {
		return nil
	}
	b, err := safepath.ReadFile(path, 4096)
	if err != nil {
		return nil
	}
	f := strings.Fields(string(b))
	if len(f) != 3 || f[0] != version.Number || f[1] != point || safepath.Remove(path) != nil {
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
	case "wait":
		for _, err := safepath.Stat(path); err != nil; _, err = safepath.Stat(path) {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	return errors.New("it was told to fail at " + point)
}
