package handoff

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/record"
)

var updateRecord = flag.Bool("update-record", false, "write testdata for a new record.Version")

// settle gives every field of what v is a value that follows from its name alone.
func settle(v reflect.Value, path string) {
	h := fnv.New32a()
	h.Write([]byte(path))
	n := h.Sum32()
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(int64(n), int64(n)%1e9).UTC()))
		return
	}
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
	case reflect.Array:
		for i := range v.Len() {
			settle(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		settle(key, path+" key")
		settle(value, path+" value")
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprintf("%s\n%d", path, n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(n) & (1<<(v.Type().Bits()-1) - 1))
	default:
		panic(v.Type())
	}
}

func goldenRecord(version int) string { return fmt.Sprintf("testdata/record-%d.json", version) }

// within returns where a record is not as an older one: what that has must still
// be there, and what is new is left alone.
func within(path string, old, now any) (wrong []string) {
	switch old := old.(type) {
	case map[string]any:
		other, _ := now.(map[string]any)
		for name, v := range old {
			wrong = append(wrong, within(path+"."+name, v, other[name])...)
		}
	case []any:
		other, _ := now.([]any)
		for i, v := range old {
			if i >= len(other) {
				return append(wrong, path)
			}
			wrong = append(wrong, within(fmt.Sprintf("%s[%d]", path, i), v, other[i])...)
		}
	default:
		if old != now {
			wrong = append(wrong, path)
		}
	}
	return wrong
}

// TestTheRecordIsThatOfItsVersion fails where something that another hotinit reads
// in the record is written in another way, or not any more, and record.Version did
// not change. A new field that may be missing is no new version.
func TestTheRecordIsThatOfItsVersion(t *testing.T) {
	var s snapshot
	settle(reflect.ValueOf(&s).Elem(), "snapshot")
	now := s.encode()
	file := goldenRecord(record.Version)
	old, err := os.ReadFile(file)
	if *updateRecord && os.IsNotExist(err) {
		old, err = now, os.WriteFile(file, now, 0o644)
	}
	if err != nil {
		t.Fatalf("%v: go test ./handoff -run RecordIsThatOf -update-record writes it", err)
	}
	var before, after any
	if json.Unmarshal(old, &before) != nil || json.Unmarshal(now, &after) != nil {
		t.Fatal("no JSON")
	}
	if wrong := within("", before, after); len(wrong) > 0 {
		t.Errorf("%q are not as in %s: count record.Version up, let decode still read the older one or count record.Oldest up, and write the new file by -update-record", wrong, file)
	}
}

// TestTheRecordOfEachVersionIsRead reads what a handoff of each version that is
// understood has left.
func TestTheRecordOfEachVersionIsRead(t *testing.T) {
	var want snapshot
	settle(reflect.ValueOf(&want).Elem(), "snapshot")
	for v := record.Oldest; v <= record.Version; v++ {
		b, err := os.ReadFile(goldenRecord(v))
		if err != nil {
			t.Fatal(err)
		}
		var got snapshot
		if err := got.decode(b); err != nil {
			t.Errorf("version %d: %v", v, err)
			continue
		}
		if len(got.State.Gens) != 2 || got.State.Gens[1].PID != want.State.Gens[1].PID || got.State.Next != want.State.Next ||
			!reflect.DeepEqual(got.Commands, want.Commands) || !reflect.DeepEqual(got.Groups, want.Groups) {
			t.Errorf("version %d: %+v", v, got)
		}
	}
}
