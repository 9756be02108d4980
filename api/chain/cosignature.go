package chain

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A witness remembers the newest checkpoint of each ledger that it watches and cosigns a larger one only if that is a later
// state of the same ledger. So a ledger that shows different people different histories needs the help of its witnesses.
//
// A cosignature is a signature line below a signed checkpoint, as in C2SP tlog-cosignature 1.0.1 with Ed25519 ("cosignature/v1",
// type 0x04): the base64 of the key's hash (4 bytes), the time in seconds since 1970 (8 bytes, big-endian) and the signature (64
// bytes) over
//
//	cosignature/v1
//	time 1763717400
//	<the text of the checkpoint>
//
// The key's hash is the first 4 bytes of SHA-256(name ‖ "\n" ‖ 0x04 ‖ key), and its text "name+hash+base64(0x04 ‖ key)". A time of
// zero is refused, and so is one beyond 2⁶³-1.

// algCosignature is the type of Ed25519 cosignatures.
const algCosignature = 0x04

// cosignatureSize is the size of what follows the key's hash.
const cosignatureSize = 8 + ed25519.SignatureSize

// Cosigner is the public key of a witness.
type Cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// CosignerOf returns the cosigner of a name and key.
func CosignerOf(name string, key ed25519.PublicKey) (Cosigner, error) {
	if !validName(name) {
		return Cosigner{}, malformed("witness name %.80q: want at most %d bytes without spaces and +", name, MaxOrigin)
	}
	if len(key) != ed25519.PublicKeySize {
		return Cosigner{}, malformed("witness key: Ed25519 key of %d bytes", len(key))
	}
	typed := append([]byte{algCosignature}, key...)
	return Cosigner{name, shortHash(append([]byte(name+"\n"), typed...)), bytes.Clone(key)}, nil
}

// ParseCosigner reads the text of a witness's key, "name+hash+key".
func ParseCosigner(vkey string) (Cosigner, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, encoded, both := strings.Cut(rest, "+")
	if !both || len(vkey) > maxVerifierKey {
		return Cosigner{}, malformed("witness key %.80q: want name+hash+key", vkey)
	}
	raw, err := parseBase64(encoded)
	if err != nil || len(raw) < 2 {
		return Cosigner{}, malformed("witness key of %.80q: the key is not canonical base64", name)
	}
	if raw[0] != algCosignature || len(raw) != 1+ed25519.PublicKeySize {
		return Cosigner{}, malformed("witness key of %.80q: type 0x%02x with %d bytes; want Ed25519 cosignature/v1, type 0x%02x", name, raw[0],
			len(raw)-1, algCosignature)
	}
	c, err := CosignerOf(name, raw[1:])
	if err != nil {
		return Cosigner{}, err
	}
	if c.String() != vkey {
		return Cosigner{}, malformed("witness key of %.80q: the hash does not fit the key, or it is not in its one form", name)
	}
	return c, nil
}

// Name returns the name of the key, as in signature lines.
func (c Cosigner) Name() string { return c.name }

// KeyHash returns the hash of the key, as in signature lines.
func (c Cosigner) KeyHash() uint32 { return c.hash }

// PublicKey returns the key.
func (c Cosigner) PublicKey() ed25519.PublicKey { return bytes.Clone(c.key) }

// String returns the text of the key, which [ParseCosigner] reads.
func (c Cosigner) String() string {
	return fmt.Sprintf("%s+%08x+%s", c.name, c.hash, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, c.key...)))
}

// message is what a cosignature covers.
func cosignedMessage(text string, at uint64) []byte {
	return append(strconv.AppendUint([]byte("cosignature/v1\ntime "), at, 10), "\n"+text...)
}

// Cosign returns the signature line over the text of a checkpoint, with a newline at its end. sign signs with the key of c; what it
// returns is verified. The caller vouches that the checkpoint is a later state of all that it has cosigned before.
func (c Cosigner) Cosign(ctx context.Context, text string, at time.Time,
	sign func(ctx context.Context, msg []byte) ([]byte, error)) ([]byte, error) {
	seconds := at.Unix()
	if seconds <= 0 {
		return nil, fmt.Errorf("a cosignature at %v: set the clock", at)
	}
	msg := cosignedMessage(text, uint64(seconds))
	sig, err := sign(ctx, msg)
	if err != nil {
		return nil, err
	}
	if len(sig) != ed25519.SignatureSize || !ed25519.Verify(c.key, msg, sig) {
		return nil, fmt.Errorf("%w: the new cosignature is not of the key %s+%08x", ErrSignature, c.name, c.hash)
	}
	raw := binary.BigEndian.AppendUint32(nil, c.hash)
	raw = append(binary.BigEndian.AppendUint64(raw, uint64(seconds)), sig...)
	return fmt.Appendf(nil, "— %s %s\n", c.name, base64.StdEncoding.EncodeToString(raw)), nil
}

