package programs

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

var (
	massPrograms = flag.Int("mass", 200, "how many programs are dropped, changed and removed at random")
	massRounds   = flag.Int("mass-rounds", 12, "how often")
)

// TestManyProgramsAreWhatTheFilesSay drops, changes and removes programs at random, while
// the handoff is killed at random. In the end each program runs once, with what its file
// says.
func TestManyProgramsAreWhatTheFilesSay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	y := open(t, nil, "--verbosity", "0")
	files := make(map[string]string) // what each has sleep for
	next := 1000000
	settings := []string{"", "HOTINIT_AFTER=p3 p5\n", "HOTINIT_INTERVAL=1ms\n", "HOTINIT_AFTER=p1\nHOTINIT_INTERVAL=1ms\n"}
	for range *massRounds {
		for range 1 + random.IntN(*massPrograms/2) {
			name := fmt.Sprint("p", random.IntN(*massPrograms))
			if _, ok := files[name]; ok && random.IntN(3) == 0 {
				delete(files, name)
				y.remove(name)
				continue
			}
			next++
			files[name] = fmt.Sprint(next)
			more := ""
			if number := strings.TrimPrefix(name, "p"); len(number) > 1 { // so that there is no circle
				more = settings[random.IntN(len(settings))]
			}
			y.write(name, fmt.Sprintf("HOTINIT_COMMAND=sleep %d\nHOTINIT_PROBATION=0\n%s", next, more))
		}
		if random.IntN(2) == 0 {
			y.KillHandoff()
		}
	}
	for _, name := range []string{"p1", "p3", "p5"} { // so that all may start
		next++
		files[name] = fmt.Sprint(next)
		y.write(name, fmt.Sprintf("HOTINIT_COMMAND=sleep %d\nHOTINIT_INTERVAL=1ms\n", next))
	}
	y.same(files)
	y.KillHandoff()
	y.same(files)
	next++
	files["p1"] = fmt.Sprint(next)
	y.write("p1", fmt.Sprintf("HOTINIT_COMMAND=sleep %d\nHOTINIT_INTERVAL=1ms\n", next))
	y.same(files)
	y.stop(0)
}

// same waits until what runs is what the files say.
func (y *yard) same(files map[string]string) {
	y.t.Helper()
	want := slices.Sorted(maps.Values(files))
	var got []string
	deadline := time.Now().Add(box.Patience)
	y.Until("what runs is what the files say", func() bool {
		got = nil
		for _, p := range y.Processes() {
			if len(p.Args) == 2 && p.Args[0] == "sleep" && !p.Zombie() {
				got = append(got, p.Args[1])
			}
		}
		slices.Sort(got)
		if time.Now().After(deadline.Add(-time.Second)) {
			y.t.Logf("files %v\nrun %v", want, got)
		}
		return slices.Equal(got, want)
	})
}
