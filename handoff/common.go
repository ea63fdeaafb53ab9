package handoff

import (
	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/hook"
	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/trim"
)

// shared is what all programs work with.
type shared struct {
	link     *link
	loop     *loop
	thread   *thread
	home     string // the directory that hotinit was started in
	terminal *terminal
	logs     *logs
	manager  *manager
	trim     trim.Timer
}

// common is what every part of a program works with. It does not change once the
// program runs, except for what the parts behind it hold.
type common struct {
	*shared
	name     string // the program's
	cfg      *settings.Config
	engine   *engine
	kept     *kept  // what init keeps for the program
	dir      string // the app's working directory
	contract contract.Contract
	trust    *release.Trust // nil: a release need not be signed
}

// fromStart returns the absolute path for one that the user gave, which is
// relative to where hotinit was started.
func (s *common) fromStart(path string) string { return absolute(s.home, path) }

// credential returns who the app runs as, nil for as hotinit itself.
func (s *common) credential() *passwd.Credential {
	if s.contract.Identity == nil {
		return nil
	}
	return &s.contract.Identity.Credential
}

// hook returns a command that runs as the app does.
func (s *common) hook(text string) *hook.Command {
	return &hook.Command{Text: text, Dir: s.dir, Umask: s.cfg.Umask,
		Credential: s.credential(), NoNewPrivs: s.cfg.NoNewPrivs, Start: s.thread.start}
}
