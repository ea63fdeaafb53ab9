#include "textflag.h"

// func cloneShared(flags, stack uintptr, pidfd *int32, im *image, code uintptr) (pid, errno uintptr)
//
// The child calls Go code as Go's compiler does (argument in AX, X15 zero), not
// by a name: under that would be a wrapper, into which the race detector puts
// calls of its own, on the state of the thread that this is a child of. There
// is no g (R14), and nosplit functions need none.
TEXT ·cloneShared(SB),NOSPLIT|NOFRAME,$0-56
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	pidfd+16(FP), DX
	MOVQ	im+24(FP), R12	// system calls keep R12 and R13
	MOVQ	code+32(FP), R13
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$56, AX
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
	MOVQ	AX, pid+40(FP)
	MOVQ	CX, errno+48(FP)
	RET

// func cloneSharedInto(args *cloneArgs, size uintptr, im *image, code uintptr) (pid, errno uintptr)
TEXT ·cloneSharedInto(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	im+16(FP), R12
	MOVQ	code+24(FP), R13
	MOVL	$435, AX
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
	MOVQ	AX, pid+32(FP)
	MOVQ	CX, errno+40(FP)
	RET
