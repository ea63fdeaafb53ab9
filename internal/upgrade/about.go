// Package upgrade is what a hotinit says of itself before it takes the place of
// another one.
//
// Its invariant: an executable that does not say so, or whose versions do not go
// with those that run, replaces nothing.
package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/record"
	"github.com/hotinit/hotinit/internal/version"
)

// Args is the command line, behind its name, that makes a hotinit say what About
// has.
var Args = []string{"version", "--json"}

// About is a hotinit.
type About struct {
	Version  string   `json:"version"`
	Commit   string   `json:"commit,omitempty"`
	Messages Versions `json:"messages"` // of what its two processes say to each other
	Records  Versions `json:"records"`  // of what a handoff leaves to the next one
}

// Versions are those that a hotinit understands. It writes the newest.
type Versions struct {
	Oldest int `json:"oldest"`
	Newest int `json:"newest"`
}

// Own is this hotinit.
func Own() About {
	return About{
		Version: version.Number, Commit: version.Commit(),
		Messages: Versions{message.Oldest, message.Version},
		Records:  Versions{record.Oldest, record.Version},
	}
}

// JSON is how a hotinit says it.
func (a About) JSON() string {
	b, _ := json.MarshalIndent(a, "", "  ")
	return string(b) + "\n"
}

// Parse reads what a hotinit has said.
func Parse(text []byte) (About, error) {
	var a About
	if err := json.Unmarshal(text, &a); err != nil || a.Version == "" || a.Messages.Newest == 0 || a.Records.Newest == 0 {
		return a, errors.New("it is not hotinit: asked with version --json, it does not say what it is")
	}
	return a, nil
}

// Follows says why a hotinit cannot take the place of another one that runs.
func (a About) Follows(runs About) error {
	for _, v := range [...]struct {
		what string
		its  Versions
		runs int
	}{
		{"messages", a.Messages, runs.Messages.Newest},
		{"records", a.Records, runs.Records.Newest},
	} {
		if v.runs < v.its.Oldest || v.runs > v.its.Newest {
			return fmt.Errorf("hotinit %s understands %s of the %s, and the one that runs (%s) writes version %d: restart the container with it instead",
				a.Version, message.Range(v.its.Oldest, v.its.Newest), v.what, runs.Version, v.runs)
		}
	}
	return nil
}
