package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// (rsync would skip a file of the same size and second without -I.)
//
// Each way is taken three times in a row on one hotinit: were there a
// generation too many, the next number would be wrong.
func TestWaysToDeployAProgramThatRuns(t *testing.T) {
	for _, c := range []struct{ name, tool, line string }{
		{"mv", "mv", `mv new server`},
		{"cp --remove-destination", "cp", `cp --remove-destination new server`},
		{"install", "install", `install -m 755 new server`},
		{"rsync", "rsync", `mkdir -p from; mv new from/server; rsync -a -I from/server .`},
		{"rsync --delay-updates", "rsync", `mkdir -p from; mv new from/server; rsync -a -I --delay-updates from/ .`},
		{"tar", "tar", `mkdir -p from; mv new from/server; tar -C from -cf all.tar server; tar -xf all.tar`},
		{"a hard link", "ln", `ln -f new server; rm new`},
		{"an editor with a backup", "cp", `cp new .server.swp; mv server server~; mv .server.swp server`},
		{"unlinked, then written", "cp", `rm server; cat new >server; chmod 755 server`},
		{"the directory replaced", "mv", ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			site.Need(t, c.tool)
			s := serve(t)
			for i := 2; i <= 4; i++ {
				version := fmt.Sprintf("v%d", i)
				if c.line == "" {
					replaceDirectory(t, s, version)
				} else {
					s.release("new", version)
					s.sh(c.line)
				}
				s.next(version)
			}
		})
	}
}

// replaceDirectory has the application in another directory of the same name.
func replaceDirectory(t *testing.T, s *watched, version string) {
	t.Helper()
	app := filepath.Join(s.Dir, "app")
	if s.n == 1 {
		if err := os.Mkdir(app, 0o755); err != nil {
			t.Fatal(err)
		}
		box.Install(t, filepath.Join(app, "server"), "v1")
		other := launch(t, s.Dir, false, nil, filepath.Join(app, "server"))
		other.next("v1")
		*s = *other
	}
	s.sh(`mkdir app.new`)
	s.release("app.new/server", version)
	s.sh(fmt.Sprintf(`mv app app.%s; mv app.new app`, version))
}

func TestWaysToTurnALink(t *testing.T) {
	for _, c := range []struct{ name, command, prepare, turn string }{
		{"ln -sfn", "current/server", `ln -sfn releases/v1 current`, `ln -sfn releases/%s current`},
		{"three relative links", "a/server", `ln -s b a; ln -s c b; ln -s releases/v1 c`, `ln -s releases/%s c.new; mv -T c.new c`},
		{"..data", "server", `ln -s releases/v1 ..data; ln -s ..data/server server`, `ln -s releases/%s ..data_tmp; mv -T ..data_tmp ..data`},
		{"a link to the file", "server", `ln -s releases/v1/server server`, `ln -sf releases/%s/server server`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &watched{Site: &site.Site{T: t, Dir: directory(t)}}
			release := func(version string) {
				s.sh("mkdir -p releases/" + version)
				s.release("releases/"+version+"/server", version)
			}
			release("v1")
			s.sh(c.prepare)
			s = launch(t, s.Dir, false, nil, filepath.Join(s.Dir, c.command))
			s.next("v1")
			for i := 2; i <= 4; i++ {
				version := fmt.Sprintf("v%d", i)
				release(version)
				s.sh(fmt.Sprintf(c.turn, version))
				s.next(version)
			}
		})
	}
}

// What happens is followed by a marker file that is watched for a signal: when
// the application has got that, the watcher has looked at what came before.
func TestNothingHappensFor(t *testing.T) {
	dir := directory(t)
	path, marker := filepath.Join(dir, "server"), filepath.Join(dir, "marker")
	box.Install(t, path, "v1", "-echo")
	write(t, marker, "0", 0o644)
	s := launch(t, dir, false, []string{"--ready", "interval", "--settle", "20ms", "--watch", marker + ":USR1"}, path)
	s.Line("listening to signals")
	s.Becomes(1, "current") // it is watched by then
	// What is touched while it is read for the first time has no name, and so is new later.
	s.Until("the release has its name", func() bool { return s.Generation(1).Digest != "" })
	s.n = 1
	mark := func(text string) {
		t.Helper()
		write(t, marker, text, 0o644)
		s.Line("got SIGUSR1")
	}
	mark("watched by now")
	for i, line := range []string{
		`touch server`,
		`chmod 700 server; chmod 755 server`,
		`cp --remove-destination server copy; mv copy server`,
		`cat server >/dev/null; touch -a server`,
		`for i in 1 2 3 4 5 6 7 8 9; do echo $i >other$i; mkdir d$i; mv other$i d$i; rm -r d$i; done`,
	} {
		s.sh(line)
		mark(fmt.Sprint(i))
		mark(fmt.Sprint(i, "again")) // a settling time later
	}
	for i := range 10000 {
		name := filepath.Join(dir, fmt.Sprint("other-", i))
		write(t, name, "", 0o644)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	mark("ten thousand files")
	mark("ten thousand files again")
	s.release("new", "v2")
	s.sh("mv new server")
	s.next("v2")
}

// It is said, and the generation that runs stays.
func TestWhatCannotBeStartedIsRefusedAndSaid(t *testing.T) {
	for _, c := range []struct{ name, line, said string }{
		{"removed", `rm server`, `was removed; the running generation stays`},
		{"a directory", `rm server; mkdir server`, `a directory, not a file`},
		{"a FIFO", `mkfifo f; mv f server`, `a FIFO`},
		{"an empty file", `: >e; chmod 755 e; mv e server`, `an empty file`},
		{"an interrupted copy", `head -c 200000 server >part; chmod 755 part; mv part server`, `server: .*; the running generation stays`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "--settle", "50ms")
			s.sh(c.line)
			s.Line(c.said)
			s.Answers("v1 generation 1 ")
			s.sh(`rm -rf server`)
			s.only("v2")
		})
	}
}

func TestTheSameFileTwiceAtOnceEndsWithTheLast(t *testing.T) {
	s := serve(t)
	s.release("second", "v2")
	s.release("third", "v3")
	s.sh(`mv second server; mv third server`)
	s.Answers("v3 generation ")
}

func TestPollingFindsARelease(t *testing.T) {
	s := serve(t, "--poll", "50ms")
	s.only("v2")
	s.only("v3")
}
