// Package examples_test starts each example under hotinit and swaps it under
// load.
package examples_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/port"
)

func TestMain(m *testing.M) { box.Main(m) }

// swaps of each example.
const swaps = 4

// example is one server and what it is known to do.
type example struct {
	directory string
	needs     []string // programs; without them the example is skipped
	flags     []string // of hotinit
	command   []string // run in the example's directory; {address}, {port}, {tmp} are replaced
	closes    bool     // each connection carries one request
	drops     []string // what the server does to requests when it is told to go
	status    int      // its exit status after SIGTERM
	socket    string   // options of the socket, with a comma before
	// anonymous: its answers do not tell the generation.
	anonymous bool
	prepare   func(t *testing.T, tmp, address string)
}

func (e example) run(t *testing.T) {
	for _, program := range e.needs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v (apt-packages.txt lists what the examples need)", err)
		}
	}
	directory, err := filepath.Abs(e.directory)
	if err != nil {
		t.Fatal(err)
	}
	tmp, address := t.TempDir(), port.Address(t)
	// Servers that give up root must be able to look into it.
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	if e.prepare != nil {
		e.prepare(t, tmp, address)
	}
	_, port, _ := net.SplitHostPort(address)
	fill := strings.NewReplacer("{address}", address, "{port}", port, "{tmp}", tmp)

	statusFile := filepath.Join(tmp, "status")
	args := append([]string{"--port", address + e.socket, "--status-file", statusFile}, e.flags...)
	args = append(args, "--")
	for _, word := range e.command {
		args = append(args, fill.Replace(word))
	}
	b := box.Start(t, box.Options{Args: args, Dir: directory, Sub: true, Env: box.Environment("TMPDIR=" + tmp)})
	b.Until("generation 1 runs", func() bool { return only(statusFile, 1) })

	v := visit(address, !e.closes)
	defer func() {
		if t.Failed() {
			t.Logf("hotinit and the server said:\n%s", b.Output)
		}
	}()
	v.more(t, 50)
	for generation := 2; generation <= swaps+1; generation++ {
		b.Signal(unix.SIGHUP)
		b.Until(fmt.Sprintf("only generation %d runs", generation), func() bool { return only(statusFile, generation) })
		v.more(t, 50)
	}
	counts := v.end()
	b.Signal(unix.SIGTERM)
	if status := b.Wait(); status != e.status {
		t.Errorf("hotinit ended with status %d, want %d", status, e.status)
	}

	t.Logf("%d swaps: %v", swaps, counts)
	if !e.anonymous && v.last != fmt.Sprint("generation ", swaps+1) {
		t.Errorf("the last answer was %q", v.last)
	}
	delete(counts, answered)
	for _, class := range e.drops {
		delete(counts, class)
	}
	if len(counts) > 0 {
		t.Errorf("lost: %v; %v", counts, v.first)
	}
}

// bad is a deploy that breaks an example: the file gets this content.
type bad struct{ file, content string }

