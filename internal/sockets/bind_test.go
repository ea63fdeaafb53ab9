package sockets

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// bind binds for the length of a test.
func bind(t *testing.T, s Spec) int {
	t.Helper()
	fd, err := Bind(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestBindListensInBlockingModeAndIsNotInherited(t *testing.T) {
	fd := bind(t, mustParse(t, "127.0.0.1:0"))
	if on, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); on != 1 {
		t.Error("the socket does not listen")
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
		t.Error("the socket is in non-blocking mode")
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("the socket is not close-on-exec")
	}
}

func TestBoundHasThePortThatTheKernelChose(t *testing.T) {
	for _, text := range []string{"127.0.0.1:0", "127.0.0.1:u0"} {
		s := mustParse(t, text)
		fd := bind(t, s)
		bound := s.Bound(fd)
		if bound.Port == 0 || Address(fd) != "127.0.0.1:"+strconv.Itoa(bound.Port) {
			t.Errorf("%s is bound to %s, Bound says %s", text, Address(fd), bound)
		}
	}
}

func TestBindFindsLocalhost(t *testing.T) {
	fd := bind(t, mustParse(t, "localhost:0"))
	if got := Address(fd); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("localhost is %s", got)
	}
}

func TestBindDoesNotKnowOtherHosts(t *testing.T) {
	_, err := Bind(mustParse(t, "nowhere.invalid:80"), 0)
	want := `cannot bind nowhere.invalid:80: host "nowhere.invalid" is not known: it is not in /etc/hosts (name servers are not asked; give an address)`
	if err == nil || err.Error() != want {
		t.Errorf("Bind says %v, want %s", err, want)
	}
}

func TestFindHostPrefersIPv4(t *testing.T) {
	hosts := "# web 9.9.9.9\n::1 web ip6\n10.0.0.1\tother WEB # web\n"
	for host, want := range map[string]string{"web": "10.0.0.1", "ip6": "::1", "9.9.9.9": "", "#": ""} {
		if got, _ := findHost(hosts, host); got != want {
			t.Errorf("%s has address %q, want %q", host, got, want)
		}
	}
}

func TestBindRefusesATakenPort(t *testing.T) {
	for _, text := range []string{"127.0.0.1:0", "127.0.0.1:u0"} {
		s := mustParse(t, text)
		taken := s.Bound(bind(t, s))
		_, err := Bind(taken, 0)
		want := fmt.Sprintf("cannot bind %s: address already in use (another process listens there; choose another port)", taken.display())
		if err == nil || err.Error() != want {
			t.Errorf("Bind says %v, want %s", err, want)
		}
	}
}

func TestBindRefusesAnAddressOfAnotherMachine(t *testing.T) {
	_, err := Bind(mustParse(t, "192.0.2.1:8080"), 0)
	if err == nil || !strings.HasSuffix(err.Error(), "(no network interface has this address)") {
		t.Errorf("Bind says %v", err)
	}
}

func TestAdviceForAPortBelow1024(t *testing.T) {
	if got := mustParse(t, "80").bindAdvice(unix.EACCES); got != " (run as root, or publish a port above 1023)" {
		t.Errorf("the advice is %q", got)
	}
	if got := mustParse(t, "8080").bindAdvice(unix.EACCES); got != "" {
		t.Errorf("the advice for port 8080 is %q", got)
	}
}

func TestBindSharesAPortOnlyWithReuseport(t *testing.T) {
	s := mustParse(t, "127.0.0.1:0,reuseport")
	s = s.Bound(bind(t, s))
	bind(t, s)
}

func TestASocketIsInBlockingModeUnlessNonblockIsGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, address := range []string{"127.0.0.1:0", "127.0.0.1:u0", "unix:" + path} {
		for options, want := range map[string]bool{"": false, ",nonblock": true} {
			_ = os.Remove(path)
			flags, err := unix.FcntlInt(uintptr(bind(t, mustParse(t, address+options))), unix.F_GETFL, 0)
			if got := flags&unix.O_NONBLOCK != 0; err != nil || got != want {
				t.Errorf("%s%s: O_NONBLOCK is %v (%v)", address, options, got, err)
			}
		}
	}
}

