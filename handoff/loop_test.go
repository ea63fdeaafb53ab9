package handoff

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
)

// rig is a loop in fake time, with a world that notes what it is asked to do.
type rig struct {
	*engine
	begun time.Time
	notes []string
	said  []string
	ended chan struct{}
}

// note notes something with the fake time at which it was asked for.
func (r *rig) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf("%v ", time.Since(r.begun))+fmt.Sprintf(format, args...))
}

// prepare starts every generation at once, of the one release there is.
func (r *rig) prepare(e machine.Effect) (machine.Event, bool) {
	r.note("prepare %d", e.N)
	return machine.Event{Kind: machine.Started, N: e.N, Release: "a"}, true
}
func (r *rig) cancel(n int)                       { r.note("cancel %d", n) }
func (r *rig) tell(n, sig int)                    { r.note("tell %d %s", n, machine.SignalName(sig)) }
func (r *rig) kill(n int)                         { r.note("kill %d", n) }
func (r *rig) sweep(n int, last bool)             { r.note("sweep %d", n) }
func (r *rig) happened([]machine.Happening)       {}
func (r *rig) askLeave(n int)                     { r.note("ask leave %d", n) }
func (r *rig) endLeave(n int)                     { r.note("end leave %d", n) }
func (r *rig) withdraw(e machine.Effect)          { r.note("withdraw %s", e.Release) }
func (r *rig) foreground(n int)                   {}
func (r *rig) say(_ int, text string)             { r.said = append(r.said, text) }
func (r *rig) outcome(e machine.Effect)           { r.note("outcome %d %v", e.N, e.OK) }
func (r *rig) exit(e machine.Effect)              { r.note("exit %d", e.Status) }
func (r *rig) tune(machine.State)                 {}
func (r *rig) record(s machine.State, seq uint64) { r.note("record %d %v", seq, s.Situation()) }
func (r *rig) acted(seq uint64)                   { r.note("acted %d", seq) }
func (r *rig) translate(sig unix.Signal, hangup bool) machine.Event {
	return machine.Event{Kind: machine.Relay, Signal: int(sig)}
}

// postAndWait is post that returns once the event is acted upon.
func (e *engine) postAndWait(ev machine.Event, seq uint64) {
	e.submit(input{engine: e, event: ev, seq: seq})
}

// inFakeTime runs a story with a loop that has booted. The loop is stopped at
// its end: whatever timer or source were left then would make it fail.
func inFakeTime(t *testing.T, p machine.Policy, story func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{begun: time.Now(), ended: make(chan struct{})}
		r.engine = newEngine(newLoop(), r, &p)
		go func() {
			defer close(r.ended)
			r.run()
		}()
		synctest.Wait()
		story(r)
		r.end()
	})
}

// end stops the loop, where it has not ended by itself.
func (r *rig) end() {
	synctest.Wait()
	select {
	case <-r.ended:
		return
	default:
	}
	r.postAndWait(machine.Event{Kind: machine.Halt, Signal: 15}, 0)
	for _, g := range r.state.Gens {
		if g.Phase != machine.Lingering && !r.state.Over {
			r.post(machine.Event{Kind: machine.Exited, N: g.N, Reason: "ended"})
			synctest.Wait()
		}
	}
	<-r.ended
}

// happen has the loop act upon an event, to the end.
func (r *rig) happen(ev machine.Event) { r.postAndWait(ev, 0) }

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	// What the test has read so far the loop may write from now on; without an
	// input from here, fake time alone would not put the one after the other.
	select {
	case r.inputs <- input{call: func() {}}:
	case <-r.ended:
	}
	time.Sleep(d)
	synctest.Wait()
}

// serve makes generation n current.
func (r *rig) serve(n int) { r.happen(machine.Event{Kind: machine.Ready, N: n}) }

// passRestartDelay lets the time pass that the next start waits.
func (r *rig) passRestartDelay() {
	synctest.Wait() // or it may be over already while the state is looked at
	for t, d := range machine.Timers(r.state, *r.policy) {
		if t.Kind == machine.RestartDelayOver {
			r.pass(d)
			return
		}
	}
}

