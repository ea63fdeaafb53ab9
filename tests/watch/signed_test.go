package watch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aead.dev/minisign"
	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// A signer has a key pair of minisign. Where Debian's minisign is there, it makes
// the keys and the signatures, and else the Go module does.
type signer struct {
	t       *testing.T
	dir     string
	public  string // the path of the public key
	private minisign.PrivateKey
	tool    bool
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	dir := directory(t)
	g := &signer{t: t, dir: dir, public: filepath.Join(dir, "release.pub")}
	if _, err := exec.LookPath("minisign"); err == nil {
		g.tool = true
		g.run("-G", "-W", "-p", g.public, "-s", filepath.Join(dir, "release.key"))
		return g
	}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.private = private
	text, _ := public.MarshalText()
	write(t, g.public, string(text), 0o644)
	return g
}

func (g *signer) run(args ...string) {
	g.t.Helper()
	if out, err := exec.Command("minisign", args...).CombinedOutput(); err != nil {
		g.t.Fatalf("minisign %v: %v\n%s", args, err, out)
	}
}

// sign writes the signature of a file beside it. It was signed at this time, by
// its trusted comment.
func (g *signer) sign(path string, at int64) {
	g.t.Helper()
	g.signAs(path, path+".minisig", fmt.Sprintf("timestamp:%d\tfile:%s\thashed", at, filepath.Base(path)))
}

func (g *signer) signAs(path, to, comment string) {
	g.t.Helper()
	if g.tool {
		g.run("-S", "-s", filepath.Join(g.dir, "release.key"), "-m", path, "-x", to+".new", "-t", comment)
	} else {
		b, err := os.ReadFile(path)
		if err != nil {
			g.t.Fatal(err)
		}
		r := minisign.NewReader(bytes.NewReader(b))
		for buf := make([]byte, 64<<10); err == nil; {
			_, err = r.Read(buf)
		}
		write(g.t, to+".new", string(r.SignWithComments(g.private, comment, "-")), 0o644)
	}
	if err := os.Rename(to+".new", to); err != nil {
		g.t.Fatal(err)
	}
}

// signTree signs a directory as docs/security.md says.
func (g *signer) signTree(dir string, at int64) {
	g.t.Helper()
	c := exec.Command("sh", "-ec", `find . -type f ! -name 'SHA256SUMS*' -exec sha256sum {} + >SHA256SUMS`)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		g.t.Fatalf("%v\n%s", err, out)
	}
	g.sign(filepath.Join(dir, "SHA256SUMS"), at)
}

// deploy puts a signed release in the place of the last one, its signature first.
func (g *signer) deploy(s *watched, version string, at int64, flags ...string) {
	g.t.Helper()
	s.release("new", version, flags...)
	g.signAs(s.File("new"), s.Path+".minisig", fmt.Sprintf("timestamp:%d", at))
	s.sh(`mv new server`)
}

// guarded serves release v1, signed at the time 100.
func guarded(t *testing.T, g *signer, flags ...string) *watched {
	t.Helper()
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	g.sign(path, 100)
	s := launch(t, dir, false, append([]string{"--trusted-key", g.public, "--settle", "100ms"}, flags...), path)
	s.next("v1")
	s.Becomes(1, "current")
	s.Path = path
	return s
}

func TestASignedReleaseRuns(t *testing.T) {
	t.Parallel()
	g, other := newSigner(t), newSigner(t)
	s := guarded(t, g, "--trusted-key", other.public)
	g.deploy(s, "v2", 100)
	s.next("v2")
	other.deploy(s, "v3", 50) // without --no-downgrade the time does not count
	s.next("v3")
	if status, text := s.Ask("reload", "--wait"); status != 0 {
		t.Fatalf("reload: %d, %s", status, text)
	}
	s.next("v3")
	// Overwritten in place, file and signature: the generation runs from its copy.
	s.release("new", "v4")
	g.signAs(s.File("new"), s.Path+".minisig", "timestamp:100")
	s.sh(`cp new server`)
	s.next("v4")
}

