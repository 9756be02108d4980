package index

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// List stands for the ordered list of the entries of a key: how many, and a hash over all of them. The zero List is the empty one.
type List struct {
	Count uint64
	Hash  chain.Hash
}

// Append returns the list with one more entry. Indexes rise.
func (l List) Append(index uint64, leaf chain.Hash) List {
	var b [1 + 32 + 8 + 32]byte
	b[0] = 0x02
	copy(b[1:], l.Hash[:])
	binary.BigEndian.PutUint64(b[33:], index)
	copy(b[41:], leaf[:])
	return List{l.Count + 1, sha256.Sum256(b[:])}
}

// Leaf is a key in the map, with its list.
type Leaf struct {
	Key chain.Hash // [Key.Hash]
	List
}

// hash returns the hash of the leaf.
func (l *Leaf) hash() chain.Hash {
	var b [1 + 32 + 8 + 32]byte
	copy(b[1:], l.Key[:])
	binary.BigEndian.PutUint64(b[33:], l.Count)
	copy(b[41:], l.Hash[:])
	return sha256.Sum256(b[:])
}

// nodeHash returns the hash of a subtree of two leaves or more.
func nodeHash(left, right chain.Hash) chain.Hash {
	var b [1 + 32 + 32]byte
	b[0] = 0x01
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// Commitment is the body of index.committed.
type Commitment struct {
	Entries uint64     `json:"entries,string"` // the index is that over the entries [0, Entries)
	Format  string     `json:"format"`         // Format
	Keys    uint64     `json:"keys,string"`    // in the map
	Root    chain.Hash `json:"root"`           // of the map
}

// MaxLag is how many entries may lie between the size of an index and the entry that commits to it.
const MaxLag = 1 << 16

// ParseCommitment reads an entry of the type index.committed, and checks that it speaks of the entries before it.
func ParseCommitment(e chain.Entry) (Commitment, error) {
	var c Commitment
	if e.Type != chain.IndexCommitted {
		return c, malformed("entry %d is of the type %s, not %s", e.Index, e.Type, chain.IndexCommitted)
	}
	if err := jcs.UnmarshalCanonical(e.Body, &c); err != nil {
		return Commitment{}, malformed("%s: %v", e.Type, err)
	}
	switch {
	case c.Format != Format:
		return Commitment{}, malformed("%s: format %.80q; this program reads %s", e.Type, c.Format, Format)
	case c.Entries == 0 || c.Keys == 0:
		return Commitment{}, malformed("%s: an index without entries is not committed", e.Type)
	case c.Entries > e.Index:
		return Commitment{}, malformed("%s: entry %d commits to %d entries, more than lie before it", e.Type, e.Index, c.Entries)
	case e.Index-c.Entries > MaxLag:
		return Commitment{}, malformed("%s: entry %d commits to the first %d entries alone; the limit is %d entries between",
			e.Type, e.Index, c.Entries, MaxLag)
	}
	return c, nil
}
