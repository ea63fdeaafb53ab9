// Package control is how hotinit is asked: status, reload, rollback, stop.
//
// A request is one line of JSON on a unix stream socket, and each answer is
// another. The socket's address is an abstract one (unix(7)), made from the
// PID namespace and hotinit's PID in it: so it needs no file system that can
// be written, `docker exec` finds it, and two hotinits that share a network
// namespace do not meet. Only root and hotinit's own user are listened to.
//
// Read control.go for the messages, server.go for the handoff's side and
// client.go for that of the command line.
package control

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/metrics"
)

// Request is what is asked for.
type Request struct {
	// Op is "status", "reload", "rollback", "releases", "metrics", "hold", "resume", "wait", "stop", "start", "signal", "health", or one of
	// "target", "prove", "deploy" and "back", by which a release is put in place or
	// what was there before is, "leave",
	// by which the command of --swap-through gives leave, or "upgrade" and "upgraded".
	Op string
	// Program is the name of the program, which "" need not say if there is one.
	Program string `json:",omitempty"`
	// All has reload act upon every program.
	All bool `json:",omitempty"`
	// Signal is the one that "signal" sends.
	Signal int `json:",omitempty"`
	// Release is the one that rollback is to lead to, by its name or the first
	// letters of it; "" for the one before the current one.
	Release string `json:",omitempty"`
	// Path is where the release lies that prove is to judge.
	Path string `json:",omitempty"`
	// After is the generation that was to be the next one when target was asked:
	// deploy is answered by the outcome of that one or a later one, if it was decided
	// already.
	After int `json:",omitempty"`
	// Wait has reload and rollback answer once the swap is decided.
	Wait bool `json:",omitempty"`
	// Leave is the run of the command of --swap-through that gives leave.
	Leave int `json:",omitempty"`
	// Steps has whoever waits be told of each step.
	Steps bool `json:",omitempty"`
	// For is what wait waits for.
	For string `json:",omitempty"`
	// Watch has status answer again at each change.
	Watch bool `json:",omitempty"`
	// File is the executable that upgrade is to replace hotinit with, "" for the
	// one that is where hotinit was started from.
	File string `json:",omitempty"`
	// Upgrade has upgraded answer once the upgrade of this number is decided.
	Upgrade int `json:",omitempty"`
}

// Response is the answer.
type Response struct {
	OK     bool    `json:"ok"`
	Text   string  `json:"text,omitempty"` // a line for a person
	Status *Status `json:"status,omitempty"`
	Table  *Table  `json:"table,omitempty"`

	Wrong bool `json:"wrong,omitempty"` // nobody can do what was asked: there is no such program, or it needs a name

	More bool `json:"more,omitempty"` // another answer follows: each is of one program

	// Step is a line about what happens while the client waits; the answer follows.
	Step string `json:"step,omitempty"`

	Releases []Release `json:"releases,omitempty"`

	Metrics []metrics.Family `json:"metrics,omitempty"`
	Target  *Target          `json:"target,omitempty"`

	Upgrade int `json:"upgrade,omitempty"` // the number of the upgrade that is being tried
}

// Target is what is deployed to a program.
type Target struct {
	File string `json:"file,omitempty"` // that generations run, as the command leads to it; "" where hotinit does not look at it
	Real string `json:"real,omitempty"` // where that leads
	Next int    `json:"next"`           // the number that the next generation gets
	Dir  string `json:"dir,omitempty"`  // the watched directory that belongs to a release, as it was named
}

// Release is one that runs, that can be gone back to, or that was rejected.
type Release struct {
	Name       string    `json:"release"`              // what rollback takes
	Generation int       `json:"generation,omitempty"` // the last one that ran it
	Fate       string    `json:"fate,omitempty"`       // that generation's phase, or how it ended
	Since      time.Time `json:"since,omitzero"`       // when that generation was started
	Path       string    `json:"path,omitempty"`       // where its file was
	Good       bool      `json:"good"`                 // a rollback can lead to it
	Rejected   string    `json:"rejected,omitempty"`   // why hotinit does not start it by itself
	ByHand     bool      `json:"byHand,omitempty"`     // somebody rolled it back
}