func TestAReleaseOfAnotherKeyDoesNotRun(t *testing.T) {
	t.Parallel()
	g, other := newSigner(t), newSigner(t)
	s := guarded(t, g)
	other.deploy(s, "v2", 200)
	s.Line(`server: its signature is of key [0-9A-F]{16}, which is not trusted: --trusted-key has [0-9A-F]{16} in .*release.pub; the running generation stays`)
	status, text := s.Ask("reload", "--wait")
	if status != 1 || !strings.Contains(text, "which is not trusted") {
		t.Errorf("reload: %d, %s", status, text)
	}
	s.Answers("v1 generation 1 ")
	// The same release by the right key is another one.
	g.sign(s.Path, 300)
	s.n++ // the reload's
	s.next("v2")
}

func TestAnAlteredReleaseDoesNotRun(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	s := guarded(t, g)
	s.release("new", "v2")
	g.signAs(s.File("new"), s.Path+".minisig", "timestamp:200")
	s.sh(`printf 3 | dd of=new bs=1 seek=$(($(stat -c %s new) - 1)) conv=notrunc 2>/dev/null; mv new server`)
	s.Line(`server: its signature does not belong to this content, or was altered \(sign what is deployed, and deploy both\); the running generation stays`)
	if status, text := s.Ask("reload", "--wait"); status != 1 {
		t.Errorf("reload: %d, %s", status, text)
	}
	s.Answers("v1 generation 1 ")
	s.Never("v3 generation")
}

func TestASignatureMayComeAfterTheRelease(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	s := guarded(t, g)
	s.sh(`rm server.minisig`)
	s.release("new", "v2")
	s.sh(`mv new server`)
	s.Line(`server: not signed: there is no server.minisig beside it \(.minisign -Sm server. makes it; the release is looked at again when it is there\); the running generation stays`)
	s.Answers("v1 generation 1 ")
	g.sign(s.Path, 200)
	s.next("v2")

	// Likewise where somebody has asked for the unsigned one.
	s.sh(`rm server.minisig`)
	s.release("new", "v3")
	s.sh(`mv new server`)
	status, text := s.Ask("reload", "--wait")
	if status != 1 || !strings.Contains(text, "not signed: there is no server.minisig") {
		t.Errorf("reload: %d, %s", status, text)
	}
	s.n++ // the reload's
	g.sign(s.Path, 300)
	s.next("v3")
}

func TestTheFirstGenerationWaitsForItsVerification(t *testing.T) {
	t.Parallel()
	g, other := newSigner(t), newSigner(t)
	for _, c := range []struct {
		name, why string
		prepare   func(path string)
	}{
		{"unsigned", `not signed: there is no server.minisig`, func(string) {}},
		{"another key", `which is not trusted`, func(path string) { other.sign(path, 1) }},
		{"altered", `does not belong to this content`, func(path string) {
			g.sign(path, 1)
			box.Install(t, path, "v2")
		}},
		{"a signature that is none", `its signature server.minisig is not a signature of minisign`, func(path string) { write(t, path+".minisig", "x", 0o644) }},
		{"a script", `a script, and what it opens cannot be verified: sign its directory`, func(path string) {
			_ = os.Remove(path)
			write(t, path, "#!/bin/sh\necho v1 runs\n", 0o755)
			g.sign(path, 1)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := directory(t)
			path := filepath.Join(dir, "server")
			box.Install(t, path, "v1")
			c.prepare(path)
			s := launch(t, dir, false, []string{"--trusted-key", g.public}, path)
			s.Line(`cannot start the app: .*server: .*` + c.why)
			if status := s.Wait(); status != 126 {
				t.Errorf("status %d, want 126", status)
			}
			s.Never("v1 ")
		})
	}
}

func TestWhatCannotBeVerifiedIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	dir := directory(t)
	write(t, filepath.Join(dir, "app.sh"), "echo it runs\n", 0o644)
	write(t, filepath.Join(dir, "open.pub"), "", 0o666)
	_ = os.Chmod(filepath.Join(dir, "open.pub"), 0o666)
	for _, c := range []struct {
		why     string
		flags   []string
		command []string
	}{
		{`what sh opens besides app.sh cannot be verified: sign its directory .* and give that with --watch`, []string{"--trusted-key", g.public}, []string{"sh", "app.sh"}},
		{`"sh -c echo it runs" names no file that can be verified`, []string{"--trusted-key", g.public, "--watch", dir}, []string{"sh", "-c", "echo it runs"}},
		{`the trusted key .*nothing.pub cannot be used: no such file`, []string{"--trusted-key", "nothing.pub"}, []string{"true"}},
		{`the trusted key .*open.pub cannot be used: others than root and hotinit's own user may write to it`, []string{"--trusted-key", "open.pub"}, []string{"true"}},
		{`the trusted key .*app.sh cannot be used: it has no public key of minisign`, []string{"--trusted-key", "app.sh"}, []string{"true"}},
	} {
		s := launch(t, dir, false, c.flags, c.command...)
		s.Line(c.why)
		if status := s.Wait(); status != 125 {
			t.Errorf("%v: status %d, want 125", c.flags, status)
		}
		s.Never("it runs$")
	}
}

func TestARollbackIsVerifiedAgain(t *testing.T) {
	for _, flags := range [][]string{nil, {"--snapshot-dir", "copies"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			t.Parallel()
			g := newSigner(t)
			dir := directory(t)
			if err := os.Mkdir(filepath.Join(dir, "copies"), 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "server")
			box.Install(t, path, "v1")
			g.sign(path, 100)
			s := launch(t, dir, false, append(flags, "--trusted-key", g.public, "--settle", "100ms", "--probation", "4s"), path)
			s.next("v1")
			s.Proven(1)
			// In its probation, by itself. Neither the file nor its signature are there
			// any more.
			g.deploy(s, "v2", 200)
			s.next("v2")
			s.Becomes(2, "current")
			s.sh(`rm server.minisig server`)
			s.Die(3)
			s.Line(`generation 2 exited with status 3 in its probation`)
			s.next("v1")
			s.Proven(3)
			// By hand, with another handoff.
			g.deploy(s, "v4", 300)
			s.next("v4")
			s.KillHandoff()
			if status, text := s.Ask("rollback", "--wait"); status != 0 {
				t.Fatalf("rollback: %d, %s", status, text)
			}
			s.next("v1")
			// The key is not trusted any more: nothing that it has signed is started.
			s.sh(`: >` + g.public)
			g.deploy(s, "v6", 400)
			s.Line(`server: its signature is of key .*, which is not trusted: --trusted-key has the trusted key .* cannot be used`)
			status, text := s.Ask("reload", "--wait")
			if status != 1 || !strings.Contains(text, "not trusted") {
				t.Errorf("reload: %d, %s", status, text)
			}
			s.Answers("v1 generation 5 ")
		})
	}
}

func TestAnOlderSignatureIsADowngrade(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	s := guarded(t, g, "--no-downgrade", "--state-dir", "state", "--probation", "1s")
	g.deploy(s, "v2", 200)
	s.next("v2")
	g.deploy(s, "v3", 150)
	s.Line(`server: its signature is of 1970-01-01 00:02:30 UTC, and a release that ran was signed later, at 1970-01-01 00:03:20 UTC \(--no-downgrade; to go back to it, sign it again\); the running generation stays`)
	status, text := s.Ask("reload", "--wait")
	if status != 1 || !strings.Contains(text, "--no-downgrade") {
		t.Errorf("reload: %d, %s", status, text)
	}
	s.n++ // the reload's
	// The next handoff knows of it.
	s.KillHandoff()
	s.Status()
	g.signAs(s.Path, s.Path+".minisig", "of no time")
	s.Line(`has no timestamp: in its trusted comment, which --no-downgrade asks for`)
	// hotinit has what it goes back to itself, so that is no downgrade.
	if status, text := s.Ask("rollback", "--wait"); status != 0 {
		t.Fatalf("rollback: %d, %s", status, text)
	}
	s.next("v1")
	s.Until("it is noted", func() bool { return strings.Contains(s.Read("state/releases.json"), `"signed":200`) })

	// So does another hotinit, with the state directory alone.
	g.sign(s.Path, 150)
	s.Signal(unix.SIGTERM)
	s.Wait()
	again := launch(t, s.Dir, false, []string{"--trusted-key", g.public, "--no-downgrade", "--state-dir", "state"}, s.Path)
	again.Line(`cannot start the app: .*a release that ran was signed later`)
	if status := again.Wait(); status != 126 {
		t.Errorf("status %d, want 126", status)
	}
	// The same one as before may run, and a newer one.
	g.sign(s.Path, 200)
	again = launch(t, s.Dir, false, []string{"--trusted-key", g.public, "--no-downgrade", "--state-dir", "state"}, s.Path)
	again.next("v3")
}

