// Package record writes and reads what one handoff leaves to the next one.
//
// Its invariant: what is read is what was written. Each type lists its fields
// once, in a function that gets a Codec; the same list writes and reads.
//
// The format is JSON, for people who look at it. A field that is zero is left
// out, and a name that the list does not have is ignored, so that another version
// of hotinit can go on from the record. A record names its Version, and one of a
// version that is not known is not read. The format is written by hand: a record
// is written at every step, first of all while a process waits to be executed,
// and read only after a handoff was lost. To learn the types by reflection, as
// encoding/json does, would take a twentieth of a start.
package record

import (
	"cmp"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Version is the version of the records that are written. It is counted up when a
// record of the one before would be read wrongly, or an older hotinit would read
// this one wrongly. A field that may be missing, or be ignored, is no reason. A
// golden record of each version is kept in handoff/testdata.
const (
	Version = 1
	Oldest  = 1
)

// Codec writes or reads the fields of one object.
type Codec struct {
	b    []byte                     // written so far
	in   map[string]json.RawMessage // what is read, nil while writing
	fail *error                     // the first error of reading
}

// Write returns the record that fields lists, with its version.
func Write(fields func(*Codec)) []byte {
	c := Codec{b: append(make([]byte, 0, 1024), '{')}
	v := Version
	Int(&c, "Version", &v)
	fields(&c)
	return append(c.b, '}')
}

// Read reads a record into what fields lists.
func Read(b []byte, fields func(*Codec)) error {
	var err error
	c := Codec{fail: &err}
	c.inside(b, "the record", func(c *Codec) {
		v := 0
		if Int(c, "Version", &v); v < Oldest || v > Version {
			c.bad("Version", fmt.Errorf("%d is not known to this hotinit, which reads %d to %d", v, Oldest, Version))
			return
		}
		fields(c)
	})
	return err
}

// inside reads an object.
func (c *Codec) inside(raw []byte, name string, fields func(*Codec)) {
	sub := Codec{fail: c.fail, in: map[string]json.RawMessage{}}
	if err := json.Unmarshal(raw, &sub.in); err != nil {
		c.bad(name, err)
		return
	}
	fields(&sub)
}

func (c *Codec) bad(name string, err error) {
	if *c.fail == nil {
		*c.fail = fmt.Errorf("%s: %w", name, err)
	}
}

// reading reports whether the codec reads.
func (c *Codec) reading() bool { return c.in != nil }

// value reads one value by encoding/json.
func (c *Codec) value(name string, v any) {
	if raw, ok := c.in[name]; ok {
		if err := json.Unmarshal(raw, v); err != nil {
			c.bad(name, err)
		}
	}
}

func (c *Codec) comma() {
	if last := c.b[len(c.b)-1]; last != '{' && last != '[' {
		c.b = append(c.b, ',')
	}
}

func (c *Codec) name(s string) {
	c.comma()
	c.quote(s)
	c.b = append(c.b, ':')
}

// quote appends a string of valid UTF-8.
func (c *Codec) quote(s string) {
	c.b = append(c.b, '"')
	for i := range len(s) {
		switch b := s[i]; {
		case b == '"' || b == '\\':
			c.b = append(c.b, '\\', b)
		case b < ' ':
			c.b = fmt.Appendf(c.b, `\u%04x`, b)
		default:
			c.b = append(c.b, b)
		}
	}
	c.b = append(c.b, '"')
}

// Bool is a field.
func (c *Codec) Bool(name string, v *bool) {
	if c.reading() {
		c.value(name, v)
	} else if *v {
		c.name(name)
		c.b = append(c.b, "true"...)
	}
}

// Int is a field that is a number.
func Int[T ~int | ~int64](c *Codec, name string, v *T) {
	if c.reading() {
		c.value(name, v)
	} else if *v != 0 {
		c.name(name)
		c.b = strconv.AppendInt(c.b, int64(*v), 10)
	}
}

// Uint is a field that is a number without a sign.
func Uint[T ~uint8 | ~uint32 | ~uint64](c *Codec, name string, v *T) {
	if c.reading() {
		c.value(name, v)
	} else if *v != 0 {
		c.name(name)
		c.b = strconv.AppendUint(c.b, uint64(*v), 10)
	}
}

// raw begins a string that is not plain text. What follows is in base64.
const raw = "\x00"

// String is a field. It may hold any bytes, as a file name may.
func (c *Codec) String(name string, v *string) {
	if c.reading() {
		c.value(name, v)
		s, err := decode(*v)
		if err != nil {
			c.bad(name, err)
		}
		*v = s
	} else if *v != "" {
		c.name(name)
		c.quote(encode(*v))
	}
}

// encode makes any string one that JSON can hold.
func encode(s string) string {
	if plain(s) {
		return s
	}
	return raw + base64.RawStdEncoding.EncodeToString([]byte(s))
}

// decode is the reverse of encode.
func decode(s string) (string, error) {
	if len(s) == 0 || s[0] != raw[0] {
		return s, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(s[1:])
	return string(b), err
}

// plain reports whether a string is text without control characters, which JSON
// holds as it is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Time is a field.
func (c *Codec) Time(name string, v *time.Time) {
	if c.reading() {
		c.value(name, v)
	} else if !v.IsZero() {
		c.name(name)
		c.b = append(v.AppendFormat(append(c.b, '"'), time.RFC3339Nano), '"')
	}
}

// Text is a field that writes itself as text; zero says that it is left out.
func Text[T any, P interface {
	*T
	encoding.TextMarshaler
	encoding.TextUnmarshaler
}](c *Codec, name string, v P, zero bool) {
	if c.reading() {
		c.value(name, v)
	} else if !zero {
		c.name(name)
		text, _ := v.MarshalText()
		c.quote(string(text))
	}
}

// Object is a field that has fields itself.
func (c *Codec) Object(name string, fields func(*Codec)) {
	if c.reading() {
		if raw, ok := c.in[name]; ok {
			c.inside(raw, name, fields)
		}
		return
	}
	c.name(name)
	c.b = append(c.b, '{')
	fields(c)
	c.b = append(c.b, '}')
}

// List is a field that is a slice of objects.
func List[T any](c *Codec, name string, v *[]T, fields func(*Codec, *T)) {
	if c.reading() {
		var all []json.RawMessage
		c.value(name, &all)
		for _, raw := range all {
			var e T
			c.inside(raw, name, func(c *Codec) { fields(c, &e) })
			*v = append(*v, e)
		}
		return
	}
	if len(*v) == 0 {
		return
	}
	c.name(name)
	c.b = append(c.b, '[')
	for i := range *v {
		c.comma()
		c.b = append(c.b, '{')
		fields(c, &(*v)[i])
		c.b = append(c.b, '}')
	}
	c.b = append(c.b, ']')
}

// Ints is a field that is a slice of numbers.
func (c *Codec) Ints(name string, v *[]int) {
	if c.reading() {
		c.value(name, v)
		return
	}
	if len(*v) == 0 {
		return
	}
	c.name(name)
	c.b = append(c.b, '[')
	for _, n := range *v {
		c.comma()
		c.b = strconv.AppendInt(c.b, int64(n), 10)
	}
	c.b = append(c.b, ']')
}

// Map is a field that is a map; value is how a value is written under its name.
// The keys, numbers or strings, are written in order, so that equal maps are
// written equally. A value that is zero is left out.
func Map[K cmp.Ordered, V any](c *Codec, name string, m *map[K]V, value func(c *Codec, name string, v *V)) {
	if !c.reading() {
		if len(*m) == 0 {
			return
		}
		c.Object(name, func(c *Codec) {
			for _, k := range slices.Sorted(maps.Keys(*m)) {
				v := (*m)[k]
				value(c, keyName(k), &v)
			}
		})
		return
	}
	if _, ok := c.in[name]; !ok {
		return
	}
	*m = make(map[K]V)
	c.Object(name, func(c *Codec) {
		for key := range c.in {
			var k K
			if err := parseKey(key, &k); err != nil {
				c.bad(name, err)
				continue
			}
			var v V
			value(c, key, &v)
			(*m)[k] = v
		}
	})
}

func keyName(k any) string {
	if n, ok := k.(int); ok {
		return strconv.Itoa(n)
	}
	return encode(k.(string))
}

func parseKey(key string, k any) (err error) {
	switch k := k.(type) {
	case *int:
		*k, err = strconv.Atoi(key)
	case *string:
		*k, err = decode(key)
	}
	return err
}
