package index

import (
	"bytes"
	"slices"

	"github.com/signetd/signet/api/chain"
)

// Changes gathers entries that a map does not have yet, for [Map.Update]. The zero Changes is empty.
type Changes struct {
	first   uint64
	entries []chain.Hash // leaf hashes, from the entry first on
	refs    []ref
	sorted  bool
	counts  []uint64 // of the keys, in their order, as the last Update has left them
}

// ref says that an entry has a key.
type ref struct {
	key   chain.Hash
	entry uint32 // counted from the first
}

// Add adds the next entry, by its leaf hash and the hashes of its keys. Entries come one after the other.
func (c *Changes) Add(index uint64, leaf chain.Hash, keys []chain.Hash) {
	if len(c.entries) == 0 {
		c.first = index
	}
	for _, k := range keys {
		c.refs = append(c.refs, ref{k, uint32(len(c.entries))})
	}
	c.entries = append(c.entries, leaf)
	c.sorted = false
}

// Len returns the number of entries.
func (c *Changes) Len() int { return len(c.entries) }

// sort brings the references into the order of their keys, and for each key into that of the entries.
func (c *Changes) sort() {
	if !c.sorted {
		slices.SortFunc(c.refs, func(a, b ref) int {
			if o := bytes.Compare(a.key[:], b.key[:]); o != 0 {
				return o
			}
			return int(a.entry) - int(b.entry)
		})
		c.sorted = true
	}
}

// Each calls fn with each key, in order, its entries, and how many there are in the map that Update has made last.
func (c *Changes) Each(fn func(key chain.Hash, entries []uint64, count uint64) error) error {
	c.sort()
	var entries []uint64
	for i, rest := 0, c.refs; len(rest) > 0 && i < len(c.counts); i++ {
		n := sameKey(rest)
		entries = entries[:0]
		for _, r := range rest[:n] {
			entries = append(entries, c.first+uint64(r.entry))
		}
		if err := fn(rest[0].key, entries, c.counts[i]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// sameKey returns how many references at the beginning have the first one's key.
func sameKey(refs []ref) int {
	n := 1
	for n < len(refs) && refs[n].key == refs[0].key {
		n++
	}
	return n
}

// extend appends the entries of references to a list.
func (c *Changes) extend(l List, refs []ref) List {
	for _, r := range refs {
		l = l.Append(c.first+uint64(r.entry), c.entries[r.entry])
	}
	return l
}

// Hashes returns the hashes of keys.
func Hashes(keys []Key) []chain.Hash {
	out := make([]chain.Hash, len(keys))
	for i, k := range keys {
		out[i] = k.Hash()
	}
	return out
}
