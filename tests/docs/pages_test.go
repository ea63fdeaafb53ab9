package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const top = "../.."

// pages are the project's pages by path, relative to its top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(top, path)
		found[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	fenced   = regexp.MustCompile("(?ms)^```.*?^```")
	code     = regexp.MustCompile("`[^`\n]+`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unlinked = regexp.MustCompile("[^a-z0-9 _-]")
)

// anchors are the headings of a page, as links name them.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		name := unlinked.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

func TestEachLinkLeadsSomewhere(t *testing.T) {
	all := pages(t)
	for name, page := range all {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(fenced.ReplaceAllString(page, ""), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(filepath.Join(top, target)); err != nil {
				t.Errorf("%s: the link to %s: %v", name, m[1], err)
			} else if anchor != "" && !anchors(all[target])[anchor] {
				t.Errorf("%s: the link to %s: the page has no such heading", name, m[1])
			}
		}
	}
}

// texts are all strings in hotinit's source.
func texts(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"handoff", "init", "internal", "reaper", "cmd/hotinit"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if s, err := strconv.Unquote(l.Value); err == nil {
						all.WriteString(s + "\n")
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// What troubleshooting.md quotes in its first columns is what hotinit prints: each
// part of a line between … and numbers is in a string of the source.
func TestTheLinesOfTroubleshootingAreHotinits(t *testing.T) {
	page := pages(t)[filepath.Join("docs", "troubleshooting.md")]
	source := texts(t)
	quoted := 0
	for line := range strings.Lines(page) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 2 {
			continue
		}
		for _, text := range code.FindAllString(strings.TrimPrefix(cells[0], "| "), -1) {
			text = strings.Trim(text, "`")
			if !strings.Contains(text, " ") || strings.HasPrefix(text, "docker ") || strings.HasPrefix(text, "hotinit ") {
				continue // a name, or a command
			}
			if text == "Text file busy" || text == "address already in use" {
				continue // the kernel's words
			}
			quoted++
			for _, part := range regexp.MustCompile(`…|\d+`).Split(text, -1) {
				if part = strings.Trim(part, " ,;:"); len(part) > 2 && !strings.Contains(source, part) {
					t.Errorf("docs/troubleshooting.md quotes %q, and no string of the source has %q", text, part)
				}
			}
		}
	}
	if quoted < 10 {
		t.Errorf("found only %d quoted lines", quoted)
	}
}
