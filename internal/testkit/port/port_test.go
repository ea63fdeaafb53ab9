package port

import (
	"net"
	"strconv"
	"testing"
)

func TestAPortIsGivenOnce(t *testing.T) {
	seen := make(map[int]bool)
	for range 200 {
		p := Free(t)
		if seen[p] {
			t.Fatalf("%d was given twice", p)
		}
		seen[p] = true
		if p >= end() || p < lowest {
			t.Errorf("%d is one that the kernel may give to others", p)
		}
		if _, err := net.Listen("unix", "@hotinit-test-port-"+strconv.Itoa(p)); err == nil {
			t.Errorf("another process may get %d", p)
		}
	}
}

func TestAPortThatIsTakenIsNotFree(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%v", err)
			continue
		}
		defer l.Close()
		if p := l.Addr().(*net.TCPAddr).Port; free(p) {
			t.Errorf("%s is said to be free", l.Addr())
		}
	}
}
