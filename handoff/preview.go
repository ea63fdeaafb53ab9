package handoff

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/sockets"
	"github.com/hotinit/hotinit/internal/watch"
)

// preview is `hotinit check`: what hotinit would do with a command line. It looks
// and says, and makes nothing: no file, no socket that stays, no process.
type preview struct {
	*program
	rows   []string          // a name, a tabulator, and what there is to say
	faults []string          // why hotinit, or a program, would not start, or would end at once
	asked  map[string]string // by address, which program asks for it
}

// Preview prints to out what hotinit would do with a command line, and to errs why
// it could not. It returns the status to exit with.
func Preview(argv []string, out, errs io.Writer) int {
	cfg, err := settings.Parse(argv, os.Environ())
	if err == nil && cfg.Action != settings.Run {
		err = errors.New("it takes the command line of a hotinit that starts a program")
	}
	if err == nil && cfg.Pause {
		err = errors.New("--pause starts no program, so there is nothing to check")
	}
	if err != nil {
		fmt.Fprintf(errs, "hotinit check: %v\n", err)
		return exitcode.Failure
	}
	home, err := os.Getwd()
	if err != nil {
		fmt.Fprintf(errs, "hotinit check: the working directory is not known: %v\n", err)
		return exitcode.Failure
	}
	s := &shared{loop: newLoop(), home: home, environ: entry.Environ, logs: &logs{home: home}, manager: &manager{}, terminal: &terminal{fd: -1}}
	p := &preview{program: newApp(s, cfg, func() {}), asked: map[string]string{}}
	p.contract.Base, p.contract.EnvDir, p.contract.ReadyFD = entry.Environ(), p.fromStart(cfg.EnvDir), -1
	if len(cfg.Command) > 0 {
		p.look()
	}
	p.programs()
	p.files()
	p.missing()
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, row := range p.rows {
		fmt.Fprintln(t, row)
	}
	_ = t.Flush()
	for _, w := range cfg.Warnings {
		fmt.Fprintf(errs, "hotinit check: warning: %s\n", w)
	}
	for _, fault := range p.faults {
		fmt.Fprintf(errs, "hotinit check: it would fail: %s\n", fault)
	}
	if len(p.faults) > 0 {
		return exitcode.Failure
	}
	return 0
}

// row adds a line.
func (p *preview) row(name, format string, args ...any) {
	p.rows = append(p.rows, name+"\t"+fmt.Sprintf(format, args...))
}

// fault adds a line about what would make hotinit fail.
func (p *preview) fault(name string, err error) {
	p.row(name, "%v", err)
	p.faults = append(p.faults, err.Error())
}

func (p *preview) look() {
	p.user()
	p.directory()
	p.ports()
	command, script := p.command()
	p.watches(command, script)
	p.adopts()
	if !p.cfg.Once {
		p.row("ready", "%s", p.readiness())
	}
	p.copies()
	p.cgroup()
	p.file("status file", "--status-file", p.cfg.StatusFile)
}

// user says who the app runs as.
func (p *preview) user() {
	id, err := identityOf(p.cfg, nil)
	switch {
	case err != nil:
		p.fault("user", err)
		return
	case id == nil:
		p.row("user", "%d, as hotinit itself", os.Geteuid())
	case int(id.UID) != os.Geteuid() && !adopt.HasCap(unix.CAP_SETUID):
		p.fault("user", fmt.Errorf("hotinit cannot become user %d (--user): it runs as user %d, without CAP_SETUID", id.UID, os.Geteuid()))
	default:
		p.row("user", "%d, group %d, further groups %v (--user)", id.UID, id.GID, id.Groups)
	}
	p.contract.Identity = id
}

// directory says where the app runs.
func (p *preview) directory() {
	var st unix.Stat_t
	err := unix.Stat(p.dir, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		p.fault("directory", fmt.Errorf("%s cannot be the working directory: %v", p.dir, err))
		return
	}
	p.row("directory", "%s", p.dir)
}

