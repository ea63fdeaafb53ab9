package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pieces is a deployment that nobody supervises: a generation binds an address
// itself, and this program starts and ends it.
type pieces struct {
	b          *bench
	app        string
	out        *os.File // of all generations
	write      *os.File
	generation int
	running    *exec.Cmd
}

func (b *bench) pieces(app string) (*pieces, error) {
	out, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &pieces{b: b, app: app, out: out, write: write}, nil
}

// launch starts the next generation.
func (p *pieces) launch(address string) error {
	p.generation++
	c := exec.Command(p.app)
	c.Env = append(p.b.appEnv(), "APP_LISTEN="+address, "SERVER_STARTER_GENERATION="+strconv.Itoa(p.generation))
	c.Stdout, c.Stderr = p.write, p.b.log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := c.Start(); err != nil {
		return err
	}
	p.running = c
	return nil
}

// finish ends a generation and waits for it.
func finish(c *exec.Cmd, sig unix.Signal) error {
	if c == nil {
		return nil
	}
	if err := c.Process.Signal(sig); err != nil {
		return err
	}
	return c.Wait()
}

func (p *pieces) end() {
	_ = finish(p.running, unix.SIGKILL)
	p.out.Close()
	p.write.Close()
}

// deployByKilling is what a deployment without any of these tools does: it ends
// the old server, waits until it has drained, and starts the new one.
func deployByKilling(_ context.Context, b *bench, s *site) (*deployment, error) {
	p, err := b.pieces(s.app)
	if err != nil {
		return nil, err
	}
	if err := p.launch(s.address); err != nil {
		p.end()
		return nil, err
	}
	swap := func() error {
		if err := os.Rename(s.release(), s.app); err != nil {
			return err
		}
		if err := finish(p.running, unix.SIGTERM); err != nil {
			return err
		}
		return p.launch(s.address)
	}
	return &deployment{swap: swap, out: p.out, end: p.end}, nil
}

// startSupervisord deploys as its users do, by supervisorctl restart.
func startSupervisord(_ context.Context, b *bench, s *site) (*deployment, error) {
	dir := filepath.Dir(s.app)
	config := filepath.Join(dir, "supervisord.conf")
	text := fmt.Sprintf(`[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile=%[1]s/pid
[unix_http_server]
file=%[1]s/control
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://%[1]s/control
[program:app]
command=%[2]s
startsecs=0
stdout_logfile=/dev/fd/2
stdout_logfile_maxbytes=0
stderr_logfile=NONE
`, dir, s.app)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	python := tool{name: "supervisord", argv: []string{b.supervisord, "-n", "-c", config}}
	lines, write, err := os.Pipe() // what it says itself goes to its standard output
	if err != nil {
		return nil, err
	}
	env := append(b.appEnv(), "APP_LISTEN="+s.address, "APP_COUNTER="+filepath.Join(dir, "generations"))
	c, err := start(context.Background(), &b.setup, python, options{cpu: -1, log: write, env: env})
	write.Close()
	if err != nil {
		lines.Close()
		return nil, err
	}
	go io.Copy(io.Discard, c.out)
	control := func() error {
		if err := os.Rename(s.release(), s.app); err != nil {
			return err
		}
		return build(exec.Command(b.supervisorctl, "-c", config, "restart", "app"))
	}
	d := c.deployment(control)
	d.out, d.end = lines, func() { c.end(); lines.Close() }
	return d, nil
}

// proxy is a haproxy that has two places for a server, of which one is used.
type proxy struct {
	places  [2]string
	control string
	cmd     *exec.Cmd
}

// startProxy has haproxy listen on an address. The first place is used. The connections
// that it keeps to a server that is drained are closed soon: by default it closes half of
// them every 5 s, and the old server waits for that.
func (b *bench) startProxy(dir, address string) (*proxy, error) {
	p := &proxy{control: filepath.Join(dir, "haproxy.sock")}
	for i := range p.places {
		var err error
		if p.places[i], err = freeAddress(); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(dir, "haproxy.conf")
	text := fmt.Sprintf(`global
 stats socket %s level admin
defaults
 mode http
 timeout client 60s
 timeout server 60s
 timeout connect 5s
listen bench
 bind %s
 default-server pool-purge-delay 100ms
 server s0 %s
 server s1 %s disabled
`, p.control, address, p.places[0], p.places[1])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(b.haproxy, "-db", "-f", config)
	p.cmd.Stdout, p.cmd.Stderr = b.log, b.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return p, p.cmd.Start()
}

// tell sends a command to haproxy, and returns its answer.
func (p *proxy) tell(command string) (string, error) {
	conn, err := net.DialTimeout("unix", p.control, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return strings.TrimSpace(string(answer)), err
}

// state sets whether a place is used: ready, drain or maint.
func (p *proxy) state(place int, state string) error {
	answer, err := p.tell(fmt.Sprintf("set server bench/s%d state %s", place, state))
	if err == nil && answer != "" {
		err = fmt.Errorf("haproxy: %s", answer)
	}
	return err
}

// drained waits until no request is with a place any more.
func (p *proxy) drained(ctx context.Context, place int) error {
	const current = 4 // scur, management guide of haproxy, 9.1
	for {
		text, err := p.tell("show stat bench 4 -1")
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(strings.NewReader(text))
		for lines.Scan() {
			fields := strings.Split(lines.Text(), ",")
			if len(fields) > current && fields[1] == "s"+strconv.Itoa(place) && fields[current] == "0" {
				return nil
			}
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// deployBehindProxy starts the new server beside the old one, at another
// address, has the proxy turn to it, and ends the old one once it is drained.
func deployBehindProxy(ctx context.Context, b *bench, s *site) (*deployment, error) {
	front, err := b.startProxy(filepath.Dir(s.app), s.address)
	if err != nil {
		return nil, err
	}
	stop := func() { _ = finish(front.cmd, unix.SIGKILL) }
	p, err := b.pieces(s.app)
	if err != nil {
		stop()
		return nil, err
	}
	end := func() { p.end(); stop() }
	if err := p.launch(front.places[0]); err != nil {
		end()
		return nil, err
	}
	place := 0
	swap := func() error {
		if err := os.Rename(s.release(), s.app); err != nil {
			return err
		}
		old, next := p.running, 1-place
		if err := p.launch(front.places[next]); err != nil {
			return err
		}
		if err := awaitService(ctx, front.places[next]); err != nil {
			return err
		}
		if err := front.state(next, "ready"); err != nil {
			return err
		}
		if err := front.state(place, "drain"); err != nil {
			return err
		}
		if err := front.drained(ctx, place); err != nil {
			return err
		}
		if err := finish(old, unix.SIGTERM); err != nil {
			return err
		}
		place = next
		return front.state(1-place, "maint")
	}
	own := func() ([]int, error) { return []int{front.cmd.Process.Pid}, nil }
	return &deployment{swap: swap, out: p.out, end: end, own: own}, nil
}
