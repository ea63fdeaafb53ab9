package adopt

import "golang.org/x/sys/unix"

// Calls says which system calls a filter notifies.
type Calls uint8

const (
	// Shutdown is shutdown(2) for reading: on a shared socket it would end it
	// for all.
	Shutdown Calls = 1 << iota
	// Bind is bind(2) and listen(2).
	Bind
	// Options is setsockopt(2) with an option that matters to bind(2). It is for
	// where the app's own socket cannot be taken.
	Options
)

// Offsets in struct seccomp_data, seccomp(2). The arguments' lower halves, on
// machines that have them first.
const (
	offNR   = 0
	offArch = 4
	offArgs = 16
)

// Flags are those that Program is installed with.
//
// SPEC_ALLOW: else kernels before 5.16 would turn on mitigations that slow the
// app down. WAIT_KILLABLE_RECV (5.19): a signal, such as those by which Go
// preempts its threads, does not end a call that is being dealt with.
func Flags() uint {
	flags := uint(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
	if flagsKnown(flags | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
		flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	return flags
}

// Program is the filter: it looks at the architecture, notifies the calls asked
// for, and lets everything else pass.
func Program(calls Calls) []unix.SockFilter {
	p := program{}
	p.load(offArch)
	p.unless(auditArch, "allow")
	p.load(offNR)
	if calls&Bind != 0 {
		p.when(unix.SYS_BIND, "notify")
		p.when(unix.SYS_LISTEN, "notify")
	}
	if calls&Shutdown != 0 {
		p.when(unix.SYS_SHUTDOWN, "shutdown")
	}
	if calls&Options != 0 {
		p.when(unix.SYS_SETSOCKOPT, "setsockopt")
	}
	p.jump("allow")
	if calls&Shutdown != 0 {
		p.label("shutdown")
		p.load(offArgs + 8)
		p.when(unix.SHUT_WR, "allow")
		p.jump("notify")
	}
	if calls&Options != 0 {
		p.label("setsockopt")
		p.load(offArgs + 8)
		for _, level := range noted {
			p.when(level.level, level.label)
		}
		p.jump("allow")
		for _, level := range noted {
			p.label(level.label)
			p.load(offArgs + 16)
			for _, name := range level.names {
				p.when(uint32(name), "notify")
			}
			p.jump("allow")
		}
	}
	p.label("allow")
	p.ret(unix.SECCOMP_RET_ALLOW)
	p.label("notify")
	p.ret(unix.SECCOMP_RET_USER_NOTIF)
	return p.assemble()
}

// program is a filter whose jumps have names yet.
type program struct {
	code   []unix.SockFilter
	labels map[string]int
	jumps  []pending
}

// pending is a jump in instruction at to a label: of which kind says the field
// that its distance goes to.
type pending struct {
	at    int
	label string
	field byte
}

func (p *program) add(code uint16, k uint32) {
	p.code = append(p.code, unix.SockFilter{Code: code, K: k})
}

func (p *program) load(offset uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset) }
func (p *program) ret(action uint32)  { p.add(unix.BPF_RET|unix.BPF_K, action) }

func (p *program) when(value uint32, label string) {
	p.jumps = append(p.jumps, pending{len(p.code), label, 't'})
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, value)
}

func (p *program) unless(value uint32, label string) {
	p.jumps = append(p.jumps, pending{len(p.code), label, 'f'})
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, value)
}

func (p *program) jump(label string) {
	p.jumps = append(p.jumps, pending{len(p.code), label, 'k'})
	p.add(unix.BPF_JMP|unix.BPF_JA, 0)
}

func (p *program) label(name string) {
	if p.labels == nil {
		p.labels = make(map[string]int)
	}
	p.labels[name] = len(p.code)
}

func (p *program) assemble() []unix.SockFilter {
	for _, j := range p.jumps {
		distance := p.labels[j.label] - j.at - 1
		switch j.field {
		case 't':
			p.code[j.at].Jt = uint8(distance)
		case 'f':
			p.code[j.at].Jf = uint8(distance)
		default:
			p.code[j.at].K = uint32(distance)
		}
	}
	return p.code
}