// expect fails unless these notes are there, each once, and in this order.
func (r *rig) expect(t *testing.T, want ...string) {
	t.Helper()
	at := -1
	for _, w := range want {
		i := slices.Index(r.notes, w)
		if i < 0 || slices.Index(r.notes[i+1:], w) >= 0 || i < at {
			t.Errorf("want %q once, in this order: %q; what happened is\n%s", w, want, strings.Join(r.notes, "\n"))
			return
		}
		at = i
	}
}

// never fails if something like this was asked for.
func (r *rig) never(t *testing.T, what string) {
	t.Helper()
	for _, n := range r.notes {
		if strings.Contains(n, what) {
			t.Errorf("%q happened, and %q must not", n, what)
		}
	}
}

// storyPolicy is what hotinit does without options.
func storyPolicy() machine.Policy {
	return machine.Policy{
		Interval: time.Second, ReadyTimeout: time.Minute,
		DrainTimeout: time.Minute, StopTimeout: 9 * time.Second, Probation: 10 * time.Second,
		ReloadSignal: 1, RetireSignal: 15, StopSignals: map[int]int{15: 15, 2: 2, 3: 3},
	}
}

func withPolicy(change func(*machine.Policy)) machine.Policy {
	p := storyPolicy()
	change(&p)
	return p
}

func TestACandidateThatLivesForTheIntervalIsReady(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.Interval = 3 * time.Second }), func(r *rig) {
		r.pass(time.Minute)
		r.expect(t, "0s prepare 1", "3s outcome 1 true")
	})
}

func TestACandidateThatIsNotReadyInTimeIsToldToGo(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.Ready = machine.ReadyOther; p.ReadyTimeout = 30 * time.Second }), func(r *rig) {
		r.serve(1)
		r.happen(machine.Event{Kind: machine.Reload})
		r.pass(time.Hour)
		r.expect(t, "0s prepare 2", "30s tell 2 SIGTERM", "30s outcome 2 false")
	})
}

func TestAnOldGenerationThatDoesNotGoIsKilled(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.DrainTimeout = 20 * time.Second }), func(r *rig) {
		r.serve(1)
		r.happen(machine.Event{Kind: machine.Reload})
		r.pass(5 * time.Second)
		r.pass(time.Hour)
		r.expect(t, "1s outcome 2 true", "1s tell 1 SIGTERM", "21s kill 1")
	})
}

func TestAnOldGenerationIsToldToGoAfterTheDelay(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.KillOldDelay = 5 * time.Second }), func(r *rig) {
		r.serve(1)
		r.happen(machine.Event{Kind: machine.Reload})
		r.serve(2)
		r.pass(time.Minute)
		r.expect(t, "0s outcome 2 true", "5s tell 1 SIGTERM")
	})
}

func TestWhatDoesNotStopIsKilled(t *testing.T) {
	inFakeTime(t, storyPolicy(), func(r *rig) {
		r.serve(1)
		r.pass(2 * time.Second)
		r.happen(machine.Event{Kind: machine.Halt, Signal: 15})
		r.pass(time.Hour)
		r.expect(t, "2s tell 1 SIGTERM", "11s kill 1")
	})
}

func TestAGenerationIsProvenAfterItsProbation(t *testing.T) {
	inFakeTime(t, storyPolicy(), func(r *rig) {
		r.serve(1)
		r.pass(10*time.Second - 1)
		if r.state.Gens[0].Proven {
			t.Error("it is proven before its probation is over")
		}
		r.pass(1)
		if !r.state.Gens[0].Proven || len(r.state.GoodReleases) != 1 || r.state.GoodReleases[0].Release != "a" {
			t.Error("it is not proven, and its probation is over")
		}
	})
}

func TestRestartsWaitLongerEachTime(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.OnExit = machine.Restart }), func(r *rig) {
		for n := 1; n <= 12; n++ {
			r.serve(n)
			r.happen(machine.Event{Kind: machine.Exited, N: n, Status: 1, Reason: "ended"})
			r.happen(machine.Event{Kind: machine.Empty, N: n})
			r.passRestartDelay()
		}
		r.expect(t, "0s prepare 2", "100ms prepare 3", "300ms prepare 4", "700ms prepare 5", "1.5s prepare 6",
			"3.1s prepare 7", "6.3s prepare 8", "12.7s prepare 9", "25.5s prepare 10", "51.1s prepare 11", "1m21.1s prepare 12")
	})
}

