// Package watch tells when there is a new finished release, and of nothing else.
//
// The invariant: an event is sent for content that is complete, that can be
// started, and that differs from what runs; the descriptor that was checked is
// in the event, so what was checked is what runs.
//
// How to read it: decide.go is the decision, a pure function from a list of
// observations to a verdict. command.go is the watch on one file: it makes the
// observations (look, touch) and carries out verdicts. route.go follows a path
// through every symbolic link and says which folders to watch; inotify.go
// watches them. watcher.go is the loop, the one goroutine that owns all state:
// whatever is reported (by inotify, by a mount, by a timer of polling) is only
// a reason to look again, never believed for what it says, but for one thing:
// that a file was closed after writing or renamed into place. release.go,
// check.go, elf.go and writer.go judge an open file; snapshot.go copies one.
//
// tree.go, sweep.go and ignore.go are the watch on further files and folders:
// reports only start a settling time, and then all of it is gone through and
// compared with what was there before.
package watch