func TestBindKeepsIPv6AndIPv4Apart(t *testing.T) {
	for _, c := range []struct {
		options string
		only    int
	}{{"", 1}, {",v6only", 1}, {",v6only=no", 0}} {
		fd, err := Bind(mustParse(t, "[::]:0"+c.options), 0)
		if err != nil {
			t.Skipf("no IPv6 here: %v", err)
		}
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		unix.Close(fd)
		if err != nil || only != c.only {
			t.Errorf("IPV6_V6ONLY with %q is %d, %v, want %d", c.options, only, err, c.only)
		}
	}
}

func TestBindFindsTheInterfaceOfAZone(t *testing.T) {
	if n, err := interfaceIndex("lo"); err != nil || n == 0 {
		t.Errorf("lo has index %d, %v", n, err)
	}
	if n, err := interfaceIndex("7"); err != nil || n != 7 {
		t.Errorf("7 is index %d, %v", n, err)
	}
	if n, err := interfaceIndex("nosuch0"); err == nil {
		t.Errorf("nosuch0 has index %d", n)
	}
}

func unixSpec(t *testing.T, options string) Spec {
	t.Helper()
	return mustParse(t, "unix:"+filepath.Join(t.TempDir(), "s")+options)
}

func TestBindMakesEachTypeOfUnixSocket(t *testing.T) {
	for options, want := range map[string]int{"": unix.SOCK_STREAM, ",type=dgram": unix.SOCK_DGRAM, ",type=seqpacket": unix.SOCK_SEQPACKET} {
		s := unixSpec(t, options)
		fd := bind(t, s)
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != want {
			t.Errorf("%s has type %d, %v, want %d", s, kind, err, want)
		}
		if got := Address(fd); got != s.Path {
			t.Errorf("%s is bound to %s", s, got)
		}
	}
}

func TestBindMakesAnAbstractSocket(t *testing.T) {
	s := mustParse(t, "unix:@hotinit-test-"+strconv.Itoa(os.Getpid()))
	if got := Address(bind(t, s)); got != s.Path {
		t.Errorf("%s is bound to %s", s, got)
	}
}

func TestBindSetsTheModeWhateverTheUmask(t *testing.T) {
	for options, want := range map[string]os.FileMode{"": 0o777, ",mode=0660": 0o660, ",mode=0": 0, ",mode=0622,type=dgram": 0o622} {
		s := unixSpec(t, options)
		bind(t, s)
		info, err := os.Lstat(s.Path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v, want %v", s, info.Mode(), err, want)
		}
	}
}

func TestBindSetsTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a file away")
	}
	s := unixSpec(t, ",user=65534,group=0")
	bind(t, s)
	var stat unix.Stat_t
	if err := unix.Lstat(s.Path, &stat); err != nil || stat.Uid != 65534 || stat.Gid != 0 {
		t.Errorf("the file belongs to %d:%d, %v, want 65534:0", stat.Uid, stat.Gid, err)
	}
}

func TestBindDoesNotKnowAUser(t *testing.T) {
	s := unixSpec(t, ",user=no-such-user")
	_, err := Bind(s, 0)
	want := "cannot bind " + s.Path + `: user "no-such-user" is not in /etc/passwd (give its number)`
	if err == nil || err.Error() != want {
		t.Errorf("Bind says %v, want %s", err, want)
	}
	if _, err := os.Lstat(s.Path); err == nil {
		t.Error("the socket file is there all the same")
	}
}

