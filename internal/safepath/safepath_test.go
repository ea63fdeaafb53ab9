package safepath

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 65534

// tree makes a directory with the file "secret", and in it the directory "app",
// which belongs to another user. Only root can.
func tree(t *testing.T) (top, app string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to give a directory to another user")
	}
	top = t.TempDir()
	app = filepath.Join(top, "app")
	write(t, filepath.Join(top, "secret"), "secret\n")
	must(t, os.Mkdir(app, 0o755))
	must(t, os.Chown(app, stranger, stranger))
	return top, app
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func link(t *testing.T, to, path string, uid int) {
	t.Helper()
	must(t, os.Symlink(to, path))
	must(t, os.Lchown(path, uid, uid))
}

func refused(t *testing.T, err error, why string) {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || !strings.Contains(err.Error(), why) {
		t.Errorf("%v, want a refusal: %s", err, why)
	}
}

// opens are all ways to get at the content of a file.
var opens = map[string]func(path string) error{
	"read": func(path string) error { _, err := ReadFile(path, 100); return err },
	"append": func(path string) error {
		fd, err := Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	},
}

func TestALinkThatAnotherUserCanMakeIsRefused(t *testing.T) {
	top, app := tree(t)
	link(t, "../secret", filepath.Join(app, "file"), stranger)
	link(t, top, filepath.Join(app, "dir"), stranger)
	link(t, "../secret", filepath.Join(app, "of-root"), 0) // a hard link to root's would be such a one
	link(t, "secret", filepath.Join(top, "given"), stranger)
	for how, open := range opens {
		t.Run(how, func(t *testing.T) {
			for _, path := range []string{"file", "dir/secret", "of-root", "dir/../secret"} {
				refused(t, open(app+"/"+path), "is a symbolic link in a directory in which others than root can make one, user 65534 for one")
				refused(t, open(app+"/./"+path), "is a symbolic link")
			}
			refused(t, open(filepath.Join(top, "given")), "is a symbolic link of user 65534")
		})
	}
	refused(t, Replace(filepath.Join(app, "dir/secret"), nil, 0o644), "is a symbolic link")
	refused(t, Remove(filepath.Join(app, "dir/secret")), "is a symbolic link")
	if _, err := OpenDir(filepath.Join(app, "dir")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("%v, want ELOOP", err)
	}
	if b, err := os.ReadFile(filepath.Join(top, "secret")); err != nil || string(b) != "secret\n" {
		t.Errorf("%q %v", b, err)
	}
}

// What only root can write to is root's to arrange.
func TestTheOperatorsOwnLinksAreFollowed(t *testing.T) {
	top, app := tree(t)
	write(t, filepath.Join(app, "file"), "of the app\n")
	link(t, app, filepath.Join(top, "current"), 0)
	link(t, "current/file", filepath.Join(top, "log"), 0)
	link(t, "loop", filepath.Join(top, "loop"), 0)
	for _, path := range []string{"current/file", "log", "current/../app/file", "./log"} {
		if b, err := ReadFile(filepath.Join(top, path), 100); err != nil || string(b) != "of the app\n" {
			t.Errorf("%s: %q %v", path, b, err)
		}
	}
	if _, err := ReadFile(filepath.Join(top, "loop"), 100); !errors.Is(err, unix.ELOOP) {
		t.Errorf("%v, want ELOOP", err)
	}
	// One that leads to nothing yet.
	link(t, "app/new", filepath.Join(top, "next"), 0)
	fd, err := Open(filepath.Join(top, "next"), unix.O_WRONLY|unix.O_CREAT, 0o644)
	must(t, err)
	unix.Close(fd)
	if _, err := os.Lstat(filepath.Join(app, "new")); err != nil {
		t.Error(err)
	}
}

func TestInAStickyDirectoryLinksAreRefusedAndDirectoriesOfRootBelieved(t *testing.T) {
	top, _ := tree(t)
	public := filepath.Join(top, "public")
	must(t, os.Mkdir(public, 0o755))
	must(t, os.Chmod(public, 0o777|os.ModeSticky))
	must(t, os.Mkdir(filepath.Join(public, "ours"), 0o755))
	link(t, "../../secret", filepath.Join(public, "ours/link"), 0)
	link(t, "../secret", filepath.Join(public, "link"), 0)
	if _, err := ReadFile(filepath.Join(public, "ours/link"), 100); err != nil {
		t.Error(err)
	}
	_, err := ReadFile(filepath.Join(public, "link"), 100)
	refused(t, err, "is a symbolic link")
	must(t, os.Chmod(public, 0o777)) // now others can move what is root's
	_, err = ReadFile(filepath.Join(public, "ours/link"), 100)
	refused(t, err, "is a symbolic link")
}

