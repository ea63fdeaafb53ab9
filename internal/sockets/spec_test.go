package sockets

import (
	"strings"
	"testing"
)

// with is a spec with the defaults of Parse.
func with(s Spec) Spec {
	if s.FD == 0 {
		s.FD = -1
	}
	if s.Mode == 0 {
		s.Mode = -1
	}
	return s
}

func TestParseReadsEachForm(t *testing.T) {
	for text, want := range map[string]Spec{
		"8080":                     {Network: TCP, Port: 8080},
		" 8080 = 5 ":               {Network: TCP, Port: 8080, FD: 5},
		"0":                        {Network: TCP},
		"*:8080":                   {Network: TCP, Port: 8080},
		":8080":                    {Network: TCP, Port: 8080},
		"127.0.0.1:9000":           {Network: TCP, Host: "127.0.0.1", Port: 9000},
		"localhost:9000=7":         {Network: TCP, Host: "localhost", Port: 9000, FD: 7},
		"[::1]:80":                 {Network: TCP, Host: "::1", Port: 80},
		"[fe80::1%eth0]:80=4":      {Network: TCP, Host: "fe80::1%eth0", Port: 80, FD: 4},
		"u53":                      {Network: UDP, Port: 53},
		"127.0.0.1:u53=3":          {Network: UDP, Host: "127.0.0.1", Port: 53, FD: 3},
		"[::1]:u53":                {Network: UDP, Host: "::1", Port: 53},
		"udp:53":                   {Network: UDP, Port: 53},
		"udp:10.0.0.1:53,fd=9":     {Network: UDP, Host: "10.0.0.1", Port: 53, FD: 9},
		"tcp:8080,name=http":       {Network: TCP, Port: 8080, Name: "http"},
		"tcp:udp:8080":             {Network: TCP, Host: "udp", Port: 8080},
		"tcp:[::]:80,v6only=no":    {Network: TCP, Host: "::", Port: 80, DualStack: true},
		"[::]:80,v6only":           {Network: TCP, Host: "::", Port: 80},
		"80,nonblock":              {Network: TCP, Port: 80, Nonblock: true},
		"@app,nonblock":            {Network: UnixStream, Path: "@app", Nonblock: true},
		"80,reuseport,backlog=512": {Network: TCP, Port: 80, ReusePort: true, Backlog: 512},
		"/run/app.sock":            {Network: UnixStream, Path: "/run/app.sock"},
		"unix:app.sock":            {Network: UnixStream, Path: "app.sock"},
		"unix:@app":                {Network: UnixStream, Path: "@app"},
		"@app,type=dgram":          {Network: UnixDatagram, Path: "@app"},
		"unix:/a,type=seqpacket":   {Network: UnixSeqpacket, Path: "/a"},
		"unix:/a,mode=0660,user=www,group=33": {Network: UnixStream, Path: "/a", Mode: 0o660,
			User: "www", Group: "33"},
	} {
		got, err := Parse(text)
		if err != nil || got != with(want) {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", text, got, err, with(want))
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "the port must be a number from 1 to 65535, or 0 for any",
		"http":                 "the port must be a number",
		"70000":                "the port must be a number",
		"-1":                   "the port must be a number",
		"80=x":                 "the descriptor after '=' must be a number from 0 to 1023",
		"80=4000":              "the descriptor after '='",
		"::1:80":               "an IPv6 address needs brackets",
		"[::1:80":              "a bracket is missing",
		"[1::2::3]:80":         "is not an IPv6 address",
		"[12345::]:80":         "is not an IPv6 address",
		"1.2.3.400:80":         "1.2.3.400 is not an IPv4 address",
		"1.2.3:80":             "1.2.3 is not an IPv4 address",
		"a b:80":               "the host must be an address or a name",
		"unix:":                "the path of a unix socket is missing",
		"unix:@":               "the path of a unix socket is missing",
		"unix:/a;b":            "may not have ';' or '='",
		"unix:/a=5":            "may not have ';' or '='",
		"unix:/a,fd=-1":        "the descriptor after '='",
		"80,nodelay":           `option "nodelay" is not known for this socket: allowed are name=`,
		"80,":                  `option "" is not known`,
		"80,mode=0660":         `option "mode" is not known`,
		"80,reuseport=1":       `option "reuseport" is not known`,
		"80,nonblock=1":        `option "nonblock" is not known`,
		"80,v6only=maybe":      "v6only=maybe: must be yes or no",
		"80,backlog=0":         "backlog=0: must be a number from 1",
		"80,name=a:b":          "name=a:b: must be of printable ASCII",
		"80,name=":             "name=: must have 1 to 255 characters",
		"unix:/a,type=raw":     "type=raw: must be stream, dgram or seqpacket",
		"unix:/a,mode=9":       "mode=9: must be octal, from 0 to 0777",
		"unix:/a,mode=1777":    "mode=1777: must be octal",
		"unix:/a,user=":        "user=: must be a name or a number",
		"unix:@a,mode=0660":    `option "mode" is not known for this socket: allowed are name=, fd=, backlog=, nonblock, type=`,
		"unix:/" + long(120):   "has at most 107 bytes, this one has 121",
		"80,name=" + long(256): "must have 1 to 255 characters",
	} {
		if got, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %+v, %v, want an error with %q", text, got, err, want)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func TestParsePathTakesCommas(t *testing.T) {
	got, err := ParsePath("/run/a,b.sock")
	if want := with(Spec{Network: UnixStream, Path: "/run/a,b.sock"}); err != nil || got != want {
		t.Errorf("ParsePath = %+v, %v, want %+v", got, err, want)
	}
}

func mustParse(t testing.TB, text string) Spec {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return s
}

func parseAll(t testing.TB, texts ...string) []Spec {
	t.Helper()
	var specs []Spec
	for _, text := range texts {
		specs = append(specs, mustParse(t, text))
	}
	return specs
}

func TestKeyIsTheSameForOneSocket(t *testing.T) {
	for _, same := range [][]string{
		{"8080", "0.0.0.0:8080", "*:8080", "tcp:8080,name=http", "8080=9", "8080,backlog=3"},
		{"[::1]:80", "[0:0:0::1]:80", "[::0.0.0.1]:80"},
		{"[fe80::1%eth0]:80", "[FE80:0::1%eth0]:80"},
		{"u53", "udp:0.0.0.0:53"},
		{"/run/a", "unix:/run/a,mode=0600,user=www"},
	} {
		for _, text := range same[1:] {
			a, b := mustParse(t, same[0]).Key(), mustParse(t, text).Key()
			if a != b {
				t.Errorf("%s has key %s, %s has %s", same[0], a, text, b)
			}
		}
	}
}

func TestKeyDiffersForTwoSockets(t *testing.T) {
	seen := make(map[string]string)
	for _, text := range []string{"53", "u53", "54", "127.0.0.1:53", "[::]:53", "[::1%a]:53", "[::1%b]:53",
		"/run/53", "/run/53,type=dgram", "/run/53,type=seqpacket", "@run", "unix:run"} {
		key := mustParse(t, text).Key()
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the same key %s", other, text, key)
		}
		seen[key] = text
	}
}

func TestDistinctNumbersPortZeroAndReuseport(t *testing.T) {
	specs := parseAll(t, "0", "0", "u0", "80,reuseport", "80,reuseport", "0")
	if err := Distinct(specs); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, s := range specs {
		if seen[s.Key()] {
			t.Errorf("two sockets have the key %s", s.Key())
		}
		seen[s.Key()] = true
	}
	if specs[0].Ordinal != 0 || specs[5].Ordinal != 2 {
		t.Errorf("the first and the third socket with port 0 have ordinals %d and %d, want 0 and 2", specs[0].Ordinal, specs[5].Ordinal)
	}
}

func TestDistinctRefusesASocketNamedTwice(t *testing.T) {
	err := Distinct(parseAll(t, "80", "0.0.0.0:80,name=web"))
	if want := "80 and 0.0.0.0:80,name=web are the same socket: name it once"; err == nil || err.Error() != want {
		t.Errorf("Distinct says %v, want %s", err, want)
	}
}

func TestSplitListKeepsOptionsWithTheirSpec(t *testing.T) {
	got := strings.Join(SplitList(" 8080,9000,;tcp:80,name=http,reuseport,u53 unix:/a,mode=0660,unix:/b "), "|")
	if want := "8080|9000|tcp:80,name=http,reuseport|u53|unix:/a,mode=0660|unix:/b"; got != want {
		t.Errorf("SplitList gives %s, want %s", got, want)
	}
}

func TestFormatIPv6IsCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"::": "::", "0:0:0:0:0:0:0:1": "::1", "2001:db8::": "2001:db8::", "2001:DB8:0:0:1:0:0:1": "2001:db8::1:0:0:1",
		"1:0:2:3:4:5:6:7": "1:0:2:3:4:5:6:7", "::ffff:1.2.3.4": "::ffff:102:304", "1:2:3:4:5:6:1.2.3.4": "1:2:3:4:5:6:102:304",
		"0:0:1::": "0:0:1::", "1::%7": "1::%7",
	} {
		a, zone, ok := parseIPv6(text)
		if got := formatIPv6(a, zone); !ok || got != want {
			t.Errorf("%s is written %s (%v), want %s", text, got, ok, want)
		}
	}
}

func TestParseIPv6RefusesWhatIsNone(t *testing.T) {
	for _, text := range []string{"", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "1.2.3.4::", "::1.2.3",
		"1:2:3:4:5:6:7::8:9", "1:2:3:4:5:6:7:1.2.3.4", "g::", "::%", ":1::"} {
		if a, _, ok := parseIPv6(text); ok {
			t.Errorf("%q is taken for the address %s", text, formatIPv6(a, ""))
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"8080", "[::1]:u80=3", "unix:/a,type=dgram,mode=0660,user=a,group=b", "tcp:udp:80,name=a,v6only=no",
		"@x,fd=4", "udp:[fe80::1%a]:0,backlog=9,nonblock,reuseport"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || again != s {
			t.Errorf("%q is %+v, written %q, which is %+v, %v", text, s, s, again, err)
		}
		if s.Key() != again.Key() {
			t.Errorf("%q has key %s, then %s", text, s.Key(), again.Key())
		}
	})
}
