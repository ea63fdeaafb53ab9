package settings

// The releases whose command lines compat.go has.
const (
	tiniRelease        = "0.19.0"
	dumbInitRelease    = "1.2.5"
	catatonitRelease   = "0.1.7"
	startServerRelease = "0.35"
)

// commitDigits is how much of a commit docker expects: docker info cuts the
// commit that it was built to expect to the length of this one, and an older
// one does so without a look at its own length.
const commitDigits = 7

// VersionText is the line that --version prints for the name that hotinit was
// started under. docker info reads "tini version X - git.Y" from the init that
// it puts into containers, and is content with the second half alone, which
// every name has where docker might ask.
func VersionText(argv0, version, commit string) string {
	git := " - git." + commit[:min(len(commit), commitDigits)]
	hotinit := "hotinit " + version
	switch dialectOf(argv0).name {
	case "tini":
		return "tini version " + tiniRelease + " (" + hotinit + ")" + git
	case "catatonit":
		return "tini version " + catatonitRelease + "_catatonit (" + hotinit + ")" + git
	case "dumb-init":
		return "dumb-init v" + dumbInitRelease + " (" + hotinit + ")"
	case "start_server":
		return startServerRelease + " (" + hotinit + ")"
	}
	return "hotinit version " + version + git
}
