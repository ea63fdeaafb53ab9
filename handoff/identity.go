package handoff

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
)

// identity is who the app runs as.
type identity struct {
	credential *spawn.Credential // nil: as hotinit itself
	home, name string            // "" where the user has no entry
}

// newIdentity looks up --user and --groups in the container's own /etc/passwd
// and /etc/group: only there do a name and a number belong together.
func newIdentity(cfg *settings.Config) (identity, error) {
	if cfg.User == "" {
		if len(cfg.Groups) > 0 {
			return identity{}, fmt.Errorf("--groups %s is without effect unless --user is given", strings.Join(cfg.Groups, ","))
		}
		return identity{}, nil
	}
	passwd, _ := os.ReadFile("/etc/passwd")
	group, _ := os.ReadFile("/etc/group")
	return lookUp(cfg.User, cfg.Groups, string(passwd), string(group))
}

// lookUp finds "name|uid[:group|gid]" in the texts of passwd(5) and group(5).
func lookUp(user string, groups []string, passwd, group string) (identity, error) {
	name, groupName, hasGroup := strings.Cut(user, ":")
	var id identity
	c := &spawn.Credential{}
	entry := find(passwd, name, 7)
	switch uid, err := number(name); {
	case entry != nil:
		u, errU := number(entry[2])
		g, errG := number(entry[3])
		if errU != nil || errG != nil {
			return id, fmt.Errorf("--user %s: the entry of %s in /etc/passwd has no numbers", user, name)
		}
		c.UID, c.GID = u, g
		id.name, id.home = entry[0], entry[5]
	case err == nil:
		c.UID = uid // a number needs no entry; its group is 0 then, as with docker run --user
	default:
		return id, fmt.Errorf("--user %s: there is no user %s in the container's /etc/passwd (a number needs none)", user, name)
	}
	if hasGroup {
		gid, err := groupID(groupName, group)
		if err != nil {
			return id, fmt.Errorf("--user %s: %w", user, err)
		}
		c.GID = gid
	}
	c.Groups = []uint32{c.GID}
	if groups != nil {
		for _, g := range groups {
			gid, err := groupID(g, group)
			if err != nil {
				return id, fmt.Errorf("--groups %s: %w", g, err)
			}
			c.Groups = append(c.Groups, gid)
		}
	} else if id.name != "" {
		c.Groups = append(c.Groups, memberOf(id.name, group)...)
	}
	id.credential = c
	return id, nil
}

// number reads a user's or group's number. The highest is none: to the kernel
// it says that nothing is to change, setresuid(2), so the app would be root.
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