// ports says which sockets are bound, and whether each can be.
func (p *preview) ports() {
	specs := p.cfg.Sockets
	numbers, err := sockets.Assign(specs)
	if err != nil {
		p.fault("socket", err)
		return
	}
	for i, spec := range specs {
		text := spec.String()
		if other := p.asked[text]; other != "" && other != p.name && !strings.HasSuffix(text, ":0") {
			p.fault("socket", fmt.Errorf("cannot bind %s: program %s asks for it, too", spec, other))
			continue
		}
		p.asked[text] = p.name
		if err := sockets.Probe(spec); err != nil {
			p.fault("socket", err)
			continue
		}
		p.row("socket", "%s, as descriptor %d: can be bound", spec, numbers[i])
	}
}

// command says what is started, and returns the file that is watched, "" for none.
func (p *preview) command() (path string, script bool) {
	j := &job{n: 1, source: machine.Newest, script: -1, cancel: make(chan struct{})}
	if err := p.starts.resolve(j); err != nil {
		p.fault("command", err)
		return "", false
	}
	target := p.starts.target(j)
	path = p.starts.watchedOf(j)
	script = path != "" && j.script >= 0
	if script || j.script >= 0 {
		p.row("command", "%s, with the script %s", j.path, target)
	} else {
		p.row("command", "%s", target)
	}
	if err := p.checkTrust(); err != nil {
		p.fault("release", err)
		return path, script
	}
	if !p.starts.checked(j) {
		p.row("release", "none: the file is neither checked nor watched, and there is nothing to go back to (docs/watching.md)")
		return path, script
	}
	f, err := release.Open(target, release.CheckOptions{As: p.credential(), NoExec: j.script >= 0, KernelDecides: true})
	if err != nil {
		p.fault("release", fmt.Errorf("%s: %v", target, err))
		return path, script
	}
	defer f.Close()
	f.Settings = p.plan.hash // a part of its name
	p.releaseRow(f, j.script >= 0)
	return path, script
}

// releaseRow names the release, and says what makes it a good one.
func (p *preview) releaseRow(f *release.File, script bool) {
	if p.trust != nil && !p.signedAsTree(f.Path) {
		if err := f.LoadSignature(); err != nil {
			p.fault("release", fmt.Errorf("%s: %v", f.Path, err))
			return
		}
		if err := f.Verify(p.trust, false, nil); err != nil {
			p.fault("release", fmt.Errorf("%s: %v", f.Path, err))
			return
		}
	}
	kind := map[release.Kind]string{release.KindELF: "a complete ELF file for this machine", release.KindScript: "a script whose interpreter is there",
		release.KindDoubtful: "an ELF file that only the kernel can judge (" + f.Doubt + ")"}[f.Kind]
	if script {
		kind = "a file that an interpreter reads"
	}
	if kind == "" {
		kind = "a file that the kernel may run"
	}
	var checked []string
	if sum, ok := release.ChecksumFile(f.Path, f.Real); ok {
		checked = append(checked, "its checksum is that of "+sum)
	}
	switch {
	case p.trust != nil && p.signedAsTree(f.Path):
		checked = append(checked, "its directory's signature is verified at the start (--trusted-key)")
	case p.trust != nil:
		checked = append(checked, "its signature is good (--trusted-key)")
	}
	if p.cfg.Check != "" {
		checked = append(checked, "--check is asked at the start")
	}
	if tree, ok := p.tree(); ok {
		d, err := tree.Digest(nil)
		if err != nil {
			p.fault("release", fmt.Errorf("%s: %v", tree.Root, err))
			return
		}
		f.Root, f.Tree = tree.Root, d
		checked = append(checked, "all of "+tree.Root+" belongs to it")
	}
	p.row("release", "%s, %s", machine.Short(f.Name()), strings.Join(append([]string{kind}, checked...), "; "))
}

