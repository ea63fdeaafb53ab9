package release

import (
	"strings"
	"testing"
)

func TestWatchable(t *testing.T) {
	for path, want := range map[string]bool{
		"/app/server": true, "/usr/local/bin/server": true, "/opt/x/bin/server": true, "/home/me/bin/server": true,
		"/srv/server": true, "/binary": true, "/libs/server": true, "server": true, "./bin/server": true,
		"/bin/sh": false, "/sbin/init": false, "/usr/bin/python3": false, "/usr/sbin/nginx": false, "/usr/lib/x": false,
		"/lib64/ld.so": false, "/usr/local/../bin/env": false, "/proc/self/exe": false, "": false,
	} {
		if got := Watchable(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func TestScript(t *testing.T) {
	for line, want := range map[string]string{
		"python3 app.py": "app.py",
		"/usr/bin/python3.12 -u -W ignore app.py x":  "app.py",
		"python -m http.server":                      "",
		"python3 -c print(1)":                        "",
		"python3 -Ic print(1)":                       "",
		"python3 -":                                  "",
		"python3":                                    "",
		"node server.js":                             "server.js",
		"node --enable-source-maps -r ./x server.js": "server.js",
		"node -e 1":                                  "",
		"bun run index.ts":                           "index.ts",
		"deno run --allow-net main.ts":               "main.ts",
		"perl -I lib -w app.pl":                      "app.pl",
		"perl -Ilib app.pl":                          "app.pl",
		"perl -ne print":                             "",
		"ruby -W0 app.rb":                            "app.rb",
		"sh run.sh":                                  "run.sh",
		"sh -c run.sh":                               "",
		"bash -ec run.sh":                            "",
		"bash -o pipefail -e run.sh":                 "run.sh",
		"bash -- -run.sh":                            "-run.sh",
		"bash --login run.sh":                        "run.sh",
		"php -d x=1 index.php":                       "index.php",
		"php -f index.php":                           "index.php",
		"php -S 0.0.0.0:80":                          "",
		"java -Xmx1g -jar app.jar --port 80":         "app.jar",
		"java -cp lib Main":                          "",
		"java Main.java":                             "Main.java",
		"env A=1 python3 app.py":                     "app.py",
		"busybox sh run.sh":                          "run.sh",
		"/app/server app.py":                         "",
		"":                                           "",
	} {
		got, ok := Script(strings.Fields(line))
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", line, got, ok)
		}
	}
}