// As in a volume of configuration of Kubernetes: everybody may write by the
// mode, but the mount is read-only.
func TestLinksOnAReadOnlyMountAreFollowed(t *testing.T) {
	top, _ := tree(t)
	mount := filepath.Join(top, "config")
	must(t, os.Mkdir(mount, 0o755))
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "mode=1777"); err != nil {
		t.Skip("cannot mount:", err)
	}
	defer unix.Unmount(mount, unix.MNT_DETACH)
	must(t, os.Mkdir(filepath.Join(mount, "..1"), 0o755))
	write(t, filepath.Join(mount, "..1/KEY"), "value\n")
	link(t, "..1", filepath.Join(mount, "..data"), 0)
	link(t, "..data/KEY", filepath.Join(mount, "KEY"), 0)
	_, err := ReadFile(filepath.Join(mount, "KEY"), 100)
	refused(t, err, "is a symbolic link")
	must(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	if b, err := ReadFile(filepath.Join(mount, "KEY"), 100); err != nil || string(b) != "value\n" {
		t.Errorf("%q %v", b, err)
	}
}

func TestAHardLinkInAnothersDirectoryIsRefused(t *testing.T) {
	top, app := tree(t)
	must(t, os.Link(filepath.Join(top, "secret"), filepath.Join(app, "file")))
	for how, open := range opens {
		t.Run(how, func(t *testing.T) {
			refused(t, open(filepath.Join(app, "file")), "has another name elsewhere (a hard link)")
			if err := open(filepath.Join(top, "secret")); err != nil {
				t.Errorf("in root's own directory: %v", err)
			}
		})
	}
}

func TestAFIFODoesNotHang(t *testing.T) {
	top, app := tree(t)
	for _, dir := range []string{top, app} {
		must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666))
	}
	for how, open := range opens {
		refused(t, open(filepath.Join(app, "fifo")), "is not a regular file")
		if err := open(filepath.Join(top, "fifo")); err == nil {
			t.Errorf("%s of root's own: no error", how)
		}
	}
	r, err := os.OpenFile(filepath.Join(top, "fifo"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	defer r.Close()
	if err := opens["append"](filepath.Join(top, "fifo")); err != nil {
		t.Errorf("with a reader: %v", err)
	}
}

func TestADeviceIsOpenedWhereOnlyRootCanPutOne(t *testing.T) {
	_, app := tree(t)
	fd, err := Open("/dev/null", unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
	must(t, err)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 || flags&unix.O_APPEND == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	unix.Close(fd)
	zero := filepath.Join(app, "zero")
	if err := unix.Mknod(zero, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Skip("cannot make a device:", err)
	}
	_, err = ReadFile(zero, 100)
	refused(t, err, "is not a regular file")
	if _, err := ReadFile("/dev/zero", 100); !errors.Is(err, unix.EINVAL) {
		t.Errorf("%v, want EINVAL", err)
	}
}

func TestAnEndlessFileEnds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	write(t, path, "")
	must(t, os.Truncate(path, 1<<40))
	if _, err := ReadFile(path, 1000); !errors.Is(err, unix.EFBIG) {
		t.Errorf("%v, want EFBIG", err)
	}
}

// /dev/stdout is a link to one that only the kernel can follow.
func TestStandardOutputCanBeNamed(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	raw, err := w.SyscallConn()
	must(t, err)
	var path string
	raw.Control(func(fd uintptr) { path = fmt.Sprintf("/proc/self/fd/%d", fd) })
	for _, path := range []string{path, strings.Replace(path, "/proc/self", "/dev", 1)} {
		fd, err := Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		unix.Write(fd, []byte("x"))
		unix.Close(fd)
		if n, err := r.Read(make([]byte, 1)); n != 1 {
			t.Error(err)
		}
	}
	w.Close()
}

// The directory is turned into a link while the walk is on its way, or after.
func TestADirectoryIsOpenedOnceAndKept(t *testing.T) {
	top, app := tree(t)
	write(t, filepath.Join(top, "file"), "of root\n")
	sub := filepath.Join(app, "sub")
	must(t, os.Mkdir(sub, 0o755))
	must(t, os.Chown(sub, stranger, stranger))
	write(t, filepath.Join(sub, "file"), "of the app\n")
	d, name, err := Parent(filepath.Join(sub, "file"))
	must(t, err)
	defer d.Close()
	must(t, os.Rename(sub, sub+".old"))
	link(t, top, sub, stranger)
	if b, err := d.ReadFile(name, 100); err != nil || string(b) != "of the app\n" {
		t.Errorf("%q %v", b, err)
	}
	must(t, d.Remove(name))
	if b, err := os.ReadFile(filepath.Join(top, "file")); err != nil || string(b) != "of root\n" {
		t.Errorf("%q %v", b, err)
	}
}

// repeating calls f again and again, until stop is called.
func repeating(f func()) (stop func()) {
	done, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				f()
			}
		}
	}()
	return func() { close(done); <-ended }
}