// watches says what is watched, and how.
func (p *preview) watches(command string, script bool) {
	describe := func(path, effect string) {
		there := path
		for strings.ContainsAny(there, "*?[") {
			there = filepath.Dir(there)
		}
		fs, how := watch.Describe(there, poll(p.cfg))
		if _, err := safepath.Stat(there); path != command && errors.Is(err, unix.ENOENT) {
			how += "; it does not exist yet: it is waited for"
		}
		p.row("watch", "%s: a change %s; %s, by %s", path, effect, fs, how)
	}
	if command != "" {
		describe(command, "is a new release")
		if watch.SingleFileMount(command) {
			p.row("", "it is mounted as a single file: what is renamed over it on the host does not show here; mount its directory")
		}
	}
	for _, w := range p.cfg.WatchPaths {
		effect := "is a new release"
		if w.Signal != 0 {
			effect = "sends the app " + machine.SignalName(int(w.Signal))
		}
		describe(p.fromStart(w.Path), effect)
	}
	if command == "" && len(p.cfg.WatchPaths) == 0 {
		p.row("watch", "nothing: a new generation starts when somebody asks (hotinit reload)")
	}
}

// adopts says what becomes of the sockets that the app binds itself.
func (p *preview) adopts() {
	d := p.adoption
	calls, wanted := d.adopts()
	switch err := adopt.Supported(); {
	case d.cfg.Adopt == settings.AdoptOff:
		p.row("adoption", "off (--adopt)")
	case !wanted:
		p.row("adoption", "none: nothing replaces a generation here")
	case err != nil && d.cfg.Adopt == settings.AdoptOn:
		p.fault("adoption", fmt.Errorf("cannot adopt the app's sockets (--adopt on): %w", err))
	case calls&adopt.Bind == 0:
		p.row("adoption", "none: the app gets its sockets from hotinit")
	case err != nil:
		p.row("adoption", "none, so a server that binds its own port cannot be swapped: %v", err)
	default:
		if path := p.commandPath(); path != "" && d.cfg.Adopt != settings.AdoptOn && !d.cfg.NoNewPrivs {
			if harm := adopt.Harm(path, os.Getenv("PATH")); harm != "" {
				p.row("adoption", "none: %s, and the kernel asks for no_new_privs (--adopt on accepts that)", harm)
				return
			}
		}
		if p.cfg.Instances > 1 {
			p.row("adoption", "the sockets that the app binds itself are shared by the instances, and handed on to their next generations")
			return
		}
		p.row("adoption", "the sockets that the app binds itself are handed on to the next generation")
	}
}

// commandPath is the path of what is executed, "" where it is not there.
func (p *preview) commandPath() string {
	j := &job{n: 1, source: machine.Newest, script: -1}
	if p.starts.resolve(j) != nil {
		return ""
	}
	return absolute(p.dir, j.path)
}

// readiness says what makes a generation ready.
func (p *preview) readiness() string {
	c := p.cfg
	sockets := len(c.Sockets) > 0 || c.Adopt != settings.AdoptOff
	text := map[settings.ReadyMode]string{
		settings.ReadyNotify:   "once it says READY=1",
		settings.ReadyFD:       fmt.Sprintf("once it writes a line to descriptor %d", c.Ready.FD),
		settings.ReadyExec:     "once the command of --ready exits with 0",
		settings.ReadyInterval: fmt.Sprintf("after %v, or once it says READY=1", c.Interval),
	}[c.Ready.Mode]
	switch {
	case text == "" && sockets:
		text = fmt.Sprintf("once it waits for connections and accepts what comes; without a socket after %v", c.Interval)
	case text == "":
		text = fmt.Sprintf("after %v, or once it says READY=1", c.Interval)
	}
	if c.ReadyTimeout > 0 {
		text += fmt.Sprintf("; rejected after %v", c.ReadyTimeout)
	}
	return text
}

