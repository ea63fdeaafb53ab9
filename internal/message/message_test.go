package message

import (
	"bytes"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (int, int) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(a); unix.Close(b) })
	return a, b
}

func TestEachKindArrivesAsItWasSent(t *testing.T) {
	a, b := pair(t)
	for _, m := range []Message{
		{Kind: Start, Text: "/srv", Names: []string{"tcp:0.0.0.0:8080", "gen/1"}, Blob: []byte("record"), FD: -1},
		{Kind: Signal, Seq: 1 << 40, Value: 64, FD: -1},
		{Kind: Hello, Value: HelloWarn | 9<<HelloDeathShift, FD: -1},
		{Kind: Drop, Text: "gen/1", FD: -1},
		{Kind: Record, Seq: 3, Blob: bytes.Repeat([]byte("x"), Max-100), FD: -1},
		{Kind: Exit, Seq: LeaveRest, Value: 143, FD: -1},
	} {
		if err := Send(a, m); err != nil {
			t.Fatalf("Send(%v): %v", m.Kind, err)
		}
		got, err := Receive(b, make([]byte, Max))
		if err != nil {
			t.Fatalf("Receive(%v): %v", m.Kind, err)
		}
		if got.Blob != nil && len(got.Blob) == 0 {
			got.Blob = nil
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("sent %+v, received %+v", m, got)
		}
	}
}

func TestKeepCarriesADescriptorWithCloseOnExec(t *testing.T) {
	a, b := pair(t)
	var p [2]int
	if err := unix.Pipe2(p[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	if err := Send(a, Message{Kind: Keep, Text: "pipe", FD: p[1]}); err != nil {
		t.Fatal(err)
	}
	unix.Close(p[1])
	m, err := Receive(b, make([]byte, Max))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m.FD)
	if flags, err := unix.FcntlInt(uintptr(m.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags of the received descriptor: %x, %v; want close-on-exec", flags, err)
	}
	if _, err := unix.Write(m.FD, []byte("x")); err != nil {
		t.Errorf("the received descriptor is not the pipe: %v", err)
	}
}

func TestReceiveTellsAnEmptySocketFromAClosedOne(t *testing.T) {
	a, b := pair(t)
	if _, err := Receive(b, make([]byte, Max)); err != unix.EAGAIN {
		t.Errorf("empty socket: %v, want EAGAIN", err)
	}
	if err := unix.Shutdown(a, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if _, err := Receive(b, make([]byte, Max)); err != unix.EPIPE {
		t.Errorf("closed socket: %v, want EPIPE", err)
	}
	if err := Send(b, Message{Kind: Hello}); err != unix.EPIPE {
		t.Errorf("send to a closed socket: %v, want EPIPE", err)
	}
}

func FuzzDecodeNeverPanics(f *testing.F) {
	f.Add([]byte{byte(Record), 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) { decode(b) })
}
