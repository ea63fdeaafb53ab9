package settings

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSignalReadsNamesAndNumbers(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"TERM": 15, "SIGTERM": 15, "sigterm": 15, "15": 15, "Usr1": 10, "SIGPOLL": 29, "IOT": 6, "CLD": 17, "64": 64,
		"RTMIN": 34, "SIGRTMIN": 34, "RTMIN+3": 37, "rtmin+30": 64, "RTMAX": 64, "SIGRTMAX-1": 63, "RTMAX-30": 34, "33": 33,
	} {
		if got, ok := ParseSignal(text); !ok || got != want {
			t.Errorf("%s is signal %d, %v, want %d", text, got, ok, want)
		}
	}
}

func TestParseSignalRefusesWhatIsNone(t *testing.T) {
	for _, text := range []string{"", "0", "65", "-1", "SIG", "TERMS", "SIGSIGTERM", "RTMIN+31", "RTMAX-31", "RTMIN-1",
		"RTMAX+1", "RTMIN+", "RTMIN+x", "1.5", "256"} {
		if got, ok := ParseSignal(text); ok {
			t.Errorf("%q is signal %d", text, got)
		}
	}
}

func TestASignalsNameIsReadBack(t *testing.T) {
	for n := unix.Signal(1); n < 32; n++ {
		if got, ok := ParseSignal(unix.SignalName(n)); !ok || got != n {
			t.Errorf("signal %d is named %s, which is %d", n, unix.SignalName(n), got)
		}
	}
}
