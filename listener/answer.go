package listener

import (
	"io"
	"net/http"
	"sync/atomic"
)

// writer is what net/http gives to handlers of HTTP/1, in full: handlers ask
// for these abilities by type assertion, so a wrapper must have them all.
type writer interface {
	http.ResponseWriter
	http.Hijacker
	io.StringWriter
	io.ReaderFrom
	Flush()
	FlushError() error
	CloseNotify() <-chan bool
}

// answer decides at the last moment, when the header is about to be written,
// whether the answer says that the connection ends: the drain may begin while
// the handler works.
type answer struct {
	writer
	draining *atomic.Bool
	begun    bool
}

func (a *answer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	if a.draining.Load() {
		sayClose(a.Header())
	}
}

func (a *answer) WriteHeader(status int) {
	// The answers before the answer (100 Continue, 103 Early Hints) say nothing
	// about the connection, and 101 Switching Protocols gives it away.
	if status >= http.StatusOK {
		a.begin()
	}
	a.writer.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin()
	return a.writer.Write(p)
}

func (a *answer) WriteString(s string) (int, error) {
	a.begin()
	return a.writer.WriteString(s)
}

func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	return a.writer.ReadFrom(r)
}

func (a *answer) Flush() {
	a.begin()
	a.writer.Flush()
}

func (a *answer) FlushError() error {
	a.begin()
	return a.writer.FlushError()
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.writer }

// sayClose adds "close" to the Connection header. It must be the first value,
// since the server looks at that one only. In an answer of HTTP/2, where there
// is no such header, the server sends GOAWAY instead.
func sayClose(h http.Header) {
	if h.Get("Connection") != "close" {
		h["Connection"] = append([]string{"close"}, h["Connection"]...)
	}
}
