package cgroup

import (
	"os"
	"strconv"
	"strings"
)

// Kills is how often the kernel's out-of-memory killer has killed a process. -1 where
// that is not known.
type Kills struct {
	Own     int // in hotinit's own cgroup, and in those below it
	Machine int // anywhere on the machine
}

// OOMKills reads the counters. The kernel counts before it sends SIGKILL, so that who
// sees the process ended sees it counted.
func OOMKills() Kills {
	k := Kills{-1, count("/proc/vmstat")}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return k
	}
	for _, line := range strings.Split(string(b), "\n") {
		part := strings.SplitN(line, ":", 3)
		if len(part) != 3 {
			continue
		}
		// In a container the mount may begin at the cgroup itself.
		var files []string
		switch {
		case part[1] == "":
			for _, place := range places {
				files = append(files, place+part[2]+"/memory.events", place+"/memory.events")
			}
		case strings.Contains(","+part[1]+",", ",memory,"):
			const v1 = "/sys/fs/cgroup/memory"
			files = []string{v1 + part[2] + "/memory.oom_control", v1 + "/memory.oom_control"}
		}
		for _, file := range files {
			if k.Own = count(file); k.Own >= 0 {
				return k
			}
		}
	}
	return k
}

// count returns the number of the line oom_kill, -1 where there is none.
func count(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	for _, line := range strings.Split(string(b), "\n") {
		if number, ok := strings.CutPrefix(line, "oom_kill "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return n
			}
		}
	}
	return -1
}
