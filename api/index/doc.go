// Package index is the verifying half of Signet's index over the ledger: which entries belong to a signer, an event, a session or a
// type, and that none is left out. It opens no socket.
//
// # The problem
//
// An inclusion proof (package chain) shows that an entry is in the ledger. It cannot show that there is no other: a server that is asked for
// every signature of somebody could leave one out. So Signet keeps an index, a map from keys to the ordered lists of the entries that have
// them, and commits its root to the ledger again and again, as an entry of the type index.committed. Whoever has all entries can compute the
// same root and compare ([Checker]); whoever has a single list can hold it against that root ([Verify]).
//
// # Keys: signet-index/v1
//
// A key is a kind, a colon and a value. The keys of an entry follow from its bytes alone:
//
//	type:<v>     the entry's "type"
//	actor:<v>    "actor"."id"
//	session:<v>  "actor"."session", and in the body every member "session"
//	event:<v>    in the body every member "event"
//	subject:<v>  in the body every member "bundle", "by", "destruction", "id", "keyId", "preparation", "record", "requester", "signer",
//	             "statement", "subject" or "successor"
//
// A member of the body counts however deep it lies in objects and arrays, if its value is a string (the elements of an array have no name
// and do not count). The value of the key is the string itself, unescaped, in UTF-8. An empty one, or one of more than 256 bytes, gives no
// key. An entry has each of its keys once.
//
// # Lists and map
//
// Below, ‖ joins bytes, integers have 8 bytes and are big-endian, and leaf(i) is the leaf hash of entry i, SHA-256(0x00 ‖ entry).
//
// The list of a key over the first N entries is all entries below N that have it, in order. Its count is their number, and its hash begins
// with 32 zero bytes and takes each entry in:
//
//	h = SHA-256(0x02 ‖ h ‖ i ‖ leaf(i))
//
// The map is a binary tree over the 256 bits of SHA-256(key), the most significant bit first, 0 to the left. The hash of a subtree is
//
//	of no key:            32 zero bytes
//	of one key:           SHA-256(0x00 ‖ SHA-256(key) ‖ count ‖ list hash), however deep it lies
//	of two keys or more:  SHA-256(0x01 ‖ left ‖ right)
//
// and that of the whole is the root. Every entry is in the index, those of the type index.committed too.
//
// # The commitment
//
// The body of index.committed ([Commitment]) is
//
//	{"entries":"<N>","format":"signet-index/v1","keys":"<number of keys>","root":"<hex>"}
//
// It speaks of the entries below N. N is at least 1, at most the index of the entry itself, not more than 65,536 below it, and larger than
// the index of the index.committed before it.
//
// # Completeness: signet-completeness/v1
//
// A document that shows, offline, every entry that has a key, as of a signed checkpoint of size S. It is JSON Lines: each line is canonical
// JSON (RFC 8785) of at most 262,143 bytes and ends with a line feed. The first line:
//
//	{"checkpoint":"<signed note>","commitment":"<index of the index.committed entry>","entries":"<N>","format":"signet-completeness/v1",
//	 "key":"<key>","map":{"count":"<count>","key":"<hex>","list":"<hex>","siblings":["<hex>",…]},"subtrees":["<hex>",…]}
//
// "map" says what stands in the map where the key leads: the leaf of the key, or of another one, or nothing (count "0", key and list ""), and
// the hashes of the subtrees beside the way there, from the root down. "subtrees" are the roots of the complete subtrees of the tree of N
// entries, the largest first. As long as there is no commitment, N is "0", "commitment" is "", and the three others are empty.
//
// If "map" has the leaf of the key, as many lines follow as its count says, one for each entry of the list, in order. "proof" is the RFC
// 6962 audit path of the entry to the root of the checkpoint, the sibling of the leaf first:
//
//	{"entry":"<the bytes of the entry>","proof":["<hex>",…]}
//
// Then come all entries from N to S-1, whatever their keys, and nothing after them:
//
//	{"entry":"<the bytes of the entry>"}
//
// Who verifies it
//
//  1. opens the checkpoint with the pinned key of the ledger (and asks for its witnesses, where some are demanded): S and the root;
//  2. checks of each listed entry that its index is larger than that of the one before and below N, that it has the key, and its proof;
//     and computes count and hash of the list;
//  3. appends the leaves of the entries N to S-1, which say that they are just these, to "subtrees", and compares the root with the
//     checkpoint's;
//  4. finds the commitment among them, at its index, with just this N; walks from the leaf that "map" names (32 zero bytes for nothing)
//     back to the root along the siblings, on the sides that the bits of SHA-256(key) say, and compares with the committed root; the last
//     sibling is never 32 zero bytes, and the leaf of another key agrees with the key in as many bits as there are siblings;
//  5. compares count and hash of the list with the leaf of the key; without one the list is empty.
//
// The entries of the key are then the listed ones and those of the rest that have the key: all there are below S.
//
// # What a verifier leans on
//
// The document proves that the list is the one that the ledger has committed to. That the committed list itself is complete is shown by
// computing the index over all entries, which needs all entries: `signetd ledger check` does it, so does the scrub of a running server, and
// so does whoever verifies an export of the whole ledger. All of them refuse a ledger with a wrong commitment, and the commitment cannot be
// taken back, because it is an entry. So whoever holds one document leans on somebody having done this, at any time since; what lies between
// N and S does not lean on it, since it is there in full.
//
// # Compatibility
//
// What this package accepts today it accepts for ever. Kinds and members are never removed; another one would be a signet-index/v2, with
// commitments of its own.
package index

import (
	"errors"
	"fmt"
)

// The names of the formats.
const (
	Format         = "signet-index/v1"
	DocumentFormat = "signet-completeness/v1"
)

// Errors that callers tell apart.
var (
	// ErrMalformed is wrapped by every error about bytes that are not what they should be. The input must be refused.
	ErrMalformed = errors.New("malformed")
	// ErrProof says that a document does not prove what it claims: an entry is left out, added, changed or out of its place.
	ErrProof = errors.New("completeness is not proved")
	// ErrRoot says that a committed root is not that of the index over the entries before it.
	ErrRoot = errors.New("committed index root is wrong")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

func unproved(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProof}, args...)...)
}

// isFault reports whether an error is about the entries, not about what is needed to check them.
func isFault(err error) bool { return errors.Is(err, ErrMalformed) || errors.Is(err, ErrRoot) }
