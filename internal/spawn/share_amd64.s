#include "textflag.h"

// func cloneShared(trap, a, b, c uintptr, im *image, code uintptr) (pid, errno uintptr)
//
// The child calls Go code as Go's compiler does (argument in AX, X15 zero), not
// by a name: under that would be a wrapper, into which the race detector puts
// calls of its own, on the state of the thread that this is a child of. There
// is no g (R14), and nosplit functions need none.
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
