// Package schedule says when a program is due, by cron's syntax.
//
// Its invariant: time is the wall clock's. A machine that slept, or a clock that was
// set, changes when the next tick is; however many were missed meanwhile, one follows.
//
// Table is pure; Clock waits for it.
package schedule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"
)

// Syntax says what Parse takes.
const Syntax = `cron's five fields, as in "*/5 * * * *", or @hourly, @daily, @weekly, @monthly, @yearly or @every 10m`

// A day of the month and a day of the week together mean either, as for cron.
var parser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)

// Schedule is when something is due.
type Schedule struct {
	text string
	spec cron.Schedule
	zone *time.Location
}

// Parse reads a schedule. Its times are those of the zone.
func Parse(text string, zone *time.Location) (*Schedule, error) {
	if strings.Contains(text, "TZ=") {
		return nil, errors.New("the time zone is that of the variable TZ")
	}
	spec, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w (it must be %s)", err, Syntax)
	}
	s := &Schedule{text, spec, zone}
	if s.Next(time.Now()).IsZero() {
		return nil, errors.New("it is never due")
	}
	return s, nil
}

func (s *Schedule) String() string { return s.text }

// Next returns when it is due next after a time, the zero time for never.
//
// In the night in which the clock goes back, an hour comes twice. What is due at an
// hour that is named is due once then; what is due each hour goes on.
func (s *Schedule) Next(after time.Time) time.Time {
	after = after.Round(0).In(s.zone)
	next := s.spec.Next(after)
	if spec, ok := s.spec.(*cron.SpecSchedule); ok && spec.Hour&everyHour == 0 {
		for !next.IsZero() && !wall(next).After(wall(after)) {
			next = s.spec.Next(next)
		}
	}
	return next
}

// everyHour is the bit by which the library notes that a field was given as *.
const everyHour = 1 << 63

// wall is what a clock on the wall shows.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// Table is when several are due.
type Table struct {
	entries map[string]*entry
}

type entry struct {
	schedule *Schedule
	next     time.Time // zero: never again
}

// Set has name due by a schedule, counted from a time. nil takes it out.
func (t *Table) Set(name string, s *Schedule, from time.Time) {
	if s == nil {
		delete(t.entries, name)
		return
	}
	if t.entries == nil {
		t.entries = make(map[string]*entry)
	}
	t.entries[name] = &entry{s, s.Next(from)}
}

// Next returns when name is due, the zero time where it never is.
func (t *Table) Next(name string) time.Time {
	if e := t.entries[name]; e != nil {
		return e.next
	}
	return time.Time{}
}

// Due returns who is due, once each, and counts on from now. reset says that the clock
// was set: then everything is counted anew.
func (t *Table) Due(now time.Time, reset bool) []string {
	var due []string
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		is := !e.next.IsZero() && !e.next.After(now)
		if is {
			due = append(due, name)
		}
		if is || reset {
			e.next = e.schedule.Next(now)
		}
	}
	return due
}

// Earliest returns when the next is due, the zero time where none is.
func (t *Table) Earliest() (at time.Time) {
	for _, e := range t.entries {
		if !e.next.IsZero() && (at.IsZero() || e.next.Before(at)) {
			at = e.next
		}
	}
	return at
}
