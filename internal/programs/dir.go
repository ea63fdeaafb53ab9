package programs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/settings"
)

// mostPrograms bounds how many files are read.
const mostPrograms = 10000

// Dir is the directory of --programs.
type Dir struct {
	Path string // absolute
	Base *settings.Config

	read map[string]*entry // by file name, what was read last
	said map[string]bool   // names that were complained of
}

// entry is one file as it was read.
type entry struct {
	stamp   stamp
	at      time.Time
	program string
	def     *Definition
	err     error
}

// stamp is what a stat shows.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// Set is what the directory says.
type Set struct {
	Programs map[string]*Definition
	Bad      map[string]error // files that say nothing that can be used, by program
	Notes    []string         // to be said once
}

// Names returns the names of the programs that have a usable file, in order.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.Programs)) }

// Read reads the directory. A file that is as it was is not read again.
func (d *Dir) Read() (*Set, error) {
	dir, err := safepath.OpenDir(d.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot read --programs %s: %w", d.Path, err)
	}
	defer dir.Close()
	if unix.Geteuid() == 0 {
		// The files say what runs as root.
		if err := dir.Trusted(); err != nil {
			return nil, fmt.Errorf("cannot read --programs %s: %w", d.Path, err)
		}
	}
	names, err := dir.Names()
	if err != nil {
		return nil, fmt.Errorf("cannot read --programs %s: %w", d.Path, err)
	}
	slices.Sort(names)
	set := &Set{Programs: make(map[string]*Definition), Bad: make(map[string]error)}
	read := make(map[string]*entry)
	for _, file := range names {
		kind, program := kindOf(file)
		switch {
		case kind == passing:
			continue
		case kind == foreign:
			if regular, err := dir.IsRegular(file); err == nil && regular {
				d.note(set, file, fmt.Sprintf("%s/%s is not read: %s", d.Path, file, NameRule))
			}
			continue
		case len(read) == mostPrograms:
			return nil, fmt.Errorf("there are more than %d programs in %s", mostPrograms, d.Path)
		}
		e := d.file(dir, file, program)
		if e == nil && dir.IsLink(file) {
			d.note(set, file, fmt.Sprintf("%s/%s is not read: it is a link that leads nowhere", d.Path, file))
		}
		if e == nil {
			continue // it is gone
		}
		read[file] = e
		if e.err != nil {
			set.Bad[program] = e.err
		} else {
			set.Programs[program] = e.def
		}
	}
	d.read = read
	return set, nil
}

// mostNotes is how many files are named at a time that are not read.
const mostNotes = 10

func (d *Dir) note(set *Set, about, text string) {
	if d.said[about] {
		return
	}
	if d.said == nil {
		d.said = make(map[string]bool)
	}
	d.said[about] = true
	switch len(set.Notes) {
	case mostNotes:
		text = fmt.Sprintf("there are further files in %s that are not read", d.Path)
	case mostNotes + 1:
		return
	}
	set.Notes = append(set.Notes, text)
}

// settled is how old a stamp must be for a further change to show in it.
const settled = 2 * time.Second

// file returns what a file says, nil if it is not there.
func (d *Dir) file(dir *safepath.Dir, file, program string) *entry {
	path := d.Path + "/" + file
	open := dir.OpenTrusted
	if unix.Geteuid() != 0 {
		open = func(file string) (int, error) { return dir.Open(file, unix.O_RDONLY, 0) }
	}
	fd, err := open(file)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &entry{program: program, err: fmt.Errorf("cannot read %s: %w", path, err)}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &entry{program: program, err: fmt.Errorf("cannot read %s: %w", path, err)}
	}
	now := stampOf(&st)
	if e := d.read[file]; e != nil && e.stamp == now && e.at.Sub(time.Unix(0, now.ctime)) > settled {
		return e
	}
	e := &entry{stamp: now, at: time.Now(), program: program}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		e.err = fmt.Errorf("%s is not a regular file", path)
		return e
	}
	text, err := safepath.ReadAll(fd, longestFile)
	if err != nil {
		e.err = fmt.Errorf("cannot read %s: %w", path, err)
		return e
	}
	if e.def, e.err = Parse(d.Base, program, path, text); e.err == nil {
		if old := d.read[file]; old != nil && old.def != nil && old.def.Same(e.def) {
			e.def = old.def // as it was
		}
	}
	return e
}
