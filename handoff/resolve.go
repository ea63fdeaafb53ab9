package handoff

import (
	"errors"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/spawn"
)

// resolve works out what to execute, in which environment. It runs beside the loop,
// on a job of its own.
func (s *starts) resolve(j *job) error {
	var err error
	if j.env, j.self, err = s.contract.Environment(j.n); err != nil {
		return err
	}
	j.argv = slices.Clone(s.cfg.Command)
	j.path, err = spawn.LookPath(j.argv[0], j.env, s.dir)
	if err != nil {
		if j.source == machine.Held && j.file != nil && s.watchedIndex(j) < 0 {
			// The command is gone; what was checked of it is still held.
			j.path = j.file.Path
			return nil
		}
		return exitRefusal(err)
	}
	j.script = s.watchedIndex(j)
	return nil
}

// watchedIndex returns which argument is the file that a generation runs, -1
// where that is the command itself.
func (s *starts) watchedIndex(j *job) int {
	script, ok := release.Script(j.argv)
	if !ok {
		return -1
	}
	return slices.Index(j.argv, script)
}

func exitRefusal(err error) error {
	var e *spawn.Error
	if errors.As(err, &e) {
		return &refusal{e.ExitCode(), e.Error()}
	}
	return err
}

// checked reports whether the release is hotinit's to check: whether it is
// watched, or a command says whether it is good.
func (s *starts) checked(j *job) bool {
	_, tree := s.tree()
	return s.checkedWith(j, tree)
}

// checkedWith is checked where it is known whether the release has a directory.
func (s *starts) checkedWith(j *job, tree bool) bool {
	// Of a program that a file made the settings are a part of the release, so it has
	// one in any case.
	return s.member || s.guarded(j, tree)
}

// guarded reports whether the file that runs has to be the one that was checked.
func (s *starts) guarded(j *job, tree bool) bool {
	return s.cfg.Check != "" || s.cfg.Snapshot || tree || s.watchable(j)
}

// watchable reports whether the file that a generation runs is watched.
func (s *starts) watchable(j *job) bool {
	return s.cfg.Watch && (j.script >= 0 || release.Watchable(s.target(j)))
}

// target is the path of the file that a generation runs.
func (s *starts) target(j *job) string {
	path := j.path
	if j.script >= 0 {
		path = j.argv[j.script]
	}
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.dir, path)
}

// keyOf names the release of a job.
func (s *starts) keyOf(j *job) string {
	switch {
	case j.file == nil:
		return ""
	case j.source == machine.Held:
		return s.releases.nameOf(j.file, j.key)
	}
	return j.file.Name()
}

// found is what the file system says of a job before it is checked.
type found struct {
	tree   bool         // the release has a directory
	target *unix.Stat_t // of its file, nil where there is none
	intact bool         // the file of a Held release is unmodified
}

// find asks. It runs beside the loop.
func (s *starts) find(j *job) (f found) {
	f.tree = s.hasTree()
	var st unix.Stat_t
	if unix.Stat(s.target(j), &st) == nil {
		f.target = &st
	}
	f.intact = j.source == machine.Held && j.file != nil && intact(j.file)
	return f
}

// hasTree reports whether the release has a directory. Where that does not answer, the
// app is started without, unless it has to run from a copy of it.
func (s *starts) hasTree() bool {
	ask := func() bool { _, ok := s.tree(); return ok }
	if s.trust != nil || s.cfg.Snapshot {
		return ask()
	}
	answer := make(chan bool, 1)
	go func() { answer <- ask() }()
	limit := time.NewTimer(treeWithin)
	defer limit.Stop()
	select {
	case has := <-answer:
		return has
	case <-limit.C:
		s.line("%v under what is watched: the release is the command's file alone", errSlow)
		return false
	}
}

// located is what the paths of a job lead to just before it is executed.
type located struct {
	copied   bool // what was checked is a private copy
	replaced bool // what was checked is not there any more as it was
	moved    bool // a symbolic link was turned since
	command  release.Command
	atPath   bool // the command's path leads to what was checked
	atReal   bool // and the path where it was checked
	log      int  // HOTINIT_LOG_FILE, open for it, or -1
	logErr   error
}

// locate asks. A command that hotinit does not check is executed as it was given. held
// is the command of a Held release. It runs beside the loop.
func (s *starts) locate(j *job, held release.Command) located {
	at := located{command: j.command}
	at.log, at.logErr = s.openOwn()
	at.copied = copied(j.file)
	switch {
	case j.source == machine.Held:
		at.command = release.Command{Path: j.path, Argv: j.argv, Dir: s.dir}
		if len(held.Argv) > 0 {
			at.command = held
		}
	case j.copy != nil: // examine has done it
	default:
		at.command = release.Command{Path: j.path, Argv: j.argv, Dir: s.dir}
		if j.file != nil {
			at.replaced = !at.copied && !unmodified(s.target(j), j.file)
			resolved, target := at.command.Resolve(j.script)
			at.command, at.moved = resolved, target != j.file.Real
		}
	}
	if j.file != nil {
		at.atPath, at.atReal = leadsTo(at.command.Path, j.file), leadsTo(j.file.Real, j.file)
	}
	return at
}
