package handoff

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/programs"
	"github.com/hotinit/hotinit/internal/schedule"
)

// programs says which programs the files of --programs make, and of each what look says
// of the command beside them.
func (p *preview) programs() {
	if p.cfg.Programs == "" {
		return
	}
	dir := programs.Dir{Path: p.fromStart(p.cfg.Programs), Base: p.cfg}
	set, err := dir.Read()
	if err != nil {
		p.fault("programs", err)
		return
	}
	if d := set.Programs[p.name]; d != nil && len(p.cfg.Command) > 0 {
		delete(set.Programs, p.name)
		set.Bad[p.name] = fmt.Errorf("%s/%s%s is not read: the command beside it is the program %s", dir.Path, p.name, programs.Suffix, p.name)
	}
	o, ev := order.New(order.Policy{}), order.Event{Kind: order.Files}
	for _, name := range set.Names() {
		ev.Set = append(ev.Set, order.Spec{Name: name, After: set.Programs[name].Config.After})
	}
	o.Next(ev)
	for _, name := range set.Names() {
		p.member(set.Programs[name], o)
	}
	for _, name := range slices.Sorted(maps.Keys(set.Bad)) {
		p.fault("program", set.Bad[name])
	}
	for _, note := range set.Notes {
		p.row("programs", "%s", note)
	}
	if len(set.Programs)+len(set.Bad) == 0 {
		p.row("programs", "none in %s yet", dir.Path)
	}
}

// member says what becomes of one program.
func (p *preview) member(d *programs.Definition, o *order.State) {
	m := &preview{program: newProgram(p.shared, d.Name, planOf(p.home, d), true, func() {}), asked: p.asked}
	_ = m.describe(m.plan, nil) // user says what is wrong
	m.when(o)
	m.look()
	p.row("program", "%s", d.Name)
	for _, row := range m.rows {
		p.rows = append(p.rows, "  "+row)
	}
	for _, fault := range m.faults {
		p.faults = append(p.faults, d.Name+": "+fault)
	}
}

// when says when a program is started.
func (p *preview) when(o *order.State) {
	if len(p.cfg.After) > 0 {
		if o.Stuck(p.name) {
			p.fault("start", fmt.Errorf("it is not started: it %s (HOTINIT_AFTER)", strings.TrimPrefix(o.Why(p.name), "it ")))
		} else {
			p.row("start", "after %s", strings.Join(p.cfg.After, ", "))
		}
	}
	if p.cfg.Instances > 0 {
		p.row("instances", "%d (HOTINIT_INSTANCES)", p.cfg.Instances)
	}
	if !p.cfg.Once {
		return
	}
	if p.cfg.Schedule == "" {
		p.row("runs", "once, to its end; tried again %d times if it fails", p.cfg.Retries)
		return
	}
	sched, err := schedule.Parse(p.cfg.Schedule, p.cfg.Zone)
	if err != nil {
		p.fault("runs", err)
		return
	}
	p.row("runs", "at %s, next at %s", p.cfg.Schedule, sched.Next(time.Now()).Format(time.RFC3339))
}
