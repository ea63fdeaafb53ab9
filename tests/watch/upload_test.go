package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

// sftpServer is what sshd runs for an upload, and what sftp and scp run by
// themselves with -D.
const sftpServer = "/usr/lib/openssh/sftp-server"

// upload does what the lines say with a real server of files: a batch of sftp,
// or with a leading "scp" a command of that.
func (s *watched) upload(lines string) ([]byte, error) {
	c := exec.Command("sftp", "-q", "-b", "-", "-D", sftpServer)
	if words := strings.Fields(lines); words[0] == "scp" {
		c = exec.Command("scp", append([]string{"-q", "-D", sftpServer}, words[1:]...)...)
	} else {
		c.Stdin = strings.NewReader(lines)
	}
	c.Dir = s.Dir
	return c.CombinedOutput()
}

func needUploads(t *testing.T) {
	t.Helper()
	for _, name := range []string{"sftp", "scp", sftpServer} {
		site.Need(t, name)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "from"), "text", 0o644)
	s := &watched{Site: &site.Site{T: t, Dir: dir}}
	if out, err := s.upload("scp from localhost:" + dir + "/to"); err != nil {
		t.Skipf("needs an scp that speaks SFTP (OpenSSH 9): %v\n%s", err, out)
	}
}

// With -l, in kbit/s, it takes far longer than the settling time.
var uploads = []struct{ name, lines string }{
	{"sftp", "put new server"},
	{"scp", "scp new localhost:%[1]s/server"},
	{"a slow scp", "scp -l 30000 new localhost:%[1]s/server"},
}

func TestAnUploadInPlaceWithASnapshot(t *testing.T) {
	needUploads(t)
	for _, u := range uploads {
		t.Run(u.name, func(t *testing.T) {
			copies(t, func(t *testing.T, flags []string) {
				t.Parallel()
				s := serve(t, append(flags, "--settle", "10ms")...)
				for i := 2; i <= 3; i++ {
					s.release("new", fmt.Sprint("v", i))
					s.uploaded(u.lines)
					s.next(fmt.Sprint("v", i))
				}
			})
		})
	}
}

// uploaded uploads; %[1]s is the directory.
func (s *watched) uploaded(lines string) {
	s.T.Helper()
	if strings.Contains(lines, "%") {
		lines = fmt.Sprintf(lines, s.Dir)
	}
	if out, err := s.upload(lines); err != nil {
		s.T.Fatalf("%s: %v\n%s", lines, err, out)
	}
}

func TestAnUploadThatIsRenamed(t *testing.T) {
	needUploads(t)
	s := serve(t)
	for i := 2; i <= 4; i++ {
		s.release("new", fmt.Sprint("v", i))
		s.uploaded("put new .server.part\nrename .server.part server\n")
		s.next(fmt.Sprint("v", i))
	}
}

func TestAnUploadOverAProgramThatRunsIsRefused(t *testing.T) {
	needUploads(t)
	s := serve(t)
	s.release("new", "v2")
	for _, u := range uploads[:2] {
		lines := u.lines
		if strings.Contains(lines, "%") {
			lines = fmt.Sprintf(lines, s.Dir)
		}
		if out, err := s.upload(lines); err == nil {
			t.Errorf("%s succeeded:\n%s", u.name, out)
		}
	}
	s.Answers("v1 generation 1 ")
	s.only("v3")
}

func TestAnUploadOverAScript(t *testing.T) {
	needUploads(t)
	for _, u := range uploads[:2] {
		t.Run(u.name, func(t *testing.T) {
			dir := directory(t)
			path, next := filepath.Join(dir, "server"), filepath.Join(dir, "new")
			// Long enough for many packets; the shell reads it as it goes.
			script := func(version string) string {
				return "#!/bin/sh\n" + strings.Repeat(": nothing\n", 50000) + shellText(version, "")
			}
			write(t, path, script("v1"), 0o755)
			s := launch(t, dir, false, []string{"--interval", "50ms", "--settle", "10ms"}, path)
			s.Line("script v1 generation 1")
			for i := 2; i <= 4; i++ {
				version := fmt.Sprint("v", i)
				write(t, next, script(version), 0o755)
				s.uploaded(u.lines)
				s.Line(fmt.Sprintf("script %s generation %d", version, i))
			}
		})
	}
}

func TestAnInterruptedUploadIsRefusedAndMayBeResumed(t *testing.T) {
	needUploads(t)
	s := serve(t, "--settle", "50ms", "--snapshot")
	s.release("new", "v2")
	whole, err := os.ReadFile(filepath.Join(s.Dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.Dir, "half"), string(whole[:len(whole)/2]), 0o755)
	s.uploaded("put half server")
	s.Line(`server: truncated ELF file.*; the running generation stays`)
	s.Answers("v1 generation 1 ")
	s.uploaded("reput new server")
	s.next("v2")
}

// tiny is a program that says which one it is, and waits to be told to go.
const tiny = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

var version string

func main() {
	os.Stderr.WriteString("built " + version + " generation " + os.Getenv("HOTINIT_GENERATION") + "\n") // println writes in pieces
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	<-told
}
`

// The go command renames what it built; from another file system it removes
// the old file and copies.
func TestGoBuildOverAProgramThatRuns(t *testing.T) {
	site.Need(t, "go")
	memory, err := os.MkdirTemp("/dev/shm", "hotinit-test-")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(memory) })
	}
	for _, c := range []struct{ name, tmp string }{
		{"built beside it", ""},
		{"built on another file system", memory},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, source := directory(t), directory(t)
			if c.tmp == "" {
				c.tmp = t.TempDir()
			}
			write(t, filepath.Join(source, "main.go"), tiny, 0o644)
			write(t, filepath.Join(source, "go.mod"), "module tiny\n\ngo 1.25\n", 0o644)
			path := filepath.Join(dir, "server")
			build := func(version string) {
				t.Helper()
				b := exec.Command("go", "build", "-o", path, "-ldflags", "-X main.version="+version, ".")
				b.Dir = source
				b.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOTMPDIR="+c.tmp)
				if out, err := b.CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", b, err, out)
				}
			}
			build("v1")
			s := launch(t, dir, false, []string{"--interval", "50ms", "--settle", "10ms"}, path)
			s.Line("built v1 generation 1")
			for i := 2; i <= 4; i++ {
				version := fmt.Sprint("v", i)
				build(version)
				s.Line(fmt.Sprintf("built %s generation %d$", version, i))
			}
			build("v4") // the same bytes again
			build("v5")
			s.Line("built v5 generation 5$")
		})
	}
}
