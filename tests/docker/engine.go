// Package docker runs hotinit under a real Docker engine, for its tests.
//
// Everything it makes has a name of its own that starts with "hotinit-test-",
// and is removed by that name: nothing else on the machine is touched.
//
// engine.go has the engine's commands, builder.go an image that stands in for
// golang where none can be pulled.
package docker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// Missing says why there is no engine here, and nil where there is one.
var Missing = sync.OnceValue(func() error {
	if _, err := exec.LookPath("docker"); err != nil {
		return err
	}
	if out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput(); err != nil {
		return fmt.Errorf("the engine does not answer: %s", strings.TrimSpace(string(out)))
	}
	return nil
})

var names atomic.Int64

// Name returns a name that nothing else has.
func Name() string {
	return fmt.Sprintf("hotinit-test-%d-%d", os.Getpid(), names.Add(1))
}

// Do runs a docker command and returns what it prints.
func Do(args ...string) (string, error) {
	var out, said strings.Builder
	c := exec.Command("docker", args...)
	// The builder of old engines, which needs no plug-in, does what is needed.
	c.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %v: %s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// Container is one that runs, or ran.
type Container struct {
	Name   string
	Output *box.Lines

	t    box.T
	logs chan struct{}
}

// Run starts a container of an image, with a directory as /app and its port 8080
// published on loopback. args come before the image, and after it.
func Run(t box.T, image, app string, before []string, after ...string) *Container {
	t.Helper()
	c := &Container{Name: Name(), Output: box.NewLines(), t: t, logs: make(chan struct{})}
	args := append([]string{"run", "-d", "--name", c.Name, "-p", "127.0.0.1::8080", "-v", app + ":/app"}, before...)
	t.Cleanup(func() {
		if _, err := Do("rm", "-f", "-v", c.Name); err != nil {
			t.Logf("%v", err)
		}
	})
	c.do(append(append(args, image), after...)...)

	logs := exec.Command("docker", "logs", "-f", c.Name)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatalf("cannot make a pipe: %v", err)
	}
	logs.Stdout, logs.Stderr = in, in
	logs.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = logs.Start()
	in.Close()
	if err != nil {
		t.Fatalf("cannot read the logs: %v", err)
	}
	go func() {
		defer close(c.logs)
		io.Copy(c.Output, out)
		out.Close()
		logs.Wait()
		c.Output.End()
	}()
	return c
}

func (c *Container) do(args ...string) string {
	c.t.Helper()
	out, err := Do(args...)
	if err != nil {
		c.t.Fatalf("%v\noutput:\n%s", err, c.Output)
	}
	return out
}

// Address is where its port is published.
func (c *Container) Address() string {
	c.t.Helper()
	return c.do("port", c.Name, "8080/tcp")
}

// Inspect returns a field of docker inspect.
func (c *Container) Inspect(format string) string {
	c.t.Helper()
	return c.do("inspect", "--format", format, c.Name)
}

// Identity is what a swap must not change: a container that was started again
// has another one.
func (c *Container) Identity() string {
	c.t.Helper()
	return c.Inspect("started {{.State.StartedAt}}, PID {{.State.Pid}}, restarted {{.RestartCount}} times")
}

// Signal is docker kill -s.
func (c *Container) Signal(name string) {
	c.t.Helper()
	c.do("kill", "-s", name, c.Name)
}

// Stop is docker stop, with so much time that the engine never has to kill. It
// returns the container's exit status.
func (c *Container) Stop() int {
	c.t.Helper()
	c.do("stop", "-t", "60", c.Name)
	return c.Wait()
}

// Wait waits for its end and returns its exit status.
func (c *Container) Wait() int {
	c.t.Helper()
	status, err := strconv.Atoi(c.do("wait", c.Name))
	if err != nil {
		c.t.Fatalf("docker wait: %v", err)
	}
	<-c.logs
	return status
}

// Processes counts the processes in it.
func (c *Container) Processes() int {
	c.t.Helper()
	out := c.do("top", c.Name, "-o", "pid")
	return strings.Count(out, "\n")
}

// Images builds the image of a Dockerfile with a stage named hotinit. It
// returns the names of all images that this made, the wanted one first: the
// stage stays in the engine too, and would have no name to remove it by.
func Images(context, file, builder, base string) ([]string, error) {
	name := Name()
	stage := name + "-stage"
	build := []string{"build", "-q", "-f", file, "--build-arg", "BUILDER=" + builder, "--build-arg", "BASE=" + base}
	if _, err := Do(append(build, "--target", "hotinit", "-t", stage, context)...); err != nil {
		return nil, err
	}
	if _, err := Do(append(build, "-t", name, context)...); err != nil {
		return []string{stage}, err
	}
	return []string{name, stage}, nil
}

// Remove removes images. It returns what could not be removed.
func Remove(images ...string) error {
	var failed []error
	for _, name := range images {
		if _, err := Do("rmi", "-f", name); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
