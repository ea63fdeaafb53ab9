#include "textflag.h"
#include "signals.h"

#define MOST_ARGUMENTS 60	// handoffArgv has two words more

DATA handoff<>+0(SB)/8, $"hotinit-"
DATA handoff<>+8(SB)/8, $"handoff\x00"
GLOBL handoff<>(SB), RODATA|NOPTR, $16
DATA executable<>+0(SB)/8, $"/proc/se"
DATA executable<>+8(SB)/8, $"lf/exe\x00\x00"
GLOBL executable<>(SB), RODATA|NOPTR, $16

// hotinit_entry is where the kernel (or ld.so, for -buildmode=pie) starts the
// process: there is a stack with argc, argv and the environment, and nothing
// else. entry.go lists what it does, and why.
TEXT hotinit_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	// rt_sigprocmask(SIG_SETMASK, &everySignal, &savedMask, 8)
	MOVQ	$2, DI
	LEAQ	everySignal<>(SB), SI
	LEAQ	·savedMask(SB), DX
	MOVQ	$8, R10
	MOVQ	$14, AX
	SYSCALL

	CALL	hotinit_limits(SB)

	// R8: the environment. Some variables that Go's runtime reads are the app's
	// alone (GODEBUG, GOMEMLIMIT, GOTRACEBACK, GOGC): GOMAXPROCS=1 takes their
	// places. Environ has them from the strings, which stay as they are.
	MOVQ	0(SP), CX
	LEAQ	16(SP)(CX*8), R8
	LEAQ	processors<>(SB), R9
	MOVQ	R8, R12
	XORL	R14, R14
	MOVQ	0(R8), AX
	MOVQ	AX, ·variables(SB)
	MOVQ	$DEBUG_NAME, BX
	MOVQ	$MEMLIMIT_NAME, DX
	MOVQ	$TRACEBACK_NAME, SI
hide:
	MOVQ	0(R12), AX
	TESTQ	AX, AX
	JEQ	counted
	INCQ	R14
	MOVQ	0(AX), DI
	CMPQ	DI, BX
	JEQ	hidden
	CMPQ	DI, DX
	JNE	traceback
	CMPL	7(AX), $MEMLIMIT_REST
	JEQ	hidden
	JMP	shown
traceback:
	CMPQ	DI, SI
	JNE	collector
	CMPL	8(AX), $TRACEBACK_REST
	JEQ	hidden
	JMP	shown
collector:
	CMPL	0(AX), $GC_NAME
	JNE	shown
	CMPB	4(AX), $'='
	JNE	shown
hidden:
	MOVQ	R9, 0(R12)
shown:
	ADDQ	$8, R12
	JMP	hide
counted:
	MOVQ	R14, ·variableCount(SB)

	// R12: where GOMAXPROCS is in it, or its end.
	MOVQ	0(R9), R10
	MOVQ	8(R9), R11
	MOVQ	R8, R12
variable:
	MOVQ	0(R12), AX
	TESTQ	AX, AX
	JEQ	absent
	CMPQ	R10, 0(AX)
	JNE	further
	MOVL	8(AX), DX
	XORL	R11, DX
	ANDL	$0xffffff, DX
	JEQ	present
further:
	ADDQ	$8, R12
	JMP	variable

present:
	MOVQ	AX, ·processors(SB)
	JMP	tables	// a child would share the environment that is changed below

absent:
	// A hotinit that is executed in the place of another one (Execute) goes on with
	// that one's handoff: its environment begins with HOTINIT_ENTRY.
	MOVQ	0(R8), AX
	TESTQ	AX, AX
	JEQ	command
	MOVQ	$CARRIER_NAME, DX
	CMPQ	DX, 0(AX)
	JNE	command
	CMPL	8(AX), $CARRIER_REST
	JEQ	tables

command:
	// Start the handoff, if the command line is that of an init: it begins with
	// a flag or a path, and has no more than MOST_ARGUMENTS arguments.
	LEAQ	-2(CX), AX
	CMPQ	AX, $(MOST_ARGUMENTS-2)
	JHI	tables	// unsigned
	MOVQ	16(SP), AX
	MOVB	0(AX), DX
	CMPB	DX, $'-'
	JEQ	role
	CMPB	DX, $'/'
	JNE	tables
