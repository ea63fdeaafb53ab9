package adopt

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/port"
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
	// unix is the path that it binds instead of a port. It removes the path before
	// it binds, so that who comes in between is refused, and says up when it listens.
	unix, up string
}

var servers = []server{
	{name: "python http.server", command: "python3 {tmp}/server.py", release: "server.py", drops: true},
	{name: "gunicorn", command: "gunicorn --chdir {tmp} -b 127.0.0.1:{port} -w 2 app:app", release: "app.py", flags: "--watch {tmp}/app.py"},
	{name: "gunicorn at a path", command: "gunicorn --chdir {tmp} -b unix:{tmp}/app.sock -w 2 app:app", release: "app.py", flags: "--watch {tmp}/app.py --interval 8s",
		unix: "app.sock", up: "Listening at"},
	{name: "puma", command: "puma --quiet -b tcp://127.0.0.1:{port} {tmp}/config.ru", release: "config.ru", flags: "--watch {tmp}/config.ru", drops: true},
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

// place is where a server's files are, and the port that it binds.
type place struct {
	server
	t        *testing.T
	tmp      string // the directory
	inside   string // the same, as the server sees it
	port     string
	revision string
}

// prepare installs the server's files.
func (s server) prepare(t *testing.T) *place {
	words := strings.Fields(s.command)
	if _, err := exec.LookPath(words[0]); err != nil && !strings.HasPrefix(words[0], "{") {
		t.Skipf("%v (examples/apt-packages.txt lists what it needs)", err)
	}
	tmp := t.TempDir()
	p := &place{server: s, t: t, tmp: tmp, inside: tmp, port: strconv.Itoa(port.Free(t))}
	if err := os.Chmod(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) fill(text string) string {
	options := ""
	if p.name == "nginx reuseport" {
		options = " reuseport"
	}
	return strings.NewReplacer("{port}", p.port, "{tmp}", p.inside, "{options}", options, "''", "").Replace(text)
}

func (p *place) install() {
	for _, name := range append(p.files, p.release) {
		if name != "" {
			p.put(name)
		}
	}
	if p.build != nil {
		p.build(p.t, p.tmp)
	}
}

func (p *place) put(name string) {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		p.t.Fatal(err)
	}
	write(p.t, filepath.Join(p.tmp, name), p.fill(string(b))+p.revision)
}

// args are hotinit's.
func (p *place) args(flags ...string) []string {
	// With -v it is said in any case that the first generation is ready: one that takes
	// more than --interval until it listens is so before, and hotinit a plain init till then.
	args := append(flags, strings.Fields("-v --settle 100ms "+p.fill(p.flags))...)
	args = append(args, "--")
	for _, word := range strings.Fields(p.command) {
		args = append(args, p.fill(word))
	}
	return args
}

func (p *place) env() []string {
	return []string{"PORT=" + p.port, "HOST=127.0.0.1", "TMPDIR=" + p.inside, "PYTHONDONTWRITEBYTECODE=1",
		"XDG_DATA_HOME=" + p.inside, "XDG_CONFIG_HOME=" + p.inside}
}

// underLoad swaps the server while it is asked, and returns how many requests
// were lost, and how many it may have dropped.
func (p *place) underLoad(line func(pattern string), hup func()) {
	t := p.t
	t.Helper()
	address := "127.0.0.1:" + p.port
	if p.unix != "" {
		address = filepath.Join(p.tmp, p.unix)
		line(p.up)
	} else {
		// In either order. The kernel does what listen(2) asks for just after the
		// one was said.
		up := `^hotinit: generation 1 (listens on \S+:` + p.port + `;|is ready)`
		line(up)
		line(up)
		if !box.Eventually(func() bool { refused, err := box.Refused(address); return err == nil && !refused }) {
			t.Fatalf("nobody listens at %s", address)
		}
	}
	request, want := p.request, p.want
	if request == "" {
		request, want = httpRequest, "generation"
	}
	l := startLoad(address, request, want)
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
		line(fmt.Sprintf(`^hotinit: generation %d is ready`, generation))
		line(fmt.Sprintf(`^hotinit: generation %d ended`, generation-1))
		l.more(t, 50)
	}
	swaps := swapsOfEach
	if p.unix != "" {
		swaps = 1 // each takes --interval
	}
	for range swaps {
		swap(hup)
		if p.release != "" {
			swap(func() {
				p.revision += "\n" // the same in all of these languages, and another content
				p.put(p.release)
			})
		}
	}
	l.end()
	t.Logf("%d requests, %d swaps: %d refused, %d lost", l.done, generation-1, len(l.refused), len(l.lost))
	allowed := 0
	if p.drops {
		allowed = workers * (generation - 1) // what each generation had accepted when it ended
	}
	gaps := 0
	if p.unix != "" {
		// From the app's unlink to its listen, however long it takes where the app gets no
		// processor just then.
		gaps = generation - 1
	}
	if l.gaps > gaps || len(l.lost) > allowed {
		t.Errorf("requests were refused %d times, %d lost; want at most %d and %d", l.gaps, len(l.lost), gaps, allowed)
	}
}

func (s server) swap(t *testing.T, o box.Options) {
	p := s.prepare(t)
	p.install()
	o.Args = append(o.Args, p.args()...)
	o.Dir, o.Env = p.tmp, box.Environment(p.env()...)
	b := box.Start(t, o)
	defer func() {
		if t.Failed() {
			t.Logf("hotinit and the server said:\n%s", b.Output)
		}
	}()
	p.underLoad(func(pattern string) { b.Line(pattern) }, func() { b.Signal(unix.SIGHUP) })
	b.Signal(unix.SIGTERM)
	b.Wait()
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
	c.Dir, c.Env = "../../examples/any-image/server", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
