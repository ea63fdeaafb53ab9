package adopt

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A unix socket with a path is the app's: each generation removes the file of the
// one before, and binds its own. Two things are wrong with that in a swap. When
// the old generation ends, it removes the file, which is the new one's by then;
// and when a new one fails, the file of the old one is gone. So as long as there
// are two, the file of each has a second name (a hard link beside it), and the
// path is made to lead to the newest one that lives.
//
// All of it is done as the user of the app, so that no link that an app puts in
// the way leads further than the app itself gets.

// guard is the file of one generation's socket.
type guard struct {
	gen    Gen
	path   string
	second string // its other name
	socket uint64 // the inode of the socket
	file   uint64 // and of the file
	user   *process
}

// paths are the guards of a program. Its fields are under the Adopter's lock.
type paths struct {
	guards []*guard
	watch  *os.File // inotify(7) of the directories, nil without guards
}

// secondName begins with a dot and says whose it is.
func secondName(path string, n Gen) string {
	dir, base := filepath.Split(path)
	whose := strconv.Itoa(n.N)
	if n.Instance > 0 {
		whose += "+" + strconv.Itoa(n.Instance)
	}
	return filepath.Join(dir, "."+base+".hotinit-"+whose)
}

// boundPath is one line of /proc/net/unix: a socket that listens at a path.
type boundPath struct {
	inode uint64
	path  string
}

// boundPaths reads the sockets that listen at an absolute path.
func boundPaths(text string) (list []boundPath) {
	for line := range strings.Lines(text) {
		// "Num RefCount Protocol Flags Type St Inode Path", see proc_net(5)
		f := strings.Fields(line)
		if len(f) < 8 || f[7][0] != '/' {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		const accepts = 1 << 16 // __SO_ACCEPTCON
		if err != nil || flags&accepts == 0 {
			continue
		}
		inode, err := strconv.ParseUint(f[6], 10, 64)
		if err != nil {
			continue
		}
		_, path, _ := strings.Cut(line, " "+f[6]+" ")
		list = append(list, boundPath{inode, strings.TrimSuffix(path, "\n")})
	}
	return list
}

// Swapping is called before another generation of an instance is started: the files of
// the sockets of those that are there get their second names.
func (a *Adopter) Swapping(instance int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.serves) == 0 || a.count(instance) == 0 {
		return
	}
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return
	}
	list := boundPaths(string(b))
	if len(list) == 0 {
		return
	}
	all := a.processes()
	for n := range a.gens {
		if n.Instance != instance {
			continue
		}
		pids, _ := all.of(n)
		for _, pid := range pids {
			inodes, _ := socketsOf(pid)
			for _, inode := range inodes {
				for _, l := range list {
					if l.inode == inode {
						a.guard(n, pid, l.path, inode)
					}
				}
			}
		}
	}
}

// guardNew guards the file of a socket that generation n is about to listen on,
// where its instance has others.
func (a *Adopter) guardNew(g *generation, p *process, path string, socket uint64) {
	if a.count(g.n.Instance) > 1 && filepath.IsAbs(path) {
		a.guard(g.n, p.tgid, path, socket)
	}
}

// guard gives the file of a socket its second name.
func (a *Adopter) guard(n Gen, pid int, path string, socket uint64) {
	for _, have := range a.paths.guards {
		if have.gen == n && have.path == path {
			if have.socket == socket {
				return
			}
			a.unguard(have) // it has bound the path anew
			break
		}
	}
	p, err := findProcess(uint32(pid))
	if err != nil || !p.sameRoot() {
		return
	}
	d := &guard{gen: n, path: path, second: secondName(path, n), socket: socket, user: p}
	err = p.always(func() error {
		if d.file, err = socketFile(path); err != nil {
			return err
		}
		_ = unix.Unlink(d.second) // a handoff that was lost has left it
		if err := unix.Link(path, d.second); err != nil {
			return err
		}
		if same, err := socketFile(d.second); err != nil || same != d.file {
			_ = unix.Unlink(d.second)
			return unix.EAGAIN // it was replaced meanwhile
		}
		return nil
	})
	if err != nil {
		return // then it is as it would be without hotinit
	}
	a.paths.guards = append(a.paths.guards, d)
	a.watchPath(path)
}

