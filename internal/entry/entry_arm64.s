#include "textflag.h"
#include "signals.h"

// hotinit_entry is where the kernel (or ld.so, for -buildmode=pie) starts the
// process: there is a stack with argc, argv and the environment, and nothing
// else. entry.go lists what it does, and why.
TEXT hotinit_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	// rt_sigprocmask(SIG_SETMASK, &everySignal, &savedMask, 8)
	MOVD	$2, R0
	MOVD	$everySignal<>(SB), R1
	MOVD	$·savedMask(SB), R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC

	BL	hotinit_limits(SB)

	// rt_sigaction(N, NULL, &savedActions[N-1], 8) for N from 1 to 64
	MOVD	$1, R19
	MOVD	$·savedActions(SB), R20
action:
	MOVD	R19, R0
	MOVD	$0, R1
	MOVD	R20, R2
	MOVD	$8, R3
	MOVD	$134, R8
	SVC
	ADD	$32, R20
	ADD	$1, R19
	CMP	$64, R19
	BLE	action

	// Go's table of signals is looked for in the data segment, by its content:
	// the linker allows no reference to it. The first eight bytes of a name are
	// read only where the flags and the lengths of all names fit.
	MOVD	$runtime·data(SB), R8
	MOVD	$runtime·edata(SB), R11
	SUB	$(65*24), R11
search:
	CMP	R11, R8
	BHI	start
	MOVD	$held<>(SB), R9
	MOVD	$HELD_COUNT, R10
check:
	MOVD	0(R9), R0
	ADD	R8, R0
	MOVWU	0(R0), R1
	MOVD	8(R9), R2
	CMP	R1, R2
	BNE	other
	MOVD	16(R0), R1
	MOVD	16(R9), R2
	CMP	R1, R2
	BNE	other
	ADD	$HELD_SIZE, R9
	SUB	$1, R10
	CBNZ	R10, check
	MOVD	$held<>(SB), R9
	MOVD	$HELD_COUNT, R10
name:
	MOVD	0(R9), R0
	ADD	R8, R0
	MOVD	8(R0), R0
	MOVD	0(R0), R1
	MOVD	32(R9), R2
	CMP	R1, R2
	BNE	other
	ADD	$HELD_SIZE, R9
	SUB	$1, R10
	CBNZ	R10, name
	JMP	found
other:
	ADD	$8, R8
	JMP	search

found:
	MOVD	R8, ·table(SB)
	MOVD	$held<>(SB), R9
	MOVD	$HELD_COUNT, R10
patch:
	MOVD	0(R9), R0
	MOVD	24(R9), R1
	ADD	R8, R0
	MOVW	R1, 0(R0)
	ADD	$HELD_SIZE, R9
	SUB	$1, R10
	CBNZ	R10, patch

	// getpid(2), for hotinit_catch
	MOVD	$172, R8
	SVC
	MOVW	R0, ·self(SB)

	// rt_sigaction(SIGURG, &urgent, NULL, 8)
	MOVD	$·urgent(SB), R1
	MOVD	$hotinit_catch(SB), R0
	MOVD	R0, 0(R1)
	MOVD	$0x18000004, R0	// catchFlags
	MOVD	R0, 8(R1)
	MOVD	ZR, 16(R1)
	MOVD	$-1, R0
	MOVD	R0, 24(R1)
	MOVD	$23, R0
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$134, R8
	SVC

start:
	MOVD	$1, R0
	MOVB	R0, ·entered(SB)

	// The threads that Go's runtime starts before init sleep less exactly:
	// prctl(PR_GET_TIMERSLACK), and prctl(PR_SET_TIMERSLACK, a millisecond) unless
	// there is none (real-time scheduling).
	MOVD	$30, R0
	MOVD	$167, R8
	SVC
	CMP	$0, R0
	BLE	environment
	MOVD	R0, ·slack(SB)
	MOVD	$29, R0
	MOVD	$1000000, R1
	MOVD	$167, R8
	SVC

environment:
	// GOMAXPROCS=1 takes the place of the one in the environment. If there is
	// none, it goes before all other variables: argc and argv move down. It goes
	// there twice, so that the stack stays aligned to 16 bytes; package syscall
	// ignores the second of two variables with one name.
	MOVD	$processors<>(SB), R9
	MOVD	0(R9), R10
	MOVWU	8(R9), R11
	MOVD	0(RSP), R0
	ADD	$8, RSP, R1
	ADD	R0<<3, R1, R8
	ADD	$8, R8

	// Some variables that Go's runtime reads are the app's alone (GODEBUG,
	// GOMEMLIMIT, GOTRACEBACK, GOGC): GOMAXPROCS=1 takes their places. Environ
	// has them from the strings, which stay as they are.
	MOVD	R8, R12
	MOVD	ZR, R4
	MOVD	0(R8), R2
	MOVD	R2, ·variables(SB)
