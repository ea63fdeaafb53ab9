package handoff

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/sockets"
)

// identityOf looks up --user and --groups in the container's own /etc/passwd
// and /etc/group: only there do a name and a number belong together. It returns
// nil where the app runs as hotinit itself. recorded is what the last handoff
// left, empty for the first: what that one found holds on.
func identityOf(cfg *settings.Config, recorded []byte) (*passwd.Identity, error) {
	if cfg.User == "" {
		if len(cfg.Groups) > 0 {
			return nil, fmt.Errorf("--groups %s is without effect unless --user is given", strings.Join(cfg.Groups, ","))
		}
		return nil, nil
	}
	var last snapshot
	if len(recorded) > 0 && last.decode(recorded) == nil && last.User.Known {
		return last.User.identity(), nil
	}
	id, err := passwd.LookUp(cfg.User, cfg.Groups)
	if err != nil {
		return nil, err
	}
	return &id, nil
}

// open binds a plan's sockets and works out what each generation gets that runs with
// it. inherited are the descriptors that hotinit was started with, by number; recorded
// is what the last handoff left.
func (s *program) open(pl *plan, inherited map[int]int, recorded []byte) (err error) {
	if pl.opened {
		return nil
	}
	if s.member {
		if err := s.as(pl).checkTrust(); err != nil {
			return err
		}
	}
	if err := s.describe(pl, recorded); err != nil {
		return err
	}
	c, cfg := &pl.contract, pl.cfg
	var specs []sockets.Spec
	var fds []int
	if !s.member {
		if specs, fds, err = activated(pl, inherited); err != nil {
			return err
		}
	}
	for _, spec := range cfg.Sockets {
		fd, err := s.bind(spec, cfg.Backlog)
		if err != nil {
			return err
		}
		specs, fds = append(specs, spec), append(fds, fd)
	}
	numbers, err := sockets.Assign(specs)
	if err != nil {
		return err
	}
	c.Sockets = nil
	for i, spec := range specs {
		c.Sockets = append(c.Sockets, contract.Socket{Spec: spec.Bound(fds[i]), FD: fds[i], Number: numbers[i]})
	}
	if err := s.keepInherited(pl, inherited); err != nil {
		return err
	}
	if s.member {
		if err := s.adoption.start(pl); err != nil {
			return err
		}
	}
	pl.opened = true
	return nil
}

// describe works out what each generation gets that runs with a plan, but for sockets.
func (s *program) describe(pl *plan, recorded []byte) (err error) {
	c, cfg := &pl.contract, pl.cfg
	c.Base = s.environ()
	if s.member {
		c.Base = memberEnvironment(c.Base, cfg)
		if n := s.as(pl).instance(); n != "" {
			c.Base = append(c.Base, instanceVariable+"="+n)
		}
	}
	c.EnvDir = s.fromStart(cfg.EnvDir)
	c.Always = cfg.Compat == "start_server"
	c.Plain = cfg.Compat != "" && !c.Always
	c.ReadyFD = -1
	if cfg.Ready.Mode == settings.ReadyFD {
		c.ReadyFD = cfg.Ready.FD
	}
	c.Watchdog, c.Notify = cfg.Watchdog, s.notifyAddress
	if c.Watchdog == 0 && !s.member && os.Getenv(contract.DaemonVariable) == "" {
		c.Watchdog = managersWatchdog()
	}
	if pl.user != nil {
		c.Identity = pl.user
		return nil
	}
	c.Identity, err = identityOf(cfg, recorded)
	return err
}

// memberEnvironment is the environment of a program that a file made: hotinit's own
// without hotinit's settings, which a hotinit below would take for its own, and what
// the file says.
func memberEnvironment(base []string, cfg *settings.Config) []string {
	set := make(map[string]bool, len(cfg.Environment))
	for _, v := range cfg.Environment {
		name, _, _ := strings.Cut(v, "=")
		set[name] = true
	}
	env := make([]string, 0, len(base)+len(cfg.Environment)+1)
	for _, v := range base {
		if name, _, _ := strings.Cut(v, "="); !set[name] && !strings.HasPrefix(name, "HOTINIT_") {
			env = append(env, v)
		}
	}
	return append(append(env, cfg.Environment...), programVariable+"="+cfg.Program)
}

