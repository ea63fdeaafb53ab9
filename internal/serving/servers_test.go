package serving

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/proc"
)

// real is a server as people run it, with its socket as descriptor 3.
type real struct {
	name    string
	command string            // of sh; {port} is replaced in it, and in the files
	files   map[string]string // in the directory that it runs in
	needs   string            // a program, if not the first word
	noLoad  bool              // it has no app that could take its time to load
	fastCGI bool
}

// load is how long the apps take to load. It is done by a worker where there
// are any: until then a master that waits must not be taken for one that serves.
const load = 700 * time.Millisecond

// soon is how far what is reported may be from when the server can answer.
const soon = 300 * time.Millisecond

const wsgi = `
import time
time.sleep(0.7)
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
application = app
`

const rack = `
sleep 0.7
run ->(_env) { [200, { 'Content-Type' => 'text/plain', 'Content-Length' => '3' }, ["ok\n"]] }
`

const psgi = `
select(undef, undef, undef, 0.7);
sub { [200, ['Content-Type' => 'text/plain', 'Content-Length' => 3], ["ok\n"]] };
`

const node = `
const server = require('node:http').createServer((_, response) => response.end('ok\n'));
const until = Date.now() + 700;
while (Date.now() < until);
server.listen({ fd: 3 });
`

// listenFDs makes sh what systemd is to a server.
const listenFDs = `LISTEN_PID=$$ LISTEN_FDS=1 exec `

var servers = []real{
	{name: "gunicorn, sync", command: listenFDs + "gunicorn app:app", needs: "gunicorn", files: map[string]string{"app.py": wsgi}},
	{name: "gunicorn, gthread", command: listenFDs + "gunicorn --threads 4 --workers 2 app:app", needs: "gunicorn", files: map[string]string{"app.py": wsgi}},
	{name: "gunicorn, preloaded", command: listenFDs + "gunicorn --preload app:app", needs: "gunicorn", files: map[string]string{"app.py": wsgi}},
	{name: "uvicorn", command: "exec uvicorn --fd 3 app:app", needs: "uvicorn", files: map[string]string{"app.py": `
import time
time.sleep(0.7)
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok\n"})
`}},
	{name: "uwsgi", command: "exec uwsgi --plugin python3 --http-socket fd://3 --master --processes 2 --lazy-apps --wsgi-file app.py", needs: "uwsgi", files: map[string]string{"app.py": wsgi}},
	{name: "Python's http.server", command: "exec python3 app.py", needs: "python3", files: map[string]string{"app.py": `
import socket, time
from http.server import BaseHTTPRequestHandler, HTTPServer
time.sleep(0.7)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok\n")
server = HTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.serve_forever()
`}},
	{name: "puma, single", command: listenFDs + "puma -C puma.rb", needs: "puma", files: map[string]string{"config.ru": rack, "puma.rb": "bind_to_activated_sockets 'only'\n"}},
	{name: "puma, cluster", command: listenFDs + "puma -C puma.rb -w 2", needs: "puma", files: map[string]string{"config.ru": rack, "puma.rb": "bind_to_activated_sockets 'only'\n"}},
	{name: "unicorn", command: "UNICORN_FD=3 exec unicorn -E production", needs: "unicorn", files: map[string]string{"config.ru": rack}},
	{name: "starman", command: "SERVER_STARTER_PORT=127.0.0.1:{port}=3 SERVER_STARTER_GENERATION=1 exec starman --workers 2 app.psgi", needs: "starman", files: map[string]string{"app.psgi": psgi}},
	{name: "starlet", command: "SERVER_STARTER_PORT=127.0.0.1:{port}=3 SERVER_STARTER_GENERATION=1 exec plackup -E production -s Starlet --max-workers 2 app.psgi", needs: "plackup", files: map[string]string{"app.psgi": psgi}},
	{name: "node", command: "exec node app.js", needs: "node", files: map[string]string{"app.js": node}},
	{name: "node, cluster", command: "exec node app.js", needs: "node", files: map[string]string{"app.js": `
const cluster = require('node:cluster');
if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {` + node + `}
`}},
	{name: "php-fpm", command: "FPM_SOCKETS=127.0.0.1:{port}=3 exec {needs} -n -F -y fpm.conf", needs: "php-fpm*", noLoad: true, fastCGI: true, files: map[string]string{"fpm.conf": `
[global]
error_log = /dev/stderr
daemonize = no
[www]
user = nobody
group = nogroup
listen = 127.0.0.1:{port}
pm = static
pm.max_children = 2
`}},
	{name: "nginx", command: "NGINX='3;' exec nginx -p . -c nginx.conf", needs: "nginx", noLoad: true, files: map[string]string{"nginx.conf": `
daemon off;
master_process on;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  server { listen 127.0.0.1:{port}; return 200 "ok\n"; }
}
`}},
	{name: "haproxy", command: "exec haproxy -db -f haproxy.cfg", needs: "haproxy", noLoad: true, files: map[string]string{"haproxy.cfg": haproxy}},
	{name: "haproxy, with a master", command: "exec haproxy -W -f haproxy.cfg", needs: "haproxy", noLoad: true, files: map[string]string{"haproxy.cfg": haproxy}},
	{name: "lighttpd", command: listenFDs + "lighttpd -D -f lighttpd.conf", needs: "lighttpd", noLoad: true, files: map[string]string{"lighttpd.conf": `
server.document-root = "."
server.systemd-socket-activation = "enable"
server.bind = "127.0.0.1"
server.port = {port}
index-file.names = ("index.html")
`, "index.html": "ok\n"}},
	{name: "Java, a selector", command: "exec java -Xshare:auto -XX:TieredStopAtLevel=1 App.java <&3", needs: "java", files: map[string]string{"App.java": `
import java.nio.ByteBuffer;
import java.nio.channels.*;
public class App {
  public static void main(String[] args) throws Exception {
    Thread.sleep(700);
    ServerSocketChannel server = (ServerSocketChannel) System.inheritedChannel();
    Selector selector = Selector.open();
    server.configureBlocking(false);
    server.register(selector, SelectionKey.OP_ACCEPT);
    while (true) {
      selector.select();
      selector.selectedKeys().clear();
      SocketChannel c = server.accept();
      if (c == null) continue;
      c.configureBlocking(true);
      c.read(ByteBuffer.allocate(1024));
      c.write(ByteBuffer.wrap("HTTP/1.0 200 OK\r\n\r\nok\n".getBytes()));
      c.close();
    }
  }
}
`}},
}

