package watch

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// A checkout that is pulled in place, with what the app keeps beside it. The
// second commit breaks it, and it goes back to the first one as a whole.
func TestAPullInPlaceIsRolledBackFromTheCopy(t *testing.T) {
	site.Need(t, "git")
	t.Parallel()
	dir := directory(t)
	s := &watched{Site: &site.Site{T: t, Dir: dir}}
	git := `git -c user.name=x -c user.email=x@example.com -c init.defaultBranch=main -c protocol.file.allow=always `
	s.sh(git + `init -q origin; cd origin; mkdir data
printf '. lib/lib.sh\n' >main.sh; mkdir lib
echo 'echo "$HOTINIT_GENERATION: v1, $(cat data/rows)"; echo row >>data/rows; exec sleep 1000' >lib/lib.sh
` + git + `add .; ` + git + `commit -qm 1; cd ..; ` + git + `clone -q origin app; mkdir -p app/data; echo old >app/data/rows`)
	s = launch(t, dir, false, []string{"--interval", "100ms", "--probation", "1s", "--dir", "app", "--watch", "app",
		"--ignore", "/data/", "--settle", "100ms", "--snapshot"}, "sh", "main.sh")
	s.Line(`^1: v1, old$`)
	s.Proven(1)
	s.sh(`cd origin; echo 'echo "$HOTINIT_GENERATION: v2"; sleep 0.5; exit 9' >lib/lib.sh; ` + git + `commit -qam 2; cd ../app; ` + git + `pull -q`)
	s.Line(`^2: v2$`)
	s.Line(`^3: v1, old`) // what is ignored is the app's own directory, not a copy
	b, err := os.ReadFile(filepath.Join(dir, "app", "lib", "lib.sh"))
	if err != nil || len(b) == 0 || b[0] != 'e' {
		t.Errorf("the checkout itself: %q, %v", b, err)
	}
	if rows, _ := os.ReadFile(filepath.Join(dir, "app", "data", "rows")); string(rows[:8]) != "old\nrow\n" {
		t.Errorf("what the app wrote: %q", rows)
	}
}

func TestASingleFileMountIsWarnedOf(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "server")
	box.Install(t, source, "v1")
	write(t, target, "", 0o755)
	mount(t, source, target, "", unix.MS_BIND)
	s := launch(t, dir, false, nil, target)
	s.next("v1")
	s.Line(`server is mounted as a single file: a file that is renamed over it on the host does not show here`)
}
