package release

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"strconv"
)

// The little of elf(5) that tells a complete file from half of one. debug/elf
// would do, but it brings compress/zlib and debug/dwarf into PID 1, and it
// refuses files that the kernel runs.
const (
	elfMagic = "\x7fELF"

	elfClass32, elfClass64 = 1, 2
	elfLSB, elfMSB         = 1, 2

	elfExec, elfDyn = 2, 3

	elfPNXNum    = 0xffff
	elfPTInterp  = 3
	elfPTLoad    = 1
	elfSHTNoBits = 8
)

// A machine is what e_ident and e_machine must say.
type machine struct {
	order  binary.ByteOrder
	number uint16
	small  uint16 // a 32-bit machine that the kernel runs as well; 0: none
	is64   bool
	name   string
}

// native is this machine, and what hotinit was built for is what it is: under
// emulation both are the emulated one.
var native = nativeMachine(runtime.GOARCH)

func nativeMachine(goarch string) machine {
	le, be := binary.LittleEndian, binary.BigEndian
	switch goarch {
	case "amd64":
		return machine{le, 62, 3, true, "x86_64"}
	case "386":
		return machine{le, 3, 0, false, "i386"}
	case "arm64":
		return machine{le, 183, 40, true, "aarch64"}
	case "arm":
		return machine{le, 40, 0, false, "arm"}
	case "riscv64":
		return machine{le, 243, 0, true, "riscv64"}
	case "loong64":
		return machine{le, 258, 0, true, "loongarch64"}
	case "ppc64le":
		return machine{le, 21, 0, true, "ppc64le"}
	case "ppc64":
		return machine{be, 21, 20, true, "ppc64"}
	case "s390x":
		return machine{be, 22, 0, true, "s390x"}
	case "mips", "mips64":
		return machine{be, 8, 8, goarch == "mips64", goarch}
	case "mipsle", "mips64le":
		return machine{le, 8, 8, goarch == "mips64le", goarch}
	}
	return machine{le, 0, 0, true, goarch}
}

func elfMachineName(order binary.ByteOrder, number uint16, class byte) string {
	switch number {
	case 3:
		return "i386"
	case 8:
		return "mips"
	case 20:
		return "ppc"
	case 21:
		if order == binary.LittleEndian {
			return "ppc64le"
		}
		return "ppc64"
	case 22:
		return "s390x"
	case 40:
		return "arm"
	case 62:
		if class == elfClass32 {
			return "x32"
		}
		return "x86_64"
	case 183:
		return "aarch64"
	case 243:
		if class == elfClass32 {
			return "riscv32"
		}
		return "riscv64"
	case 258:
		return "loongarch64"
	}
	return "machine " + strconv.Itoa(int(number))
}

// elfHeader is what is needed of the file header, widened to 64 bits.
type elfHeader struct {
	order                            binary.ByteOrder
	is64                             bool
	phoff, shoff                     uint64
	phentsize, phnum, shentsize, shn uint64
	shstrndx                         uint16
}

// elfReader reads inside the file only: size is the file's, and nothing is
// read that does not end before it.
type elfReader struct {
	r    io.ReaderAt
	size uint64
}

// inside reports whether n bytes from off are in the file.
func (e elfReader) inside(off, n uint64) bool { return off <= e.size && n <= e.size-off }

func (e elfReader) read(p []byte, off uint64) error {
	if !e.inside(off, uint64(len(p))) {
		return io.ErrUnexpectedEOF
	}
	n, err := e.r.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF // it shrank
	}
	return err
}

// checkELF judges a file that starts with the ELF magic: is it for machine m,
// and is all of it there? It returns the interpreter that it names, if any.
// The sections count too, though the kernel loads none: a linker may write the
// symbols last and the tables first, and half a copy has all its segments.
func checkELF(r io.ReaderAt, size int64, m machine) (interpreter string, err error) {
	if size < 0 {
		return "", refuse("a file of negative size")
	}
	e := elfReader{r, uint64(size)}
	h, err := e.header(m)
	if err != nil {
		return "", err
	}
	interpreter, err = e.segments(h)
	if err != nil {
		return "", err
	}
	return interpreter, e.sections(h)
}

