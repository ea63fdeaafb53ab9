package watch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hotinit/hotinit/internal/release"
)

// What people type to put new.src in the place of server, with the release as
// a script, which unlike a running ELF file may be overwritten.
func TestDeployStartsExactlyOneRelease(t *testing.T) {
	for _, way := range []struct{ name, tool, line string }{
		{"mv over it", "mv", `cp -p new.src new.tmp; mv new.tmp server`},
		{"mv from another file system", "mv", `cp -p new.src /dev/shm/hotinit-watch-$$; mv /dev/shm/hotinit-watch-$$ server`},
		{"cp in place", "cp", `cp new.src server`},
		{"cp --remove-destination", "cp", `cp --remove-destination new.src server`},
		{"cp without x, then chmod", "cp", `rm server; cp --no-preserve=mode new.src server; chmod +x server`},
		{"install", "install", `install -m 755 new.src server`},
		{"install -D -b", "install", `install -D -b -m 755 new.src server`},
		{"ln", "ln", `ln -f new.src server`},
		{"ln -sfn to the file", "ln", `ln -sfn new.src server`},
		{"rsync", "rsync", `rsync -p new.src server`},
		{"rsync --inplace", "rsync", `rsync -p --inplace new.src server`},
		{"rsync --delay-updates", "rsync", `mkdir s; cp -p new.src s/server; rsync -a --delay-updates s/ .`},
		{"rsync --checksum of a directory", "rsync", `mkdir s; cp -p new.src s/server; rsync -rpc s/ .`},
		{"tar x", "tar", `mkdir s; cp -p new.src s/server; tar -C s -cf s.tar server; tar xf s.tar`},
		{"tar x --unlink-first", "tar", `mkdir s; cp -p new.src s/server; tar -C s -cf s.tar server; tar -x --unlink-first -f s.tar`},
		{"tar x --overwrite", "tar", `mkdir s; cp -p new.src s/server; tar -C s -cf s.tar server; tar -x --overwrite -f s.tar`},
		{"cat redirected", "cat", `cat new.src >server`},
		{"cat into a new file, moved", "cat", `cat new.src >t; chmod 755 t; mv t server`},
		{"dd", "dd", `dd if=new.src of=server bs=7 2>/dev/null`},
		{"sed -i", "sed", `sed -i s/first/second/ server`},
		{"sftp: write in place, then chmod", "cat", `cat new.src >server; chmod 755 server`},
		{"editor: backup by rename, new file", "mv", `mv server server~; cat new.src >server; chmod 755 server; rm server~`},
		{"editor: new file, backup by link, rename", "mv", `cp -p new.src .server.swx; ln server server~; mv .server.swx server; rm server~`},
		{"unlink, then create", "cp", `rm server; cp -p new.src server`},
		{"checksum file first", "sha256sum", `sha256sum <new.src >server.sha256; cp -p new.src t; mv t server`},
		{"checksum file last", "sha256sum", `cp -p new.src t; mv t server; sha256sum <new.src >server.sha256`},
	} {
		t.Run(way.name, func(t *testing.T) {
			need1(t, way.tool)
			second := script("second")
			r := newRig(t, rigOptions{content: script("first")})
			r.write(filepath.Join(r.dir, "new.src"), second)
			r.sh(way.line)
			r.release(second)
			os.Remove(filepath.Join(r.dir, "server.sha256"))
			r.only()
		})
	}
}

