package watch

import "crypto/sha256"

func digestOf(content string) Digest { return sha256.Sum256([]byte(content)) }
