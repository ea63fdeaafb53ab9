package hotinit_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// followers are the calls that follow whatever link somebody has put in the
// place of a file or of a directory above it.
var followers = strings.Fields(`
	Open OpenFile OpenRoot OpenInRoot DirFS Openat Openat2 Create CreateTemp Creat ReadFile WriteFile ReadDir
	Rename Renameat Renameat2 Remove RemoveAll Unlink Unlinkat Rmdir
	Chmod Fchmodat Chown Lchown Fchownat Chtimes Truncate
	Utime Utimes UtimesNano UtimesNanoAt Futimesat Setxattr Removexattr OpenByHandleAt CopyFS Chroot
	Mkdir Mkdirat MkdirAll MkdirTemp Mknod Mknodat Mkfifo Link Linkat Symlink Symlinkat`)

// onItsOwn says which packages may use which of them, and why. A path that is
// written out in the call and belongs to the system needs no entry.
var onItsOwn = map[string]string{
	"adopt":    "/proc, for the files of the app's processes",
	"cgroup":   "the tree of cgroups, in a cgroup2 file system, which has no links",
	"passwd":   "/etc/passwd and /etc/group of the root that hotinit sees",
	"hotinit":  "the limits of its own cgroup",
	"proc":     "/proc, which has no links but the kernel's",
	"release":  "releases: they run as the app, by the kernel's own rules of paths",
	"watch":    "what is watched is only read, and nothing of its content is shown",
	"serving":  "/proc, for what the processes of the app have open and wait for",
	"safepath": "it is who does it",
}

func TestOnlySafepathOpensWhatAUserConfigured(t *testing.T) {
	for _, top := range []string{"cmd/hotinit", "handoff", "init", "reaper", "internal"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata" || d.Name() == "testkit") {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			if _, ok := onItsOwn[filepath.Base(filepath.Dir(path))]; ok {
				return nil
			}
			for _, call := range opensIn(t, path) {
				t.Errorf("%s (use package safepath, or write a path of the system out in the call)", call)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// opensIn lists the calls in a file that are not excused by their argument.
func opensIn(t *testing.T, path string) (calls []string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]ast.Expr{} // of constants, and of variables that are set where they are made
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i := range n.Values {
				values[n.Names[i].Name] = n.Values[i]
			}
		case *ast.AssignStmt:
			if name, ok := n.Lhs[0].(*ast.Ident); ok && len(n.Lhs) == 1 && n.Tok == token.DEFINE {
				values[name.Name] = n.Rhs[0]
			}
		}
		return true
	})
	names := importedAs(file)
	excused := map[*ast.SelectorExpr]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 && ofTheSystem(call.Args[0], values, 8) {
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
				excused[selector] = true
			}
		}
		// Not only calls: a function may be kept in a variable, and called later.
		selector, ok := n.(*ast.SelectorExpr)
		if !ok || excused[selector] {
			return true
		}
		from, ok := selector.X.(*ast.Ident)
		if ok && names[from.Name] && slices.Contains(followers, selector.Sel.Name) {
			calls = append(calls, fmt.Sprintf("%s: %s.%s", set.Position(selector.Pos()), from.Name, selector.Sel.Name))
		}
		return true
	})
	return calls
}

// importedAs returns the names under which a file knows the packages that open files.
func importedAs(file *ast.File) map[string]bool {
	names := map[string]bool{}
	for _, imported := range file.Imports {
		path, _ := strconv.Unquote(imported.Path.Value)
		if path != "os" && path != "syscall" && path != "golang.org/x/sys/unix" && path != "io/ioutil" {
			continue
		}
		name := filepath.Base(path)
		if imported.Name != nil {
			name = imported.Name.Name
		}
		names[name] = true
	}
	return names
}

// What gets past the test is found by it.
func TestEachWayToOpenAPathIsSeen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.go")
	const text = `package x
import (
	"os"
	u "golang.org/x/sys/unix"
)
var open = os.Open
func f(path string) {
	os.Open("/proc/self/stat")
	os.WriteFile(path, nil, 0)
	u.Chmod(path, 0)
	defer u.Unlink(path)
	u.LazyOpen(path)
}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, call := range opensIn(t, file) {
		seen = append(seen, call[strings.LastIndex(call, " ")+1:])
	}
	if got := strings.Join(seen, " "); got != "os.Open os.WriteFile u.Chmod u.Unlink" {
		t.Errorf("it sees %s", got)
	}
}

// ofTheSystem reports whether an expression begins with a path of the system.
// Values are those of names, and are looked up only so often: there are circles.
func ofTheSystem(e ast.Expr, values map[string]ast.Expr, depth int) bool {
	if depth == 0 {
		return false
	}
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return ofTheSystem(e.X, values, depth-1)
	case *ast.CallExpr: // fmt.Sprintf, filepath.Join
		return len(e.Args) > 0 && ofTheSystem(e.Args[0], values, depth-1)
	case *ast.Ident:
		value, ok := values[e.Name]
		return ok && ofTheSystem(value, values, depth-1)
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		for _, top := range []string{"/proc", "/dev/null", "/sys/fs/cgroup", "/etc/passwd", "/etc/group", "/etc/hosts"} {
			if err == nil && (text == top || strings.HasPrefix(text, top+"/")) {
				return true
			}
		}
	}
	return false
}

// TestTheTestsThatTheDocsNameAreThere holds two pages to their word.
func TestTheTestsThatTheDocsNameAreThere(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			b, err := os.ReadFile(path)
			tests.Write(b)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"docs/security.md", "docs/compatibility.md", "docs/faults.md"} {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile("`Test[A-Za-z0-9]+`").FindAllString(string(b), -1)
		if len(names) == 0 {
			t.Errorf("%s names none", page)
		}
		for _, name := range names {
			if name = strings.Trim(name, "`"); !strings.Contains(tests.String(), "\nfunc "+name+"(t *testing.T)") {
				t.Errorf("%s names %s, which is not there", page, name)
			}
		}
	}
}

// TestEachCaseOfAnotherSuiteHasATestOrAReason reads docs/compatibility.md.
func TestEachCaseOfAnotherSuiteHasATestOrAReason(t *testing.T) {
	b, err := os.ReadFile("docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| case ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		cases++
		cells := strings.Split(strings.Trim(line, "|\n "), " | ")
		if len(cells) != 3 {
			t.Errorf("not three cells: %s", line)
			continue
		}
		passes, differs := strings.HasPrefix(cells[2], "passes"), strings.HasPrefix(cells[2], "differs: ")
		if passes == differs || passes && !strings.Contains(cells[1], "`Test") {
			t.Errorf("neither passes by a test nor says why it differs: %s", line)
		}
	}
	if cases < 50 {
		t.Errorf("there are %d cases", cases)
	}
}
