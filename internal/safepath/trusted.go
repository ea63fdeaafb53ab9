package safepath

import "golang.org/x/sys/unix"

const chown = " (chown it to root, chmod go-w)"

// Trusted returns why others than root and hotinit's own user can decide what is in
// the directory, nil where they can not.
func (d *Dir) Trusted() error {
	if d.settled {
		return nil
	}
	return &Refused{d.path, "or a directory above it can be written to by others than root" + d.whose() + chown}
}

// Owner is the user that the directory belongs to.
func (d *Dir) Owner() uint32 { return d.owner }

// OpenTrusted opens a file to read what is believed: neither it nor the directory that
// it is in, by whatever links, can be changed by others than root and hotinit's own user.
func (d *Dir) OpenTrusted(path string) (int, error) {
	t, err := walk(d, path, true)
	if err != nil {
		return -1, err
	}
	defer t.dir.Close()
	if err := t.dir.Trusted(); err != nil {
		return -1, err
	}
	fd, err := t.open(unix.O_RDONLY, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = unix.Fstatfs(fd, &fs)
	}
	if err == nil && fs.Flags&unix.ST_RDONLY == 0 && (!trusted(st.Uid) || st.Mode&0o022 != 0) {
		err = &Refused{t.dir.join(t.name), "can be written to by others than root" + chown}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
