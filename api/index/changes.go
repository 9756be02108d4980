package index

import (
	"bytes"
	"maps"
	"slices"

	"github.com/signetd/signet/api/chain"
)

// Changes gathers what entries change in a map, for [Map.Update].
type Changes struct {
	m     Map
	pages Pages
	lists map[chain.Hash]List
}

// NewChanges begins with a map and nothing changed.
func NewChanges(m Map, pages Pages) *Changes {
	return &Changes{m, pages, map[chain.Hash]List{}}
}

// Add appends an entry, by its leaf hash, to the lists of its keys, given by their hashes. Entries come in order.
func (c *Changes) Add(index uint64, leaf chain.Hash, keys []chain.Hash) error {
	for _, k := range keys {
		list, ok := c.lists[k]
		if !ok {
			var err error
			if list, err = c.m.Get(c.pages, k); err != nil {
				return err
			}
		}
		c.lists[k] = list.Append(index, leaf)
	}
	return nil
}

// Len returns the number of keys that change.
func (c *Changes) Len() int { return len(c.lists) }

// Leaves returns what changes, sorted.
func (c *Changes) Leaves() []Leaf {
	out := make([]Leaf, 0, len(c.lists))
	for k, l := range maps.All(c.lists) {
		out = append(out, Leaf{k, l})
	}
	slices.SortFunc(out, func(a, b Leaf) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return out
}

// Hashes returns the hashes of keys.
func Hashes(keys []Key) []chain.Hash {
	out := make([]chain.Hash, len(keys))
	for i, k := range keys {
		out[i] = k.Hash()
	}
	return out
}
