package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// A proof says how it is known that a command of the pages works. It has one of these.
type proof struct {
	live   string // what is run beside a hotinit with the program web, and must succeed
	starts bool   // it starts a hotinit whose program is true(1), and must succeed
	by     string // the test that runs it: its directory and its name
	why    string // why no test does
}

func live(command string) proof { return proof{live: command} }
func by(test string) proof      { return proof{by: test} }
func not(why string) proof      { return proof{why: why} }

var starts = proof{starts: true}

const (
	readmeTest = "tests/docs TestTheReadmeWorksAsItStandsThere"
	unitsTest  = "tests/docs TestTheUnitsCommandsServeOnTheSocketOfSystemd"
	swarmTest  = "tests/docker TestASwarmStackSwapsOneAfterTheOther"
	imageTest  = "tests/adopt TestAnyImage"
	signedTest = "tests/watch TestASignedReleaseRuns"
	treeTest   = "tests/watch TestASignedDirectoryRuns"
	selfTest   = "tests/upgrade TestUpgradesUnderLoadLoseNothing"
	noSystemd  = "there is no systemd that manages this machine; " + unitsTest + " runs what the units say"
	tool       = "a command of another tool, which is named and not proposed"
)

// A command of README.md and docs/*.md is in a fenced or indented block, or in a code
// span, and here: a new one has to say how it is known to work. Those with live are run
// in this order.
var proofs = []struct {
	command string
	proof
}{
	{"hotinit wait", live("hotinit wait --timeout 100 && hotinit wait")},
	{"hotinit status", live("hotinit status | grep -w web")},
	{"hotinit status web", live("hotinit status web | grep serving:")},
	{"hotinit status --json", live("hotinit status --json | grep version")},
	{"hotinit status --watch", live("grep -m 1 -w web < <(exec hotinit status --watch 2>/dev/null)")},
	{"docker exec web hotinit status", by(readmeTest)},
	{"hotinit health", live("hotinit health")},
	{"hotinit health web", live("hotinit health web")},
	{"docker exec web hotinit metrics", live("hotinit metrics | grep ^hotinit_")},
	{"hotinit metrics NAME", live("hotinit metrics web | grep ^hotinit_")},
	{"hotinit version", live("hotinit version")},
	{"hotinit version --json", live("hotinit version --json")},
	{"hotinit --version", live("hotinit --version")},
	{"hotinit --help", live("hotinit --help | grep -e --port")},
	{"hotinit help COMMAND", live("hotinit help reload | grep -e --wait")},
	{"hotinit check", live("hotinit check -- ./server")},
	{"hotinit check FLAGS -- COMMAND", live("hotinit check --port 127.0.0.1:0 -- ./server")},
	{"hotinit check --programs /etc/hotinit", live("{ hotinit check --programs programs 2>&1 || true; } | grep 'address already in use'")},
	{"hotinit signal web USR1", live("hotinit signal web WINCH")},
	{"hotinit hold", live("hotinit hold")},
	{"hotinit resume", live("hotinit resume")},
	{"hotinit reload", live("hotinit reload")},
	{"hotinit wait --for swap", live("hotinit wait --for swap & while [ -n \"$(jobs -r)\" ]; do hotinit reload --wait; done; wait $!")},
	{"hotinit reload web", live("hotinit reload web")},
	{"hotinit reload --all", live("hotinit reload --all")},
	{"hotinit reload --wait", live("hotinit reload --wait")},
	{"hotinit deploy", live("hotinit deploy - <server-v2")},
	{"docker exec -i web hotinit deploy - <server", by(readmeTest)},
	{"hotinit deploy web - <server", live("hotinit deploy web - <server-v3")},
	{"hotinit deploy /upload/server", live("hotinit deploy server-v4")},
	{"hotinit releases", live("hotinit releases | grep good")},
	{"hotinit releases web", live("hotinit releases web | grep current")},
	{"hotinit rollback", live("hotinit rollback --wait")},
	{"hotinit rollback web [RELEASE]", live("hotinit rollback web")},
	{"hotinit stop web", live("hotinit stop web")},
	{"hotinit start web", live("hotinit start web")},
	{"hotinit wait --for stopped", by("tests/swap TestWaitForTheEnd")},
	{"hotinit wait --for stopped web", by("tests/programs TestWaitForTheEndOfOneProgramAndOfAll")},
	{"hotinit stop", by("tests/docs TestEachCommandOfThePagesWorks")},

	{"docker run --read-only --tmpfs /tmp:exec", by("tests/watch TestADirectoryIsCopiedToWhereNothingCanBeExecuted")},

	{"hotinit -- true", starts},
	{"hotinit -- /app/server", starts},
	{"hotinit -g -- /app/server", starts},
	{"hotinit -e 143 -- /app/server", starts},
	{"hotinit -p SIGTERM -- /app/server", starts},
	{"hotinit -w -- /app/server", starts},
	{"hotinit -v -- /app/server", starts},
	{"hotinit -vv -- /app/server", starts},
	{"hotinit -g --setsid -- /app/server", starts},
	{"hotinit --signal-on-term QUIT -- /app/server", starts},
	{"hotinit --rewrite 10:12 -- /app/server", starts},
	{"hotinit --port 8080 -- plackup app.psgi", starts},
	{"hotinit --path /run/app.sock -- ./server", starts},
	{"hotinit -- ./server", starts},
	{"hotinit --ready interval --interval 5 -- ./server", starts},
	{"hotinit --signal-on-hup QUIT -- ./server", starts},
	{"hotinit --envdir env -- ./server", starts},
	{"hotinit --enable-auto-restart -- ./server", starts},
	{"hotinit --pid-file p --status-file s -- ./server", starts},
	{"hotinit --port 8080 --watch /app --ignore /data/ --snapshot -- node /app/server.js", starts},
	{"hotinit -- nginx -g 'daemon off;'", by("examples TestNginx")},
	{"hotinit --swap-through '/app/swap-once {}' -- /app/server", by("tests/swap TestABrokenReleaseStopsAtTheFirstReplica")},
	{"hotinit --programs /etc/hotinit", by("tests/docs TestEachCommandOfThePagesWorks")},
	{"hotinit --programs DIR", by("tests/docs TestEachCommandOfThePagesWorks")},
	{"hotinit --programs DIR -- COMMAND", by("tests/programs TestTheCommandBesideTheProgramsEndsAll")},
	{"hotinit --programs /etc/hotinit -- /app/main", by("tests/programs TestTheCommandBesideTheProgramsEndsAll")},
	{"hotinit --trusted-key /etc/release.pub -- /app/server", by(signedTest)},
	{"hotinit --trusted-key /etc/release.pub --watch /app/current -- python3 /app/current/app.py", by(treeTest)},
	{`--ready 'exec:sh -c "curl -s http://127.0.0.1:8080/version | grep -q \"generation $HOTINIT_READY_GENERATION\""'`, by("tests/swap TestReadyByCommand")},

	{"hotinit upgrade", by(selfTest)},
	{"hotinit upgrade FILE", by(selfTest)},
	{"hotinit upgrade OLD-FILE", by(selfTest)},
	{"docker cp hotinit-2 web:/usr/local/bin/hotinit", by("tests/docker TestAHotinitOnAVolumeTakesOver")},
	{"docker exec web hotinit upgrade", by("tests/docker TestAHotinitOnAVolumeTakesOver")},
	{"hotinit deploy --dir", by("tests/swap TestDeployExchangesADirectory")},
	{"tar -c . | docker exec -i web hotinit deploy --dir -", by("tests/swap TestDeployExchangesADirectory")},
	{"hotinit 2.0.0 runs", not("a line of the log")},

	{"go run ./cmd/demo", by("cmd/demo TestTheDemonstrationLosesNothing")},
	{"mkdir app && cp server-v1 app/server", by(readmeTest)},
	{`docker run -d --name web -p 8080:8080 -v "$PWD/app:/app" your-image`, by(readmeTest)},
	{"cp server-v2 app/.new && mv app/.new app/server", by(readmeTest)},
	{"docker exec -i web hotinit deploy - < server-v3", by(readmeTest)},
	{"docker exec web hotinit rollback --wait", by(readmeTest)},
	{"docker kill -s HUP web", by(readmeTest)},
	{"docker exec web hotinit reload --wait", by(readmeTest)},
	{"CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -E hotinit_entry' -o hotinit ./cmd/hotinit", by(readmeTest)},
	{`docker run -v "$PWD/hotinit:/hotinit:ro" --entrypoint /hotinit IMAGE -- COMMAND`, by(imageTest)},
	{"docker run --rm --entrypoint hotinit IMAGE check --port 8080 -- /app/server", not("it is hotinit check, which runs here, in a container, which other tests start")},
	{"docker compose -f compose.example.yaml up -d --build", by("tests/docker TestComposeExample")},
	{"docker compose -f compose.example.yaml exec -T web hotinit deploy - <server", not("compose exec is docker exec; " + readmeTest + " deploys so")},
	{"NODE=$(hostname) docker stack deploy -c examples/deploy/stack.yaml web", by(swarmTest)},
	{"cp server /srv/web/.new && mv /srv/web/.new /srv/web/server", by(swarmTest)},
	{"cp examples/deploy/web.container /etc/containers/systemd/", by("tests/docs TestPodmanMakesAServiceOfTheQuadlet")},
	{"systemctl daemon-reload && systemctl start web", not(noSystemd)},
	{"systemctl reload web", not(noSystemd)},
	{"cp examples/deploy/web.service examples/deploy/web.socket /etc/systemd/system/", by("tests/docs TestSystemdAcceptsTheUnits")},
	{"systemctl daemon-reload && systemctl enable --now web.socket web.service", not(noSystemd)},
	{"nomad job run examples/deploy/web.nomad.hcl", not("the page says that no test runs it: there is no free Nomad in Debian")},
	{"nomad alloc exec -i -task web -job web hotinit deploy - <server", not("the page says that no test runs it: there is no free Nomad in Debian")},
	{"docker run -d --pid container:web --network container:web EXPORTER-IMAGE", not("its image needs a release; cmd/hotinit-exporter's tests run the program in it")},
	{`--on-event 'sh -c "exec curl -sS --data-urlencode \"text=$HOTINIT_EVENT $HOTINIT_EVENT_PROGRAM: $HOTINIT_EVENT_REASON\" https://chat.example/hook"'`, by("tests/swap TestEachEventIsReported")},
	{"curl http://web:9927/metrics", by("cmd/hotinit-exporter TestTheExporterServesWhatHotinitPrints")},
	{"(cd cmd/hotinit-exporter && CGO_ENABLED=0 go build -trimpath -o /usr/local/bin/hotinit-exporter .)", by("cmd/hotinit-exporter TestTheExporterServesWhatHotinitPrints")},
	{"minisign -G -p release.pub -s release.key", by(signedTest)},
	{"minisign -S -s release.key -m server", by(signedTest)},
	{"minisign -S -s release.key -m SHA256SUMS", by(treeTest)},
	{"cd /app/releases/43", by(treeTest)},
	{"find . -type f ! -name 'SHA256SUMS*' -exec sha256sum {} + >SHA256SUMS", by(treeTest)},
	{"ln -s /usr/local/bin/hotinit /usr/bin/tini", by("tests/docs TestEachCommandLineOfSwitchingIsAccepted")},
	{"go run ./tests/bench", not("it takes half an hour; tests/bench measures each thing once")},
	{"go run ./tests/bench -quick", not("it takes minutes; tests/bench measures each thing once")},
	{"go run ./tests/bench -only startup,memory,signal -runs 9 -markdown", by("tests/bench TestStartupIsMeasured")},
	{"go run ./tests/bench -out DIR", by("tests/bench TestPlotsAreDrawnForLightAndDarkPages")},
	{"go run ./tests/bench -out docs", not("it writes the figures of the pages anew")},
	{"mv new server", by("tests/watch TestWaysToDeployAProgramThatRuns")},
	{"cp --remove-destination", by("tests/watch TestWaysToDeployAProgramThatRuns")},
	{"tar x", by("tests/watch TestWaysToDeployAProgramThatRuns")},
	{"docker cp", by("tests/watch TestWaysToDeployAProgramThatRuns")},
	{"go build -o server", by("tests/watch TestWaysToDeployAProgramThatRuns")},
	{"go test ./...", not("it is what runs this")},
	{"go test -run Swarm ./tests/docker", by(swarmTest)},
	{"go test ./internal/machine -update", not("it writes files of the source")},
	{"go test ./internal/machine -run Reachable -full", by("internal/machine TestEveryReachableStateKeepsThePromises")},
	{"go test ./internal/settings -update", not("it writes files of the source")},
	{"go test ./tests/bench -run Figures -update", not("it writes files of the source")},
	{"go test -bench Tree ./internal/release", not("a measurement")},
	{"go build", not("named, with the flags beside it")},
	{"go install github.com/hotinit/hotinit/cmd/hotinit@VERSION", not("it fetches a release, which there is not yet")},
	{"docker kill -s HUP", by(readmeTest)},
	{"docker kill -s INT", not("a line of another tool's tests")},
	{"docker exec web hotinit", by(readmeTest)},
	{"docker pause", not(tool)}, {"docker logs web", not(tool)}, {"docker stop", not(tool)}, {"docker exec", not(tool)},
	{"docker rollout", not(tool)}, {"docker compose up", not(tool)}, {"docker run --init", not(tool)},
	{"systemctl start", not(tool)}, {"systemctl reload", not(tool)}, {"systemctl stop", not(tool)},
}

