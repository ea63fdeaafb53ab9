package reaper

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/spawn"
)

// orphans is a process that adopts orphans: one that ended before Orphans, and
// twenty that end after.
func orphans() {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		return
	}
	run := func(command string) int {
		c, err := spawn.Start(&spawn.Spec{
			Path: "/bin/sh", FD: -1, Argv: []string{"sh", "-c", command}, Files: []int{0, -1, 2},
			Umask: -1, Foreground: -1, Cgroup: -1,
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return c.PID
	}
	before := run("exit 0")
	// It is a zombie, and its SIGCHLD has been.
	if err := unix.Waitid(unix.P_PID, before, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		fmt.Println(err)
	}
	reaped := make(chan int, 100)
	Orphans(func(pid int) { reaped <- pid })
	if pid := <-reaped; pid == before {
		fmt.Println("before")
	}
	const after = 20
	for range after {
		run("sleep 0 & exit 0") // two each
	}
	for range 2 * after {
		<-reaped
	}
	fmt.Println("after")
	defer func() { fmt.Println(recover()) }()
	Orphans(func(int) {})
}

func TestOrphansCollectsWhatEndedBeforeAndAfter(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"=orphans")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		got = append(got, lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if strings.Join(got, ", ") != "before, after, reaper: Orphans is called twice" {
		t.Errorf("%q", got)
	}
}
