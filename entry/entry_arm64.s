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

	// Blocking is not enough for six signals, see held: Go's runtime would
	// unblock them. Its table, which has to be looked for in the data segment
	// (the linker allows no reference), is told that they are like SIGUSR1. If
	// it looks other than expected nothing is done.
	MOVD	$runtime·data(SB), R8
	MOVD	$runtime·edata(SB), R11
	SUB	$(65*24), R11
search:
	CMP	R11, R8
	BHI	start
	MOVD	$held<>(SB), R9
	MOVD	$6, R10
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
	ADD	$24, R9
	SUB	$1, R10
	CBNZ	R10, check
	JMP	found
other:
	ADD	$8, R8
	JMP	search

found:
	MOVD	$held<>(SB), R9
	MOVD	$6, R10
	MOVD	$1, R1	// _SigNotify
patch:
	MOVD	0(R9), R0
	ADD	R8, R0
	MOVW	R1, 0(R0)
	ADD	$24, R9
	SUB	$1, R10
	CBNZ	R10, patch
	MOVB	R1, ·holds(SB)

start:
	MOVD	$1, R0
	MOVB	R0, ·entered(SB)
	MOVD	R21, R0
	JMP	_rt0_arm64_linux(SB)

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
// on the signal stack: R0 is the signal, R1 its siginfo_t, R2 the context, and
// R30 leads to rt_sigreturn(2) in the vDSO.
//
// One that somebody sent by kill(2) or sigqueue(3) (si_code SI_USER, 0, or
// SI_QUEUE, -1) is written down: the first byte of siginfo_t, the low one of
// si_signo, is its number. Any other, such as a fault, or what threads send each
// other by tgkill(2), goes on to the handler that was there before.
TEXT hotinit_catch(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVW	8(R1), R3
	ADDW	$1, R3
	CMPW	$1, R3
	BLS	write	// unsigned: -1 and 0 only
	MOVD	$·chained(SB), R3
	MOVWU	R0, R4
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
