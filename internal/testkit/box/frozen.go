package box

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Freeze puts a file system that never answers in the place of a directory, as
// hotinit sees it, until the test ends. Who waits for it can be killed.
func (b *Box) Freeze(t *testing.T, dir string) {
	t.Helper()
	b.freeze(t, dir)
}

// FreezeHard is Freeze by a server that takes each request and answers none: the
// kernel lets nobody who waits for one be killed. taken is closed once somebody does, and
// release gives them an error.
func (b *Box) FreezeHard(t *testing.T, dir string) (taken <-chan struct{}, release func()) {
	t.Helper()
	fuse, release := b.freeze(t, dir)
	buf := make([]byte, 1<<18)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fuse), Events: unix.POLLIN}}, -1)
	n, err := unix.Read(fuse, buf)
	const begin = 26 // FUSE_INIT, which the kernel asks first, fuse(4)
	if err != nil || n < 16 || binary.NativeEndian.Uint32(buf[4:]) != begin {
		t.Fatalf("FUSE asks for something else first: %d bytes, %v", n, err)
	}
	answer := make([]byte, 16+64) // struct fuse_out_header, struct fuse_init_out
	binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
	copy(answer[8:], buf[8:16]) // the request's number
	copy(answer[16:], []byte{7, 0, 0, 0, 31, 0, 0, 0})
	binary.NativeEndian.PutUint32(answer[36:], 4096) // the longest write
	if _, err := unix.Write(fuse, answer); err != nil {
		t.Fatal(err)
	}
	var stop [2]int
	if err := unix.Pipe2(stop[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	first, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		began := false
		for {
			fds := []unix.PollFd{{Fd: int32(fuse), Events: unix.POLLIN}, {Fd: int32(stop[0])}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR || fds[1].Revents != 0 {
				return
			}
			switch _, err := unix.Read(fuse, buf); {
			case err == nil && !began:
				began = true
				close(first)
			case err != nil && err != unix.EINTR && err != unix.EAGAIN:
				return
			}
		}
	}()
	closed := release
	release = sync.OnceFunc(func() {
		unix.Close(stop[1])
		<-ended // who polls a file keeps it open
		unix.Close(stop[0])
		closed()
	})
	t.Cleanup(release)
	return first, release
}

func (b *Box) freeze(t *testing.T, dir string) (fuse int, release func()) {
	t.Helper()
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("there is no FUSE:", err)
	}
	release = sync.OnceFunc(func() { unix.Close(fuse) }) // whoever waits gets an error
	t.Cleanup(release)
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", b.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			err = unix.Mount("frozen", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse))
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Skip("nothing can be mounted for hotinit:", err)
	}
	return fuse, release
}
