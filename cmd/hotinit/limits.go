package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What init and the handoff need to start an app and replace it once. Below these,
// Go's runtime would end one of them with a dump that names no limit. Package entry
// checks those limits under which the runtime does not even start.
const (
	fewestFiles   = 24
	fewestThreads = 24
)

// tooLow names the limit that is too low for hotinit to work, or /proc where it is
// missing; "" if nothing is.
func tooLow() string {
	if err := unix.Access("/proc/self/exe", unix.F_OK); err != nil {
		return fmt.Sprintf("/proc is not mounted, or not readable (/proc/self/exe: %v); hotinit starts itself from there, and finds the processes of the app in it", err)
	}
	if n, few := fewFiles(); few {
		return fmt.Sprintf("the limit of open files is %d (RLIMIT_NOFILE); hotinit needs %d, and one more for each socket", n, fewestFiles)
	}
	for _, dir := range [...]string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids"} { // version 2, 1
		if text := fewThreads(dir); text != "" {
			return text
		}
	}
	return ""
}

// fewFiles judges the limit of open files. Go has raised the soft limit to the hard
// one by now; the app gets its own.
func fewFiles() (limit uint64, few bool) {
	var files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	return files.Cur, err == nil && files.Cur < fewestFiles
}

// fewThreads judges the limit of processes and threads of a container's cgroup. (On
// a host's own root cgroup there is none.)
func fewThreads(dir string) string {
	max, err := os.ReadFile(dir + "/pids.max")
	if err != nil {
		return ""
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(max)))
	if err != nil || n >= fewestThreads { // or "max"
		return ""
	}
	return fmt.Sprintf("the limit of processes and threads is %d (pids.max of the cgroup, --pids-limit); hotinit needs %d, and the app its own", n, fewestThreads)
}
