package main

import "time"

// scale is how much of each thing is done; everything has an end.
type scale struct {
	runs         int // of each measurement, the tools in turn
	starts       int // command starts for a figure, per tool and run
	statuses     int // every n-th exit code and signal is tried
	orphans      int
	pings        int
	rest         time.Duration // before memory is read
	calm         time.Duration // before idleness counts
	idle         time.Duration
	idleRuns     int           // at most
	probation    time.Duration // of hotinit's generations that are to be idle; calm is longer
	swaps        int           // over all runs
	swapRuns     int           // at most
	intervals    []string      // of start_server
	renames      int           // per run
	clients      int
	appStartup   time.Duration // what the served app does before it is ready
	betweenSwaps time.Duration
	programs     int
	programsRuns int           // at most
	programsIdle time.Duration // for how long they are left alone
	rush         time.Duration // of requests without a pause
	output       int           // bytes that programs write
}

func fullScale() scale {
	return scale{
		runs: 5, starts: 40, statuses: 1, orphans: 20000, pings: 4000,
		rest: 3 * time.Second, calm: 14 * time.Second, idle: 60 * time.Second, idleRuns: 2, probation: 10 * time.Second,
		swaps: 60, swapRuns: 5, intervals: []string{"0", "1"}, renames: 20, clients: 8,
		appStartup: 100 * time.Millisecond, betweenSwaps: 300 * time.Millisecond, rush: 5 * time.Second,
		programs: 1000, programsRuns: 3, programsIdle: 60 * time.Second,
		output: 1 << 30,
	}
}

// quickScale takes a minute and a half on a machine that does nothing else. Most
// of that are pauses: between swaps, and until an idle hotinit is idle, for which its
// probation is a short one. It rests longer than hotinit waits before it gives memory back.
func quickScale() scale {
	return scale{
		runs: 2, starts: 10, statuses: 16, orphans: 600, pings: 400,
		rest: 2 * time.Second, calm: 4 * time.Second, idle: 2 * time.Second, idleRuns: 1, probation: time.Second,
		swaps: 3, swapRuns: 1, intervals: []string{"1"}, renames: 4, clients: 8,
		appStartup: 100 * time.Millisecond, betweenSwaps: 300 * time.Millisecond, rush: 500 * time.Millisecond,
		programs: 50, programsRuns: 1, programsIdle: 2 * time.Second,
		output: 100 << 20,
	}
}

// withRuns has every measurement made so often.
func (s scale) withRuns(n int) scale {
	s.runs, s.idleRuns, s.swapRuns, s.programsRuns = n, n, n, n
	return s
}
