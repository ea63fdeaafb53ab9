// Package version says which hotinit this is.
//
// Its invariant: it says nothing that is not so. A release is linked with its
// number and commit; another build says what Go has noted in it: the version that
// the module was fetched by, or the commit that it was built from; and a build of
// loose files is "devel".
package version

import (
	"runtime/debug"
	"strings"
)

// devel is a build of which nothing better is known.
const devel = "devel"

// Number is the release, by semantic versioning, or what there is instead. A
// release, and a test, sets it by
// -ldflags "-X github.com/hotinit/hotinit/internal/version.Number=1.2.3".
var Number string

// commit is set in the same way.
var commit string

func init() {
	if Number == "" {
		Number = number(debug.ReadBuildInfo())
	}
}

// number is what Go says of the main module: "v1.2.3", a pseudo-version that has the
// commit in it, or "(devel)".
func number(info *debug.BuildInfo, ok bool) string {
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return devel
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

// Commit is what hotinit was built from: a commit's name, "module" for a release
// that Go fetched as a module and that names no commit, or "devel".
func Commit() string {
	if commit != "" {
		return commit
	}
	return commitOf(debug.ReadBuildInfo())
}

func commitOf(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return devel
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && s.Value != "" {
			return s.Value
		}
	}
	// A pseudo-version ends with 12 digits of the commit: v0.0.0-20260102150405-0123456789ab.
	version, _, _ := strings.Cut(info.Main.Version, "+")
	if at := strings.LastIndexByte(version, '-'); at >= 0 && len(version)-at-1 == 12 && strings.Trim(version[at+1:], "0123456789abcdef") == "" {
		return version[at+1:]
	}
	if number(info, ok) != devel {
		return "module"
	}
	return devel
}