// Verify looks for a valid cosignature of c among the signature lines of a signed checkpoint, and returns when it was made and its
// line, with a newline at its end. The signature of the ledger is not looked at: see [OpenCheckpoint].
func (c Cosigner) Verify(signed []byte) (at time.Time, line []byte, err error) {
	text, lines, err := splitNote(signed)
	if err != nil {
		return time.Time{}, nil, err
	}
	found := false
	for _, l := range lines {
		if l.name != c.name || binary.BigEndian.Uint32(l.raw) != c.hash {
			continue
		}
		found = true
		if len(l.raw) != 4+cosignatureSize {
			continue
		}
		seconds := binary.BigEndian.Uint64(l.raw[4:])
		if seconds == 0 || seconds > math.MaxInt64 || !ed25519.Verify(c.key, cosignedMessage(text, seconds), l.raw[12:]) {
			continue
		}
		return time.Unix(int64(seconds), 0).UTC(), []byte(l.line), nil
	}
	if found {
		return time.Time{}, nil, fmt.Errorf("%w: the cosignature of %s+%08x", ErrSignature, c.name, c.hash)
	}
	return time.Time{}, nil, fmt.Errorf("%w: no cosignature of %s+%08x", ErrSignature, c.name, c.hash)
}

// noteLine is one signature line of a signed note.
type noteLine struct {
	line string // with its newline
	name string
	raw  []byte // key hash and signature
}

// splitNote splits a signed note into its text and its well-formed signature lines. Nothing is verified.
func splitNote(signed []byte) (text string, lines []noteLine, err error) {
	if len(signed) > MaxNote {
		return "", nil, malformed("checkpoint: %d bytes; the limit is %d", len(signed), MaxNote)
	}
	split := bytes.LastIndex(signed, []byte("\n\n"))
	if split < 0 || signed[len(signed)-1] != '\n' {
		return "", nil, malformed("checkpoint: no signature lines after an empty line")
	}
	for line := range strings.Lines(string(signed[split+2:])) {
		if len(lines) == MaxSignatures {
			return "", nil, malformed("checkpoint: more than %d signatures", MaxSignatures)
		}
		l, err := parseNoteLine(line)
		if err != nil {
			return "", nil, malformed("checkpoint: signature line %d: %v", len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	return string(signed[:split+1]), lines, nil
}

func parseNoteLine(line string) (noteLine, error) {
	body, ended := strings.CutSuffix(line, "\n")
	rest, ok := strings.CutPrefix(body, "— ")
	name, encoded, both := strings.Cut(rest, " ")
	if !ended || !ok || !both || !validName(name) {
		return noteLine{}, malformed("it is not of the form \"— name base64\"")
	}
	raw, err := parseBase64(encoded)
	if err != nil || len(raw) < 5 {
		return noteLine{}, malformed("it is not canonical base64 of a key hash and a signature")
	}
	return noteLine{line, name, raw}, nil
}

// AddSignatures returns a signed checkpoint with the signature lines of another copy of it added. Lines of a key that already
// has one are passed over, so that no signature that is there goes away. The texts must be the same; no signature is verified.
func AddSignatures(signed, other []byte) ([]byte, error) {
	text, lines, err := splitNote(signed)
	if err != nil {
		return nil, err
	}
	otherText, added, err := splitNote(other)
	if err != nil {
		return nil, err
	}
	if otherText != text {
		return nil, malformed("checkpoint: signatures of another checkpoint cannot be added")
	}
	type key struct {
		name string
		hash uint32
	}
	have := map[key]bool{}
	for _, l := range lines {
		have[key{l.name, binary.BigEndian.Uint32(l.raw)}] = true
	}
	out := bytes.Clone(signed)
	count := len(lines)
	for _, l := range added {
		k := key{l.name, binary.BigEndian.Uint32(l.raw)}
		if have[k] {
			continue
		}
		have[k] = true
		if count++; count > MaxSignatures || len(out)+len(l.line) > MaxNote {
			return nil, malformed("checkpoint: more than %d signatures or %d bytes", MaxSignatures, MaxNote)
		}
		out = append(out, l.line...)
	}
	return out, nil
}
