package index

import (
	"encoding/json/v2"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// MapProof shows which list a key has in a map, or that the map does not have the key.
type MapProof struct {
	Siblings []chain.Hash // beside the way from the root to where the key leads, from the root down
	Leaf     *Leaf        // what stands there: the key's own leaf; another's, or nothing, where the map does not have the key
}

// mapProof is the JSON of a MapProof. Without a leaf, key and list are empty and the count is 0.
type mapProof struct {
	Count    uint64       `json:"count,string"`
	Key      string       `json:"key"`
	List     string       `json:"list"`
	Siblings []chain.Hash `json:"siblings"`
}

// MarshalJSON implements [json.Marshaler].
func (p MapProof) MarshalJSON() ([]byte, error) {
	w := mapProof{Siblings: p.Siblings}
	if p.Leaf != nil {
		w.Count, w.Key, w.List = p.Leaf.Count, p.Leaf.Key.String(), p.Leaf.Hash.String()
	}
	return json.Marshal(w)
}

// UnmarshalJSON implements [json.Unmarshaler]. It is strict.
func (p *MapProof) UnmarshalJSON(b []byte) error {
	var w mapProof
	if err := jcs.Unmarshal(b, &w); err != nil {
		return malformed("map proof: %v", err)
	}
	if len(w.Siblings) > maxDepth {
		return malformed("map proof: %d hashes; the limit is %d", len(w.Siblings), maxDepth)
	}
	*p = MapProof{Siblings: w.Siblings}
	if w.Key == "" && w.List == "" && w.Count == 0 {
		return nil
	}
	if w.Count == 0 {
		return malformed("map proof: a leaf without entries")
	}
	key, err := chain.ParseHash(w.Key)
	if err != nil {
		return malformed("map proof: key: %v", err)
	}
	list, err := chain.ParseHash(w.List)
	if err != nil {
		return malformed("map proof: list: %v", err)
	}
	p.Leaf = &Leaf{key, List{w.Count, list}}
	return nil
}

// Verify checks the proof against the root of a map and returns the list of the key: the empty one where the map does not have it.
func (p MapProof) Verify(root, key chain.Hash) (List, error) {
	if len(p.Siblings) > maxDepth {
		return List{}, unproved("the map's proof has %d hashes; the limit is %d", len(p.Siblings), maxDepth)
	}
	depth := len(p.Siblings)
	if depth > 0 && p.Siblings[depth-1].IsZero() {
		// A subtree of one leaf is that leaf, and one of none is empty: where the way ends there is something on the other side.
		return List{}, unproved("the map's proof goes on beyond its end")
	}
	h, list := chain.Hash{}, List{}
	if p.Leaf != nil {
		below := PageID{Bits: uint16(depth), Prefix: prefix(key, depth)}
		switch {
		case p.Leaf.Count == 0:
			return List{}, unproved("the map's proof has a leaf without entries")
		case p.Leaf.Key == key:
			list = p.Leaf.List
		case !below.holds(&p.Leaf.Key):
			return List{}, unproved("the map's proof ends at a leaf to which the key does not lead")
		}
		h = p.Leaf.hash()
	}
	for i := depth - 1; i >= 0; i-- {
		if bit(&key, i) == 1 {
			h = nodeHash(p.Siblings[i], h)
		} else {
			h = nodeHash(h, p.Siblings[i])
		}
	}
	if h != root {
		return List{}, unproved("the map's proof leads to the root %s, not to %s", h, root)
	}
	return list, nil
}

// prefix returns the first bits of a hash, the others zero.
func prefix(h chain.Hash, bits int) chain.Hash {
	for i := bits; i < maxDepth; i++ {
		h[i/8] &^= 1 << (7 - i%8)
	}
	return h
}
