package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/signetd/signet/api/chain"
)

// The map keeps its leaves in pages: a subtree of at most pageLeaves leaves is a page, its leaves in the order of their keys. What lies
// above the pages is kept in memory. This is a matter of this program alone; the format knows nothing of it.
const (
	pageLeaves = 32
	leafSize   = 32 + 8 + 32
	maxDepth   = 256
)

// ErrPage says that a page is not the one that the map's root stands for: it was changed, or belongs to another state of the map.
var ErrPage = errors.New("a page of the index is not the one that its root stands for")

// PageID names a page: its place in the tree, by the first bits of the keys in it.
type PageID struct {
	Bits   uint16     // how many, at most 256
	Prefix chain.Hash // the others are zero
}

// Pages reads pages. What Read returns is not kept; an error ends what the map was asked to do.
type Pages interface {
	Read(id PageID) ([]byte, error)
}

// Map is a state of the map: from keys to lists. It does not change; [Map.Update] makes the next one. The zero Map is the empty one.
// Its pages lie elsewhere ([Pages]), and every page that is read is held against the root.
type Map struct{ root *node }

// node is a subtree: a page, or two subtrees. An empty subtree is nil.
type node struct {
	hash        chain.Hash
	leaves      uint64
	left, right *node // both nil: a page
}

func (n *node) isPage() bool { return n.left == nil && n.right == nil }

func (n *node) sum() chain.Hash {
	if n == nil {
		return chain.Hash{}
	}
	return n.hash
}

func (n *node) count() uint64 {
	if n == nil {
		return 0
	}
	return n.leaves
}

// Root returns the root: 32 zeros for the empty map.
func (m Map) Root() chain.Hash { return m.root.sum() }

// Len returns the number of keys.
func (m Map) Len() uint64 { return m.root.count() }

// bit returns bit i of a hash, the most significant bit of the first byte first.
func bit(h *chain.Hash, i int) byte { return h[i/8] >> (7 - i%8) & 1 }

// child returns the id of a half of a subtree.
func (id PageID) child(right byte) PageID {
	if right == 1 {
		id.Prefix[id.Bits/8] |= 1 << (7 - id.Bits%8)
	}
	id.Bits++
	return id
}

// decodePage reads the leaves of a page.
func decodePage(b []byte, dst []Leaf) ([]Leaf, error) {
	if len(b) == 0 || len(b)%leafSize != 0 || len(b) > pageLeaves*leafSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrPage, len(b))
	}
	for ; len(b) > 0; b = b[leafSize:] {
		l := Leaf{Key: chain.Hash(b[:32]), List: List{binary.BigEndian.Uint64(b[32:]), chain.Hash(b[40:72])}}
		if len(dst) > 0 && bytes.Compare(dst[len(dst)-1].Key[:], l.Key[:]) >= 0 {
			return nil, fmt.Errorf("%w: its keys do not rise", ErrPage)
		}
		dst = append(dst, l)
	}
	return dst, nil
}

func encodePage(leaves []Leaf) []byte {
	b := make([]byte, 0, len(leaves)*leafSize)
	for i := range leaves {
		b = append(b, leaves[i].Key[:]...)
		b = binary.BigEndian.AppendUint64(b, leaves[i].Count)
		b = append(b, leaves[i].Hash[:]...)
	}
	return b
}

// half returns how many of the leaves, sorted, have a zero as bit depth.
func half(leaves []Leaf, depth int) int {
	n, _ := slices.BinarySearchFunc(leaves, 1, func(l Leaf, _ int) int { return int(bit(&l.Key, depth)) - 1 })
	return n
}

// subtree returns the hash of the subtree of sorted leaves whose keys share the first depth bits. Different keys part before bit 256.
func subtree(leaves []Leaf, depth int) chain.Hash {
	switch len(leaves) {
	case 0:
		return chain.Hash{}
	case 1:
		return leaves[0].hash()
	}
	n := half(leaves, depth)
	return nodeHash(subtree(leaves[:n], depth+1), subtree(leaves[n:], depth+1))
}

