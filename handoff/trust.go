package handoff

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/hook"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
)

// With --trusted-key a release is one of two things: an executable with its
// signature beside it, or the watched directory with SHA256SUMS and the signature
// of that in it. Either is copied to where nobody but hotinit can write, the copy
// is verified, and the copy runs: at each start, and again for a release that is
// gone back to. All of it is done beside the loop.

// checkTrust reports, by its error, why no release can ever be verified.
func (s *common) checkTrust() error {
	if s.trust == nil || s.cfg.Pause {
		return nil
	}
	if err := s.trust.Keys.Check(); err != nil {
		return err
	}
	command := strings.Join(s.cfg.Command, " ")
	if script, ok := release.Script(s.cfg.Command); ok {
		if _, tree := s.tree(); !tree {
			return fmt.Errorf("--trusted-key: what %s opens besides %s cannot be verified: sign its directory (SHA256SUMS and SHA256SUMS.minisig in it) and give that with --watch", s.cfg.Command[0], script)
		}
	} else if release.Interprets(s.cfg.Command) {
		return fmt.Errorf("--trusted-key: %q names no file that can be verified: name one in a signed directory (--watch)", command)
	}
	return nil
}

// own says who may read private copies, nil where they are as the original is.
func (s *common) own() *release.Own {
	if s.trust == nil {
		return nil
	}
	group := -1
	if c := s.credential(); c != nil {
		group = int(c.GID)
	}
	return &release.Own{Group: group}
}

// newestSigned is when the latest release that ran was signed.
func (s *common) newestSigned() int64 {
	if s.trust == nil {
		return 0
	}
	return s.trust.Newest()
}

// resumeSigned is newestSigned as somebody has kept it.
func (s *common) resumeSigned(signed int64) {
	if s.trust != nil {
		s.trust.Ran(signed)
	}
}

// signedAsTree reports whether a file belongs to a signed directory, so that it
// needs no signature of its own.
func (s *common) signedAsTree(path string) bool {
	tree, ok := s.tree()
	if !ok || path == "" {
		return ok
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	_, within := tree.Within(real)
	return within
}

// untrusted is a release that is not started since it cannot be verified.
func untrusted(what string, err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return err
	}
	return &refusal{exitcode.NotExecutable, fmt.Sprintf("%s: %v", what, err)}
}

// examineSigned opens the release, copies it, and checks the copy. It runs beside
// the loop.
func (s *starts) examineSigned(j *job) error {
	if err := s.open(j); err != nil {
		return err
	}
	target := s.target(j)
	if tree, ok := s.tree(); ok {
		if _, in := tree.Within(j.file.Real); !in {
			return untrusted(target, fmt.Errorf("not in %s, which is the directory that is signed (the first one of --watch)", tree.Root))
		}
		j.file.Signature, j.file.Signed = "", 0
		if err := s.copyTree(j, tree); err != nil {
			return err
		}
	} else {
		if j.script >= 0 || j.file.Kind == release.KindScript {
			return untrusted(target, errors.New("a script, and what it opens cannot be verified: sign its directory (SHA256SUMS and SHA256SUMS.minisig in it) and give that with --watch"))
		}
		if err := j.file.LoadSignature(); err != nil {
			return untrusted(target, err)
		}
		copied, err := release.Snapshot(j.file, s.fromStart(s.cfg.SnapshotDir), true)
		if err != nil {
			return &refusal{exitcode.Failure, fmt.Sprintf("cannot make the private copy of %s (--trusted-key): %v", target, err)}
		}
		j.file.Close()
		j.file = copied
	}
	if err := s.verify(j.file, j.copy, j.command, false, j.cancel); err != nil {
		return err
	}
	j.verified = true
	if s.cfg.Check != "" {
		return s.check(j)
	}
	return nil
}

// verify proves that what is going to be executed was signed: a file by its
// descriptor, or the copy that a command leads into. again says that the release is
// gone back to.
func (s *starts) verify(f *release.File, p *release.Private, command release.Command, again bool, done <-chan struct{}) error {
	if p == nil {
		if !copied(f) {
			return untrusted(f.Path, errors.New("not a private copy, so it may be altered once it was verified"))
		}
		if err := f.Verify(s.trust, again, done); err != nil {
			return untrusted(f.Path, err)
		}
		return nil
	}
	tree := s.treeAt(filepath.Join(p.Path, "tree"))
	tree.Copied = true
	if _, in := tree.Within(runs(command)); !in {
		return untrusted(f.Path, fmt.Errorf("not started from the signed directory %s: name it there in the command", f.Root))
	}
	signed, err := tree.Verify(s.trust, again, done)
	if err != nil {
		return untrusted(f.Root, err)
	}
	f.Signed = signed
	return nil
}

// runs is the path of the file that a command runs.
func runs(command release.Command) string {
	if script, ok := release.Script(command.Argv); ok {
		return absolute(command.Dir, script)
	}
	return absolute(command.Dir, command.Path)
}

// verifyAgain returns what verifies a release that is gone back to. That runs
// beside the loop, which may close the file.
func (s *starts) verifyAgain(j *job) (func() error, error) {
	r := s.releases.held[j.key]
	if j.file == nil || r == nil {
		return nil, &refusal{exitcode.Failure, fmt.Sprintf("release %s is not held any more", machine.Short(j.key))}
	}
	fd, err := unix.FcntlInt(uintptr(j.file.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	own, command := release.Resume(j.file.Release, fd), r.command
	return func() error {
		defer own.Close()
		err := s.verify(own, j.copy, command, true, j.cancel)
		j.verified = err == nil
		return err
	}, nil
}

// verifyKept has a release that the state directory kept run from a private copy,
// and verifies that. It closes what it refuses.
func (s *starts) verifyKept(r *heldRelease, done <-chan struct{}) error {
	if s.trust == nil {
		return nil
	}
	var err error
	if r.copy == nil {
		var own *release.File
		if own, err = release.Snapshot(r.file, s.fromStart(s.cfg.SnapshotDir), true); err == nil {
			r.file.Close()
			r.file = own
		}
	}
	if err == nil {
		err = s.verify(r.file, r.copy, r.command, true, done)
	}
	if err != nil {
		r.file.Close()
		r.copy.Remove()
	}
	return err
}

// checkCopy has --check look at the private copy: what lies at the path may be
// another file by now, and the check may execute it.
func (s *starts) checkCopy(j *job, c *hook.Command) {
	if j.copy != nil {
		c.Path, c.Dir = runs(j.command), j.command.Dir
		return
	}
	c.Path, c.Files = "/dev/fd/3", []int{j.file.FD()}
}

// noteSigned notes when the release that a job has started was signed.
func (s *starts) noteSigned(j *job) {
	if s.trust == nil || j.file == nil || !s.trust.Ran(j.file.Signed) || !s.trust.NoDowngrade {
		return
	}
	m, signed := s.releases.memory, j.file.Signed
	if m.store != nil {
		m.do(func() error {
			if err := m.store.Ran(signed); err != nil {
				return fmt.Errorf("the time of the latest signature cannot be kept in --state-dir: %w", err)
			}
			return nil
		})
	}
}
