#include "textflag.h"

// func bounds() (text, etext, rodata, erodata uintptr)
TEXT ·bounds(SB),NOSPLIT,$0-32
	LEAQ	runtime·text(SB), AX
	MOVQ	AX, text+0(FP)
	LEAQ	runtime·etext(SB), AX
	MOVQ	AX, etext+8(FP)
	LEAQ	runtime·rodata(SB), AX
	MOVQ	AX, rodata+16(FP)
	LEAQ	runtime·epclntab(SB), AX
	MOVQ	AX, erodata+24(FP)
	RET
