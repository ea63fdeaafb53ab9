package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/port"
)

func TestMain(m *testing.M) { box.Main(m) }

// export runs the exporter and returns its address once it listens.
func export(t *testing.T, args ...string) string {
	t.Helper()
	address := port.Address(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, append(args, "--web.listen-address", address)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error("the exporter ended with", err)
		}
	})
	if !box.Eventually(func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}) {
		t.Fatal("the exporter does not listen")
	}
	return address
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %s: %s", url, err, r.Status, body)
	}
	return string(body)
}

// running starts hotinit with an app that serves, beside this process.
func running(t *testing.T) *box.Box {
	t.Helper()
	path, address := filepath.Join(t.TempDir(), "server"), box.Address()
	box.Install(t, path, "v1")
	b := box.Start(t, box.Options{Sub: true, Args: []string{"--port", address, "--", path}})
	b.Answers(address, "v1 generation 1 ")
	b.Line("generation 1 is ready") // it may answer a little before
	return b
}

func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		box.Need(t, "promtool", err)
	}
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestTheExporterServesWhatHotinitPrints(t *testing.T) {
	b := running(t)
	pid := fmt.Sprint(b.PID())
	text := get(t, http.DefaultClient, "http://"+export(t, "--pid", pid)+"/metrics")
	promtool(t, text, "check", "metrics")
	printed, err := exec.Command(box.Hotinit, "metrics", "--pid", pid).Output()
	if err != nil {
		t.Fatal(err)
	}
	// The values that do not move are the same, and so is all that describes them.
	still := regexp.MustCompile(`^(# |hotinit_(generations|current_generation|releases|swap|watched|build)\S* )`)
	for line := range strings.Lines(string(printed)) {
		if still.MatchString(line) && !strings.Contains(line, "start_time") && !strings.Contains(line, "watch") && !strings.Contains(text, canonical(line)) {
			t.Errorf("the exporter does not have %s", line)
		}
	}
	if !strings.Contains(text, "\nhotinit_up 1\n") {
		t.Errorf("hotinit is not up:\n%s", text)
	}
}

// canonical is a line with its labels in the order in which the client library has
// them.
func canonical(line string) string {
	name, rest, labelled := strings.Cut(line, "{")
	labels, value, _ := strings.Cut(rest, "} ")
	if !labelled || strings.HasPrefix(line, "#") {
		return line
	}
	parts := regexp.MustCompile(`\w+="[^"]*"`).FindAllString(labels, -1)
	var le string
	var others []string
	for _, p := range parts {
		if strings.HasPrefix(p, "le=") {
			le = p
		} else {
			others = append(others, p)
		}
	}
	slices.Sort(others)
	if le != "" {
		others = append(others, le)
	}
	return name + "{" + strings.Join(others, ",") + "} " + value
}

func TestAHotinitThatDoesNotAnswerIsDownAndTheOthersAreServed(t *testing.T) {
	b := running(t)
	// One that accepts and never answers.
	fd, err := control.Listen(control.Address(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	address := export(t, "--pid", fmt.Sprintf("web=%d", b.PID()), "--pid", "none=999999999", "--pid", fmt.Sprintf("deaf=%d", os.Getpid()), "--timeout", "200ms")
	text := get(t, http.DefaultClient, "http://"+address+"/metrics")
	for _, line := range []string{
		`hotinit_up{hotinit="web"} 1`, `hotinit_up{hotinit="none"} 0`, `hotinit_up{hotinit="deaf"} 0`,
		`hotinit_current_generation{hotinit="web",program="app"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("there is no %s in\n%s", line, text)
		}
	}
}

func TestPIDsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, values := range [][]string{{"0"}, {"x"}, {"=1"}, {"a="}, {"1", "2"}, {"a=1", "a=2"}, {"1", "a=2"}, {"a=1", "2"}} {
		if targets, err := parseTargets(values); err == nil || !strings.Contains(err.Error(), "NAME=PID") {
			t.Errorf("%q is taken for %v, %v", values, targets, err)
		}
	}
	if got, err := parseTargets([]string{"a=1", "b=2"}); err != nil || len(got) != 2 || got[1] != (target{"b", 2}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestTLSByTheConfigurationOfTheToolkit(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{
		"cert.pem": certificate,
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"web.yml":  []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	address := export(t, "--web.config.file", filepath.Join(dir, "web.yml"), "--pid", "999999999", "--timeout", "1s")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	if text := get(t, client, "https://"+address+"/metrics"); !strings.Contains(text, "\nhotinit_up 0\n") {
		t.Errorf("it serves\n%s", text)
	}
}

const docs = "../../docs"

func TestPrometheusScrapesTheExporterAndTakesTheRules(t *testing.T) {
	if _, err := exec.LookPath("prometheus"); err != nil {
		box.Need(t, "prometheus", err)
	}
	b, dir := running(t), t.TempDir()
	rules, err := filepath.Abs(filepath.Join(docs, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 200ms, evaluation_interval: 200ms}\nrule_files: [%s]\nscrape_configs:\n- job_name: hotinit\n  scrape_timeout: 200ms\n  static_configs: [{targets: [%q]}]\n",
		rules, export(t, "--pid", fmt.Sprint(b.PID())))
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	address := port.Address(t)
	cmd := exec.Command("prometheus", "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address, "--log.level", "warn")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", said.String())
		}
	}()
	query := func(path string) string {
		r, err := http.Get("http://" + address + path)
		if err != nil {
			return ""
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		return string(body)
	}
	for _, what := range []string{`hotinit_up`, `hotinit_current_generation{program="app"}`, `up{job="hotinit"}`} {
		if !box.Eventually(func() bool { return strings.Contains(query("/api/v1/query?query="+what), `"1"]`) }) {
			t.Fatalf("prometheus does not have %s 1: %s", what, query("/api/v1/query?query="+what))
		}
	}
	if !box.Eventually(func() bool { return strings.Count(query("/api/v1/rules"), `"health":"ok"`) == 9 }) {
		t.Errorf("the rules are not evaluated: %s", query("/api/v1/rules"))
	}
}

func TestTheAlertRulesDoWhatTheySay(t *testing.T) {
	promtool(t, "", "check", "rules", docs+"/alerts.yml")
	promtool(t, "", "test", "rules", docs+"/alerts_test.yml")
}

// The dashboard and the rules ask for nothing that hotinit does not have.
func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	page, err := os.ReadFile(docs + "/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	board, err := os.ReadFile(docs + "/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(board, &parsed); err != nil {
		t.Fatal(err)
	}
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for i, p := range parsed.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for j, target := range p.Targets {
			expr := strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")
			rules += fmt.Sprintf("  - {record: 'panel:%d:%d', expr: '%s'}\n", i, j, expr)
		}
	}
	alerts, err := os.ReadFile(docs + "/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`hotinit_\w+`).FindAllString(string(board)+string(alerts), -1) {
		for _, suffix := range []string{"_count", "_bucket", "_sum"} {
			name = strings.TrimSuffix(name, suffix)
		}
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}
