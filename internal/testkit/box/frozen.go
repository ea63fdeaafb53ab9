package box

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Freeze puts a file system that never answers in the place of a directory, as
// hotinit sees it, until the test ends.
func (b *Box) Freeze(t *testing.T, dir string) {
	t.Helper()
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("there is no FUSE:", err)
	}
	t.Cleanup(func() { unix.Close(fuse) }) // whoever waits gets an error
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
}
