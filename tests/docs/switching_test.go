package docs

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/settings"
)

// command finds a command line in a table's cell: of a peer, or of hotinit.
var command = regexp.MustCompile("`((?:hotinit|tini|dumb-init|catatonit|start_server) [^`]+)`")

// Each command line of switching.md is accepted, by hotinit under the name of the
// tool that it is of.
func TestEachCommandLineOfSwitchingIsAccepted(t *testing.T) {
	page := pages(t)[filepath.Join("docs", "switching.md")]
	n := 0
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		for _, m := range command.FindAllStringSubmatch(line, -1) {
			words := strings.Fields(m[1])
			if words[1] == "reload" || words[1] == "stop" || m[1] == "start_server --restart" || m[1] == "start_server --stop" {
				continue // tested in tests/swap
			}
			n++
			if _, err := settings.Parse(words, nil); err != nil {
				t.Errorf("%s: %v", m[1], err)
			}
		}
	}
	if n < 25 {
		t.Errorf("found only %d command lines", n)
	}
}
