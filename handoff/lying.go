package handoff

import (
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/release"
)

// saw takes note of the file that was found at the command's path last.
func (s *releases) saw(r release.Release) { s.lies = r }

// liesThere reports whether a file is at its path still, as it was. It runs beside the
// loop, and takes no answer for no.
func liesThere(r release.Release) bool {
	answer := make(chan bool, 1)
	var a aside
	inTime := a.run(func() {
		now := release.StatStamp(r.Path)
		answer <- now.Dev == r.Dev && now.Ino == r.Ino && now.Size == r.Size && now.MTime == r.MTime
	}, func() {})
	return inTime && <-answer
}

// rejectedThere describes the release that the command's path led to last, if that was
// rejected, and the file that it was seen in.
func (s *clients) rejectedThere() (*control.Rejected, release.Release) {
	st, file := &s.engine.state, s.releases.lies
	r := st.Rejection(st.Newest)
	if r == nil || file.Path == "" {
		return nil, file
	}
	return &control.Rejected{
		Release: r.Release, Path: file.Path, Reason: r.Reason, ByHand: r.ByHand,
		Restarts: s.releases.memory.store == nil,
	}, file
}

// look is the status as it is now. It runs beside the loop.
func (s *clients) look() (status *control.Status) {
	var file release.Release
	s.engine.ask(func() {
		status = s.status()
		status.There, file = s.rejectedThere()
	})
	// What is there by now may be another release, and a good one.
	if status.There != nil && !liesThere(file) {
		status.There = nil
	}
	return status
}
