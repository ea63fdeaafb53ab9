package inits

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// works proves that a started hotinit does its work: the app listens on its
// socket, a second generation takes over, orphans are reaped, TERM ends it all.
func works(t *testing.T, b *box.Box, address string) {
	t.Helper()
	b.Answers(address, "v0 generation 1 ")
	if _, err := box.Get(address, "/orphans?n=100"); err != nil {
		t.Errorf("%v\n%s", err, b.Output)
	}
	b.Signal(unix.SIGHUP)
	b.Answers(address, "v0 generation 2 ")
	b.Until("the old generation has ended, and no zombie is left", func() bool {
		apps := 0
		for _, p := range b.Processes() {
			if p.Zombie() {
				return false
			}
			if len(p.Args) > 0 && p.Args[0] == box.App {
				apps++
			}
		}
		return apps == 1
	})
	stop(t, b, 0)
}

func TestItWorksInAUserNamespace(t *testing.T) {
	address := box.Address()
	b := run(t, box.Options{
		Args: []string{"--port", address, "--", box.App},
		Attr: func(a *syscall.SysProcAttr) {
			a.Cloneflags |= unix.CLONE_NEWUSER
			a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		},
	})
	works(t, b, address)
}

// Without a home on disk, capabilities, or a way to gain privileges.
func TestItWorksWithoutCapabilitiesAndWithNoNewPrivs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root has capabilities to give up")
	}
	address := box.Address()
	setpriv := command(t, "setpriv")
	b := run(t, box.Options{Binary: setpriv, Name: "setpriv", Args: []string{
		"--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all",
		box.Hotinit, "--port", address, "--", box.App}})
	works(t, b, address)
}

func TestItWorksWithAReadOnlyRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	address := box.Address()
	script := `mount --bind / / && mount -o remount,ro,bind / && mount --bind /tmp /tmp && mount -o remount,ro,bind /tmp || exit 99; ! touch /tmp/x /x 2>/dev/null || exit 98; exec "$@"`
	b := run(t, box.Options{Binary: command(t, "sh"), Name: "sh", Args: []string{"-c", script, "sh", box.Hotinit, "--port", address, "--", box.App}})
	works(t, b, address)
}

// onOldKernels runs a test where seccomp profiles answer ENOSYS to what is newer:
// "deny" to the system calls alone, "old" also to each other way to a pidfd. Other
// profiles answer EPERM or EACCES to every call that is newer than Linux 4.5.
func onOldKernels(t *testing.T, test func(t *testing.T, start func(words ...string) *box.Box)) {
	t.Parallel()
	for name, kernel := range map[string][]string{"deny": {"deny"}, "old": {"old"},
		"EPERM": {"forbid", itoa(int(unix.EPERM))}, "EACCES": {"forbid", itoa(int(unix.EACCES))}} {
		t.Run(name, func(t *testing.T) {
			test(t, func(words ...string) *box.Box { return around(t, kernel, words...) })
		})
	}
}

var withoutPIDFDs = regexp.MustCompile(`^hotinit: there are no pidfds here .*: processes are identified by PID and start time`)

func TestItWorksWithoutNewSystemCalls(t *testing.T) {
	onOldKernels(t, func(t *testing.T, start func(...string) *box.Box) {
		address := box.Address()
		b := start("--port", address, "--", box.App)
		works(t, b, address)
		if n := b.Output.Count(withoutPIDFDs); n != 1 {
			t.Errorf("what is missing is said %d times:\n%s", n, b.Output)
		}
	})
}

// Each of the calls that a kernel or a sandbox may not have is missing alone.
func TestItWorksWithoutAnyOneNewSystemCall(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{
		"pidfd_open": unix.SYS_PIDFD_OPEN, "pidfd_send_signal": unix.SYS_PIDFD_SEND_SIGNAL, "clone3": unix.SYS_CLONE3,
		"close_range": unix.SYS_CLOSE_RANGE, "openat2": unix.SYS_OPENAT2, "statx": unix.SYS_STATX,
		"faccessat2": unix.SYS_FACCESSAT2, "memfd_create": unix.SYS_MEMFD_CREATE, "execveat": unix.SYS_EXECVEAT,
	} {
		for _, e := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
			t.Run(name+" "+unix.ErrnoName(e), func(t *testing.T) {
				t.Parallel()
				address := box.Address()
				works(t, around(t, []string{"without", itoa(number), itoa(int(e))}, "--port", address, "--", box.App), address)
			})
		}
	}
}