func TestAGenerationThatLastedIsRestartedAtOnce(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.OnExit = machine.Restart }), func(r *rig) {
		for n := 1; n <= 3; n++ {
			r.serve(n)
			if n == 3 {
				r.pass(10 * time.Second) // its probation
			}
			r.happen(machine.Event{Kind: machine.Exited, N: n, Status: 1, Reason: "ended"})
			r.passRestartDelay()
		}
		r.expect(t, "0s prepare 2", "100ms prepare 3", "10.1s prepare 4")
	})
}

func TestTimersEndWithTheirReason(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.ReadyTimeout = 30 * time.Second }), func(r *rig) {
		r.pass(500 * time.Millisecond)
		r.serve(1) // by itself, before --interval
		r.happen(machine.Event{Kind: machine.Reload})
		r.serve(2)
		r.happen(machine.Event{Kind: machine.Exited, N: 1, Reason: "ended"}) // before --drain-timeout
		r.happen(machine.Event{Kind: machine.Empty, N: 1})
		if len(r.timers) != 1 {
			t.Errorf("%d timers run: %v; only a probation does", len(r.timers), r.timers)
		}
		r.pass(time.Hour)
		if len(r.timers) != 0 {
			t.Errorf("%d timers run: %v; nothing is waited for", len(r.timers), r.timers)
		}
		r.expect(t, "500ms outcome 1 true", "500ms outcome 2 true")
		r.never(t, "kill")
		r.never(t, "false")
	})
}

func TestATimerWhoseReasonWentWhileItRanOutIsIgnored(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.Ready = machine.ReadyOther; p.ReadyTimeout = 30 * time.Second }), func(r *rig) {
		r.serve(1)
		r.happen(machine.Event{Kind: machine.Reload})
		done := make(chan struct{})
		r.inputs <- input{done: done, call: func() {
			// The loop is busy until the time is over; what comes first is
			// that the candidate is ready, and then the timer's event.
			time.Sleep(time.Minute)
			r.act(machine.Event{Kind: machine.Ready, N: 2})
		}}
		<-done
		synctest.Wait()
		r.expect(t, "1m0s outcome 2 true")
		r.never(t, "outcome 2 false")
	})
}

func TestMoreTimeCountsFromWhenItIsAskedFor(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.Ready = machine.ReadyOther; p.ReadyTimeout = 30 * time.Second }), func(r *rig) {
		r.serve(1)
		r.happen(machine.Event{Kind: machine.Reload})
		r.pass(20 * time.Second)
		r.happen(machine.Event{Kind: machine.Beat, N: 2, Delay: 45 * time.Second})
		r.pass(20 * time.Second)
		r.happen(machine.Event{Kind: machine.Beat, N: 2, Delay: 90 * time.Second})
		r.pass(time.Hour)
		r.expect(t, "2m10s outcome 2 false")
	})
}

func TestAWatchdogThatIsToldInTimeDoesNotBark(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.Watchdog = 30 * time.Second }), func(r *rig) {
		r.serve(1)
		for range 5 {
			r.pass(20 * time.Second)
			r.happen(machine.Event{Kind: machine.Beat, N: 1})
		}
		r.never(t, "SIGABRT")
		r.pass(time.Hour)
		r.expect(t, "2m10s tell 1 SIGABRT", "3m10s kill 1")
	})
}

func TestASignalIsRecordedAfterItWasActedUpon(t *testing.T) {
	inFakeTime(t, storyPolicy(), func(r *rig) {
		r.serve(1)
		r.postAndWait(machine.Event{Kind: machine.Halt, Signal: 15}, 4)
		r.expect(t, "0s tell 1 SIGTERM", "0s record 4 stopping")
	})
}

func TestASignalThatChangesNothingIsOnlyAcknowledged(t *testing.T) {
	inFakeTime(t, storyPolicy(), func(r *rig) {
		r.serve(1)
		r.postAndWait(machine.Event{Kind: machine.Relay, Signal: 10}, 4)
		r.expect(t, "0s tell 1 SIGUSR1", "0s acted 4")
		r.never(t, "record 4")
	})
}

