package entry

// SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER, see sigaction(2)
const catchFlags = 0x4 | 0x08000000 | 0x10000000 | 0x04000000

// handler returns the addresses of hotinit_catch and hotinit_return.
func handler() (catch, restorer uintptr)
