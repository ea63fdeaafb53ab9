// Package serving observes, from outside, whether processes serve sockets: who
// waits for connections, who accepts them, and how many connections wait.
//
// Its invariant: it reports facts and decides nothing. A fact is reported only
// when the kernel shows it; when the kernel does not show it, the report says
// so (Blind), and never guesses.
//
// Everything read from a process (its descriptors, its memory, its names) is
// untrusted: each read is bounded, and a wrong value can at worst be taken for
// a fact about the very process that wrote it.
//
// Read socket.go for what a listening socket is, look.go for one look at a
// generation's processes (calls.go reads what a thread waits for, fds.go what a
// process has open), diag.go for the kernel's list of connections, observe.go
// for a candidate that is looked at until it serves, and stall.go for a queue
// that is watched for as long as a program runs.
package serving
