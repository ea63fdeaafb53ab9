package entry

import (
	"strings"
	"syscall"
	"unsafe"
)

// runtimeVariables govern Go's runtime. They are the app's alone: one that prints
// traces, or has too little memory for hotinit, must not end its PID 1.
var runtimeVariables = [...]string{"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK"}

// carriedVariable begins the name under which EnsureBlocked passes such a variable
// to the hotinit that it executes.
const carriedVariable = "_HOTINIT_ENTRY_"

// Environ returns the environment that hotinit was started with, byte for byte: in
// its order, with variables that are there twice, and with those that are hidden
// from Go's runtime. syscall.Environ has the first of each name only. Without an
// entry point and without /proc there is no better one.
func Environ() []string {
	var env []string
	if entered {
		env = walk(variables, variableCount)
	} else if b, err := initial(); err == nil {
		env = strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if len(b) == 0 {
			env = nil
		}
	} else {
		env = syscall.Environ()
	}
	kept := env[:0]
	for _, v := range env {
		if strings.HasPrefix(v, carrier+"=") {
			continue // hotinit's own
		}
		kept = append(kept, strings.TrimPrefix(v, carriedVariable))
	}
	return kept
}

// carriedEnviron is Environ for EnsureBlocked.
func carriedEnviron() []string {
	env := Environ()
	for i, v := range env {
		for _, name := range runtimeVariables {
			if strings.HasPrefix(v, name+"=") {
				env[i] = carriedVariable + v
			}
		}
	}
	return env
}

// walk returns the strings that begin at first. The kernel puts one behind the
// other, execve(2).
func walk(first *byte, count int) []string {
	env := make([]string, count)
	at := unsafe.Pointer(first)
	for i := range env {
		n := 0
		for *(*byte)(unsafe.Add(at, n)) != 0 {
			n++
		}
		env[i] = string(unsafe.Slice((*byte)(at), n))
		at = unsafe.Add(at, n+1)
	}
	return env
}

// initial is the environment in one piece, as the kernel shows it. It does without
// package os, which is not to be initialised before this one.
func initial() ([]byte, error) {
	fd, err := syscall.Open("/proc/self/environ", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var b []byte
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return b, err
		}
		b = append(b, buf[:n]...)
	}
}
