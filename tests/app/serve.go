package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

var inherited = os.NewFile(3, "listener")

func serve(version string, given *Given, t talents) error {
	// Descriptor 3 itself stays open, for /nonblocking to look at.
	l, err := net.FileListener(inherited)
	if err != nil {
		return fmt.Errorf("cannot listen on descriptor 3: %w", err)
	}

	told := terminated(func() { log.Print("told to go") })
	ctx := told
	switch t.term {
	case "ignore":
		ctx = context.Background()
	case "exit":
		context.AfterFunc(told, func() { os.Exit(t.status) })
	}
	log.Print("started")
	return drain(ctx, l, handler(version, given, told), func() { announce(t.ready) })
}

// announce sends READY=1 as the flag says.
func announce(when string) {
	switch when {
	case "never":
		return
	case "once":
	default:
		// The opening of a FIFO ends when the other side opens it.
		f, err := os.OpenFile(when, os.O_RDONLY, 0)
		if err != nil {
			log.Fatal(err)
		}
		f.Close()
	}
	log.Print("ready")
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		log.Fatalf("cannot say that it is ready: %v", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("READY=1\n")); err != nil {
		log.Fatalf("cannot say that it is ready: %v", err)
	}
}

func handler(version string, given *Given, told context.Context) http.Handler {
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

// drain serves until ctx ends, then finishes what was begun.
func drain(ctx context.Context, l net.Listener, h http.Handler, ready func()) error {
	server := &http.Server{Handler: h}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	go ready()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if err := server.Shutdown(context.Background()); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