func TestBindReplacesAStaleSocketFile(t *testing.T) {
	for _, left := range []string{"", ",type=dgram", ",type=seqpacket"} {
		for _, wanted := range []string{"", ",type=dgram", ",type=seqpacket"} {
			s := unixSpec(t, "")
			old, err := Bind(mustParse(t, s.String()+left), 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(old)
			bind(t, mustParse(t, s.String()+wanted))
		}
	}
}

func TestBindRefusesASocketFileInUse(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	self := fmt.Sprintf("process %d (%s)", os.Getpid(), strings.TrimSpace(string(comm)))
	for left, server := range map[string]string{"": self, ",type=seqpacket": self, ",type=dgram": "another process"} {
		s := unixSpec(t, "")
		bind(t, mustParse(t, s.String()+left))
		_, err := Bind(s, 0)
		want := "cannot bind " + s.Path + ": " + server + " serves it (stop it, or choose another path)"
		if err == nil || err.Error() != want {
			t.Errorf("Bind beside a socket with %q says %v, want %s", left, err, want)
		}
		if _, err := os.Lstat(s.Path); err != nil {
			t.Errorf("the other's socket file is gone: %v", err)
		}
	}
}

func TestBindRefusesASocketWithAFullBacklog(t *testing.T) {
	s := unixSpec(t, "")
	fd, err := Bind(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 8 { // more than a backlog of 1 holds
		client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(client)
		err = unix.Connect(client, &unix.SockaddrUnix{Name: s.Path})
		if err == unix.EAGAIN {
			break
		}
	}
	if _, err := Bind(s, 0); err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("Bind says %v", err)
	}
}

func TestBindRefusesAFileThatIsNoSocket(t *testing.T) {
	s := unixSpec(t, "")
	if err := os.WriteFile(s.Path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Bind(s, 0)
	want := "cannot bind " + s.Path + ": there is a file that is not a socket (remove it, or choose another path)"
	if err == nil || err.Error() != want {
		t.Errorf("Bind says %v, want %s", err, want)
	}
	if content, err := os.ReadFile(s.Path); err != nil || string(content) != "precious" {
		t.Errorf("the file has %q, %v", content, err)
	}
}

func TestBindNamesAMissingDirectory(t *testing.T) {
	s := unixSpec(t, "")
	s.Path = filepath.Dir(s.Path) + "/none/s"
	if _, err := Bind(s, 0); err == nil || !strings.HasSuffix(err.Error(), "no such file or directory (create its directory first)") {
		t.Errorf("Bind says %v", err)
	}
}

func TestRemoveUnlinksOnlyASocket(t *testing.T) {
	s := unixSpec(t, "")
	bind(t, s)
	for range 2 { // the second finds nothing, which is as good
		if err := Remove(s); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(s.Path); err == nil {
			t.Fatal("the socket file is still there")
		}
	}
	if err := os.WriteFile(s.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(s); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.Path); err != nil {
		t.Errorf("a file that is no socket was removed: %v", err)
	}
}

func TestFromFDDescribesWhatBindMade(t *testing.T) {
	for _, text := range []string{"127.0.0.1:0", "127.0.0.1:u0", "0", "u0", "[::1]:0", "[::]:0,v6only=no", "[::]:0",
		"unix:" + filepath.Join(t.TempDir(), "a"), "unix:" + filepath.Join(t.TempDir(), "b") + ",type=dgram",
		"unix:@hotinit-fromfd-" + strconv.Itoa(os.Getpid()) + ",type=seqpacket"} {
		s := mustParse(t, text)
		s.OnlyIPv4 = s.bare()
		fd, err := Bind(s, 0)
		if err != nil && strings.HasPrefix(text, "[") {
			continue // no IPv6 here
		}
		if err != nil {
			t.Fatal(err)
		}
		want := s.Bound(fd)
		want.Name = "web"
		got, err := FromFD(fd, "web")
		unix.Close(fd)
		if err != nil || got != want {
			t.Errorf("%s is described as %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestFromFDRefusesWhatIsNoSocket(t *testing.T) {
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := fmt.Sprintf("descriptor %d of LISTEN_FDS is not a socket: socket operation on non-socket", file.Fd())
	if _, err := FromFD(int(file.Fd()), ""); err == nil || err.Error() != want {
		t.Errorf("FromFD says %v, want %s", err, want)
	}
}

// As soon as the file is made somebody may put another in its place: none of these
// gets the mode and the owner that were meant for it.
func TestAFileInThePlaceOfTheSocketsIsLeftAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give a file to another user")
	}
	dir := t.TempDir()
	socket := func(name string) string {
		path := filepath.Join(dir, name)
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := filepath.Join(dir, "plain")
	err := errors.Join(
		os.WriteFile(plain, nil, 0o600),
		os.Symlink("plain", filepath.Join(dir, "link")),
		os.Link(socket("other"), filepath.Join(dir, "hard")),
		os.Chown(socket("theirs"), 1, 1),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain", "link", "hard", "theirs"} {
		s := mustParse(t, "unix:"+filepath.Join(dir, name))
		at, err := s.place()
		if err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(s.Path)
		err = s.setOwner(at, 65534, 65534, 0o777)
		at.dir.Close()
		after, _ := os.Lstat(s.Path)
		if err == nil || after.Mode() != before.Mode() || after.Sys().(*syscall.Stat_t).Uid == 65534 {
			t.Errorf("%s: %v; it was %v and is %v", name, err, before, after)
		}
	}
}

// Somebody turns the directory into a link to root's and back, again and
// again: bind(2), chmod(2) and unlink(2) follow it.
func TestBindIsNotLedElsewhereInARace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give a directory to another user")
	}
	const stranger = 65534
	top := t.TempDir()
	root, app := filepath.Join(top, "root"), filepath.Join(top, "app")
	real, fake := filepath.Join(app, "real"), filepath.Join(app, "fake")
	for _, dir := range []string{root, app, real} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(root, fake); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{app, real, fake} {
		if err := os.Lchown(path, stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
	old, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// A stale socket of root's: it is removed where it is not in the way.
	if err := unix.Bind(old, &unix.SockaddrUnix{Name: filepath.Join(root, "stale")}); err != nil {
		t.Fatal(err)
	}
	unix.Close(old)
	done, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, real, unix.AT_FDCWD, fake, unix.RENAME_EXCHANGE)
			}
		}
	}()
	bound := 0
	for range 3000 {
		for _, name := range []string{"sock", "stale"} {
			s := mustParse(t, "unix:"+filepath.Join(real, name)+",mode=0777,user=65534")
			if fd, err := Bind(s, 0); err == nil {
				bound++
				unix.Close(fd)
			}
			_ = Remove(s)
		}
	}
	close(done)
	<-ended
	names, err := os.ReadDir(root)
	if err != nil || len(names) != 1 || names[0].Name() != "stale" {
		t.Errorf("in root's directory are %v, %v", names, err)
	}
	if bound == 0 {
		t.Error("nothing was bound at all")
	}
}

