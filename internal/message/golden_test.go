package message

import (
	"bytes"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write testdata for a new Version")

// settle gives every field of what v is a value that follows from its name alone.
func settle(v reflect.Value, path string) {
	h := fnv.New32a()
	h.Write([]byte(path))
	n := h.Sum32()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			settle(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			settle(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("%s\xff%d", path, n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n) - 1<<31)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(n) & (1<<v.Type().Bits() - 1))
	default:
		panic(v.Type())
	}
}

// golden is a State, and then every message, with its length before it.
func golden() []byte {
	var s State
	settle(reflect.ValueOf(&s).Elem(), "State")
	text := s.Encode()
	out := fmt.Appendf(nil, "State %d\n%s\n", len(text), text)
	for _, m := range kinds() {
		settle(reflect.ValueOf(m).Elem(), reflect.TypeOf(m).String())
		b, _ := encode(m)
		out = fmt.Appendf(out, "%T %d\n%s\n", m, len(b), b)
	}
	return out
}

func goldenFile(version int) string { return fmt.Sprintf("testdata/version-%d.golden", version) }

// TestTheMessagesAreThoseOfTheirVersion fails where a message or State changed and
// Version did not. The files of released versions are never written again.
func TestTheMessagesAreThoseOfTheirVersion(t *testing.T) {
	file := goldenFile(Version)
	want, err := os.ReadFile(file)
	if *update && os.IsNotExist(err) {
		want, err = golden(), os.WriteFile(file, golden(), 0o644)
	}
	if err != nil {
		t.Fatalf("%v: go test ./internal/message -run Version -update writes it", err)
	}
	if !bytes.Equal(golden(), want) {
		t.Errorf("what is sent is not as in %s: count Version up, let decode still read the older one or count Oldest up, and write the new file by -update", file)
	}
}

// TestTheStateOfEachVersionIsRead reads what a hotinit of each version that is
// understood has left.
func TestTheStateOfEachVersionIsRead(t *testing.T) {
	for v := Oldest; v <= Version; v++ {
		b, err := os.ReadFile(goldenFile(v))
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(string(b), "State %d\n", &n); err != nil {
			t.Fatal(err)
		}
		_, b, _ = bytes.Cut(b, []byte("\n"))
		got, err := DecodeState(b[:n])
		if err != nil {
			t.Errorf("version %d: %v", v, err)
			continue
		}
		var want State
		settle(reflect.ValueOf(&want).Elem(), "State")
		if v == Version && !reflect.DeepEqual(*got, want) {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}
		if got.Dir != want.Dir || !reflect.DeepEqual(got.Kept, want.Kept) || !reflect.DeepEqual(got.Records, want.Records) || got.Handoff != want.Handoff {
			t.Errorf("version %d: %+v", v, *got)
		}
	}
}

func TestAStateOfAnotherVersionIsRefused(t *testing.T) {
	b := (&State{Dir: "/"}).Encode()
	at := len(magic)
	for _, v := range []byte{0, Oldest - 1, Version + 1, 99} {
		other := slices.Clone(b)
		other[at] = v
		if _, err := DecodeState(other); err == nil {
			t.Errorf("version %d is read", v)
		}
	}
	for n := range b {
		if _, err := DecodeState(b[:n]); err == nil {
			t.Errorf("%d bytes of %d are read", n, len(b))
		}
	}
	if _, err := DecodeState(append(slices.Clone(b), 0)); err == nil {
		t.Error("what has more is read")
	}
}

// FuzzState reads any state: what is read is written and read again alike.
func FuzzState(f *testing.F) {
	var s State
	settle(reflect.ValueOf(&s).Elem(), "State")
	f.Add(s.Encode())
	f.Add((&State{}).Encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeState(b)
		if err != nil {
			return
		}
		again, err := DecodeState(got.Encode())
		if err != nil || !bytes.Equal(again.Encode(), got.Encode()) {
			t.Errorf("%v: %+v becomes %+v", err, got, again)
		}
	})
}
