package entry_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/spawn"
)

// each runs a test with both official builds, which have the entry point.
func each(t *testing.T, f func(*testing.T, build)) {
	for _, b := range []build{exact, pie} {
		t.Run(b.name, func(t *testing.T) { f(t, b) })
	}
}

func TestExactTellsWhetherTheEntryPointRan(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		if !b.run(t, spawn.Spec{}, "report").Exact {
			t.Error("it did not run")
		}
	})
	if plain.run(t, spawn.Spec{}, "report").Exact {
		t.Error("it ran in a plain build")
	}
}

func TestFallbackReportsThatTheTableWasNotRecognised(t *testing.T) {
	if rep := unknown.run(t, spawn.Spec{}, "report"); !rep.Exact || !rep.Fallback || rep.Table != 0 {
		t.Errorf("with a table that is not known: %+v", rep)
	}
	each(t, func(t *testing.T, b build) {
		if b.run(t, spawn.Spec{}, "report").Fallback {
			t.Error("true in an official build with", runtime.Version(), "- has its table of signals changed?")
		}
	})
	if plain.run(t, spawn.Spec{}, "report").Fallback {
		t.Error("true in a plain build, which has no entry point to fall back from")
	}
}

// TestTheTableIsTheRuntimes compares the address that hotinit_entry found by
// content with the symbol table of the executable.
func TestTheTableIsTheRuntimes(t *testing.T) {
	got := exact.run(t, spawn.Spec{}, "report").Table
	out, err := exec.Command("go", "tool", "nm", exact.path(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "runtime.sigtable" {
			continue
		}
		want, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if uintptr(want) != got {
			t.Errorf("the entry point took %#x for runtime.sigtable, which is at %#x", got, want)
		}
		return
	}
	t.Error("there is no runtime.sigtable in", runtime.Version())
}

func TestWithoutATableNothingElseIsLost(t *testing.T) {
	s := entry.Signals{Blocked: set(unix.SIGTERM), Ignored: set(unix.SIGHUP, unix.SIGUSR1)}
	rep := unknown.run(t, spawn.Spec{Signals: s}, "ensure")
	if rep.Inherited != s {
		t.Errorf("got %+x, want %+x", rep.Inherited, s)
	}
	rep.Exact = false // the runtime unblocks what it unblocks in a plain build
	allBlocked(t, rep)
	cmd := exec.Command(unknown.path(t), "processors")
	cmd.Env = []string{"A=1"}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1\nA=1\nprocessors\n" {
		t.Errorf("%v: %q", err, out)
	}
}

func TestInheritedIsWhatTheProcessWasStartedWith(t *testing.T) {
	for name, s := range map[string]entry.Signals{
		"nothing": {},
		"ignored": {Ignored: set(unix.SIGHUP, unix.SIGTERM, unix.SIGCHLD, unix.SIGPIPE, unix.SIGUSR1, 33, 64)},
		"blocked": {Blocked: set(unix.SIGTERM, unix.SIGCHLD, unix.SIGSEGV, unix.SIGURG, 34, 64)},
		"both":    {Blocked: set(unix.SIGHUP), Ignored: set(unix.SIGHUP, unix.SIGINT)},
		"all":     {Blocked: ^unblockable, Ignored: ^unblockable},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b build) {
				if got := b.run(t, spawn.Spec{Signals: s}, "report").Inherited; got != s {
					t.Errorf("got  %+x\nwant %+x", got, s)
				}
			})
		})
	}
}

func TestInheritedKnowsWhatAShellIgnored(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		out, err := exec.Command("/bin/sh", "-c", "trap '' HUP TERM USR2; exec "+b.path(t)+" report").Output()
		if err != nil {
			t.Fatal(err)
		}
		want := set(unix.SIGHUP, unix.SIGTERM, unix.SIGUSR2)
		if got := parse(t, out).Inherited.Ignored; got&want != want {
			t.Errorf("ignored: %x, without some of %x", got, want)
		}
	})
}