// noCommands are the indented blocks that are no commands, by their first lines.
var noCommands = []string{
	"hotinit: generation 1 listens on", "{", "PID 1   hotinit", "through.go   ", "scrape_configs:", "[program:web]", "HOTINIT_",
}

var (
	span      = regexp.MustCompile("`((?:hotinit|docker|go|systemctl|cp|mv|tar|nomad|minisign|curl) [^`\n]+)`")
	block     = regexp.MustCompile("(?m)(^<!-- .* -->\n)?^```(\\w*)\n(?s:(.*?))^```$|(?:^|\n\n)((?:    [^\n]*(?:\n|$)|\n(?:    ))+)")
	remark    = regexp.MustCompile(` +# .*$`)
	shellKind = map[string]bool{"": true, "sh": true, "bash": true, "console": true}
)

// commandsOf returns the commands of a page.
func commandsOf(page string) (all []string) {
	for _, m := range block.FindAllStringSubmatch(page, -1) {
		text := m[3] + m[4]
		first := strings.TrimSpace(strings.SplitN(strings.TrimLeft(text, "\n"), "\n", 2)[0])
		if !shellKind[m[2]] || strings.HasPrefix(m[1], "<!-- from ") ||
			slices.ContainsFunc(noCommands, func(begin string) bool { return strings.HasPrefix(first, begin) }) {
			continue // other tests look at what comes from a file
		}
		prompt := strings.HasPrefix(first, "$ ")
		for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
			line = strings.TrimSpace(remark.ReplaceAllString(strings.TrimSpace(line), ""))
			if line == "" || prompt && !strings.HasPrefix(line, "$ ") {
				continue
			}
			all = append(all, strings.TrimPrefix(line, "$ "))
		}
	}
	for _, m := range span.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		all = append(all, m[1])
	}
	return all
}

