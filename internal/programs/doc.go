// Package programs reads the files of --programs, one for each program.
//
// Its invariant: a Definition is a whole file, read at once and free of errors. What
// cannot be read or understood is said, with its line, and never half used.
//
// Read file.go for the syntax, name.go for which files count, and dir.go for how the
// directory is read.
package programs