// timeWait leaves a connection in TIME_WAIT on a port on which nobody listens, of a
// socket that had not set SO_REUSEADDR.
func timeWait(t *testing.T) (port int) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	defer unix.Close(server)
	check(unix.Bind(server, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(unix.Listen(server, 1))
	sa, err := unix.Getsockname(server)
	check(err)
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	check(unix.Connect(client, sa))
	accepted, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
	check(err)
	// Who closes first waits.
	check(unix.Close(accepted))
	n, err := unix.Read(client, make([]byte, 1))
	if n != 0 || err != nil {
		t.Fatal(n, err)
	}
	check(unix.Close(client))
	return sa.(*unix.SockaddrInet4).Port
}

func TestBindTellsTimeWaitFromAProcessThatListens(t *testing.T) {
	s := mustParse(t, strconv.Itoa(timeWait(t)))
	_, err := Bind(s, 0)
	if err == nil || !strings.Contains(err.Error(), "address already in use (nobody listens there, but connections of a process that has ended are in TIME_WAIT") {
		t.Errorf("Bind says %v", err)
	}
}

func TestBindNamesTheProcessThatListens(t *testing.T) {
	s := mustParse(t, "127.0.0.1:0")
	fd, err := Bind(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	s = s.Bound(fd)
	// It inherits the socket, which then is its alone.
	other := exec.Command("sleep", "1000")
	other.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "socket")}
	if err := other.Start(); err != nil {
		t.Skip(err)
	}
	other.ExtraFiles[0].Close()
	defer func() { other.Process.Kill(); other.Wait() }()
	want := fmt.Sprintf("(process %d (sleep) listens there; choose another port)", other.Process.Pid)
	if _, err := Bind(s, 0); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Bind says %v, want %s", err, want)
	}
}
