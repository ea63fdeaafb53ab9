// Package notify speaks sd_notify(3): Listen and Serve receive what an app says
// on NOTIFY_SOCKET, Tell says something to a service manager above hotinit.
//
// Invariant: Serve takes a datagram out of the socket only after it was acted
// upon, so a handoff that is killed in between leaves it to the next one.
package notify

import (
	"iter"
	"strconv"
	"strings"
	"time"
)

// Message is one datagram of an app.
type Message struct {
	PID  int    // who sent it, as the kernel says; 0 outside this PID namespace
	UID  uint32 // the sender's user
	Text string
	Cut  bool // it was longer than Serve takes, and Text is empty
}

// Fields yields the assignments in a message, KEY=value, one a line.
func (m Message) Fields() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for line := range strings.SplitSeq(m.Text, "\n") {
			key, value, ok := strings.Cut(line, "=")
			if ok && !yield(key, value) {
				return
			}
		}
	}
}

// longest bounds EXTEND_TIMEOUT_USEC.
const longest = 24 * time.Hour

// Extension reads the value of EXTEND_TIMEOUT_USEC. It reports whether the value
// is a time that can be meant.
func Extension(value string) (time.Duration, bool) {
	us, err := strconv.ParseInt(value, 10, 64)
	if err != nil || us <= 0 || us >= longest.Microseconds() {
		return 0, false
	}
	return time.Duration(us) * time.Microsecond, true
}
