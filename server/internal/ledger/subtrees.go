package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
)

// Subtrees returns the roots of the complete subtrees that a tree of the given size consists of, the largest first: what is needed to go on
// with the tree from there.
func (l *Ledger) Subtrees(size uint64) ([]chain.Hash, error) {
	if total := l.Size(); size > total {
		return nil, fmt.Errorf("%w: a tree of %d entries; the ledger has %d", ErrNotFound, size, total)
	}
	out := make([]chain.Hash, 0, bits.OnesCount64(size))
	err := l.read(func(tx *bolt.Tx) error {
		_, err := chain.NewFrontier(size, func(indexes []int64) ([]tlog.Hash, error) {
			hashes, err := hashReader(tx)(indexes)
			for _, h := range hashes {
				out = append(out, chain.Hash(h))
			}
			return hashes, err
		})
		return err
	})
	return out, err
}

// CheckStore reads a bbolt file that nobody has open and refuses one whose pages are not a tree: after it, bbolt can read the file without
// being led in circles. A file that does not exist passes.
func CheckStore(ctx context.Context, path string) error {
	if err := checkFile(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return checkPages(ctx, path)
}
