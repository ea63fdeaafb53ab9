package control

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheListeningHotinitsAreFound(t *testing.T) {
	const text = "Num       RefCount Protocol Flags    Type St Inode Path\n" +
		"0000000000000000: 00000002 00000000 00010000 0001 01 59811 @hotinit/control/4026531836/70\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 59812 @hotinit/control/4026531836/71\n" +
		"0000000000000000: 00000002 00000000 00010000 0001 01 59813 @hotinit/control/4026531999/1\n" +
		"0000000000000000: 00000002 00000000 00010000 0001 01 59814 @hotinit/control/4026531836/7x\n" +
		"0000000000000000: 00000002 00000000 00010000 0001 01 59815 /run/hotinit/control/4026531836/8\n" +
		"0000000000000000: 00000002 00000000 00010000 0001 01 59816 @hotinit/control/4026531836/12\n" +
		"0000000000000000: 00000003 00000000 00000000 0001 03 59817\n"
	if got := listening(text, "4026531836"); !slices.Equal(got, []int{12, 70}) {
		t.Errorf("found %v", got)
	}
	if got := listening(text, "1"); len(got) != 0 {
		t.Errorf("found %v", got)
	}
}

func TestOneHotinitIsFoundAndOfSeveralOneIsNamed(t *testing.T) {
	if fd, err := connect(1, 0); err == nil {
		unix.Close(fd)
		t.Skip("PID 1 is hotinit here")
	}
	before := 0
	if _, err := find(); err != nil && strings.Contains(err.Error(), "several") {
		t.Skip("there are others here already")
	} else if err == nil {
		before = 1
	}
	fd, err := Listen(Address(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	other, err := Listen(Address(1 << 22))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := find(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf(" %d (", os.Getpid())) || !strings.Contains(err.Error(), "HOTINIT_CONTROL") {
		t.Errorf("of several: %v", err)
	}
	unix.Close(other)
	if pid, err := find(); before == 0 && (err != nil || pid != os.Getpid()) {
		t.Errorf("found %d, %v", pid, err)
	}
	t.Setenv("HOTINIT_CONTROL", "1234")
	if pid, err := find(); err != nil || pid != 1234 {
		t.Errorf("by the variable: %d, %v", pid, err)
	}
}
