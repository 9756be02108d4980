package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/tiles"
)

// Read is a consistent view of the ledger. It is gone when the function that got it returns; what it returned is a copy and
// stays.
type Read struct {
	l      *Ledger
	tx     *bolt.Tx
	size   uint64
	head   Signed
	states map[string]*State
	err    error

	command bool                // nothing is waited for
	fetched map[uint64][][]byte // bundles from the archive, for a command
	away    *awayError          // what it still lacks
}

// guard runs fn and turns what damaged pages of the file do to a reader (a failed assertion, a fault in the mapping) into an
// error.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = corrupt("reading the file failed: %v", r)
		}
	}()
	return fn()
}

// View calls fn with a consistent view. fn must be short and must not wait for the network: as long as it runs, the pages
// that it sees cannot be used again.
func (l *Ledger) View(fn func(r *Read) error) (err error) {
	head := l.Head() // before the transaction begins, so that it covers nothing that the view does not have
	tx, err := l.db.Begin(false)
	if err != nil {
		return storeError(err)
	}
	defer tx.Rollback()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if fault, ok := r.(interface{ Addr() uintptr }); ok { // a page that is not there
				err = corrupt("reading the file failed at address %#x", fault.Addr())
				return
			}
			if !raisedByStore() {
				panic(r) // fn's own
			}
			err = corrupt("reading the file failed: %v", r)
		}
	}()
	r := &Read{l: l, tx: tx, head: head, states: map[string]*State{}}
	if r.size, err = readSize(tx); err != nil {
		return err
	}
	if err := fn(r); err != nil {
		return err
	}
	return r.failed()
}

// readSize returns the number of entries.
func readSize(tx *bolt.Tx) (uint64, error) {
	key, _ := tx.Bucket(entriesBucket).Cursor().Last()
	switch {
	case key == nil:
		return 0, nil
	case len(key) != 8:
		return 0, corrupt("an entry's key has %d bytes", len(key))
	}
	return binary.BigEndian.Uint64(key) + 1, nil
}

// failed returns what went wrong in calls that return no error.
func (r *Read) failed() error {
	for _, s := range r.states {
		if s.err != nil {
			return s.err
		}
	}
	return r.err
}

// Size returns the number of entries in this view.
func (r *Read) Size() uint64 { return r.size }

// Head returns the newest signed checkpoint as of this view.
func (r *Read) Head() Signed { return r.head }

// View returns the state of a projection, for reading. Asking for one that the ledger was not opened with is a mistake in the
// program: it makes the whole view or command fail.
func (r *Read) View(projection string) *State {
	if s := r.states[projection]; s != nil {
		return s
	}
	var root *bolt.Bucket
	if p := r.l.known[projection]; p == nil {
		r.err = invalid("no projection %q", projection)
		return newState(nil, false)
	} else if named := r.tx.Bucket(projectionsBucket).Bucket([]byte(projection)); named != nil {
		root = named.Bucket(versionName(p.Version()))
	}
	s := newState(root, false)
	r.states[projection] = s
	return s
}

// Entry returns a copy of the bytes of an entry, or ErrNotFound.
func (r *Read) Entry(index uint64) ([]byte, error) {
	entry, err := r.entry(index)
	return clone(entry), err
}

// Attachments returns copies of the attachments of an entry, in order.
func (r *Read) Attachments(index uint64) ([][]byte, error) {
	if err := hasEntry(r.tx, index); err != nil {
		return nil, err
	}
	return readAttachments(r.tx, index), nil
}

// Request returns the indexes of the entries that a request (its hash in hex) has brought about, in order; none if it was
// never carried out.
func (r *Read) Request(hash string) []uint64 {
	indexes, err := readRequest(r.tx, hash, r.entry)
	if err != nil && r.err == nil {
		r.err = err
	}
	return indexes
}

// GetPrivate returns a copy of a private row, or nil.
func (r *Read) GetPrivate(bucket string, key []byte) []byte {
	if b := r.tx.Bucket(privateBucket).Bucket([]byte(bucket)); b != nil {
		return clone(b.Get(key))
	}
	return nil
}