func TestAPlainBuildKnowsTheDispositionsThatGoLeavesAlone(t *testing.T) {
	ignored := set(unix.SIGHUP, unix.SIGINT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, 32, 34)
	rep := plain.run(t, spawn.Spec{Signals: entry.Signals{Ignored: ignored | set(unix.SIGTERM)}}, "report")
	if rep.Inherited.Ignored != ignored {
		t.Errorf("got %x, want %x", rep.Inherited.Ignored, ignored)
	}
}

func TestAPlainBuildKnowsTheMaskButForWhatGoInsistsOn(t *testing.T) {
	blocked := set(unix.SIGUSR1, unix.SIGUSR2, 64)
	rep := plain.run(t, spawn.Spec{Signals: entry.Signals{Blocked: blocked | set(unix.SIGCHLD, unix.SIGTERM)}}, "report")
	if rep.Inherited.Blocked != blocked {
		t.Errorf("got %x, want %x", rep.Inherited.Blocked, blocked)
	}
}

func allBlocked(t *testing.T, rep report) {
	t.Helper()
	want := ^(insisted | unblockable)
	if !rep.Exact {
		want &^= kept
	}
	if len(rep.Threads) < 4 {
		t.Errorf("only %d threads were seen", len(rep.Threads))
	}
	for _, got := range rep.Threads {
		// A thread that is just being started blocks even more.
		if got&want != want {
			t.Errorf("a thread blocks %x, without some of %x", got, want)
		}
	}
}

func TestTheEntryPointBlocksAllSignalsInAllThreads(t *testing.T) {
	each(t, func(t *testing.T, b build) { allBlocked(t, b.run(t, spawn.Spec{}, "report")) })
}

func TestEnsureBlockedBlocksAllSignalsInAllThreads(t *testing.T) {
	for _, b := range []build{exact, plain} {
		t.Run(b.name, func(t *testing.T) { allBlocked(t, b.run(t, spawn.Spec{}, "ensure")) })
	}
}

func TestEnsureBlockedCarriesWhatWasInherited(t *testing.T) {
	s := entry.Signals{Blocked: set(unix.SIGUSR1), Ignored: set(unix.SIGHUP)}
	for _, b := range []build{exact, plain} {
		t.Run(b.name, func(t *testing.T) {
			if got := b.run(t, spawn.Spec{Signals: s}, "ensure").Inherited; got != s {
				t.Errorf("got %+x, want %+x", got, s)
			}
		})
	}
}

func TestEnsureBlockedKeepsTheArguments(t *testing.T) {
	got := plain.run(t, spawn.Spec{}, "ensure", "", "a b").Args
	if !slices.Equal(got, []string{"ensure", "", "a b"}) {
		t.Errorf("%q", got)
	}
}

func TestTheCarrierIsNotInTheEnvironment(t *testing.T) {
	for _, b := range []build{exact, plain} {
		if b.run(t, spawn.Spec{}, "ensure").Leaked {
			t.Error("it is there, in the build", b.name)
		}
		if b.run(t, spawn.Spec{Env: []string{"HOTINIT_ENTRY=x"}}, "report").Leaked {
			t.Error("one from outside is there, in the build", b.name)
		}
	}
}

func TestACarrierOfAnotherProcessIsNotBelieved(t *testing.T) {
	v := "HOTINIT_ENTRY=" + strconv.Itoa(os.Getpid()) + ":ff:ff"
	rep := plain.run(t, spawn.Spec{Env: []string{v}}, "ensure")
	if rep.Inherited != (entry.Signals{}) {
		t.Errorf("%+x", rep.Inherited)
	}
	allBlocked(t, rep)
}

