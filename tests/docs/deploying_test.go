package docs

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

const deployDir = top + "/examples/deploy"

var (
	listed = regexp.MustCompile(`(?m)^[^#\n]*(\["[^\]]*"\])`) // a command as a list, in YAML, in a unit
	lined  = regexp.MustCompile(`(?m)^Exec\w+=(.*)$`)
)

// deployCommands are hotinit's command lines in the files that docs/deploying.md
// names, by file.
func deployCommands(t *testing.T) map[string][][]string {
	t.Helper()
	names, err := filepath.Glob(deployDir + "/web.*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][][]string{}
	for _, name := range append(names, deployDir+"/stack.yaml", top+"/compose.example.yaml") {
		file := read(t, name)
		var lines [][]string
		for _, m := range listed.FindAllStringSubmatch(file, -1) {
			var words []string
			if err := json.Unmarshal([]byte(m[1]), &words); err != nil {
				t.Fatalf("%s: %s: %v", name, m[1], err)
			}
			lines = append(lines, words)
		}
		for _, m := range lined.FindAllStringSubmatch(file, -1) {
			lines = append(lines, strings.Fields(m[1]))
		}
		for _, words := range lines {
			i := slices.IndexFunc(words, func(w string) bool { return filepath.Base(w) == "hotinit" })
			if i >= 0 {
				found[filepath.Base(name)] = append(found[filepath.Base(name)], words[i:])
			}
		}
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each command line of hotinit in these files is accepted: its flags, or the
// subcommand and the subcommand's flags.
func TestEachCommandLineOfTheDeployFilesIsAccepted(t *testing.T) {
	commands := deployCommands(t)
	for _, name := range []string{"compose.example.yaml", "stack.yaml", "web.container", "web.service"} {
		if len(commands[name]) == 0 {
			t.Errorf("found no command line of hotinit in %s", name)
		}
	}
	for name, lines := range commands {
		for _, words := range lines {
			usage := settings.CommandUsage(words[1])
			if usage == "" {
				if _, err := settings.Parse(append([]string{"hotinit"}, words[1:]...), nil); err != nil {
					t.Errorf("%s: %q: %v", name, words, err)
				}
				continue
			}
			for _, word := range words[2:] {
				if strings.HasPrefix(word, "-") && !regexp.MustCompile(`\[`+word+`[ \]]`).MatchString(usage) {
					t.Errorf("%s: %q: the subcommand has no flag %s", name, words, word)
				}
			}
		}
	}
}

// Docker's own tools accept the two files, and say of nothing that they ignore it.
func TestDockerReadsTheDeployFiles(t *testing.T) {
	t.Run("compose", func(t *testing.T) {
		words := []string{"docker", "compose"}
		if exec.Command("docker", "compose", "version").Run() != nil {
			words = []string{"docker-compose"}
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Skip("neither docker compose nor docker-compose is installed")
			}
		}
		run(t, top, append(words, "-f", "compose.example.yaml", "config", "-q")...)
	})
	t.Run("stack", func(t *testing.T) {
		if exec.Command("docker", "stack", "config", "--help").Run() != nil {
			t.Skip("there is no docker stack config")
		}
		c := exec.Command("docker", "stack", "config", "-c", "stack.yaml")
		c.Dir, c.Env = deployDir, append(os.Environ(), "NODE=here")
		var said strings.Builder
		c.Stderr = &said
		out, err := c.Output()
		// It exits with 0 also where it ignores a part, and says so.
		if err != nil || said.Len() > 0 {
			t.Fatalf("docker stack config: %v: %s", err, said.String())
		}
		for _, want := range []string{"replicas: 3", "- /usr/local/bin/swap-once {}\n", "stop_grace_period: 12s", "target: /app\n", "mode: 365\n", "- node.hostname == here\n"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("docker stack config prints no %q:\n%s", want, out)
			}
		}
	})
}

// quadlet is Podman's generator of units.
func quadlet() (string, error) {
	for _, path := range []string{"/usr/lib/podman/quadlet", "/usr/libexec/podman/quadlet"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath("quadlet")
}

func TestPodmanMakesAServiceOfTheQuadlet(t *testing.T) {
	path, err := quadlet()
	if err != nil {
		t.Skipf("Podman's quadlet, of 4.4 or newer, is not installed: %v", err)
	}
	dir := t.TempDir()
	install(t, dir, "web.container", nil)
	c := exec.Command(path, "-dryrun")
	c.Env = append(os.Environ(), "QUADLET_UNIT_DIRS="+dir)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("quadlet: %v\n%s", err, out)
	}
	for _, want := range []string{"Type=notify\n", "--sdnotify=container ", "-v /srv/web:/app ", `--health-cmd "[\"hotinit\", \"health\"]" `} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the service has no %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "--init ") {
		t.Errorf("the service adds an init:\n%s", out)
	}
}

