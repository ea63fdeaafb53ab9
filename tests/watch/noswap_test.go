package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// An app that writes into its own watched directory at each start would be swapped
// for ever.
func TestAnAppThatWritesIntoItsWatchedDirectoryIsNotSwappedForEver(t *testing.T) {
	dir := directory(t)
	write(t, filepath.Join(dir, "run.sh"), "echo $HOTINIT_GENERATION >lib/cache\nexec sleep 1000\n", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := launch(t, dir, false, []string{"--watch", "lib", "--settle", "50ms", "--interval", "50ms", "--ready", "auto"}, "sh", "run.sh")
	// What generation 1 has written may be older than the watch.
	s.Line(`^hotinit: version .*, ` + dir + `/lib$`)
	tries := 0
	s.Until("a change is seen", func() bool {
		tries++
		write(t, filepath.Join(dir, "lib", "cache"), fmt.Sprint("try ", tries), 0o644)
		return s.Output.Count(regexp.MustCompile(`generation 2 is started`)) > 0
	})
	for n := 2; n <= 4; n++ {
		s.Line(fmt.Sprintf(`^hotinit: generation %d is started \(changed\)`, n))
	}
	s.Line(`^hotinit: ` + dir + `/lib/cache changed right after each of the last 3 starts: the app itself may write it; the next generation is started in 10s \(exclude the file with --ignore\)`)
	s.Never("generation 5 is started")
	s.Stop(143)
}

// What is there already is no news to the app, though the file is another one.
func TestASignalIsSentForOtherBytesOnly(t *testing.T) {
	dir := directory(t)
	path, conf := filepath.Join(dir, "server"), filepath.Join(dir, "conf")
	box.Install(t, path, "v1", "-echo")
	if err := os.Mkdir(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(conf, "a"), "one", 0o644)
	write(t, filepath.Join(conf, "b"), "one", 0o644)
	s := launch(t, dir, false, []string{"--watch", conf + ":HUP", "--settle", "50ms"}, path)
	s.Line("listening to signals")
	s.Line(`; watches ` + path + `, ` + conf + ` \(SIGHUP\)$`)
	s.sh(`touch conf/a; chmod 600 conf/a; cp conf/a conf/.new; mv conf/.new conf/a; printf one >conf/a`)
	s.sh(`printf two >conf/b`)
	s.Line(`^hotinit: ` + conf + `/b changed; SIGHUP is sent$`)
	s.Line("got SIGHUP")
	s.sh(`printf one >conf/a; ln -f conf/b conf/c; rm conf/c`)
	s.sh(`printf three >conf/b`)
	s.Line(`^hotinit: ` + conf + `/b changed; SIGHUP is sent$`)
	s.Line("got SIGHUP")
	s.Never("/a changed")
	s.Never("more with it")
	s.Stop(0)
}
