package chain

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

const (
	// MaxNote is the largest size of a signed checkpoint in bytes, cosignatures included.
	MaxNote = 64 << 10
	// MaxSignatures is the largest number of signature lines of a checkpoint.
	MaxSignatures = 100
	// MaxOrigin is the largest size of an origin in bytes.
	MaxOrigin = 256
)

// Checkpoint is the head of a ledger: its size and root. Signed, it commits the ledger to all entries so far.
type Checkpoint struct {
	Origin string // names the ledger; also the name of its key
	Size   uint64 // number of entries
	Root   Hash   // root of the tree
}

// Text returns the text that is signed: origin, size and root (base64), a line each.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// Validate checks origin and size.
func (c Checkpoint) Validate() error {
	if !validName(c.Origin) {
		return malformed("checkpoint: origin %.80q: want a name of at most %d bytes without spaces and +", c.Origin, MaxOrigin)
	}
	if c.Size > MaxSize {
		return malformed("checkpoint: size %d; the largest is %d", c.Size, uint64(MaxSize))
	}
	if c.Size == 0 && c.Root != EmptyRoot {
		return malformed("checkpoint: an empty tree has the root %s", EmptyRoot)
	}
	return nil
}

// validName reports whether s can name a key in a signed note, and so a ledger.
func validName(s string) bool {
	return s != "" && len(s) <= MaxOrigin && utf8.ValidString(s) && !strings.Contains(s, "+") &&
		strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) < 0
}

// ParseCheckpoint reads the text of a checkpoint, without signatures. Extension lines are refused.
func ParseCheckpoint(text string) (Checkpoint, error) {
	if len(text) > MaxNote {
		return Checkpoint{}, malformed("checkpoint: %d bytes; the limit is %d", len(text), MaxNote)
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, malformed("checkpoint: want the three lines origin, size and root, and no other")
	}
	size, err := parseDecimal(lines[1])
	if err != nil {
		return Checkpoint{}, err
	}
	root, err := parseBase64Hash(lines[2])
	if err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	return c, c.Validate()
}

// parseDecimal reads an unsigned number without sign and leading zeros.
func parseDecimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, malformed("number %.40q: want a decimal without sign and leading zeros", s)
	}
	return n, nil
}

// parseBase64 reads standard base64 with padding, without stray bits and line breaks.
func parseBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // the decoder would skip them
		return nil, malformed("base64: line break")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, malformed("base64: %v", err)
	}
	return b, nil
}

func parseBase64Hash(s string) (Hash, error) {
	if len(s) != 44 {
		return Hash{}, malformed("hash %.80q: want 32 bytes in base64", s)
	}
	b, err := parseBase64(s)
	if err != nil {
		return Hash{}, err
	}
	if len(b) != len(Hash{}) {
		return Hash{}, malformed("hash %.80q: want 32 bytes in base64", s)
	}
	return Hash(b), nil
}

// OpenCheckpoint reads a signed checkpoint and verifies the one signature of v's key that it must carry. The origin must be
// the name of the key. Well-formed signature lines of other keys are ignored.
func OpenCheckpoint(signed []byte, v note.Verifier) (Checkpoint, error) {
	text, err := checkNote(signed, v)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := ParseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, malformed("checkpoint: its origin is %q, but the key's name %q", c.Origin, v.Name())
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	if n.Text != text || len(n.Sigs) != 1 {
		return Checkpoint{}, fmt.Errorf("%w: two readings of one note", ErrSignature)
	}
	return c, nil
}

// checkNote holds a signed note to more than note.Open does: bounds, canonical base64 in each line, and the known key at
// most once. It returns the text, not verified yet.
func checkNote(signed []byte, v note.Verifier) (string, error) {
	if len(signed) > MaxNote {
		return "", malformed("checkpoint: %d bytes; the limit is %d", len(signed), MaxNote)
	}
	split := bytes.LastIndex(signed, []byte("\n\n"))
	if split < 0 || signed[len(signed)-1] != '\n' {
		return "", malformed("checkpoint: no signature lines after an empty line")
	}
	known, count := false, 0
	for line := range strings.Lines(string(signed[split+2:])) {
		if count++; count > MaxSignatures {
			return "", malformed("checkpoint: more than %d signatures", MaxSignatures)
		}
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "— ")
		name, encoded, both := strings.Cut(rest, " ")
		if !ok || !both || !validName(name) {
			return "", malformed("checkpoint: signature line %d is not of the form \"— name base64\"", count)
		}
		raw, err := parseBase64(encoded)
		if err != nil || len(raw) < 5 {
			return "", malformed("checkpoint: signature line %d is not canonical base64 of a key hash and a signature", count)
		}
		if name == v.Name() && binary.BigEndian.Uint32(raw) == v.KeyHash() {
			if known {
				return "", malformed("checkpoint: two signatures of one key")
			}
			known = true
		}
	}
	if !known {
		return "", fmt.Errorf("%w: no signature of the key %s+%08x", ErrSignature, v.Name(), v.KeyHash())
	}
	return string(signed[:split+1]), nil
}

// SignedNote signs a checkpoint with the key of the given name and hash (see [VerifierKey]). sign gets the text; it signs
// with Ed25519, or with ECDSA over SHA-256 (ASN.1 DER).
func SignedNote(ctx context.Context, c Checkpoint, name string, keyHash uint32,
	sign func(ctx context.Context, msg []byte) ([]byte, error)) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if name != c.Origin {
		return nil, malformed("checkpoint: its origin is %q, but the key's name %q", c.Origin, name)
	}
	text := c.Text()
	sig, err := sign(ctx, []byte(text))
	if err != nil {
		return nil, err
	}
	raw := append(binary.BigEndian.AppendUint32(nil, keyHash), sig...)
	return fmt.Appendf(nil, "%s\n— %s %s\n", text, name, base64.StdEncoding.EncodeToString(raw)), nil
}
