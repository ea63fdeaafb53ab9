package handoff

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/programs"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/watch"
)

// members are the programs that files made, and the directory that the files are in.
// What the directory says is the truth: apply makes it so. It is read beside the loop.
type members struct {
	byName map[string]*program
	dir    *programs.Dir
	set    *programs.Set    // what the directory said last
	unread error            // why it said nothing yet
	faults map[string]error // files that cannot be used, as was said
	few    string           // that there may be too few open files, as was said
}

// openPrograms reads the directory for the first time. What runs already runs on where
// it can't be read now.
func (s *supervisor) openPrograms(resumed bool) error {
	if s.cfg.Programs == "" {
		return nil
	}
	s.byName, s.faults = make(map[string]*program), make(map[string]error)
	s.set = &programs.Set{}
	s.dir = s.newDir()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open /dev/null: %w", err)
	}
	s.null = null
	set, err := s.readFirst()
	switch {
	case err == nil:
		s.set = set
	case !resumed:
		return err
	default:
		s.unread = err
		sayUnread(err)
	}
	return nil
}

// readFirst reads the directory before the loop runs, so it does not wait for ever.
func (s *supervisor) readFirst() (*programs.Set, error) {
	type read struct {
		set *programs.Set
		err error
	}
	var first aside
	answer, dir := make(chan read, 1), s.dir
	if !first.runWithin(answersWithin, func() {
		set, err := dir.Read()
		answer <- read{set, err}
	}, func() {}) {
		s.dir = s.newDir() // the other one is being read
		return nil, fmt.Errorf("cannot read --programs %s: %w", s.dir.Path, errSlow)
	}
	r := <-answer
	return r.set, r.err
}

func (s *supervisor) newDir() *programs.Dir {
	return &programs.Dir{Path: absolute(s.home, s.cfg.Programs), Base: s.cfg}
}

// startPrograms makes the programs that the files say, and takes over those that the
// last handoff left.
func (s *supervisor) startPrograms(records map[string][]byte) error {
	if s.cfg.Programs == "" {
		return nil
	}
	s.newOrder()
	ev := order.Event{Kind: order.Files}
	if s.app != nil {
		s.app.place = s.place
		ev.Set = append(ev.Set, s.placeOfApp(len(records) > 0))
	}
	for _, name := range slices.Sorted(maps.Keys(records)) {
		if s.app != nil && name == s.app.name || name == orderRecord {
			continue
		}
		if err := s.takeOver(name, records[name]); err != nil {
			return err
		}
		if s.link.trial { // init takes one for hung that says nothing for too long
			if err := s.hello(s.told); err != nil {
				return err
			}
		}
	}
	below := sync.OnceValue(adopt.Below)
	for _, p := range s.programs {
		if p.member && p == p.lead() {
			resumeAdopted(p.siblings(), below)
		}
	}
	// What one of them has not taken may be another instance's.
	for _, p := range s.programs {
		if p.member {
			p.kept.leave()
			spec := s.spec(p)
			spec.Was = p.was
			ev.Set = append(ev.Set, spec)
		}
	}
	if len(ev.Set) > 0 {
		s.happens(ev)
	}
	if halted, ok := records[orderRecord]; ok {
		s.resumeOrder(halted)
	}
	set := s.set
	switch {
	case s.unread != nil:
	case len(records) > 0:
		// What runs has to act upon its first event before it is compared. Which files are
		// not read was said.
		set.Notes = nil
		s.loop.begun = func() { s.apply(set) }
	default:
		s.apply(set)
	}
	s.watchPrograms()
	return nil
}

// takeOver goes on with a program that the last handoff ran.
func (s *supervisor) takeOver(name string, recorded []byte) error {
	var r snapshot
	if err := r.decode(recorded); err != nil {
		return fmt.Errorf("cannot read the record of the last handoff about program %s: %w", name, err)
	}
	var first *plan
	unread := errors.New("its record is empty")
	for _, hash := range append([]string{r.Next}, slices.Sorted(maps.Keys(r.Plans))...) {
		d, err := s.parse(name, r.Plans[hash].Text)
		if err == nil {
			first = planOf(s.home, d)
			first.hash = hash
			break
		}
		unread = err
	}
	file, _ := fileOf(name)
	if d := s.set.Programs[file]; first == nil && d != nil {
		first = planOf(s.home, d)
	}
	if first == nil {
		// Another version of hotinit wrote it, and the file is gone.
		return fmt.Errorf("the settings of program %s cannot be read any more (%w), and it has no file", name, unread)
	}
	p := s.newMember(name, first)
	if err := p.resumeMember(&r, recorded, func(text string) (*programs.Definition, error) { return s.parse(name, text) }); err != nil {
		return err
	}
	p.entitle()
	p.recallResumed()
	if r.Ticked != 0 {
		p.ticked = time.Unix(r.Ticked, 0)
	}
	s.reschedule(p, time.Now())
	p.was = resumed(r.Order, &r.State)
	return nil
}

