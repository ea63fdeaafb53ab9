package handoff

import (
	"time"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/record"
	"github.com/hotinit/hotinit/internal/release"
)

// snapshot is what the next handoff needs to know about one program to go on
// where this one ended. The lists below have its fields.
type snapshot struct {
	State    machine.State
	Releases map[string]release.Release
	Commands map[string]release.Command // what a generation of each release executes
	Origins  map[string]release.Command // what that would be without a private copy
	Copies   map[string]string          // where the private copies of directories are
	Kept     map[string]bool            // of which nothing but the copy in the state directory is open
	Since    map[int]time.Time
	Groups   map[int]int    // process groups; MAINPID= may have named another process
	Texts    map[int]string // the last STATUS=
	Past     []control.Past
	Stopped  time.Time
	User     userRecord
	Signed   int64 // when the latest release that ran was signed
	Counts   counts
	Spoken   bool // hotinit is more than a plain init here, and says how it comes and goes

	// Of a program that a file made.
	Plans  map[string]planRecord // the settings that are in use, by name
	Runs   map[int]string        // which of them each generation runs with
	Next   string                // which of them is for the next generation
	Fresh  bool                  // that one was not tried yet
	Failed string                // why that one failed, "" where it did not
	Order  order.Facts           // its place among the others
	Ticked int64                 // from when on its schedule counts
}

// planRecord is one version of a program's settings.
type planRecord struct {
	Text string // of the file
	User userRecord
}

// encode writes the snapshot, and decode reads it. Both go by the lists below: a
// field that is added to one of the types is added to its list.
func (s *snapshot) encode() []byte { return record.Write(s.fields) }

func (s *snapshot) decode(b []byte) error { return record.Read(b, s.fields) }

func (s *snapshot) fields(c *record.Codec) {
	c.Object("State", func(c *record.Codec) { stateFields(c, &s.State) })
	record.Map(c, "Releases", &s.Releases, func(c *record.Codec, name string, r *release.Release) {
		c.Object(name, func(c *record.Codec) { releaseFields(c, r) })
	})
	record.Map(c, "Commands", &s.Commands, func(c *record.Codec, name string, v *release.Command) {
		c.Object(name, func(c *record.Codec) { commandFields(c, v) })
	})
	record.Map(c, "Origins", &s.Origins, func(c *record.Codec, name string, v *release.Command) {
		c.Object(name, func(c *record.Codec) { commandFields(c, v) })
	})
	record.Map(c, "Copies", &s.Copies, func(c *record.Codec, name string, v *string) { c.String(name, v) })
	record.Map(c, "Kept", &s.Kept, func(c *record.Codec, name string, v *bool) { c.Bool(name, v) })
	record.Map(c, "Since", &s.Since, func(c *record.Codec, name string, t *time.Time) { c.Time(name, t) })
	record.Map(c, "Groups", &s.Groups, record.Int[int])
	record.Map(c, "Texts", &s.Texts, func(c *record.Codec, name string, text *string) { c.String(name, text) })
	record.List(c, "Past", &s.Past, pastFields)
	c.Time("Stopped", &s.Stopped)
	record.Int(c, "Signed", &s.Signed)
	c.Object("Counts", func(c *record.Codec) { countsFields(c, &s.Counts) })
	c.Bool("Spoken", &s.Spoken)
	c.Object("User", func(c *record.Codec) { userFields(c, &s.User) })
	record.Map(c, "Plans", &s.Plans, func(c *record.Codec, name string, p *planRecord) {
		c.Object(name, func(c *record.Codec) { planFields(c, p) })
	})
	record.Map(c, "Runs", &s.Runs, func(c *record.Codec, name string, plan *string) { c.String(name, plan) })
	c.String("Next", &s.Next)
	c.Bool("Fresh", &s.Fresh)
	c.String("Failed", &s.Failed)
	c.Object("Order", func(c *record.Codec) { orderFields(c, &s.Order) })
	record.Int(c, "Ticked", &s.Ticked)
}

func orderFields(c *record.Codec, f *order.Facts) {
	record.Int(c, "Phase", &f.Phase)
	c.Bool("Held", &f.Held)
	c.Bool("Done", &f.Done)
	c.Bool("Again", &f.Again)
	record.Int(c, "Result", &f.Result)
	record.Int(c, "Status", &f.Status)
	c.String("Reason", &f.Reason)
}

func planFields(c *record.Codec, p *planRecord) {
	c.String("Text", &p.Text)
	c.Object("User", func(c *record.Codec) { userFields(c, &p.User) })
}

func userFields(c *record.Codec, u *userRecord) {
	c.Bool("Known", &u.Known)
	record.Uint(c, "UID", &u.UID)
	record.Uint(c, "GID", &u.GID)
	c.Ints("Groups", &u.Groups)
	c.String("Name", &u.Name)
	c.String("Home", &u.Home)
}

