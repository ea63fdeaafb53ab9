package release

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// self is the test's own executable, a complete ELF file.
func self(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small makes a minimal ELF program: one segment that is the whole file, an
// interpreter, and a section table last.
func small(m machine, interpreter string) []byte {
	o := m.order.(binary.AppendByteOrder)
	class, word := byte(elfClass32), func(b []byte, v uint64) []byte { return o.AppendUint32(b, uint32(v)) }
	hsize, phsize, shsize := 52, 32, 40
	if m.is64 {
		class, word, hsize, phsize, shsize = elfClass64, o.AppendUint64, 64, 56, 64
	}
	data := byte(elfLSB)
	if m.order == binary.BigEndian {
		data = elfMSB
	}
	name := append([]byte(interpreter), 0)
	phnum := 1
	if interpreter != "" {
		phnum = 2
	}
	nameAt := hsize + phnum*phsize
	shoff := nameAt + len(name)
	size := shoff + 2*shsize

	b := append([]byte(elfMagic), class, data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = o.AppendUint16(b, elfExec)
	b = o.AppendUint16(b, m.number)
	b = o.AppendUint32(b, 1)
	b = word(b, 0x1000)
	b = word(b, uint64(hsize))
	b = word(b, uint64(shoff))
	b = o.AppendUint32(b, 0)
	for _, v := range []int{hsize, phsize, phnum, shsize, 2, 0} {
		b = o.AppendUint16(b, uint16(v))
	}
	segment := func(typ, off, size int) {
		b = o.AppendUint32(b, uint32(typ))
		if m.is64 {
			b = o.AppendUint32(b, 5)
		}
		for _, v := range []int{off, 0, 0, size, size} {
			b = word(b, uint64(v))
		}
		if !m.is64 {
			b = o.AppendUint32(b, 5)
		}
		b = word(b, 1)
	}
	segment(elfPTLoad, 0, size)
	if interpreter != "" {
		segment(elfPTInterp, nameAt, len(name))
	}
	b = append(b, name...)
	b = append(b, make([]byte, shsize)...)
	section := o.AppendUint32(o.AppendUint32(nil, 0), 1)
	for _, v := range []int{0, 0, nameAt, len(name)} {
		section = word(section, uint64(v))
	}
	return append(b, append(section, make([]byte, shsize-len(section))...)...)
}

func judge(b []byte, m machine) (string, error) {
	return checkELF(bytes.NewReader(b), int64(len(b)), m)
}

func TestELFCompleteFileIsAccepted(t *testing.T) {
	if _, err := judge(self(t), native); err != nil {
		t.Fatal(err)
	}
}

func TestELFSystemProgramsAreAccepted(t *testing.T) {
	for _, path := range []string{"/bin/sh", "/bin/ls", "/usr/bin/env", "/usr/bin/gcc", "/usr/bin/git", "/sbin/ldconfig"} {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(b, []byte(elfMagic)) {
			continue
		}
		if _, err := judge(b, native); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestELFEveryTruncationOfASmallFileIsRefused(t *testing.T) {
	for _, arch := range []string{"amd64", "386", "s390x", "ppc64", "arm64", "mips"} {
		m := nativeMachine(arch)
		whole := small(m, "/lib/ld.so")
		if name, err := judge(whole, m); err != nil || name != "/lib/ld.so" {
			t.Fatalf("%s: the whole file: %q, %v", arch, name, err)
		}
		for n := range whole {
			if _, err := judge(whole[:n], m); err == nil {
				t.Fatalf("%s: accepted %d of %d bytes", arch, n, len(whole))
			}
		}
	}
}

func TestELFTruncationsOfARealProgramAreRefused(t *testing.T) {
	whole := self(t)
	f, err := elf.NewFile(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := uint64(0) // of what the file's own tables speak of
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOBITS {
			end = max(end, s.Offset+s.FileSize)
		}
	}
	for n := uint64(0); n < end; n += 4093 {
		if _, err := judge(whole[:n], native); err == nil {
			t.Fatalf("accepted %d of %d bytes", n, len(whole))
		}
	}
	if _, err := judge(whole[:end-1], native); err == nil {
		t.Fatalf("accepted all but the last byte")
	}
}

func TestELFReasons(t *testing.T) {
	m := nativeMachine("amd64")
	whole := small(m, "/lib/ld.so")
	patch := func(at int, b ...byte) []byte {
		c := bytes.Clone(whole)
		copy(c[at:], b)
		return c
	}
	for _, c := range []struct {
		name, want string
		file       []byte
	}{
		{"other machine", "ELF file for aarch64, this machine is x86_64", small(nativeMachine("arm64"), "")},
		{"other byte order", "ELF file for s390x, this machine is x86_64", small(nativeMachine("s390x"), "")},
		{"header only", "truncated ELF file", whole[:40]},
		{"object file", "an ELF object file, not linked yet", patch(16, 1)},
		{"core dump", "an ELF core dump", patch(16, 4)},
		{"no segments", "0 program headers", patch(56, 0, 0)},
		{"nothing to load", "nothing to load", patch(64, 6)},
		{"segment outside", "truncated ELF file: a segment ends at byte 65535 but the file has", patch(64+32, 0xff, 0xff)},
		{"segment that overflows", "not a valid ELF file: a segment of 18446744073709551615 bytes at byte 1", patch(64+8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{"section outside", "truncated ELF file: a section ends at", patch(len(whole)-64+24, 0xff, 0xff)},
		{"section table outside", "truncated ELF file: the table of section headers ends at byte", patch(40, 0xff, 0xff)},
		{"interpreter without end", "the interpreter's name does not end", patch(64+56+56+10, 'x')},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := judge(c.file, m)
			var reason *Reason
			if !errors.As(err, &reason) || !strings.Contains(reason.Text, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestELFThirtyTwoBitProgramsRunOnTheir64BitMachine(t *testing.T) {
	if _, err := judge(small(nativeMachine("386"), ""), nativeMachine("amd64")); err != nil {
		t.Error(err)
	}
	if _, err := judge(small(nativeMachine("amd64"), ""), nativeMachine("386")); err == nil {
		t.Error("accepted a 64-bit program on a 32-bit machine")
	}
}

func TestELFWithoutSectionTableIsAccepted(t *testing.T) {
	m := nativeMachine("amd64")
	b := small(m, "")
	copy(b[40:], make([]byte, 8)) // e_shoff
	copy(b[60:], make([]byte, 4)) // e_shnum, e_shstrndx
	if _, err := judge(b, m); err != nil {
		t.Error(err)
	}
}

// fence fails the test when anything outside the file is read.
type fence struct {
	t *testing.T
	b []byte
}

func (f fence) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(f.b)) {
		f.t.Fatalf("reads %d bytes at %d of a file of %d", len(p), off, len(f.b))
	}
	return copy(p, f.b[off:]), nil
}

var _ io.ReaderAt = fence{}

// FuzzELF: whatever the file says, the check ends, reads inside it, and accepts
// nothing that debug/elf finds to reach outside.
func FuzzELF(f *testing.F) {
	for _, arch := range []string{"amd64", "386", "s390x", "arm64"} {
		f.Add(small(nativeMachine(arch), "/lib/ld.so"), arch)
		f.Add(small(nativeMachine(arch), ""), arch)
	}
	f.Add(self(f)[:4096], "amd64")
	f.Fuzz(func(t *testing.T, b []byte, arch string) {
		m := nativeMachine(arch)
		name, err := checkELF(fence{t, b}, int64(len(b)), m)
		if err != nil {
			return
		}
		if strings.ContainsRune(name, 0) || len(name) > 4096 {
			t.Fatalf("interpreter %q", name)
		}
		for n := range min(len(b), 64) {
			if _, err := checkELF(fence{t, b[:n]}, int64(n), m); err == nil {
				t.Fatalf("accepted %d bytes of %d", n, len(b))
			}
		}
		e, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			return // stricter than the kernel
		}
		for _, p := range e.Progs {
			if p.Filesz != 0 && (p.Off > uint64(len(b)) || p.Filesz > uint64(len(b))-p.Off) {
				t.Fatalf("accepted a segment of %d bytes at %d of %d", p.Filesz, p.Off, len(b))
			}
		}
	})
}
