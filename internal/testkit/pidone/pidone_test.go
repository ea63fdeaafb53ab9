package pidone

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

func run(t *testing.T, name string, words ...string) (string, int) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(err)
	}
	var out bytes.Buffer
	c := Command(path, append([]string{name}, words...)...)
	c.Stdout, c.Stderr = &out, &out
	if err := Start(c); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), c.ProcessState.ExitCode()
}

func TestTheCommandIsPID1(t *testing.T) {
	out, status := run(t, "sh", "-c", "echo $$")
	if out != "1\n" || status != 0 {
		t.Errorf("printed %q with status %d, want its PID to be 1", out, status)
	}
}

func TestProcShowsTheNewNamespace(t *testing.T) {
	out, _ := run(t, "sh", "-c", "exec readlink /proc/self")
	if strings.TrimSpace(out) != "1" {
		t.Errorf("/proc/self leads to %q, want 1", out)
	}
}

func TestTheStatusIsTheCommands(t *testing.T) {
	if _, status := run(t, "sh", "-c", "exit 37"); status != 37 {
		t.Errorf("status %d, want 37", status)
	}
}

func TestACommandThatIsMissingIsAnError(t *testing.T) {
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	var out bytes.Buffer
	c := Command("/nonexistent/command", "command")
	c.Stderr = &out
	if err := Start(c); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if c.ProcessState.ExitCode() != failed || !strings.Contains(out.String(), "/nonexistent/command") {
		t.Errorf("status %d, said %q", c.ProcessState.ExitCode(), out.String())
	}
}
