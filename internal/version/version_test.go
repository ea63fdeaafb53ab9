package version

import (
	"runtime/debug"
	"testing"
)

func TestABuildSaysWhatGoNotedInIt(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for _, c := range []struct{ module, revision, number, commit string }{
		{"(devel)", "", "devel", "devel"}, // an export, or -buildvcs=false
		{"", "", "devel", "devel"},
		{"(devel)", revision, "devel", revision},    // go run, with an older Go
		{"v1.2.3", "", "1.2.3", "module"},           // go install …@v1.2.3
		{"v1.2.3-rc.1", "", "1.2.3-rc.1", "module"}, // a tag as well
		{"v1.2.3", revision, "1.2.3", revision},     // go build in a checkout of the tag
		{"v1.2.4-0.20260102150405-0123456789ab", "", "1.2.4-0.20260102150405-0123456789ab", "0123456789ab"},         // go install …@main
		{"v0.0.0-20260102150405-0123456789ab+dirty", revision, "0.0.0-20260102150405-0123456789ab+dirty", revision}, // go build in a checkout
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: c.module}}
		if c.revision != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: c.revision}}
		}
		if got := number(info, true); got != c.number {
			t.Errorf("%q, %q: the number is %q, want %q", c.module, c.revision, got, c.number)
		}
		if got := commitOf(info, true); got != c.commit {
			t.Errorf("%q, %q: the commit is %q, want %q", c.module, c.revision, got, c.commit)
		}
	}
	if number(nil, false) != "devel" || commitOf(nil, false) != "devel" {
		t.Error("a build without any information says something else than devel")
	}
}
