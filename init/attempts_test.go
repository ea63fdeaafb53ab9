package pid1

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/spawn"
)

// Whatever keeps a handoff from starting or from working may pass: while there is an
// app, init goes on trying.
func TestInitGivesUpOnlyWhereThereIsNoApp(t *testing.T) {
	full := &spawn.Error{Op: "open", Err: unix.EMFILE}
	for name, fail := range map[string]func(a *attempts, app bool){
		"none can be started":      func(a *attempts, app bool) { a.failed(full, app) },
		"each one ends in silence": func(a *attempts, app bool) { a.died(app) },
	} {
		for _, app := range []bool{true, false} {
			var a attempts
			for range 10 * mostMute {
				fail(&a, app)
			}
			if a.hopeless() == app {
				t.Errorf("%s: with an app: %v; it gives up: %v", name, app, a.hopeless())
			}
		}
	}
	var a attempts
	for range 10 * mostMute {
		a.failed(&spawn.Error{Op: "fork", Err: unix.EAGAIN}, false)
	}
	if a.hopeless() {
		t.Error("it gives up for a limit of processes")
	}
}
