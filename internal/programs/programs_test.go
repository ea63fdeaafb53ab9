package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/settings"
)

// base is a hotinit that was given these words.
func base(t testing.TB, words ...string) *settings.Config {
	t.Helper()
	c, err := settings.Parse(append([]string{"hotinit"}, words...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheSyntaxIsWhatDockerAndSystemdHaveInCommon(t *testing.T) {
	text := "\ufeff# a comment\n; another\n\n  HOTINIT_COMMAND=\"/a b\" 'c d' \\e\n" +
		"A=1\nB= two words \t\r\nC=\"in \\\"quotes\\\" \\n\"\nD='raw \\\" $'\nE=a\"b\"\nF=back\\slash\nG=\nA=2\n" +
		"lower.case=x=y\n;X=1"
	d, err := Parse(base(t, "--programs", "d"), "web", "web.env", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/a b", "c d", "e"}; !slices.Equal(d.Config.Command, want) {
		t.Errorf("the command is %q, want %q", d.Config.Command, want)
	}
	want := []string{"A=2", "B= two words", `C=in "quotes" \n`, `D=raw \" $`, `E=a"b"`, `F=back\slash`, "G=", "lower.case=x=y"}
	if !slices.Equal(d.Config.Environment, want) {
		t.Errorf("the environment is\n%q, want\n%q", d.Config.Environment, want)
	}
}

func TestAnErrorNamesFileLineVariableValueAndWhatIsAllowed(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nHOTINIT_PORTS=80a\nHOTINIT_COMMAND=x": `web.env:2: HOTINIT_PORTS="80a": the port must be a number`,
		"HOTINIT_COMMAND=x\nHOTINIT_SETTLE=soon":    `web.env:2: HOTINIT_SETTLE="soon": must be a time`,
		"HOTINIT_COMAND=x":                          `web.env:1: HOTINIT_COMAND="x": there is no such setting (did you mean HOTINIT_COMMAND?)`,
		"HOTINIT_COMMAND=x\nHOTINIT_PID_FILE=/a":    `web.env:2: HOTINIT_PID_FILE="/a": this is hotinit's own`,
		"HOTINIT_COMMAND='a":                        `web.env:1: HOTINIT_COMMAND="'a": "'a" ends within a quote`,
		"HOTINIT_COMMAND=[1]":                       `must be a JSON array of strings`,
		"HOTINIT_COMMAND=[]":                        `must name a command`,
		"A=1":                                       "HOTINIT_COMMAND is missing",
		"A=1\nB":                                    `web.env:2: "B": must be NAME=VALUE`,
		"export A=1":                                "must be one word",
		"A=\"1\" 2":                                 "web.env:1: A=",
		"A=\"1":                                     "not closed on this line",
		"A=1\\":                                     "ends with a backslash",
		"A=1\nB=\x00":                               "web.env:2: there is a NUL",
		"HOTINIT_COMMAND=x\nHOTINIT_NO_DOWNGRADE=1": "no meaning without --trusted-key",
	} {
		_, err := Parse(base(t, "--programs", "d"), "web", "web.env", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "web.env:") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestAnotherPlaceIsTheSameProgram: what runs is not replaced for it.
func TestAnotherPlaceIsTheSameProgram(t *testing.T) {
	b := base(t, "--programs", "d")
	parse := func(text string) *Definition {
		d, err := Parse(b, "web", "web.env", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	one := parse("HOTINIT_COMMAND=x\n")
	for _, text := range []string{"HOTINIT_AFTER=db\n", "HOTINIT_ESSENTIAL=yes\n"} {
		if d := parse("HOTINIT_COMMAND=x\n" + text); d.Hash != one.Hash || d.Same(one) {
			t.Errorf("%q makes it another program, or is not seen", text)
		}
	}
	if d := parse("HOTINIT_COMMAND=x\nHOTINIT_RUN=once\n"); d.Hash == one.Hash {
		t.Error("HOTINIT_RUN is no news")
	}
}

func TestACommentOrTheOrderChangesNothing(t *testing.T) {
	b := base(t, "--programs", "d")
	hash := func(text string) string {
		d, err := Parse(b, "web", "web.env", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d.Hash
	}
	one := hash("HOTINIT_COMMAND=x\nA=1\nB=2\n")
	if other := hash("# new\nB=2\nA=0\n A=\"1\"\n\nHOTINIT_COMMAND=x"); other != one {
		t.Error("another order is another definition")
	}
	if other := hash("HOTINIT_COMMAND=x\nA=1B=2\n"); other == one {
		t.Error("another value is the same definition")
	}
}

func TestWhichFilesCount(t *testing.T) {
	for file, want := range map[string]kind{
		"web.env": ofProgram, "a.env": ofProgram, "0.env": ofProgram, "web-2.x_y.env": ofProgram,
		".env": passing, ".web.env": passing, "web.env~": passing, ".web.env.swp": passing, "#web.env#": passing, "4913": passing, "..data": passing,
		"Web.env": foreign, "web": foreign, "web.conf": foreign, "-x.env": foreign, "a b.env": foreign, "README": foreign,
		strings.Repeat("a", 65) + ".env": foreign,
	} {
		if got, _ := kindOf(file); got != want {
			t.Errorf("%s is of kind %d, want %d", file, got, want)
		}
	}
}

// write puts a file into a directory.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestADirectoryIsRead(t *testing.T) {
	path := t.TempDir()
	write(t, path, "web.env", "HOTINIT_COMMAND=x")
	write(t, path, "bad.env", "HOTINIT_COMMAND=x\nHOTINIT_PORTS=a")
	write(t, path, "notes.txt", "")
	write(t, path, "web.env~", "")
	if err := unix.Mkfifo(filepath.Join(path, "fifo.env"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(path, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, "long.env", "HOTINIT_COMMAND=x\nA="+strings.Repeat("a", longestFile))
	d := &Dir{Path: path, Base: base(t, "--programs", path)}
	set, err := d.Read()
	if err != nil {
		t.Fatal(err)
	}
	if names := set.Names(); !slices.Equal(names, []string{"web"}) {
		t.Errorf("the programs are %q", names)
	}
	for _, bad := range []string{"bad", "fifo", "long"} {
		if set.Bad[bad] == nil {
			t.Errorf("%s is not bad", bad)
		}
	}
	if len(set.Notes) != 1 || !strings.Contains(set.Notes[0], "notes.txt is not read") {
		t.Errorf("the notes are %q", set.Notes)
	}
	first := set.Programs["web"]
	write(t, path, "web.env", "HOTINIT_COMMAND=x\n# the same\n")
	write(t, path, "b.env", "HOTINIT_COMMAND=y")
	if set, err = d.Read(); err != nil {
		t.Fatal(err)
	}
	if set.Programs["web"] != first || len(set.Programs) != 2 || len(set.Notes) != 0 {
		t.Errorf("%+v: what says the same is another definition, or was said again", set)
	}
	write(t, path, "web.env", "HOTINIT_COMMAND=z")
	if set, err = d.Read(); err != nil || set.Programs["web"].Hash == first.Hash {
		t.Errorf("a change is not seen: %v", err)
	}
}

func TestALinkTurnLeadsToTheNewFiles(t *testing.T) {
	path := t.TempDir()
	for _, version := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(path, version), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(path, version), "web.env", "HOTINIT_COMMAND=x\nV="+version)
	}
	if err := os.Symlink("..1", filepath.Join(path, "..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/web.env", filepath.Join(path, "web.env")); err != nil {
		t.Fatal(err)
	}
	d := &Dir{Path: path, Base: base(t, "--programs", path)}
	for _, version := range []string{"..1", "..2"} {
		if err := os.Symlink(version, filepath.Join(path, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(path, "new"), filepath.Join(path, "..data")); err != nil {
			t.Fatal(err)
		}
		set, err := d.Read()
		if err != nil || set.Programs["web"] == nil || !slices.Equal(set.Programs["web"].Config.Environment, []string{"V=" + version}) {
			t.Fatalf("%s: %+v, %v", version, set, err)
		}
	}
}

// Whoever may write to what hotinit as root reads here runs programs as root.
func TestWhatOthersMayWriteIsNoProgramOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has something to lose")
	}
	const text = "HOTINIT_COMMAND=x"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, attack := range map[string]func(path, theirs string){
		"everybody writes to the file":                     func(path, _ string) { must(os.Chmod(path+"/web.env", 0o666)) },
		"its group does":                                   func(path, _ string) { must(os.Chmod(path+"/web.env", 0o664)) },
		"its owner does":                                   func(path, _ string) { must(os.Chown(path+"/web.env", 65534, 65534)) },
		"everybody writes to the directory":                func(path, _ string) { must(os.Chmod(path, 0o777)) },
		"everybody does, but may not move what is others'": func(path, _ string) { must(os.Chmod(path, 0o777|os.ModeSticky)) },
		"its owner writes to the directory":                func(path, _ string) { must(os.Chown(path, 65534, 65534)) },
		"and to the one above":                             func(path, _ string) { must(os.Chown(filepath.Dir(path), 65534, 65534)) },
		"the operator's link leads into their directory": func(path, theirs string) {
			must(os.Rename(path+"/web.env", theirs+"/web.env"))
			must(os.Symlink(theirs+"/web.env", path+"/web.env"))
		},
		"a FIFO": func(path, _ string) {
			must(os.Remove(path + "/web.env"))
			must(unix.Mkfifo(path+"/web.env", 0o644))
		},
		"an endless device": func(path, _ string) {
			must(os.Remove(path + "/web.env"))
			must(os.Symlink("/dev/zero", path+"/web.env"))
		},
		"a link of theirs": func(path, _ string) {
			must(os.Rename(path+"/web.env", filepath.Dir(path)+"/real"))
			must(os.Symlink("../real", path+"/web.env"))
			must(os.Lchown(path+"/web.env", 65534, 65534))
		},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			must(os.Chmod(filepath.Dir(top), 0o755))
			path, theirs := top+"/programs", top+"/theirs"
			must(os.Mkdir(path, 0o755))
			must(os.Mkdir(theirs, 0o755))
			must(os.Chown(theirs, 65534, 65534))
			write(t, path, "web.env", text)
			d := &Dir{Path: path, Base: base(t, "--programs", path)}
			if set, err := d.Read(); err != nil || set.Programs["web"] == nil {
				t.Fatalf("%+v, %v", set, err)
			}
			attack(path, theirs)
			if set, err := d.Read(); err == nil && (set.Programs["web"] != nil || set.Bad["web"] == nil) {
				t.Errorf("it is believed: %+v", set)
			} else if err != nil && !strings.Contains(err.Error(), "can be written to by others than root") {
				t.Error(err)
			}
		})
	}
}

// FuzzFile holds that a file is read, or said to be wrong, whatever is in it.
func FuzzFile(f *testing.F) {
	f.Add("HOTINIT_COMMAND=x\nA=\"b\"\n# c\n;d\nHOTINIT_PORTS=80,81\n")
	f.Add("A='\\\nB=\\\"")
	b := base(f, "--programs", "d")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(b, "web", "web.env", []byte(text))
		if err == nil && (len(d.Config.Command) == 0 || d.Hash == "") {
			t.Errorf("%q is read as %+v", text, d)
		}
	})
}

// A stray file is named once, a link that leads nowhere too; of thousands, a few.
func TestWhatIsNotReadIsNamedOnceAndBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "README", "x")
	if err := os.Symlink("nowhere", filepath.Join(dir, "web.env")); err != nil {
		t.Fatal(err)
	}
	d := &Dir{Path: dir, Base: base(t, "--programs", dir)}
	set, err := d.Read()
	if err != nil || len(set.Notes) != 2 || !strings.Contains(set.Notes[1], "web.env is not read: it is a link that leads nowhere") {
		t.Fatalf("%v, %+v", err, set)
	}
	for i := range 300 {
		write(t, dir, fmt.Sprintf("stray%d", i), "x")
	}
	if set, err = d.Read(); err != nil || len(set.Notes) != mostNotes+1 || !strings.Contains(set.Notes[mostNotes], "further files") {
		t.Errorf("%v, of 300 files %d notes", err, len(set.Notes))
	}
	if set, err = d.Read(); err != nil || len(set.Notes) != 0 {
		t.Errorf("%v, said again: %q", err, set.Notes)
	}
}