// The command of --check comes between the verification and the execution. It
// overwrites the file in place, with its size and its time.
func TestAReleaseThatIsOverwrittenBeforeItIsExecutedRunsAsItWasVerified(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	dir := directory(t)
	path, check := filepath.Join(dir, "server"), filepath.Join(dir, "check")
	box.Install(t, path, "v1")
	box.Install(t, filepath.Join(dir, "evil"), "v6")
	g.sign(path, 100)
	write(t, check, "#!/bin/sh\ntail -n 1 \"$1\" | grep -q 'app v[12]' || exit 1\ntouch -r server time; cat evil >server; touch -r time server; echo overwritten >>done\n", 0o755)
	s := launch(t, dir, false, []string{"--trusted-key", g.public, "--settle", "100ms", "--check", check + " {}"}, path)
	s.next("v1")
	if got := s.Read("done"); got != "overwritten\n" {
		t.Errorf("the check has written %q", got)
	}
	if now, want := s.Read("server"), s.Read("evil"); now != want {
		t.Error("the file is not the other one")
	}
	s.Line(`server: its signature does not belong to this content`)
	s.Never("v6 generation")
}

// What is at the path is what the watcher and the start look at, and each time an
// attacker may be faster. Nothing but what was signed ever runs.
func TestAFileThatIsExchangedAllTheTimeNeverRuns(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	s := guarded(t, g)
	s.release("good", "v2")
	s.release("evil", "v6")
	g.signAs(s.File("good"), s.Path+".minisig", "timestamp:200")
	// It ends with the test, however that ends.
	attack := exec.Command("sh", "-c", `while kill -0 $PPID; do cat good >server; cat evil >server; cp good a; mv a server; cp evil b; mv b server; done`)
	attack.Dir = s.Dir
	attack.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := attack.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		_ = unix.Kill(-attack.Process.Pid, unix.SIGKILL)
		_ = attack.Wait()
	})
	t.Cleanup(end)
	ran := 0
	for range 20 {
		if status, _ := s.Ask("reload", "--wait"); status == 0 {
			ran++
		}
		if answer, err := box.Get(s.Address, "/"); err == nil && strings.HasPrefix(answer, "v6 ") {
			t.Errorf("what nobody signed runs: %s", answer)
		}
	}
	end()
	t.Logf("%d of 20 starts found the signed one", ran)
	s.Never("v6 generation")
}

func TestAReleaseOfTheStateDirectoryIsVerified(t *testing.T) {
	t.Parallel()
	g, other := newSigner(t), newSigner(t)
	s := guarded(t, g, "--state-dir", "state", "--probation", "3s")
	s.Proven(1)
	g.deploy(s, "v2", 200)
	s.next("v2")
	s.Becomes(2, "current")
	s.Die(9)
	s.Line(`generation 2 exited with status 9 in its probation`)
	s.next("v1")
	s.Until("both are noted", func() bool {
		list := s.Read("state/releases.json")
		return strings.Contains(list, `"good":[{`) && strings.Contains(list, "exited with status 9")
	})
	s = s.restart("--state-dir", "state", "--trusted-key", g.public)
	s.Line(`is started instead`)
	s.next("v1")
	// What is there is signed by a key that is trusted, too. What is kept is not any more.
	other.sign(s.File("server"), 1)
	s = s.restart("--state-dir", "state", "--trusted-key", other.public)
	s.next("v2")
	s.Never("v1 generation")
}

