#include "textflag.h"

// func bounds() (text, etext, rodata, erodata uintptr)
TEXT ·bounds(SB),NOSPLIT,$0-32
	MOVD	$runtime·text(SB), R0
	MOVD	R0, text+0(FP)
	MOVD	$runtime·etext(SB), R0
	MOVD	R0, etext+8(FP)
	MOVD	$runtime·rodata(SB), R0
	MOVD	R0, rodata+16(FP)
	MOVD	$runtime·epclntab(SB), R0
	MOVD	R0, erodata+24(FP)
	RET