// copies says where private copies and what is remembered are kept.
func (p *preview) copies() {
	if p.cfg.Snapshot {
		place := "in memory, or of a directory below /tmp"
		if p.cfg.SnapshotDir != "" {
			place = "in " + p.fromStart(p.cfg.SnapshotDir)
			if err := mayMake(filepath.Join(p.fromStart(p.cfg.SnapshotDir), "x")); err != nil {
				p.fault("snapshot", fmt.Errorf("cannot make private copies (--snapshot-dir): %v", err))
				return
			}
		}
		p.row("snapshot", "each generation runs from a private copy %s", place)
	}
	path := p.fromStart(p.cfg.StateDir)
	var st unix.Stat_t
	switch {
	case path == "":
		p.row("state", "kept for as long as hotinit runs: a restart starts what is at the path, also what was rejected (--state-dir)")
	case unix.Stat(path, &st) == unix.ENOENT:
		first := path // of those that are made
		for range p.storesAbove() {
			if above := filepath.Dir(first); unix.Stat(above, &st) == unix.ENOENT {
				first = above
			}
		}
		if err := mayMake(first); err != nil {
			p.row("state", "not kept: cannot make %s: %v", path, err)
			return
		}
		p.row("state", "%s is made", path)
	default:
		store, err := release.OpenStore(path, 0)
		if err != nil {
			p.row("state", "not kept: %v", err)
			return
		}
		known, err := store.List()
		if err != nil {
			p.row("state", "%v", err)
			return
		}
		p.row("state", "%s, with %d good releases and %d that were rejected", path, len(known.Good), len(known.Rejected))
	}
}

// cgroup says whether generations get cgroups of their own.
func (p *preview) cgroup() {
	var dir int
	var err error
	switch p.cfg.Cgroup {
	case settings.CgroupOff:
		p.row("cgroup", "none (--cgroup off)")
		return
	case settings.CgroupOn:
		dir, err = cgroup.OwnAnywhere()
	default:
		dir, err = cgroup.Own(os.Getpid() == 1)
	}
	if err != nil {
		p.row("cgroup", "none, so a process that leaves its group, its parent and its environment is found only at the end: %v", err)
		return
	}
	unix.Close(dir)
	p.row("cgroup", "one for each generation")
}

// files says which files hotinit writes that belong to no program.
func (p *preview) files() {
	switch log := strings.TrimSpace(p.cfg.LogFile); {
	case log == "":
		p.row("log", "standard error")
	case strings.HasPrefix(log, "|"):
		p.row("log", "what %s reads (--log-file)", strings.TrimSpace(log[1:]))
	default:
		p.file("log", "--log-file", log)
	}
	p.file("pid file", "--pid-file", p.cfg.PidFile)
}

// file says that hotinit writes a file, "" for none, and whether it may.
func (p *preview) file(name, flag, path string) {
	if path == "" {
		return
	}
	path = p.fromStart(path)
	if err := mayMake(path); err != nil {
		p.fault(name, fmt.Errorf("cannot write %s %s: %v", flag, path, err))
		return
	}
	p.row(name, "%s (%s)", path, flag)
}

// mayMake returns why a file could not be written or made, and makes nothing.
func mayMake(path string) error {
	if st, err := safepath.Stat(path); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
	}
	dir, _, err := safepath.Parent(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Inside(func() error { return unix.Faccessat(unix.AT_FDCWD, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) })
}

// missing says what this place does not have, and what that costs.
func (p *preview) missing() {
	n := len(p.rows)
	if err := pidfds(); err != nil {
		p.row("missing", "pidfds (%v): processes are identified by PID and start time", err)
	}
	if err := adopt.Supported(); err != nil {
		p.row("missing", "seccomp notification (%v): no socket of the app's own is adopted", err)
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		p.row("missing", "/proc (%v): whether an app waits for connections cannot be seen, and time decides (--interval)", err)
	}
	if len(p.rows) == n {
		p.row("missing", "nothing that hotinit uses of the kernel")
	}
}