// A signed directory: a script, what it reads, and what is left out.
func signedDirectory(t *testing.T, g *signer) (dir string, deploy func(version string)) {
	t.Helper()
	dir = directory(t)
	deploy = func(version string) {
		t.Helper()
		app := filepath.Join(dir, version)
		if err := os.MkdirAll(filepath.Join(app, "lib"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(app, "main.sh"), ". \"$(dirname \"$0\")/lib/say.sh\"\nexec sleep 1000\n", 0o644)
		write(t, filepath.Join(app, "lib", "say.sh"), "echo \"$HOTINIT_GENERATION: "+version+" runs\"\n", 0o600)
		write(t, filepath.Join(app, "lib", "say.sh~"), "an editor's\n", 0o644)
		g.signTree(app, 100)
	}
	deploy("v1")
	if err := os.Symlink("v1", filepath.Join(dir, "app")); err != nil {
		t.Fatal(err)
	}
	return dir, deploy
}

// turn leads the link to another release.
func (s *watched) turn(version string) {
	s.T.Helper()
	s.Link(version, "app")
}

func TestASignedDirectoryRuns(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	dir, deploy := signedDirectory(t, g)
	flags := []string{"--trusted-key", g.public, "--ready", "interval", "--interval", "100ms", "--probation", "1s", "--settle", "100ms", "--watch", "app", "--state-dir", "state"}
	if os.Getuid() == 0 {
		// The copy is hotinit's, and the app can read what only its owner could.
		flags = append(flags, "--user", "65534:65534")
	}
	s := launch(t, dir, false, flags, "sh", filepath.Join(dir, "app", "main.sh"))
	s.Line(`^1: v1 runs`)
	s.Proven(1)
	deploy("v2")
	s.turn("v2")
	s.Line(`^2: v2 runs`)
	s.Becomes(2, "current")
	if status, text := s.Ask("rollback", "--wait"); status != 0 {
		t.Fatalf("rollback: %d, %s", status, text)
	}
	s.Line(`^3: v1 runs`)
	if os.Getuid() != 0 {
		return
	}
	for _, p := range s.Processes() {
		if len(p.Args) == 2 && p.Args[0] == "sh" && strings.Contains(p.Args[1], ".hotinit-copy-") {
			info, err := os.Stat(filepath.Join(filepath.Dir(p.Args[1]), "lib", "say.sh"))
			if err != nil || info.Mode() != 0o640 || info.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("the copy is %v, %v", info, err)
			}
		}
	}
}

