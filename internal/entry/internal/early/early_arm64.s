#include "textflag.h"

// func noFile(l *Limit) bool
//
// prlimit64(0, RLIMIT_NOFILE, NULL, l), see prlimit(2).
TEXT ·noFile(SB),NOSPLIT,$0-9
	MOVD	$0, R0
	MOVD	$7, R1
	MOVD	$0, R2
	MOVD	l+0(FP), R3
	MOVD	$261, R8
	SVC
	CMP	$0, R0
	CSET	EQ, R0
	MOVB	R0, ret+8(FP)
	RET
