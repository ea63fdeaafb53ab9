//go:build !amd64 && !arm64

package adopt

const auditArch = 0

// supported is false: the filter is tried on amd64 and arm64 only.
const supported = false