func TestAnAlteredDirectoryDoesNotRun(t *testing.T) {
	t.Parallel()
	g, other := newSigner(t), newSigner(t)
	dir, deploy := signedDirectory(t, g)
	s := launch(t, dir, false, []string{"--trusted-key", g.public, "--ready", "interval", "--interval", "100ms", "--settle", "100ms", "--watch", "app"},
		"sh", filepath.Join(dir, "app", "main.sh"))
	s.Line(`^1: v1 runs`)
	s.Becomes(1, "current")
	for i, c := range []struct {
		why    string
		attack string
	}{
		{`lib/say.sh does not match SHA256SUMS: it has .*, which says .*`, `echo 'echo evil' >>lib/say.sh`},
		{`evil.sh is not listed in SHA256SUMS`, `echo 'echo evil' >evil.sh`},
		{`lib/say.sh is listed in SHA256SUMS and not there`, `rm lib/say.sh`},
		{`evil is a symbolic link that SHA256SUMS does not list`, `ln -s main.sh evil`},
		{`lib/say.sh is a symbolic link that leads out of the signed directory`, `cp lib/say.sh ../say.sh; ln -sf ../../say.sh lib/say.sh`},
		{`lib/say.sh is listed in SHA256SUMS and not there|lib is a symbolic link that SHA256SUMS does not list`, `mv lib ../lib; ln -s ../lib lib`},
		{`SHA256SUMS.minisig does not belong to this content`, `echo 'echo evil' >evil.sh; sha256sum evil.sh >>SHA256SUMS`},
		{`not signed: there is no SHA256SUMS.minisig in it`, `rm SHA256SUMS.minisig`},
		{`not signed: there is no SHA256SUMS in it`, `rm SHA256SUMS`},
		{`SHA256SUMS.minisig is of key .*, which is not trusted`, "sign"},
		{`evil is neither a file nor a directory`, `mkfifo evil`},
	} {
		version := fmt.Sprintf("v%d", 10+i)
		deploy(version)
		app := filepath.Join(dir, version)
		if c.attack == "sign" {
			other.sign(filepath.Join(app, "SHA256SUMS"), 300)
		} else if out, err := (&exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-ec", c.attack}, Dir: app}).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.attack, err, out)
		}
		s.turn(version)
		s.Line(`generation \d+ failed.*: .*/` + version + `: (` + c.why + `).*; generation 1 stays`)
		s.Never(version + " runs")
	}
	// What interpreters write beside it is not in the copy, and no link to it.
	deploy("v29")
	if err := os.Symlink("/tmp", filepath.Join(dir, "v29", "__pycache__")); err != nil {
		t.Fatal(err)
	}
	s.turn("v29")
	s.Line(`^\d+: v29 runs`)
	if links, err := filepath.Glob("/tmp/.hotinit-copy-*/tree/__pycache__"); err != nil || len(links) > 0 {
		t.Errorf("in the copy are %v, %v", links, err)
	}
	// What is missing may still come.
	deploy("v30")
	if err := os.Rename(filepath.Join(dir, "v30", "SHA256SUMS.minisig"), filepath.Join(dir, "late")); err != nil {
		t.Fatal(err)
	}
	s.turn("v30")
	s.Line(`/v30: not signed: there is no SHA256SUMS.minisig in it`)
	if err := os.Rename(filepath.Join(dir, "late"), filepath.Join(dir, "v30", "SHA256SUMS.minisig")); err != nil {
		t.Fatal(err)
	}
	s.Line(`^\d+: v30 runs`)
}

// A program must be in the directory that is signed, and is started from the copy.
func TestAProgramOutsideOfTheSignedDirectoryDoesNotRun(t *testing.T) {
	t.Parallel()
	g := newSigner(t)
	dir, _ := signedDirectory(t, g)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	g.sign(path, 100)
	s := launch(t, dir, false, []string{"--trusted-key", g.public, "--watch", "app"}, path)
	s.Line(`cannot start the app: .*server: not in .*/v1, which is the directory that is signed`)
	if status := s.Wait(); status != 126 {
		t.Errorf("status %d, want 126", status)
	}
	box.Install(t, filepath.Join(dir, "v1", "server"), "v1")
	g.signTree(filepath.Join(dir, "v1"), 100)
	s = launch(t, dir, false, []string{"--trusted-key", g.public, "--watch", "app"}, filepath.Join(dir, "app", "server"))
	s.next("v1")
}

// The copies are not a way around: the app may not write to them, and what they
// are is verified at each start.
func TestTheAppCannotAlterItsCopy(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to run the application as another user")
	}
	t.Parallel()
	g := newSigner(t)
	dir := directory(t)
	app := filepath.Join(dir, "app")
	if err := os.Mkdir(app, 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(app, "main.sh"), "if (echo evil >>\"$0\") || mv \"$0\" \"$0.old\" || touch \"${0%/*}/new\" || chmod 777 \"$0\"; then echo altered; fi 2>/dev/null; echo \"$HOTINIT_GENERATION: tried as $(id -u)\"; exec sleep 1000\n", 0o777)
	g.signTree(app, 1)
	if out, err := exec.Command("chown", "-R", "65534:65534", app).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := launch(t, dir, false, []string{"--trusted-key", g.public, "--user", "65534:65534", "--watch", "app"}, "sh", filepath.Join(app, "main.sh"))
	s.Line(`^1: tried as 65534`)
	s.Never("altered")
}
