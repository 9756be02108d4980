// Package chain is the verifying half of Signet's ledger: entries, the hash chain, the Merkle tree, checkpoints and
// proofs. It reads no file and opens no socket.
//
// # The problem
//
// Everything that Signet does leaves an entry in one ledger. Whoever holds a copy of an entry must be able to show, years
// later and without the server, that it stands in that ledger at its place, that nothing before it was changed, and that a
// later state of the ledger still contains it.
//
// # Entries: signet-entry/v1
//
// An entry ([Entry]) is canonical JSON (RFC 8785) of at most [MaxEntry] bytes:
//
//	{"actor":{"id":"sgn_…","kind":"person","method":"password","session":"…","source":"<hex or empty>"},"body":{…},
//	 "index":"41","prev":"<64 hex>","request":"<64 hex or empty>","time":"2026-11-21T09:30:00.123Z","type":"signature.created","v":1}
//
// Its leaf hash is SHA-256(0x00 ‖ entry) ([LeafHash]). "prev" is the leaf hash of the entry before it, 64 zeros in the first:
// the chain stands inside the leaves of the tree, so that chain and tree cannot be told apart. A walk along the chain is
// never a proof without inclusion in the tree.
//
// # Tree, checkpoints, proofs
//
// The tree is that of RFC 6962 with SHA-256. Its head is signed as a C2SP tlog-checkpoint 1.0.0 without extension lines, in
// a C2SP signed note 1.0.0 ([OpenCheckpoint], [SignedNote]), with Ed25519 (type 0x01) or ECDSA (type 0x02, SHA-256). The
// name of the key is the origin of the ledger. A proof that one entry is in the tree is a C2SP tlog-proof
// ("c2sp.org/tlog-proof@v1", without an "extra" line; [Proof]).
//
// # Strictness
//
// Every value has one encoding. Parsers refuse everything else: other layouts, unknown members and types, leading zeros,
// stray bits in base64, upper-case hex, anything after the end. The one exception is deliberate: signature lines of keys that
// the reader does not know (cosignatures of witnesses) are carried along unread, as C2SP wants it, but must be well formed.
//
// # Compatibility
//
// What this package accepts today it accepts for ever. Entry types are appended, never removed or given a new meaning. A
// change of shape gets a new version number and a reader of its own.
package chain

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart. All others are about wrong arguments.
var (
	// ErrMalformed is wrapped by every error about bytes that are not what they should be. The input must be refused.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge says that an entry has more than MaxEntry bytes; the error wraps ErrMalformed too. Name large things by digest.
	ErrTooLarge = errors.New("too large")
	// ErrSignature says that a checkpoint carries no valid signature of the expected key: it is forged, or the key is another.
	ErrSignature = errors.New("checkpoint signature does not verify")
	// ErrProof says that a proof does not lead to the root: the entry, its place or the ledger is not what is claimed.
	ErrProof = errors.New("proof does not verify")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w "+format, append([]any{ErrMalformed}, args...)...)
}

func tooLarge(what string, size int) error {
	return fmt.Errorf("%w and %w: %s of %d bytes; the limit is %d: name large things by their digest",
		ErrMalformed, ErrTooLarge, what, size, MaxEntry)
}