role:
	MOVQ	8(SP), AX
	LEAQ	handoff<>(SB), R9
	MOVQ	0(R9), DX
	CMPQ	DX, 0(AX)
	JNE	help
	MOVQ	8(R9), DX
	CMPQ	DX, 8(AX)
	JEQ	tables

	// A command line that may ask for help, the version or the license (-h, -V,
	// -L, -l, -ve..., --h..., --ve...) gets no second process.
help:
	LEAQ	16(SP), R13
flag:
	MOVQ	0(R13), AX
	TESTQ	AX, AX
	JEQ	sockets
	ADDQ	$8, R13
	CMPB	0(AX), $'-'
	JNE	flag
	INCQ	AX
	CMPB	0(AX), $'-'
	JNE	letter
	INCQ	AX
	CMPB	0(AX), $0
	JEQ	sockets	// --: the rest is the app's
letter:
	MOVBLZX	0(AX), DX
	CMPB	DX, $'h'
	JEQ	tables
	CMPB	DX, $'V'
	JEQ	tables
	CMPB	DX, $'L'
	JEQ	tables
	CMPB	DX, $'l'
	JEQ	license
	CMPB	DX, $'v'
	JNE	flag
	CMPB	1(AX), $'e'
	JEQ	tables
	JMP	flag
license:
	CMPB	1(AX), $0
	JEQ	tables
	JMP	flag

sockets:
	// socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC|SOCK_NONBLOCK, 0, handoffPair)
	MOVL	$1, DI
	MOVL	$0x80805, SI
	XORL	DX, DX
	LEAQ	·handoffPair(SB), R10
	MOVL	$53, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	tables
	MOVL	·handoffPair+0(SB), DI
	CMPL	DI, $3
	JLT	unpair	// one of 0, 1 and 2 was closed, and the socket has its number
	JEQ	arguments
	// 3 was inherited, but must be the handoff's socket, see message.Socket:
	// fcntl(3, F_DUPFD_CLOEXEC, 3)
	MOVL	$3, DI
	MOVL	$1030, SI
	MOVL	$3, DX
	MOVL	$72, AX
	SYSCALL
	TESTQ	AX, AX
	JLT	unpair
	MOVL	AX, ·handoffThird(SB)

arguments:
	// Its argv: the name of its role, argv, NULL.
	LEAQ	·handoffArgv(SB), R11
	MOVQ	R9, 0(R11)
	LEAQ	8(SP), R13
argument:
	ADDQ	$8, R11
	MOVQ	0(R13), AX
	MOVQ	AX, 0(R11)
	ADDQ	$8, R13
	TESTQ	AX, AX
	JNE	argument

	// clone(CLONE_VM|CLONE_PIDFD|SIGCHLD, stack, &handoffPIDFD)
	MOVL	$0x1111, DI
	LEAQ	·handoffStack+4096(SB), SI
	LEAQ	·handoffPIDFD(SB), DX
	XORL	R10, R10
	MOVQ	R8, R13
	XORL	R8, R8
	MOVL	$56, AX
	SYSCALL
	MOVQ	R13, R8
	TESTQ	AX, AX
	JEQ	child
	CMPQ	AX, $0
	JLT	unpair
	MOVQ	AX, ·handoffPID(SB)
	JMP	tables

unpair:
	MOVL	·handoffPair+0(SB), DI
	MOVL	$3, AX
	SYSCALL
	MOVL	·handoffPair+4(SB), DI
	MOVL	$3, AX
	SYSCALL
	JMP	tables

child:
	// fcntl(3, or the copy of the inherited 3, F_SETFD, 0)
	MOVL	·handoffThird(SB), DI
	TESTL	DI, DI
	JNE	inherit
	MOVL	$3, DI