// read reads a page and holds it against its node.
func (n *node) read(pages Pages, id PageID, dst []Leaf) ([]Leaf, error) {
	b, err := pages.Read(id)
	if err != nil {
		return nil, err
	}
	leaves, err := decodePage(b, dst)
	if err != nil {
		return nil, err
	}
	for _, l := range leaves {
		if !id.holds(&l.Key) {
			return nil, fmt.Errorf("%w: it holds a key of another page", ErrPage)
		}
	}
	if _, ours := pages.(*scratch); ours { // nobody else can write there
		return leaves, nil
	}
	if uint64(len(leaves)) != n.leaves || subtree(leaves, int(id.Bits)) != n.hash {
		return nil, fmt.Errorf("%w: its hash is another", ErrPage)
	}
	return leaves, nil
}

// holds reports whether a key belongs below id.
func (id PageID) holds(key *chain.Hash) bool {
	full := int(id.Bits / 8)
	if !bytes.Equal(key[:full], id.Prefix[:full]) {
		return false
	}
	rest := id.Bits % 8
	return rest == 0 || (key[full]^id.Prefix[full])>>(8-rest) == 0
}

// Update returns the map in which the lists of keys have more entries. Pages that change are handed to put; an empty one is gone. The
// pages of m are read from pages.
func (m Map) Update(pages Pages, c *Changes, put func(id PageID, page []byte) error) (Map, error) {
	c.sort()
	c.counts = c.counts[:0]
	u := updater{c, pages, put}
	root, err := u.node(m.root, PageID{}, c.refs)
	return Map{root}, err
}

type updater struct {
	*Changes
	pages Pages
	put   func(id PageID, page []byte) error
}

// node brings references, sorted, into a subtree.
func (u updater) node(n *node, id PageID, refs []ref) (*node, error) {
	switch {
	case len(refs) == 0:
		return n, nil
	case n == nil:
		return u.build(id, u.merge(nil, refs))
	case n.isPage():
		leaves, err := n.read(u.pages, id, make([]Leaf, 0, pageLeaves))
		if err != nil {
			return nil, err
		}
		merged := u.merge(leaves, refs)
		if len(merged) > pageLeaves {
			if err := u.put(id, nil); err != nil {
				return nil, err
			}
		}
		return u.build(id, merged)
	}
	depth := int(id.Bits)
	at, _ := slices.BinarySearchFunc(refs, 1, func(r ref, _ int) int { return int(bit(&r.key, depth)) - 1 })
	left, err := u.node(n.left, id.child(0), refs[:at])
	if err != nil {
		return nil, err
	}
	right, err := u.node(n.right, id.child(1), refs[at:])
	if err != nil {
		return nil, err
	}
	return join(left, right), nil
}

// build makes a subtree of leaves.
func (u updater) build(id PageID, leaves []Leaf) (*node, error) {
	if len(leaves) == 0 {
		return nil, nil
	}
	if len(leaves) <= pageLeaves {
		return &node{hash: subtree(leaves, int(id.Bits)), leaves: uint64(len(leaves))}, u.put(id, encodePage(leaves))
	}
	at := half(leaves, int(id.Bits))
	left, err := u.build(id.child(0), leaves[:at])
	if err != nil {
		return nil, err
	}
	right, err := u.build(id.child(1), leaves[at:])
	if err != nil {
		return nil, err
	}
	return join(left, right), nil
}

// join makes a subtree of two, which together have more leaves than a page.
func join(left, right *node) *node {
	return &node{hash: nodeHash(left.sum(), right.sum()), leaves: left.count() + right.count(), left: left, right: right}
}

// merge extends the lists of leaves, and adds leaves for keys that have none.
func (u updater) merge(leaves []Leaf, refs []ref) []Leaf {
	out := make([]Leaf, 0, len(leaves)+len(refs))
	for len(refs) > 0 {
		key := &refs[0].key
		for len(leaves) > 0 && bytes.Compare(leaves[0].Key[:], key[:]) < 0 {
			out, leaves = append(out, leaves[0]), leaves[1:]
		}
		l := Leaf{Key: *key}
		if len(leaves) > 0 && leaves[0].Key == *key {
			l, leaves = leaves[0], leaves[1:]
		}
		n := sameKey(refs)
		l.List = u.extend(l.List, refs[:n])
		u.counts = append(u.counts, l.Count)
		out, refs = append(out, l), refs[n:]
	}
	return append(out, leaves...)
}