func TestASignalThatIsKeptForTheNextGenerationIsRecorded(t *testing.T) {
	inFakeTime(t, withPolicy(func(p *machine.Policy) { p.OnExit = machine.Restart; p.Interval = time.Minute }), func(r *rig) {
		for n := 1; n <= 2; n++ {
			r.serve(n)
			r.happen(machine.Event{Kind: machine.Exited, N: n, Status: 1, Reason: "ended"})
			synctest.Wait()
		}
		r.postAndWait(machine.Event{Kind: machine.Relay, Signal: 10}, 4)
		r.expect(t, "0s record 4 down")
		r.pass(time.Second)
		r.expect(t, "100ms prepare 3", "100ms tell 3 SIGUSR1")
	})
}

func TestASourceIsToldOnlyAfterTheRecord(t *testing.T) {
	inFakeTime(t, storyPolicy(), func(r *rig) {
		done := make(chan struct{})
		r.inputs <- input{engine: r.engine, event: machine.Event{Kind: machine.Ready, N: 1}, seq: 9, done: done}
		<-done
		// No synctest.Wait: the record has to be there by now.
		r.expect(t, "0s outcome 1 true", "0s record 9 serving")
	})
}

func TestNothingIsActedUponAfterTheVerdict(t *testing.T) {
	inFakeTime(t, storyPolicy(), func(r *rig) {
		r.happen(machine.Event{Kind: machine.Exited, N: 1, Status: 3, Reason: "ended"})
		<-r.ended
		r.pass(time.Hour)
		r.expect(t, "0s sweep 1", "0s exit 3")
		if len(r.timers) != 0 {
			t.Errorf("timers run after the verdict: %v", r.timers)
		}
		if last := r.notes[len(r.notes)-1]; !strings.HasPrefix(last, "0s record") {
			t.Errorf("the last thing is %q, and it should be the record", last)
		}
	})
}

// TestASignalIsAcknowledgedOnceEveryProgramHasActed has two programs in one loop.
// If the handoff is killed between them, the next one must get the signal again.
func TestASignalIsAcknowledgedOnceEveryProgramHasActed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop()
		var rigs [2]*rig
		for i := range rigs {
			rigs[i] = &rig{begun: time.Now(), ended: make(chan struct{})}
			rigs[i].engine = newEngine(l, rigs[i], &machine.Policy{})
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.run()
		}()
		for i := range rigs {
			rigs[i].happen(machine.Event{Kind: machine.Ready, N: 1})
			rigs[i].notes = nil
		}
		relay := func(*engine) machine.Event { return machine.Event{Kind: machine.Relay, Signal: int(unix.SIGUSR1)} }
		l.submit(input{seq: 7, each: relay})
		for i, want := range [][]string{{"0s tell 1 SIGUSR1", "0s acted 0"}, {"0s tell 1 SIGUSR1", "0s acted 7"}} {
			if !slices.Equal(rigs[i].notes, want) {
				t.Errorf("program %d: %q, want %q", i, rigs[i].notes, want)
			}
			rigs[i].notes = nil
		}

		// Who has nothing to do writes nothing. What the signal means for all comes first.
		l.submit(input{seq: 8, each: func(*engine) machine.Event { return machine.Event{Kind: machine.Dropped} },
			call: func() { rigs[0].note("call, acknowledges %d", l.seq) }})
		for i, want := range [][]string{{"0s call, acknowledges 8", "0s acted 8"}, nil} {
			if !slices.Equal(rigs[i].notes, want) {
				t.Errorf("program %d: %q, want %q", i, rigs[i].notes, want)
			}
			rigs[i].notes = nil
		}

		// An event of one program costs the other nothing.
		rigs[0].happen(machine.Event{Kind: machine.Beat, N: 1})
		if len(rigs[0].notes) == 0 || len(rigs[1].notes) != 0 {
			t.Errorf("after an event of the first program: %q, %q", rigs[0].notes, rigs[1].notes)
		}

		// The loop goes on until both are over.
		l.submit(input{each: func(*engine) machine.Event { return machine.Event{Kind: machine.Halt, Signal: int(unix.SIGTERM)} }})
		for i := range rigs {
			select {
			case <-ended:
				t.Fatal("the loop ended before every program was over")
			default:
			}
			rigs[i].post(machine.Event{Kind: machine.Exited, N: 1, Reason: "ended"})
			synctest.Wait()
		}
		<-ended
	})
}