inherit:
	MOVL	$2, SI
	XORL	DX, DX
	MOVL	$72, AX
	SYSCALL
	// dup2(handoffPair[0], 3), which does nothing if it is 3
	MOVL	·handoffPair+0(SB), DI
	MOVL	$3, SI
	MOVL	$33, AX
	SYSCALL
	// rt_sigprocmask(SIG_SETMASK, &savedMask, NULL, 8)
	MOVL	$2, DI
	LEAQ	·savedMask(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$14, AX
	SYSCALL
	// execve("/proc/self/exe", handoffArgv, environment)
	LEAQ	executable<>(SB), DI
	LEAQ	·handoffArgv(SB), SI
	MOVQ	R13, DX
	MOVL	$59, AX
	SYSCALL
	// exit_group(127): init sees the socket closed, and starts another handoff.
	MOVL	$127, DI
	MOVL	$231, AX
	SYSCALL
	INT	$3

tables:
	MOVQ	R8, R13		// system calls keep R12 and R13

	// rt_sigaction(N, NULL, &savedActions[N-1], 8) for N from 1 to 64
	MOVQ	$1, BX
	LEAQ	·savedActions(SB), R14
action:
	MOVQ	BX, DI
	XORQ	SI, SI
	MOVQ	R14, DX
	MOVQ	$8, R10
	MOVQ	$13, AX
	SYSCALL
	ADDQ	$32, R14
	INCQ	BX
	CMPQ	BX, $64
	JLE	action

	// Go's table of signals is looked for in the data segment, by its content:
	// the linker allows no reference to it. The first eight bytes of a name are
	// read only where the flags and the lengths of all names fit.
	LEAQ	runtime·data(SB), R8
	LEAQ	runtime·edata(SB), R11
	SUBQ	$(65*24), R11
search:
	CMPQ	R8, R11
	JHI	start
	LEAQ	held<>(SB), R9
	MOVQ	$HELD_COUNT, CX
check:
	MOVQ	0(R9), AX
	ADDQ	R8, AX
	MOVL	0(AX), DX
	CMPQ	DX, 8(R9)
	JNE	other
	MOVQ	16(AX), DX
	CMPQ	DX, 16(R9)
	JNE	other
	ADDQ	$HELD_SIZE, R9
	DECQ	CX
	JNZ	check
	LEAQ	held<>(SB), R9
	MOVQ	$HELD_COUNT, CX
name:
	MOVQ	0(R9), AX
	MOVQ	8(R8)(AX*1), AX
	MOVQ	0(AX), DX
	CMPQ	DX, 32(R9)
	JNE	other
	ADDQ	$HELD_SIZE, R9
	DECQ	CX
	JNZ	name
	JMP	found
other:
	ADDQ	$8, R8
	JMP	search

found:
	MOVQ	R8, ·table(SB)
	LEAQ	held<>(SB), R9
	MOVQ	$HELD_COUNT, CX
patch:
	MOVQ	0(R9), AX
	MOVQ	24(R9), DX
	MOVL	DX, 0(R8)(AX*1)
	ADDQ	$HELD_SIZE, R9
	DECQ	CX
	JNZ	patch

	// getpid(2), for hotinit_catch
	MOVQ	$39, AX
	SYSCALL
	MOVL	AX, ·self(SB)

	// rt_sigaction(SIGURG, &urgent, NULL, 8)
	LEAQ	hotinit_catch(SB), AX
	MOVQ	AX, ·urgent+0(SB)
	MOVQ	$0x1C000004, AX	// catchFlags
	MOVQ	AX, ·urgent+8(SB)
	LEAQ	hotinit_return(SB), AX
	MOVQ	AX, ·urgent+16(SB)
	MOVQ	$-1, AX
	MOVQ	AX, ·urgent+24(SB)
	MOVQ	$23, DI
	LEAQ	·urgent(SB), SI
	XORQ	DX, DX
	MOVQ	$8, R10
	MOVQ	$13, AX
	SYSCALL

start:
	MOVB	$1, ·entered(SB)

	// The threads that Go's runtime starts before init sleep less exactly:
	// prctl(PR_GET_TIMERSLACK), and prctl(PR_SET_TIMERSLACK, a millisecond) unless
	// there is none (real-time scheduling).
	MOVL	$30, DI
	MOVL	$157, AX
	SYSCALL
	CMPQ	AX, $0
	JLE	environment
	MOVQ	AX, ·slack(SB)
	MOVL	$29, DI
	MOVL	$1000000, SI
	MOVL	$157, AX
	SYSCALL

environment:
	// GOMAXPROCS=1 takes the place of the one in the environment. If there is
	// none, it goes before all other variables: argc and argv move down. It goes
	// there twice, so that the stack stays aligned to 16 bytes; package syscall
	// ignores the second of two variables with one name.
	LEAQ	processors<>(SB), R9
	MOVQ	0(R12), AX
	TESTQ	AX, AX
	JEQ	insert
	MOVQ	R9, 0(R12)
	JMP	_rt0_amd64_linux(SB)
insert:
	MOVQ	SP, R12
	SUBQ	$16, SP
move:
	MOVQ	0(R12), AX
	MOVQ	AX, -16(R12)
	ADDQ	$8, R12
	CMPQ	R12, R13
	JNE	move
	MOVQ	R9, -16(R13)
	MOVQ	R9, -8(R13)
	JMP	_rt0_amd64_linux(SB)

// hotinit_catch is a signal handler, called by the kernel on the signal stack:
// DI is the signal, SI its siginfo_t, DX the context.
//
// It handles a signal that was sent by kill(2) or sigqueue(3) (si_code SI_USER, 0,
// or SI_QUEUE, -1), or by another process with tgkill(2) (SI_TKILL, -6): it writes
// the number to catchFD, or sets its bit in sentEarly while there is no catchFD.
// Any other signal, such as a fault, goes on to the handler that was installed
// before. Where there was none, it is a SIGURG that this process sent itself.
//
// SIGCHLD only wakes who reads childFD, see CatchChildren.
TEXT hotinit_catch(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CMPL	DI, $17
	JNE	other
	MOVQ	·childFD(SB), DI
	LEAQ	·one(SB), SI
	MOVL	$8, DX
	MOVL	$1, AX
	SYSCALL
	RET
other:
	MOVL	8(SI), AX
	CMPL	AX, $-6
	JNE	sent
	MOVL	16(SI), AX	// si_pid
	CMPL	AX, ·self(SB)
	JNE	keep
	JMP	chain
sent:
	INCL	AX
	CMPL	AX, $1	// unsigned: -1 and 0 only
	JLS	keep
chain:
	LEAQ	·chained(SB), AX
	MOVLQSX	DI, CX
	MOVQ	(AX)(CX*8), AX
	TESTQ	AX, AX
	JZ	release
	JMP	AX
release:
	// uc_sigmask is the thread's mask after the handler, see releaseThreads.
	MOVQ	·faultMask(SB), AX
	NOTQ	AX
	ANDQ	AX, 296(DX)
	RET
keep:
	MOVQ	·catchFD(SB), R8
	TESTQ	R8, R8
	JGE	write
	DECL	DI
	LOCK
	BTSQ	DI, ·sentEarly(SB)
	MOVQ	·catchFD(SB), R8
	TESTQ	R8, R8
	JLT	done
	LOCK
	BTRQ	DI, ·sentEarly(SB)	// whoever clears the bit writes the byte
	JCC	done
write:
	// The first byte of siginfo_t, the low one of si_signo, is its number.
	MOVQ	R8, DI
	MOVQ	$1, DX
	MOVQ	$1, AX
	SYSCALL
done:
	RET

// hotinit_return ends a handler with rt_sigreturn(2). On amd64 the kernel needs
// a restorer from the program.
TEXT hotinit_return(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	$15, AX
	SYSCALL
	INT	$3

// func handler() (catch, restorer uintptr)
TEXT ·handler(SB),NOSPLIT,$0-16
	LEAQ	hotinit_catch(SB), AX
	MOVQ	AX, catch+0(FP)
	LEAQ	hotinit_return(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET
