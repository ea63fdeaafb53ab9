package programs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

func TestADeployReachesEachInstanceOrNone(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "HOTINIT_INSTANCES=3", "HOTINIT_INTERVAL=50ms")})
	y.instances(3, 1)
	l := load.Start(load.Options{Address: a})
	since := len(y.Output.All())
	if code, text := y.deploy("v2", "web", "-"); code != 0 || !strings.HasPrefix(text, "each of the 3 instances: ") {
		t.Errorf("deploy: %d, %s", code, text)
	}
	y.instances(3, 2)
	if got := y.turns(since); len(got) != 3 {
		t.Errorf("%s were replaced", got)
	}
	before := y.content()
	broken, err := box.Release("v3", "--exit", "3")
	if err != nil {
		t.Fatal(err)
	}
	c := y.client("deploy", "web", "-")
	c.Stdin = bytes.NewReader(broken)
	if code, text := site.Finish(t, c); code != 1 || !strings.Contains(text, "status 3") {
		t.Errorf("deploy of what is broken: %d, %s", code, text)
	}
	if y.content() != before {
		t.Error("the file before was not put back")
	}
	if !y.all(3, func(row control.Program) bool { return serving(row) && row.Generation == 2 }) {
		t.Errorf("they run %+v", y.rows())
	}
	lossless(t, l)
	y.stop(0)
}
