package record

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// sample has a field of each kind that outsiders influence.
type sample struct {
	Text  string
	N     int
	Flags []int
	Texts map[string]string
	List  []sample
}

func (s *sample) fields(c *Codec) {
	c.String("Text", &s.Text)
	Int(c, "N", &s.N)
	c.Ints("Flags", &s.Flags)
	Map(c, "Texts", &s.Texts, func(c *Codec, name string, v *string) { c.String(name, v) })
	List(c, "List", &s.List, func(c *Codec, e *sample) { e.fields(c) })
}

func (s *sample) equal(o *sample) bool {
	empty := func(_, v string) bool { return v == "" }
	maps.DeleteFunc(s.Texts, empty) // they are not written
	maps.DeleteFunc(o.Texts, empty)
	return s.Text == o.Text && s.N == o.N && slices.Equal(s.Flags, o.Flags) && maps.Equal(s.Texts, o.Texts) &&
		slices.EqualFunc(s.List, o.List, func(a, b sample) bool { return a.equal(&b) })
}

// A file name may hold any bytes but NUL and the slash, and a status text any.
func TestAnyStringIsReadAsItWasWrittenAndCostsAtMostTwice(t *testing.T) {
	for _, text := range []string{
		"", "plain", "\xff", "\x00", "\x00cGxhaW4", "a\xffb", "\"\\", "\x1b[2J", "\u2028", "日本",
		strings.Repeat("\xff", 8192), strings.Repeat("<", 8192), strings.Repeat("\"", 8192), strings.Repeat("\n", 8192),
	} {
		written, got := sample{Text: text}, sample{}
		b := Write(written.fields)
		if !json.Valid(b) {
			t.Errorf("%.40q is no JSON: %.80s", text, b)
		}
		if err := Read(b, got.fields); err != nil || got.Text != text {
			t.Errorf("%.40q is read as %.40q, %v", text, got.Text, err)
		}
		if len(b) > 2*len(text)+40 {
			t.Errorf("%.40q, of %d bytes, takes %d", text, len(text), len(b))
		}
	}
}

func TestAnUnknownFieldIsIgnoredAndAWrongOneIsAnError(t *testing.T) {
	var s sample
	if err := Read([]byte(`{"Version":1,"N":7,"Later":{"x":[1]},"Text":"x"}`), s.fields); err != nil || s.N != 7 || s.Text != "x" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, b := range []string{``, `{`, `[]`, `{"Version":1,"N":"x"}`, `{"Version":1,"List":[1]}`, `{"Version":1,"Texts":{"a":1}}`, `{"Version":1,"Text":"\u0000!"}`,
		`{"N":7}`, `{"Version":0,"N":7}`, `{"Version":2,"N":7}`, `{"Version":-1}`, `{"Version":"1"}`} {
		if err := Read([]byte(b), new(sample).fields); err == nil {
			t.Errorf("%s is read without an error", b)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"Text":"a","N":1,"Flags":[1,2],"Texts":{"k":"v"},"List":[{"Text":"\u0000/w"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again sample
		if Read(b, s.fields) != nil {
			return
		}
		if err := Read(Write(s.fields), again.fields); err != nil || !s.equal(&again) {
			t.Errorf("%+v is read as %+v, %v", s, again, err)
		}
	})
}
