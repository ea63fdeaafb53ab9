package adopt

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestMain(m *testing.M) { box.Main(m) }

// server is one that binds its own port.
type server struct {
	name    string
	command string   // its words; {port}, {tmp} are replaced
	release string   // the file of testdata that is replaced for the second swap
	files   []string // others that it needs there
	flags   string   // of hotinit
	drops   bool     // it ends at once: the requests that it has accepted are lost
	request string   // HTTP unless it says another
	want    string   // "generation" unless it says another
	build   func(t *testing.T, tmp string)
}

var servers = []server{
	{name: "python http.server", command: "python3 {tmp}/server.py", release: "server.py", drops: true},
	{name: "gunicorn", command: "gunicorn --chdir {tmp} -b 127.0.0.1:{port} -w 2 app:app", release: "app.py", flags: "--watch {tmp}/app.py"},
	{name: "puma", command: "puma --quiet -b tcp://127.0.0.1:{port} {tmp}/config.ru", release: "config.ru", flags: "--watch {tmp}/config.ru"},
	{name: "node", command: "node {tmp}/server.js", release: "server.js", drops: true},
	{name: "node cluster", command: "node {tmp}/cluster.js", release: "cluster.js", files: []string{"server.js"}, drops: true},
	{name: "nginx", command: "nginx -e stderr -c {tmp}/nginx.conf", release: "nginx.conf", flags: "--signal-on-hup QUIT --watch {tmp}/nginx.conf"},
	{name: "nginx reuseport", command: "nginx -e stderr -c {tmp}/nginx.conf", release: "nginx.conf", flags: "--signal-on-hup QUIT --watch {tmp}/nginx.conf"},
	{name: "haproxy", command: "haproxy -db -f {tmp}/haproxy.cfg", release: "haproxy.cfg", flags: "--signal-on-hup USR1 --watch {tmp}/haproxy.cfg"},
	{name: "php", command: "php -q -S 127.0.0.1:{port} -t {tmp}", release: "index.php", flags: "--watch {tmp}/index.php", drops: true},
	{name: "starman", command: "starman --listen 127.0.0.1:{port} --workers 2 {tmp}/app.psgi", release: "app.psgi", flags: "--signal-on-hup QUIT --watch {tmp}/app.psgi", drops: true},
	{name: "lighttpd", command: "lighttpd -D -f {tmp}/lighttpd.conf", release: "lighttpd.conf", flags: "--signal-on-hup INT --watch {tmp}/lighttpd.conf",
		build: func(t *testing.T, tmp string) { write(t, filepath.Join(tmp, "index.html"), "generation\n") }},
	{name: "caddy", command: "caddy run --config {tmp}/Caddyfile --adapter caddyfile", release: "Caddyfile", flags: "--watch {tmp}/Caddyfile"},
	{name: "static Go", command: "{tmp}/server", drops: true, build: buildGo},
	{name: "Java HttpServer", command: "java -Xshare:auto -XX:TieredStopAtLevel=1 -cp {tmp} Server", release: "Server.java", flags: "--watch {tmp}/Server.java", drops: true,
		build: func(t *testing.T, tmp string) { run(t, tmp, "javac", "Server.java") }},
	{name: "redis", command: "redis-server --port {port} --bind 127.0.0.1 --save '' --dir {tmp}", drops: true, request: "PING\r\n", want: "+PONG"},
	{name: "memcached", command: "memcached -l 127.0.0.1 -p {port} -u nobody", drops: true, request: "version\r\n", want: "VERSION"},
}

// swapsOfEach is how many times each server is swapped by a signal, and as often
// again by a changed release where it has one.
const swapsOfEach = 2

func TestServersThatBindTheirOwnPortAreSwappedUnderLoad(t *testing.T) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.swap(t, box.Options{})
		})
	}
}

