package handoff

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
)

// pidFile is the name under which init keeps what is locked.
const pidFile = "pid-file"

// openPidFile writes --pid-file. The file is locked as long as this hotinit runs:
// this distinguishes a file in use from one that was left behind, and makes a
// second hotinit fail before it touches the file. The lock belongs to the open
// file, so init keeps it when the handoff changes.
func (s *supervisor) openPidFile() error {
	if s.cfg.PidFile == "" || s.link.held[pidFile] {
		return nil
	}
	path := absolute(s.home, s.cfg.PidFile)
	fd, err := safepath.Open(path, unix.O_RDWR|unix.O_CREAT, 0o644)
	if err != nil {
		return fmt.Errorf("cannot open --pid-file %s: %w", path, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		b := make([]byte, 32)
		n, _ := unix.Read(fd, b)
		unix.Close(fd)
		return fmt.Errorf("--pid-file %s belongs to a hotinit that runs (PID %s)", path, bytes.TrimSpace(b[:max(n, 0)]))
	}
	var open unix.Stat_t
	there, err := safepath.Stat(path)
	if err != nil || unix.Fstat(fd, &open) != nil || open.Ino != there.Ino || open.Dev != there.Dev {
		// The hotinit that had it ended meanwhile and removed it.
		unix.Close(fd)
		return s.openPidFile()
	}
	if err := unix.Ftruncate(fd, 0); err != nil {
		return fmt.Errorf("cannot write --pid-file %s: %w", path, err)
	}
	if _, err := unix.Pwrite(fd, []byte(strconv.Itoa(os.Getppid())+"\n"), 0); err != nil {
		return fmt.Errorf("cannot write --pid-file %s: %w", path, err)
	}
	defer unix.Close(fd)
	return s.link.keep(pidFile, fd)
}

// removePidFile removes --pid-file, if it is this hotinit's.
func (s *supervisor) removePidFile() {
	if s.link.held[pidFile] {
		_ = safepath.Remove(absolute(s.home, s.cfg.PidFile))
	}
}
