package sockets

import (
	"fmt"
	"strings"
	"testing"
)

func TestAssignCountsFromThreeAndHonoursWishes(t *testing.T) {
	for texts, want := range map[string]string{
		"80 81 82":      "[3 4 5]",
		"80 81=3 82":    "[4 3 5]",
		"80 81=4 82 83": "[3 4 5 6]",
		"80=0 81":       "[0 3]",
		"80=100 81=101": "[100 101]",
	} {
		got, err := Assign(parseAll(t, strings.Fields(texts)...))
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("Assign(%s) = %v, %v, want %s", texts, got, err, want)
		}
	}
}

func TestAssignRefusesTwoWishesForOneNumber(t *testing.T) {
	_, err := Assign(parseAll(t, "80=5", "u81=5"))
	if want := "80,fd=5 and udp:81,fd=5 ask for the same descriptor 5"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Assign says %v, want %q", err, want)
	}
}

func TestServerStarterWritesTheHostAsItWasAskedFor(t *testing.T) {
	for text, want := range map[string]string{
		"8080":             "8080=3",
		"*:8080":           "8080=3",
		"0.0.0.0:8080":     "0.0.0.0:8080=3",
		"localhost:8080":   "localhost:8080=3",
		"[::1]:8080":       "[::1]:8080=3",
		"u8080":            "8080=3",
		"127.0.0.1:u8080":  "127.0.0.1:8080=3",
		"/run/app.sock":    "/run/app.sock=3",
		"unix:@x,name=any": "@x=3",
	} {
		if got := mustParse(t, text).ServerStarter(3); got != want {
			t.Errorf("%s is %s for Server::Starter, want %s", text, got, want)
		}
	}
}

func TestPortVariableTellsUDPFromTCPOnOnePort(t *testing.T) {
	for texts, want := range map[string]string{
		"":                       "",
		"80 127.0.0.1:81 /a":     "80=3;127.0.0.1:81=4;/a=5",
		"53 u53":                 "53=3;u53=4",
		"[::1]:53 [::1]:u53":     "[::1]:53=3;[::1]:u53=4",
		"127.0.0.1:53 u53 u54":   "127.0.0.1:53=3;53=4;54=5",
		"u53 127.0.0.1:u53=9 80": "53=3;127.0.0.1:53=9;80=4",
	} {
		specs := parseAll(t, strings.Fields(texts)...)
		fds, err := Assign(specs)
		if err != nil {
			t.Fatal(err)
		}
		if got := PortVariable(specs, fds); got != want {
			t.Errorf("SERVER_STARTER_PORT of %s is %s, want %s", texts, got, want)
		}
	}
}

func TestListenFDsEndsAtTheFirstGap(t *testing.T) {
	for texts, want := range map[string]string{
		"":                         "0 ",
		"80 u53 /run/app.sock":     "3 80:u53:app.sock",
		"80,name=http 81=3":        "2 81:http",
		"80 81=9 82":               "2 80:82",
		"80=9":                     "0 ",
		"80=0 81":                  "1 81",
		"unix:@a:b,type=seqpacket": "1 a_b",
	} {
		specs := parseAll(t, strings.Fields(texts)...)
		fds, err := Assign(specs)
		if err != nil {
			t.Fatal(err)
		}
		count, names := ListenFDs(specs, fds)
		if got := fmt.Sprint(count, " ", names); got != want {
			t.Errorf("LISTEN_FDS and names of %s are %s, want %s", texts, got, want)
		}
	}
}
