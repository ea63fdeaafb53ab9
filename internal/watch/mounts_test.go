package watch

import "testing"

// Who is told of mounts and who wants to hear no more of them do not wait for each other.
func TestTheEndOfTheWatchOfMountsDoesNotWaitForWhatComes(t *testing.T) {
	var m mountWatch
	for range 2000 {
		out := make(chan struct{}, 1)
		end := m.watch(out)
		if m.file == nil {
			t.Skip("no /proc/self/mountinfo")
		}
		end() // while the first look is told, or is about to be
	}
}
