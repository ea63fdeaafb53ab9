package settings

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files and docs/options.md anew; read their diff")

// golden compares text with a file, or writes it there with -update.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s is stale: run go test ./internal/settings -update, and read the diff. The text is now:\n%s", file, text)
	}
}

func TestHelpTextIsAsKept(t *testing.T) {
	for _, name := range []string{"hotinit", "tini", "dumb-init", "catatonit", "start_server"} {
		golden(t, filepath.Join("testdata", "help-"+name+".txt"), HelpText("/usr/bin/"+name))
	}
}

func TestHelpTextFitsATerminal(t *testing.T) {
	for line := range strings.Lines(HelpText("hotinit")) {
		if len(strings.TrimSuffix(line, "\n")) > helpWidth {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

func TestHelpTextNamesEachFlag(t *testing.T) {
	text := HelpText("hotinit")
	for _, o := range options {
		if named := strings.Contains(text, o.flag()); named != (o.name != "pause") {
			t.Errorf("--%s is named: %v", o.name, named)
		}
	}
}

func TestOptionsInDocsAreThoseOfTheTable(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "options.md"), "# Options\n\n"+
		"<!-- Made from the table in internal/settings/options.go by `go test ./internal/settings -update`. -->\n\n"+
		"Flags stand before the command or before `--`. A flag wins over its variable, and an empty\n"+
		"variable counts as none. Lists in a variable have commas between their elements, as in\n"+
		"`HOTINIT_PORTS=8080,9000`. Times are seconds (`1`, `1.5`) or have a unit (`500ms`, `2m`);\n"+
		"signals are names or numbers (`TERM`, `SIGTERM`, `15`, `RTMIN+3`). What can't be read ends\n"+
		"hotinit with 125 before anything starts; a `HOTINIT_` variable that is not in these tables\n"+
		"is warned of and ignored.\n"+Markdown()+"\n"+otherNames)
}

const otherNames = "## Under another tool's name\n\n" +
	"A file or link named like one of these tools takes that tool's command line, and no other flag;\n" +
	"the `HOTINIT_` variables are read besides.\n\n" +
	"| name | what is different |\n" +
	"| --- | --- |\n" +
	"| `tini`, `tini-*`, `docker-init` | `TINI_` variables; no hot swap; nothing is killed after a timeout |\n" +
	"| `dumb-init`, `dumb-init_*` | `DUMB_INIT_` variables; no hot swap; a session of its own for the app, signals to its whole group, TSTP, TTIN and TTOU relayed as STOP, upon which hotinit stops too unless it is PID 1; nothing is killed after a timeout |\n" +
	"| `catatonit` | `CATATONIT_DEBUG`; no hot swap; `-P` runs no command; nothing is killed after a timeout |\n" +
	"| `start_server` | `ENVDIR`, `ENABLE_AUTO_RESTART`, `AUTO_RESTART_INTERVAL`, `KILL_OLD_DELAY`; swaps by HUP, the executable is not watched; an app that ends is started again, a first start that fails is tried again each interval; no timeout, no probation |\n\n" +
	"Where there is no hot swap, `HOTINIT_PORTS`, `HOTINIT_PATHS`, `HOTINIT_LISTEN` or `HOTINIT_WATCH` turn it on;\n" +
	"`HOTINIT_NO_WATCH=0` and `HOTINIT_RELOAD_SIGNAL=HUP` turn on one half of it.\n"