// Everything that is made, checked, copied and written is, whatever the calls
// for it are. A private copy is executed by execveat(2), which the profiles of
// onOldKernels without a number forbid.
func TestEveryFileIsMadeWithoutNewSystemCalls(t *testing.T) {
	onOldKernels(t, func(t *testing.T, start func(...string) *box.Box) {
		if !strings.Contains(t.Name(), "/E") {
			t.Skip("no private copy can be executed")
		}
		dir, address := t.TempDir(), box.Address()
		app := filepath.Join(dir, "app")
		box.Install(t, app, "v1")
		path := func(name string) string { return filepath.Join(dir, name) }
		b := start("--port", address, "--port", "unix:"+path("sock")+",mode=0660", "--log-file", path("log"), "--pid-file", path("pid"),
			"--status-file", path("status"), "--snapshot", "--snapshot-dir", dir, "--", app)
		b.Answers(address, "v1 generation 1 ")
		box.Swap(t, app, "v2")
		b.Answers(address, "v2 generation 2 ")
		b.Until("the status file names generation 2 alone", func() bool {
			text, _ := os.ReadFile(path("status"))
			return strings.HasPrefix(string(text), "2:")
		})
		if st, err := os.Lstat(path("sock")); err != nil || st.Mode() != os.ModeSocket|0o660 {
			t.Errorf("%v %v", st, err)
		}
		if text, err := os.ReadFile(path("pid")); err != nil || string(text) != "1\n" {
			t.Errorf("%q %v", text, err)
		}
		stop(t, b, 0)
		log, err := os.ReadFile(path("log"))
		if err != nil || !strings.Contains(string(log), "hotinit: generation 2 is ready") {
			t.Errorf("the log has %q, %v", log, err)
		}
	})
}

func TestWhatIsNotMissingIsNotSaid(t *testing.T) {
	b := start(t, "--", box.App, "-exit", "3")
	ended(t, b, 3)
	if n := b.Output.Count(withoutPIDFDs); n != 0 {
		t.Errorf("%s", b.Output)
	}
}

func TestStatusesAreExactWithoutNewSystemCalls(t *testing.T) {
	onOldKernels(t, func(t *testing.T, start func(...string) *box.Box) {
		for _, status := range []string{"0", "7", "255"} {
			b := start("--", box.App, "-orphans", "200", "-exit", status)
			ended(t, b, atoi(status))
		}
		ended(t, start("--", box.App, "-kill", "9"), 128+9)
	})
}

func TestWithoutNewSystemCallsAKilledHandoffIsReplaced(t *testing.T) {
	onOldKernels(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", probe(t), "signals", "15")
		b.Line("^ready$")
		b.KillHandoff()
		b.Signal(unix.SIGUSR1)
		got(b, 10)
		b.Signal(unix.SIGTERM)
		got(b, 15)
		b.Wait()
		if n := b.Output.Count(withoutPIDFDs); n != 1 {
			t.Errorf("what is missing is said %d times:\n%s", n, b.Output)
		}
	})
}

func TestWithoutNewSystemCallsAHandoffThatHangsIsReplaced(t *testing.T) {
	onOldKernels(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", probe(t), "signals", "15")
		b.Line("^ready$")
		handoff := b.Handoff().PID
		b.SignalTo(handoff, unix.SIGSTOP)
		b.Until("each of its threads is stopped", func() bool { return allStopped(handoff) })
		b.Signal(unix.SIGUSR1)
		b.Line("did not act on a signal")
		got(b, 10)
		b.Signal(unix.SIGTERM)
		got(b, 15)
		b.Wait()
	})
}

func TestWithoutNewSystemCallsAnAppThatIgnoresTERMIsKilled(t *testing.T) {
	onOldKernels(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--stop-timeout", "200ms", "--", probe(t), "signals")
		b.Line("^ready$")
		b.Signal(unix.SIGTERM)
		got(b, 15)
		ended(t, b, 128+9)
	})
}

// 64 descriptors are enough for everything, and the app has the same limit.
func TestItWorksWith64Descriptors(t *testing.T) {
	address := box.Address()
	b := run(t, box.Options{Binary: command(t, "sh"), Name: "sh",
		Args: []string{"-c", `ulimit -n 64; exec "$@"`, "sh", box.Hotinit, "--port", address, "--", box.App}})
	b.Answers(address, "v0 generation 1 ")
	status, err := os.ReadFile("/proc/" + itoa(appOf(b).PID) + "/limits")
	if err != nil || !regexp.MustCompile(`(?m)^Max open files +64 +64 `).Match(status) {
		t.Errorf("%v: %s", err, status)
	}
	works(t, b, address)
}

