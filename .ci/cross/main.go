// Command cross checks packages, with their tests, for other architectures than this
// one:
//
//	cross ARCH[,ARCH...] [PATTERN...]
//
// It checks the types, and what go vet checks that may differ: the assembly, and shifts.
// It reads the sources of all that they import, so nothing is compiled, which go vet
// does: for each architecture, all that is used of the standard library.
package main

import (
	"fmt"
	"go/build"
	"os"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/analysis/passes/asmdecl"
	"golang.org/x/tools/go/analysis/passes/framepointer"
	"golang.org/x/tools/go/analysis/passes/shift"
	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: cross ARCH[,ARCH...] [PATTERN...]")
		os.Exit(2)
	}
	status := 0
	for _, arch := range strings.Split(os.Args[1], ",") {
		if err := check(arch, os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "cross: %s: %v\n", arch, err)
			status = 1
		}
	}
	os.Exit(status)
}

func check(arch string, patterns []string) error {
	build.Default.GOARCH = arch // framepointer goes by it
	list, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax | packages.NeedModule,
		Env:   append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch),
		Tests: true,
	}, patterns...)
	if err != nil {
		return err
	}
	if n := packages.PrintErrors(list); n > 0 || len(list) == 0 {
		return fmt.Errorf("%d errors in %d packages", n, len(list))
	}
	graph, err := checker.Analyze([]*analysis.Analyzer{asmdecl.Analyzer, framepointer.Analyzer, shift.Analyzer}, list, nil)
	if err != nil {
		return err
	}
	n := 0
	for _, root := range graph.Roots {
		if root.Err != nil {
			return fmt.Errorf("%s of %s: %w", root.Analyzer, root.Package, root.Err)
		}
		n += len(root.Diagnostics)
		for _, d := range root.Diagnostics {
			fmt.Fprintf(os.Stderr, "%s: %s\n", root.Package.Fset.Position(d.Pos), d.Message)
		}
	}
	if n > 0 {
		return fmt.Errorf("%d things are wrong", n)
	}
	return nil
}
