package spawn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// open opens a file to be executed.
func open(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestAScriptWithoutInterpreterIsRunByTheShell(t *testing.T) {
	s := spec(t, "")
	s.Path, s.Argv = script(t, `echo "$0|$1|$2"`), []string{"name", "a b", "c"}
	if out, _ := output(t, s); out != s.Path+"|a b|c\n" {
		t.Error(out)
	}
}

func TestAnOpenFileIsExecutedAfterItIsGone(t *testing.T) {
	for name, flags := range map[string]int{"O_RDONLY": unix.O_RDONLY, "O_PATH": unix.O_PATH} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "copy")
			copied := spec(t, "")
			copied.Path, copied.Argv = "/bin/cp", []string{"cp", "/bin/sh", file}
			if ws := wait(t, start(t, copied)); ws != 0 {
				t.Fatal("cannot copy the shell")
			}
			s := spec(t, "")
			s.FD, s.Path, s.Argv = open(t, file, flags), file, []string{"sh", "-c", lister}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if got, _ := output(t, s); got != "0\n1\n2\n" {
				t.Errorf("the executable stays open: %q", got)
			}
		})
	}
}

func TestAnOpenScriptIsExecutedAfterItIsGone(t *testing.T) {
	for name, first := range map[string]string{"with interpreter": "#!/bin/sh\n", "without": ""} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, "")
			s.Path = script(t, first+`echo "$0|$1"`)
			s.Argv = []string{"name", "arg"}
			s.FD = open(t, s.Path, unix.O_RDONLY)
			if err := os.Remove(s.Path); err != nil {
				t.Fatal(err)
			}
			out, _ := output(t, s)
			if !strings.HasPrefix(out, "/dev/fd/") || !strings.HasSuffix(out, "|arg\n") {
				t.Error(out)
			}
		})
	}
}

func TestAnOpenFileThatIsNotExecutableIs126(t *testing.T) {
	s := spec(t, "")
	s.Path = script(t, "x")
	if err := os.Chmod(s.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	s.FD = open(t, s.Path, unix.O_RDONLY)
	fails(t, s, "exec", unix.EACCES, 126)
}

func TestTheExecutableMayHaveANumberThatIsWanted(t *testing.T) {
	s := spec(t, "report")
	s.FD = open(t, s.Path, unix.O_RDONLY)
	for len(s.Files) <= s.FD {
		s.Files = append(s.Files, 0)
	}
	report(t, s)
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a", "b", "c/tool"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, mode := range map[string]os.FileMode{"a/plain": 0o644, "a/tool": 0o644, "b/tool": 0o755, "here": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	at := func(names ...string) string {
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		return strings.Join(names, ":")
	}
	for name, c := range map[string]struct {
		file, path, dir string
		want            string
		code            int
	}{
		"found":                     {file: "tool", path: at("b"), want: at("b/tool")},
		"not executable: goes on":   {file: "tool", path: at("none", "a", "b"), want: at("b/tool")},
		"a directory: goes on":      {file: "tool", path: at("c", "b"), want: at("b/tool")},
		"not executable: 126":       {file: "plain", path: at("a", "b"), code: 126},
		"a directory: 126":          {file: "tool", path: at("c"), code: 126},
		"nowhere: 127":              {file: "none", path: at("a", "b"), code: 127},
		"not below a file":          {file: "x", path: at("here"), code: 127},
		"no name: 127":              {file: "", path: at("a"), code: 127},
		"a slash: not searched for": {file: "./x", path: at("a"), want: "./x"},
		"relative to dir":           {file: "tool", path: "b", dir: dir, want: "b/tool"},
		"empty means dir":           {file: "here", path: "/none:", dir: dir, want: "./here"},
		"no PATH: the usual":        {file: "sh", want: "/bin/sh"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := LookPath(c.file, []string{"A=1", "PATH=" + c.path}, c.dir)
			if c.code == 0 {
				if got != c.want || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if e, ok := err.(*Error); !ok || e.ExitCode() != c.code {
				t.Errorf("%q, %v, not exit code %d", got, err, c.code)
			}
		})
	}
}
