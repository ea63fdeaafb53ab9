package adopt

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/tests/docker"
)

// podman is Podman with a store of its own, by what works on most machines.
type podman struct {
	t     *testing.T
	store string
	user  uint32 // 0, or whose it is: rootless then, with this one user in its containers
}

func (p podman) command(words ...string) *exec.Cmd {
	c := exec.Command("podman", append([]string{"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs",
		"--root", filepath.Join(p.store, "root"), "--runroot", filepath.Join(p.store, "run")}, words...)...)
	if p.user != 0 {
		c.Dir = p.store
		c.Env = box.Environment("HOME="+p.store, "XDG_RUNTIME_DIR="+p.store)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.user, Gid: p.user}}
	}
	return c
}

func (p podman) do(words ...string) error {
	out, err := p.command(words...).CombinedOutput()
	if err != nil {
		p.t.Logf("podman %q: %v: %s", words, err, out)
	}
	return err
}

func TestAServerIsSwappedUnderPodman(t *testing.T) {
	for _, program := range []string{"podman", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	for name, before := range map[string][]string{"its default profile": nil, "hardened": hardened, "rootless": {"--cap-drop", "ALL", "--read-only"}} {
		t.Run(name, func(t *testing.T) {
			user := uint32(0)
			if name == "rootless" {
				if os.Geteuid() != 0 {
					t.Skip("needs root, to be another user")
				}
				user = 65534
			}
			s := find(t, "static Go").prepare(t)
			s.inside = "/app"
			s.install()
			// Podman takes no more than 50 characters.
			store, err := os.MkdirTemp("", "podman")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				// Without root, Podman leaves a process that holds its user namespace.
				b, _ := os.ReadFile(filepath.Join(store, "libpod", "tmp", "pause.pid"))
				if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				os.RemoveAll(store)
			})
			p := podman{t, store, user}
			// Another user does not come into the directories of the test's and the build's.
			if err := os.Chmod(filepath.Dir(s.tmp), 0o755); err != nil {
				t.Fatal(err)
			}
			hotinit := filepath.Join(store, "hotinit")
			run(t, ".", "cp", box.Hotinit, hotinit)
			if err := os.Chown(store, int(user), int(user)); err != nil {
				t.Fatal(err)
			}
			run(t, p.store, "tar", "cf", "image.tar", "-T", "/dev/null")
			if p.do("import", "-q", filepath.Join(p.store, "image.tar"), "empty") != nil {
				t.Skip("podman cannot import an image here")
			}
			container := docker.Name()
			args := append([]string{"run", "--name", container, "--network", "host", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"}, before...)
			for _, v := range s.env() {
				args = append(args, "-e", v)
			}
			args = append(args, "-v", s.tmp+":/app", "-v", hotinit+":/hotinit:ro", "--entrypoint", "/hotinit", "empty")
			c := p.command(append(args, s.args()...)...)
			lines := box.NewLines()
			var said bytes.Buffer
			c.Stdout, c.Stderr = lines, &both{lines, &said}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Wait(); lines.End() }()
			t.Cleanup(func() { _ = p.do("rm", "-f", "-t", "0", container) })
			s.underLoad(func(pattern string) {
				if _, err := lines.Find(pattern); err != nil {
					if strings.HasPrefix(said.String(), "Error") {
						t.Skipf("podman starts no container here: %s", said.String())
					}
					t.Fatalf("%v; hotinit and the server said:\n%s", err, lines)
				}
			}, func() { _ = p.do("kill", "-s", "HUP", container) })
			_ = p.do("stop", container)
			<-ended
		})
	}
}

// both writes to both.
type both struct {
	lines *box.Lines
	said  *bytes.Buffer
}

func (b *both) Write(p []byte) (int, error) {
	b.said.Write(p)
	return b.lines.Write(p)
}
