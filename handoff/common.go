package handoff

import (
	"sync"
	"sync/atomic"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/hook"
	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/poller"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/trim"
)

// shared is what all programs work with.
type shared struct {
	link     *link
	loop     *loop
	thread   *thread
	home     string          // the directory that hotinit was started in
	environ  func() []string // what it was started with; not to be changed
	terminal *terminal
	logs     *logs
	liner    *liner
	reports  *reports
	manager  *manager
	killer   killer
	reserve  sync.Once // threads are kept in reserve, from the first app on
	attached sync.Once // traced processes are let go, once an app runs
	trim     trim.Timer
	poller   poller.Set // waits for what all generations and programs say
	trees    cgroupTrees
	tables   []chan struct{} // those who watch the table of programs
	mains    mains           // the main processes of all generations
	null     int             // /dev/null, the standard input of a program that a file made
}

// common is what every part of a program works with. Of a program that a file made
// the plan changes, in the loop, when another one becomes the current generation's:
// what works beside the loop takes its own copy, see starts.with.
type common struct {
	*shared
	*plan
	name   string                  // the program's
	title  *atomic.Pointer[string] // how it is called in what is said; the loop changes it
	member bool                    // a file made it; it is one of several
	engine *engine
	kept   *kept // what init keeps for the program
}

// plan is what one version of a program's settings comes to. It does not change once
// it is open.
type plan struct {
	hash     string // names it: what the file says; "" for the command line's
	text     []byte // the file
	cfg      *settings.Config
	dir      string // the app's working directory
	contract contract.Contract
	trust    *release.Trust   // nil: a release need not be signed
	calls    adopt.Calls      // of the app that are notified
	opened   bool             // its sockets are bound
	user     *passwd.Identity // as the record has it, nil where it is to be looked up
}

// newPlan returns the plan of settings. Its sockets are not bound yet.
func newPlan(home string, cfg *settings.Config) *plan {
	p := &plan{cfg: cfg, dir: home}
	if cfg.Dir != "" {
		p.dir = absolute(home, cfg.Dir)
	}
	if len(cfg.TrustedKeys) > 0 {
		p.trust = &release.Trust{NoDowngrade: cfg.NoDowngrade}
		for _, path := range cfg.TrustedKeys {
			p.trust.Keys = append(p.trust.Keys, absolute(home, path))
		}
	}
	return p
}

// as returns what a part works with that acts for a generation of another plan.
func (s *common) as(pl *plan) *common {
	if s.plan == pl && !s.member {
		return s // it stays so
	}
	c := *s
	c.plan = pl
	return &c
}

// fromStart returns the absolute path for one that the user gave, which is
// relative to where hotinit was started.
func (s *common) fromStart(path string) string { return absolute(s.home, path) }

// credential returns who the app runs as, nil for as hotinit itself.
func (p *plan) credential() *passwd.Credential {
	if p.contract.Identity == nil {
		return nil
	}
	return &p.contract.Identity.Credential
}

// hook returns a command that runs as the app does.
func (s *common) hook(text string) *hook.Command {
	return &hook.Command{Text: text, Dir: s.dir, Umask: s.cfg.Umask,
		Credential: s.credential(), NoNewPrivs: s.cfg.NoNewPrivs, Start: s.thread.start}
}

// checker is the command of --check. What tests a configuration says in its last line
// that the test has failed, and in those before it why (nginx -t).
func (s *common) checker() *hook.Command {
	c := s.hook(s.cfg.Check)
	c.Lines = 4
	return c
}

// line says something about the program. Where there are several, its name is said.
func (s *common) line(format string, args ...any) { s.about().Line(format, args...) }

// note is line where nothing has failed.
func (s *common) note(format string, args ...any) { s.about().Note(format, args...) }

// detail is line for who looks for a fault.
func (s *common) detail(format string, args ...any) { s.about().Detail(format, args...) }

// about is what these lines are about.
func (s *common) about() say.About { return say.About{Program: s.name, Called: s.called()} }

// called begins each line about the program.
func (s *common) called() string {
	if !s.member {
		return ""
	}
	return *s.title.Load() + ": "
}