func (s *supervisor) parse(name, text string) (*programs.Definition, error) {
	name, _ = fileOf(name)
	return programs.Parse(s.cfg, name, s.dir.Path+"/"+name+programs.Suffix, []byte(text))
}

// newMember adds a program. It is not started yet.
func (s *supervisor) newMember(name string, pl *plan) *program {
	var p *program
	p = newProgram(s.shared, name, pl, true, func() { s.memberEnded(p) })
	p.inherited = s.inherited
	file, _ := fileOf(name)
	if lead := s.byName[file]; lead != nil {
		lead.group.add(p)
	} else {
		(&instances{look: s.look, stays: s.upgrades.waits}).add(p)
	}
	p.entitle()
	p.engine.state.Over = true // until the order has it start
	p.engine.first = machine.Event{Kind: machine.Noted}
	p.facts, p.place = s.facts, s.place
	p.clients.order = func() string { return s.whyNot(p) }
	p.settled = func() { s.leave(p) }
	s.byName[name] = p
	s.programs = append(s.programs, p)
	p.cgroups.find(false)
	if err := p.openNotifier(); err != nil {
		p.line("%v; generations count as ready by --interval", err)
	}
	return p
}

// apply has the programs follow the files. What starts, and when, is the order's.
func (s *supervisor) apply(set *programs.Set) {
	if s.stopping {
		return
	}
	for _, note := range set.Notes {
		say.Line("%s", note)
	}
	s.sayFaults(set)
	ev := order.Event{Kind: order.Files}
	asked := wantedBy(set)
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		file, _ := fileOf(name)
		_, bad := set.Bad[file]
		if p := s.byName[name]; asked[name].Definition == nil && !bad && !p.gone {
			p.gone = true
			s.table.Set(name, nil, time.Time{})
			ev.Gone = append(ev.Gone, name)
		}
	}
	now := time.Now()
	var changed []*program
	sames := make(map[*program]bool)
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		d := asked[name].Definition
		p := s.byName[name]
		same := false // but for its place
		switch {
		case s.app != nil && asked[name].file == s.app.name:
			continue // said by sayFaults
		case p == nil:
			p = s.newMember(name, planOf(s.home, d))
			p.fresh = true
			p.was = s.holdWithOthers(p)
			p.listen()
		case p.gone:
			p.gone = false
			p.revise(planOf(s.home, d))
		case d.Hash != p.next.hash, p.missed:
			p.revise(planOf(s.home, d))
			p.ticked = time.Time{}
		case !slices.Equal(d.Config.After, p.next.cfg.After) || d.Config.Essential != p.next.cfg.Essential:
			same = true
			p.moves(d)
		default:
			continue
		}
		p.entitle()
		s.reschedule(p, now)
		changed = append(changed, p)
		sames[p] = same
	}
	for _, p := range changed {
		spec := s.spec(p)
		spec.Same = sames[p]
		if s.order.Find(p.name) == nil {
			spec.Was = p.was
		}
		ev.Set = append(ev.Set, spec)
	}
	s.respecify(&ev)
	s.set = set
	s.sayFew()
	if len(ev.Set) > 0 || len(ev.Gone) > 0 {
		s.happens(ev)
	}
}

// Descriptors that each of the two processes has open: of a program that runs its
// process, NOTIFY_SOCKET, release and notified calls, and of its own. One more for each
// socket, and three for a swap, are not counted.
const (
	filesEach = 4
	filesOwn  = 30
)

// sayFew says once that there may not be as many open files as the programs need.
func (s *supervisor) sayFew() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	text := fewFiles(len(s.byName), limit.Cur)
	if text != "" && s.few == "" {
		say.Line("%s", text)
	}
	s.few = text
}

func fewFiles(programs int, limit uint64) string {
	needed := uint64(filesEach*programs + filesOwn)
	if needed <= limit {
		return ""
	}
	fit := (max(limit, filesOwn) - filesOwn) / filesEach
	return fmt.Sprintf("%d programs need about %d open files, and the limit is %d, which is enough for %d: the others are tried again and again. Raise the hard limit (docker run --ulimit nofile=%[2]d, LimitNOFILE=%[2]d)", programs, needed, limit, fit)
}

