// Package gitignore matches paths against patterns with the meaning that
// gitignore(5) gives them.
//
// The invariant: matching takes no more than quadratic time in the pattern and
// the path, so that no pattern can stall who asks. The package depends on
// nothing.
package gitignore

import "strings"

// Default returns patterns for the files that editors, version control and
// interpreters leave beside what people deploy. Installed dependencies
// (node_modules, vendor) are not in it: they are part of what runs. A later
// pattern with "!" takes one back.
func Default() []string {
	return []string{
		".git/", ".hg/", ".svn/", ".bzr/",
		// Editors: backups, swap files, locks, the name that vim tries out.
		"*~", ".#*", `\#*#`, "*.sw[a-p]", ".*.sw[a-px]", "4913", ".~lock.*#",
		// What interpreters and their tools write while they run.
		"__pycache__/", "*.py[co]", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/",
		// What systems write: macOS directories, files removed while open on NFS and FUSE.
		".hotinit-deploy-*", // what hotinit deploy has not put in place yet
		".DS_Store", ".nfs*", ".fuse_hidden*",
	}
}

// List is a list of patterns; the last one that matches a path decides.
type List []rule

type rule struct {
	segments []string // of the pattern; "**" stands for any number of names
	negated  bool
	dirOnly  bool
}

// Parse reads one pattern from each string. Comments and empty ones are left out.
func Parse(patterns []string) List {
	var list List
	for _, p := range patterns {
		if r, ok := parseRule(p); ok {
			list = append(list, r)
		}
	}
	return list
}

func parseRule(p string) (r rule, ok bool) {
	p = strings.TrimRight(p, "\r\n")
	for strings.HasSuffix(p, " ") && !strings.HasSuffix(p, `\ `) {
		p = p[:len(p)-1]
	}
	if p == "" || p[0] == '#' {
		return r, false
	}
	if p[0] == '!' {
		r.negated = true
		p = p[1:]
	}
	if strings.HasSuffix(p, "/") {
		r.dirOnly = true
		p = strings.TrimRight(p, "/")
	}
	// A slash at the start or inside ties the pattern to the root; without
	// one it holds for the last name, at any depth.
	if i := strings.IndexByte(p, '/'); i < 0 {
		p = "**/" + p
	}
	r.segments = Split(strings.TrimPrefix(p, "/"))
	return r, len(r.segments) > 0 && r.segments[len(r.segments)-1] != ""
}

// Split cuts a pattern into segments, one for each name. A "**" at the end
// stands for one name at least: a/** matches what is in a, not a.
func Split(p string) []string {
	var segments []string
	for s := range strings.SplitSeq(p, "/") {
		if s == "**" && len(segments) > 0 && segments[len(segments)-1] == "**" {
			continue
		}
		segments = append(segments, s)
	}
	if n := len(segments); n > 0 && segments[n-1] == "**" {
		segments = append(segments, "*")
	}
	return segments
}

// Match reports whether the list ignores a path, relative to the root, by
// itself. Callers do not enter an ignored directory, so no pattern can take
// back what is in it.
func (list List) Match(rel string, isDir bool) bool {
	for i := len(list) - 1; i >= 0; i-- {
		r := &list[i]
		if r.dirOnly && !isDir {
			continue
		}
		if MatchPath(r.segments, rel) {
			return !r.negated
		}
	}
	return false
}

// MatchPath reports whether segments match the whole path. As with the asterisk
// in a name, going back to the last "**" is enough, which keeps the time
// quadratic.
func MatchPath(segments []string, path string) bool {
	const none = -1
	si, rest, more := 0, path, true // rest is what is not matched yet; more: something is left
	starSI, starRest := none, ""
	for more {
		name, tail, hasTail := strings.Cut(rest, "/")
		switch {
		case si < len(segments) && segments[si] == "**":
			starSI, starRest = si, rest
			si++
			continue
		case si < len(segments) && matchName(segments[si], name):
			si++
			rest, more = tail, hasTail
			continue
		}
		if starSI == none {
			return false
		}
		// Let the "**" take one name more.
		_, tail, hasTail = strings.Cut(starRest, "/")
		if !hasTail {
			return false
		}
		starRest = tail
		si, rest = starSI+1, starRest
	}
	return si == len(segments)
}

// Leads reports whether something below a directory may match.
func Leads(segments []string, dir string) bool {
	if dir == "" {
		return true
	}
	i := 0
	for name := range strings.SplitSeq(dir, "/") {
		if i == len(segments) {
			return false
		}
		if segments[i] == "**" {
			return true
		}
		if !matchName(segments[i], name) {
			return false
		}
		i++
	}
	return i < len(segments)
}

// matchName matches one name with *, ?, [a-z], [!a-z] and \ before a character
// that means itself.
func matchName(pattern, name string) bool {
	p, n := 0, 0
	starP, starN := -1, 0
	for n < len(name) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				starP, starN = p, n
				p++
				continue
			}
			if width, ok := matchByte(pattern[p:], name[n]); ok {
				p += width
				n++
				continue
			}
		}
		if starP < 0 {
			return false
		}
		starN++
		p, n = starP+1, starN
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchByte matches one byte with the element that pattern starts with, and
// returns the length of that element. A "?" stands for one byte; names are bytes.
func matchByte(pattern string, c byte) (width int, ok bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
		return 1, c == '\\'
	case '[':
		if width, in, valid := matchClass(pattern, c); valid {
			return width, in
		}
		return 1, c == '[' // not closed: means itself
	}
	return 1, pattern[0] == c
}

func matchClass(pattern string, c byte) (width int, in, valid bool) {
	i := 1
	negated := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negated {
		i++
	}
	for first := true; i < len(pattern); first = false {
		if pattern[i] == ']' && !first {
			return i + 1, in != negated, true
		}
		lo, next := classByte(pattern, i)
		hi := lo
		if next+1 < len(pattern) && pattern[next] == '-' && pattern[next+1] != ']' {
			hi, next = classByte(pattern, next+1)
		}
		in = in || lo <= c && c <= hi
		i = next
	}
	return 0, false, false
}

func classByte(pattern string, i int) (c byte, next int) {
	if pattern[i] == '\\' && i+1 < len(pattern) {
		i++
	}
	return pattern[i], i + 1
}
