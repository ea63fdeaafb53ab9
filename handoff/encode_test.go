package handoff

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// fill sets every field of what v is to something random and not zero, so that
// one that the encoder does not know is missing.
func fill(v reflect.Value, r *rand.Rand) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<32), r.Int64N(1e9)).UTC()))
		return
	}
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
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + r.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, r)
			fill(value, r)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		odd := []string{"", "\xff\xfe", "\x00\x01", "\"", "\\", "\n", "\x00", "é", "日本", "</script>", "\u2028", "{[,:]}"}
		v.SetString(fmt.Sprint(odd[r.IntN(len(odd))], r.Int()))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1 + r.Int64())
		if r.IntN(2) == 0 {
			v.SetInt(-v.Int())
		}
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(1 + r.Uint64()>>1&(1<<(v.Type().Bits()-1)-1))
	default:
		panic(v.Type())
	}
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	for seed := range uint64(500) {
		var written, got snapshot
		if seed > 0 { // all zero is one case
			fill(reflect.ValueOf(&written).Elem(), rand.New(rand.NewPCG(seed, 1)))
		}
		text := written.encode()
		if err := got.decode(text); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if !reflect.DeepEqual(got, written) {
			t.Fatalf("read    %+v\nwritten %+v\n%s", got, written, text)
		}
		if again := got.encode(); string(again) != string(text) {
			t.Fatalf("the same is written as\n%s\n%s", text, again)
		}
	}
}

// FuzzSnapshot reads any record: what is read is written and read again alike.
func FuzzSnapshot(f *testing.F) {
	for seed := range uint64(4) {
		var s snapshot
		if seed > 0 {
			fill(reflect.ValueOf(&s).Elem(), rand.New(rand.NewPCG(seed, 1)))
		}
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again snapshot
		if s.decode(b) != nil {
			return
		}
		text := s.encode()
		if err := again.decode(text); err != nil || !bytes.Equal(again.encode(), text) {
			t.Errorf("%q is read and written as %q, %v", b, text, err)
		}
	})
}