// loadable reports whether a program for whatever machine has all that is loaded
// of it. The kernel runs more of those than checkELF lets pass: for another machine
// by an emulator (binfmt_misc), and with a section table that a packer left behind.
func loadable(r io.ReaderAt, size int64) bool {
	if size < 0 {
		return false
	}
	e := elfReader{r, uint64(size)}
	h, err := e.header(machine{})
	if err == nil {
		_, err = e.segments(h)
	}
	return err == nil
}

func (e elfReader) header(m machine) (elfHeader, error) {
	var h elfHeader
	var b [64]byte
	if err := e.read(b[:20], 0); err != nil {
		return h, refuse("truncated ELF file: %d bytes, less than its header", e.size)
	}
	if string(b[:4]) != elfMagic {
		return h, refuse("not an ELF file")
	}
	class, data := b[4], b[5]
	switch data {
	case elfLSB:
		h.order = binary.LittleEndian
	case elfMSB:
		h.order = binary.BigEndian
	default:
		return h, refuse("not a valid ELF file: byte order %d", data)
	}
	h.is64 = class == elfClass64
	if class != elfClass32 && class != elfClass64 {
		return h, refuse("not a valid ELF file: class %d", class)
	}
	if b[6] != 1 {
		return h, refuse("not a valid ELF file: version %d", b[6])
	}
	typ, number := h.order.Uint16(b[16:]), h.order.Uint16(b[18:])
	fits := h.order == m.order && (number == m.number && h.is64 == m.is64 ||
		number == m.small && m.small != 0 && !h.is64 ||
		number == 62 && m.number == 62) // x32
	if !fits && m.number != 0 {
		return h, refuse("ELF file for %s, this machine is %s", elfMachineName(h.order, number, class), m.name)
	}
	switch typ {
	case elfExec, elfDyn:
	case 1:
		return h, refuse("an ELF object file, not linked yet")
	case 4:
		return h, refuse("an ELF core dump, not a program")
	default:
		return h, refuse("not an ELF program: type %d", typ)
	}

	hsize, phsize, shsize := 52, uint64(32), uint64(40)
	if h.is64 {
		hsize, phsize, shsize = 64, 56, 64
	}
	if err := e.read(b[:hsize], 0); err != nil {
		return h, refuse("truncated ELF file: %d bytes, less than its header", e.size)
	}
	rest := b[40:52]
	if h.is64 {
		h.phoff, h.shoff = h.order.Uint64(b[32:]), h.order.Uint64(b[40:])
		rest = b[52:64]
	} else {
		h.phoff, h.shoff = uint64(h.order.Uint32(b[28:])), uint64(h.order.Uint32(b[32:]))
	}
	h.phentsize, h.phnum = uint64(h.order.Uint16(rest[2:])), uint64(h.order.Uint16(rest[4:]))
	h.shentsize, h.shn = uint64(h.order.Uint16(rest[6:])), uint64(h.order.Uint16(rest[8:]))
	h.shstrndx = h.order.Uint16(rest[10:])

	if h.phnum == 0 || h.phentsize != phsize {
		return h, refuse("not a valid ELF program: %d program headers of %d bytes", h.phnum, h.phentsize)
	}
	if h.shn == 0 && h.shstrndx == 0 {
		h.shoff = 0 // packers leave an offset behind and no table
	}
	if h.shoff == 0 {
		h.shn = 0
		if h.phnum == elfPNXNum {
			return h, refuse("not a valid ELF program: no section table to count its program headers")
		}
		return h, nil
	}
	if h.shentsize != shsize {
		return h, refuse("not a valid ELF file: section headers of %d bytes", h.shentsize)
	}
	if h.shn == 0 || h.phnum == elfPNXNum {
		// elf(5): numbers too great for 16 bits are in the first section header.
		if err := e.read(b[:shsize], h.shoff); err != nil {
			return h, e.truncated("the section table starts", h.shoff)
		}
		if h.shn == 0 {
			if h.is64 {
				h.shn = h.order.Uint64(b[32:])
			} else {
				h.shn = uint64(h.order.Uint32(b[20:]))
			}
		}
		if h.phnum == elfPNXNum {
			info := b[28:]
			if h.is64 {
				info = b[44:]
			}
			h.phnum = uint64(h.order.Uint32(info))
		}
	}
	return h, nil
}

