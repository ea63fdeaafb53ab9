package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// family lists the init's processes: PID 1 and those of its children that
// execute the same file. The command beneath executes another.
func family(init int) ([]int, error) {
	own, err := os.Stat(fmt.Sprintf("/proc/%d/exe", init))
	if err != nil {
		return nil, err
	}
	pids := []int{init}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process may be gone by now: it is then none of them.
		if _, parent, ok := stateAndParent("/proc/" + e.Name()); !ok || parent != init {
			continue
		}
		if exe, err := os.Stat("/proc/" + e.Name() + "/exe"); err == nil && os.SameFile(own, exe) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// stateAndParent reads fields 3 and 4 of /proc/PID/stat, proc_pid_stat(5). The
// name before them may hold spaces and brackets, so they are counted from the
// last bracket.
func stateAndParent(dir string) (state byte, parent int, ok bool) {
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, 0, false
	}
	end := bytes.LastIndexByte(text, ')')
	if end < 0 || len(text) < end+4 {
		return 0, 0, false
	}
	rest := text[end+4:]
	field, _, _ := bytes.Cut(rest, []byte(" "))
	parent, err = strconv.Atoi(string(field))
	return text[end+2], parent, err == nil
}

// zombies counts the orphans that PID 1 has not collected yet, in the
// namespace's own /proc, which is short.
func zombies(init int) int {
	dir := fmt.Sprintf("/proc/%d/root/proc", init)
	f, err := os.Open(dir)
	if err != nil {
		return 0
	}
	names, _ := f.Readdirnames(-1)
	f.Close()
	n := 0
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		if state, parent, ok := stateAndParent(filepath.Join(dir, name)); ok && state == 'Z' && parent == 1 {
			n++
		}
	}
	return n
}

// memory is in KiB.
type memory struct{ pss, dirty, rss int }

// memoryOf adds up /proc/PID/smaps_rollup, proc_pid_smaps(5).
func memoryOf(pids []int) (memory, error) {
	var m memory
	for _, pid := range pids {
		fields, err := keyed(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return m, err
		}
		m.pss += fields["Pss"]
		m.dirty += fields["Private_Dirty"]
		m.rss += fields["Rss"]
	}
	return m, nil
}

// switches adds up the context switches of every thread.
func switches(pids []int) (int, error) {
	sum := 0
	for _, pid := range pids {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		if err != nil {
			return 0, err
		}
		for _, task := range tasks {
			fields, err := keyed(task)
			if err != nil {
				return 0, err
			}
			sum += fields["voluntary_ctxt_switches"] + fields["nonvoluntary_ctxt_switches"]
		}
	}
	return sum, nil
}

// keyed reads the lines of the form 'Key: 12 kB'.
func keyed(path string) (map[string]int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		key, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		if words := strings.Fields(rest); len(words) > 0 {
			if n, err := strconv.Atoi(words[0]); err == nil {
				values[key] = n
			}
		}
	}
	return values, nil
}

// processorTime is what the processes' threads have used so far, also those
// that have ended. The clock of another process is its PID negated and shifted
// by three, with 2 for the scheduler's own count, clock_getcpuclockid(3).
func processorTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid)<<3|2, &t); err != nil {
			return 0, fmt.Errorf("cannot read the processor time of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}
