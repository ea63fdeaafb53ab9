package watch

import (
	"crypto/sha256"
	"os"
	"testing"

	"github.com/hotinit/hotinit/internal/release"
)

func digestOf(content string) release.Digest { return sha256.Sum256([]byte(content)) }

// put makes a file with a mode that no umask changes.
func put(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
