package ledger

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/tiles"
)

// Store keeps full entry bundles outside of the file, each by the SHA-256 of its bytes; see [Ledger.Archive].
//
// Put returns when the bytes are durable; putting what is there already is no error. Get returns exactly the bytes of that digest, or an
// error. Both may be called again after any error. What was put is never deleted.
type Store interface {
	Put(ctx context.Context, data []byte) (digest [sha256.Size]byte, err error)
	Get(ctx context.Context, digest [sha256.Size]byte, limit int64) ([]byte, error)
}

// archivedBucket holds, for each entry bundle that is in the store and not in the file, its number → the SHA-256 of its bytes. They are
// the bundles from 0 on, without a gap; the entries after them stand in the file. A file that has archived nothing has no
// such bucket.
var archivedBucket = []byte("archived")

const (
	// cachedBytes is how much of the archive is kept in memory.
	cachedBytes = 64 << 20
	// storeTimeout bounds how long a read waits for the store.
	storeTimeout = 30 * time.Second
	// maxFetches is how many bundles one command may need from the archive.
	maxFetches = 256
)

// bundleCache keeps entry bundles from the archive in memory, each verified against the hashes of the tree.
type bundleCache struct {
	mu      sync.Mutex
	bundles map[uint64]*list.Element
	order   *list.List // the newest use first
	bytes   int
}

type cachedBundle struct {
	number  uint64
	entries [][]byte
	bytes   int
}

func newBundleCache() *bundleCache {
	return &bundleCache{bundles: map[uint64]*list.Element{}, order: list.New()}
}

func (c *bundleCache) get(number uint64) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.bundles[number]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(cachedBundle).entries
}

func (c *bundleCache) put(number uint64, entries [][]byte, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bundles[number] != nil {
		return
	}
	c.bundles[number] = c.order.PushFront(cachedBundle{number, entries, size})
	for c.bytes += size; c.bytes > cachedBytes && c.order.Len() > 1; {
		last := c.order.Remove(c.order.Back()).(cachedBundle)
		delete(c.bundles, last.number)
		c.bytes -= last.bytes
	}
}

// awayError says that a command needs an entry that is in the archive. The command is run again when it is here: nothing is waited for
// within a transaction.
type awayError struct{ away away }

func (e *awayError) Error() string {
	return fmt.Sprintf("ledger: the entries from %d on are in the archive", e.away.number*tiles.Width)
}

// away is a bundle in the archive, and what it must be.
type away struct {
	number uint64
	digest [sha256.Size]byte
	leaves [tiles.Width]chain.Hash
}

// locate finds the bundle with an entry in the archive; ErrNotFound if it is not there.
func locate(tx *bolt.Tx, index uint64) (a away, err error) {
	a.number = index / tiles.Width
	b := tx.Bucket(archivedBucket)
	var row []byte
	if b != nil {
		row = b.Get(indexKey(a.number))
	}
	if row == nil {
		return a, fmt.Errorf("%w: %d", ErrNotFound, index)
	}
	if len(row) != sha256.Size {
		return a, corrupt("the row of entry bundle %d in the archive has %d bytes", a.number, len(row))
	}
	copy(a.digest[:], row)
	hashes := tx.Bucket(hashesBucket)
	for i := range a.leaves {
		leaf := hashes.Get(indexKey(a.number*tiles.Width + uint64(i)))
		if len(leaf) < sha256.Size {
			return a, corrupt("the tree hashes of entry %d are missing", a.number*tiles.Width+uint64(i))
		}
		copy(a.leaves[i][:], leaf)
	}
	return a, nil
}

// archivedEnd returns the index of the first entry that is not in the archive.
func archivedEnd(tx *bolt.Tx) (uint64, error) {
	b := tx.Bucket(archivedBucket)
	if b == nil {
		return 0, nil
	}
	k, _ := b.Cursor().Last()
	switch {
	case k == nil:
		return 0, nil
	case len(k) != 8 || binary.BigEndian.Uint64(k) >= chain.MaxSize/tiles.Width:
		return 0, corrupt("the archive has a row with the key %x", k)
	}
	return (binary.BigEndian.Uint64(k) + 1) * tiles.Width, nil
}

