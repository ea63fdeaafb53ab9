// This empty file is needed: without an assembly file the compiler refuses the
// functions without bodies in fork.go, which the runtime provides.
