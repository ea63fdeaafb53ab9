// Package inits proves that hotinit is a plain init that users of tini,
// dumb-init and catatonit can switch to: each test runs it as a real PID 1,
// and where another init is known to do the same, that one too, so that the
// test is known to be right.
//
// The app is testdata/probe.c: a plain C program, since Go's runtime has
// signals and handlers of its own. Read main_test.go for how both are started.
package inits