func TestDeployOfARunningELFFile(t *testing.T) {
	need1(t, "gcc")
	dir := t.TempDir()
	build := func(name, status string) string {
		r := rig{t: t, dir: dir}
		r.sh(`echo "int main(void){return $2;}" >p.c; gcc -o "$1" p.c`, name, status)
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	build("server", "1")
	second, third := build("two", "2"), build("three", "3")
	r := newRig(t, rigOptions{dir: dir})
	r.sh(`mv two server`)
	r.release(second)
	// As a linker writes it: out of order, and executable from the start.
	r.sh(`rm server; dd if=three of=server bs=4096 skip=1 seek=1 2>/dev/null; chmod +x server; dd if=three of=server bs=4096 count=1 conv=notrunc 2>/dev/null`)
	r.release(third)
}

func TestRemovedAndCreatedLater(t *testing.T) {
	r := newRig(t, rigOptions{})
	os.Remove(r.path)
	r.log("was removed")
	r.write(r.path, script("second"))
	r.release(script("second"))
	r.only()
}

func TestTheSameFileTwiceAtOnce(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.deploy(r.path, script("second"))
	r.deploy(r.path, script("third"))
	e := r.event()
	if e.Release.Size == int64(len(script("second"))) {
		e = r.event()
	}
	if e.Release.Size != int64(len(script("third"))) {
		t.Fatalf("the last content must win, not %+v", e.Release)
	}
	r.only()
}

func TestRewrittenInTheSameTick(t *testing.T) {
	// Same size, maybe the same time stamps: only the reports tell them apart.
	r := newRig(t, rigOptions{content: script("aaaa")})
	for _, text := range []string{"bbbb", "cccc", "dddd", "eeee"} {
		r.write(r.path, script(text))
	}
	for {
		e := r.event()
		if e.Release.Digest == digestOf(script("eeee")) {
			break
		}
	}
	r.only()
}

func TestASlowWriterIsWaitedFor(t *testing.T) {
	second := script("second") + "# more\n# and more\n"
	for _, where := range []string{"in place", "a new file"} {
		t.Run(where, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			if where == "a new file" {
				os.Remove(r.path)
			}
			f, err := os.OpenFile(r.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{second[:9], second[9:20], second[20:]} {
				if _, err := f.WriteString(part); err != nil {
					t.Fatal(err)
				}
				// Longer than settle: a look that found the writer, and one
				// after it that found it as it was.
				os.Chmod(r.path, 0o755)
				r.forget()
				// (A look that began before the chmod may come first.)
				var before identity
				again := r.looked(func(c conclusion) bool {
					twice := c.observation.writer == release.WriterOpen && c.observation.id.file.Size > 0 && c.observation.id == before
					before = c.observation.id
					return twice
				})
				if again.verdict.kind != verdictWait {
					t.Fatalf("while it is being written: %+v", again)
				}
			}
			f.Close()
			r.release(second)
			r.only()
		})
	}
}

func TestChangeWhileNobodyWatched(t *testing.T) {
	dir := t.TempDir()
	r := &rig{t: t, dir: dir, path: filepath.Join(dir, "server")}
	r.write(r.path, script("first"))
	f, err := release.Open(r.path, release.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	r.deploy(r.path, script("second"))
	w, err := New(Options{Command: r.path})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Running(f.Release)
	e := <-w.Events()
	defer e.File.Close()
	if e.Release.Digest != digestOf(script("second")) {
		t.Fatalf("%+v", e)
	}
}

func TestChangedBack(t *testing.T) {
	first, second := script("first"), script("second")
	r := newRig(t, rigOptions{content: first})
	running, _ := release.Open(r.path, release.CheckOptions{})
	defer running.Close()
	r.deploy(r.path, second)
	r.release(second)
	r.loop.Running(running.Release) // the second was rejected
	r.deploy(r.path, first)
	r.verdict(verdictIgnore)
	r.only()
}

func TestChangedBackWhileTheNewOneStarts(t *testing.T) {
	first, second := script("first"), script("second")
	r := newRig(t, rigOptions{content: first})
	r.deploy(r.path, second)
	r.release(second)
	r.deploy(r.path, first)
	r.release(first) // it is what is wanted, though it runs: the other one must not win
	r.only()
}

func TestTheEventHoldsWhatWasChecked(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.deploy(r.path, script("second"))
	e := r.release(script("second"))
	os.Remove(r.path)
	if err := e.File.Read(nil); err != nil || e.File.Digest != e.Release.Digest {
		t.Fatalf("after the path is gone: %s, %v", e.File.Digest, err)
	}
}
