package handoff

import (
	"os"
	"strconv"
	"time"

	"github.com/hotinit/hotinit/internal/notify"
)

// manager is the service manager that started hotinit, if there is one
// (systemd, podman's --sdnotify=container).
type manager struct {
	address  string // its NOTIFY_SOCKET, "" for none
	ready    bool   // READY=1 was sent
	stopping bool
}

// tellReady tells the manager once that a generation is ready.
func (m *manager) tellReady() {
	if !m.ready {
		m.ready = true
		m.tell("READY=1")
	}
}

// tellStopping tells the manager once that hotinit stops.
func (m *manager) tellStopping() {
	if !m.stopping {
		m.stopping = true
		m.tell("STOPPING=1")
	}
}

func (m *manager) tell(text string) {
	if m.address != "" {
		notify.Tell(m.address, text, os.Getppid()) // its main process is init
	}
}

// managersWatchdog returns how often the manager wants to hear WATCHDOG=1, 0 for
// never, sd_watchdog_enabled(3). The app is told, and what it says is passed on: it
// is the app that the manager means, and hotinit being alive says nothing of it.
func managersWatchdog() time.Duration {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return 0
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getppid()) {
		return 0
	}
	us, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 63)
	if err != nil || us > uint64(longestWatchdog.Microseconds()) {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// longestWatchdog bounds WATCHDOG_USEC, so that it is a time.Duration.
const longestWatchdog = 10000 * time.Hour
