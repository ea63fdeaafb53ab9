#include "textflag.h"

#define INIT_TRIES 23	// the process itself is the 24th
#define HANDOFF_TRIES 10

DATA role<>+0(SB)/8, $"hotinit-"
DATA role<>+8(SB)/8, $"handoff\x00"
GLOBL role<>(SB), RODATA|NOPTR, $16

// hotinit_limits ends the process where a limit is too low for Go's runtime: with a
// line and 125, or silently with 2 where it is a handoff, since init then says that.
// hotinit_entry calls it: 8(SP) is argc, 16(SP) is argv[0].
TEXT hotinit_limits(SB),NOSPLIT|NOFRAME,$0
	// R15: how many threads are tried
	MOVL	$INIT_TRIES, R15
	MOVQ	16(SP), AX
	TESTQ	AX, AX
	JEQ	limits
	MOVQ	role<>+0(SB), DX
	CMPQ	DX, 0(AX)
	JNE	limits
	MOVQ	role<>+8(SB), DX
	CMPQ	DX, 8(AX)
	JNE	limits
	MOVL	$HANDOFF_TRIES, R15
limits:
	LEAQ	·needs(SB), BX
	MOVL	$2, R13
need:
	// prlimit64(0, resource, NULL, &limit)
	XORL	DI, DI
	MOVQ	0(BX), SI
	XORL	DX, DX
	LEAQ	·limit(SB), R10
	MOVL	$302, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	next
	MOVQ	·limit(SB), AX
	CMPQ	AX, 8(BX)
	JCS	low	// unsigned
next:
	ADDQ	$48, BX
	DECL	R13
	JNE	need

	LEAQ	·threads(SB), BX
	XORL	DI, DI
	MOVQ	0(BX), SI
	XORL	DX, DX
	LEAQ	·limit(SB), R10
	MOVL	$302, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	enough
	MOVQ	·limit(SB), AX
	CMPQ	AX, 8(BX)
	JCC	enough

	// The threads are started for a try: they wait at the gate, and end.
	// clone(CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM, 0, ...)
	// They have no stack of their own, and use none.
	XORL	R13, R13
	MOVL	R15, R9
try:
	MOVL	$0x50f00, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$56, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	thread
	JLT	open
	LEAQ	·tried(SB), CX
	MOVL	AX, (CX)(R13*4)
	INCQ	R13
	CMPQ	R13, R9
	JNE	try
open:
	SUBQ	R13, R9	// how many are missing
	// futex(&gate, FUTEX_WAKE_PRIVATE, 23)
	LEAQ	·gate(SB), DI
	MOVL	$1, (DI)
	MOVL	$129, SI
	MOVL	$23, DX
	MOVL	$202, AX
	SYSCALL
	// getpid()
	MOVL	$39, AX
	SYSCALL
	MOVQ	AX, R14
gone:
	DECQ	R13
	JLT	ended
ending:
	// tgkill(pid, tid, 0), until there is no such thread: it counts no more then
	MOVQ	R14, DI
	LEAQ	·tried(SB), CX
	MOVL	(CX)(R13*4), SI
	XORL	DX, DX
	MOVL	$234, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	gone
	// sched_yield()
	MOVL	$24, AX
	SYSCALL
	JMP	ending
ended:
	TESTQ	R9, R9
	JNE	low
enough:
	RET

thread:
	// futex(&gate, FUTEX_WAIT_PRIVATE, 0, NULL)
	LEAQ	·gate(SB), DI
	MOVL	(DI), AX
	TESTL	AX, AX
	JNE	exit
	MOVL	$128, SI
	XORL	DX, DX
	XORL	R10, R10
	MOVL	$202, AX
	SYSCALL
	JMP	thread
exit:
	XORL	DI, DI
	MOVL	$60, AX
	SYSCALL
	INT	$3

low:
	CMPL	R15, $INIT_TRIES
	JNE	silent
	MOVQ	·limit(SB), AX
	LEAQ	·digits+24(SB), DI
	MOVQ	DI, SI
	MOVL	$10, CX
digit:
	XORL	DX, DX
	DIVQ	CX
	ADDL	$'0', DX
	DECQ	DI
	MOVB	DX, (DI)
	TESTQ	AX, AX
	JNE	digit
	SUBQ	DI, SI
	LEAQ	·parts(SB), R10
	MOVQ	16(BX), AX
	MOVQ	AX, 0(R10)
	MOVQ	24(BX), AX
	MOVQ	AX, 8(R10)
	MOVQ	DI, 16(R10)
	MOVQ	SI, 24(R10)
	MOVQ	32(BX), AX
	MOVQ	AX, 32(R10)
	MOVQ	40(BX), AX
	MOVQ	AX, 40(R10)
	// writev(2, parts, 3)
	MOVL	$2, DI
	MOVQ	R10, SI
	MOVL	$3, DX
	MOVL	$20, AX
	SYSCALL
	MOVL	$125, DI
	JMP	end
silent:
	MOVL	$2, DI
end:
	MOVL	$231, AX	// exit_group
	SYSCALL
	INT	$3
