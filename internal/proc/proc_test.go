package proc

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
)

func TestReadTellsAboutThisProcess(t *testing.T) {
	s, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s.Parent != os.Getppid() || s.PID != os.Getpid() || s.Start == 0 {
		t.Errorf("Read(self) = %+v, want parent %d", s, os.Getppid())
	}
}

func TestANameWithParenthesesIsNoTrap(t *testing.T) {
	s, err := parse(7, []byte("7 (a) S 9 (b)) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Stat{PID: 7, State: 'S', Parent: 1, Group: 7, Threads: 1, Start: 4711}); s != want {
		t.Errorf("parse = %+v, want %+v", s, want)
	}
}

// pthread_exit in main leaves a zombie as the first of several threads.
func TestAProcessIsAliveWithoutItsFirstThread(t *testing.T) {
	for threads, alive := range map[string]bool{"1": false, "2": true} {
		s, err := parse(7, []byte("7 (a) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 "+threads+" 0 4711 0 0"))
		if err != nil || s.Alive() != alive {
			t.Errorf("%s threads: %+v is alive: %v, %v", threads, s, s.Alive(), err)
		}
	}
}

func TestHalfALineIsAnError(t *testing.T) {
	for _, line := range []string{"", "7 (a", "7 (a) S 1 7", "7 (a) S x 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711"} {
		if s, err := parse(7, []byte(line)); err == nil {
			t.Errorf("parse(%q) = %+v, want an error", line, s)
		}
	}
}

func TestDescendantsHasChildrenAndTheirChildren(t *testing.T) {
	cmd := exec.Command("sh", "-c", "cat & echo $!; exec cat")
	cmd.Env = append(os.Environ(), "HOTINIT_PROC_TEST=here")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The background cat needs an input that does not end.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd.Args[2] = "cat <&3 & echo $!; exec cat"
	cmd.ExtraFiles = []*os.File{r}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer func() { w.Close(); in.Close(); cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(line[:len(line)-1])
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, st := range Descendants(os.Getpid()) {
		found = append(found, st.PID)
	}
	if !slices.Contains(found, cmd.Process.Pid) || !slices.Contains(found, grandchild) {
		t.Errorf("Descendants = %v, want %d and %d in it", found, cmd.Process.Pid, grandchild)
	}
	if v, ok := Getenv(cmd.Process.Pid, "HOTINIT_PROC_TEST"); !ok || v != "here" {
		t.Errorf("Getenv = %q, %v", v, ok)
	}
}

// FuzzStat reads what /proc/PID/stat may have in it: a process chooses its name.
func FuzzStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 99 1 2"), ") R 1 (")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		_, _ = parse(7, b)
		line := "7 (" + name + ") S 1 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 99 1 2"
		if s, err := parse(7, []byte(line)); err != nil || s.State != 'S' || s.Parent != 1 || s.Group != 8 || s.Threads != 3 || s.Start != 99 {
			t.Errorf("%q is read as %+v, %v", line, s, err)
		}
	})
}
