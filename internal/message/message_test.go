package message

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns two links that are closed with the test.
func pair(t *testing.T) (*Link, *Link) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	one, other := NewLink(a), NewLink(b)
	t.Cleanup(func() { one.Close(); other.Close() })
	return one, other
}

// next returns a copy of the next message.
func next(t *testing.T, l *Link) Message {
	t.Helper()
	var got Message
	err := l.Next(func(m Message) {
		if r, ok := m.(*Record); ok {
			r.State = bytes.Clone(r.State)
		}
		got = m
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// fill sets every field to something that is not zero.
func fill(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), r)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(3), 4))
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.String:
		v.SetString(strings.Repeat("x\xff", 1+r.IntN(200)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-1 - r.Int64())
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(1 + r.Uint64()>>1&(1<<(v.Type().Bits()-1)-1))
	default:
		panic(v.Type())
	}
}

// kinds are all kinds of messages.
func kinds() (all []Message) {
	for k := range 256 {
		if m := empty(byte(k)); m != nil {
			all = append(all, m)
		}
	}
	return all
}

func TestEachFieldOfEachKindArrives(t *testing.T) {
	a, b := pair(t)
	random := rand.New(rand.NewPCG(1, 2))
	for _, m := range kinds() {
		fill(reflect.ValueOf(m).Elem(), random)
		fd := reflect.ValueOf(m).Elem().FieldByName("FD")
		if fd.IsValid() {
			fd.SetInt(0) // standard input
		}
		if err := a.Send(m); err != nil {
			t.Fatalf("Send(%T): %v", m, err)
		}
		got := next(t, b)
		if fd.IsValid() {
			unix.Close(int(reflect.ValueOf(got).Elem().FieldByName("FD").Int()))
			reflect.ValueOf(got).Elem().FieldByName("FD").SetInt(0)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("sent %+v, received %+v", m, got)
		}
	}
}

func TestEachKindHasANumberOfItsOwn(t *testing.T) {
	for _, m := range kinds() {
		if again := empty(m.kind()); reflect.TypeOf(again) != reflect.TypeOf(m) {
			t.Errorf("%T has the number of %T", m, again)
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
	if err := a.Send(&Keep{Name: "pipe", FD: p[1]}); err != nil {
		t.Fatal(err)
	}
	unix.Close(p[1])
	m, ok := next(t, b).(*Keep)
	if !ok || m.Name != "pipe" {
		t.Fatalf("received %+v", m)
	}
	defer unix.Close(m.FD)
	if flags, err := unix.FcntlInt(uintptr(m.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags of the received descriptor: %x, %v; want close-on-exec", flags, err)
	}
	if _, err := unix.Write(m.FD, []byte("x")); err != nil {
		t.Errorf("the received descriptor is not the pipe: %v", err)
	}
}

func TestAnEmptySocketIsNotAClosedOne(t *testing.T) {
	a, b := pair(t)
	if _, err := receive(b.fd, make([]byte, Max)); err != unix.EAGAIN {
		t.Errorf("empty socket: %v, want EAGAIN", err)
	}
	a.Close()
	if _, err := receive(b.fd, make([]byte, Max)); err != unix.EPIPE {
		t.Errorf("closed socket: %v, want EPIPE", err)
	}
	if err := b.Send(&Hello{}); err != unix.EPIPE {
		t.Errorf("send to a closed socket: %v, want EPIPE", err)
	}
}

// The descriptor's number may be another file's by then.
func TestNothingIsSentOnALinkThatWasClosed(t *testing.T) {
	a, _ := pair(t)
	number := a.fd
	a.Close()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if err := a.Send(&Acted{}); err != unix.EPIPE {
		t.Errorf("descriptor %d, pipe %v: %v, want EPIPE", number, p, err)
	}
	a.Close() // must not close the pipe
	if _, err := unix.Write(p[1], []byte("x")); err != nil {
		t.Error(err)
	}
}

func TestTheLargestRecordArrives(t *testing.T) {
	a, b := pair(t)
	want := &Record{Program: strings.Repeat("n", 200), Seq: 1 << 60, State: bytes.Repeat([]byte("x"), maxState)}
	if err := a.Send(want); err != nil {
		t.Fatal(err)
	}
	if got := next(t, b); !reflect.DeepEqual(got, want) {
		t.Error("it is not what was sent")
	}
}

func TestARecordOfAnySizeArrives(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int{0, 1, maxState, maxState + 1, 10*maxState + 7} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i / 251)
		}
		go a.SendRecord(Record{Program: "app", Seq: 9, State: want})
		var join Join
		for complete := false; !complete; {
			var state []byte
			r := next(t, b).(*Record)
			if state, complete = join.Add(r); complete && !bytes.Equal(state, want) {
				t.Errorf("a state of %d bytes arrives as one of %d", size, len(state))
			}
			if r.Program != "app" || r.Seq != 9 {
				t.Errorf("%+v", r)
			}
		}
	}
}