// rejects deploys a bad release into the running example, as a git pull does, and
// then the good one again. Nothing may be lost by it.
func (e example) rejects(t *testing.T, b bad) {
	for _, program := range e.needs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v (apt-packages.txt lists what the examples need)", err)
		}
	}
	tmp, address := t.TempDir(), port.Address(t)
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(tmp, "site")
	if err := os.CopyFS(directory, os.DirFS(e.directory)); err != nil {
		t.Fatal(err)
	}
	if e.prepare != nil {
		e.prepare(t, directory, address)
	}
	fill := strings.NewReplacer("{address}", address, "{tmp}", directory)
	args := append([]string{"--port", address + e.socket, "--watch", directory, "--ignore", "*.pyc", "--ready-timeout", "8s"}, e.flags...)
	args = append(args, "--")
	for _, word := range e.command {
		args = append(args, fill.Replace(word))
	}
	h := box.Start(t, box.Options{Args: args, Dir: directory, Sub: true, Env: box.Environment("TMPDIR="+tmp, "PYTHONDONTWRITEBYTECODE=1")})
	h.Line(`generation 1.* is ready`)
	v := visit(address, !e.closes)
	defer func() {
		if t.Failed() {
			t.Logf("hotinit and the server said:\n%s", h.Output)
		}
	}()
	v.more(t, 50)
	path := filepath.Join(directory, b.file)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	deploy := func(content []byte) {
		t.Helper()
		info, err := os.Stat(path)
		if err == nil {
			err = os.WriteFile(path+".new", content, info.Mode())
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	deploy([]byte(b.content))
	h.Line(`generation 2 failed.*: .*generation 1 stays`)
	v.more(t, 50)
	if !e.anonymous && v.seenLast() != "generation 1" {
		t.Errorf("the last answer was %q", v.seenLast())
	}
	counts := v.end()
	t.Logf("a bad release: requests lost: %d; %v", lost(counts), counts)
	if lost(counts) > 0 || counts[again] > 0 {
		t.Errorf("lost: %v; %v", counts, v.first)
	}
	deploy(append(good, '\n'))
	h.Line(`generation [3-9].* is ready`)
	h.Signal(unix.SIGTERM)
	h.Wait()
}

func lost(counts map[string]int) (n int) {
	for class, of := range counts {
		if class != answered && class != again {
			n += of
		}
	}
	return n
}

// only reports whether this generation and no other one runs.
func only(statusFile string, generation int) bool {
	content, err := os.ReadFile(statusFile)
	lines := strings.Fields(string(content))
	return err == nil && len(lines) == 1 && strings.HasPrefix(lines[0], fmt.Sprint(generation, ":"))
}

// build builds a Go example. In a module of its own it needs what that module
// requires, which may not be here and not be got.
func build(directory string) func(t *testing.T, tmp, address string) {
	return func(t *testing.T, tmp, _ string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(directory, "..", "go.mod")); err == nil {
			download := exec.Command("go", "mod", "download")
			download.Dir = filepath.Join(directory, "..")
			if out, err := download.CombinedOutput(); err != nil {
				t.Skipf("its module needs others that cannot be got: %v: %s", err, out)
			}
		}
		c := exec.Command("go", "build", "-o", filepath.Join(tmp, "server"), ".")
		c.Dir = directory
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestDrainGo(t *testing.T) {
	example{
		directory: "drain-go",
		flags:     []string{"--ready", "notify"},
		command:   []string{"{tmp}/server"},
		prepare:   build("drain-go"),
	}.run(t)
}

func TestDrainNode(t *testing.T) {
	example{
		directory: "drain-node",
		needs:     []string{"node"},
		command:   []string{"node", "server.js"},
	}.run(t)
}

func TestDrainPython(t *testing.T) {
	example{
		directory: "drain-python",
		needs:     []string{"python3"},
		command:   []string{"python3", "server.py"},
	}.run(t)
}

func TestStarlet(t *testing.T) {
	example{
		directory: "starlet",
		needs:     []string{"plackup"},
		command:   []string{"plackup", "-E", "production", "-s", "Starlet", "--max-workers", "8", "app.psgi"},
		closes:    true,
	}.run(t)
}

func TestGunicorn(t *testing.T) {
	example{
		directory: "gunicorn",
		needs:     []string{"gunicorn"},
		command:   []string{"gunicorn", "--threads", "20", "--keep-alive", "5", "app:app"},
		drops:     []string{again},
	}.run(t)
}

func TestPuma(t *testing.T) {
	example{
		directory: "puma",
		needs:     []string{"puma"},
		command:   []string{"puma", "-C", "puma.rb"},
		drops:     []string{again},
	}.run(t)
}

func TestSocat(t *testing.T) {
	example{
		directory: "socat",
		needs:     []string{"socat", "perl"},
		command:   []string{"./server.sh"},
		closes:    true,
	}.run(t)
}

func TestNginx(t *testing.T) {
	example{
		directory: "nginx",
		socket:    ",nonblock",
		needs:     []string{"nginx"},
		flags:     []string{"--signal-on-hup", "QUIT", "--signal-on-term", "QUIT"},
		command:   []string{"./run.sh", "{tmp}/nginx.conf"},
		drops:     []string{again},
		anonymous: true,
		prepare:   nginxConf,
	}.run(t)
}

func nginxConf(t *testing.T, tmp, address string) {
	conf, err := os.ReadFile("nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf = []byte(strings.ReplaceAll(string(conf), "127.0.0.1:8080", address))
	if err := os.WriteFile(filepath.Join(tmp, "nginx.conf"), conf, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The Go port's own package, unchanged.
func TestGoPortBefore(t *testing.T) {
	example{
		directory: "go-port",
		command:   []string{"{tmp}/server"},
		drops:     []string{again, ended, reset},
		prepare:   build("go-port/before"),
	}.run(t)
}

// The same server with one import changed.
func TestGoPortAfter(t *testing.T) {
	example{
		directory: "go-port",
		command:   []string{"{tmp}/server"},
		drops:     []string{again, ended, reset},
		prepare:   build("go-port/after"),
	}.run(t)
}

// What a bad release of each costs: nothing.
func TestABadDeployIsRejected(t *testing.T) {
	hangs := "import time\ntime.sleep(1000)\n"
	for name, c := range map[string]struct {
		example
		bad
	}{
		"gunicorn, a syntax error": {example{directory: "gunicorn", needs: []string{"gunicorn"},
			command: []string{"gunicorn", "--threads", "20", "--keep-alive", "5", "app:app"}}, bad{"app.py", "def app(:\n"}},
		"gunicorn, an app that hangs as it is loaded": {example{directory: "gunicorn", needs: []string{"gunicorn"}, flags: []string{"--ready-timeout", "5s"},
			command: []string{"gunicorn", "--threads", "20", "--keep-alive", "5", "app:app"}}, bad{"app.py", hangs}},
		"puma": {example{directory: "puma", needs: []string{"puma"},
			command: []string{"puma", "-C", "puma.rb"}}, bad{"config.ru", "raise 'broken'\n"}},
		"Starlet": {example{directory: "starlet", needs: []string{"plackup"}, closes: true,
			command: []string{"plackup", "-E", "production", "-s", "Starlet", "--max-workers", "8", "app.psgi"}}, bad{"app.psgi", "die 'broken';\n"}},
		"Node": {example{directory: "drain-node", needs: []string{"node"},
			command: []string{"node", "server.js"}}, bad{"server.js", "require('./lib.js');\n"}},
		"Python": {example{directory: "drain-python", needs: []string{"python3"}, flags: []string{"--ready-timeout", "5s"},
			command: []string{"python3", "server.py"}}, bad{"server.py", hangs}},
		"nginx": {example{directory: "nginx", socket: ",nonblock", needs: []string{"nginx"}, anonymous: true,
			flags:   []string{"--signal-on-hup", "QUIT", "--signal-on-term", "QUIT"},
			command: []string{"./run.sh", "{tmp}/nginx.conf"},
			prepare: nginxConf}, bad{"nginx.conf", "no such directive;\n"}},
		"Go": {example{directory: "drain-go", flags: []string{"--ready", "notify"},
			command: []string{"{tmp}/server"}, prepare: build("drain-go")}, bad{"server", "#!/bin/sh\nexit 3\n"}},
		"the Go port": {example{directory: "go-port",
			command: []string{"{tmp}/server"}, prepare: build("go-port/before")}, bad{"server", "#!/bin/sh\nexit 3\n"}},
		// Its workers read accept.pl at each connection, the old generation's too: only
		// a copy keeps it as it was.
		"a shell script": {example{directory: "socat", needs: []string{"socat", "perl"}, closes: true, flags: []string{"--snapshot", "--ready-timeout", "5s"},
			command: []string{"./server.sh"}}, bad{"accept.pl", "die 'broken';\n"}},
	} {
		t.Run(name, func(t *testing.T) { c.example.rejects(t, c.bad) })
	}
}

func TestGoPortDiffersByOneImport(t *testing.T) {
	read := func(path string) string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, code, _ := strings.Cut(string(content), "package main")
		return code
	}
	changed := strings.Replace(read("go-port/before/main.go"),
		`"github.com/lestrrat/go-server-starter/listener"`, `"github.com/hotinit/hotinit/listener"`, 1)
	if changed != read("go-port/after/main.go") {
		t.Error("the servers differ by more than the import")
	}
}
