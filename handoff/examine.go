package handoff

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/release"
)

// examine opens the release, unless the watcher did, and checks it. It runs
// beside the loop.
func (s *starts) examine(j *job) error {
	if s.trust != nil {
		return s.examineSigned(j)
	}
	target := s.target(j)
	if err := s.open(j); err != nil {
		return err
	}
	if s.cfg.Check != "" {
		if err := s.check(j); err != nil {
			return err
		}
	}
	if err := s.examineTree(j); err != nil {
		return err
	}
	if s.copies(j) && !copied(j.file) {
		copied, err := release.Snapshot(j.file, s.fromStart(s.cfg.SnapshotDir), false)
		if err != nil {
			return &refusal{exitcode.Failure, fmt.Sprintf("cannot make the private copy of %s (--snapshot): %v", target, err)}
		}
		j.file.Close()
		j.file = copied
	}
	return nil
}

// open opens the release, unless the watcher did, and checks that file.
func (s *starts) open(j *job) error {
	target := s.target(j)
	if j.file == nil {
		opts := release.CheckOptions{As: s.credential(), NoExec: j.script >= 0, Done: j.cancel,
			Undigested:    j.n == 1 && !s.cfg.Snapshot,
			KernelDecides: j.n == 1 || s.releases.doubtful()}
		var err error
		if j.file, err = release.Open(target, opts); err != nil {
			status := exitcode.NotExecutable
			switch {
			case errors.Is(err, unix.EAGAIN), j.short(err):
				return err
			case errors.Is(err, unix.ENOENT):
				status = exitcode.NotFound
			}
			return &refusal{status, fmt.Sprintf("%s: %v", target, err)}
		}
	}
	j.file.Settings = s.plan.hash
	if busy, _ := j.file.BeingWritten(); busy && j.script < 0 {
		return errBusy // execve(2) would say ETXTBSY
	}
	return nil
}

// check runs --check for a release. It runs as the app would, on the file that
// was checked, so its answer holds for what will run.
func (s *starts) check(j *job) error {
	c := s.checker()
	c.Path, c.Env = j.file.Real, contract.WithoutSockets(j.env)
	c.Timeout, c.Cancel = s.cfg.CheckTimeout, j.cancel
	if s.trust != nil {
		s.checkCopy(j, c)
	}
	if err := c.Run(); err != nil {
		return &refusal{exitcode.Failure, fmt.Sprintf("--check of %s: %v", s.target(j), err)}
	}
	return nil
}

// copies reports whether a generation runs from a private copy. A script does
// not: its interpreter would look for its other files beside the copy.
func (s *starts) copies(j *job) bool {
	return s.cfg.Snapshot && j.script < 0 && j.file.Kind != release.KindScript
}

// stillGood returns why a held release cannot be started any more, nil where it
// can. stored says that the state directory has it, too, and kept opens that.
func (s *starts) stillGood(j *job, read func(<-chan struct{}) (release.Release, error), stored bool, kept func(<-chan struct{}) (*heldRelease, error)) error {
	now, err := read(j.cancel)
	if err == nil && !j.file.Digest.Known() && now.Size == j.file.Size && now.MTime == j.file.MTime {
		now.Digest = j.file.Digest // it was never read
	}
	if stored && (err != nil || now.Digest != j.file.Digest || j.copy == nil && now.Tree != j.file.Tree) {
		if opened, err := kept(j.cancel); err == nil {
			j.proven = opened
			return nil
		}
	}
	if err == nil && now.Digest != j.file.Digest {
		err = fmt.Errorf("its file was overwritten in place (deploy by renaming, or use --snapshot)")
	}
	if err == nil && j.copy == nil && now.Tree != j.file.Tree {
		s.note("%s is not as it was when this release was good: the release is started with what is there (use --snapshot, or a directory and a link for each release)", j.file.Root)
	}
	if err != nil {
		return &refusal{exitcode.Failure, fmt.Sprintf("the last good release of %s cannot be started again: %v", j.file.Path, err)}
	}
	return nil
}
