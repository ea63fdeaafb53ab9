// Package port finds a port for a server that a test starts and that binds it itself.
//
// A port that the kernel chooses is free only while one has it: the kernel gives it to the
// next connection that anybody opens, or to another test, before the server binds it. So
// these ports are below those that the kernel chooses from, and a test that has one says so
// to all others until it ends.
package port

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// lowest is the first port that is tried. Below are well-known servers, and the ports that
// tests name themselves.
const lowest = 20000

// Free returns a port that nobody listens on, for TCP and UDP, and that no other test gets
// before this one ends.
func Free(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := lowest + rand.IntN(end()-lowest)
		claim, err := net.Listen("unix", "@hotinit-test-port-"+strconv.Itoa(port))
		if err != nil {
			continue // another test has it
		}
		if !free(port) {
			claim.Close()
			continue
		}
		t.Cleanup(func() { claim.Close() })
		return port
	}
	t.Fatal("no port is free")
	return 0
}

// Address returns an address of loopback with a port that is free.
func Address(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Free(t))
}

func free(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	p.Close()
	return true
}

// end is the first port that the kernel itself chooses (ip_local_port_range in ip(7)).
func end() int {
	first := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &first)
	}
	if first < lowest+1000 {
		return 65536 // it chooses from nearly all
	}
	return first
}
