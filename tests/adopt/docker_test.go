package adopt

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/tests/docker"
)

// hardened is a container that may do nothing.
var hardened = []string{"--cap-drop", "ALL", "--user", "65534:65534", "--read-only", "--security-opt", "no-new-privileges"}

// host is the host's programs, for an image that has none.
func host() (args []string) {
	for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/alternatives", "/etc/php", "/etc/java-17-openjdk", "/etc/passwd", "/etc/group"} {
		if _, err := os.Stat(dir); err == nil {
			args = append(args, "-v", dir+":"+dir+":ro")
		}
	}
	return args
}

// inDocker swaps a server in a container whose image knows nothing of hotinit.
func (s server) inDocker(t *testing.T, before []string, flags ...string) {
	box.Need(t, "docker", docker.Missing())
	p := s.prepare(t)
	p.inside = "/app"
	p.install()
	image := docker.Name()
	context := t.TempDir()
	write(t, filepath.Join(context, "Dockerfile"), "FROM scratch\nCOPY empty /empty\nENTRYPOINT [\"/nothing\"]\n")
	write(t, filepath.Join(context, "empty"), "")
	if _, err := docker.Do("build", "-q", "-t", image, context); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Remove(image) })
	args := append(slices.Clone(before), host()...)
	for _, v := range append(p.env(), "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin") {
		args = append(args, "-e", v)
	}
	// The host's network, for the engine's proxy would hide who refuses.
	args = append(args, "--network", "host", "-v", box.Hotinit+":/hotinit:ro", "--entrypoint", "/hotinit")
	c := docker.Run(t, image, p.tmp, args, p.args(flags...)...)
	defer func() {
		if t.Failed() {
			t.Logf("hotinit and the server said:\n%s", c.Output)
		}
	}()
	p.underLoad(func(pattern string) {
		if _, err := c.Output.Find(pattern); err != nil {
			t.Fatal(err)
		}
	}, func() { c.Signal("HUP") })
	if status := c.Stop(); status == 137 {
		t.Errorf("the container was killed")
	}
}

func find(t *testing.T, name string) server {
	t.Helper()
	i := slices.IndexFunc(servers, func(s server) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("there is no server %q", name)
	}
	return servers[i]
}

func TestServersAreSwappedInContainers(t *testing.T) {
	for name, before := range map[string][]string{"the default profile": nil, "hardened": hardened} {
		t.Run(name, func(t *testing.T) {
			for _, server := range []string{"python http.server", "gunicorn", "node cluster", "nginx reuseport", "haproxy", "redis", "static Go"} {
				t.Run(server, func(t *testing.T) {
					t.Parallel()
					find(t, server).inDocker(t, before)
				})
			}
		})
	}
}

// Root in a container has no CAP_SYS_PTRACE: it looks at the app as the app's
// user.
func TestAnotherUsersServerIsSwappedInAContainer(t *testing.T) {
	t.Run("by --user", func(t *testing.T) {
		find(t, "python http.server").inDocker(t, []string{"--cap-drop", "ALL", "--cap-add", "SETUID", "--cap-add", "SETGID", "--cap-add", "KILL"}, "--user", "65534:65534")
	})
	t.Run("by its own command", func(t *testing.T) {
		s := find(t, "python http.server")
		s.command = "setpriv --reuid 65534 --regid 65534 --clear-groups " + s.command
		s.flags = "--watch {tmp}/server.py"
		s.inDocker(t, nil)
	})
}
