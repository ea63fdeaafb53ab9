package watch

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotinit/hotinit/internal/release"
)

// A stage is a loop in fake time that sees what the test shows it.
type stage struct {
	*loop
	mu    sync.Mutex
	shown view
	fine  release.Release // what an examination tells
	looks int
	exams int
	logs  []string
}

// play runs a test in fake time; the loop has seen what runs.
func play(t *testing.T, o Options, test func(s *stage)) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{shown: view{observation: observation{id: oldID}}, fine: newer}
		o.Command = "/app/server"
		o.Log = func(text string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.logs = append(s.logs, text)
		}
		l, err := newLoop(o, newHub(realCalls))
		if err != nil {
			t.Fatal(err)
		}
		s.loop = l
		l.mounted = func(chan<- struct{}) func() { return func() {} }
		l.eyes = s.look
		go l.run()
		defer l.Close()
		l.Running(running)
		synctest.Wait()
		s.looked()
		test(s)
	})
}

func (s *stage) look(q query) view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.shown
	v.observation.finished = q.finished
	if q.examine {
		s.exams++
		v.observation.exam = &exam{release: s.fine}
	}
	s.looks++
	return v
}

// looked is how many looks there were since it was asked last.
func (s *stage) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.looks
	s.looks = 0
	return n
}

func (s *stage) examined() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exams
}

func (s *stage) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logs)
}

// exam changes what an examination tells.
func (s *stage) exam(r release.Release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fine = r
}

// show changes what is to be seen. reported wakes the loop.
func (s *stage) show(v view) {
	s.mu.Lock()
	s.shown = v
	s.mu.Unlock()
}

func (s *stage) report(finished bool) {
	s.notes <- []note{{finished: finished}}
	synctest.Wait()
}

// pass lets time pass.
func (s *stage) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// got is the event that is there now, if any.
func (s *stage) got() *Event {
	synctest.Wait()
	select {
	case e := <-s.Events():
		return &e
	default:
		return nil
	}
}

func TestLoopDoesNothingWhileNothingIsReported(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		s.pass(24 * time.Hour)
		if n := s.looked(); n != 0 {
			t.Errorf("looked %d times in a day of nothing", n)
		}
	})
}

func TestLoopPollsWhatReportsNothing(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		s.show(view{observation: observation{id: oldID}, polled: true})
		s.report(false)
		s.looked()
		s.pass(time.Minute)
		if n := s.looked(); n != 30 {
			t.Errorf("looked %d times in a minute", n)
		}
		s.show(view{observation: observation{id: newID}, polled: true})
		s.pass(DefaultPoll + DefaultSettle)
		if e := s.got(); e == nil || !e.Release.Same(newer) {
			t.Errorf("got %+v", e)
		}
		s.pass(time.Minute)
		if e := s.got(); e != nil {
			t.Errorf("and once more: %+v", e)
		}
	})
}

// As on a network file system whose times are whole seconds.
func TestLoopPollsWhatItExaminedWithinTheTickOnceMore(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		s.show(view{observation: observation{id: newID, fresh: true, coarse: true}, polled: true})
		s.report(true)
		if e := s.got(); e == nil || !e.Release.Same(newer) {
			t.Fatalf("got %+v", e)
		}
		n := s.examined()
		third := newer
		third.Digest = release.Digest{3}
		s.exam(third)
		s.pass(DefaultPoll)
		if e := s.got(); e != nil {
			t.Errorf("read again within the tick: %+v", e)
		}
		s.show(view{observation: observation{id: newID, coarse: true}, polled: true})
		s.pass(DefaultPoll + DefaultSettle)
		if e := s.got(); e == nil || !e.Release.Same(third) {
			t.Errorf("got %+v, want what has the same stamps", e)
		}
		s.pass(time.Hour)
		if m := s.examined(); m != n+1 {
			t.Errorf("read %d times after the tick, want once", m-n)
		}
	})
}

func TestLoopDoesNotPollWhenTold(t *testing.T) {
	play(t, Options{Poll: PollOff}, func(s *stage) {
		s.show(view{observation: observation{id: oldID}, polled: true})
		s.report(false)
		s.looked()
		s.pass(time.Hour)
		if n := s.looked(); n != 0 {
			t.Errorf("looked %d times", n)
		}
	})
}

func TestLoopStopsPollingWhenReportsComeAgain(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		s.show(view{observation: observation{id: oldID}, polled: true, err: errors.New("/app: limit")})
		s.report(false)
		s.pass(time.Minute)
		s.show(view{observation: observation{id: oldID}})
		s.pass(time.Minute)
		s.looked()
		s.pass(time.Hour)
		if n := s.looked(); n != 0 {
			t.Errorf("looked %d times", n)
		}
		if len(s.said()) != 2 {
			t.Errorf("said %q, want once that it polls and once that it need not", s.said())
		}
	})
}

