#include "textflag.h"

// func noFile(l *Limit) bool
//
// prlimit64(0, RLIMIT_NOFILE, NULL, l), see prlimit(2).
TEXT ·noFile(SB),NOSPLIT,$0-9
	MOVQ	$0, DI
	MOVQ	$7, SI
	MOVQ	$0, DX
	MOVQ	l+0(FP), R10
	MOVQ	$302, AX
	SYSCALL
	TESTQ	AX, AX
	SETEQ	ret+8(FP)
	RET
