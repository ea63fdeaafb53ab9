package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// byHand is the least that can swap an app: it holds a socket, starts the next
// generation, and tells the one before to go when asked.
//
// It uses descriptors and PIDs as the kernel has them: the files of package os
// would be closed with the garbage, and would make the shared socket blocking.
type byHand struct {
	site       *site
	env        []string
	socket     int
	read       *os.File
	write      int
	stderr     int
	generation int
	pids       []int // of generations that were not told to go
}

// deployByHand swaps to the same file again, or to a new file that is renamed over it.
func deployByHand(rename bool) func(context.Context, *bench, *site) (*deployment, error) {
	return func(_ context.Context, b *bench, s *site) (*deployment, error) {
		h, err := holdByHand(b, s)
		if err != nil {
			return nil, err
		}
		swap := h.next
		if rename {
			swap = func() error {
				if err := os.Rename(s.release(), s.app); err != nil {
					return err
				}
				return h.next()
			}
		}
		return &deployment{swap: swap, after: h.retire, out: h.read, end: h.end}, nil
	}
}

// holdByHand opens the socket and starts the first generation.
func holdByHand(b *bench, s *site) (*byHand, error) {
	socket, err := listenRaw(s.address)
	if err != nil {
		return nil, err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		unix.Close(socket)
		return nil, err
	}
	h := &byHand{
		site: s, env: append(os.Environ(), b.appEnv()...), socket: socket,
		read: os.NewFile(uintptr(pipe[0]), "lines of the app"), write: pipe[1], stderr: int(b.log.Fd()),
	}
	if err := h.next(); err != nil {
		h.end()
		return nil, err
	}
	return h, nil
}

func (h *byHand) next() error {
	h.generation++
	pid, err := syscall.ForkExec(h.site.app, []string{h.site.app}, &syscall.ProcAttr{
		Env: append(h.env, "SERVER_STARTER_PORT="+h.site.address+"=3",
			"SERVER_STARTER_GENERATION="+strconv.Itoa(h.generation)),
		Files: []uintptr{0, uintptr(h.write), uintptr(h.stderr), uintptr(h.socket)},
	})
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", h.site.app, err)
	}
	h.pids = append(h.pids, pid)
	return nil
}

// retire tells all but the newest to go, and collects them.
func (h *byHand) retire() error {
	for len(h.pids) > 1 {
		if err := h.stop(unix.SIGTERM); err != nil {
			return err
		}
	}
	return nil
}

func (h *byHand) stop(sig unix.Signal) error {
	pid := h.pids[0]
	h.pids = h.pids[1:]
	if err := unix.Kill(pid, sig); err != nil {
		return err
	}
	_, err := unix.Wait4(pid, nil, 0, nil)
	return err
}

func (h *byHand) end() {
	for len(h.pids) > 0 {
		_ = h.stop(unix.SIGKILL)
	}
	unix.Close(h.socket)
	unix.Close(h.write)
	h.read.Close()
}

// listenRaw is a listening socket that the network poller knows nothing of.
func listenRaw(address string) (int, error) {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return -1, err
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return -1, err
	}
	socket := -1
	var failed error
	err = raw.Control(func(fd uintptr) {
		socket, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err != nil {
		return -1, err
	}
	return socket, failed
}
