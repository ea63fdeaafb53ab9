#include "textflag.h"

// func cloneShared(trap, a, b, c uintptr, im *image, code uintptr) (pid, errno uintptr)
//
// The child calls Go code with Go's own calling convention (argument in AX, X15
// zero) and by address. A call by name would go through a wrapper, where the race
// detector inserts calls that use the parent thread's state. There is no g (R14);
// nosplit functions need none.
TEXT ·cloneShared(SB),NOSPLIT|NOFRAME,$0-64
	MOVQ	trap+0(FP), AX
	MOVQ	a+8(FP), DI
	MOVQ	b+16(FP), SI
	MOVQ	c+24(FP), DX
	MOVQ	im+32(FP), R12	// system calls keep R12 and R13
	MOVQ	code+40(FP), R13
	XORL	R10, R10
	XORL	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JNE	parent

	XORL	R14, R14
	XORPS	X15, X15
	MOVQ	R12, AX
	CALL	R13
	INT	$3

parent:
	XORL	CX, CX
	CMPQ	AX, $0xfffffffffffff001
	JCS	done
	MOVQ	AX, CX
	NEGQ	CX
	XORL	AX, AX
done:
	MOVQ	AX, pid+48(FP)
	MOVQ	CX, errno+56(FP)
	RET