func TestNoFileIsTheLimitBeforeGoRaisedIt(t *testing.T) {
	var mine unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &mine); err != nil {
		t.Fatal(err)
	}
	want := unix.Rlimit{Cur: 57, Max: mine.Max}
	for _, b := range []build{exact, pie, plain} {
		for _, how := range []string{"report", "ensure"} {
			t.Run(b.name+" "+how, func(t *testing.T) {
				rep := b.run(t, spawn.Spec{NoFile: &want}, how)
				if !rep.Known || rep.Limit != want {
					t.Errorf("got %+v, want %+v", rep.Limit, want)
				}
				if rep.Now.Cur == want.Cur {
					t.Error("Go did not raise the limit: this proves nothing")
				}
			})
		}
	}
}

// stoppedAtEntry starts the exact probe and calls f with its PID while it is
// stopped after its first system call, which is the entry point's and comes long
// before Go's runtime. It returns the probe's output.
func stoppedAtEntry(t *testing.T, what string, f func(pid int)) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	runtime.LockOSThread() // all ptrace(2) requests come from one thread
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	cmd := exec.Command(exact.path(t), what)
	cmd.Stdout = w
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Skip("processes cannot be traced here:", err)
	}
	_ = w.Close()
	pid := cmd.Process.Pid
	stopped := func() {
		t.Helper()
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Stopped() {
			t.Fatal("it did not stop:", err, ws)
		}
	}
	stopped() // by execve
	for range 2 {
		if err := unix.PtraceSyscall(pid, 0); err != nil {
			t.Fatal(err)
		}
		stopped() // at the beginning of rt_sigprocmask, then at its end
	}
	f(pid)
	if err := unix.PtraceDetach(pid); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(r)
}

func TestASignalSentBeforeMainStaysPending(t *testing.T) {
	cmd, out := stoppedAtEntry(t, "report", func(pid int) {
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
	})
	line, _ := out.ReadBytes('\n')
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := parse(t, line).Pending; got != set(unix.SIGTERM) {
		t.Errorf("pending: %x", got)
	}
}

func TestNoSignalSentBeforeMainIsLostOrEndsTheProcess(t *testing.T) {
	var want uint64
	cmd, out := stoppedAtEntry(t, "catch", func(pid int) {
		for n := unix.Signal(1); n <= 64; n++ {
			switch n {
			case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD: // CHLD is os/signal's
				continue
			case unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
				continue // each discards the others that are pending, signal(7)
			case unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGURG:
			default:
				want |= set(n)
			}
			if err := unix.Kill(pid, n); err != nil {
				t.Fatal(err)
			}
		}
	})
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var got []string
	for range 5 {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v (%v)", got, err, cmd.Wait())
		}
		got = append(got, strings.TrimSpace(line))
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"11", "23", "7", "8", "ready"}) {
		t.Errorf("caught: %q", got)
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "ShdPnd:\t")
	hex, _, _ := strings.Cut(rest, "\n")
	if pending, _ := strconv.ParseUint(hex, 16, 64); pending != want {
		t.Errorf("pending: %x, want %x", pending, want)
	}
}

func TestCatchUnblockableWritesTheNumberOfEachSignal(t *testing.T) {
	for _, b := range []build{exact, pie, unknown, plain} {
		t.Run(b.name, func(t *testing.T) {
			cmd := exec.Command(b.path(t), "catch")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			lines := bufio.NewReader(out)
			expect := func(want string) {
				t.Helper()
				if got, err := lines.ReadString('\n'); strings.TrimSpace(got) != want {
					t.Fatalf("got %q (%v), want %s", got, err, want)
				}
			}
			expect("ready")
			all := []int{7, 8, 11, 23, 7}
			if b.name == plain.name || b.name == unknown.name {
				all = append(all, 34, 33, 32, 34, 4, 5, 16, 27, 1, 2, 3, 6, 15, 31)
			}
			for _, n := range all {
				if err := unix.Kill(cmd.Process.Pid, unix.Signal(n)); err != nil {
					t.Fatal(err)
				}
				expect(strconv.Itoa(n))
			}
			// As a C library's raise(3) sends it, here from another process.
			if err := unix.Tgkill(cmd.Process.Pid, cmd.Process.Pid, unix.SIGURG); err != nil {
				t.Fatal(err)
			}
			expect("23")
		})
	}
}

