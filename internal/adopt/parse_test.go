package adopt

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func FuzzParseAddress(f *testing.F) {
	f.Add([]byte{2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append([]byte{10, 0, 0, 80, 0, 0, 0, 0, 0xfe, 0x80}, make([]byte, 18)...))
	f.Add([]byte{1, 0, 0, 'x'})
	f.Add([]byte{1, 0, '/', 'x', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseAddress(b)
		if ok && a.family != unix.AF_UNIX && (a.port == 0 || ephemeral(b)) {
			t.Errorf("%x has port 0 and is adopted", b)
		}
		if ok {
			_ = key{domain: int(a.family)}.at(a)
		}
	})
}

func FuzzMaps(f *testing.F) {
	f.Add([]byte("1000-2000 r--p 0 0 0\n2000-3000 rw-p 0\n"), uint64(0x1ff0), uint64(0x20))
	f.Fuzz(func(t *testing.T, b []byte, at, size uint64) { readable(b, at, size) })
}

func FuzzLines(f *testing.F) {
	f.Add("pos:\t0\nflags:\t02004002\n", "socket:[4711]")
	f.Fuzz(func(t *testing.T, info, link string) {
		_, _ = parseFlags([]byte(info))
		_, _ = parseSocket(link)
	})
}

func TestReadableMemory(t *testing.T) {
	const maps = "1000-2000 r--p 0 0 0\n2000-3000 rw-p 0\n4000-5000 ---p 0\n6000-7000 -w-p 0\n"
	for _, c := range []struct {
		at, size uint64
		want     bool
	}{
		{0x1000, 16, true}, {0x1ff8, 16, true}, {0x2ff0, 16, true}, {0x2ff1, 16, false},
		{0x3000, 1, false}, {0x4000, 1, false}, {0x6000, 1, false}, {0x0fff, 1, false}, {0x8000, 1, false},
	} {
		if got := readable([]byte(maps), c.at, c.size); got != c.want {
			t.Errorf("%#x, %d bytes: %v, want %v", c.at, c.size, got, c.want)
		}
	}
}

// run is what the kernel would make of a filter.
func run(t *testing.T, p []unix.SockFilter, nr, arch uint32, args ...uint32) uint32 {
	t.Helper()
	data := [16]uint32{offNR / 4: nr, offArch / 4: arch}
	for i, a := range args {
		data[offArgs/4+2*i] = a
	}
	a := uint32(0)
	for pc := 0; pc < len(p); pc++ {
		switch i := p[pc]; i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = data[i.K/4]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == i.K {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d is %#x", pc, i.Code)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

func TestTheFilterNotifiesWhatItIsAskedFor(t *testing.T) {
	const yes, no = unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_RET_ALLOW
	full, guard := Program(Bind|Shutdown|Options), Program(Shutdown)
	for _, c := range []struct {
		p    []unix.SockFilter
		nr   uint32
		args []uint32
		want uint32
	}{
		{full, unix.SYS_BIND, nil, yes},
		{full, unix.SYS_LISTEN, nil, yes},
		{full, unix.SYS_SHUTDOWN, []uint32{5, unix.SHUT_WR}, no},
		{full, unix.SYS_SHUTDOWN, []uint32{5, unix.SHUT_RDWR}, yes},
		{full, unix.SYS_SHUTDOWN, []uint32{5, unix.SHUT_RD}, yes},
		{full, unix.SYS_SETSOCKOPT, []uint32{5, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}, yes},
		{full, unix.SYS_SETSOCKOPT, []uint32{5, unix.SOL_SOCKET, unix.SO_REUSEPORT}, yes},
		{full, unix.SYS_SETSOCKOPT, []uint32{5, unix.SOL_SOCKET, unix.SO_KEEPALIVE}, no},
		{full, unix.SYS_SETSOCKOPT, []uint32{5, unix.IPPROTO_TCP, unix.TCP_NODELAY}, no},
		{full, unix.SYS_SETSOCKOPT, []uint32{5, unix.IPPROTO_TCP, unix.TCP_FASTOPEN}, yes},
		{full, unix.SYS_ACCEPT4, []uint32{5}, no},
		{full, unix.SYS_BIND | 1<<30, nil, no}, // x32
		{guard, unix.SYS_BIND, nil, no},
		{guard, unix.SYS_SETSOCKOPT, []uint32{5, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}, no},
		{guard, unix.SYS_SHUTDOWN, []uint32{5, unix.SHUT_RDWR}, yes},
	} {
		if got := run(t, c.p, c.nr, auditArch, c.args...); got != c.want {
			t.Errorf("call %d %v: %#x, want %#x", c.nr, c.args, got, c.want)
		}
		if got := run(t, c.p, c.nr, auditArch+1, c.args...); got != no {
			t.Errorf("call %d %v of another architecture: %#x, want it to pass", c.nr, c.args, got)
		}
	}
}

func TestTheJournalsSlotHoldsAWholeNotification(t *testing.T) {
	if n := unsafe.Sizeof(notification{}); n != 80 {
		t.Errorf("struct seccomp_notif is 80 bytes, notification %d", n)
	}
	if n := unsafe.Sizeof(slot{}); n%8 != 0 {
		t.Errorf("a slot is %d bytes", n)
	}
}

func TestTheOldestNoteGivesWay(t *testing.T) {
	j := newJournal(-1)
	for i := range notes + 1 {
		j.note(uint64(i), 1, 2, []byte{byte(i), 0, 0, 0})
	}
	count := 0
	j.noted(0, func(int, int, []byte) { count++ })
	j.noted(notes, func(level, name int, value []byte) {
		if level == 1 && name == 2 && len(value) == 4 {
			count += 10
		}
	})
	if count != 10 {
		t.Errorf("count is %d, want the newest note alone", count)
	}
}

func TestKernelReleases(t *testing.T) {
	for release, want := range map[string]bool{"5.9.0": true, "5.10-rc1": true, "6.1.0-13-amd64": true, "5.8.18": false, "4.4.0": false, "": false, "x": false, "6": false} {
		if got := atLeast(release, 5, 9); got != want {
			t.Errorf("%q at least 5.9: %v", release, got)
		}
	}
}

func TestHarmNamesWhatWouldLosePrivileges(t *testing.T) {
	if !without(t, unix.CAP_SYS_ADMIN, "sys_admin") {
		if h := Harm("/bin/su", "/bin"); h != "" {
			t.Errorf("with CAP_SYS_ADMIN nothing is lost, and it is %q", h)
		}
		return
	}
	dir := t.TempDir()
	file := func(name string, mode uint32) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain, setuid, capable := file("plain", 0o755), file("setuid", 0o4755), file("capable", 0o755)
	// Version 2, with CAP_NET_BIND_SERVICE permitted and in effect, see capabilities(7).
	value := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(capable, "security.capability", value, 0); err != nil {
		t.Logf("no file capabilities here: %v", err)
		capable = setuid
	}
	for command, want := range map[string]bool{plain: false, setuid: true, capable: true} {
		if got := Harm(command, dir); (got != "") != want {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// TestSocketsOfANestedHotinitAreItsOwn: the control socket of a hotinit that runs
// as an app is no listener of the app's.
func TestSocketsOfANestedHotinitAreItsOwn(t *testing.T) {
	for name, want := range map[string]bool{"\x00hotinit/control/4026531836/7": false, "\x00hotinit/notify/1/2/app": false, "\x00hotinits": true, "\x00app": true} {
		b := append([]byte{unix.AF_UNIX, 0}, name...)
		if _, ok := parseAddress(b); ok != want {
			t.Errorf("%q is adopted: %v, want %v", name, ok, want)
		}
	}
}