// EachPrivate calls fn with copies of all rows of a private bucket, in the order of their keys, until fn returns false.
func (r *Read) EachPrivate(bucket string, fn func(key, value []byte) bool) {
	newState(r.tx.Bucket(privateBucket), false).Ascend(bucket, nil, fn)
}

// AscendPrivate is EachPrivate from key from on.
func (r *Read) AscendPrivate(bucket string, from []byte, fn func(key, value []byte) bool) {
	newState(r.tx.Bucket(privateBucket), false).Ascend(bucket, from, fn)
}

// ProvedEntry returns a copy of an entry that was just proved to be in the tree of the newest signed checkpoint. Decisions to
// sign lean on this: unlike a projection, it cannot be changed by whoever can write to the file. ErrNotCheckpointed says that
// the entry is newer than that checkpoint.
func (r *Read) ProvedEntry(index uint64) ([]byte, error) {
	head := r.head.Checkpoint
	if index >= head.Size {
		return nil, fmt.Errorf("%w: entry %d, checkpoint of %d entries", ErrNotCheckpointed, index, head.Size)
	}
	entry, err := r.Entry(index)
	if err != nil {
		return nil, err
	}
	proof, err := chain.ProveInclusion(index, head.Size, hashReader(r.tx))
	if err != nil {
		return nil, err
	}
	if err := chain.VerifyInclusion(proof, head.Size, index, head.Root, chain.LeafHash(entry)); err != nil {
		return nil, corrupt("entry %d was changed: %v", index, err)
	}
	return entry, nil
}

// Entry returns the bytes of an entry, or ErrNotFound.
func (l *Ledger) Entry(index uint64) (entry []byte, err error) {
	var far away
	err = l.read(func(tx *bolt.Tx) error {
		if entry, err = readEntry(tx, index); !errors.Is(err, ErrNotFound) {
			entry = clone(entry)
			return err
		}
		far, err = locate(tx, index)
		return err
	})
	if err != nil || entry != nil {
		return entry, err
	}
	entries, err := l.load(l.ctx, far) // no transaction is open
	if err != nil {
		return nil, err
	}
	return clone(entries[index%tiles.Width]), nil
}

// Attachments returns the attachments of an entry, in order.
func (l *Ledger) Attachments(index uint64) (attachments [][]byte, err error) {
	err = l.read(func(tx *bolt.Tx) error {
		if err := hasEntry(tx, index); err != nil {
			return err
		}
		attachments = readAttachments(tx, index)
		return nil
	})
	return attachments, err
}

// read calls fn, which calls nothing of the caller's, in a short transaction.
func (l *Ledger) read(fn func(tx *bolt.Tx) error) error {
	tx, err := l.db.Begin(false)
	if err != nil {
		return storeError(err)
	}
	defer tx.Rollback()
	return guard(func() error { return fn(tx) })
}

// How much Entries reads in one transaction.
const (
	rangeEntries = 512
	rangeBytes   = 1 << 20
)