// load reads a bundle from the archive and verifies every entry of it against the tree.
func (l *Ledger) load(ctx context.Context, a away) ([][]byte, error) {
	if entries := l.archive.get(a.number); entries != nil {
		return entries, nil
	}
	first := a.number * tiles.Width
	if l.o.Archive == nil {
		return nil, fmt.Errorf("%w: the entries %d to %d are in an archive; say where in ledger.archive.store", ErrUnavailable, first, first+tiles.Width-1)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	data, err := l.o.Archive.Get(ctx, a.digest, tiles.MaxBundle)
	if err != nil {
		return nil, fmt.Errorf("%w: the entries %d to %d are in the archive, which does not give %x: %w", ErrUnavailable, first, first+tiles.Width-1, a.digest, err)
	}
	entries, err := a.open(data)
	if err != nil {
		return nil, err
	}
	l.archive.put(a.number, entries, len(data))
	return entries, nil
}

// open reads a bundle and verifies every entry of it against the tree.
func (a away) open(data []byte) ([][]byte, error) {
	if got := sha256.Sum256(data); got != a.digest {
		return nil, corrupt("the archive gives other bytes than those of %x, which are the entries from %d on", a.digest, a.number*tiles.Width)
	}
	entries, err := tiles.ParseBundle(data, tiles.Width)
	if err != nil {
		return nil, corrupt("%x in the archive, the entries from %d on: %v", a.digest, a.number*tiles.Width, err)
	}
	for i, e := range entries {
		if chain.LeafHash(e) != a.leaves[i] {
			return nil, corrupt("entry %d in the archive (%x) is not the one that the tree has", a.number*tiles.Width+uint64(i), a.digest)
		}
	}
	return entries, nil
}

// readEntry returns the bytes of an entry, from the file or the archive; in the first case they are valid as long as the transaction. It may
// wait for the archive.
func (l *Ledger) readEntry(tx *bolt.Tx, index uint64) ([]byte, error) {
	entry, err := readEntry(tx, index)
	if !errors.Is(err, ErrNotFound) {
		return entry, err
	}
	a, err := locate(tx, index)
	if err != nil {
		return nil, err
	}
	entries, err := l.load(l.ctx, a)
	if err != nil {
		return nil, err
	}
	return entries[index%tiles.Width], nil
}

// entry returns the bytes of an entry for a view or a command. A command does not wait for the archive: it fails, and is run again.
func (r *Read) entry(index uint64) ([]byte, error) {
	if !r.command {
		return r.l.readEntry(r.tx, index)
	}
	entry, err := readEntry(r.tx, index)
	if !errors.Is(err, ErrNotFound) {
		return entry, err
	}
	entries := r.fetched[index/tiles.Width]
	if entries == nil {
		a, err := locate(r.tx, index)
		if err != nil {
			return nil, err
		}
		if entries = r.l.archive.get(a.number); entries == nil {
			if r.away == nil {
				r.away = &awayError{a}
			}
			return nil, r.away
		}
	}
	return entries[index%tiles.Width], nil
}

// fetch gets the bundle that a command has lacked.
func (l *Ledger) fetch(ctx context.Context, fetched map[uint64][][]byte, a away) (map[uint64][][]byte, error) {
	if len(fetched) >= maxFetches {
		return nil, fmt.Errorf("%w: a command that needs more than %d bundles of the archive", ErrTooLarge, maxFetches)
	}
	entries, err := l.load(ctx, a)
	if err != nil {
		return nil, err
	}
	more := map[uint64][][]byte{a.number: entries}
	for n, e := range fetched {
		more[n] = e
	}
	return more, nil
}

// entryRows walks over all entries, those in the archive and then those in the file, as [rows] does over a bucket. When k is nil, err says
// whether that is the end.
type entryRows struct {
	l      *Ledger
	tx     *bolt.Tx
	end    uint64 // of those in the archive
	index  uint64 // of the current one
	bundle [][]byte
	local  *rows
	k, v   []byte
	err    error
}

// newEntryRows begins at an entry.
func (l *Ledger) newEntryRows(tx *bolt.Tx, from uint64) *entryRows {
	r := &entryRows{l: l, tx: tx, index: from}
	if r.end, r.err = archivedEnd(tx); r.err != nil {
		return r
	}
	if from < r.end {
		r.archived()
		return r
	}
	r.beginLocal(from)
	return r
}

// archived is at an entry in the archive.
func (r *entryRows) archived() {
	if r.bundle == nil || r.index%tiles.Width == 0 {
		a, err := locate(r.tx, r.index)
		if errors.Is(err, ErrNotFound) {
			err = corrupt("entry bundle %d is missing in the list of the archive", r.index/tiles.Width)
		}
		if err == nil {
			r.bundle, err = r.l.load(r.l.ctx, a)
		}
		if err != nil {
			r.k, r.v, r.err = nil, nil, err
			return
		}
	}
	r.k, r.v = indexKey(r.index), r.bundle[r.index%tiles.Width]
}

func (r *entryRows) beginLocal(from uint64) {
	r.local = &rows{c: r.tx.Bucket(entriesBucket).Cursor()}
	r.local.k, r.local.v = r.local.c.Seek(indexKey(from))
	if k, _ := r.tx.Bucket(entriesBucket).Cursor().First(); k != nil && bytes.Compare(k, indexKey(r.end)) < 0 {
		r.err = corrupt("an entry with the key %x stands in the file and in the archive", k)
		return
	}
	r.k, r.v = r.local.k, r.local.v
}

func (r *entryRows) next() {
	if r.local != nil {
		r.local.next()
		r.k, r.v = r.local.k, r.local.v
		return
	}
	if r.index++; r.index < r.end {
		r.archived()
		return
	}
	r.beginLocal(r.end)
}
