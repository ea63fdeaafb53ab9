package handoff

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/sockets"
)

// openPidFile writes --pid-file. The file is locked as long as this hotinit
// runs: that tells one that is in use from one that was left behind, and the
// lock of a second hotinit fails before it has touched the file. The lock
// belongs to the open file, so that init keeps it over a change of handoffs.
func (s *supervisor) openPidFile() error {
	if s.cfg.PidFile == "" || s.link.held["pid-file"] {
		return nil
	}
	path := s.fromStart(s.cfg.PidFile)
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
		// The one that had it ended meanwhile and removed it.
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
	return s.link.keep("pid-file", fd)
}

// writeStatusFile writes --status-file: a line "GENERATION:PID" for each that
// has a process, oldest first, as start_server does.
func (s *supervisor) writeStatusFile(st machine.State) {
	if s.cfg.StatusFile == "" || st.Over {
		return
	}
	var b []byte
	for _, g := range st.Gens {
		if g.Phase != machine.Preparing && g.Phase != machine.Lingering {
			b = fmt.Appendf(b, "%d:%d\n", g.N, g.PID)
		}
	}
	if bytes.Equal(b, s.statusText) {
		return
	}
	path := s.fromStart(s.cfg.StatusFile)
	if err := safepath.Replace(path, b, 0o644); err != nil {
		if !s.statusFailed {
			say.Line("cannot write --status-file %s: %v; hotinit goes on without", path, err)
		}
		s.statusFailed = true
		return
	}
	s.statusText, s.statusFailed = b, false
}

// exit gives the verdict.
func (s *supervisor) exit(status int) {
	if s.cfg.ExitZero.Has(status) {
		status = 0
	}
	if s.cfg.Compat == "start_server" && s.loop.state.Stop != 0 {
		status = 0 // whatever its workers ended with
	}
	s.removeFiles()
	grace := s.cfg.StopTimeout
	if grace == 0 {
		grace = lastGrace
	}
	if !s.stopped.IsZero() {
		grace = max(grace-time.Since(s.stopped), 0)
	}
	s.endLog()
	_ = s.link.SendWait(&message.Exit{Status: status, Grace: grace, Terminated: s.toldOf()})
}

// removeFiles removes what hotinit has made: files of sockets, --pid-file,
// --status-file. It is all that is not there any more once hotinit is not.
func (s *supervisor) removeFiles() {
	_ = unix.Chdir(s.home) // a socket's path may be relative
	for _, spec := range s.bound {
		_ = sockets.Remove(spec)
	}
	if s.link.held["pid-file"] {
		_ = safepath.Remove(s.fromStart(s.cfg.PidFile))
	}
	if s.cfg.StatusFile != "" && len(s.statusText) > 0 {
		_ = safepath.Remove(s.fromStart(s.cfg.StatusFile))
	}
}

// lastGrace is what processes that outlive the app get where no --stop-timeout
// says so.
const lastGrace = 9 * time.Second
