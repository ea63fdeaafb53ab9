package watch

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// checked serves v1 with a check, which is a script that is told the path.
func checked(t *testing.T, script string, flags ...string) *watched {
	t.Helper()
	dir := directory(t)
	path, check := filepath.Join(dir, "server"), filepath.Join(dir, "check")
	box.Install(t, path, "v1")
	write(t, check, "#!/bin/sh\n[ \"$(tail -n 1 \"$1\")\" = '#app v1' ] && exit 0\n"+script, 0o755)
	s := launch(t, dir, false, append([]string{"--check", check + " {}"}, flags...), path)
	s.next("v1")
	return s
}

func TestAFailedCheckIsTheReason(t *testing.T) {
	s := checked(t, "echo first >&2; echo no good >&2; exit 3\n")
	box.Swap(t, s.Path, "v2")
	s.Line(`generation 2 failed.*: --check of .*/server: it exited with status 3: first; no good; generation 1 stays`)
	s.Answers("v1 generation 1 ")
}

func TestACheckThatPasses(t *testing.T) {
	s := checked(t, "echo a warning >&2; exit 0\n")
	s.only("v2")
	s.only("v3")
}

func TestAFirstReleaseThatFailsItsCheck(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	s := launch(t, dir, false, []string{"--check", "sh -c 'echo bad >&2; exit 1'"}, path)
	s.Line(`cannot start the app: --check of .*/server: it exited with status 1: bad`)
	if status := s.Wait(); status != 125 {
		t.Errorf("status %d, want 125", status)
	}
}

func TestACheckThatHangsIsKilledWithAllItStarted(t *testing.T) {
	s := checked(t, "sleep 1000 & trap '' TERM; sleep 1000\n", "--check-timeout", "300ms")
	box.Swap(t, s.Path, "v2")
	s.Line(`generation 2 failed.*: --check of .*: it took longer than 300ms and was killed`)
	s.Until("nothing of the check is left", func() bool { return len(s.Processes()) == 3 })
}

func TestACheckThatLeavesItsOutputOpenIsNotWaitedFor(t *testing.T) {
	s := checked(t, "(trap '' HUP; sleep 1000) & echo left >&2; exit 4\n")
	box.Swap(t, s.Path, "v2")
	s.Line(`generation 2 failed.*: .*it exited with status 4: left`)
}

func TestACheckRunsAsTheApplicationsUserInItsFolder(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to run the application as another user")
	}
	work := directory(t)
	s := checked(t, `echo "user $(id -u) group $(id -g) in $(pwd) sockets ${LISTEN_FDS-none} generation $HOTINIT_GENERATION" >&2; exit 1`+"\n",
		"--user", "65534:65533", "--dir", work)
	box.Swap(t, s.Path, "v2")
	s.Line(`user 65534 group 65533 in ` + work + ` sockets none generation 2`)
}

func TestADigestBesideTheProgramMustMatch(t *testing.T) {
	s := serve(t, "--settle", "100ms")
	content, err := box.Release("v2")
	if err != nil {
		t.Fatal(err)
	}
	promise := func(of []byte) { write(t, s.Path+".sha256", fmt.Sprintf("%x  server\n", sha256.Sum256(of)), 0o644) }
	promise([]byte("something else"))
	box.Swap(t, s.Path, "v2")
	s.Line(`does not match server.sha256`)
	s.Answers("v1 generation 1 ")
	promise(content)
	s.next("v2")
}

func TestADigestThatDoesNotMatchEndsTheFirstStart(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	write(t, path+".sha256", fmt.Sprintf("%x  server\n", sha256.Sum256(nil)), 0o644)
	s := launch(t, dir, false, nil, path)
	s.Line(`cannot start the app: .*does not match server.sha256`)
	if status := s.Wait(); status != 126 {
		t.Errorf("status %d, want 126", status)
	}
}