// Each command of the pages is run by a test, or it is said here why not.
func TestEachCommandOfThePagesHasAProof(t *testing.T) {
	known, used := map[string]proof{}, map[string]bool{}
	for _, p := range proofs {
		if _, twice := known[p.command]; twice {
			t.Errorf("%q is there twice", p.command)
		}
		known[p.command] = p.proof
		if dir, name, ok := strings.Cut(p.by, " "); ok && !hasTest(t, dir, name) {
			t.Errorf("%q is run by %s, which does not exist", p.command, p.by)
		}
	}
	for name, page := range pages(t) {
		if name != "README.md" && filepath.Dir(name) != "docs" {
			continue
		}
		for _, command := range commandsOf(page) {
			used[command] = true
			if _, ok := known[command]; !ok {
				t.Errorf("%s: no test is known to run this command; add it to proofs, in tests/docs/commands_test.go:\n%s", name, command)
			}
		}
	}
	for command := range known {
		if !used[command] {
			t.Logf("no page has the command %q any more", command)
		}
	}
}

// hasTest reports whether a directory has a test.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		return strings.Contains(read(t, file), "\nfunc "+name+"(t *testing.T)")
	})
}

// Those that are asked of a running hotinit, or start one.
func TestEachCommandOfThePagesWorks(t *testing.T) {
	box.NeedNamespace(t)
	dir, bin, address := t.TempDir(), t.TempDir(), box.Address()
	for _, version := range []string{"", "-v2", "-v3", "-v4"} {
		box.Install(t, filepath.Join(dir, "server"+version), "v1"+version)
	}
	if err := os.Symlink(box.Hotinit, filepath.Join(bin, "hotinit")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "programs"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("HOTINIT_COMMAND=%s/server\nHOTINIT_PORTS=%s\nHOTINIT_PROBATION=0\nHOTINIT_INTERVAL=50ms\n", dir, address)
	if err := os.WriteFile(filepath.Join(dir, "programs", "web.env"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	env := box.Environment("PATH=" + bin + ":" + os.Getenv("PATH"))
	b := box.Start(t, box.Options{Args: []string{"--settle", "50ms", "--programs", "programs"}, Dir: dir})
	for _, p := range proofs {
		if p.live == "" {
			continue
		}
		c := exec.Command("timeout", "100", "nsenter", "-t", strconv.Itoa(b.PID()), "-p", "-m", "--wd="+dir, "bash", "-euo", "pipefail", "-c", p.live)
		c.Env = env
		t.Logf("%s", p.live)
		if status, out := site.Finish(t, c); status != 0 {
			t.Fatalf("%s, as %q: status %d\n%s\nhotinit said:\n%s", p.command, p.live, status, out, b.Output)
		}
	}
	// The end of PID 1 ends whoever asked for it, too.
	c := exec.Command("nsenter", "-t", strconv.Itoa(b.PID()), "-p", "-m", box.Hotinit, "stop")
	c.Env = env
	_, out := site.Finish(t, c)
	b.Line(`^hotinit: web: stops: hotinit stop`)
	b.Wait()
	t.Logf("hotinit stop: %s", out)

	port := freePort(t)
	change := strings.NewReplacer("plackup app.psgi", "true", "node /app/server.js", "true", "/app/server", "true", "./server", "true",
		"--watch /app ", "--watch "+dir+" ", "/run/", dir+"/", "8080", port)
	if err := os.Mkdir(filepath.Join(dir, "env"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range proofs {
		if !p.starts {
			continue
		}
		c := exec.Command("sh", "-c", change.Replace(p.command))
		c.Dir, c.Env = dir, env
		if status, out := site.Finish(t, c); status != 0 {
			t.Errorf("%s: status %d\n%s", p.command, status, out)
		}
	}
}
