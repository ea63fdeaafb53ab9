package handoff

import (
	"fmt"
	"testing"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/settings"
)

func TestARequestGoesToTheProgramThatItNames(t *testing.T) {
	one, two := &program{common: &common{name: "one"}}, &program{common: &common{name: "two"}}
	s := &supervisor{shared: &shared{loop: newLoop()}, cfg: &settings.Config{}, programs: []*program{one, two}}
	s.byName = map[string]*program{"one": one, "two": two}
	go func() {
		for in := range s.loop.inputs {
			in.call()
			close(in.done)
		}
	}()
	defer close(s.loop.inputs)
	for name, want := range map[string]*program{"one": one, "two": two, "": nil, "three": nil} {
		if got := s.find(name); got != want {
			t.Errorf("the request for %q goes to %v", name, got)
		}
	}
	var got control.Response
	answer := func(r control.Response) bool { got = r; return true }
	s.answer(control.Request{Op: "status", Program: "three"}, answer, nil)
	if want := `there is no program "three"`; got.OK || got.Text != want {
		t.Errorf("the answer is %+v, want %s", got, want)
	}
	s.answer(control.Request{Op: "reload"}, answer, nil)
	if want := "several programs run: name one of one, two"; got.OK || got.Text != want {
		t.Errorf("the answer is %+v, want %s", got, want)
	}
	if !got.Wrong {
		t.Error("that a name is missing is not wrong")
	}
	for i := range 200 {
		s.programs = append(s.programs, &program{common: &common{name: fmt.Sprintf("p%03d", i)}})
	}
	s.answer(control.Request{Op: "reload"}, answer, nil)
	if want := "several programs run: name one of one, p000, p001, p002, p003, p004, p005, p006, p007, p008 and 192 more, see hotinit status"; got.Text != want {
		t.Errorf("of 202 programs the answer is %q", got.Text)
	}
	s.programs = s.programs[:1]
	s.answer(control.Request{Op: "status", Program: "three"}, answer, nil)
	if want := `there is no program "three" (there is one, one)`; got.OK || got.Text != want {
		t.Errorf("the answer is %+v, want %s", got, want)
	}
	if s.find("") != one {
		t.Error("an only program has to be named")
	}
}

func TestWhatInitKeepsIsNamedByProgram(t *testing.T) {
	l := &link{kept: make(map[string]int), held: make(map[string]bool), programs: make(map[string]*kept)}
	l.got("app/"+processName(3), 30)
	l.got("app/"+releaseName("x"), 31)
	l.got(forPrograms+"web/"+processName(3), 32)
	l.got(forPrograms+"web.2/"+processName(3), 33)
	app := l.forApp("app")
	if fd := app.take(processName(3)); fd != 30 {
		t.Errorf("app/pidfd/3 is descriptor %d", fd)
	}
	if fd := app.take(processName(3)); fd != -1 {
		t.Errorf("what was taken is there again: %d", fd)
	}
	if fd := l.forProgram("web").take("pidfd/3"); fd != 32 {
		t.Errorf("web's pidfd/3 is descriptor %d", fd)
	}
}
