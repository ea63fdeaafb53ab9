package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNoInotifyInstanceMeansPolling(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	r := newRig(t, rigOptions{
		options: Options{Poll: 5 * time.Millisecond},
		calls: calls{init: func() (int, error) {
			if full.Load() {
				return -1, unix.EMFILE
			}
			return realCalls.init()
		}},
	})
	r.log("max_user_instances")
	r.deploy(r.path, script("second"))
	r.release(script("second"))
	full.Store(false)
	r.log("inotify works again")
	r.only()
	for _, said := range r.said() {
		t.Errorf("said too: %s", said)
	}
}

func TestNoMoreWatchesMeansPolling(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	r := newRig(t, rigOptions{
		options: Options{Poll: 5 * time.Millisecond},
		calls: calls{add: func(fd int, path string, mask uint32) (int, error) {
			if full.Load() {
				return -1, unix.ENOSPC
			}
			return realCalls.add(fd, path, mask)
		}},
	})
	r.log("max_user_watches is used up; looking every 5ms instead")
	r.deploy(r.path, script("second"))
	r.release(script("second"))
	for _, said := range r.said() {
		t.Errorf("said too: %s", said) // of another directory, for one
	}
	full.Store(false)
	r.log("inotify works again")
	r.only()
}

func TestADirectoryThatMayNotBeReadMeansPolling(t *testing.T) {
	r := newRig(t, rigOptions{
		options: Options{Poll: 5 * time.Millisecond},
		calls: calls{add: func(fd int, path string, mask uint32) (int, error) {
			if path == "/" {
				return -1, unix.EACCES
			}
			return realCalls.add(fd, path, mask)
		}},
	})
	r.log("cannot watch /: permission denied; looking every 5ms instead")
	r.only()
}

// inNamespaces runs the test once more in a process with namespaces of its own,
// and reports whether this is that process.
func inNamespaces(t *testing.T, flags uintptr) bool {
	t.Helper()
	const variable = "HOTINIT_TEST_NAMESPACES"
	if os.Getenv(variable) == t.Name() {
		if flags&syscall.CLONE_NEWNS != 0 {
			// What is mounted here must stay here.
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				t.Fatal(err)
			}
		}
		return true
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	c.Env = append(os.Environ(), variable+"="+t.Name())
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  flags | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if os.Geteuid() == 0 && flags&syscall.CLONE_NEWUSER == 0 {
		// Root mounts more than a user namespace allows.
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	}
	out, err := c.CombinedOutput()
	text := string(out)
	switch {
	case strings.Contains(text, "--- SKIP"):
		t.Skip(text)
	case err != nil && len(out) == 0:
		t.Skipf("no namespaces here: %v", err)
	case err != nil || !strings.Contains(text, "--- PASS: "+t.Name()):
		t.Fatalf("%v\n%s", err, text)
	}
	t.Log(text)
	return false
}

func TestTheRealLimitOfWatches(t *testing.T) {
	// The limit is the user namespace's own: nobody else notices.
	if !inNamespaces(t, syscall.CLONE_NEWUSER) {
		return
	}
	const limit = "/proc/sys/user/max_inotify_watches"
	set := func(n int) {
		if err := os.WriteFile(limit, fmt.Append(nil, n), 0); err != nil {
			t.Skipf("cannot set a limit: %v", err)
		}
	}
	if ns, err := os.ReadFile("/proc/self/uid_map"); err != nil || strings.Contains(string(ns), "4294967295") {
		t.Fatalf("not in a user namespace of its own: %s, %v", ns, err)
	}
	set(1)
	r := newRig(t, rigOptions{options: Options{Poll: 5 * time.Millisecond}})
	r.log("max_user_watches is used up")
	r.deploy(r.path, script("second"))
	r.release(script("second"))
	set(1000)
	r.log("inotify works again")
	r.only()
}

func TestLostReportsAreMadeUpFor(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip(err)
	}
	var limit int
	fmt.Sscan(string(text), &limit)
	if limit <= 0 || limit > 100000 {
		t.Skipf("the queue holds %d reports", limit)
	}
	r := newRig(t, rigOptions{})
	r.forget()
	func() {
		r.loop.queue.mu.Lock() // so nobody empties the queue
		defer r.loop.queue.mu.Unlock()
		other := filepath.Join(r.dir, "other")
		for range limit/3 + 1000 {
			put(t, other, "", 0o600)
			os.Remove(other)
		}
		r.deploy(r.path, script("second")) // of this nothing is reported
	}()
	r.release(script("second"))
	r.log("inotify lost reports")
	r.only()
}

func TestReportsOfNoInterestAllocateNothing(t *testing.T) {
	q := newQueue(1, newHub(realCalls), nil, nil)
	q.insert(7, inode{1, 1}, maskFinal)
	q.byWD[7].interests = []interest{{target: 0, name: "server", role: roleFinal}}
	batch := make([]byte, 0, 4096)
	for range 50 {
		e := make([]byte, unix.SizeofInotifyEvent+16)
		e[0], e[5], e[12] = 7, 1, 16 // IN_CREATE of a name of 16 bytes
		copy(e[unix.SizeofInotifyEvent:], "another-file")
		batch = append(batch, e...)
	}
	scratch := make([]note, 1)
	if n := testing.AllocsPerRun(100, func() {
		if q.translate(batch, scratch) != nil {
			t.Fatal("of interest")
		}
	}); n != 0 {
		t.Errorf("%v allocations for 50 reports", n)
	}
}

func TestABrokenReportIsNotReadBeyondItsEnd(t *testing.T) {
	q := newQueue(1, newHub(realCalls), nil, nil)
	e := make([]byte, unix.SizeofInotifyEvent)
	e[12] = 255
	for n := range len(e) + 1 {
		q.translate(e[:n], make([]note, 1))
	}
}
