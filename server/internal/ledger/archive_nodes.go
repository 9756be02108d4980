package ledger

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
)

// maxNodes bounds what [Ledger.Nodes] reads in one transaction.
const maxNodes = 1 << 16

// Nodes returns the hashes of n nodes of the tree, from the given one on at one of its levels; level 0 are the leaves. It is how tiles
// are read.
func (l *Ledger) Nodes(level int, from uint64, n int) (hashes []chain.Hash, err error) {
	size := l.Size()
	if level < 0 || level > 62 || n < 0 || n > maxNodes || from > size>>level || uint64(n) > size>>level-from {
		return nil, fmt.Errorf("%w: %d nodes from %d at level %d of a tree of %d entries", ErrNotFound, n, from, level, size)
	}
	indexes := make([]int64, n)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(level, int64(from)+int64(i))
	}
	err = l.read(func(tx *bolt.Tx) error {
		read, err := hashReader(tx)(indexes)
		hashes = make([]chain.Hash, len(read))
		for i, h := range read {
			hashes[i] = chain.Hash(h)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return hashes, nil
}