// install copies a file of examples/deploy to a directory.
func install(t *testing.T, dir, name string, change *strings.Replacer) {
	t.Helper()
	text := read(t, filepath.Join(deployDir, name))
	if change != nil {
		text = change.Replace(text)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip(err)
	}
	// It also looks whether the program is there, and names a file beside each complaint.
	dir := t.TempDir()
	for _, name := range []string{"web.service", "web.socket"} {
		install(t, dir, name, strings.NewReplacer("/usr/local/bin/hotinit", box.Hotinit))
	}
	out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "web.service"), filepath.Join(dir, "web.socket")).CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// What the units say is done here by systemd's own program for socket activation:
// it starts ExecStart with the socket, hotinit tells the manager, and ExecReload swaps.
func TestTheUnitsCommandsServeOnTheSocketOfSystemd(t *testing.T) {
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip(err)
	}
	dir, address := t.TempDir(), box.Address()
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	manager, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(manager, &unix.SockaddrUnix{Name: dir + "/notify"})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(manager)
	patience := unix.NsecToTimeval(box.Patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(manager, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		t.Fatal(err)
	}
	told := func(want string) {
		t.Helper()
		buf := make([]byte, 64)
		n, err := unix.Read(manager, buf)
		if err != nil || string(buf[:max(n, 0)]) != want {
			t.Fatalf("the manager is told %q (%v), want %q", buf[:max(n, 0)], err, want)
		}
	}
	var start, reload []string
	for _, words := range deployCommands(t)["web.service"] {
		if words[1] == "reload" {
			reload = words
		} else {
			start = words
		}
	}
	if start == nil || reload == nil {
		t.Fatal("web.service has no ExecStart, or no ExecReload")
	}
	start[0], start[len(start)-1] = box.Hotinit, path

	b := box.Start(t, box.Options{Binary: activate, Name: activate, Sub: true, Dir: dir,
		Args: append([]string{"-l", address, "-E", "NOTIFY_SOCKET=" + dir + "/notify"}, start...)})
	b.Line(`^Listening on `)
	if _, err := box.Answers(address, "v1 generation 1 "); err != nil {
		t.Fatalf("%v\n%s", err, b.Output)
	}
	told("READY=1")
	for i := range reload {
		reload[i] = strings.ReplaceAll(reload[i], "$MAINPID", strconv.Itoa(b.PID()))
	}
	out, err := exec.Command(box.Hotinit, reload[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", reload, err, out)
	}
	if _, err := box.Answers(address, "v1 generation 2 "); err != nil {
		t.Fatalf("%v\n%s", err, b.Output)
	}
	// A release that fails is an error of systemctl reload.
	box.Swap(t, path, "v2", "-exit", "3")
	b.Line(`^hotinit: generation 3 .*generation 2 stays`)
	var exit *exec.ExitError
	if out, err := exec.Command(box.Hotinit, reload[1:]...).CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%q: %v, want 1: %s", reload, err, out)
	}
	b.Signal(unix.SIGTERM)
	told("STOPPING=1")
	if status := b.Wait(); status != 0 {
		t.Errorf("it ends with %d", status)
	}
}

var fromFile = regexp.MustCompile("<!-- from (\\S+) -->\n```\\w*\n(?s:(.*?))```\n")

// What a page quotes from a file is in that file.
func TestWhatPagesQuoteFromExamplesIsThere(t *testing.T) {
	n := 0
	for name, page := range pages(t) {
		for _, m := range fromFile.FindAllStringSubmatch(page, -1) {
			n++
			if !strings.Contains(read(t, filepath.Join(top, m[1])), m[2]) {
				t.Errorf("%s: the block from %s is not in that file:\n%s", name, m[1], m[2])
			}
		}
	}
	if n < 4 {
		t.Errorf("found only %d blocks", n)
	}
}

// Each file of examples/deploy is explained.
func TestTheDeployFilesAreExplained(t *testing.T) {
	page := pages(t)[filepath.Join("docs", "deploying.md")]
	files, err := os.ReadDir(deployDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.Contains(page, "examples/deploy/"+f.Name()) {
			t.Errorf("docs/deploying.md does not name %s", f.Name())
		}
	}
}
