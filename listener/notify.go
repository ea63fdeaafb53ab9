package listener

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notifyPatience bounds how long a message may take: a full socket must not
// keep the server from serving.
const notifyPatience = 5 * time.Second

// Ready tells hotinit that the server serves from now on, so that the
// generation before it can go. [Serve] does this by itself. Where nobody wants
// to know (NOTIFY_SOCKET is not set), nothing happens and the error is nil.
func Ready() error { return notify("READY=1") }

// Stopping tells hotinit that the server is about to end. [Serve] does this by
// itself.
func Stopping() error { return notify("STOPPING=1") }

// Status tells hotinit what the server is doing, in one line for people.
func Status(text string) error {
	// A line break would begin another assignment.
	return notify("STATUS=" + strings.ReplaceAll(text, "\n", " "))
}

// Generation is the number of this run of the server: 1 for the first one, one
// more with each swap. It is 0 where the server was not started by hotinit or
// start_server.
func Generation() int {
	for _, name := range []string{"HOTINIT_GENERATION", "SERVER_STARTER_GENERATION"} {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

// notify sends a message as sd_notify(3) describes it.
func notify(message string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] != '/' && path[0] != '@' {
		return fmt.Errorf("cannot send %s: NOTIFY_SOCKET is %q, but must be an absolute path or an abstract address that begins with @", message, path)
	}
	// The net package takes a leading @ for an abstract address too.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot send %s to NOTIFY_SOCKET: %w", message, err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyPatience)); err != nil {
		return fmt.Errorf("cannot send %s to NOTIFY_SOCKET: %w", message, err)
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("cannot send %s to NOTIFY_SOCKET: %w", message, err)
	}
	return nil
}
