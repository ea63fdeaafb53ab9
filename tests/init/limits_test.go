package inits

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// Under each limit hotinit works, a swap and a handoff that is killed included, or
// it names the limit in one line and ends with 125. Go's runtime says nothing.
func TestALowLimitIsNamedOrHotinitWorks(t *testing.T) {
	const mib = 1 << 20
	user := 61000 + 16*(os.Getpid()%200) // another run of this test may have some now
	for _, limit := range []struct {
		option, name string
		works        int // from here on it works
		values       []int
	}{
		// Below 34 MiB the kernel does not execute hotinit.
		{"--data=", "RLIMIT_DATA", 128 * mib, []int{36 * mib, 48 * mib, 64 * mib, 72 * mib, 80 * mib, 127 * mib, 128 * mib, 160 * mib}},
		{"--as=", "RLIMIT_AS", 1536 * mib, []int{48 * mib, 300 * mib, 740 * mib, 1100 * mib, 1200 * mib, 1535 * mib, 1536 * mib, 2047 * mib}},
		{"--nproc=", "RLIMIT_NPROC", 24, []int{1, 4, 8, 12, 16, 20, 23, 24, 25, 28, 40, 1 << 16}},
	} {
		for i, value := range limit.values {
			t.Run(limit.name+"="+itoa(value), func(t *testing.T) {
				t.Parallel()
				args := []string{limit.option + itoa(value)}
				if limit.name == "RLIMIT_NPROC" {
					if unix.Geteuid() != 0 {
						t.Skip("needs a user without processes")
					}
					args = append(args, command(t, "setpriv"), "--reuid", itoa(user+i), "--clear-groups")
				}
				args = append(args, box.Hotinit, "--ready", "interval", "--interval", "100ms", "--", "sleep", "1000")
				b := run(t, box.Options{Binary: command(t, "prlimit"), Name: "prlimit", Args: args})
				if value < limit.works {
					ended(t, b, 125)
					said := strings.TrimSuffix(b.Output.Text(), "\n")
					if !regexp.MustCompile(`^hotinit: the limit of .* is ` + itoa(value) + `\b.*` + limit.name + `.*; hotinit needs ` + itoa(limit.works) + `\b[^\n]*$`).MatchString(said) {
						t.Errorf("it says %q", said)
					}
					return
				}
				b.Until("generation 1 runs", func() bool { return runs(b, "sleep") })
				b.KillHandoff()
				b.Line(`init starts another one$`)
				b.Signal(unix.SIGHUP)
				b.Line(`generation 2 is ready`)
				stop(t, b, 128+15)
				if strings.Contains(b.Output.Text(), "goroutine ") || strings.Contains(b.Output.Text(), "runtime: ") {
					t.Errorf("Go's runtime speaks:\n%s", b.Output)
				}
			})
		}
	}
}

func runs(b *box.Box, name string) bool {
	return slices.ContainsFunc(b.Processes(), func(p box.Process) bool { return len(p.Args) > 0 && p.Args[0] == name })
}
