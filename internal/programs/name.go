package programs

import (
	"strings"

	"github.com/hotinit/hotinit/internal/gitignore"
)

// Suffix ends the name of a program's file.
const Suffix = ".env"

// longestName bounds a program's name. It is part of the names of cgroups and of
// abstract sockets, which the kernel bounds.
const longestName = 64

// NameRule is what a program's name has to be, in words.
const NameRule = "a program's file is NAME.env, with a name of small letters, digits, '.', '_' and '-' that begins with a letter or a digit, of at most 64 characters"

// ValidName reports whether a program may have the name.
func ValidName(name string) bool {
	if name == "" || len(name) > longestName || !isLetter(name[0]) {
		return false
	}
	for i := range len(name) {
		if !isLetter(name[i]) && strings.IndexByte("._-", name[i]) < 0 {
			return false
		}
	}
	return true
}

func isLetter(b byte) bool { return 'a' <= b && b <= 'z' || '0' <= b && b <= '9' }

// kind is what the name of a file in the directory means.
type kind uint8

const (
	ofProgram kind = iota
	passing        // an editor's, or hidden: nobody means it to be read
	foreign        // somebody may take it for a program's
)

var passingNames = gitignore.Parse(gitignore.Default())

// kindOf says what a file name means, and which program's it is.
func kindOf(file string) (k kind, program string) {
	name, ok := strings.CutSuffix(file, Suffix)
	switch {
	case strings.HasPrefix(file, "."), passingNames.Match(file, false):
		return passing, ""
	case ok && ValidName(name):
		return ofProgram, name
	}
	return foreign, ""
}
