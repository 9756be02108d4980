package chain

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// MaxSize is the largest size of a tree.
	MaxSize = 1<<62 - 1
	// MaxProof is the largest number of hashes in a proof.
	MaxProof = 63
)

// HashReader reads stored hashes by their index in the order of golang.org/x/mod/sumdb/tlog (see StoredHashIndex there).
// It returns as many hashes as there are indexes, or an error.
type HashReader func(indexes []int64) ([]tlog.Hash, error)

// Frontier is the right edge of a tree: the roots of its complete subtrees, the largest first. It is all that is needed to
// append to the tree and to know its root. The zero Frontier is the empty tree.
type Frontier struct {
	size  uint64
	nodes []Hash
}

// NewFrontier reads the right edge of a tree of the given size.
func NewFrontier(size uint64, read HashReader) (*Frontier, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("a tree of %d entries; the largest is %d", size, uint64(MaxSize))
	}
	f := &Frontier{size: size}
	if size == 0 {
		return f, nil
	}
	var indexes []int64
	start := uint64(0)
	for level := bits.Len64(size) - 1; level >= 0; level-- {
		if size&(1<<level) != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(start>>level)))
			start += 1 << level
		}
	}
	hashes, err := read(indexes)
	if err != nil {
		return nil, err
	}
	if len(hashes) != len(indexes) {
		return nil, fmt.Errorf("read %d tree hashes, want %d", len(hashes), len(indexes))
	}
	f.nodes = fromTlog(hashes)
	return f, nil
}

// Size returns the number of entries in the tree.
func (f *Frontier) Size() uint64 { return f.size }

// Clone returns a copy that can be appended to without changing f.
func (f *Frontier) Clone() *Frontier {
	return &Frontier{f.size, append(make([]Hash, 0, len(f.nodes)+8), f.nodes...)}
}

// Append adds a leaf. It calls store for each hash that the leaf completes, with its stored index; these indexes
// rise by one from call to call and from leaf to leaf. The cost is O(1) amortised.
func (f *Frontier) Append(leaf Hash, store func(index int64, h Hash)) {
	index := tlog.StoredHashIndex(0, int64(f.size))
	store(index, leaf)
	h := leaf
	for n := f.size; n&1 == 1; n >>= 1 {
		h = NodeHash(f.nodes[len(f.nodes)-1], h)
		f.nodes = f.nodes[:len(f.nodes)-1]
		index++
		store(index, h)
	}
	f.nodes = append(f.nodes, h)
	f.size++
}

// Root returns the root of the tree.
func (f *Frontier) Root() Hash {
	if len(f.nodes) == 0 {
		return EmptyRoot
	}
	h := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		h = NodeHash(f.nodes[i], h)
	}
	return h
}

// StoredHashCount returns how many hashes are stored for a tree of the given size, at the indexes from 0.
func StoredHashCount(size uint64) int64 {
	if size > MaxSize {
		return 0
	}
	return tlog.StoredHashCount(int64(size))
}

// Root returns the root of the tree of the given size. It reads O(log size) hashes.
func Root(size uint64, read HashReader) (Hash, error) {
	f, err := NewFrontier(size, read)
	if err != nil {
		return Hash{}, err
	}
	return f.Root(), nil
}

// ProveInclusion returns the audit path (RFC 6962, section 2.1.1) of the entry at index in the tree of the given size.
func ProveInclusion(index, size uint64, read HashReader) ([]Hash, error) {
	if size > MaxSize || index >= size {
		return nil, fmt.Errorf("no entry %d in a tree of %d entries", index, size)
	}
	p, err := tlog.ProveRecord(int64(size), int64(index), tlog.HashReaderFunc(read))
	return fromTlog(p), err
}

// ProveConsistency returns the proof (RFC 6962, section 2.1.2) that the tree of newSize extends the tree of oldSize. It is
// empty for an empty or an equal tree.
func ProveConsistency(oldSize, newSize uint64, read HashReader) ([]Hash, error) {
	if newSize > MaxSize || oldSize > newSize {
		return nil, fmt.Errorf("a tree of %d entries does not extend one of %d", newSize, oldSize)
	}
	if oldSize == 0 || oldSize == newSize {
		return []Hash{}, nil
	}
	p, err := tlog.ProveTree(int64(newSize), int64(oldSize), tlog.HashReaderFunc(read))
	return fromTlog(p), err
}

// VerifyInclusion checks that the tree of the given size and root has leaf at index.
func VerifyInclusion(proof []Hash, size, index uint64, root, leaf Hash) error {
	if size > MaxSize || index >= size || len(proof) > MaxProof {
		return fmt.Errorf("%w: no entry %d in a tree of %d entries, or more than %d hashes", ErrProof, index, size, MaxProof)
	}
	if tlog.CheckRecord(toTlog(proof), int64(size), tlog.Hash(root), int64(index), tlog.Hash(leaf)) != nil {
		return fmt.Errorf("%w: entry %d is not in the tree of %d entries with root %s", ErrProof, index, size, root)
	}
	return nil
}

// VerifyConsistency checks that the tree of newSize and newRoot extends the tree of oldSize and oldRoot.
func VerifyConsistency(proof []Hash, oldSize, newSize uint64, oldRoot, newRoot Hash) error {
	switch {
	case newSize > MaxSize || oldSize > newSize || len(proof) > MaxProof:
		return fmt.Errorf("%w: a tree of %d entries does not extend one of %d, or more than %d hashes",
			ErrProof, newSize, oldSize, MaxProof)
	case oldSize == 0 || oldSize == newSize:
		if len(proof) != 0 {
			return fmt.Errorf("%w: a proof from an empty or equal tree has no hashes", ErrProof)
		}
		if oldSize == newSize && oldRoot != newRoot || oldSize == 0 && oldRoot != EmptyRoot || newSize == 0 && newRoot != EmptyRoot {
			return fmt.Errorf("%w: two roots for one size", ErrProof)
		}
		return nil
	}
	if tlog.CheckTree(toTlog(proof), int64(newSize), tlog.Hash(newRoot), int64(oldSize), tlog.Hash(oldRoot)) != nil {
		return fmt.Errorf("%w: the tree of %d entries with root %s does not extend that of %d entries with root %s",
			ErrProof, newSize, newRoot, oldSize, oldRoot)
	}
	return nil
}

func fromTlog(hashes []tlog.Hash) []Hash {
	out := make([]Hash, len(hashes))
	for i, h := range hashes {
		out[i] = Hash(h)
	}
	return out
}

func toTlog(hashes []Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(hashes))
	for i, h := range hashes {
		out[i] = tlog.Hash(h)
	}
	return out
}
