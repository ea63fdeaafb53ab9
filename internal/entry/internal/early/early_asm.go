//go:build amd64 || arm64

package early

//go:noescape
func noFile(l *Limit) bool
