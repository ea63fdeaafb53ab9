package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/port"
)

// TestWebStack runs nginx, php-fpm and a cron job by files, swaps both servers under
// load, has one reject a broken configuration, and stops all in order.
func TestWebStack(t *testing.T) {
	for _, program := range []string{"nginx", "php-fpm8.2", "php8.2"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v (apt-packages.txt lists what the examples need)", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("php-fpm.conf names a user, which needs root")
	}
	// php-fpm's workers give up root, and must be able to look into it.
	tmp, err := os.MkdirTemp("", "web-stack")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	address, fpm := port.Address(t), port.Address(t)
	fill := strings.NewReplacer("127.0.0.1:8080", address, "127.0.0.1:9000", fpm, "/srv/web-stack", tmp,
		"/tmp/web-stack", tmp+"/", "*/5 * * * *", "@every 1s")
	if err := os.CopyFS(tmp, os.DirFS("web-stack")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nginx.conf", "php-fpm.conf", "cleanup.php", "programs/cleanup.env"} {
		path := filepath.Join(tmp, name)
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(fill.Replace(string(b))), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h := box.Start(t, box.Options{Args: []string{"--programs", "programs", "--interval", "200ms", "--settle", "100ms"}, Dir: tmp, Sub: true})
	h.Line(`php: generation 1.* is ready`)
	h.Line(`nginx: generation 1.* is ready`)
	v := visit(address, true)
	defer func() {
		if t.Failed() {
			t.Logf("hotinit and the servers said:\n%s", h.Output)
		}
	}()
	v.more(t, 50)
	change := func(name, line string) {
		t.Helper()
		path := filepath.Join(tmp, name)
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path+".new", append(b, line...), 0o644)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, generation := range []string{"2", "3"} {
		change("php-fpm.conf", "\n; another\n")
		h.Line(`php: generation ` + generation + `.* is ready`)
		v.more(t, 50)
		change("nginx.conf", "\n# another\n")
		h.Line(`nginx: generation ` + generation + `.* is ready`)
		v.more(t, 50)
	}
	change("nginx.conf", "\nnonsense\n")
	h.Line(`nginx: generation 4 failed.*generation 3 stays`)
	v.more(t, 50)
	h.Until("the cron job has run", func() bool {
		_, err := os.Stat(tmp + "/-cleanup")
		return err == nil
	})
	counts := v.end()
	t.Logf("4 swaps: %v", counts)
	if lost(counts) > 0 {
		t.Errorf("lost: %v; %v", counts, v.first)
	}
	h.Signal(unix.SIGTERM)
	if status := h.Wait(); status != 0 {
		t.Errorf("hotinit ended with status %d", status)
	}
}
