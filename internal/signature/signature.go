// Package signature verifies what was signed by minisign(1).
//
// The invariant: what Verify accepts was signed, content and trusted comment, by
// one of the keys as they are at that moment. Nothing of a signature is believed,
// or shown, that was not.
//
// Keys are public keys in the files of --trusted-key, a Signature is what is in a
// .minisig file. Package aead.dev/minisign does the work. Signatures over the
// content itself, which old versions of minisign make (and new ones with -l), are
// refused: to verify one, the whole content has to be in memory.
package signature

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"aead.dev/minisign"
	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
)

// Suffix is that of the name of a file's signature.
const Suffix = ".minisig"

const (
	// mostSignature bounds the text of a signature, which is kept as long as the
	// release is. minisign's own comments take about 330 bytes.
	mostSignature = 2 << 10
	mostKey       = 1 << 10
)

// Keys are the paths of the files with the keys that are trusted.
type Keys []string

// Check reports, by its error, which of the keys cannot be used.
func (k Keys) Check() error {
	for _, path := range k {
		if _, err := readKey(path); err != nil {
			return err
		}
	}
	return nil
}

func readKey(path string) (key minisign.PublicKey, err error) {
	failed := func(err error) (minisign.PublicKey, error) {
		return key, fmt.Errorf("the trusted key %s cannot be used: %w", path, err)
	}
	fd, err := safepath.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fs)); err != nil {
		return failed(err)
	}
	owned := st.Uid == 0 || int(st.Uid) == unix.Geteuid()
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return failed(errors.New("it is not a regular file"))
	case fs.Flags&unix.ST_RDONLY == 0 && (!owned || st.Mode&0o022 != 0):
		return failed(errors.New("others than root and hotinit's own user may write to it (chown it to root, chmod go-w, or mount it read-only)"))
	}
	b := make([]byte, mostKey+1)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return failed(err)
	}
	if key, err = ParseKey(b[:n]); err != nil {
		return failed(err)
	}
	return key, nil
}

// ParseKey reads a public key as `minisign -G` writes it.
func ParseKey(text []byte) (key minisign.PublicKey, err error) {
	if len(text) > mostKey || key.UnmarshalText(text) != nil {
		return key, errors.New("it has no public key of minisign in it")
	}
	return key, nil
}

// A Signature is what is in a .minisig file. It is not verified by being one.
type Signature struct {
	text   string
	parsed minisign.Signature
}

// Text is what Parse reads. The comment that nobody signed is not in it.
func (s *Signature) Text() string { return s.text }

// Parse reads a signature as `minisign -S` writes it. An error is, as that of
// Verify, what there is to say of a signature.
func Parse(text []byte) (*Signature, error) {
	if len(text) > mostSignature {
		return nil, fmt.Errorf("has more than %d bytes (sign with a shorter comment)", mostSignature)
	}
	s := new(Signature)
	if s.parsed.UnmarshalText(text) != nil {
		return nil, errors.New("is not a signature of minisign, or not a complete one")
	}
	if s.parsed.Algorithm != minisign.HashEdDSA {
		return nil, errors.New("is in the old format (sign with minisign 0.10 or newer, without -l)")
	}
	s.parsed.UntrustedComment = "-"
	s.text = s.parsed.String()
	return s, nil
}

// ID is the key's, as minisign shows it.
func (s *Signature) ID() string { return id(s.parsed.KeyID) }

func id(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return fmt.Sprintf("%X", b)
}

// Content is what was read of something that is signed.
type Content struct{ hash *minisign.Reader }

// Read reads a content to its end, through buf.
func Read(from io.Reader, buf []byte) (Content, error) {
	c := Content{minisign.NewReader(from)}
	for {
		_, err := c.hash.Read(buf)
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}

// Verify reports, by its error, why a content is not what one of the keys has
// signed. Keys that cannot be read do not count.
func (s *Signature) Verify(keys Keys, c Content) error {
	var known []string
	for _, path := range keys {
		key, err := readKey(path)
		switch {
		case err != nil:
			known = append(known, err.Error())
		case key.ID() != s.parsed.KeyID:
			known = append(known, id(key.ID())+" in "+path)
		case c.hash.Verify(key, []byte(s.text)):
			return nil
		default:
			return errors.New("does not belong to this content, or was altered (sign what is deployed, and deploy both)")
		}
	}
	return fmt.Errorf("is of key %s, which is not trusted: --trusted-key has %s", s.ID(), strings.Join(known, ", "))
}

// Time is when it was signed, in seconds since 1970, by the timestamp: that
// minisign writes into the trusted comment. It counts only once it is verified.
func (s *Signature) Time() (seconds int64, ok bool) {
	for field := range strings.FieldsSeq(s.parsed.TrustedComment) {
		if text, found := strings.CutPrefix(field, "timestamp:"); found {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 || ok && n != seconds {
				return 0, false
			}
			seconds, ok = n, true
		}
	}
	return seconds, ok
}
