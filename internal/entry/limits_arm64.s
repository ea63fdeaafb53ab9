#include "textflag.h"

#define INIT_TRIES 23	// the process itself is the 24th
#define HANDOFF_TRIES 10

DATA role<>+0(SB)/8, $"hotinit-"
DATA role<>+8(SB)/8, $"handoff\x00"
GLOBL role<>(SB), RODATA|NOPTR, $16

// hotinit_limits ends the process where a limit is too low for Go's runtime: with a
// line and 125, or silently with 2 where it is a handoff, since init then says that.
// hotinit_entry calls it: 0(RSP) is argc, 8(RSP) is argv[0].
TEXT hotinit_limits(SB),NOSPLIT|NOFRAME,$0
	// R19: how many threads are tried
	MOVD	$INIT_TRIES, R19
	MOVD	8(RSP), R0
	CBZ	R0, limits
	MOVD	$role<>(SB), R1
	MOVD	0(R0), R2
	MOVD	0(R1), R3
	CMP	R2, R3
	BNE	limits
	MOVD	8(R0), R2
	MOVD	8(R1), R3
	CMP	R2, R3
	BNE	limits
	MOVD	$HANDOFF_TRIES, R19
limits:
	MOVD	$·limit(SB), R25
	MOVD	$·needs(SB), R20
	MOVD	$2, R21
need:
	// prlimit64(0, resource, NULL, &limit)
	MOVD	$0, R0
	MOVD	0(R20), R1
	MOVD	$0, R2
	MOVD	R25, R3
	MOVD	$261, R8
	SVC
	CBNZ	R0, next
	MOVD	0(R25), R0
	MOVD	8(R20), R1
	CMP	R1, R0
	BLO	low
next:
	ADD	$48, R20
	SUB	$1, R21
	CBNZ	R21, need

	MOVD	$·threads(SB), R20
	MOVD	$0, R0
	MOVD	0(R20), R1
	MOVD	$0, R2
	MOVD	R25, R3
	MOVD	$261, R8
	SVC
	CBNZ	R0, enough
	MOVD	0(R25), R0
	MOVD	8(R20), R1
	CMP	R1, R0
	BHS	enough

	// The threads are started for a try: they wait at the gate, and end.
	// clone(CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM, 0, ...)
	// They have no stack of their own, and use none.
	MOVD	$·tried(SB), R24
	MOVD	$·gate(SB), R26
	MOVD	$0, R21
try:
	MOVD	$0x50f00, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$220, R8
	SVC
	CBZ	R0, thread
	TBNZ	$63, R0, open
	MOVW	R0, (R24)(R21<<2)
	ADD	$1, R21
	CMP	R19, R21
	BNE	try
open:
	SUB	R21, R19, R22	// how many are missing
	// futex(&gate, FUTEX_WAKE_PRIVATE, 23)
	MOVD	$1, R0
	MOVW	R0, (R26)
	MOVD	R26, R0
	MOVD	$129, R1
	MOVD	$23, R2
	MOVD	$98, R8
	SVC
	// getpid()
	MOVD	$172, R8
	SVC
	MOVD	R0, R23
gone:
	SUB	$1, R21
	TBNZ	$63, R21, ended
ending:
	// tgkill(pid, tid, 0), until there is no such thread: it counts no more then
	MOVD	R23, R0
	MOVWU	(R24)(R21<<2), R1
	MOVD	$0, R2
	MOVD	$131, R8
	SVC
	CBNZ	R0, gone
	// sched_yield()
	MOVD	$124, R8
	SVC
	JMP	ending
ended:
	CBNZ	R22, low
enough:
	RET

thread:
	// futex(&gate, FUTEX_WAIT_PRIVATE, 0, NULL)
	MOVWU	(R26), R0
	CBNZ	R0, exit
	MOVD	R26, R0
	MOVD	$128, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$98, R8
	SVC
	JMP	thread
exit:
	MOVD	$0, R0
	MOVD	$93, R8
	SVC
	BRK

low:
	CMP	$INIT_TRIES, R19
	BNE	silent
	MOVD	0(R25), R0
	MOVD	$·digits+24(SB), R1
	MOVD	R1, R2
	MOVD	$10, R3
digit:
	UDIV	R3, R0, R4
	MSUB	R3, R0, R4, R5	// R0 - R4*R3
	ADD	$48, R5	// '0'
	SUB	$1, R1
	MOVB	R5, (R1)
	MOVD	R4, R0
	CBNZ	R0, digit
	SUB	R1, R2
	MOVD	$·parts(SB), R6
	MOVD	16(R20), R0
	MOVD	R0, 0(R6)
	MOVD	24(R20), R0
	MOVD	R0, 8(R6)
	MOVD	R1, 16(R6)
	MOVD	R2, 24(R6)
	MOVD	32(R20), R0
	MOVD	R0, 32(R6)
	MOVD	40(R20), R0
	MOVD	R0, 40(R6)
	// writev(2, parts, 3)
	MOVD	$2, R0
	MOVD	R6, R1
	MOVD	$3, R2
	MOVD	$66, R8
	SVC
	MOVD	$125, R0
	JMP	end
silent:
	MOVD	$2, R0
end:
	MOVD	$94, R8	// exit_group
	SVC
	BRK