// boundSocket is one that hotinit has bound for a program.
type boundSocket struct {
	spec  sockets.Spec
	fd    int
	files *socketFiles // of a unix socket, who takes care of its file
}

// bind returns the socket of a spec: the one that it has, the one that init keeps, or
// a new one that init keeps from now on, so that it stays open whatever becomes of
// this process.
func (s *program) bind(spec sockets.Spec, backlog int) (int, error) {
	lead := s.lead()
	if b := lead.bound[spec.Key()]; b != nil {
		return b.fd, nil
	}
	name := "socket/" + spec.Key()
	fd := lead.kept.take(name)
	if fd < 0 {
		// The path of a unix socket is bound as it was given, for its length is
		// limited, and may be relative.
		_ = unix.Chdir(s.home)
		var err error
		fd, err = sockets.Bind(spec, backlog)
		_ = unix.Chdir("/")
		if err != nil {
			return -1, err
		}
		if spec.Port == 0 && !spec.Network.Unix() {
			s.note("listening on %s", sockets.Address(fd))
		}
		if err := lead.kept.keep(name, fd); err != nil {
			return -1, err
		}
	}
	b := &boundSocket{spec: spec, fd: fd}
	if spec.HasFile() {
		b.files = lead.newFiles
		b.files.add(spec)
	}
	lead.bound[spec.Key()] = b
	return fd, nil
}

// activated returns the sockets that hotinit itself was started with by
// socket activation, sd_listen_fds(3). The handoff's parent, init, is the
// process that LISTEN_PID must name.
func activated(pl *plan, inherited map[int]int) (specs []sockets.Spec, fds []int, err error) {
	if pl.contract.Plain || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getppid()) {
		return nil, nil, nil
	}
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range count {
		fd, ok := inherited[3+i]
		if !ok {
			return nil, nil, fmt.Errorf("LISTEN_FDS=%d promises descriptor %d, which is not open", count, 3+i)
		}
		name := ""
		if i < len(names) {
			name = names[i]
		}
		spec, err := sockets.FromFD(fd, name)
		if err != nil {
			return nil, nil, fmt.Errorf("descriptor %d, from LISTEN_FDS: %w", 3+i, err)
		}
		specs, fds = append(specs, spec), append(fds, fd)
		delete(inherited, 3+i)
	}
	return specs, fds, nil
}

// keepInherited passes on the other descriptors that hotinit was started with:
// those of --keep-fds, or all of them where there are no sockets, as tini does.
func (s *program) keepInherited(pl *plan, inherited map[int]int) error {
	c := &pl.contract
	if len(c.Sockets) == 0 && len(pl.cfg.KeepFDs) == 0 && !s.member {
		c.Kept = inherited
		return belowLimit(inherited)
	}
	c.Kept = make(map[int]int)
	for _, n := range pl.cfg.KeepFDs {
		if n < 3 {
			continue // these are passed on anyway
		}
		fd, ok := inherited[n]
		if !ok {
			return fmt.Errorf("--keep-fds %d: hotinit was not started with a descriptor %d", n, n)
		}
		for _, sock := range c.Sockets {
			if sock.Number == n {
				return fmt.Errorf("--keep-fds %d: the app gets %s as descriptor %d (give that one another number, as in --port 8080=7)", n, sock.Spec, n)
			}
		}
		c.Kept[n] = fd
	}
	return belowLimit(c.Kept)
}

// belowLimit is an error where a descriptor has a number that no process may have
// under the app's limit of open files: it was opened before the limit was lowered.
func belowLimit(fds map[int]int) error {
	limit, ok := entry.NoFile()
	if !ok {
		return nil
	}
	for n := range fds {
		if uint64(n) >= limit.Cur {
			return fmt.Errorf("hotinit was started with a descriptor %d, and the limit of open files is %d (RLIMIT_NOFILE): the app cannot get it (raise the limit, or close it)", n, limit.Cur)
		}
	}
	return nil
}