func stateFields(c *record.Codec, s *machine.State) {
	record.Int(c, "Next", &s.Next)
	record.List(c, "Gens", &s.Gens, genFields)
	c.Bool("Again", &s.Again)
	c.Bool("Back", &s.Back)
	c.String("BackTo", &s.BackTo)
	c.String("Want", &s.Want)
	record.Int(c, "Asked", &s.Asked)
	record.Int(c, "Stop", &s.Stop)
	c.String("StopReason", &s.StopReason)
	c.Bool("Served", &s.Served)
	c.Bool("RestartDue", &s.RestartDue)
	record.Int(c, "Fails", &s.Fails)
	record.Int(c, "Status", &s.Status)
	c.Ints("PendingSignals", &s.PendingSignals)
	c.Bool("Over", &s.Over)
	c.String("Newest", &s.Newest)
	record.List(c, "GoodReleases", &s.GoodReleases, goodFields)
	record.List(c, "Rejected", &s.Rejected, rejectionFields)
	c.String("Reason", &s.Reason)
	c.Bool("SpeaksNotify", &s.SpeaksNotify)
	c.Bool("BlindSaid", &s.BlindSaid)
	c.Bool("Due", &s.Due)
	record.Int(c, "DueBy", &s.DueBy)
	c.String("DueTo", &s.DueTo)
	record.Int(c, "Leave", &s.Leave)
	record.Int(c, "LeaveN", &s.LeaveN)
	c.Bool("LeaveLate", &s.LeaveLate)
	c.Bool("OnHold", &s.OnHold)
	c.Bool("Noted", &s.Noted)
	c.String("Note", &s.Note)
	record.Int(c, "Swaps", &s.Swaps)
	c.Bool("Delayed", &s.Delayed)
}

func genFields(c *record.Codec, g *machine.Gen) {
	record.Int(c, "N", &g.N)
	record.Int(c, "Phase", &g.Phase)
	record.Int(c, "Source", &g.Source)
	record.Int(c, "Cause", &g.Cause)
	c.String("Release", &g.Release)
	c.Bool("Waits", &g.Waits)
	c.Bool("Accepted", &g.Accepted)
	c.Bool("Notified", &g.Notified)
	c.Bool("Blind", &g.Blind)
	c.Bool("Lived", &g.Lived)
	record.Int(c, "Traffic", &g.Traffic)
	c.Bool("Terminated", &g.Terminated)
	c.Bool("Killed", &g.Killed)
	c.Bool("Proven", &g.Proven)
	c.Bool("Hung", &g.Hung)
	c.Bool("Stalled", &g.Stalled)
	c.Bool("Overran", &g.Overran)
	c.Bool("Withdrawn", &g.Withdrawn)
	record.Int(c, "Extended", &g.Extended)
	record.Int(c, "Beats", &g.Beats)
	record.Int(c, "PID", &g.PID)
	record.Uint(c, "Start", &g.Start)
}

func goodFields(c *record.Codec, g *machine.Good) {
	c.String("Release", &g.Release)
	record.Int(c, "N", &g.N)
	c.Bool("Notified", &g.Notified)
}

func rejectionFields(c *record.Codec, r *machine.Rejection) {
	c.String("Release", &r.Release)
	c.String("Reason", &r.Reason)
	c.Bool("ByHand", &r.ByHand)
}

func releaseFields(c *record.Codec, r *release.Release) {
	c.String("Path", &r.Path)
	c.String("Real", &r.Real)
	record.Uint(c, "Dev", &r.Dev)
	record.Uint(c, "Ino", &r.Ino)
	record.Int(c, "Size", &r.Size)
	record.Int(c, "MTime", &r.MTime)
	record.Int(c, "CTime", &r.CTime)
	record.Uint(c, "Mode", &r.Mode)
	record.Uint(c, "Kind", &r.Kind)
	record.Text(c, "Digest", &r.Digest, !r.Digest.Known())
	c.String("Root", &r.Root)
	record.Text(c, "Tree", &r.Tree, !r.Tree.Known())
	c.String("Settings", &r.Settings)
	c.String("Signature", &r.Signature)
	record.Int(c, "Signed", &r.Signed)
}

func commandFields(c *record.Codec, v *release.Command) {
	c.String("Path", &v.Path)
	record.List(c, "Argv", &v.Argv, func(c *record.Codec, arg *string) { c.String("Arg", arg) })
	c.String("Dir", &v.Dir)
}

func pastFields(c *record.Codec, p *control.Past) {
	record.Int(c, "N", &p.N)
	c.Time("Since", &p.Since)
	c.Time("Ended", &p.Ended)
	c.String("How", &p.How)
	record.Int(c, "Status", &p.Status)
}
