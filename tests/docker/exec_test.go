package docker

import (
	"strconv"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// asked runs a subcommand of hotinit in the container, as a user, and tells
// whether it succeeded.
func (c *Container) asked(user string, words ...string) (string, error) {
	args := []string{"exec"}
	if user != "" {
		args = append(args, "--user", user)
	}
	return Do(append(append(args, c.Name, "hotinit"), words...)...)
}

// Whoever runs hotinit may ask it: docker exec is the container's user, unless
// it says otherwise. Root may too.
func TestSubcommandsByDockerExec(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string // docker run's
		may  []string // docker exec --user
		not  []string
	}{
		{"root", nil, []string{"", "0"}, []string{"65534"}},
		{"docker run --user", []string{"--user", "65534"}, []string{"", "65534", "0"}, []string{"4711"}},
		{"hardened", ways[len(ways)-1].args, []string{"", "65534:65534"}, []string{"4711"}},
		// hotinit itself stays root here, so its app's user may not.
		{"hotinit --user", []string{"-e", "HOTINIT_USER=65534:65534"}, []string{"", "0"}, []string{"65534"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, path, address := serve(t, test.args)
			generation := 1
			for _, user := range test.may {
				out, err := c.asked(user, "status")
				if err != nil || !strings.Contains(out, "/app/server") || !strings.Contains(out, " current ") {
					t.Errorf("status as user %q: %v\n%s", user, err, out)
				}
				if _, err := c.asked(user, "health"); err != nil {
					t.Errorf("health as user %q: %v", user, err)
				}
				generation++
				if out, err := c.asked(user, "reload", "--wait"); err != nil {
					t.Errorf("reload as user %q: %v\n%s", user, err, out)
				}
				c.answers(t, address, "v1 generation "+strconv.Itoa(generation)+" ")
			}
			for _, user := range test.not {
				for _, words := range []string{"reload --wait", "stop"} {
					if out, err := c.asked(user, strings.Fields(words)...); err == nil {
						t.Errorf("user %s may %s:\n%s", user, words, out)
					}
				}
			}
			// A rejected release is told by the exit status, with the reason.
			box.Swap(t, path, "v2", "-exit", "1")
			c.line(t, "exited with status 1.*; generation")
			if out, err := c.asked("", "reload", "--wait"); err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "exited with status 1") {
				t.Errorf("reload of a bad release: %v\n%s", err, out)
			}
			c.answers(t, address, "v1 generation "+strconv.Itoa(generation)+" ")
			if status := c.Stop(); status != 0 {
				t.Errorf("docker stop: status %d\n%s", status, c.Output)
			}
		})
	}
}

// --user of hotinit, or HOTINIT_USER: it is root, and the app is not.
func TestTheAppDropsPrivilegesInAContainer(t *testing.T) {
	c, path, address := serve(t, []string{"-e", "HOTINIT_USER=65534:65533", "-e", "HOTINIT_NO_NEW_PRIVS=1"})
	check := func() {
		t.Helper()
		given := c.given(t, address)
		if given.UID != 65534 || given.GID != 65533 || given.Signals["NoNewPrivs"] != "1" {
			t.Errorf("the app is %d:%d, no-new-privs %s", given.UID, given.GID, given.Signals["NoNewPrivs"])
		}
	}
	check()
	box.Swap(t, path, "v2")
	c.answers(t, address, "v2 generation 2 ")
	c.line(t, `app v1 generation 1 .* gone`)
	check()
	// What it serves is asked for by docker exec as root, and ended by it.
	if out, err := c.asked("", "status"); err != nil || !strings.Contains(out, "generation 2  current") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := c.asked("", "stop"); err != nil {
		t.Error(err)
	}
	if status := c.Wait(); status != 0 {
		t.Errorf("status %d\n%s", status, c.Output)
	}
}
