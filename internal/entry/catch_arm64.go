package entry

// SA_SIGINFO | SA_ONSTACK | SA_RESTART, see sigaction(2)
const catchFlags = 0x4 | 0x08000000 | 0x10000000

// handler returns the address of hotinit_catch. The vDSO has the restorer.
func handler() (catch, restorer uintptr)
