package handoff

import (
	"os"

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
