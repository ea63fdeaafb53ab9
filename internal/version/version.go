// Package version says which hotinit this is.
package version

import "runtime/debug"

// Number is the release, by semantic versioning.
const Number = "1.0.0"

// Commit is what it was built from, "" where the build does not say.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
