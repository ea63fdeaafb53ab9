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

	MOVB	$1, ·entered(SB)
	JMP	_rt0_amd64_linux(SB)

DATA everySignal<>+0(SB)/8, $-1
GLOBL everySignal<>(SB), RODATA|NOPTR, $8

// hotinit_catch is the handler of the signals of catch.go, called by the kernel
// on the signal stack: DI is the signal, SI its siginfo_t, DX the context.
//
// A signal that a thread sent by tgkill(2) (si_code SI_TKILL, -6) goes on to
// the handler that was there before, if any: so libraries make all threads
// change user ID. Any other is written down: the first byte of siginfo_t, the
// low one of si_signo, is its number.
TEXT hotinit_catch(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CMPL	8(SI), $-6
	JNE	write
	LEAQ	·chained(SB), AX
	MOVLQSX	DI, CX
	MOVQ	-256(AX)(CX*8), AX	// chained[signal-32]
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
