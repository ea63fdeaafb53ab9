// Package deploy is `hotinit deploy`: it puts a release in place as it should be
// done, and waits for what becomes of it.
//
// Its invariant: at each moment the path leads to a whole release, the old one or
// the new one, and where the new one is rejected, to the old one again. So a
// release is written beside, judged there by the hotinit that is to run it, and
// exchanged by one system call.
//
// Read deploy.go for the steps, file.go for a file, tree.go for a directory, and
// unpack.go for what may be in an archive.
package deploy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
)

// prefix begins the names of what is not in place yet. The watch ignores it.
const prefix = ".hotinit-deploy-"

// request is what the command line asks for.
type request struct {
	control.Client
	stop
	from string // a path, or - for standard input
	to   string // "" for where hotinit says
	dir  bool
	next int // the generation that was the next one before anything was changed
}

// placed is a release that was put in place.
type placed interface {
	// back puts what was there before in place again.
	back() error
	// done forgets that.
	done()
}

// Command runs `hotinit deploy`. It returns the status to exit with: 0 if the
// release is current, 1 if it was rejected, exitcode.Failure if it was not put in
// place, or its outcome is not known.
func Command(args []string, in io.Reader, out, errs io.Writer) int {
	out, errs = say.Lines{W: out}, say.Lines{W: errs}
	r, err := parse(args)
	if err == nil {
		r.watchSignals()
		var status int
		if status, err = r.run(in, out, errs); err == nil {
			return status
		}
	}
	fmt.Fprintf(errs, "hotinit deploy: %v\n", err)
	if errors.Is(err, errStopped) {
		return r.end()
	}
	return exitcode.Failure
}

func parse(args []string) (*request, error) {
	r := &request{from: "-"}
	var words []string
	for i := 0; i < len(args); i++ {
		used, err := r.Flag(args[i:])
		switch {
		case err != nil:
			return nil, err
		case used > 0:
			i += used - 1
		case args[i] == "--dir":
			r.dir = true
		case args[i] == "--to" && i+1 < len(args):
			i++
			r.to = args[i]
		case len(words) < settings.CommandWords("deploy") && (args[i] == "-" || args[i] != "" && args[i][0] != '-'):
			words = append(words, args[i])
		default:
			return nil, fmt.Errorf("unknown argument %s (%s)", args[i], settings.CommandUsage("deploy"))
		}
	}
	if len(words) > 0 {
		r.from = words[len(words)-1]
	}
	if len(words) == 2 {
		if r.Program != "" && r.Program != words[0] {
			return nil, fmt.Errorf("both %s and --program %s name a program (%s)", words[0], r.Program, settings.CommandUsage("deploy"))
		}
		r.Program = words[0]
	}
	if r.to == "" {
		return r, nil
	}
	to, err := filepath.Abs(r.to)
	r.to = to
	return r, err
}

func (r *request) run(in io.Reader, out, errs io.Writer) (int, error) {
	target, err := r.target()
	if err != nil {
		return 0, err
	}
	r.next = target.Next
	if r.from != "-" {
		f, err := open(r.from)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		in = f
	}
	put := r.putFile
	if r.dir {
		put = r.putTree
	}
	p, path, err := put(r.input(in), target)
	if errors.Is(err, errStopped) {
		return 0, fmt.Errorf("nothing is changed: %w", errStopped)
	}
	if err != nil {
		return 0, err
	}
	var answer control.Response
	err = r.wait(func() (err error) {
		answer, err = r.outcome(errs)
		return err
	})
	switch {
	case err != nil:
		p.done()
		return 0, fmt.Errorf("%s is in place, and what became of it is not known: %w", path, err)
	case answer.OK:
		p.done()
		fmt.Fprintln(out, answer.Text)
		return 0, nil
	}
	text := "what was there before is back at " + path
	if err := p.back(); err == nil {
		// So status does not warn of what is not there any more.
		_ = r.wait(func() error {
			return r.Ask(control.Request{Op: "back", Wait: true}, func(control.Response) bool { return false })
		})
	} else {
		text = fmt.Sprintf("and what was there before cannot be put back at %s: %v", path, err)
	}
	fmt.Fprintf(errs, "hotinit deploy: %s; %s\n", answer.Text, text)
	return 1, nil
}

// open opens what is to be deployed: it may lie where others can write, too.
func open(path string) (*os.File, error) {
	fd, err := safepath.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		err = fmt.Errorf("cannot look at %s: %w", path, err)
		unix.Close(fd)
		return nil, err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		unix.Close(fd)
		return nil, fmt.Errorf("%s is not a regular file (what comes from elsewhere is deployed by -, standard input)", path)
	case st.Size > mostBytes:
		unix.Close(fd)
		return nil, fmt.Errorf("cannot deploy %s: %w", path, tooMuch(mostBytes))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// emptyInput ends what is said of an input that is empty.
func (r *request) emptyInput() string {
	if r.from != "-" {
		return ""
	}
	return " (docker exec needs -i)"
}

// target asks where a release belongs.
func (r *request) target() (control.Target, error) {
	var t control.Target
	var refused error
	err := r.wait(func() error {
		return r.Ask(control.Request{Op: "target"}, func(a control.Response) bool {
			switch {
			case a.Wrong && r.Program == "": // several programs run
				refused = fmt.Errorf("%s, with FILE or - after it (%s)", a.Text, settings.CommandUsage("deploy"))
			case !a.OK:
				refused = errors.New(a.Text)
			}
			if a.Target != nil {
				t = *a.Target
			}
			return false
		})
	})
	if err == nil {
		err = refused
	}
	return t, err
}

// prove asks whether what lies at a path would be started.
func (r *request) prove(path string) error {
	var rejected error
	err := r.wait(func() error {
		return r.Ask(control.Request{Op: "prove", Path: path, Wait: true}, func(a control.Response) bool {
			if !a.OK {
				rejected = errors.New(a.Text)
			}
			return false
		})
	})
	if err == nil {
		err = rejected
	}
	return err
}

// outcome has the release started, unless it is being started, and waits for what
// becomes of it. A handoff that is lost meanwhile is followed by another one, which
// is asked again: asking twice starts nothing twice.
func (r *request) outcome(errs io.Writer) (answer control.Response, err error) {
	for range 3 {
		err = r.Ask(control.Request{Op: "deploy", After: r.next, Wait: true, Steps: control.Terminal()}, func(a control.Response) bool {
			if a.Step != "" {
				fmt.Fprintln(errs, a.Step)
				return true
			}
			answer = a
			return false
		})
		if !errors.Is(err, control.ErrNoAnswer) {
			return answer, err
		}
	}
	return answer, err
}