func TestATooLargeMessageIsNotSent(t *testing.T) {
	a, _ := pair(t)
	if err := a.Send(&Record{State: make([]byte, Max)}); err != unix.EMSGSIZE {
		t.Errorf("%v, want EMSGSIZE", err)
	}
}

// What the kernel cut may still read as a message: a record with half a state.
func TestACutMessageIsNoMessage(t *testing.T) {
	a, b := pair(t)
	whole, _ := encode(&Acted{Seq: 1})
	if err := sendmsg(a.fd, append(whole, 1, 2, 3), nil); err != nil {
		t.Fatal(err)
	}
	if m, err := receive(b.fd, make([]byte, len(whole))); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("received %+v, %v", m, err)
	}
}

// A descriptor is cut off where the receiver has too many open files.
func TestAMessageThatLostItsDescriptorIsNoMessage(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(&Keep{Name: "x", FD: 0}); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	m, err := receive(b.fd, make([]byte, Max))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err == nil || !strings.Contains(err.Error(), "descriptor") {
		t.Errorf("received %+v, %v", m, err)
	}
}

func TestReceiveReadsEverythingAndEndsWithTheOtherSide(t *testing.T) {
	a, b := pair(t)
	var got []uint64
	var odd []error
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Receive(func(m Message) bool {
			got = append(got, m.(*Acted).Seq)
			return true
		}, func(err error) { odd = append(odd, err) })
	}()
	for seq := range uint64(3000) { // more than the socket holds
		if err := a.SendWait(&Acted{Seq: seq}); err != nil {
			t.Fatal(err)
		}
	}
	if err := sendmsg(a.fd, []byte{250, 1}, nil); err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	a.Close()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Receive does not end")
	}
	for i, seq := range got {
		if seq != uint64(i) {
			t.Fatalf("message %d is number %d", i, seq)
		}
	}
	if len(got) != 3000 || len(odd) > 1 {
		t.Errorf("%d messages, and %v", len(got), odd)
	}
}

func FuzzDecode(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, m := range kinds() {
		fill(reflect.ValueOf(m).Elem(), random)
		b, _ := encode(m)
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, attached bool) {
		fd := -1
		if attached {
			fd = 99
		}
		m, ok := decode(b, fd)
		if !ok {
			return
		}
		again, fd2 := encode(m)
		if m2, ok := decode(again, fd2); !ok || fd2 != fd || !reflect.DeepEqual(m, m2) {
			t.Errorf("%+v is written as %x, and read as %+v", m, again, m2)
		}
	})
}

// Init hardly ever collects its garbage.
func TestWhatInitReceivesAllTheTimeMakesNoGarbage(t *testing.T) {
	a, b := pair(t)
	buf, in := make([]byte, Max), new(inbox)
	for _, m := range []Message{
		&Record{Program: "app", Seq: 3, State: []byte("state")}, &Acted{Seq: 4}, &Drop{Name: "app/pidfd/3"},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := sendmsg(a.fd, wire(m), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := in.receive(b.fd, buf); err != nil {
				t.Fatal(err)
			}
		}) - testing.AllocsPerRun(100, func() { wire(m) }); n >= 1 {
			t.Errorf("%T: %v allocations for each", m, n)
		}
	}
}

func wire(m Message) []byte {
	b, _ := encode(m)
	return b
}