// socketFile is the inode of the file of a socket.
func socketFile(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return 0, unix.ENOTSOCK
	}
	return st.Ino, nil
}

// watchPath has the directory of a path watched for the path's removal.
func (a *Adopter) watchPath(path string) {
	w := &a.paths.watch
	if *w == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return
		}
		file := os.NewFile(uintptr(fd), "inotify")
		*w = file
		go func() {
			buf := make([]byte, 4096)
			for {
				if _, err := file.Read(buf); err != nil {
					return // it was closed
				}
				a.mu.Lock()
				for _, n := range a.instances() {
					a.restorePaths(n, false)
				}
				a.mu.Unlock()
			}
		}()
	}
	if raw, err := (*w).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_, _ = unix.InotifyAddWatch(int(fd), filepath.Dir(path), unix.IN_DELETE|unix.IN_MOVED_FROM)
		})
	}
}

// count is how many generations an instance has.
func (a *Adopter) count(instance int) (count int) {
	for n := range a.gens {
		if n.Instance == instance {
			count++
		}
	}
	return count
}

// instances are those whose sockets have guards.
func (a *Adopter) instances() (all []int) {
	for _, d := range a.paths.guards {
		if !slices.Contains(all, d.gen.Instance) {
			all = append(all, d.gen.Instance)
		}
	}
	return all
}

// restorePaths makes each path lead to an instance's newest generation, if that has bound it.
// While a newer one is there that has not, it may be about to: the path is left to
// it. ended says that a generation has ended: what is at a path may be its file.
func (a *Adopter) restorePaths(instance int, ended bool) {
	newest := Gen{Instance: instance}
	for n := range a.gens {
		if n.Instance == instance {
			newest.N = max(newest.N, n.N)
		}
	}
	for _, d := range a.paths.guards {
		if d.gen != newest {
			continue
		}
		_ = d.user.always(func() error {
			file, err := socketFile(d.path)
			switch {
			case err == unix.ENOENT:
				return unix.Link(d.second, d.path)
			case err != nil || file == d.file || !ended:
				return err
			}
			// It is that of a newer one, which has ended.
			fresh := d.second + ".new"
			if err := unix.Link(d.second, fresh); err != nil {
				return err
			}
			if err := unix.Rename(fresh, d.path); err != nil {
				_ = unix.Unlink(fresh)
				return err
			}
			return nil
		})
	}
}

// generationsChanged is called once a generation of an instance has gone.
func (a *Adopter) generationsChanged(instance int) {
	if len(a.paths.guards) == 0 {
		return
	}
	a.restorePaths(instance, true)
	kept := a.paths.guards[:0]
	for _, d := range a.paths.guards {
		if d.gen.Instance != instance || a.count(instance) > 1 && a.gens[d.gen] != nil {
			kept = append(kept, d)
		} else {
			d.remove()
		}
	}
	a.paths.guards = kept
	a.unwatchPaths()
}

// unguardAll is for the end of an instance.
func (a *Adopter) unguardAll(instance int) {
	a.paths.guards = slices.DeleteFunc(a.paths.guards, func(d *guard) bool {
		if d.gen.Instance != instance {
			return false
		}
		d.remove()
		return true
	})
	a.unwatchPaths()
}

func (a *Adopter) unwatchPaths() {
	if len(a.paths.guards) == 0 && a.paths.watch != nil {
		a.paths.watch.Close()
		a.paths.watch = nil
	}
}

func (a *Adopter) unguard(d *guard) {
	d.remove()
	kept := a.paths.guards[:0]
	for _, o := range a.paths.guards {
		if o != d {
			kept = append(kept, o)
		}
	}
	a.paths.guards = kept
}

func (d *guard) remove() {
	_ = d.user.always(func() error { return unix.Unlink(d.second) })
}
