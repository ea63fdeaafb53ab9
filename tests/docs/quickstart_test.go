package docs

import (
	"bytes"
	"encoding/json"
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
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/port"
)

func TestMain(m *testing.M) { box.Main(m) }

// entry is one entry point of docs/quickstart.md and what it needs to run here.
type entry struct {
	files  string                                   // a directory of testdata, for /app
	build  func(t *testing.T, app, port, id string) // makes what is built, for a release of this name
	change string                                   // the file of a new release
	drops  bool                                     // it ends at once on SIGTERM: what it had accepted is lost
	silent bool                                     // it is no server
}

var entries = map[string]entry{
	"binary":   {build: buildServer, drops: true},
	"node":     {files: "node", change: "server.js", drops: true},
	"python":   {files: "python", change: "server.py", drops: true},
	"gunicorn": {files: "gunicorn", change: "app.py"},
	"puma":     {files: "puma", change: "config.ru", drops: true},
	"php":      {files: "php", change: "index.php", drops: true},
	"starman":  {files: "starman", change: "app.psgi", drops: true},
	"java":     {files: "java", build: buildJar, drops: true},
	"nginx":    {files: "nginx", change: "nginx.conf"},
	"haproxy":  {files: "haproxy", change: "haproxy.cfg"},
	"worker":   {build: buildWorker, silent: true},
}

// quickstarts are the entry points of docs/quickstart.md by name.
func quickstarts(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, m := range regexp.MustCompile("<!-- quickstart: (\\w+) -->\n```dockerfile\nENTRYPOINT (.*)\n```").FindAllStringSubmatch(string(page), -1) {
		var words []string
		if err := json.Unmarshal([]byte(m[2]), &words); err != nil {
			t.Fatalf("the entry point %q: %v", m[1], err)
		}
		found[m[1]] = words
	}
	if n := strings.Count(string(page), "ENTRYPOINT"); n != len(found) {
		t.Fatalf("docs/quickstart.md has %d entry points, of which %d have a name", n, len(found))
	}
	return found
}

func TestEachQuickStartIsSwappedUnderLoad(t *testing.T) {
	box.NeedNamespace(t)
	starts := quickstarts(t)
	for name := range entries {
		if starts[name] == nil {
			t.Errorf("docs/quickstart.md has no entry point %q", name)
		}
	}
	for name, words := range starts {
		e, ok := entries[name]
		if !ok {
			t.Errorf("the entry point %q of docs/quickstart.md is not tested", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e.swap(t, words)
		})
	}
}

func (e entry) swap(t *testing.T, words []string) {
	for i, word := range words {
		if word != "--" {
			continue
		}
		if program := words[i+1]; !strings.HasPrefix(program, "/app/") {
			if _, err := exec.LookPath(program); err != nil {
				t.Skipf("needs %s: %v", program, err)
			}
		}
	}
	app, port := t.TempDir(), freePort(t)
	if err := os.Chmod(app, 0o755); err != nil {
		t.Fatal(err)
	}
	if e.files != "" {
		copyFiles(t, filepath.Join("testdata", e.files), app, port)
	}
	deploy := func(id string) {
		if e.build != nil {
			e.build(t, app, port, id)
			return
		}
		path := filepath.Join(app, e.change)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// In place, as git and rsync --inplace do; another line end is another content.
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if e.build != nil {
		deploy("1")
	}
	var args []string
	for _, word := range words[1:] {
		args = append(args, strings.NewReplacer("/app/", app+"/", "8080", port).Replace(word))
		if word == "/app" {
			args[len(args)-1] = app
		}
	}
	b := box.Start(t, box.Options{Args: args, Dir: app,
		Env: box.Environment("TMPDIR="+t.TempDir(), "PYTHONDONTWRITEBYTECODE=1")})
	defer func() {
		if t.Failed() {
			t.Logf("hotinit and the server said:\n%s", b.Output)
		}
	}()
	// What changes after that line is another release. It may come before that the app is ready.
	watched := func() {
		line := regexp.MustCompile(`^hotinit: version .* watches `)
		b.Until("it is watched", func() bool { return b.Output.Count(line) > 0 })
	}
	if e.silent {
		b.Line(`^hotinit: generation 1 is ready`)
		watched()
		deploy("2")
		b.Line(`^hotinit: generation 2 is ready`)
		b.Line(`^hotinit: generation 1 ended`)
		b.Signal(unix.SIGTERM)
		b.Wait()
		return
	}
	// In either order.
	b.Line(`^hotinit: generation 1 (listens on \S+:` + port + `;|is ready)`)
	b.Line(`^hotinit: generation 1 (listens on \S+:` + port + `;|is ready)`)
	watched()
	address := "127.0.0.1:" + port
	b.Until("it listens, and is not just about to", func() bool {
		refused, err := box.Refused(address)
		return err == nil && !refused
	})
	l := load.Start(load.Options{Address: address})
	<-l.After(50)
	deploy("2")
	b.Line(`^hotinit: generation 2 is ready`)
	b.Line(`^hotinit: generation 1 ended`)
	<-l.After(50)
	report := l.Stop()
	t.Log(report)
	allowed := 0
	if e.drops {
		allowed = 6 // what the old generation had accepted when it ended
	}
	// A kept connection that its server has closed while it was idle is the server's
	// decision (docs/draining.md); the requests of three workers may find that.
	allowed += 3
	if report.Lost[load.Refused] > 0 || report.Losses() > allowed {
		t.Errorf("%v", report)
	}
	b.Signal(unix.SIGTERM)
	b.Wait()
}

// copyFiles copies a server's files. They name port 8080, and /run for what the server
// itself writes, and removes.
func copyFiles(t *testing.T, from, to, port string) {
	t.Helper()
	run := t.TempDir()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte("8080"), []byte(port))
		b = bytes.ReplaceAll(b, []byte("/run/"), []byte(run+"/"))
		if err := os.WriteFile(filepath.Join(to, f.Name()), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func freePort(t *testing.T) string { return strconv.Itoa(port.Free(t)) }

func buildServer(t *testing.T, app, port, id string) {
	buildGo(t, "testdata/binary", app, "server", "-X main.port="+port+" -X main.id="+id)
}

func buildWorker(t *testing.T, app, _, id string) {
	buildGo(t, "testdata/worker", app, "worker", "-X main.id="+id)
}

// buildGo deploys a program as the page says: beside, and renamed.
func buildGo(t *testing.T, source, app, name, flags string) {
	t.Helper()
	made := filepath.Join(app, ".new")
	run(t, "", "go", "build", "-ldflags", flags, "-o", made, "./"+source)
	if err := os.Rename(made, filepath.Join(app, name)); err != nil {
		t.Fatal(err)
	}
}

func buildJar(t *testing.T, app, _, id string) {
	t.Helper()
	classes := t.TempDir()
	run(t, "", "javac", "-d", classes, filepath.Join(app, "Server.java"))
	if err := os.WriteFile(filepath.Join(classes, "id"), []byte(id), 0o644); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(app, ".new")
	run(t, classes, "jar", "--create", "--file", made, "--main-class", "Server", ".")
	if err := os.Rename(made, filepath.Join(app, "app.jar")); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir string, words ...string) {
	t.Helper()
	c := exec.Command(words[0], words[1:]...)
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%q: %w: %s", words, err, out))
	}
}