func TestFaultsInAnyThreadBecomePanics(t *testing.T) {
	for _, b := range []build{exact, pie, unknown, plain} {
		t.Run(b.name, func(t *testing.T) {
			out, err := exec.Command(b.path(t), "fault").CombinedOutput()
			if err != nil || string(out) != strings.Repeat("recovered\n", 8) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestRestoreLetsSignalsEndTheProcess(t *testing.T) {
	for _, b := range []build{exact, pie, unknown, plain} {
		t.Run(b.name, func(t *testing.T) {
			for _, n := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
				cmd := exec.Command(b.path(t), "restore")
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Process.Signal(n); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != n {
					t.Errorf("%v did not end it: %v", n, ws)
				}
			}
		})
	}
}

// A client of a hotinit that has just ended gets an error, and one whose reader has
// gone ends, as every Go program.
func TestRestoreLeavesBrokenPipesToGo(t *testing.T) {
	for _, b := range []build{exact, pie, unknown, plain} {
		t.Run(b.name, func(t *testing.T) {
			cmd := exec.Command(b.path(t), "pipe")
			var complaint bytes.Buffer
			cmd.Stderr = &complaint
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "still here\n" {
				t.Errorf("after a write to a socket that nobody reads: %q, %v", line, err)
			}
			out.Close()
			_ = cmd.Wait()
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != unix.SIGPIPE {
				t.Errorf("it ended with %v: %s", ws, &complaint)
			}
		})
	}
}

// In an official build 33 is blocked, and nothing in hotinit makes a system call
// in all threads.
func TestCatchUnblockableLeavesGoItsOwnUseOf33(t *testing.T) {
	out, err := exec.Command(plain.path(t), "allthreads").CombinedOutput()
	if err != nil || string(out) != "done\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestGoHasOneProcessorAndTheEnvironmentIsAsItWas(t *testing.T) {
	for _, test := range []struct{ env, want []string }{
		{[]string{"A=1"}, []string{"1", "A=1"}},
		{[]string{}, []string{"1"}},
		{[]string{"A=1", "GOMAXPROCS=17", "B=2"}, []string{"1", "A=1", "GOMAXPROCS=17", "B=2"}},
		{[]string{"GOMAXPROCS=", "GOMAXPROCSX=1"}, []string{"1", "GOMAXPROCS=", "GOMAXPROCSX=1"}},
	} {
		each(t, func(t *testing.T, b build) {
			for _, args := range [][]string{{"processors"}, {"processors", "", "x y"}} {
				cmd := exec.Command(b.path(t), args...)
				cmd.Env = test.env
				out, err := cmd.CombinedOutput()
				got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
				want := append(slices.Clone(test.want), args...)
				if emulated { // qemu-user turns the order of the variables around
					slices.Sort(got)
					slices.Sort(want)
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%v: got %q, want %q", err, got, want)
				}
			}
		})
	}
}

func TestOnlyGoesOwnThreadsSleepLessExactly(t *testing.T) {
	if os.Geteuid() != 0 || emulated {
		t.Skip("only root may read the timer slack of other threads")
	}
	slack, err := os.ReadFile("/proc/self/timerslack_ns")
	if err != nil || strings.TrimSpace(string(slack)) == "0" {
		t.Skip("there is no timer slack here:", err)
	}
	mine := strings.TrimSpace(string(slack))
	each(t, func(t *testing.T, b build) {
		out, err := exec.Command(b.path(t), "slack").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if !slices.Contains(lines, "first "+mine) || !slices.Contains(lines, "1000000") {
			t.Errorf("%q, want %s in the first thread, and 1000000 in the monitor thread", lines, mine)
		}
	})
}

func TestCatchChildrenTellsOfAnEnd(t *testing.T) {
	for _, b := range []build{exact, pie, unknown, plain} {
		t.Run(b.name, func(t *testing.T) {
			if out, err := exec.Command(b.path(t), "children").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ended,") {
				t.Errorf("%v: %q", err, out)
			}
		})
	}
}
