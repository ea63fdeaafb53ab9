package docker

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// second is an engine of the test's own, whose docker run --init is hotinit: the
// engine that runs already cannot be told of another init.
type second struct {
	t       *testing.T
	dir     string
	host    string
	words   []string
	output  *box.Lines // its log
	process *os.Process
	ended   chan struct{}
}

// startSecond starts dockerd with all that it has in a temporary directory. It ends
// with the test, and its containers and its containerd with it.
func startSecond(t *testing.T, flags ...string) *second {
	t.Helper()
	box.Need(t, "docker", Missing())
	path, err := exec.LookPath("dockerd")
	if err == nil && os.Getuid() != 0 {
		err = fmt.Errorf("only root may start an engine")
	}
	box.Need(t, "dockerd", err)
	// The path of a unix socket is short; t.TempDir is not.
	dir, err := os.MkdirTemp("", "hotinit-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(dir+"/data", unix.MNT_DETACH) // one that is killed leaves it
		os.RemoveAll(dir)
	})
	link := filepath.Join(dir, "docker-init")
	if err := os.Symlink(box.Hotinit, link); err != nil {
		t.Fatal(err)
	}
	e := &second{t: t, dir: dir, host: "unix://" + dir + "/engine.sock"}
	name := Name()
	e.words = append([]string{path, "--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid", "-H", e.host,
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs", "--config-file", dir + "/none.json",
		"--containerd-namespace", name, "--containerd-plugins-namespace", name + "-plugins",
		"--init-path", link}, flags...)
	if err := os.WriteFile(dir+"/none.json", []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// With live-restore the containers would outlive it.
		if e.process != nil && (!e.runs() && e.start() != nil || !e.clean()) {
			t.Errorf("containers may be left:\n%s", e.output)
		}
		if e.process != nil {
			e.end(unix.SIGTERM)
		}
	})
	if err := e.start(); err != nil {
		t.Skipf("a second engine does not start here: %v\n%s", err, e.output)
	}
	return e
}

// start starts it, in the place of one that has ended.
func (e *second) start() error {
	output, ended := box.NewLines(), make(chan struct{})
	c := exec.Command(e.words[0], e.words[1:]...)
	c.Stdout, c.Stderr = output, output
	// A signal of the terminal to the test is not for it: the test ends it. Its
	// network is its own, for an engine that is to have no bridge removes docker0,
	// which is the other engine's.
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM, Cloneflags: unix.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		return err
	}
	e.output, e.process, e.ended = output, c.Process, ended
	go func() {
		c.Wait()
		output.End()
		close(ended)
	}()
	_, err := output.Find(`API listen on`)
	return err
}

func (e *second) runs() bool {
	select {
	case <-e.ended:
		return false
	default:
		return true
	}
}

// end ends it by a signal. The next one would take a containerd that is just ending for
// one that runs.
func (e *second) end(by unix.Signal) {
	e.t.Helper()
	pid, _ := strconv.Atoi(strings.TrimSpace(read(e.dir + "/exec/containerd/containerd.pid")))
	e.process.Signal(by)
	if !box.Within(e.ended) {
		e.process.Kill()
		e.t.Errorf("the engine did not end:\n%s", e.output)
	}
	if pid > 1 && !box.Eventually(func() bool { return unix.Kill(pid, 0) == unix.ESRCH }) {
		e.t.Errorf("its containerd, process %d, did not end", pid)
	}
}

// clean removes all containers, and reports whether it did.
func (e *second) clean() bool {
	out, err := e.command("ps", "-aq").Output()
	if all := strings.Fields(string(out)); err == nil && len(all) > 0 {
		err = e.command(append([]string{"rm", "-f", "-v"}, all...)...).Run()
	}
	return err == nil
}

func (e *second) command(args ...string) *exec.Cmd {
	return exec.Command("docker", append([]string{"-H", e.host}, args...)...)
}

