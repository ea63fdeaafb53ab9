#include "textflag.h"

// CLONE_VM|SIGCHLD; numbers of system calls as in the kernel's table.
#define FLAGS 0x111
#define SYS_SCHED_YIELD 24
#define SYS_NANOSLEEP 35
#define SYS_GETPID 39
#define SYS_CLONE 56
#define SYS_GETPPID 110
#define SYS_EXIT_GROUP 231

// 200 microseconds, as a struct timespec.
DATA moment<>+0(SB)/8, $0
DATA moment<>+8(SB)/8, $200000
GLOBL moment<>(SB), RODATA, $16

// func startBrood(n int) (pid int)
TEXT ·startBrood(SB), NOSPLIT, $0-16
	MOVQ n+0(FP), R12
	MOVQ $FLAGS, DI
	XORQ SI, SI
	XORQ DX, DX
	XORQ R10, R10
	XORQ R8, R8
	MOVQ $SYS_CLONE, AX
	SYSCALL
	TESTQ AX, AX
	JNZ  started

	// The parent of the brood.
	MOVQ $SYS_GETPID, AX
	SYSCALL
	MOVQ AX, R13

next:
	TESTQ R12, R12
	JZ    end
	MOVQ $FLAGS, DI
	XORQ SI, SI
	XORQ DX, DX
	XORQ R10, R10
	XORQ R8, R8
	MOVQ $SYS_CLONE, AX
	SYSCALL
	TESTQ AX, AX
	JZ   orphan
	JS   again
	DECQ R12
	JMP  next

again: // EAGAIN: at the limit of processes
	MOVQ $SYS_SCHED_YIELD, AX
	SYSCALL
	JMP  next

orphan: // every second one stays until it has another parent
	TESTQ $1, R12
	JZ    end

wait:
	MOVQ $SYS_GETPPID, AX
	SYSCALL
	CMPQ AX, R13
	JNE  end
	MOVQ $moment<>(SB), DI
	XORQ SI, SI
	MOVQ $SYS_NANOSLEEP, AX
	SYSCALL
	JMP  wait

end:
	XORQ DI, DI
	MOVQ $SYS_EXIT_GROUP, AX
	SYSCALL
	JMP  end

started:
	MOVQ AX, pid+8(FP)
	RET
