// Package passwd finds users and groups by name or number, in the /etc/passwd
// and /etc/group of the root that hotinit itself sees.
//
// Invariant: no answer is the highest number, which tells the kernel to change
// nothing, setresuid(2): an app with that number would stay root.
//
// os/user is not used: it is larger, and wants an entry where a number needs
// none.
package passwd

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// Credential is who a process runs as. Groups are the supplementary groups,
// none where it is empty.
type Credential struct {
	UID, GID uint32
	Groups   []uint32
}

// Identity is a Credential with what passwd(5) says about the user.
type Identity struct {
	Credential
	Name, Home string // "" where the user has no entry
}

// LookUp finds "name|uid[:group|gid]", the form of --user. groups, if not nil,
// replace the supplementary groups that group(5) lists for the user.
func LookUp(user string, groups []string) (Identity, error) {
	passwd, _ := os.ReadFile(passwdFile)
	group, _ := os.ReadFile(groupFile)
	return lookUp(user, groups, string(passwd), string(group))
}

func lookUp(user string, groups []string, passwd, group string) (Identity, error) {
	name, groupName, hasGroup := strings.Cut(user, ":")
	var id Identity
	entry := find(passwd, name, 7)
	switch uid, err := number(name); {
	case entry != nil:
		u, errU := number(entry[2])
		g, errG := number(entry[3])
		if errU != nil || errG != nil {
			return id, fmt.Errorf("--user %s: the entry of %s in /etc/passwd has no numbers", user, name)
		}
		id.UID, id.GID = u, g
		id.Name, id.Home = entry[0], entry[5]
	case err == nil:
		id.UID = uid // a number needs no entry; its group is 0 then, as with docker run --user
	default:
		return id, fmt.Errorf("--user %s: there is no user %s in the container's /etc/passwd (a number needs none)", user, name)
	}
	if hasGroup {
		gid, err := groupID(groupName, group)
		if err != nil {
			return id, fmt.Errorf("--user %s: %w", user, err)
		}
		id.GID = gid
	}
	id.Groups = []uint32{id.GID}
	if groups != nil {
		for _, g := range groups {
			gid, err := groupID(g, group)
			if err != nil {
				return id, fmt.Errorf("--groups %s: %w", g, err)
			}
			id.Groups = append(id.Groups, gid)
		}
	} else if id.Name != "" {
		id.Groups = append(id.Groups, memberOf(id.Name, group)...)
	}
	return id, nil
}

// UserID returns the number of one user. A number needs no entry.
func UserID(user string) (uint32, error) { return fileID("user", user, passwdFile) }

// GroupID returns the number of one group. A number needs no entry.
func GroupID(group string) (uint32, error) { return fileID("group", group, groupFile) }

// fileID finds a name in passwd(5) or group(5): both have the number in the
// third field.
func fileID(what, name, file string) (uint32, error) {
	if n, err := number(name); err == nil {
		return n, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not known: cannot read %s: %w", what, name, file, err)
	}
	if f := find(string(text), name, 3); f != nil {
		if n, err := number(f[2]); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s %q is not in %s (give its number)", what, name, file)
}

// number reads a user's or group's number.
func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == math.MaxUint32 {
		err = strconv.ErrRange
	}
	return uint32(n), err
}

// find returns the fields of the line for a name or a number.
func find(text, key string, fields int) []string {
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Split(line, ":")
		if len(f) >= fields && (f[0] == key || f[2] == key) {
			return f
		}
	}
	return nil
}

func groupID(name, group string) (uint32, error) {
	if f := find(group, name, 4); f != nil {
		gid, err := number(f[2])
		if err != nil {
			return 0, fmt.Errorf("the entry of %s in /etc/group has no number", name)
		}
		return gid, nil
	}
	gid, err := number(name)
	if err != nil {
		return 0, fmt.Errorf("there is no group %s in the container's /etc/group (a number needs none)", name)
	}
	return gid, nil
}

// memberOf returns the groups that list a user as a member.
func memberOf(user, group string) []uint32 {
	var gids []uint32
	for line := range strings.SplitSeq(group, "\n") {
		f := strings.Split(line, ":")
		if len(f) < 4 {
			continue
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if gid, err := number(f[2]); err == nil && member == user {
				gids = append(gids, gid)
			}
		}
	}
	return gids
}