// exchanging exchanges the names of two files again and again.
func exchanging(a, b string) (stop func()) {
	return repeating(func() { unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) })
}

// Somebody turns a directory into a link to root's and back, again and again.
func TestARaceIsNeverWon(t *testing.T) {
	top, app := tree(t)
	write(t, filepath.Join(top, "file"), "of root\n")
	must(t, os.Mkdir(filepath.Join(app, "real"), 0o755))
	write(t, filepath.Join(app, "real/file"), "of the app\n")
	link(t, top, filepath.Join(app, "link"), stranger)
	real := filepath.Join(app, "real")
	stop := exchanging(real, filepath.Join(app, "link"))
	opened := 0
	for range 3000 {
		if b, err := ReadFile(filepath.Join(real, "file"), 100); err == nil {
			opened++
			if string(b) != "of the app\n" {
				t.Fatalf("it reads %q", b)
			}
		}
		if err := Replace(filepath.Join(real, "made"), []byte("x"), 0o600); err == nil {
			Remove(filepath.Join(real, "made"))
		}
	}
	stop()
	names, err := os.ReadDir(top)
	must(t, err)
	for _, n := range names {
		if n.Name() != "app" && n.Name() != "secret" && n.Name() != "file" {
			t.Errorf("%s was made in root's directory", n.Name())
		}
	}
	if opened == 0 {
		t.Error("nothing was opened at all")
	}
}

// Likewise the file itself: what was looked at is not what is opened then.
func TestARaceForTheFileIsNeverWon(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, secret, path string){
		"a symbolic link": func(t *testing.T, secret, path string) { link(t, secret, path, stranger) },
		"a hard link":     func(t *testing.T, secret, path string) { must(t, os.Link(secret, path)) },
	} {
		t.Run(name, func(t *testing.T) {
			top, app := tree(t)
			path, other := filepath.Join(app, "file"), filepath.Join(app, "other")
			write(t, path, "of the app\n")
			put(t, filepath.Join(top, "secret"), other)
			stop := exchanging(path, other)
			defer stop()
			for opened := 0; opened < 3000; {
				b, err := ReadFile(path, 100)
				if err != nil {
					continue
				}
				if opened++; string(b) != "of the app\n" {
					t.Fatalf("it reads %q", b)
				}
			}
		})
	}
}

// A file that is to be made is not there, and then there is a link.
func TestARaceForANewFileIsNeverWon(t *testing.T) {
	top, app := tree(t)
	path, secret := filepath.Join(app, "file"), filepath.Join(top, "secret")
	stop := repeating(func() {
		os.Remove(path)
		os.Symlink(secret, path)
	})
	for made := 0; made < 1500; {
		fd, err := Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
		if err != nil {
			continue
		}
		made++
		unix.Write(fd, []byte("x"))
		unix.Close(fd)
	}
	stop()
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret\n" {
		t.Errorf("%.20q %v", b, err)
	}
}

func TestReplaceReplacesALinkAndDoesNotFollowIt(t *testing.T) {
	top, app := tree(t)
	path := filepath.Join(app, "status")
	link(t, "../secret", path, stranger)
	must(t, Replace(path, []byte("1:2\n"), 0o644))
	st, err := os.Lstat(path)
	must(t, err)
	if st.Mode() != 0o644 {
		t.Errorf("mode %v", st.Mode())
	}
	if b, err := os.ReadFile(filepath.Join(top, "secret")); err != nil || string(b) != "secret\n" {
		t.Errorf("%q %v", b, err)
	}
	if names, err := os.ReadDir(app); err != nil || len(names) != 1 {
		t.Errorf("%v %v", names, err)
	}
}