// In a container, pidfd_getfd(2) is forbidden and root has no CAP_SYS_PTRACE:
// hotinit makes the sockets then. It is tested with those that differ most.
func TestServersAreSwappedWhereTheirSocketsCannotBeTaken(t *testing.T) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, and setpriv (util-linux)")
	}
	for _, s := range servers {
		if s.name == "memcached" {
			continue // it changes its user and executes nothing: the kernel shows it to nobody
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.swap(t, box.Options{Binary: setpriv, Name: "setpriv",
				Args: []string{"--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", box.Hotinit}})
		})
	}
}

func (s server) swap(t *testing.T, o box.Options) {
	words := strings.Fields(s.command)
	if _, err := exec.LookPath(words[0]); err != nil && !strings.HasPrefix(words[0], "{") {
		t.Skipf("%v (tests/adopt/apt-packages.txt lists what it needs)", err)
	}
	tmp, port := t.TempDir(), freePort(t)
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	options := ""
	if s.name == "nginx reuseport" {
		options = " reuseport"
	}
	fill := strings.NewReplacer("{port}", port, "{tmp}", tmp, "{options}", options, "''", "")
	revision := ""
	install := func(name string) {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(tmp, name), fill.Replace(string(b))+revision)
	}
	for _, name := range append(s.files, s.release) {
		if name != "" {
			install(name)
		}
	}
	if s.build != nil {
		s.build(t, tmp)
	}
	o.Args = append(o.Args, strings.Fields("--settle 100ms "+fill.Replace(s.flags))...)
	o.Args = append(o.Args, "--")
	for _, word := range words {
		o.Args = append(o.Args, fill.Replace(word))
	}
	o.Dir = tmp
	o.Env = box.Environment("PORT="+port, "HOST=127.0.0.1", "TMPDIR="+tmp, "PYTHONDONTWRITEBYTECODE=1", "XDG_DATA_HOME="+tmp, "XDG_CONFIG_HOME="+tmp)
	b := box.Start(t, o)
	defer func() {
		if t.Failed() {
			t.Logf("hotinit and the server said:\n%s", b.Output)
		}
	}()
	b.Line(`^hotinit: generation 1 listens on \S+:` + port + ";")
	request, want := s.request, s.want
	if request == "" {
		request, want = httpRequest, "generation"
	}
	l := startLoad("127.0.0.1:"+port, request, want)
	defer func() {
		if t.Failed() {
			t.Logf("refused: %v; lost: %v", l.refused, l.lost)
		}
	}()
	l.more(t, 50)
	generation := 1
	swap := func(how func()) {
		generation++
		how()
		b.Line(fmt.Sprintf(`^hotinit: generation %d is ready`, generation))
		b.Line(fmt.Sprintf(`^hotinit: generation %d ended`, generation-1))
		l.more(t, 50)
	}
	for range swapsOfEach {
		swap(func() { b.Signal(unix.SIGHUP) })
		if s.release == "" {
			continue
		}
		swap(func() {
			revision += "\n" // the same in all of these languages, and another content
			install(s.release)
		})
	}
	l.end()
	b.Signal(unix.SIGTERM)
	b.Wait()

	t.Logf("%d requests, %d swaps: %d refused, %d lost", l.done, generation-1, len(l.refused), len(l.lost))
	allowed := 0
	if s.drops {
		allowed = workers * (generation - 1) // what each generation had accepted when it ended
	}
	if len(l.refused) > 0 || len(l.lost) > allowed {
		t.Errorf("%d requests were refused, %d lost; want 0, and at most %d", len(l.refused), len(l.lost), allowed)
	}
}

// write replaces a file as a deploy does: by renaming.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir string, words ...string) {
	t.Helper()
	c := exec.Command(words[0], words[1:]...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", words, err, out)
	}
}

func buildGo(t *testing.T, tmp string) {
	t.Helper()
	c := exec.Command("go", "build", "-o", filepath.Join(tmp, "server"), ".")
	c.Dir, c.Env = "testdata/go", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
