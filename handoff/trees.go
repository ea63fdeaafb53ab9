package handoff

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/gitignore"
	"github.com/hotinit/hotinit/internal/release"
)

// tree returns the directory that belongs to a release: the first one that
// --watch names and whose changes mean a new generation.
func (s *common) tree() (release.Tree, bool) {
	for _, p := range s.cfg.WatchPaths {
		if p.Signal != 0 || strings.ContainsAny(p.Path, "*?[") {
			continue
		}
		real, err := filepath.EvalSymlinks(s.fromStart(p.Path))
		var st unix.Stat_t
		if err == nil && unix.Stat(real, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return s.treeAt(real), true
		}
	}
	return release.Tree{}, false
}

// treeAt is the directory of a release.
func (s *common) treeAt(root string) release.Tree {
	return release.Tree{Root: root, Counts: s.counts(), Lead: gitignore.Parse(s.cfg.Ignore).Match, Plain: s.trust != nil}
}

// counts says what of a directory belongs to a release: what is watched.
func (s *common) counts() func(rel string, isDir bool) bool {
	ignored := gitignore.Parse(append(gitignore.Default(), s.cfg.Ignore...))
	return func(rel string, isDir bool) bool { return !ignored.Match(rel, isDir) }
}

// examineTree reads the directory that belongs to the release of a job, and copies
// it where generations run from private copies. It runs beside the loop.
func (s *starts) examineTree(j *job) error {
	if !j.found.tree {
		return nil
	}
	tree, ok := s.tree()
	if !ok {
		return nil
	}
	if s.cfg.Snapshot {
		return s.copyTree(j, tree)
	}
	j.file.Root = tree.Root
	if !j.file.Digest.Known() {
		return nil // the first start does not wait for it: see readLater
	}
	d, err := tree.Digest(j.cancel)
	if errors.Is(err, unix.EAGAIN) {
		return err
	}
	if err != nil {
		return &refusal{exitcode.Failure, fmt.Sprintf("%s: %v", tree.Root, err)}
	}
	j.file.Tree = d
	return nil
}

// copyTree makes the private copy of a directory, and a command that leads into it.
func (s *starts) copyTree(j *job, tree release.Tree) error {
	command, target := (release.Command{Path: j.path, Argv: j.argv, Dir: s.dir}).Resolve(j.script)
	if target != j.file.Real {
		return fmt.Errorf("%s leads to another file by now: %w", s.target(j), unix.EAGAIN)
	}
	p, err := s.makePrivate(command.ExecutesIn(tree.Root))
	if err != nil {
		return &refusal{exitcode.Failure, fmt.Sprintf("cannot make the private copy of %s (--snapshot): %v", tree.Root, err)}
	}
	copied, d, err := release.CopyTree(tree, p, release.CopyOptions{
		Done: j.cancel, Before: j.before, As: s.mayWrite, Own: s.own(),
	})
	var f *release.File
	rel, within := tree.Within(j.file.Real)
	if err == nil && within {
		f, err = j.file.InCopy(filepath.Join(copied.Root, rel), j.cancel)
	}
	if err != nil {
		p.Remove()
		if errors.Is(err, release.ErrTorn) || errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("%s changes while it is copied: %w", tree.Root, unix.EAGAIN)
		}
		return &refusal{exitcode.Failure, fmt.Sprintf("cannot make the private copy of %s (--snapshot): %v", tree.Root, err)}
	}
	if f != nil {
		j.file.Close()
		j.file = f
	}
	j.file.Root, j.file.Tree = tree.Root, d
	j.origin, j.copy = command, p
	j.command = command.Move([]release.Move{{From: tree.Root, To: copied.Root}})
	return nil
}

// makePrivate makes a directory for a private copy. exec says that the command's
// own file is executed from it.
func (s *starts) makePrivate(exec bool) (*release.Private, error) {
	p, err := release.MakePrivate(release.Place{Dir: s.fromStart(s.cfg.SnapshotDir), Guarded: s.credential() != nil, Exec: exec})
	if err == nil && p.NoExec {
		s.noExec.Do(func() {
			s.note("private copies are in %s, which is mounted noexec: no program in them can be executed, and no library loaded (docker run --tmpfs /tmp:exec, or --snapshot-dir)", filepath.Dir(p.Path))
		})
	}
	return p, err
}

// mayWrite reports whether the app may write to a file.
func (s *common) mayWrite(st *unix.Stat_t) bool {
	c := s.credential()
	if c == nil {
		return true // it runs as hotinit does, to whom the copies belong
	}
	return c.UID == 0 || c.UID == st.Uid || st.Mode&0o002 != 0 ||
		st.Mode&0o020 != 0 && (c.GID == st.Gid || slices.Contains(c.Groups, st.Gid))
}

// shareCopy takes the copy of a generation of the same release in the place of a
// new one: what is the same need not be there twice.
func (s *starts) shareCopy(j *job) {
	if j.copy == nil {
		return
	}
	r := s.releases.held[j.file.Name()]
	if r == nil || r.copy == nil || r.copy == j.copy {
		return
	}
	go j.copy.Remove()
	j.file.CloseBeside()
	j.file, j.copy, j.command, j.origin = r.file, r.copy, r.command, r.origin
}