hide:
	MOVD	0(R12), R2
	CBZ	R2, counted
	ADD	$1, R4
	MOVD	0(R2), R3
	MOVD	$DEBUG_NAME, R5
	CMP	R5, R3
	BEQ	hidden
	MOVD	$MEMLIMIT_NAME, R5
	CMP	R5, R3
	BNE	traceback
	MOVWU	7(R2), R3
	MOVD	$MEMLIMIT_REST, R5
	CMP	R5, R3
	BEQ	hidden
	JMP	shown
traceback:
	MOVD	$TRACEBACK_NAME, R5
	CMP	R5, R3
	BNE	collector
	MOVWU	8(R2), R3
	MOVD	$TRACEBACK_REST, R5
	CMP	R5, R3
	BEQ	hidden
	JMP	shown
collector:
	MOVWU	0(R2), R3
	MOVD	$GC_NAME, R5
	CMP	R5, R3
	BNE	shown
	MOVBU	4(R2), R3
	CMP	$61, R3	// '='
	BNE	shown
hidden:
	MOVD	R9, 0(R12)
shown:
	ADD	$8, R12
	JMP	hide
counted:
	MOVD	R4, ·variableCount(SB)

	MOVD	R8, R12
variable:
	MOVD	0(R12), R2
	CBZ	R2, absent
	MOVD	0(R2), R3
	CMP	R10, R3
	BNE	further
	MOVWU	8(R2), R3
	EOR	R11, R3
	AND	$0xffffff, R3
	CBNZ	R3, further
	MOVD	R2, ·processors(SB)
	MOVD	R9, 0(R12)
	JMP	go
further:
	ADD	$8, R12
	JMP	variable

absent:
	MOVD	RSP, R12
	SUB	$16, RSP
move:
	MOVD	0(R12), R2
	MOVD	R2, -16(R12)
	ADD	$8, R12
	CMP	R8, R12
	BNE	move
	MOVD	R9, -16(R8)
	MOVD	R9, -8(R8)
go:
	JMP	_rt0_arm64_linux(SB)

// hotinit_catch is a signal handler, called by the kernel on the signal stack:
// R0 is the signal, R1 its siginfo_t, R2 the context, and R30 the
// address of rt_sigreturn(2) in the vDSO.
//
// It handles a signal that was sent by kill(2) or sigqueue(3) (si_code SI_USER, 0,
// or SI_QUEUE, -1), or by another process with tgkill(2) (SI_TKILL, -6): it writes
// the number to catchFD, or sets its bit in sentEarly while there is no catchFD.
// Any other signal, such as a fault, goes on to the handler that was installed
// before. Where there was none, it is a SIGURG that this process sent itself.
//
// SIGCHLD only wakes who reads childFD, see CatchChildren.
TEXT hotinit_catch(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CMPW	$17, R0
	BNE	other
	MOVD	·childFD(SB), R0
	MOVD	$·one(SB), R1
	MOVD	$8, R2
	MOVD	$64, R8
	SVC
	RET
other:
	MOVW	8(R1), R3
	CMPW	$-6, R3
	BNE	sent
	MOVW	16(R1), R3	// si_pid
	MOVW	·self(SB), R4
	CMPW	R4, R3
	BNE	keep
	JMP	chain
sent:
	ADDW	$1, R3
	CMPW	$1, R3
	BLS	keep	// unsigned: -1 and 0 only
chain:
	MOVD	$·chained(SB), R3
	MOVWU	R0, R4
	LSL	$3, R4, R4
	ADD	R4, R3, R3
	MOVD	(R3), R3
	CBZ	R3, release
	JMP	(R3)
release:
	// uc_sigmask is the thread's mask after the handler, see releaseThreads.
	MOVD	·faultMask(SB), R3
	MOVD	40(R2), R4
	BIC	R3, R4
	MOVD	R4, 40(R2)
	RET
keep:
	MOVD	·catchFD(SB), R5
	TBZ	$63, R5, write
	SUBW	$1, R0, R4
	MOVD	$1, R6
	LSL	R4, R6, R6
	MOVD	$·sentEarly(SB), R7
set:
	LDAXR	(R7), R3
	ORR	R6, R3
	STLXR	R3, (R7), R4
	CBNZ	R4, set
	MOVD	·catchFD(SB), R5
	TBNZ	$63, R5, done
clear:
	LDAXR	(R7), R3
	BIC	R6, R3, R9
	STLXR	R9, (R7), R4
	CBNZ	R4, clear
	AND	R6, R3
	CBZ	R3, done	// whoever clears the bit writes the byte
write:
	// The first byte of siginfo_t, the low one of si_signo, is its number.
	MOVD	R5, R0
	MOVD	$1, R2
	MOVD	$64, R8
	SVC
done:
	RET

// func handler() (catch, restorer uintptr)
TEXT ·handler(SB),NOSPLIT,$0-16
	MOVD	$hotinit_catch(SB), R0
	MOVD	R0, catch+0(FP)
	MOVD	ZR, restorer+8(FP)
	RET
