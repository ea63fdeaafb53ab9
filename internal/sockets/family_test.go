package sockets

import (
	"errors"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// needIPv6 skips a test where the machine has none.
func needIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	l.Close()
}

func TestAPortAloneIsBoundForBothFamilies(t *testing.T) {
	needIPv6(t)
	for _, text := range []string{"0", "*:0", "tcp:0", "0=7,name=web"} {
		fd := bind(t, mustParse(t, text))
		if got := Address(fd); !strings.HasPrefix(got, "[::]:") {
			t.Errorf("%s is bound to %s", text, got)
		}
		port := strconv.Itoa(mustParse(t, "0").Bound(fd).Port)
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			conn, err := net.Dial("tcp", host+":"+port)
			if err != nil {
				t.Errorf("%s does not listen on %s: %v", text, host, err)
				continue
			}
			conn.Close()
		}
	}
	fd := bind(t, mustParse(t, "u0"))
	if only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); err != nil || only != 0 {
		t.Errorf("IPV6_V6ONLY of a UDP socket is %d, %v", only, err)
	}
}

func TestAPortOfAnIPv4AddressHasThatAlone(t *testing.T) {
	if got := Address(bind(t, mustParse(t, "0.0.0.0:0"))); !strings.HasPrefix(got, "0.0.0.0:") {
		t.Errorf("it is bound to %s", got)
	}
	specs := parseAll(t, "0", "127.0.0.1:0", "/run/a")
	KeepIPv4(specs)
	if !specs[0].OnlyIPv4 || specs[1].OnlyIPv4 || specs[2].OnlyIPv4 {
		t.Errorf("KeepIPv4 makes them %+v", specs)
	}
	if got := Address(bind(t, specs[0])); !strings.HasPrefix(got, "0.0.0.0:") {
		t.Errorf("after KeepIPv4 it is bound to %s", got)
	}
}

// 80 and [::]:80 could always be had together.
func TestAPortBesideItsIPv6AddressIsForIPv4(t *testing.T) {
	for _, c := range []struct {
		beside string
		only   bool
	}{{"[::]:8080", true}, {"[::1]:8080", true}, {"[::]:8081", false}, {"[::]:u8080", false}, {"127.0.0.2:8080", false}} {
		for _, specs := range [][]Spec{parseAll(t, "8080", c.beside), parseAll(t, c.beside, "8080")} {
			if err := Distinct(specs); err != nil {
				t.Fatal(err)
			}
			for _, s := range specs {
				if s.Host == "" && s.OnlyIPv4 != c.only {
					t.Errorf("beside %s, 8080 is for IPv4 alone: %v", c.beside, s.OnlyIPv4)
				}
			}
		}
	}
}

func TestWithoutIPv6APortAloneIsForIPv4(t *testing.T) {
	for _, why := range []unix.Errno{unix.EAFNOSUPPORT, unix.EPERM} {
		address := make(chan string)
		go func() {
			runtime.LockOSThread() // and it ends with the goroutine: the filter is for good
			if err := refuse(why); err != nil {
				address <- "?" + err.Error()
				return
			}
			fd, err := Bind(Spec{Network: TCP, FD: -1, Mode: -1}, 0)
			if err != nil {
				address <- err.Error()
				return
			}
			address <- Address(fd)
			unix.Close(fd)
		}()
		got := <-address
		if text, no := strings.CutPrefix(got, "?"); no {
			t.Skip("there are no filters of system calls here:", text)
		}
		if !strings.HasPrefix(got, "0.0.0.0:") {
			t.Errorf("where IPv6 is refused with %v, it is bound to %s", why, got)
		}
	}
}

func TestAPortThatIsInUseIsNoMissingIPv6(t *testing.T) {
	for _, err := range []error{unix.EADDRINUSE, unix.EACCES, unix.EMFILE, errors.New("another")} {
		if withoutIPv6(err) {
			t.Errorf("%v is taken for a machine without IPv6", err)
		}
	}
}

// refuse makes socket(2) of this thread fail for IPv6.
func refuse(why unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},                               // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(unix.SYS_SOCKET), Jf: 3}, // another: allowed
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16 + familyHalf},                 // the first argument
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_INET6, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(why)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// familyHalf is where the low half of a 64-bit argument lies.
var familyHalf = func() uint32 {
	if one := uint16(1); *(*byte)(unsafe.Pointer(&one)) == 1 {
		return 0
	}
	return 4
}()