func (e *second) do(args ...string) string {
	e.t.Helper()
	out, err := e.command(args...).CombinedOutput()
	if err != nil {
		e.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// image imports one that has nothing but the application.
func (e *second) image() string {
	e.t.Helper()
	app, err := os.ReadFile(box.App)
	if err != nil {
		e.t.Fatal(err)
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "app", Mode: 0o755, Size: int64(len(app))})
	if err == nil {
		w.Write(app)
		err = w.Close()
	}
	if err != nil {
		e.t.Fatal(err)
	}
	c := e.command("import", "-", "app")
	c.Stdin = &packed
	if out, err := c.CombinedOutput(); err != nil {
		e.t.Fatalf("docker import: %v\n%s", err, out)
	}
	return "app"
}

// One engine for all, as its start takes seconds.
func TestHotinitIsTheInitOfDockerRunInit(t *testing.T) {
	e := startSecond(t)
	image := e.image()
	run := func(args ...string) []string {
		return append([]string{"run", "--init", "--network", "none"}, args...)
	}

	t.Run("docker info has its version", func(t *testing.T) {
		version, err := exec.Command(box.Hotinit, "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		_, commit, ok := strings.Cut(strings.TrimSpace(string(version)), "git.")
		if !ok {
			t.Fatalf("its version is %q", version)
		}
		info := e.do("info")
		if !regexp.MustCompile(`(?m)^ *init version: ` + regexp.QuoteMeta(commit) + `( |$)`).MatchString(info) {
			t.Errorf("there is no init version %s in\n%s", commit, info)
		}
		// "failed to parse docker-init version", "failed to retrieve ... version"
		if regexp.MustCompile(`failed to (parse|retrieve) \S*init`).MatchString(e.output.String()) {
			t.Errorf("the engine says:\n%s", e.output)
		}
	})

	t.Run("PID 1 is hotinit", func(t *testing.T) {
		name := Name()
		e.do(append(run("-d", "--name", name), image, "/app", "-echo", "-status", "3")...)
		pid := e.do("inspect", "--format", "{{.State.Pid}}", name)
		words, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if want := "/sbin/docker-init\x00--\x00/app\x00-echo\x00-status\x003\x00"; err != nil || string(words) != want {
			t.Errorf("it is %q, %v; want %q", words, err, want)
		}
		running, err := os.ReadFile("/proc/" + pid + "/exe")
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := os.ReadFile(box.Hotinit); err != nil || !bytes.Equal(running, ours) {
			t.Errorf("its executable is another one (%v)", err)
		}
		logged := func(line string) func() bool {
			return func() bool { return strings.Contains(e.do("logs", name), line) }
		}
		if !box.Eventually(logged("listening to signals")) {
			t.Fatal("the app does not run")
		}
		e.do("kill", "-s", "HUP", name)
		if !box.Eventually(logged("got SIGHUP")) {
			t.Error("HUP was not relayed")
		}
		e.do("stop", "-t", "60", name)
		if status := e.do("wait", name); status != "3" {
			t.Errorf("docker stop: status %s, want 3", status)
		}
		if !logged("got SIGTERM")() {
			t.Errorf("TERM was not relayed:\n%s", e.do("logs", name))
		}
	})

	t.Run("statuses are exact", func(t *testing.T) {
		for _, status := range []int{0, 1, 42, 255} {
			err := e.command(append(run("--rm"), image, "/app", "-exit", strconv.Itoa(status), "-orphans", "50")...).Run()
			got := 0
			if exit, ok := err.(*exec.ExitError); ok {
				got = exit.ExitCode()
			}
			if got != status {
				t.Errorf("status %d, want %d", got, status)
			}
		}
		err := e.command(append(run("--rm"), image, "/app", "-kill", "9")...).Run()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 137 {
			t.Errorf("killed by SIGKILL: %v, want 137", err)
		}
	})

	t.Run("orphans are reaped", func(t *testing.T) {
		name := Name()
		e.do(append(run("-d", "--name", name), image, "/app", "-orphans", "300", "-echo")...)
		if !box.Eventually(func() bool {
			return strings.Contains(e.do("logs", name), "listening") && strings.Count(e.do("top", name, "-o", "pid,stat"), "\n") == 3
		}) {
			t.Errorf("there are more than three:\n%s", e.do("top", name))
		}
		e.do("rm", "-f", name)
	})
}
