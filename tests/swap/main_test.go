// Package swap tests hotinit as a supervisor for hot deploys, from end to end:
// a real hotinit, as a real PID 1 where the machine allows it, with real
// servers under it and real load on them.
//
// Whole stories are scripts in stories/, whose commands stories_test.go
// documents. What has to be counted (requests under load, exit statuses beside
// orphans, kills of the handoff) and what needs its own set-up is in the Go
// tests, one subject a file.
package swap

import (
	"os"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestMain(m *testing.M) { box.Main(m, func() { _ = os.RemoveAll(faultyDir) }) }
