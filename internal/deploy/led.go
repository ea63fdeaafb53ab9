package deploy

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
)

// parent opens the directory of path, to which the name asked leads. Whoever may make
// links where that is may be the app, and this process root: such a link leads only to
// a directory of the same owner, which is no directory that only root can change.
func parent(asked, path string) (*safepath.Dir, string, error) {
	dir, name, err := safepath.Parent(path)
	if err != nil {
		return nil, "", fmt.Errorf("cannot open the directory of %s: %w", path, err)
	}
	if asked == path {
		return dir, name, nil
	}
	_, err = safepath.Stat(asked)
	var refused *safepath.Refused
	if !errors.As(err, &refused) {
		return dir, name, nil
	}
	var from *safepath.Dir
	if from, _, err = safepath.Parent(refused.Path); err == nil {
		theirs := !dir.Settled() && dir.Owner() == from.Owner()
		from.Close()
		if theirs {
			return dir, name, nil
		}
	}
	dir.Close()
	return nil, "", fmt.Errorf("%s leads to %s, in a directory of somebody else than who can make that link: %w", asked, path, refused)
}

// modeOf returns the mode of what is put in the place of a file. Where others may write,
// they can have put a hard link to a set-user-ID program of root there.
func modeOf(dir *safepath.Dir, old *unix.Stat_t) uint32 {
	if dir.Settled() {
		return old.Mode & 0o7777
	}
	return old.Mode & 0o777
}
