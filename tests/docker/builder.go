package docker

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ImportBuilder makes an image with the Go that runs this test and the modules
// that hotinit needs, so that Dockerfile.example really compiles hotinit in a
// stage on a machine that can pull no image. It stands in for golang:VERSION.
func ImportBuilder(name string) error {
	facts, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOOS", "GOARCH").Output()
	if err != nil {
		return fmt.Errorf("cannot ask go where it is: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(facts)), "\n")
	if len(lines) != 4 {
		return fmt.Errorf("go env answered %q", facts)
	}
	root, cache, platform := lines[0], lines[1], lines[2]+"_"+lines[3]
	modules, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Dir}}{{end}}{{end}}", "github.com/hotinit/hotinit/cmd/hotinit").Output()
	if err != nil {
		return fmt.Errorf("cannot list the modules of hotinit: %w", err)
	}

	c := exec.Command("docker", "import",
		"--change", "ENV PATH=/usr/local/go/bin",
		"--change", "ENV GOROOT=/usr/local/go GOMODCACHE=/modules GOCACHE=/cache GOPROXY=off GOTOOLCHAIN=local GOFLAGS=-buildvcs=false",
		"-", name)
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		return err
	}
	p := packer{w: tar.NewWriter(in)}
	p.directory("tmp", 0o777)
	for _, part := range []string{"bin/go", "VERSION", "go.env", "pkg/include", "src",
		"pkg/tool/" + platform + "/compile", "pkg/tool/" + platform + "/asm", "pkg/tool/" + platform + "/link"} {
		p.tree(filepath.Join(root, part), "usr/local/go/"+part, needed)
	}
	// The go command reads the go.mod of every module, and the source of those
	// that it builds.
	p.tree(filepath.Join(cache, "cache/download"), "modules/cache/download", func(path string) bool {
		return filepath.Ext(path) != ".zip" && filepath.Base(path) != "sumdb"
	})
	packed := map[string]bool{}
	for dir := range strings.FieldsSeq(string(modules)) {
		rel, err := filepath.Rel(cache, dir)
		if err != nil || packed[dir] {
			continue
		}
		packed[dir] = true
		p.tree(dir, "modules/"+filepath.ToSlash(rel), needed)
	}
	if p.err == nil {
		p.err = p.w.Close()
	}
	in.Close()
	if err := c.Wait(); err != nil {
		return fmt.Errorf("cannot import the builder: %v: %s", err, said.String())
	}
	return p.err
}

// needed leaves out what compiling a program does not need.
func needed(path string) bool {
	return !strings.HasSuffix(path, "_test.go") && filepath.Base(path) != "testdata" &&
		!strings.HasSuffix(path, "/src/cmd")
}

// packer writes a tar file. Its first error ends it.
type packer struct {
	w   *tar.Writer
	err error
}

func (p *packer) directory(name string, mode int64) {
	if p.err == nil {
		p.err = p.w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
	}
}

// tree packs a file or directory under a name. Distributions keep parts of Go in
// other places and link to them, so a link at the top is followed.
func (p *packer) tree(from, name string, keep func(path string) bool) {
	if p.err != nil {
		return
	}
	from, p.err = filepath.EvalSymlinks(from)
	if p.err != nil {
		return
	}
	p.err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != from && !keep(path) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil // directories come into being with their files
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		header := &tar.Header{
			Typeflag: tar.TypeReg,
			Name:     name + filepath.ToSlash(strings.TrimPrefix(path, from)),
			Mode:     0o755,
			Size:     info.Size(),
			ModTime:  info.ModTime(),
		}
		if err := p.w.WriteHeader(header); err != nil {
			return err
		}
		_, err = io.Copy(p.w, f)
		return err
	})
}