func TestLoopActsAtOnceOnAClose(t *testing.T) {
	play(t, Options{Settle: time.Hour}, func(s *stage) {
		s.show(view{observation: observation{id: newID}})
		s.report(true)
		if s.got() == nil {
			t.Error("no event without waiting")
		}
	})
}

func TestLoopWaitsForQuietWhereNothingElseIsKnown(t *testing.T) {
	play(t, Options{Settle: time.Second}, func(s *stage) {
		id := newID
		for range 10 { // changes each time just before it would be quiet
			id.file.Size++
			s.show(view{observation: observation{id: id}})
			s.report(false)
			s.pass(time.Second - time.Millisecond)
			if e := s.got(); e != nil {
				t.Fatalf("started half a file: %+v", e)
			}
		}
		s.pass(time.Millisecond)
		if s.got() == nil {
			t.Error("no event when it was quiet")
		}
	})
}

func TestLoopWaitsForAWriterHoweverLongItPauses(t *testing.T) {
	play(t, Options{Settle: 100 * time.Millisecond}, func(s *stage) {
		s.show(view{observation: observation{id: newID, writer: release.WriterOpen}})
		s.report(false)
		s.looked()
		s.pass(time.Hour)
		if s.got() != nil || s.examined() != 0 {
			t.Fatal("started half a file")
		}
		if n := s.looked(); n > 200 {
			t.Errorf("looked %d times in an hour of waiting", n)
		}
		if len(s.said()) != 1 {
			t.Errorf("said %q, want that it waits, once", s.said())
		}
		s.show(view{observation: observation{id: newID, writer: release.WriterNone}})
		s.report(true)
		if s.got() == nil {
			t.Error("no event when it was closed")
		}
	})
}

func TestLoopKeepsTheNewestForASlowReceiver(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		var held []*release.File
		for i := range 3 {
			p := filepath.Join(t.TempDir(), "server")
			put(t, p, script("x"), 0o755)
			f, err := release.OpenUnchecked(p)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, f)
			id := newID
			id.file.Ino += uint64(i)
			s.exam(release.Release{Ino: id.file.Ino, Size: 10, Digest: release.Digest{2, byte(i)}})
			s.show(view{observation: observation{id: id, writer: release.WriterNone}, file: f})
			s.report(true)
		}
		e := s.got()
		if e == nil || e.Release.Digest != (release.Digest{2, 2}) || e.File != held[2] {
			t.Fatalf("got %+v", e)
		}
		for i, f := range held[:2] {
			if f.FD() >= 0 {
				t.Errorf("the file of event %d, which nobody took, is still open", i)
			}
		}
		e.File.Close()
		if s.got() != nil {
			t.Error("and another event")
		}
	})
}

func TestLoopLooksAtEverythingAfterAMount(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		s.show(view{observation: observation{id: newID, writer: release.WriterNone}})
		s.mounts <- struct{}{}
		if s.got() == nil {
			t.Error("no event")
		}
	})
}

func TestLoopSaysOnceThatReportsWereLost(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		s.show(view{observation: observation{id: newID, writer: release.WriterNone}})
		s.notes <- []note{{target: overflow}}
		s.notes <- []note{{target: overflow}}
		if s.got() == nil || len(s.said()) != 1 {
			t.Errorf("said %q", s.said())
		}
	})
}

func TestLoopRefusesOnceAndGoesOn(t *testing.T) {
	play(t, Options{}, func(s *stage) {
		s.show(view{})
		s.report(false)
		s.pass(time.Minute)
		for range 10 {
			s.report(false)
		}
		if len(s.said()) != 1 {
			t.Errorf("said %q", s.said())
		}
		s.show(view{observation: observation{id: newID, writer: release.WriterNone}})
		s.report(true)
		if s.got() == nil {
			t.Error("no event when it was there again")
		}
	})
}

func TestLoopClosesWhileALookHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := newLoop(Options{Command: "/app/server"}, newHub(realCalls))
		if err != nil {
			t.Fatal(err)
		}
		p := put(t, filepath.Join(t.TempDir(), "server"), script("x"), 0o755)
		f, err := release.OpenUnchecked(p)
		if err != nil {
			t.Fatal(err)
		}
		hang := make(chan struct{})
		l.mounted = func(chan<- struct{}) func() { return func() {} }
		l.eyes = func(query) view {
			<-hang
			return view{file: f}
		}
		go l.run()
		synctest.Wait()
		l.Close()
		close(hang) // it comes back when nobody waits any more
		synctest.Wait()
		if f.FD() >= 0 {
			t.Error("what it opened stays open")
		}
	})
}
