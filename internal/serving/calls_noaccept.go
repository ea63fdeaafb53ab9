//go:build 386 || s390x

package serving

// sysAccept is none: accept4(2) is what the C library calls there.
const sysAccept = -5
