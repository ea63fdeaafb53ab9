// Package deploy tests hotinit as a supervisor for hot deploys: sockets,
// readiness, rollback, old generations, and the command line of start_server.
//
// Each test has a hotinit of its own, as PID 1 where the machine allows for
// it. site_test.go starts it and talks to it; the other files have one subject
// each.
package deploy

import (
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestMain(m *testing.M) { box.Main(m) }