// Table is what hotinit knows of several programs.
type Table struct {
	Version  string    `json:"version"`
	PID      int       `json:"pid"` // hotinit's own
	Programs []Program `json:"programs"`
	Upgrade  string    `json:"upgrade,omitempty"` // why the last upgrade of hotinit was rejected
}

// Program is one row of it.
type Program struct {
	Name       string    `json:"program"`
	State      string    `json:"state"`
	Generation int       `json:"generation,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Release    string    `json:"release,omitempty"`
	Since      time.Time `json:"since,omitzero"`
	Sockets    int       `json:"sockets,omitempty"`
	Restarts   int       `json:"restarts,omitempty"` // by hotinit itself
	Reason     string    `json:"reason,omitempty"`   // what somebody should know
}

// Status is what hotinit knows of its app.
type Status struct {
	Version     string       `json:"version"`
	PID         int          `json:"pid"` // hotinit's own
	Situation   string       `json:"situation"`
	Order       string       `json:"order,omitempty"` // of one of several programs: what it waits for, how it ended, when it is due
	Command     []string     `json:"command"`
	Sockets     []string     `json:"sockets,omitempty"`
	Generations []Generation `json:"generations"`
	Hold        string       `json:"hold,omitempty"`    // changes are noted and not acted on; what is noted
	Stalled     string       `json:"stalled,omitempty"` // connections wait, and the current generation accepts none
	Past        []Past       `json:"past,omitempty"`    // the last few that ended, oldest first
	Good        int          `json:"good,omitempty"`    // the generation whose release is the last good one
	Rejected    string       `json:"rejected,omitempty"`
	There       *Rejected    `json:"atPath,omitempty"`  // what lies at the command's path, if it was rejected
	Reason      string       `json:"reason,omitempty"`  // why the last release that was rejected was
	Upgrade     string       `json:"upgrade,omitempty"` // why the last upgrade of hotinit was rejected
}

// Generation is one that has a process, or is about to.
type Generation struct {
	N       int       `json:"generation"`
	Phase   string    `json:"phase"`
	PID     int       `json:"pid,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Release string    `json:"release,omitempty"` // its release's name
	Path    string    `json:"path,omitempty"`
	Digest  string    `json:"sha256,omitempty"`
	Text    string    `json:"text,omitempty"` // its last STATUS=
	Proven  bool      `json:"proven"`         // it outlived its probation
	Stopped bool      `json:"told,omitempty"` // it was told to go
}

// Rejected is a release that lies at the command's path, and is not started by itself.
type Rejected struct {
	Release  string `json:"release"`
	Path     string `json:"path"`
	Reason   string `json:"reason"`
	ByHand   bool   `json:"byHand,omitempty"` // somebody rolled it back
	Restarts bool   `json:"restartStartsIt"`  // it is not remembered over a restart of hotinit (--state-dir)
}

// String says so to a person.
func (r *Rejected) String() string {
	text := fmt.Sprintf("release %s at %s was rejected: %s", short(r.Release), r.Path, r.Reason)
	if r.ByHand {
		text = fmt.Sprintf("release %s at %s was rolled back by hand", short(r.Release), r.Path)
	}
	text += "; it is not started until it changes, or somebody asks"
	if r.Restarts {
		text += "; a restart of hotinit starts it (see --state-dir)"
	}
	return text
}

// Past is a generation that has ended.
type Past struct {
	N      int       `json:"generation"`
	Since  time.Time `json:"since,omitzero"`
	Ended  time.Time `json:"ended"`
	How    string    `json:"how"`
	Status int       `json:"status"`
}

// Address is where the hotinit with this PID, in this process's own PID
// namespace, listens.
func Address(pid int) string {
	return "@hotinit/control/" + Namespace() + "/" + strconv.Itoa(pid)
}

// Namespace identifies this process's PID namespace, "0" without /proc.
func Namespace() string {
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "0"
	}
	return strings.Trim(link, "pid:[]")
}
