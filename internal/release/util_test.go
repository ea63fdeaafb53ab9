package release

import (
	"crypto/sha256"
	"os"
	"testing"
)

func digestOf(content string) Digest { return sha256.Sum256([]byte(content)) }

func script(text string) string { return "#!/bin/sh\necho " + text + "\n" }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}
