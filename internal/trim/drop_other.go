//go:build !amd64 && !arm64

package trim

// drop does nothing: there is no assembly for bounds on this architecture.
func drop() {}