func TestAPinnedFileStaysTheSame(t *testing.T) {
	top, app := tree(t)
	path := filepath.Join(app, "sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	d, name, err := Parent(path)
	must(t, err)
	defer d.Close()
	p, err := d.Pin(name)
	must(t, err)
	defer p.Close()
	must(t, os.Rename(path, path+".old"))
	link(t, "../secret", path, stranger)
	must(t, p.Chmod(0o666))
	must(t, p.Chown(1, 2))
	var st unix.Stat_t
	must(t, unix.Lstat(path+".old", &st))
	if st.Mode&0o777 != 0o666 || st.Uid != 1 || st.Gid != 2 {
		t.Errorf("mode %o, user %d, group %d", st.Mode, st.Uid, st.Gid)
	}
	if st, err := os.Stat(filepath.Join(top, "secret")); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	l, err := d.Pin(name)
	must(t, err)
	defer l.Close()
	if err := l.Chmod(0o777); err == nil {
		t.Error("the mode of a link was set")
	}
}

// Between the two system calls that make a directory and open it, somebody may put
// another in its place: a link, or a directory of their own.
func TestADirectoryThatWasReplacedAsItWasMadeIsRefused(t *testing.T) {
	top, app := tree(t)
	must(t, os.Mkdir(filepath.Join(app, "theirs"), 0o700))
	must(t, os.Chown(filepath.Join(app, "theirs"), stranger, stranger))
	must(t, os.Mkdir(filepath.Join(app, "open"), 0o755))
	must(t, os.Mkdir(filepath.Join(top, "ours"), 0o700))
	link(t, "../ours", filepath.Join(app, "link"), stranger)
	d, err := OpenDir(app)
	must(t, err)
	defer d.Close()
	for _, name := range []string{"theirs", "open"} {
		_, err = d.openMade(name)
		refused(t, err, "was replaced as soon as it was made")
	}
	if _, err = d.openMade("link"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("%v, want ENOTDIR", err)
	}
}

// Nothing is known of what is above a directory that a link of proc(5) leads to, and
// such links of another user's process lead where that user likes.
func TestLinksOfProcLeadNowhereThatIsBelieved(t *testing.T) {
	top, app := tree(t)
	ours := filepath.Join(app, "ours")
	must(t, os.Mkdir(ours, 0o755))
	link(t, "../../secret", filepath.Join(ours, "link"), 0)
	f, err := os.Open(ours)
	must(t, err)
	defer f.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	_, err = ReadFile(path+"/link", 100)
	refused(t, err, "is a symbolic link in a directory")
	d, err := OpenDir(path)
	must(t, err)
	defer d.Close()
	if d.Settled() || d.Holds() {
		t.Error("a directory in the app's is believed to be root's alone")
	}
	_, err = d.ReadFile("link", 100)
	refused(t, err, "is a symbolic link in a directory")

	c := exec.Command("sleep", "1000")
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	must(t, c.Start())
	defer func() { c.Process.Kill(); c.Wait() }()
	_, err = ReadFile(fmt.Sprintf("/proc/%d/cwd%s/secret", c.Process.Pid, top), 100)
	refused(t, err, "is a symbolic link in a directory")
}

// Something is mounted over the working directory, which is no other for that.
func TestTheWorkingDirectoryIsNotWhatIsMountedOverIt(t *testing.T) {
	top, app := tree(t)
	link(t, filepath.Join(top, "secret"), filepath.Join(app, "link"), 0)
	t.Chdir(app)
	if err := unix.Mount("tmpfs", app, "tmpfs", 0, "mode=0755"); err != nil {
		t.Skip("cannot mount:", err)
	}
	defer unix.Unmount(app, unix.MNT_DETACH)
	_, err := ReadFile("link", 100)
	refused(t, err, "is a symbolic link in a directory")
}

func TestTheWorkingDirectoryIsThatOfBeforeOnceInsideIsOver(t *testing.T) {
	before := t.TempDir()
	t.Chdir(before)
	d, err := OpenDir(t.TempDir())
	must(t, err)
	defer d.Close()
	must(t, d.Inside(func() error { return nil }))
	if now, err := unix.Getwd(); err != nil || now != before {
		t.Errorf("%s, %v; want %s", now, err, before)
	}
}

func TestPathsThatLeadNowhere(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "x")
	for path, want := range map[string]error{
		"":                             unix.ENOENT,
		dir:                            unix.EISDIR,
		dir + "/":                      unix.EISDIR,
		dir + "/none":                  unix.ENOENT,
		dir + "/none/x":                unix.ENOENT,
		dir + "/file/":                 unix.ENOTDIR,
		dir + "/file/x":                unix.ENOTDIR,
		dir + "/file\x00x":             unix.EINVAL,
		"/..":                          unix.EISDIR,
		dir + strings.Repeat("x", 300): unix.ENAMETOOLONG,
	} {
		if _, err := ReadFile(path, 10); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
	t.Chdir(dir)
	if b, err := ReadFile("./file", 10); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
	link(t, "file", "link", os.Getuid())
	if b, err := ReadFile("link", 10); err != nil || string(b) != "x" {
		t.Errorf("through a link of our own in the working directory: %q %v", b, err)
	}
}
