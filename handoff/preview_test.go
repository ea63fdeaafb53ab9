package handoff

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// previewed runs `hotinit check` in a new directory that has a program in it.
func previewed(t *testing.T, flags ...string) (status int, out, errs, dir string) {
	t.Helper()
	t.Setenv("HOTINIT_TEST_REQUIRE", "") // so that it is restored: it is no variable of hotinit
	os.Unsetenv("HOTINIT_TEST_REQUIRE")
	dir = t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("server", []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	switch {
	case len(flags) > 0 && flags[0] == "--programs":
	case len(flags) == 0 || flags[len(flags)-1] != "":
		flags = append(flags, "./server", "secret")
	}
	var o, e bytes.Buffer
	status = Preview(append([]string{"hotinit"}, flags...), &o, &e)
	return status, o.String(), e.String(), dir
}

func TestCheckSaysWhatHotinitWouldDo(t *testing.T) {
	t.Setenv("HOTINIT_STATE_DIR", "state")
	status, out, errs, dir := previewed(t, "--port", "127.0.0.1:0", "--path", "app.sock", "--watch", "conf:HUP",
		"--log-file", "log", "--pid-file", "pid", "--status-file", "status", "--cgroup", "off", "--poll", "off", "--")
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s\n%s", status, errs, out)
	}
	for _, want := range []string{
		"127.0.0.1:0, as descriptor 3: can be bound", "app.sock, as descriptor 4: can be bound",
		"command " + dir + "/server", "a script whose interpreter is there",
		dir + "/server: a change is a new release", dir + "/conf: a change sends the app SIGHUP", "inotify",
		"the app gets its sockets from hotinit", "none (--cgroup off)", dir + "/state is made",
		dir + "/log (--log-file)", dir + "/pid (--pid-file)", dir + "/status (--status-file)", "missing",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	if strings.Contains(out, "secret") {
		t.Errorf("an argument of the command is said, which may be a password:\n%s", out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("it has made something: %v %v", left, err)
	}
}

func TestCheckSaysWhatIsWatchedAndDoesNotExist(t *testing.T) {
	_, out, _, dir := previewed(t, "--watch", ".", "--watch", "later")
	text := strings.Join(strings.Fields(out), " ")
	if strings.Count(text, "does not exist") != 1 || !strings.Contains(text, "does not exist yet: it is waited for") || !strings.Contains(text, dir+"/later: ") {
		t.Errorf("it says:\n%s", out)
	}
	if _, out, _, _ = previewed(t, "./none", ""); strings.Count(out, "does not exist") != 1 || strings.HasSuffix(out, "  nothing\n") {
		t.Errorf("it says of a command that does not exist:\n%s", out)
	}
}

func TestCheckSaysWhyHotinitWouldFail(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--port", l.Addr().String()}, "address already in use"},
		{[]string{"--path", "none/app.sock"}, "create its directory first"},
		{[]string{"--user", "nobody-of-this-name"}, "nobody-of-this-name"},
		{[]string{"--dir", "none"}, "cannot be the working directory"},
		{[]string{"--log-file", "none/log"}, "--log-file"},
		{[]string{"--pid-file", "none/pid"}, "--pid-file"},
		{[]string{"--trusted-key", "none.pub"}, "none.pub"},
		{[]string{"--port", "x"}, `--port "x"`},
		{[]string{"--stop", "--pid-file", "pid"}, "starts a program"},
		{[]string{"./none", ""}, "none"},
		{[]string{"python3", "none.py", ""}, "none.py"},
		{[]string{"--", ""}, "the command is empty"},
	} {
		status, out, errs, dir := previewed(t, c.flags...)
		if status != 125 || !strings.Contains(errs, c.want) {
			t.Errorf("%q: status %d, %q is not said: %s\n%s", c.flags, status, c.want, errs, out)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%q: it has made something: %v %v", c.flags, left, err)
		}
	}
}

func TestCheckVerifiesAChecksum(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("server", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("server.sha256"), []byte(strings.Repeat("0", 64)+"  server\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if status := Preview([]string{"hotinit", "./server"}, &out, &errs); status != 125 || !strings.Contains(errs.String(), "sha256") {
		t.Errorf("status %d: %s", status, &errs)
	}
}

// Of each file of --programs check says what it says of a single command.
func TestCheckSaysOfEachProgramWhatItSaysOfACommand(t *testing.T) {
	status, out, errs, dir := previewedPrograms(t, map[string]string{
		"web":  "HOTINIT_COMMAND=./server secret\nHOTINIT_PORTS=127.0.0.1:0\nHOTINIT_AFTER=set-up\nHOTINIT_WATCH=conf:HUP\nHOTINIT_INSTANCES=3\n",
		"cron": "HOTINIT_COMMAND=./server\nHOTINIT_SCHEDULE=@hourly\n",
		// What another file says does not matter to it.
		"set-up": "HOTINIT_COMMAND=./server\nHOTINIT_RUN=once\nHOTINIT_RETRIES=2\n",
	})
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s\n%s", status, errs, out)
	}
	text := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"program cron runs at @hourly, next at ", "program set-up runs once, to its end; tried again 2 times",
		"program web start after set-up instances 3 (HOTINIT_INSTANCES)", "127.0.0.1:0, as descriptor 3: can be bound", dir + "/conf: a change sends the app SIGHUP",
		dir + "/server: a change is a new release", "adoption none: the app gets its sockets from hotinit", "ready once it waits",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	for what, n := range map[string]int{"a script whose interpreter is there": 3, " ready once ": 1, " log standard error ": 1, "secret": 0} {
		if got := strings.Count(text, what); got != n {
			t.Errorf("%q is said %d times, want %d:\n%s", what, got, n, out)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("it has made something: %v %v", left, err)
	}
}

func TestCheckSaysWhatIsMissingForAProgram(t *testing.T) {
	status, out, errs, _ := previewedPrograms(t, map[string]string{
		"a":     "HOTINIT_COMMAND=./server\nHOTINIT_PORTS=127.0.0.1:1\nHOTINIT_AFTER=nobody\n",
		"b":     "HOTINIT_COMMAND=./none\nHOTINIT_PORTS=127.0.0.1:1\nHOTINIT_DIR=/none\nHOTINIT_USER=nobody-of-this-name\nHOTINIT_STATUS_FILE=/none/status\n",
		"c":     "HOTINIT_COMMAND=./server\nHOTINIT_ENVDIR=/none\nHOTINIT_AFTER=d\n",
		"d":     "HOTINIT_COMMAND=./server\nHOTINIT_AFTER=c\n",
		"wrong": "HOTINIT_COMAND=./server\n",
	})
	if status != 125 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{
		"a: it is not started: it waits for nobody, of which there is no file", "b: cannot bind 127.0.0.1:1: program a asks for it, too",
		"/none/none: does not exist", "b: /none cannot be the working directory", "b: --user nobody-of-this-name", "b: cannot write --status-file /none/status",
		"c: cannot read --envdir /none", "it comes after itself: d after c", "wrong.env:1: ",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is not said:\n%s\n%s", want, errs, out)
		}
	}
	if n := strings.Count(errs, "\n"); n != 10 {
		t.Errorf("%d lines:\n%s", n, errs)
	}
}

func previewedPrograms(t *testing.T, files map[string]string) (status int, out, errs, dir string) {
	t.Helper()
	programs := t.TempDir()
	if err := os.Chmod(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(programs, name+".env"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return previewed(t, "--programs", programs)
}