func (e elfReader) truncated(what string, at uint64) error {
	return refuse("truncated ELF file: %s at byte %d but the file has %d", what, at, e.size)
}

// table calls entry with each of n entries of a table, reading some at a time.
func (e elfReader) table(what string, off, n, entsize uint64, entry func(b []byte) error) error {
	if n > e.size/entsize || !e.inside(off, n*entsize) {
		end := off + n*entsize
		if n > (1<<63)/entsize || end < off {
			return refuse("truncated ELF file: the %s do not fit into the file's %d bytes", what, e.size)
		}
		return e.truncated("the table of "+what+" ends", end)
	}
	var buf [64 * 64]byte
	chunk := uint64(len(buf)) / entsize
	for n > 0 {
		k := min(n, chunk)
		b := buf[:k*entsize]
		if err := e.read(b, off); err != nil {
			return &Reason{Text: "its " + what + " cannot be read: " + err.Error(), Err: err}
		}
		for ; len(b) > 0; b = b[entsize:] {
			if err := entry(b[:entsize]); err != nil {
				return err
			}
		}
		off += k * entsize
		n -= k
	}
	return nil
}

func (e elfReader) segments(h elfHeader) (interpreter string, err error) {
	loads := 0
	err = e.table("program headers", h.phoff, h.phnum, h.phentsize, func(b []byte) error {
		typ := h.order.Uint32(b)
		var off, size uint64
		if h.is64 {
			off, size = h.order.Uint64(b[8:]), h.order.Uint64(b[32:])
		} else {
			off, size = uint64(h.order.Uint32(b[4:])), uint64(h.order.Uint32(b[16:]))
		}
		if typ == elfPTLoad {
			loads++
		}
		if size == 0 {
			return nil
		}
		if !e.inside(off, size) {
			return e.outside("a segment", off, size)
		}
		if typ != elfPTInterp {
			return nil
		}
		const pathMax = 4096 // as the kernel has it
		if size < 2 || size > pathMax {
			return refuse("not a valid ELF program: the interpreter's name has %d bytes", size)
		}
		name := make([]byte, size)
		if err := e.read(name, off); err != nil {
			return &Reason{Text: "its interpreter's name cannot be read: " + err.Error(), Err: err}
		}
		end := bytes.IndexByte(name, 0)
		if end <= 0 {
			return refuse("not a valid ELF program: the interpreter's name does not end")
		}
		interpreter = string(name[:end])
		return nil
	})
	if err == nil && loads == 0 {
		err = refuse("not a valid ELF program: nothing to load")
	}
	return interpreter, err
}

func (e elfReader) sections(h elfHeader) error {
	if h.shn == 0 {
		return nil
	}
	first := true
	return e.table("section headers", h.shoff, h.shn, h.shentsize, func(b []byte) error {
		if first {
			first = false // the null section, whose fields mean something else
			return nil
		}
		typ := h.order.Uint32(b[4:])
		if typ == elfSHTNoBits || typ == 0 {
			return nil
		}
		var off, size uint64
		if h.is64 {
			off, size = h.order.Uint64(b[24:]), h.order.Uint64(b[32:])
		} else {
			off, size = uint64(h.order.Uint32(b[16:])), uint64(h.order.Uint32(b[20:]))
		}
		if size != 0 && !e.inside(off, size) {
			return e.outside("a section", off, size)
		}
		return nil
	})
}

func (e elfReader) outside(what string, off, size uint64) error {
	if end := off + size; end >= off {
		return e.truncated(what+" ends", end)
	}
	return refuse("not a valid ELF file: %s of %d bytes at byte %d", what, size, off)
}
