package release

import (
	"path/filepath"
	"strings"
)

// Watchable reports whether a command is one that somebody deploys, and not
// one that a package upgrade changes: not what is in /bin, /sbin, /lib*, nor in
// /usr outside /usr/local.
func Watchable(command string) bool {
	if command == "" {
		return false
	}
	p := filepath.Clean(command)
	if !filepath.IsAbs(p) {
		return true // beside the directory that hotinit was started in
	}
	if under(p, "/usr/local") {
		return true
	}
	top, _, _ := strings.Cut(p[1:], "/")
	switch top {
	case "bin", "sbin", "usr", "lib", "lib32", "lib64", "libx32", "libexec", "proc", "sys", "dev":
		return false
	}
	return true
}

func under(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// interpreters that run a file named by the first argument that is no option.
// with lists the options that take the next argument with them; off those that
// mean that no file follows, because the program is in the argument or elsewhere.
type interpreter struct {
	with, off string
}

func interpreterOf(name string) (interpreter, bool) {
	name = strings.TrimSuffix(name, ".exe")
	// python3.12, ruby3.1, php8.2, perl5.36.0, node18: the version says nothing.
	base := strings.TrimRight(name, "0123456789.-")
	switch base {
	case "python", "pypy", "pythonw":
		return interpreter{with: "-W -X --check-hash-based-pycs", off: "-c -m -"}, true
	case "node", "nodejs", "bun":
		return interpreter{with: "-r --require --import --loader --experimental-loader -C --conditions --env-file --title --inspect-port", off: "-e --eval -p --print -i -"}, true
	case "perl":
		return interpreter{with: "-I", off: "-e -E -"}, true
	case "ruby", "jruby", "truffleruby":
		return interpreter{with: "-I -r -C -E --encoding", off: "-e -S -"}, true
	case "sh", "bash", "dash", "ash", "ksh", "zsh", "mksh", "busybox-sh":
		return interpreter{with: "-o +o -O +O --rcfile --init-file", off: "-c -s -"}, true
	case "php":
		return interpreter{with: "-c -d -z -t --docroot -S", off: "-r -B -R -a -"}, true
	case "java":
		return interpreter{with: "-cp -classpath --class-path -p --module-path --add-modules", off: "-m --module -"}, true
	case "lua", "luajit":
		return interpreter{with: "-l", off: "-e -i -"}, true
	case "Rscript", "escript", "tclsh", "wish":
		return interpreter{with: "", off: "-e -"}, true
	case "deno":
		return interpreter{with: "-c --config --import-map --lock", off: "eval repl"}, true
	}
	return interpreter{}, false
}

// Interprets reports whether a command is an interpreter, whatever it runs.
func Interprets(argv []string) bool {
	for len(argv) > 0 {
		switch name := filepath.Base(argv[0]); name {
		case "env", "busybox":
			argv = argv[1:]
			for len(argv) > 0 && (strings.Contains(argv[0], "=") || strings.HasPrefix(argv[0], "-")) {
				argv = argv[1:]
			}
		default:
			_, known := interpreterOf(name)
			return known
		}
	}
	return false
}

// Script finds the file that an interpreter is to run, as in `python3 -u app.py`
// or `java -jar app.jar`: it is what gets deployed. ok is false where argv[0] is
// no interpreter known here, or where it runs no file (-c, -m, -e).
func Script(argv []string) (path string, ok bool) {
	if len(argv) == 0 {
		return "", false
	}
	name, args := filepath.Base(argv[0]), argv[1:]
	switch name {
	case "env": // env [-S] [NAME=VALUE...] python3 app.py
		for len(args) > 0 && (strings.Contains(args[0], "=") || args[0] == "-S" || args[0] == "-i") {
			args = args[1:]
		}
		return Script(args)
	case "busybox":
		return Script(args)
	}
	in, known := interpreterOf(name)
	if !known {
		return "", false
	}
	if strings.HasPrefix(name, "deno") || strings.HasPrefix(name, "bun") {
		if len(args) > 0 && args[0] == "run" {
			args = args[1:]
		}
	}
	return in.file(args, strings.HasPrefix(name, "java"), strings.HasPrefix(name, "php"))
}

func (in interpreter) file(args []string, java, php bool) (string, bool) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return first(args[i+1:])
		case java && a == "-jar", php && (a == "-f" || a == "--file"):
			return first(args[i+1:])
		case listed(in.off, a):
			return "", false
		case listed(in.with, a):
			i++
		case strings.HasPrefix(a, "-"), strings.HasPrefix(a, "+"):
			// An option by itself. Shells and scripting languages bundle
			// one-letter options, and a c, e or s at the end takes the program
			// with it: sh -ec CODE, perl -ne CODE.
			if !java && !strings.HasPrefix(a, "--") && bundled(in.off, a) {
				return "", false
			}
		case java:
			// A class name, unless it is a source file to be run at once.
			if !strings.HasSuffix(a, ".java") {
				return "", false
			}
			return a, true
		default:
			return a, true
		}
	}
	return "", false
}

func first(args []string) (string, bool) {
	if len(args) == 0 || args[0] == "" {
		return "", false
	}
	return args[0], true
}

func listed(list, word string) bool {
	for w := range strings.FieldsSeq(list) {
		if w == word {
			return true
		}
	}
	return false
}

// bundled reports whether the last letter of a bundle such as -ec is an option
// of the list.
func bundled(list, bundle string) bool {
	return len(bundle) > 2 && listed(list, "-"+bundle[len(bundle)-1:])
}
