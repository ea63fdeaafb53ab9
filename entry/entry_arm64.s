#include "textflag.h"

// hotinit_entry is where the kernel (or ld.so, for -buildmode=pie) starts the
// process: there is a stack with argc, argv and the environment, and nothing
// else. It must leave the stack pointer, and R0 (of ld.so), as they are.
TEXT hotinit_entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	R0, R21

	// rt_sigprocmask(SIG_SETMASK, &everySignal, &savedMask, 8)
	MOVD	$2, R0
	MOVD	$everySignal<>(SB), R1
	MOVD	$·savedMask(SB), R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC

	// rt_sigaction(N, NULL, &savedActions[N-1], 8) for N from 1 to 64
	MOVD	$1, R19
	MOVD	$·savedActions(SB), R20
next:
	MOVD	R19, R0
	MOVD	$0, R1
	MOVD	R20, R2
	MOVD	$8, R3
	MOVD	$134, R8
	SVC
	ADD	$32, R20
	ADD	$1, R19
	CMP	$64, R19
	BLE	next

	MOVD	$1, R0
	MOVB	R0, ·entered(SB)
	MOVD	R21, R0
	JMP	_rt0_arm64_linux(SB)

DATA everySignal<>+0(SB)/8, $-1
GLOBL everySignal<>(SB), RODATA|NOPTR, $8

// hotinit_catch is the handler of the signals of catch.go, called by the kernel
// on the signal stack: R0 is the signal, R1 its siginfo_t, R2 the context, and
// R30 leads to rt_sigreturn(2) in the vDSO.
//
// A signal that a thread sent by tgkill(2) (si_code SI_TKILL, -6) goes on to
// the handler that was there before, if any: so libraries make all threads
// change user ID. Any other is written down: the first byte of siginfo_t, the
// low one of si_signo, is its number.
TEXT hotinit_catch(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVW	8(R1), R3
	CMNW	$6, R3
	BNE	write
	MOVD	$·chained(SB), R3
	SUB	$32, R0, R4
	LSL	$3, R4, R4
	ADD	R4, R3, R3
	MOVD	(R3), R3
	CBZ	R3, write
	JMP	(R3)
write:
	MOVD	·catchFD(SB), R0
	MOVD	$1, R2
	MOVD	$64, R8
	SVC
	RET

// func handler() (catch, restorer uintptr)
TEXT ·handler(SB),NOSPLIT,$0-16
	MOVD	$hotinit_catch(SB), R0
	MOVD	R0, catch+0(FP)
	MOVD	ZR, restorer+8(FP)
	RET
