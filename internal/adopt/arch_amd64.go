package adopt

import "golang.org/x/sys/unix"

// auditArch is what seccomp(2) calls this architecture.
const auditArch = unix.AUDIT_ARCH_X86_64

const supported = true
