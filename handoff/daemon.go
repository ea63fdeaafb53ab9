package handoff

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/spawn"
)

// daemonize starts hotinit a second time, in a session of its own, and waits
// until that one has its sockets and its files. What is wrong with them is so
// said where somebody reads it, and whoever waits for this hotinit may connect.
//
// A second process is started, and this one is not made the daemon, since init
// is somebody's child: whoever waits for it would never see it return.
func (s *supervisor) daemonize(argv []string) error {
	if os.Getppid() == 1 {
		return errors.New("--daemonize: this is PID 1, the container would end with it (leave the flag out: the container is the background)")
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open /dev/null: %w", err)
	}
	std := std()
	files := []int{null, std[1], std[2]}
	for name, fd := range s.link.kept {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, message.Inherited)); err == nil {
			for len(files) <= n {
				files = append(files, -1)
			}
			files[n] = fd
		}
	}
	report := len(files)
	files = append(files, pipe[1])
	_, err = spawn.Start(&spawn.Spec{
		Path: "/proc/self/exe", FD: -1, Argv: argv,
		Env:   append(entry.Environ(), contract.DaemonVariable+"="+strconv.Itoa(report)),
		Files: files, Dir: s.home, Umask: -1, Signals: entry.Inherited(),
		Setsid: true, Foreground: -1, Cgroup: -1,
	})
	unix.Close(pipe[1])
	if err != nil {
		return fmt.Errorf("cannot start the daemon: %w", err)
	}
	var b [1]byte
	n, err := unix.Read(pipe[0], b[:])
	for err == unix.EINTR {
		n, err = unix.Read(pipe[0], b[:])
	}
	if err != nil || n != 1 {
		return errors.New("the daemon could not start, see above")
	}
	return nil
}

// findReport takes the descriptor that daemonize waits on, -1 for none, out of
// those that hotinit was started with.
func (s *supervisor) findReport() int {
	number, ok := os.LookupEnv(contract.DaemonVariable)
	if !ok {
		return -1
	}
	s.daemon = true
	return s.link.take(message.Inherited + number)
}

// reportUp tells daemonize that all is in place.
func (s *supervisor) reportUp(fd int) {
	if fd < 0 {
		return
	}
	_, _ = unix.Write(fd, []byte{1})
	unix.Close(fd)
	s.link.drop(message.Inherited + os.Getenv(contract.DaemonVariable))
}