// Entries calls fn with the entries [from, to), in order; a to beyond the end means up to the end. No transaction is open
// while fn runs, so it may wait for the network.
func (l *Ledger) Entries(ctx context.Context, from, to uint64, fn func(index uint64, entry []byte) error) error {
	for next := min(from, to); next < to; {
		var entries [][]byte
		var far *away
		err := l.read(func(tx *bolt.Tx) error {
			if end, err := archivedEnd(tx); err != nil {
				return err
			} else if next < end {
				a, err := locate(tx, next)
				far = &a
				return err
			}
			c := tx.Bucket(entriesBucket).Cursor()
			bytesRead := 0
			for k, v := c.Seek(indexKey(next)); k != nil && len(entries) < rangeEntries && bytesRead < rangeBytes; k, v = c.Next() {
				index := next + uint64(len(entries))
				if index >= to {
					break
				}
				if !bytes.Equal(k, indexKey(index)) {
					return corrupt("entry %d is missing", index)
				}
				entries = append(entries, clone(v))
				bytesRead += len(v)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if far != nil {
			bundle, err := l.load(ctx, *far)
			if err != nil {
				return err
			}
			for _, entry := range bundle[next%tiles.Width : min(tiles.Width, next%tiles.Width+to-next)] {
				entries = append(entries, clone(entry))
			}
		}
		if len(entries) == 0 {
			return nil
		}
		for _, entry := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := fn(next, entry); err != nil {
				return err
			}
			next++
		}
	}
	return nil
}

// ProveInclusion proves that the entry at index is in the tree of the given size.
func (l *Ledger) ProveInclusion(index, size uint64) (proof []chain.Hash, err error) {
	if total := l.Size(); size > total || index >= size {
		return nil, fmt.Errorf("%w: entry %d in a tree of %d; the ledger has %d", ErrNotFound, index, size, total)
	}
	err = l.read(func(tx *bolt.Tx) error {
		proof, err = chain.ProveInclusion(index, size, hashReader(tx))
		return err
	})
	return proof, err
}

// ProveConsistency proves that the tree of newSize extends the tree of oldSize.
func (l *Ledger) ProveConsistency(oldSize, newSize uint64) (proof []chain.Hash, err error) {
	if total := l.Size(); newSize > total || oldSize > newSize {
		return nil, fmt.Errorf("%w: from a tree of %d to one of %d; the ledger has %d", ErrNotFound, oldSize, newSize, total)
	}
	err = l.read(func(tx *bolt.Tx) error {
		proof, err = chain.ProveConsistency(oldSize, newSize, hashReader(tx))
		return err
	})
	return proof, err
}

// Place returns, from one look at the file, what shows where an entry stands: the entry, its proof against a signed checkpoint, and the
// proof that this checkpoint extends the tree of size from. The inclusion was verified.
func (l *Ledger) Place(index, from uint64, s Signed) (entry []byte, proof chain.Proof, consistency []chain.Hash, err error) {
	size := s.Checkpoint.Size
	if total := l.Size(); size > total || index >= size || from > size {
		return nil, chain.Proof{}, nil, fmt.Errorf("%w: entry %d and size %d in a tree of %d; the ledger has %d", ErrNotFound, index, from, size, total)
	}
	if entry, err = l.Entry(index); err != nil {
		return nil, chain.Proof{}, nil, err
	}
	err = l.read(func(tx *bolt.Tx) error {
		if proof.Hashes, err = chain.ProveInclusion(index, size, hashReader(tx)); err != nil {
			return err
		}
		consistency, err = chain.ProveConsistency(from, size, hashReader(tx))
		return err
	})
	if err != nil {
		return nil, chain.Proof{}, nil, err
	}
	if err := chain.VerifyInclusion(proof.Hashes, size, index, s.Checkpoint.Root, chain.LeafHash(entry)); err != nil {
		return nil, chain.Proof{}, nil, corrupt("entry %d: %v", index, err)
	}
	proof.Index, proof.Checkpoint = index, s.Note
	return entry, proof, consistency, nil
}

// Proof returns the proof that the entry at index stands in the tree of a signed checkpoint, and has verified it.
func (l *Ledger) Proof(_ context.Context, index uint64, s Signed) (chain.Proof, error) {
	hashes, err := l.ProveInclusion(index, s.Checkpoint.Size)
	if err != nil {
		return chain.Proof{}, err
	}
	entry, err := l.Entry(index)
	if err != nil {
		return chain.Proof{}, err
	}
	if err := chain.VerifyInclusion(hashes, s.Checkpoint.Size, index, s.Checkpoint.Root, chain.LeafHash(entry)); err != nil {
		return chain.Proof{}, corrupt("entry %d: %v", index, err)
	}
	return chain.Proof{Index: index, Hashes: hashes, Checkpoint: s.Note}, nil
}
