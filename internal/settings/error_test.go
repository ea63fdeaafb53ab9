package settings

import (
	"errors"
	"strings"
	"testing"
)

func TestErrorsNameFlagValueAndWhatIsAllowed(t *testing.T) {
	const signal = "must be a signal such as TERM, SIGUSR2, 15 or RTMIN+3"
	const span = "must be a time: seconds, or with a unit as in 500ms or 2m"
	for line, want := range map[string]string{
		"hotinit":                        "missing command: usage: hotinit [flags] [--] COMMAND [ARG...] (hotinit --help lists the flags)",
		"hotinit -p 8080 app":            `-p "8080": ` + signal + ` (did you mean --port 8080?)`,
		"hotinit -g --":                  "missing command: usage: hotinit [flags] [--] COMMAND [ARG...] (hotinit --help lists the flags)",
		"hotinit --prot 80 x":            `unknown flag "--prot" (did you mean --port?)`,
		"hotinit --stop-timeot=3 x":      `unknown flag "--stop-timeot" (did you mean --stop-timeout?)`,
		"hotinit -intervall 3 x":         `unknown flag "-intervall" (did you mean --interval?)`,
		"hotinit --frobnicate x":         `unknown flag "--frobnicate": usage: hotinit [flags] [--] COMMAND [ARG...] (hotinit --help lists the flags)`,
		"hotinit -gz x":                  `unknown flag "-gz": usage: hotinit [flags] [--] COMMAND [ARG...] (hotinit --help lists the flags)`,
		"hotinit -P x":                   `unknown flag "-P": usage: hotinit [flags] [--] COMMAND [ARG...] (hotinit --help lists the flags)`,
		"hotinit --port":                 "--port needs a value: [host:]port[=fd], [v6]:port, u8080 for UDP, or tcp:, udp:, unix:ADDRESS[,option...]",
		"hotinit -e":                     "-e needs a value: an exit code from 0 to 255",
		"hotinit --port 70000 x":         `--port "70000": the port must be a number from 1 to 65535, or 0 for any`,
		"hotinit --listen 80,x x":        `--listen "80,x": option "x" is not known for this socket: allowed are name=, fd=, backlog=, nonblock, reuseport, v6only=`,
		"hotinit --path=/a;b x":          `--path "/a;b": the path of a unix socket may not have ';' or '=' in it: SERVER_STARTER_PORT could not be read`,
		"hotinit --backlog 0 x":          `--backlog "0": must be a number from 1`,
		"hotinit --keep-fds 2 x":         `--keep-fds "2": must be numbers of descriptors from 3, with commas between`,
		"hotinit --user :g x":            `--user ":g": must be a user's name or number, and a group's after a colon`,
		"hotinit --groups a,,b x":        `--groups "a,,b": must be names or numbers of groups, with commas between`,
		"hotinit --umask 1777 x":         `--umask "1777": must be an octal number from 0 to 0777`,
		"hotinit --dir= x":               `--dir "": must be a path`,
		"hotinit --group=maybe x":        `--group "maybe": must be true or false`,
		"hotinit --ready http x":         `--ready "http": must be auto, accept, notify, fd:N, exec:COMMAND or interval`,
		"hotinit --ready exec: x":        `--ready "exec:": must be auto, accept, notify, fd:N, exec:COMMAND or interval`,
		"hotinit --ready fd:1 x":         `--ready "fd:1": the descriptor after fd: must be a number from 3 to 1023`,
		"hotinit -interval 1h2 x":        `-interval "1h2": ` + span,
		"hotinit --interval=-1 x":        `--interval "-1": ` + span,
		"hotinit --interval=1..5 x":      `--interval "1..5": ` + span,
		"hotinit --max-old many x":       `--max-old "many": must be a number from 0`,
		"hotinit --on-exit retry x":      `--on-exit "retry": must be exit, restart-on-failure or restart`,
		"hotinit --cgroup yes x":         `--cgroup "yes": must be auto, on or off`,
		"hotinit --poll 0 x":             `--poll "0": must be auto, off, or a time above 0: seconds, or with a unit as in 500ms or 2m`,
		"hotinit --signal-on-hup FOO x":  `--signal-on-hup "FOO": ` + signal,
		"hotinit -p 65 x":                `-p "65": ` + signal,
		"hotinit -p 0 x":                 `-p "0": ` + signal,
		"hotinit --reload-signal KILL x": `--reload-signal "KILL": no process can receive this signal: ` + signal + ", or none",
		"hotinit --reload-signal TERM x": `--reload-signal "TERM": this signal has a meaning of its own for hotinit: HUP, USR1, USR2 or RTMIN+3 are free, or none`,
		"hotinit -r TERM x":              `-r "TERM": must be two signals with a colon between, as in TERM:QUIT or 15:3; 0 as the second drops the first`,
		"hotinit -r 0:1 x":               `-r "0:1": must be two signals with a colon between, as in TERM:QUIT or 15:3; 0 as the second drops the first`,
		"hotinit -e 256 x":               `-e "256": must be an exit code from 0 to 255`,
		"hotinit --watch /a:HPU x":       `--watch "/a:HPU": HPU is not a signal: must be a path, and the name of a signal after a colon, or :reload for a swap`,
		"hotinit --watch :HUP x":         `--watch ":HUP": must be a path, and the name of a signal after a colon, or :reload for a swap`,
		"hotinit --restart":              "--restart needs --pid-file and --status-file, those of the hotinit that is to swap",
		"hotinit --stop":                 "--stop needs --pid-file, that of the hotinit that is to stop",
		"hotinit --daemonize x":          "--daemonize needs --log-file: there is no terminal to write to",
		"hotinit --no-downgrade x":       "--no-downgrade has no meaning without --trusted-key",
		"hotinit --snapshot-dir /a x":    `--snapshot-dir "/a" has no meaning without --snapshot`,

		"hotinit --port 80 --port 0.0.0.0:80 x":        "80 and 0.0.0.0:80 are the same socket: name it once",
		"hotinit --port 80=5 --port 81=5 x":            "80,fd=5 and 81,fd=5 ask for the same descriptor 5: give one of them another number",
		"hotinit --port 80 --keep-fds 3 x":             `--keep-fds "3": descriptor 3 is that of socket 80: give the socket another number with fd=`,
		"hotinit --port 80 --ready fd:3 x":             `--ready "fd:3": descriptor 3 is that of socket 80: take another number`,
		"hotinit --keep-fds 7 --ready fd:7 x":          `--ready "fd:7": descriptor 7 is one of --keep-fds: take another number`,
		"HOTINIT_INTERVAL=soon hotinit x":              `HOTINIT_INTERVAL="soon": ` + span,
		"HOTINIT_PORTS=80,99999 hotinit x":             `HOTINIT_PORTS="80,99999": "99999": the port must be a number from 1 to 65535, or 0 for any`,
		"HOTINIT_PORTS=web hotinit x":                  `HOTINIT_PORTS="web": the port must be a number from 1 to 65535, or 0 for any`,
		"HOTINIT_GROUP=2 hotinit x":                    `HOTINIT_GROUP="2": must be true or false`,
		"HOTINIT_VERBOSITY=high hotinit x":             `HOTINIT_VERBOSITY="high": must be a number from 0`,
		"HOTINIT_EXIT_ZERO=1,x hotinit x":              `HOTINIT_EXIT_ZERO="1,x": "x": must be an exit code from 0 to 255`,
		"KILL_OLD_DELAY=x start_server --port 80 -- x": `KILL_OLD_DELAY="x": ` + span,
	} {
		c, err := parse(t, line)
		if err == nil {
			t.Errorf("%s: got %+v", line, c)
			continue
		}
		if err.Error() != want {
			t.Errorf("%s:\n got %s\nwant %s", line, err, want)
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: the error is a %T", line, err)
		} else if strings.HasPrefix(line, "hotinit") && e.ExitCode() != 125 {
			t.Errorf("%s: ends with %d", line, e.ExitCode())
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has several lines", line)
		}
	}
}