// appOf is the process of the application.
func appOf(b *box.Box) (app box.Process) {
	for _, p := range b.Processes() {
		if len(p.Args) > 0 && p.Args[0] == box.App && !p.Zombie() {
			app = p
		}
	}
	return app
}

func TestItWorksWithLittleMemory(t *testing.T) {
	address := box.Address()
	// Go reserves address space, so it is data that is limited, as a cgroup would.
	b := run(t, box.Options{Binary: command(t, "sh"), Name: "sh",
		Args: []string{"-c", `ulimit -d 200000; exec "$@"`, "sh", box.Hotinit, "--port", address, "--", box.App}})
	works(t, b, address)
}

// Each of the three standard descriptors may be closed. Nothing else takes its
// number: Go's runtime opens /dev/null there, so that no file opened later can be
// taken for standard output.
func TestItWorksWithAClosedStandardDescriptor(t *testing.T) {
	for number := range 3 {
		t.Run(strconv.Itoa(number), func(t *testing.T) {
			address := box.Address()
			direction := ">&-"
			if number == 0 {
				direction = "<&-"
			}
			b := redirected(t, box.Hotinit, strconv.Itoa(number)+direction, "--port", address, "--", box.App)
			b.Answers(address, "v0 generation 1 ")
			for _, d := range b.Given(address).Descriptors {
				// Go opens /dev/null for those that it finds closed.
				if d.Number == number && !strings.Contains(d.Target, "/dev/null") {
					t.Errorf("descriptor %d is %s", d.Number, d.Target)
				}
			}
			works(t, b, address)
		})
	}
}

// Nobody reads standard output and error, and their pipe is full: hotinit says
// a lot (each signal of a swap), and neither waits nor ends.
func TestAFullPipeNeitherBlocksNorEndsHotinit(t *testing.T) {
	address := box.Address()
	b := around(t, []string{"fill"}, "-w", "--port", address, "--", box.App, "-quiet")
	works(t, b, address)
}

func TestABrokenPipeNeitherBlocksNorEndsHotinit(t *testing.T) {
	address := box.Address()
	b := redirected(t, command(t, "bash"), "", "-c",
		`exec 3> >(true) && wait $! ; exec "$@" >&3 2>&3 3>&-`, "bash", box.Hotinit, "-w", "--port", address, "--", box.App, "-quiet")
	works(t, b, address)
}

// The limit of processes is reached while hotinit runs, and lifted: until then
// the old generation serves, and what is wrong is said once.
func TestAForkThatFailsIsTriedAgain(t *testing.T) {
	limit := processLimit(t)
	address := box.Address()
	b := run(t, box.Options{Binary: command(t, "sh"), Name: "sh", Args: []string{"-c", `exec "$@"`,
		"sh", box.Hotinit, "--port", address, "--", box.App}})
	b.Answers(address, "v0 generation 1 ")
	// Only the handoff has to fork. It is at the limit from now on.
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(limit, file), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup.procs", itoa(b.Handoff().PID))
	current, err := os.ReadFile(filepath.Join(limit, "pids.current"))
	if err != nil {
		t.Fatal(err)
	}
	write("pids.max", strings.TrimSpace(string(current)))
	b.Signal(unix.SIGHUP)
	b.Line(`generation 2 cannot be started yet: .*limit of processes`)
	b.Answers(address, "v0 generation 1 ")
	write("pids.max", "max")
	b.Answers(address, "v0 generation 2 ")
	stop(t, b, 0)
	if count := b.Output.Count(regexp.MustCompile("cannot be started")); count != 1 {
		t.Errorf("it was said %d times:\n%s", count, b.Output)
	}
}

// limited starts hotinit, and has the limit of processes be this many more than
// it has itself, for what it starts from then on.
func limited(t *testing.T, more int) (b *box.Box, address string, lift func()) {
	limit := processLimit(t)
	address = box.Address()
	b = start(t, "--port", address, "--", box.App)
	b.Answers(address, "v0 generation 1 ")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(limit, file), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup.procs", itoa(b.PID()))
	threads, err := os.ReadDir("/proc/" + itoa(b.PID()) + "/task")
	if err != nil {
		t.Fatal(err)
	}
	write("pids.max", itoa(len(threads)+more))
	return b, address, func() { write("pids.max", "max") }
}

