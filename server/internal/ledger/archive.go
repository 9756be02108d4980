package ledger

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/tiles"
)

// maxArchived is how many entry bundles one transaction takes out of the file.
const maxArchived = 16

// Archive moves full entry bundles from the file to the store (Options.Archive), the oldest first, as long as more than keep entries would
// be left in the file; it returns how many entries were moved. Nothing is deleted: a bundle is put into the store, read back from it and
// held against the tree; then one transaction appends the ledger.archived entry that names it, and takes its entries out of the file.
// What reads entries goes on to find them, and verifies what the store gives against the tree's hashes, which stay in the file. The file
// gets no smaller, but its free pages are used again.
//
// where is what the entry says of the store. Crash points: before the transaction, the store holds a bundle that the file
// has, too, and the next call puts it again; after it, the entries are in the store alone. Only entries under a signed checkpoint are moved.
func (l *Ledger) Archive(ctx context.Context, actor chain.Actor, where string, keep uint64) (moved uint64, err error) {
	if l.o.Archive == nil {
		return 0, invalid("no archive was configured")
	}
	for {
		n, err := l.archiveSome(ctx, actor, where, keep)
		moved += n
		if err != nil || n == 0 {
			return moved, err
		}
	}
}

// Archived returns how many entries, from the first on, are in the archive and not in the file.
func (l *Ledger) Archived() (n uint64, err error) {
	err = l.read(func(tx *bolt.Tx) error {
		n, err = archivedEnd(tx)
		return err
	})
	return n, err
}

// archiveSome moves a few bundles.
func (l *Ledger) archiveSome(ctx context.Context, actor chain.Actor, where string, keep uint64) (uint64, error) {
	from, err := l.Archived()
	if err != nil {
		return 0, err
	}
	covered := l.Head().Checkpoint.Size
	keep = max(keep, 1) // the last entry always stands in the file
	if covered < keep || covered-keep < from+tiles.Width {
		return 0, nil
	}
	first := from / tiles.Width
	count := min((covered-keep-from)/tiles.Width, maxArchived)
	body := Archived{First: strconv.FormatUint(first, 10), Store: clip(where)}
	digests := make([][32]byte, count)
	for i := range digests {
		if digests[i], err = l.storeBundle(ctx, first+uint64(i)); err != nil {
			return 0, err
		}
		body.Bundles = append(body.Bundles, hex.EncodeToString(digests[i][:]))
	}
	// Crash point: the store has the bundles, and so has the file. The next call stores them again.
	if err := failpoint.Err("ledger.archive-stored"); err != nil {
		return 0, err
	}
	_, err = l.Do(ctx, func(tx *Tx) error {
		if at, err := archivedEnd(tx.tx); err != nil {
			return err
		} else if at != from {
			return invalid("another has archived entries at the same time")
		}
		tx.Emit(Event{Type: chain.LedgerArchived, Actor: actor, Body: body})
		tx.maintain = func(tx *bolt.Tx) error { return takeOut(tx, first, digests) }
		return nil
	})
	if err != nil {
		return 0, err
	}
	l.log.Info("ledger: entries were moved to the archive", "from", from, "to", from+count*tiles.Width, "store", where)
	return count * tiles.Width, nil
}

// storeBundle puts a bundle into the store, reads it back, and holds it against the tree.
func (l *Ledger) storeBundle(ctx context.Context, number uint64) (digest [32]byte, err error) {
	data, err := tiles.EntryBundle(ctx, l, number, tiles.Width)
	if err != nil {
		return digest, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*storeTimeout)
	defer cancel()
	if digest, err = l.o.Archive.Put(ctx, data); err != nil {
		return digest, fmt.Errorf("%w: entry bundle %d could not be put into the archive: %w", ErrUnavailable, number, err)
	}
	stored, err := l.o.Archive.Get(ctx, digest, tiles.MaxBundle)
	if err != nil {
		return digest, fmt.Errorf("%w: entry bundle %d could not be read back from the archive: %w", ErrUnavailable, number, err)
	}
	a := away{number: number, digest: digest}
	leaves, err := l.Nodes(0, number*tiles.Width, tiles.Width)
	if err != nil {
		return digest, err
	}
	copy(a.leaves[:], leaves)
	_, err = a.open(stored)
	return digest, err
}

// takeOut lists bundles as archived and takes their entries out of the file.
func takeOut(tx *bolt.Tx, first uint64, digests [][32]byte) error {
	list, err := tx.CreateBucketIfNotExists(archivedBucket)
	if err != nil {
		return err
	}
	list.FillPercent = sequentialFill
	entries := tx.Bucket(entriesBucket)
	for i, digest := range digests {
		number := first + uint64(i)
		if err := list.Put(indexKey(number), digest[:]); err != nil {
			return err
		}
		for index := number * tiles.Width; index < (number+1)*tiles.Width; index++ {
			if err := entries.Delete(indexKey(index)); err != nil {
				return err
			}
		}
	}
	return nil
}
