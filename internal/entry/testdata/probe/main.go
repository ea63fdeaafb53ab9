// probe reports what package entry knows in a process of its own, for tests.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
)

func main() {
	var err error
	switch os.Args[1] {
	case "report":
		err = report()
	case "ensure":
		if err = entry.EnsureBlocked(os.Args); err == nil {
			err = report()
		}
	case "catch":
		err = catch()
	case "fault":
		err = fault()
	case "restore":
		entry.Restore()
		fmt.Println("ready")
		time.Sleep(time.Hour) // to wait for nothing is a deadlock, with status 2
	case "pipe":
		entry.Restore()
		err = pipe()
	case "processors":
		err = processors()
	case "children":
		err = children()
	case "slack":
		err = slack()
	case "allthreads":
		err = allThreads()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pipe writes to a socket whose other end is closed, and then without end to standard
// output.
func pipe() error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(ends[1])
	if _, err := unix.Write(ends[0], []byte("x")); err != unix.EPIPE {
		return fmt.Errorf("writing to a socket that nobody reads: %v", err)
	}
	for {
		if _, err := fmt.Println("still here"); err != nil {
			return fmt.Errorf("writing to standard output that nobody reads: %v", err)
		}
	}
}

// children starts a process, and prints a line once SIGCHLD has told of its end.
func children() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	if err := entry.CatchChildren(fd); err != nil {
		return err
	}
	threads := func() int { names, _ := os.ReadDir("/proc/self/task"); return len(names) }
	before := threads()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "nothing"}, nil)
	if err != nil {
		return err
	}
	var b [8]byte
	if _, err := os.NewFile(uintptr(fd), "children").Read(b[:]); err != nil {
		return err
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); err != nil || !ws.Exited() {
		return fmt.Errorf("wait4: %v, %v", err, ws)
	}
	fmt.Println("ended,", threads()-before, "threads more")
	return nil
}

// slack prints the timer slack of the first thread, and then that of the others.
func slack() error {
	pid := strconv.Itoa(os.Getpid())
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/" + filepath.Base(task) + "/timerslack_ns")
		if err != nil {
			return err
		}
		if filepath.Base(task) == pid {
			fmt.Print("first ")
		}
		fmt.Print(string(b))
	}
	return nil
}

func report() error {
	release := make(chan struct{})
	defer close(release)
	started := make(chan struct{})
	for range 4 { // more threads than the runtime starts by itself
		go func() {
			runtime.LockOSThread()
			started <- struct{}{}
			<-release
		}()
		<-started
	}
	var threads []uint64
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	for _, f := range files {
		if set, err := field(f, "SigBlk"); err == nil {
			threads = append(threads, set)
		}
	}
	pending, err := field("/proc/self/status", "ShdPnd")
	if err != nil {
		return err
	}
	limit, known := entry.NoFile()
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return err
	}
	_, leaked := os.LookupEnv("HOTINIT_ENTRY")
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"Exact": entry.Exact(), "Fallback": entry.Fallback(), "Table": uintptr(entry.Table()),
		"Inherited": entry.Inherited(), "Threads": threads, "Pending": pending,
		"Limit": limit, "Known": known, "Now": now, "Leaked": leaked, "Args": os.Args[1:],
	})
}

func field(file, name string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), name+":\t")
	hex, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseUint(hex, 16, 64)
}

func catch() error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	if err := entry.CatchUnblockable(p[1]); err != nil {
		return err
	}
	fmt.Println("ready")
	r := os.NewFile(uintptr(p[0]), "pipe")
	var b [1]byte
	for {
		if _, err := r.Read(b[:]); err != nil {
			return err
		}
		fmt.Println(b[0])
	}
}

// fault causes SIGSEGV in threads of all kinds: the first one, those that were
// started before main, and new ones.
func fault() error {
	if err := entry.CatchUnblockable(-1); err != nil {
		return err
	}
	one := func() {
		defer func() {
			if recover() != nil {
				fmt.Println("recovered")
			}
		}()
		var nothing *[16]byte
		fmt.Println(nothing[len(os.Args)])
	}
	runtime.LockOSThread()
	one()
	done := make(chan struct{})
	for range 7 {
		go func() {
			runtime.LockOSThread()
			one()
			done <- struct{}{}
			select {} // the next goroutine then runs in another thread
		}()
		<-done
	}
	return nil
}

func processors() error {
	fmt.Println(runtime.GOMAXPROCS(0))
	for _, v := range append(os.Environ(), os.Args[1:]...) {
		fmt.Println(v)
	}
	return nil
}

func allThreads() error {
	if err := entry.CatchUnblockable(-1); err != nil {
		return err
	}
	runtime.LockOSThread() // the runtime then needs other threads, which get the signal
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0)
	if e != 0 {
		return e
	}
	fmt.Println("done")
	return nil
}
