package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/listener"
)

// Descriptor 3 stays open beside the listener, for /nonblocking to look at.
func serve(version string, given *Given, t talents) error {
	if t.hang == "before" {
		log.Print("hangs")
		<-terminated(func() {}).Done()
		return nil
	}
	listeners, err := listener.ListenAll()
	if t.bind != "" {
		var l net.Listener
		l, err = net.Listen("tcp", t.bind)
		listeners = []net.Listener{l}
	}
	if err != nil {
		return err
	}
	told := terminated(func() {
		log.Print("told to go")
		switch t.term {
		case "exit":
			os.Exit(t.status)
		case "shutdown":
			// Of the socket that all generations share. For hotinit's sake it does nothing.
			log.Printf("shut down its socket: %v", unix.Shutdown(3, unix.SHUT_RDWR))
		}
	})
	if t.flood {
		go func() {
			line := []byte(strings.Repeat("flood ", 20) + "\n")
			for {
				if _, err := os.Stdout.Write(line); err != nil {
					return
				}
			}
		}()
	}
	if t.hang == "deaf" {
		// Go's runtime waits on the listener, for there is something else to wait
		// for as well: the other end of a pipe.
		r, _, err := os.Pipe()
		if err != nil {
			return err
		}
		go r.Read(make([]byte, 1))
		log.Print("hangs")
		if err := listener.Ready(); err != nil { // which proves nothing
			return err
		}
		<-told.Done()
		return nil
	}
	log.Print("started")
	switch t.ready {
	case "once":
	case "never":
		os.Unsetenv("NOTIFY_SOCKET")
	default:
		if !held(t.ready, told) {
			return nil
		}
	}
	log.Print("ready")
	sockets := &sockets{}
	server := &http.Server{Handler: handler(version, given, told, sockets), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	if t.term == "ignore" {
		if err := listener.Ready(); err != nil {
			return err
		}
		return server.Serve(listeners[0])
	}
	if err := (listener.Drain{}).Serve(told, server, listeners...); err != nil {
		return err
	}
	sockets.Wait()
	if t.term == "hang" {
		log.Print("hangs")
		select {}
	}
	// Serve hears of SIGTERM by itself and may be done before the line about it
	// is written, which would then never be. Tests send no other signal.
	<-told.Done()
	return nil
}

// held waits until something is written to the FIFO. It returns false if it was
// told to go instead.
func held(fifo string, told context.Context) bool {
	opened := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n == 0 && (err == nil || err == io.EOF); { // the writer was there for the one before
			var f *os.File
			if f, err = os.OpenFile(fifo, os.O_RDONLY, 0); err == nil {
				n, err = f.Read(make([]byte, 1))
				f.Close()
			}
		}
		opened <- err
	}()
	select {
	case <-told.Done():
		return false
	case err := <-opened:
		if err != nil {
			log.Fatal(err)
		}
		return true
	}
}

func handler(version string, given *Given, told context.Context, open *sockets) http.Handler {
	name := fmt.Sprintf("%s generation %s pid %d\n", version, given.Env["HOTINIT_GENERATION"], given.PID)
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, name)
	})
	mux.HandleFunc("/given", func(w http.ResponseWriter, r *http.Request) {
		w.Write(given.json())
	})
	// Its first line comes at once, its last one when the app was told to go.
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, name)
		http.NewResponseController(w).Flush()
		select {
		case <-told.Done():
			fmt.Fprintln(w, "held until told to go")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/websocket", func(w http.ResponseWriter, r *http.Request) { open.serve(w, r, name, told) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) { stream(w, r, name, told) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("for"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
		fmt.Fprint(w, name)
	})
	mux.HandleFunc("/orphans", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err == nil {
			err = leave(n)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%d orphans left\n", n)
	})
	mux.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.FormValue("status"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		os.Exit(status)
	})
	// What the listener is now, not at the start: a flag that was changed while
	// another generation was started shows here, since the open file is shared.
	mux.HandleFunc("/nonblocking", func(w http.ResponseWriter, r *http.Request) {
		flags, err := unix.FcntlInt(3, unix.F_GETFL, 0)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, flags&unix.O_NONBLOCK != 0)
	})
	return mux
}
