package box

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// client asks once on a connection of its own.
var client = &http.Client{
	Timeout:   Patience,
	Transport: &http.Transport{DisableKeepAlives: true},
}

// Get asks the application.
func Get(address, path string) (string, error) {
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}

// Get asks the application and fails the test if it does not answer.
func (b *Box) Get(address, path string) string {
	b.t.Helper()
	body, err := Get(address, path)
	if err != nil {
		b.t.Fatalf("%v\noutput:\n%s", err, b.Output)
	}
	return body
}

// Answers waits until an answer starts with prefix, such as "v2 generation 3",
// and returns it.
func Answers(address, prefix string) (string, error) {
	return answers(address, prefix, nil)
}

// answers is Answers; once ended is closed it asks for the last time.
func answers(address, prefix string, ended <-chan struct{}) (string, error) {
	var body string
	var err error
	right, over := false, false
	Eventually(func() bool {
		select {
		case <-ended:
			over = true
		default:
		}
		body, err = Get(address, "/")
		right = err == nil && strings.HasPrefix(body, prefix)
		return right || over
	})
	switch {
	case right:
		return body, nil
	case over:
		return "", fmt.Errorf("hotinit has ended, and there is no answer from %q: %q (%v)", prefix, body, err)
	}
	return "", fmt.Errorf("no answer from %q within %v, the last one was %q (%v)", prefix, Patience, body, err)
}

// Answers waits until an answer starts with prefix.
func (b *Box) Answers(address, prefix string) string {
	b.t.Helper()
	body, err := answers(address, prefix, b.ended)
	if err != nil {
		b.t.Fatalf("%v\noutput:\n%s", err, b.Output)
	}
	return body
}

// Given is what a generation found when it started.
type Given struct {
	PID, Group, Session, Foreground int
	Dir                             string
	UID, GID                        int
	Groups                          []int
	Umask                           int
	NoFile                          uint64
	Args                            []string
	Env                             map[string]string
	Signals                         map[string]string
	Descriptors                     []Descriptor
}

// Descriptor is one that it was given.
type Descriptor struct {
	Number      int
	Target      string
	NonBlocking bool
	Address     string
}

// Given asks the first generation what it was given.
func (b *Box) Given(address string) Given {
	b.t.Helper()
	return b.GivenTo(address, 1)
}

// GivenNow asks whichever process answers what it was given.
func (b *Box) GivenNow(address string) (g Given) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.Get(address, "/given")), &g); err != nil {
		b.t.Fatalf("/given: %v", err)
	}
	return g
}

// GivenTo asks a generation what it was given. While one takes over from
// another both answer, so it asks until it is the one that is meant.
func (b *Box) GivenTo(address string, generation int) Given {
	b.t.Helper()
	var g Given
	b.Until(fmt.Sprintf("generation %d says what it was given", generation), func() bool {
		g = b.GivenNow(address)
		return g.Env["HOTINIT_GENERATION"] == strconv.Itoa(generation)
	})
	return g
}

// Hold starts a request that is answered to its end only once its generation
// was told to go. It returns the first line of the answer, and a function that
// waits for the rest.
func Hold(address string) (first string, rest func() (string, error), err error) {
	resp, err := client.Get("http://" + address + "/hold")
	if err != nil {
		return "", nil, err
	}
	line := make([]byte, 256)
	n, err := resp.Body.Read(line)
	if err != nil && err != io.EOF {
		resp.Body.Close()
		return "", nil, err
	}
	return string(line[:n]), func() (string, error) {
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}, nil
}

// Refused tells whether nobody listens at an address.
func Refused(address string) (bool, error) {
	c, err := net.DialTimeout("tcp", address, Patience)
	if err == nil {
		c.Close()
		return false, nil
	}
	if strings.Contains(err.Error(), unix.ECONNREFUSED.Error()) {
		return true, nil
	}
	return false, err
}

// Within returns what f returns, or false where that takes longer than the
// tests have patience.
func Within(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(Patience):
		return false
	}
}
