package schedule

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, text string, zone *time.Location) *Schedule {
	t.Helper()
	s, err := Parse(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(text string, zone *time.Location) time.Time {
	v, err := time.ParseInLocation("2006-01-02 15:04:05", text, zone)
	if err != nil {
		panic(err)
	}
	return v
}

func TestNextIsCrons(t *testing.T) {
	from := at("2026-03-01 10:02:30", time.UTC)
	for text, want := range map[string]string{
		"*/5 * * * *":    "2026-03-01 10:05:00",
		"0 0 * * 7":      "2026-03-08 00:00:00", // Sunday is 0 and 7
		"0 12 13 * 5":    "2026-03-06 12:00:00", // either of the two, as for cron
		"@daily":         "2026-03-02 00:00:00",
		"@every 90s":     "2026-03-01 10:04:00",
		"30 9 * feb mon": "2027-02-01 09:30:00",
		"0 0 29 2 *":     "2028-02-29 00:00:00",
	} {
		if got := parse(t, text, time.UTC).Next(from); !got.Equal(at(want, time.UTC)) {
			t.Errorf("%s: %v, not %s", text, got, want)
		}
	}
}

func TestWhatIsNoScheduleIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "* * * *": "", "60 * * * *": "", "* * * * * *": "", "@reboot": "", "*/0 * * * *": "",
		"0 0 30 2 *": "never due", "TZ=UTC * * * * *": "variable TZ",
	} {
		if _, err := Parse(text, time.UTC); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTheZoneIsThatOfTheProgram(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	s := parse(t, "30 2 * * *", zone)
	if got, want := s.Next(at("2026-07-01 00:00:00", time.UTC)), at("2026-07-01 00:30:00", time.UTC); !got.Equal(want) {
		t.Errorf("%v, not %v", got, want)
	}
	// In the night in which the clock goes from 2:00 to 3:00 there is no 2:30, and in
	// the one in which it goes back there are two: it is due once in each.
	for _, night := range []string{"2026-03-28 12:00:00", "2026-10-24 12:00:00"} {
		first := s.Next(at(night, zone))
		second := s.Next(first)
		if first.Sub(at(night, zone)) > 16*time.Hour || second.Sub(first) < 20*time.Hour {
			t.Errorf("after %s it is due at %v and %v", night, first, second)
		}
	}
	hourly := parse(t, "30 * * * *", zone)
	first := hourly.Next(at("2026-10-25 02:00:00", zone))
	if second := hourly.Next(first); second.Sub(first) != time.Hour {
		t.Errorf("each hour, in the night that is longer: %v and %v", first, second)
	}
}

func TestMissedTicksAreOneRun(t *testing.T) {
	var table Table
	now := at("2026-03-01 10:00:00", time.UTC)
	table.Set("five", parse(t, "*/5 * * * *", time.UTC), now)
	table.Set("daily", parse(t, "@daily", time.UTC), now)
	if got := table.Earliest(); !got.Equal(now.Add(5 * time.Minute)) {
		t.Fatal(got)
	}
	if due := table.Due(now.Add(time.Minute), false); due != nil {
		t.Fatal(due)
	}
	// The machine slept for an hour.
	if due := table.Due(now.Add(61*time.Minute), false); !slices.Equal(due, []string{"five"}) {
		t.Fatal(due)
	}
	if got := table.Next("five"); !got.Equal(now.Add(65 * time.Minute)) {
		t.Fatal(got)
	}
	// The clock was set to the day after.
	if due := table.Due(now.Add(24*time.Hour), true); !slices.Equal(due, []string{"daily", "five"}) {
		t.Fatal(due)
	}
	// And back: what is due from then on counts.
	if due := table.Due(now, true); due != nil {
		t.Fatal(due)
	}
	if got := table.Next("five"); !got.Equal(now.Add(5 * time.Minute)) {
		t.Fatal(got)
	}
	table.Set("five", nil, now)
	if got := table.Earliest(); !got.Equal(at("2026-03-02 00:00:00", time.UTC)) {
		t.Fatal(got)
	}
	table.Set("daily", nil, now)
	if got := table.Earliest(); !got.IsZero() {
		t.Fatal(got)
	}
}

func TestTheClockFires(t *testing.T) {
	fired := make(chan bool, 8)
	c, err := NewClock(func(set bool) { fired <- set })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, when := range []time.Time{time.Now().Add(-time.Hour), time.Now().Add(20 * time.Millisecond)} {
		if err := c.Wait(when); err != nil {
			t.Fatal(err)
		}
		for <-fired { // whoever sets this machine's clock just now
		}
		if time.Now().Before(when) {
			t.Errorf("it fired before %v", when)
		}
	}
	if err := c.Wait(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if len(fired) > 0 {
		t.Error("it fired for a time that was taken back")
	}
}
