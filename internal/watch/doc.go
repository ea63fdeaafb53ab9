// Package watch reports when there is a new finished release.
//
// The invariant: an event is sent for content that is complete, that can be
// started, and that differs from what runs. The event holds the descriptor
// that was checked, so what was checked is what runs.
//
// How to read it: decide.go holds the decision, a pure function from a list of
// observations to a verdict. command.go watches one file: it makes the
// observations (look, touch) and carries out the verdicts. route.go follows a
// path through every symbolic link and lists the directories to watch;
// inotify.go watches them. watcher.go is the loop, the one goroutine that owns
// all state. A report (from inotify, a mount, a poll timer) is only a reason to
// look again; the loop believes nothing of it except that a file was closed
// after writing or renamed into place. Package release judges an open file.
//
// tree.go and sweep.go watch further files and directories: a report only
// starts a settling time, and then a sweep compares the whole tree with what
// was there before.
package watch