const haproxy = `
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend f
  bind fd@3
  http-request return status 200 content-type text/plain string ok
`

func TestServersAreSeenToWaitWhenTheyCanAnswer(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			path, err := lookPath(s.needs)
			if err != nil {
				t.Skipf("%v (examples/apt-packages.txt lists what this needs)", err)
			}
			s.command = strings.ReplaceAll(s.command, "{needs}", path)
			err = s.try(t)
			for range 2 {
				if !errors.Is(err, errTime) {
					break
				}
				t.Logf("once more: %v", err) // the machine was busy, perhaps
				err = s.try(t)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// lookPath is exec.LookPath for a pattern: php-fpm has its version in its name.
func lookPath(pattern string) (string, error) {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return found[0], nil
		}
	}
	return exec.LookPath(pattern)
}

// errTime is of what may be another time.
var errTime = errors.New("time")

// try starts a server and a client that asks from the beginning.
func (s real) try(t *testing.T) error {
	dir := t.TempDir()
	// Servers that give up root must be able to look into it.
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := listen(t, "tcp4", "127.0.0.1:0")
	fd := int(l.Fd())
	socket, err := Describe(fd)
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{port}", itoa(int(socket.port)))
	for name, content := range s.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(content)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var output bytes.Buffer
	cmd := exec.Command("sh", "-c", fill.Replace(s.command))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "TMPDIR="+dir)
	cmd.ExtraFiles = []*os.File{l}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			t.Logf("it said: %s", &output)
		}
	}()
	pid := cmd.Process.Pid
	began := time.Now()

	facts, done, over := make(chan Fact, 1000), make(chan struct{}), make(chan struct{})
	when := make(map[Kind]time.Duration)
	go func() {
		defer close(over)
		c := Candidate{
			Processes: func() []int {
				pids := []int{pid}
				for _, st := range proc.Descendants(pid) {
					if st.Alive() {
						pids = append(pids, st.PID)
					}
				}
				return pids
			},
			Others:  func() []int { return nil },
			Sockets: func() []int { return []int{fd} },
		}
		c.Observe(done, func(f Fact) {
			if _, ok := when[f.Kind]; !ok {
				when[f.Kind] = time.Since(began)
				facts <- f
			}
		})
	}()
	stop := func() { close(done); <-over }

	conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", socket.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	conn.Write(s.request())
	_, err = conn.Read(make([]byte, 1))
	answered := time.Since(began)
	if err != nil {
		stop()
		t.Fatalf("it does not answer: %v", err)
	}
	// One more now and then, for it to be seen to accept.
	var how []string
	late := time.After(patience)
	for again := time.NewTicker(20 * time.Millisecond); len(how) < 2; {
		select {
		case f := <-facts:
			switch f.Kind {
			case Waits, Accepted:
				how = append(how, f.Text)
			case Blind:
				stop()
				t.Fatal(f.Text)
			}
		case <-again.C:
			if c, err := net.Dial("tcp", conn.RemoteAddr().String()); err == nil {
				c.SetDeadline(time.Now().Add(patience))
				c.Write(s.request())
				c.Read(make([]byte, 1))
				c.Close()
			}
		case <-late:
			stop()
			t.Fatalf("seen: %v %q, and it answered after %v", when, how, answered)
		}
	}
	stop()
	t.Logf("answers after %v, waits after %v, accepts after %v: %q", answered.Round(time.Millisecond), when[Waits].Round(time.Millisecond), when[Accepted].Round(time.Millisecond), how)
	if !s.noLoad && when[Waits] < load {
		return fmt.Errorf("it was seen to wait after %v, before its app was there", when[Waits])
	}
	if d := (when[Waits] - answered).Abs(); d > soon {
		return fmt.Errorf("%w: it answers after %v, and was seen to wait after %v", errTime, answered, when[Waits])
	}
	return nil
}

func (s real) request() []byte {
	if !s.fastCGI {
		return []byte("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	}
	// FastCGI: begin a request as a responder, no parameters, no input.
	record := func(kind byte, content []byte) []byte {
		return append([]byte{1, kind, 0, 1, byte(len(content) >> 8), byte(len(content)), 0, 0}, content...)
	}
	var b []byte
	b = append(b, record(1, []byte{0, 1, 0, 0, 0, 0, 0, 0})...)
	b = append(b, record(4, []byte("\x0e\x03REQUEST_METHODGET\x0f\x01SCRIPT_FILENAME/"))...)
	b = append(b, record(4, nil)...)
	return append(b, record(5, nil)...)
}
