// Command app is the program that the end-to-end tests run under hotinit.
//
// One binary plays every part: the last line of its own executable carries
// its version and more flags, so that a test makes a new release by copying
// the file and appending a line, without another build. What it reports is
// only what it was given: it reads its descriptors before Go opens any.
//
// Read main for its talents, given.go for what it reports and orphans.go for
// how it leaves children behind.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Trailer starts the line at the end of the executable: "#app VERSION FLAG...".
const trailer = "\n#app "

type talents struct {
	exit         int
	exitByNumber bool
	kill         int
	orphans      int
	lasting      bool
	given        bool
	echo         bool
	term         string
	status       int
	ready        string
	quiet        bool
	children     int
	hang         string
	flood        bool
	bind         string
}

func main() {
	// Before anything else: the first use of the poller opens descriptors.
	given := take()

	version, more, err := release()
	if err != nil {
		fmt.Fprintf(os.Stderr, "app: cannot read its own executable: %v\n", err)
		os.Exit(99)
	}
	t := talents{}
	flags := flag.NewFlagSet("app", flag.ExitOnError)
	flags.IntVar(&t.exit, "exit", -1, "exit at once with this `status`")
	flags.BoolVar(&t.exitByNumber, "exit-by-number", false, "from generation 2 on, exit at once with the generation's number modulo 256")
	flags.IntVar(&t.kill, "kill", 0, "end itself at once by this `signal`")
	flags.IntVar(&t.orphans, "orphans", 0, "first leave this many orphans behind")
	flags.BoolVar(&t.lasting, "lasting", false, "first start a child and a session of its own that both outlive it")
	flags.BoolVar(&t.given, "given", false, "print what it was given, and exit")
	flags.BoolVar(&t.echo, "echo", false, "no server: print each signal that arrives, until TERM")
	flags.StringVar(&t.term, "term", "drain", "what TERM does: `drain`, ignore, exit, hang: drain and never end, or shutdown: end its sockets by shutdown(2), then drain")
	flags.IntVar(&t.status, "status", 0, "exit `status` once it was told to go")
	flags.StringVar(&t.ready, "ready", "once", "READY=1 is sent at `once`, never, or when something was written to this FIFO")
	flags.BoolVar(&t.quiet, "quiet", false, "log nothing")
	flags.IntVar(&t.children, "children", 0, "start this many children that sleep until a signal ends them")
	flags.StringVar(&t.hang, "hang", "", "never serve: hang `before` it listens, or be deaf: wait for connections, and accept none")
	flags.BoolVar(&t.flood, "flood", false, "print lines as fast as it can")
	flags.StringVar(&t.bind, "bind", "", "bind this `address` itself")
	flags.Parse(append(os.Args[1:], more...))

	log.SetFlags(0)
	log.SetPrefix(fmt.Sprintf("app %s generation %s pid %d: ", version, given.Env["HOTINIT_GENERATION"], given.PID))
	if t.quiet {
		log.SetOutput(io.Discard)
	}
	if flags.NArg() > 0 {
		log.Fatalf("unexpected argument %q", flags.Arg(0))
	}

	if t.orphans > 0 {
		if err := leave(t.orphans); err != nil {
			log.Fatal(err)
		}
	}
	if t.lasting {
		if err := outlive(); err != nil {
			log.Fatal(err)
		}
	}
	for range t.children {
		if err := child(false); err != nil {
			log.Fatal(err)
		}
	}
	number, _ := strconv.Atoi(given.Env["HOTINIT_GENERATION"])
	switch {
	case t.exit >= 0:
		os.Exit(t.exit)
	case t.exitByNumber && number > 1:
		os.Exit(number % 256)
	case t.kill > 0:
		endBy(syscall.Signal(t.kill))
	case t.given:
		os.Stdout.Write(given.json())
	case t.echo:
		echo(t)
	default:
		if err := serve(version, given, t); err != nil {
			log.Fatal(err)
		}
		log.Printf("gone, with status %d", t.status)
		os.Exit(t.status)
	}
}

// release reads the version and the flags from the end of the executable.
// /proc/self/exe is what runs, whatever became of the file's name.
func release() (version string, flags []string, err error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", nil, err
	}
	tail := make([]byte, min(end, 1024))
	if _, err := f.ReadAt(tail, end-int64(len(tail))); err != nil {
		return "", nil, err
	}
	i := bytes.LastIndex(tail, []byte(trailer))
	words := []string{"v0"}
	if i >= 0 {
		words = strings.Fields(string(tail[i+len(trailer):]))
	}
	return words[0], words[1:], nil
}

// echo prints signals as they arrive. TERM ends it, unless it is to be ignored.
func echo(t talents) {
	signals := make(chan os.Signal, 128)
	signal.Notify(signals)
	fmt.Println("listening to signals")
	for s := range signals {
		// SIGURG is how Go's scheduler interrupts its own threads; SIGCHLD and
		// SIGPIPE are no message from anybody either.
		if s == unix.SIGURG || s == unix.SIGCHLD || s == unix.SIGPIPE {
			continue
		}
		fmt.Println("got", unix.SignalName(s.(syscall.Signal)))
		if s == unix.SIGTERM && t.term != "ignore" {
			os.Exit(t.status)
		}
	}
}

// terminated is cancelled by the first TERM. It calls told before that, so
// that a log line about it is written before anything that follows from it.
func terminated(told func()) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	var once sync.Once
	go func() {
		for range signals {
			once.Do(told)
			cancel()
		}
	}()
	return ctx
}
