package handoff

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/internal/upgrade"
	"github.com/hotinit/hotinit/internal/watch"
	"github.com/hotinit/hotinit/reaper"
)

// newcomer is an executable that is to replace hotinit, checked and open.
type newcomer struct {
	number int
	path   string
	file   *release.File
	waited bool // long enough for what is being started
}

// name tells the same executable from another one, for init to keep.
func (c *newcomer) name() string { return c.file.Digest.String() + " " + c.path }

// ownPath is where hotinit was started from: its argv[0], found in PATH as a shell
// does, or else where its executable was.
func (u *upgrades) ownPath() (string, error) {
	if path, err := spawn.LookPath(os.Args[1], entry.Environ(), u.s.home); err == nil {
		return absolute(u.s.home, path), nil
	}
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("it is not known where hotinit was started from (%v): name the file", err)
	}
	return strings.TrimSuffix(path, " (deleted)"), nil
}

// check opens an executable and finds out, before anything is replaced, all that
// can be known of it. It runs beside the loop.
func (u *upgrades) check(path string) (*newcomer, error) {
	fd, err := safepath.OpenProgram(path)
	var refused *safepath.Refused
	switch {
	case errors.As(err, &refused) && refused.Path == path:
		return nil, fmt.Errorf("%s is not executed: it %s", path, refused.Why)
	case refused != nil:
		return nil, fmt.Errorf("%s is not executed: %s %s", path, refused.Path, refused.Why)
	case err != nil:
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	f, err := release.OpenFD(path, fd)
	if err != nil {
		return nil, fmt.Errorf("cannot examine %s: %w", path, err)
	}
	c := &newcomer{path: path, file: f}
	if err := u.judge(c); err != nil {
		c.file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (u *upgrades) judge(c *newcomer) error {
	if err := c.file.Check(release.CheckOptions{}, nil); err != nil {
		return err
	}
	if c.file.Kind != release.KindELF {
		return errors.New("it is not an ELF file")
	}
	if len(u.s.cfg.TrustedKeys) > 0 {
		if err := u.verify(c); err != nil {
			return err
		}
	}
	text, err := ask(c.file.FD())
	if err != nil {
		return err
	}
	about, err := upgrade.Parse(text)
	if err != nil {
		return err
	}
	return about.Follows(upgrade.Own())
}

// verify has a copy that nobody can change any more run in place of the file, and
// proves that what is in it was signed.
func (u *upgrades) verify(c *newcomer) error {
	trust := &release.Trust{}
	for _, path := range u.s.cfg.TrustedKeys {
		trust.Keys = append(trust.Keys, absolute(u.s.home, path))
	}
	if err := c.file.LoadSignature(); err != nil {
		return err
	}
	dir := u.s.cfg.SnapshotDir
	if dir != "" {
		dir = absolute(u.s.home, dir)
	}
	own, err := release.Snapshot(c.file, dir, true)
	if err != nil {
		return err
	}
	c.file.Close()
	c.file = own
	return own.Verify(trust, true, nil)
}

const (
	// sayWithin is how long an executable has to say what it is.
	sayWithin = 5 * time.Second
	mostSaid  = 64 << 10
)

// ask executes a file with the command line by which a hotinit says what it is.
func ask(fd int) ([]byte, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	read := os.NewFile(uintptr(pipe[0]), "what it says")
	defer read.Close()
	_ = unix.SetNonblock(pipe[1], false) // its end
	child, err := spawn.Start(&spawn.Spec{
		Path: "it", FD: fd, NoShell: true,
		Argv: append([]string{"hotinit"}, upgrade.Args...), Env: entry.Environ(),
		Files: []int{pipe[1], pipe[1], pipe[1]}, Umask: -1, Signals: entry.Inherited(),
		Setpgid: true, Foreground: -1, Cgroup: -1,
	})
	unix.Close(pipe[1])
	if err != nil {
		return nil, err
	}
	p := reaper.Own(child.PID, child.PIDFD)
	defer p.Close()
	_ = read.SetReadDeadline(time.Now().Add(sayWithin))
	text := make([]byte, 0, 4096)
	buf := make([]byte, 4096)
	for len(text) < mostSaid && err == nil {
		var n int
		n, err = read.Read(buf)
		text = append(text, buf[:n]...)
	}
	_ = p.SignalGroup(p.PID(), unix.SIGKILL)
	_ = p.Signal(unix.SIGKILL)
	p.Wait()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("it does not say what it is within %v", sayWithin)
	}
	return text, nil
}

// watch upgrades whenever hotinit's own file has new content (--watch-self).
func (u *upgrades) watch() {
	path, err := u.ownPath()
	var w *watch.Watcher
	if err == nil {
		w, err = watch.New(watch.Options{Command: path, Poll: poll(u.s.cfg), Settle: u.s.cfg.Settle,
			Log: func(text string) { say.Line("%s", text) }})
	}
	if err != nil {
		say.Line("cannot watch hotinit's own file (--watch-self): %v", err)
		return
	}
	if u.s.cfg.Verbosity > 0 && watch.SingleFileMount(path) {
		say.Line("%s is mounted as a single file: a hotinit that is renamed over it on the host does not show here. Mount the directory that it is in", path)
	}
	runs := ownRelease(path)
	var last message.Attempt
	u.s.loop.ask(func() { last = u.s.link.last })
	if last.Why == "" && last.Number > 0 && pathIn(last.File) != path {
		// What runs came from elsewhere, by hand: what is here is no news.
		if f, err := release.Open(path, release.CheckOptions{}); err == nil {
			runs = f.Release
			f.Close()
		}
	}
	own := ownRelease(path).Digest
	w.Running(runs)
	for ev := range w.Events() {
		ev.File.Close()
		d := ev.Release.Digest
		if d == own || d == digestIn(last.File) && last.Why != "" {
			continue
		}
		say.Note("%s has new content; it is to take over", path)
		_ = u.begin(path, func(int) {}) // it says why not
	}
}

// ownRelease is hotinit's own executable, as if it was at path.
func ownRelease(path string) release.Release {
	f, err := release.OpenUnchecked("/proc/self/exe")
	if err != nil {
		return release.Release{}
	}
	defer f.Close()
	_ = f.Read(nil)
	r := f.Release
	r.Path, r.Real = path, path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		r.Real = real
	}
	return r
}