// Where a handoff is killed and no process can be started, the app is served,
// and can be stopped.
func TestTermWithoutAHandoffEndsEverything(t *testing.T) {
	b, address, _ := limited(t, 0)
	b.KillHandoff()
	b.Line(`cannot start the handoff: .*; init tries again until it succeeds$`)
	b.Answers(address, "v0 generation 1 ")
	b.Signal(unix.SIGTERM)
	b.Line(`no handoff has acted on SIGTERM for .*; init ends everything by itself$`)
	b.Line(`: told to go$`)
	ended(t, b, 128+15)
}

// Where a process can be started, but not all threads of it, Go's runtime ends
// it. However often that happens, the app is served.
func TestAHandoffThatGetsNoThreadIsTriedAgain(t *testing.T) {
	b, address, lift := limited(t, 2)
	b.KillHandoff()
	for range 8 {
		b.Line(`the handoff was lost; init starts another one$`)
	}
	b.Answers(address, "v0 generation 1 ")
	lift()
	b.Signal(unix.SIGHUP)
	b.Answers(address, "v0 generation 2 ")
	stop(t, b, 0)
}

// processLimit makes a cgroup that counts processes.
func processLimit(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		dir := filepath.Join(root, "hotinit-test-"+itoa(os.Getpid()))
		switch err := os.Mkdir(dir, 0o755); {
		case errors.Is(err, os.ErrExist):
			return dir // an earlier call of the same test has made it
		case err != nil:
			continue
		}
		t.Cleanup(func() {
			if !box.Eventually(func() bool { return os.Remove(dir) == nil }) {
				t.Errorf("cannot remove %s", dir)
			}
		})
		if _, err := os.Stat(filepath.Join(dir, "pids.max")); err == nil {
			return dir
		}
	}
	t.Skip("there is no cgroup with a limit of processes to be had")
	return ""
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// The entry point starts the first handoff before Go's runtime makes a thread of
// init's, whose number it would have otherwise.
func TestTheHandoffComesUpBesideInit(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the entry point does so on amd64")
	}
	for _, inherited := range []string{"", "3</dev/null", "3</dev/null 4</dev/null 9</dev/null"} {
		b := redirected(t, box.Hotinit, inherited, "--", probe(t), "signals", "15")
		b.Line("^ready$")
		threads, err := filepath.Glob("/proc/" + itoa(b.PID()) + "/task/*/status")
		if err != nil || len(threads) < 2 {
			t.Fatal(err, threads)
		}
		handoff := innermost(t, "/proc/"+itoa(b.Handoff().PID)+"/status")
		for _, file := range threads {
			if n := innermost(t, file); n != 1 && n < handoff {
				t.Errorf("inherited %q: the handoff is process %d, init has a thread %d", inherited, handoff, n)
			}
		}
		stop(t, b, 0)
	}
}

// innermost reads a PID in the innermost namespace from a status file.
func innermost(t *testing.T, file string) int {
	t.Helper()
	status, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	numbers := strings.Fields(string(regexp.MustCompile(`NSpid:.*`).Find(status)))
	return atoi(numbers[len(numbers)-1])
}

// Each limit is named in one line; nothing of Go's runtime is seen.
func TestALimitOfOpenFilesThatIsTooLowIsNamed(t *testing.T) {
	for _, files := range []int{6, 8, 10, 14, 18, 23} {
		b := run(t, box.Options{Binary: command(t, "sh"), Name: "sh",
			Args: []string{"-c", "ulimit -n " + itoa(files) + `; exec "$@"`, "sh", box.Hotinit, "--", box.App}})
		ended(t, b, 125)
		want := "hotinit: the limit of open files is " + itoa(files) + " (RLIMIT_NOFILE); hotinit needs 24, and one more for each socket"
		if got := strings.TrimSuffix(b.Output.Text(), "\n"); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}

func TestADescriptorAboveTheLimitIsNamed(t *testing.T) {
	b := run(t, box.Options{Binary: command(t, "bash"), Name: "bash",
		Args: []string{"-c", `exec 40</dev/null; ulimit -n 30; exec "$@"`, "bash", box.Hotinit, "--", box.App}})
	ended(t, b, 125)
	b.Line(`^hotinit: hotinit was started with a descriptor \d+, and the limit of open files is 30 \(RLIMIT_NOFILE\): `)
}

func TestAMissingProcIsSaidOnce(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	b := run(t, box.Options{Binary: command(t, "sh"), Name: "sh",
		Args: []string{"-c", `mount -t tmpfs none /proc || exit 99; exec "$@"`, "sh", box.Hotinit, "--", box.App}})
	ended(t, b, 125)
	if got := strings.TrimSpace(b.Output.Text()); !strings.HasPrefix(got, "hotinit: /proc is not mounted") || strings.Contains(got, "\n") {
		t.Errorf("it says %q", got)
	}
}
