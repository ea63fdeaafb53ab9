package handoff

import (
	"bytes"
	"fmt"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/say"
)

// statusFile is --status-file.
type statusFile struct {
	path   string // "" for none
	text   []byte // what it holds
	failed bool   // the last write failed, and that was said
	aside  aside
	called string // the program, for errors
	again  func() // makes the loop call write once a write that took too long is done
}

// write writes a line "GENERATION:PID" for each generation that has a process,
// oldest first, as start_server does.
func (f *statusFile) write(st machine.State) {
	if f.path == "" || st.Over {
		return
	}
	var b []byte
	for _, g := range st.Gens {
		if g.Phase != machine.Preparing && g.Phase != machine.Lingering {
			b = fmt.Appendf(b, "%d:%d\n", g.N, g.PID)
		}
	}
	if bytes.Equal(b, f.text) {
		return
	}
	path := f.path
	result := make(chan error, 1)
	err := errSlow
	if f.aside.run(func() { result <- safepath.Replace(path, b, 0o644) }, f.again) {
		err = <-result
	}
	if err != nil {
		if !f.failed {
			say.Line(f.called+"cannot write --status-file %s: %v; hotinit goes on without", f.path, err)
		}
		f.failed = true
		return
	}
	f.text, f.failed = b, false
}

func (f *statusFile) remove() {
	if f.path != "" && len(f.text) > 0 {
		_ = safepath.Remove(f.path)
	}
}