// find returns the page that a key leads to, and the hashes beside the way there, from the root down. A nil node is an empty subtree.
func (m Map) find(key *chain.Hash, siblings *[]chain.Hash) (*node, PageID) {
	n, id := m.root, PageID{}
	for n != nil && !n.isPage() {
		right := bit(key, int(id.Bits))
		next, other := n.left, n.right
		if right == 1 {
			next, other = other, next
		}
		if siblings != nil {
			*siblings = append(*siblings, other.sum())
		}
		n, id = next, id.child(right)
	}
	return n, id
}

// Get returns the list of a key; the empty one if the map does not have it.
func (m Map) Get(pages Pages, key chain.Hash) (List, error) {
	n, id := m.find(&key, nil)
	if n == nil {
		return List{}, nil
	}
	leaves, err := n.read(pages, id, make([]Leaf, 0, pageLeaves))
	if err != nil {
		return List{}, err
	}
	i, ok := slices.BinarySearchFunc(leaves, key, func(l Leaf, k chain.Hash) int { return bytes.Compare(l.Key[:], k[:]) })
	if !ok {
		return List{}, nil
	}
	return leaves[i].List, nil
}

// Prove returns what shows which list a key has, or that it has none.
func (m Map) Prove(pages Pages, key chain.Hash) (MapProof, error) {
	p := MapProof{Siblings: []chain.Hash{}}
	n, id := m.find(&key, &p.Siblings)
	if n == nil {
		return p, nil
	}
	leaves, err := n.read(pages, id, make([]Leaf, 0, pageLeaves))
	if err != nil {
		return MapProof{}, err
	}
	for depth := int(id.Bits); len(leaves) > 1; depth++ {
		at := half(leaves, depth)
		mine, others := leaves[:at], leaves[at:]
		if bit(&key, depth) == 1 {
			mine, others = others, mine
		}
		p.Siblings = append(p.Siblings, subtree(others, depth+1))
		leaves = mine
	}
	if len(leaves) == 1 {
		p.Leaf = &leaves[0]
	}
	return p, nil
}

// Load returns the map that pages make up. each calls yield with all of them, in any order.
func Load(each func(yield func(id PageID, page []byte) error) error) (Map, error) {
	top := &sketch{}
	err := each(func(id PageID, page []byte) error {
		leaves, err := decodePage(page, make([]Leaf, 0, pageLeaves))
		if err != nil {
			return err
		}
		if id.Bits > maxDepth || prefix(id.Prefix, int(id.Bits)) != id.Prefix {
			return fmt.Errorf("%w: its place does not exist", ErrPage)
		}
		for i := range leaves {
			if !id.holds(&leaves[i].Key) {
				return fmt.Errorf("%w: it holds a key of another page", ErrPage)
			}
		}
		return top.insert(id, &node{hash: subtree(leaves, int(id.Bits)), leaves: uint64(len(leaves))})
	})
	if err != nil {
		return Map{}, err
	}
	root, err := top.node()
	return Map{root}, err
}

// sketch is a tree whose hashes are not known yet.
type sketch struct {
	page        *node
	left, right *sketch
}

func (s *sketch) insert(id PageID, page *node) error {
	for i := range int(id.Bits) {
		if s.page != nil {
			return fmt.Errorf("%w: it lies below another", ErrPage)
		}
		next := &s.left
		if bit(&id.Prefix, i) == 1 {
			next = &s.right
		}
		if *next == nil {
			*next = &sketch{}
		}
		s = *next
	}
	if s.page != nil || s.left != nil || s.right != nil {
		return fmt.Errorf("%w: others lie below it", ErrPage)
	}
	s.page = page
	return nil
}

// node computes the hashes.
func (s *sketch) node() (*node, error) {
	if s == nil {
		return nil, nil
	}
	if s.page != nil {
		return s.page, nil
	}
	left, err := s.left.node()
	if err != nil {
		return nil, err
	}
	right, err := s.right.node()
	if err != nil {
		return nil, err
	}
	n := join(left, right)
	switch {
	case n.leaves == 0:
		return nil, nil
	case n.leaves <= pageLeaves:
		return nil, fmt.Errorf("%w: %d leaves lie on more than one page", ErrPage, n.leaves)
	}
	return n, nil
}
