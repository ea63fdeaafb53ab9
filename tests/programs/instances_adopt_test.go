package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/port"
)

// binds is the file of three instances of a server that binds an address itself.
func binds(address string, more ...string) string {
	return fmt.Sprintf("HOTINIT_COMMAND=SERVER -bind %s\nHOTINIT_ADOPT=on\nHOTINIT_INSTANCES=3\nHOTINIT_INTERVAL=50ms\n%s\n", address, strings.Join(more, "\n"))
}

// bothWays runs a test where the app's sockets can be taken, and where they cannot, as in
// most containers: hotinit makes them then.
func bothWays(t *testing.T, test func(t *testing.T, y *yard, address string)) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	setpriv, err := exec.LookPath("setpriv")
	ways := map[string][]string{"taken": nil}
	if err == nil && os.Geteuid() == 0 {
		ways["made"] = []string{setpriv, "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"}
	}
	for name, under := range ways {
		t.Run(name, func(t *testing.T) {
			address := port.Address(t)
			y := lay(t, map[string]string{"web": binds(address)})
			y.under = under
			y.start()
			y.instances(3, 1)
			test(t, y, address)
		})
	}
}

// answered waits until each of these instances has answered.
func (y *yard) answered(address string, instances ...string) {
	y.t.Helper()
	seen := map[string]bool{}
	y.Until("each instance answers", func() bool {
		seen[y.GivenNow(address).Env["HOTINIT_INSTANCE"]] = true
		for _, n := range instances {
			if !seen[n] {
				return false
			}
		}
		return true
	})
}

func TestInstancesOfAServerThatBindsItsPortShareIt(t *testing.T) {
	bothWays(t, func(t *testing.T, y *yard, a string) {
		y.answered(a, "0", "1", "2")
		l := load.Start(load.Options{Address: a})
		for i, change := range []func(){
			func() { box.Swap(t, y.server, "v2") },
			func() { y.write("web", binds(a, "A=1")) },
			func() { y.Signal(1) },
		} {
			since := len(y.Output.All())
			change()
			y.instances(3, i+2)
			if got := strings.Join(y.turns(since), " "); got != "web/0 web/1 web/2" {
				t.Errorf("change %d replaced %s", i, got)
			}
		}
		y.answered(a, "0", "1", "2")
		// The first one, which leads, is stopped and started by itself; then there are fewer.
		y.halt("web/0")
		y.answered(a, "1", "2")
		y.do("start", "web/0")
		y.Until("all run", func() bool { return y.all(3, serving) })
		y.answered(a, "0", "1", "2")
		y.write("web", strings.Replace(binds(a, "A=1"), "INSTANCES=3", "INSTANCES=2", 1))
		y.Line("web/2: is gone")
		y.answered(a, "0", "1")
		lossless(t, l)
		y.do("stop", "web")
		y.closes(a)
		y.do("start", "web")
		y.Until("all run", func() bool { return y.all(2, serving) })
		y.answered(a, "0", "1")
		y.remove("web")
		y.Line("web/0: is gone")
		y.closes(a)
		y.stop(0)
	})
}

func TestKilledHandoffsLoseNoSocketOfInstances(t *testing.T) {
	bothWays(t, func(t *testing.T, y *yard, a string) {
		l := load.Start(load.Options{Address: a})
		y.rollsThoughKilled(3, "web/0 web/1 web/2")
		y.KillHandoff()
		y.halt("web/0")
		y.answered(a, "1", "2")
		y.do("reload", "web", "--wait")
		y.answered(a, "1", "2")
		lossless(t, l)
		y.stop(0)
		if refused, err := box.Refused(a); err != nil || !refused {
			t.Errorf("the port is not free: %v", err)
		}
	})
}

func TestABrokenReleaseOfInstancesThatBindTheirPortIsTakenBack(t *testing.T) {
	bothWays(t, func(t *testing.T, y *yard, a string) {
		l := load.Start(load.Options{Address: a})
		box.Swap(t, y.server, "v2", "-hang", "before")
		y.write("web", binds(a, "HOTINIT_READY_TIMEOUT=1s"))
		y.Line("web/.: generation . failed")
		y.Until("all serve", func() bool { return y.all(3, serving) })
		y.answered(a, "0", "1", "2")
		lossless(t, l)
		y.stop(0)
	})
}

// python3 -m http.server is what many try first.
func TestInstancesOfPythonsServerShareItsPort(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	a := port.Address(t)
	y := lay(t, map[string]string{"web": `HOTINIT_COMMAND=["sh","-c","exec python3 -m http.server ` + a[len("127.0.0.1:"):] + ` --bind 127.0.0.1 --directory $HOTINIT_INSTANCE"]` + "\nHOTINIT_ADOPT=on\nHOTINIT_INSTANCES=4\n"})
	for _, n := range []string{"0", "1", "2", "3"} {
		err := os.Mkdir(filepath.Join(y.dir, n), 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(y.dir, n, "number"), []byte(n), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	y.start()
	y.instances(4, 1)
	numbers := map[string]bool{}
	y.Until("each of them answers", func() bool {
		// One after the other, most would go to the same process.
		answers := make(chan string)
		for range 20 {
			go func() {
				answer, err := box.Get(a, "/number")
				if err != nil {
					answer = ""
				}
				answers <- answer
			}()
		}
		for range 20 {
			numbers[<-answers] = true
		}
		return numbers["0"] && numbers["1"] && numbers["2"] && numbers["3"]
	})
	c := exec.Command(box.Hotinit, "check", "--programs", "programs")
	c.Dir, c.Env = y.dir, box.Environment()
	if out, _ := c.CombinedOutput(); !strings.Contains(string(out), "shared by the instances") {
		t.Errorf("check says\n%s", out)
	}
	y.stop(0)
}

// halt stops one instance, and waits until it has ended.
func (y *yard) halt(name string) {
	y.t.Helper()
	y.do("stop", name)
	y.Until(name+" has stopped", func() bool { return y.row(name).State == "stopped by hand" })
}

// do is ask that has to work.
func (y *yard) do(args ...string) {
	y.t.Helper()
	if code, text := y.ask(args...); code != 0 {
		y.t.Fatalf("hotinit %s: %d, %s\noutput:\n%s", strings.Join(args, " "), code, text, y.Output)
	}
}