// sayFaults says once what is wrong with the files.
func (s *supervisor) sayFaults(set *programs.Set) {
	if s.app != nil && set.Programs[s.app.name] != nil {
		set.Bad[s.app.name] = fmt.Errorf("%s/%s%s is not read: the command beside it is the program %s", s.dir.Path, s.app.name, programs.Suffix, s.app.name)
	}
	for _, name := range slices.Sorted(maps.Keys(set.Bad)) {
		err, p := set.Bad[name], s.byName[name]
		if p != nil {
			p.fault = err
		}
		if before := s.faults[name]; before != nil && before.Error() == err.Error() {
			continue
		}
		what := "; the program is not started"
		if p != nil {
			what = "; the program stays as it is"
		}
		say.Line("%v%s", err, what)
	}
	for name, p := range s.byName {
		if file, _ := fileOf(name); set.Bad[file] == nil {
			p.fault = nil
		}
	}
	s.faults = set.Bad
}

// leave is called when nothing of a program is left. One whose file is gone leaves.
func (s *supervisor) leave(p *program) {
	if !p.gone || s.done || s.byName[p.name] != p || s.order.Find(p.name) != nil || !p.empty() {
		return
	}
	lead := p.lead()
	if p == lead && len(p.group.all) > 1 {
		return // the others have its sockets
	}
	delete(s.byName, p.name)
	s.programs = slices.DeleteFunc(s.programs, func(o *program) bool { return o == p })
	s.loop.remove(p.engine)
	p.group.all = slices.DeleteFunc(p.group.all, func(o *program) bool { return o == p })
	p.dispose()
	if p == lead {
		p.note("is gone, as its file is")
		return
	}
	p.note("is gone")
	s.leave(lead)
}

// memberEnded is called when a program that a file made is over.
func (s *supervisor) memberEnded(p *program) {
	p.over()
	s.endedInOrder(p)
}

// watchPrograms has what the directory says followed.
func (s *supervisor) watchPrograms() {
	begun := make(chan struct{}, 1)
	w, err := watch.New(watch.Options{
		Paths:  []watch.Path{{Pattern: s.dir.Path}},
		Poll:   poll(s.cfg),
		Settle: s.cfg.Settle,
		Log:    func(text string) { say.Line("%s", text) },
		Begun:  func() { begun <- struct{}{} },
	})
	if err != nil {
		say.Line("cannot watch --programs %s: %v; its files are read when hotinit starts", s.dir.Path, err)
		return
	}
	go func() {
		said := ""
		if s.unread != nil {
			said = s.unread.Error()
		}
		for {
			select {
			case <-begun: // and what changed before that was not seen
			case <-w.Events():
			}
			set, err := s.dir.Read()
			if err != nil {
				if said != err.Error() {
					said = err.Error()
					sayUnread(err)
				}
				continue
			}
			said = ""
			s.loop.do(func() { s.apply(set) })
		}
	}()
}

func sayUnread(err error) { say.Line("%v; the programs stay as they are", err) }

// misnamed is why a client has to name another program.
type misnamed string

func (m misnamed) Error() string { return string(m) }

// refuses is the answer to a client who means no program.
func refuses(err error) control.Response {
	_, wrong := err.(misnamed)
	return control.Response{Text: err.Error(), Wrong: wrong}
}

// mostNames is how many programs a client is told of who has to name one.
const mostNames = 10

// named returns the program that a client means.
func (s *supervisor) named(name string) (*program, error) {
	if p := s.find(name); p != nil {
		return p, nil
	}
	var names []string
	for _, p := range s.programs {
		if p == p.lead() {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	some := strings.Join(names, ", ")
	if more := len(names) - mostNames; more > 0 {
		some = fmt.Sprintf("%s and %d more, see hotinit status", strings.Join(names[:mostNames], ", "), more)
	}
	switch {
	case s.noInstance(name) != nil:
		return nil, misnamed(s.noInstance(name).Error())
	case name != "" && s.faults[name] != nil:
		return nil, fmt.Errorf("program %s does not run: %v", name, s.faults[name])
	case name != "" && len(names) == 1:
		return nil, misnamed(fmt.Sprintf("there is no program %q (there is one, %s)", name, some))
	case name != "" && len(names) > 0 && s.cfg.Programs != "":
		return nil, misnamed(fmt.Sprintf("there is no program %q (there are: %s)", name, some))
	case name != "":
		return nil, misnamed(fmt.Sprintf("there is no program %q", name))
	case len(names) == 0:
		return nil, fmt.Errorf("there is no program in %s", s.dir.Path)
	}
	return nil, misnamed("several programs run: name one of " + some)
}
