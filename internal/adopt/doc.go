// Package adopt takes over the listening sockets that an app binds itself, by
// seccomp user notification, seccomp_unotify(2).
//
// The invariant: what the app sees of its system calls is what the kernel would
// have answered it, but for one thing: where a socket of its program is held for
// the address that it binds, its descriptor becomes that socket. Whatever
// cannot be read, is not understood, or is none of hotinit's business is left
// to the kernel (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
//
// There are two ways. Where pidfd_getfd(2) is allowed, the kernel does the first
// bind, and the app's own socket is taken when it starts to listen. Where it is
// not (Docker's default profile), hotinit makes the socket at bind, with the
// options that it has seen set, and holds it once the app listens.
//
// All that is read from an app is untrusted: it may change while it is looked
// at, and the thread may be gone and its number another's. So the notification
// is checked to be alive after everything is read, and nothing that an app
// writes leads to more than its own descriptor being replaced by a socket of
// its own program.
//
// Read filter.go (which calls are notified), adopt.go (who is asked), held.go (the
// sockets), bind.go (the decisions), made.go and udp.go (sockets of which it is not known
// yet whose they are), between.go (instances that start together), process.go (reading),
// journal.go (what outlives a handoff).
package adopt