func TestEmptyCommandIsRefused(t *testing.T) {
	clearEnvironment(t)
	_, err := Parse([]string{"hotinit", ""}, nil)
	want := "the command is empty: usage: hotinit [flags] [--] COMMAND [ARG...] (hotinit --help lists the flags)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNearestKnowsASlipOfTheFinger(t *testing.T) {
	words := []string{"--port", "--path", "--watch", "--no-watch"}
	for word, want := range map[string]string{"--prot": "--port", "--pott": "--port", "--wtach": "--watch",
		"--nowatch": "--no-watch", "--xyz": "", "": ""} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	clearEnvironment(f)
	for _, seed := range []string{"hotinit -sg -vvv --port=80,name=a -- x", "tini app -g -- -v", "dumb-init -r 1:0 x",
		"start_server --po=80 --inter 3 x", "catatonit -P", "hotinit --ready fd:3 --keep-fds 4,5 --watch /a:HUP x", "hotinit --listen 80,name=a\nb x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := Parse(strings.Split(line, " "), nil)
		switch {
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: the error has several lines: %v", line, err)
		case err == nil && c.Action == Run && !c.Pause && (len(c.Command) == 0 || c.Command[0] == ""):
			t.Errorf("%q: there is nothing to run", line)
		}
	})
}
