// Package exitcode names the exit statuses that hotinit gives besides the app's
// own. They mean what they mean to env(1), shells and docker.
package exitcode

import "golang.org/x/sys/unix"

const (
	Failure       = 125 // hotinit itself could not do its work
	NotExecutable = 126 // the command is there but cannot be executed
	NotFound      = 127 // the command is not there
)

// Signaled is the status of a process that a signal ended.
func Signaled(sig unix.Signal) int { return 128 + int(sig) }
