// What Go's runtime has in its table of signals, runtime.sigtable, for those
// signals that it would unblock in every thread or keep for itself. Each signal
// has 24 bytes there: its flags, and the pointer to its name and the name's
// length. A row here is where that is, the flags, the length, the flags that
// hotinit_entry sets instead, and the first eight bytes of the name.
//
// The flags that are set:
//
//	1    _SigNotify, as SIGUSR1 has: the signal stays blocked
//	8    _SigPanic without _SigUnblock: it stays blocked until catchFaults
//	273  with _SigDefault: the runtime does not touch its disposition
#define HELD_SIZE 40
#define HELD(I, SIGNAL, FLAGS, LENGTH, INSTEAD, NAME) \
	DATA held<>+(I*HELD_SIZE+0)(SB)/8, $(SIGNAL*24) \
	DATA held<>+(I*HELD_SIZE+8)(SB)/8, $FLAGS \
	DATA held<>+(I*HELD_SIZE+16)(SB)/8, $LENGTH \
	DATA held<>+(I*HELD_SIZE+24)(SB)/8, $INSTEAD \
	DATA held<>+(I*HELD_SIZE+32)(SB)/8, $NAME

// A test builds with UNKNOWN_TABLE: then no Go has such a table.
#ifdef UNKNOWN_TABLE
#define HUP_NAME "SIGNONE:"
#else
#define HUP_NAME "SIGHUP: "
#endif

HELD(0, 1, 3, 28, 1, HUP_NAME)
HELD(1, 2, 3, 17, 1, "SIGINT: ")
HELD(2, 3, 5, 13, 1, "SIGQUIT:")
HELD(3, 4, 132, 27, 1, "SIGILL: ")
HELD(4, 5, 132, 19, 1, "SIGTRAP:")
HELD(5, 6, 5, 14, 1, "SIGABRT:")
HELD(6, 7, 136, 17, 8, "SIGBUS: ")
HELD(7, 8, 136, 32, 8, "SIGFPE: ")
HELD(8, 11, 136, 31, 8, "SIGSEGV:")
HELD(9, 15, 3, 20, 1, "SIGTERM:")
HELD(10, 16, 132, 22, 1, "SIGSTKFL")
HELD(11, 23, 257, 34, 273, "SIGURG: ")
HELD(12, 27, 129, 30, 1, "SIGPROF:")
HELD(13, 31, 4, 23, 1, "SIGSYS: ")
HELD(14, 32, 192, 9, 1, "signal 3")
HELD(15, 33, 192, 9, 1, "signal 3")
HELD(16, 34, 192, 9, 1, "signal 3")
#define HELD_COUNT 17
GLOBL held<>(SB), RODATA|NOPTR, $(HELD_COUNT*HELD_SIZE)

DATA everySignal<>+0(SB)/8, $-1
GLOBL everySignal<>(SB), RODATA|NOPTR, $8

// Sixteen bytes, so that both halves can be compared as words.
DATA processors<>+0(SB)/8, $"GOMAXPRO"
DATA processors<>+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL processors<>(SB), RODATA|NOPTR, $16

// The names of the variables that are hidden from Go's runtime: their first eight
// bytes, and the four last ones with the '='. Memory is read in little-endian order.
#define DEBUG_NAME 0x3D47554245444F47	// GODEBUG=
#define MEMLIMIT_NAME 0x4D494C4D454D4F47	// GOMEMLIM
#define MEMLIMIT_REST 0x3D54494D	// MIT=
#define TRACEBACK_NAME 0x4245434152544F47	// GOTRACEB
#define TRACEBACK_REST 0x3D4B4341	// ACK=
#define GC_NAME 0x43474F47	// GOGC, and '='

// The variable of Execute: its first eight bytes, and four more.
#define CARRIER_NAME 0x5F54494E49544F48	// HOTINIT_
#define CARRIER_REST 0x52544E45	// ENTR
