package programs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// mass is how many programs there are. HOTINIT_TEST_PROGRAMS sets another number, such
// as 1000, with which these tests take minutes.
func mass(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv("HOTINIT_TEST_PROGRAMS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 10 {
		t.Fatalf("HOTINIT_TEST_PROGRAMS=%s: must be a number of 10 or more", text)
	}
	return n
}

// TestManyProgramsAreWhatTheFilesSay drops, changes and removes programs at random, while
// the handoff is killed at random. In the end each program runs once, with what its file
// says.
func TestManyProgramsAreWhatTheFilesSay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	programs, rounds := mass(t, 200), 12
	y := open(t, nil, "--verbosity", "0")
	files := make(map[string]string) // what each has sleep for
	next := 1000000
	settings := []string{"", "HOTINIT_AFTER=p3 p5\n", "HOTINIT_INTERVAL=1ms\n", "HOTINIT_AFTER=p1\nHOTINIT_INTERVAL=1ms\n"}
	for range rounds {
		for range 1 + random.IntN(programs/2) {
			name := fmt.Sprint("p", random.IntN(programs))
			if _, ok := files[name]; ok && random.IntN(3) == 0 {
				delete(files, name)
				y.remove(name)
				continue
			}
			next++
			files[name] = fmt.Sprint(next)
			more := ""
			if number := strings.TrimPrefix(name, "p"); len(number) > 1 { // so that there is no circle
				more = settings[random.IntN(len(settings))]
			}
			y.write(name, fmt.Sprintf("HOTINIT_COMMAND=sleep %d\nHOTINIT_PROBATION=0\n%s", next, more))
		}
		if random.IntN(2) == 0 {
			y.KillHandoff()
		}
	}
	for _, name := range []string{"p1", "p3", "p5"} { // so that all may start
		next++
		files[name] = fmt.Sprint(next)
		y.write(name, fmt.Sprintf("HOTINIT_COMMAND=sleep %d\nHOTINIT_INTERVAL=1ms\n", next))
	}
	y.same(files)
	y.KillHandoff()
	y.same(files)
	next++
	files["p1"] = fmt.Sprint(next)
	y.write("p1", fmt.Sprintf("HOTINIT_COMMAND=sleep %d\nHOTINIT_INTERVAL=1ms\n", next))
	y.same(files)
	y.stop(0)
}

// sleeps writes the files of n more programs, and waits until so many run in all.
func (y *yard) sleeps(command string, from, n int) {
	y.t.Helper()
	for i := from; i < from+n; i++ {
		y.write(fmt.Sprint("s", i), fmt.Sprintf("HOTINIT_COMMAND=%s %d\nHOTINIT_INTERVAL=1ms\n", command, 1000000+i))
	}
	y.Until(fmt.Sprint(from+n, " programs run"), func() bool { return len(y.sleeping()) == from+n })
}

// sleeping are the programs that run, by what they were told, with their PIDs.
func (y *yard) sleeping() map[string]int {
	pids := make(map[string]int)
	for _, p := range y.Processes() {
		if len(p.Args) == 2 && filepath.Base(p.Args[0]) == "sleep" && !p.Zombie() {
			pids[p.Args[1]] = p.PID
		}
	}
	return pids
}

// taken is what a process has open, by kind, and "threads".
func taken(t *testing.T, pid int) map[string]int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{"descriptors": len(fds)}
	for _, fd := range fds {
		if to, err := os.Readlink(dir + "fd/" + fd.Name()); err == nil {
			n[to]++
		}
	}
	tasks, err := os.ReadDir(dir + "task")
	if err != nil {
		t.Fatal(err)
	}
	n["threads"] = len(tasks)
	return n
}

// TestAProgramTakesFourDescriptorsAndNoThread counts what more programs take. What it
// counts does not depend on the machine.
func TestAProgramTakesFourDescriptorsAndNoThread(t *testing.T) {
	y := open(t, nil, "--verbosity", "0")
	sleep := y.own("sleep")
	n := mass(t, 40)
	y.sleeps(sleep, 0, n/2)
	var before [2]map[string]int
	for i, pid := range []int{y.PID(), y.Handoff().PID} {
		before[i] = taken(t, pid)
	}
	y.sleeps(sleep, n/2, n-n/2)
	for i, name := range []string{"init", "the handoff"} {
		pid := []int{y.PID(), y.Handoff().PID}[i]
		y.Until(name+" has few descriptors open", func() bool { // starts are over
			return taken(t, pid)["descriptors"]-before[i]["descriptors"] <= 4*(n-n/2)+3
		})
		now := taken(t, pid)
		if now["threads"] > 12 {
			t.Errorf("%s has %d threads, with %d programs", name, now["threads"], n)
		}
		if now["anon_inode:inotify"] > 1 {
			t.Errorf("%s has %d inotify instances", name, now["anon_inode:inotify"])
		}
	}
	y.stop(0)
}

// own installs a program of the machine beside the test application, where it is
// watched.
func (y *yard) own(name string) string {
	y.t.Helper()
	found, err := exec.LookPath(name)
	if err != nil {
		y.t.Fatal(err)
	}
	b, err := os.ReadFile(found)
	if err != nil {
		y.t.Fatal(err)
	}
	path := filepath.Join(y.dir, name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		y.t.Fatal(err)
	}
	return path
}

// TestAnUpgradeWithManyProgramsTouchesNoneOfThem replaces hotinit by itself.
func TestAnUpgradeWithManyProgramsTouchesNoneOfThem(t *testing.T) {
	y := open(t, nil, "--verbosity", "0")
	n := mass(t, 40)
	y.sleeps("sleep", 0, n)
	newer := filepath.Join(y.dir, "hotinit")
	b, err := os.ReadFile(box.Hotinit)
	if err == nil {
		err = os.WriteFile(newer, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := y.sleeping()
	var before [2]int
	for i, pid := range []int{y.PID(), y.Handoff().PID} {
		before[i] = taken(t, pid)["descriptors"]
	}
	if code, text := y.ask("upgrade", newer); code != 0 {
		t.Fatalf("upgrade: %d, %s\noutput:\n%s", code, text, y.Output)
	}
	for i, pid := range []int{y.PID(), y.Handoff().PID} {
		var runs, is unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &runs) != nil || unix.Stat(newer, &is) != nil || runs.Ino != is.Ino {
			t.Errorf("process %d is not of the new hotinit", pid)
		}
		y.Until("as many descriptors are open as before", func() bool { return taken(t, pid)["descriptors"] <= before[i]+3 })
	}
	if got := y.sleeping(); !maps.Equal(got, want) {
		t.Errorf("other processes run: %v, not %v", got, want)
	}
	// Each of them is watched over still.
	for _, pid := range want {
		y.SignalTo(pid, unix.SIGKILL)
		break
	}
	y.Until("the one that was killed runs again", func() bool {
		got := y.sleeping()
		return len(got) == n && !maps.Equal(got, want)
	})
	y.stop(0)
}

// same waits until what runs is what the files say.
func (y *yard) same(files map[string]string) {
	y.t.Helper()
	want := slices.Sorted(maps.Values(files))
	var got []string
	deadline := time.Now().Add(box.Patience)
	y.Until("what runs is what the files say", func() bool {
		got = nil
		for _, p := range y.Processes() {
			if len(p.Args) == 2 && p.Args[0] == "sleep" && !p.Zombie() {
				got = append(got, p.Args[1])
			}
		}
		slices.Sort(got)
		if time.Now().After(deadline.Add(-time.Second)) {
			y.t.Logf("files %v\nrun %v", want, got)
		}
		return slices.Equal(got, want)
	})
}
