#include "textflag.h"
#include "signals.h"

// hotinit_entry is where the kernel (or ld.so, for -buildmode=pie) starts the
// process: there is a stack with argc, argv and the environment, and nothing
// else. What it does, and why, is said in entry.go.
TEXT hotinit_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	// rt_sigprocmask(SIG_SETMASK, &everySignal, &savedMask, 8)
	MOVQ	$2, DI
	LEAQ	everySignal<>(SB), SI
	LEAQ	·savedMask(SB), DX
	MOVQ	$8, R10
	MOVQ	$14, AX
	SYSCALL

	// rt_sigaction(N, NULL, &savedActions[N-1], 8) for N from 1 to 64
	MOVQ	$1, BX
	LEAQ	·savedActions(SB), R12
action:
	MOVQ	BX, DI
	XORQ	SI, SI
	MOVQ	R12, DX
	MOVQ	$8, R10
	MOVQ	$13, AX
	SYSCALL
	ADDQ	$32, R12
	INCQ	BX
	CMPQ	BX, $64
	JLE	action

	// Go's table of signals has to be looked for in the data segment: the
	// linker allows no reference to it.
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
	ADDQ	$32, R9
	DECQ	CX
	JNZ	check
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
	ADDQ	$32, R9
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

	// How often Go's monitor thread wakes. The variable is looked for by its
	// value; unless there is exactly one such, nothing is done.
	LEAQ	runtime·noptrdata(SB), R8
	LEAQ	runtime·enoptrdata(SB), R11
	SUBQ	$8, R11
	MOVQ	$120000000000, AX
	XORQ	R9, R9
period:
	CMPQ	R8, R11
	JHI	last
	CMPQ	AX, 0(R8)
	JNE	skip
	TESTQ	R9, R9
	JNE	environment
	MOVQ	R8, R9
skip:
	ADDQ	$8, R8
	JMP	period
last:
	TESTQ	R9, R9
	JEQ	environment
	MOVQ	$0x3fffffffffffffff, AX
	MOVQ	AX, 0(R9)

environment:
	// GOMAXPROCS=1 takes the place of the one in the environment, or comes
	// before all else in it: then argv moves down by a word, over argc, which
	// Go's runtime gets in a register.
	LEAQ	processors<>(SB), R9
	MOVQ	0(R9), R10
	MOVQ	8(R9), R11
	MOVQ	0(SP), DI
	LEAQ	8(SP), SI
	LEAQ	8(SI)(DI*8), R8
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
	JNE	further
	MOVQ	AX, ·processors(SB)
	MOVQ	R9, 0(R12)
	JMP	go
further:
	ADDQ	$8, R12
	JMP	variable

absent:
	MOVQ	SI, R12
move:
	MOVQ	0(R12), AX
	MOVQ	AX, -8(R12)
	ADDQ	$8, R12
	CMPQ	R12, R8
	JNE	move
	MOVQ	R9, -8(R8)
	SUBQ	$8, SI
go:
	JMP	runtime·rt0_go(SB)

// hotinit_catch is a signal handler, called by the kernel on the signal stack:
// DI is the signal, SI its siginfo_t, DX the context.
//
// One that somebody sent by kill(2) or sigqueue(3) (si_code SI_USER, 0, or
// SI_QUEUE, -1), or another process by tgkill(2) (SI_TKILL, -6), is written
// down; as long as there is nowhere to write it, it is remembered in sentEarly.
// Any other, such as a fault, goes on to the handler that was there before.
// Where there was none, it is a SIGURG of this process's own.
TEXT hotinit_catch(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
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
	// uc_sigmask is what the thread goes on with, see releaseThreads.
	MOVQ	·faultMask(SB), AX
	NOTQ	AX
	ANDQ	AX, 296(DX)
	// gettid(2)
	MOVL	$186, AX
	SYSCALL
	CMPL	AX, ·monitor(SB)
	JNE	done
	// prctl(PR_SET_TIMERSLACK, 1 ms), see releaseThreads
	MOVL	$29, DI
	MOVL	$1000000, SI
	MOVL	$157, AX
	SYSCALL
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

// hotinit_return ends a handler: rt_sigreturn(2). The kernel has none of its
// own on amd64.
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
