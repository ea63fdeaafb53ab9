#include "textflag.h"

// hotinit_entry is where the kernel (or ld.so, for -buildmode=pie) starts the
// process: there is a stack with argc, argv and the environment, and nothing
// else. It must leave the stack pointer as it is.
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
next:
	MOVQ	BX, DI
	XORQ	SI, SI
	MOVQ	R12, DX
	MOVQ	$8, R10
	MOVQ	$13, AX
	SYSCALL
	ADDQ	$32, R12
	INCQ	BX
	CMPQ	BX, $64
	JLE	next

	// Blocking is not enough for six signals, see held: Go's runtime would
	// unblock them. Its table, which has to be looked for in the data segment
	// (the linker allows no reference), is told that they are like SIGUSR1. If
	// it looks other than expected nothing is done.
	LEAQ	runtime·data(SB), R8
	LEAQ	runtime·edata(SB), R11
	SUBQ	$(65*24), R11
search:
	CMPQ	R8, R11
	JHI	start
	LEAQ	held<>(SB), R9
	MOVQ	$6, CX
check:
	MOVQ	0(R9), AX
	ADDQ	R8, AX
	MOVL	0(AX), DX
	CMPQ	DX, 8(R9)
	JNE	other
	MOVQ	16(AX), DX
	CMPQ	DX, 16(R9)
	JNE	other
	ADDQ	$24, R9
	DECQ	CX
	JNZ	check
	JMP	found
other:
	ADDQ	$8, R8
	JMP	search

found:
	LEAQ	held<>(SB), R9
	MOVQ	$6, CX
patch:
	MOVQ	0(R9), AX
	MOVL	$1, 0(R8)(AX*1)	// _SigNotify
	ADDQ	$24, R9
	DECQ	CX
	JNZ	patch
	MOVB	$1, ·holds(SB)

start:
	MOVB	$1, ·entered(SB)

	// Go's monitor thread wakes every half runtime.forcegcperiod, for ever, to
	// see whether two minutes have passed without a collection. hotinit
	// collects by itself. The variable is looked for by its value; unless there
	// is exactly one such, nothing is done.
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
	JNE	go
	MOVQ	R8, R9
skip:
	ADDQ	$8, R8
	JMP	period
last:
	TESTQ	R9, R9
	JEQ	go
	MOVQ	$0x3fffffffffffffff, AX
	MOVQ	AX, 0(R9)
go:
	JMP	_rt0_amd64_linux(SB)

DATA everySignal<>+0(SB)/8, $-1
GLOBL everySignal<>(SB), RODATA|NOPTR, $8

// What Go's runtime has in its table of signals, runtime.sigtable, for the six
// that it would unblock in every thread because they end a Go program: where
// (each signal has 24 bytes: flags, name), the flags, the length of the name.
DATA held<>+0(SB)/8, $(1*24)	// SIGHUP
DATA held<>+8(SB)/8, $3
DATA held<>+16(SB)/8, $28
DATA held<>+24(SB)/8, $(2*24)	// SIGINT
DATA held<>+32(SB)/8, $3
DATA held<>+40(SB)/8, $17
DATA held<>+48(SB)/8, $(3*24)	// SIGQUIT
DATA held<>+56(SB)/8, $5
DATA held<>+64(SB)/8, $13
DATA held<>+72(SB)/8, $(6*24)	// SIGABRT
DATA held<>+80(SB)/8, $5
DATA held<>+88(SB)/8, $14
DATA held<>+96(SB)/8, $(15*24)	// SIGTERM
DATA held<>+104(SB)/8, $3
DATA held<>+112(SB)/8, $20
DATA held<>+120(SB)/8, $(31*24)	// SIGSYS
DATA held<>+128(SB)/8, $4
DATA held<>+136(SB)/8, $23
GLOBL held<>(SB), RODATA|NOPTR, $144

// hotinit_catch is the handler of the signals of catch.go, called by the kernel
// on the signal stack: DI is the signal, SI its siginfo_t, DX the context.
//
// One that somebody sent by kill(2) or sigqueue(3) (si_code SI_USER, 0, or
// SI_QUEUE, -1) is written down: the first byte of siginfo_t, the low one of
// si_signo, is its number. Any other, such as a fault, or what threads send each
// other by tgkill(2), goes on to the handler that was there before.
TEXT hotinit_catch(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	8(SI), AX
	INCL	AX
	CMPL	AX, $1	// unsigned: -1 and 0 only
	JLS	write
	LEAQ	·chained(SB), AX
	MOVLQSX	DI, CX
	MOVQ	(AX)(CX*8), AX
	TESTQ	AX, AX
	JZ	write
	JMP	AX
write:
	MOVQ	·catchFD(SB), DI
	MOVQ	$1, DX
	MOVQ	$1, AX
	SYSCALL
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
