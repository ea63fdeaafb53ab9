package entry

// need is a limit under which Go's runtime would end the process before any code
// in Go runs, by a fault or with a dump that names no limit. hotinit_limits checks
// it, and prints before, the limit and after where it is too low.
//
//lint:ignore U1000 hotinit_limits reads it
type need struct {
	resource, least uintptr
	before, after   string
}

// What init and the handoff need each was measured by starting, swapping and resuming
// under limits: 76 MiB of data, of which the runtime's map of the heap has 32; and
// 740 MiB of address space, most of it only reserved. Between 1.1 and 1.3 GiB the
// runtime takes a second reservation and then lacks the map. (The numbers of these
// resources are the same on amd64 and arm64.)
//
// It is laid out by the compiler: nothing has run yet that could do so.
//
//lint:ignore U1000 hotinit_limits reads it
var needs = [...]need{
	{2, 128 << 20, "hotinit: the limit of data is ", " bytes (RLIMIT_DATA, ulimit -d); hotinit needs 134217728 (128 MiB)\n"},
	{9, 1536 << 20, "hotinit: the limit of address space is ", " bytes (RLIMIT_AS, ulimit -v); hotinit needs 1610612736 (1.5 GiB), most of which is only reserved\n"},
}

// threads is the limit that is tried, and not compared: it counts what the user's
// other processes have, and some users are exempt. Where it is this high or higher,
// nothing is tried.
//
//lint:ignore U1000 hotinit_limits reads it
var threads = need{6, 1 << 16, "hotinit: the limit of the user's processes and threads is ", " (RLIMIT_NPROC, ulimit -u), and it is reached too soon; hotinit needs 24, and the app its own\n"}

// Written by hotinit_limits.
var (
	//lint:ignore U1000 prlimit(2) writes it
	limit [2]uint64
	//lint:ignore U1000 the limit in digits
	digits [24]byte
	//lint:ignore U1000 three struct iovec
	parts [6]uintptr
	//lint:ignore U1000 what the tried threads wait for
	gate uint32
	//lint:ignore U1000 the threads' numbers
	tried [23]uint32
)
