package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
)

// Format names the layout of the file. A program refuses a file with a larger number.
const Format = "signet-ledger/v1"

// The buckets; see the package documentation.
var (
	metaBucket        = []byte("meta")
	entriesBucket     = []byte("entries")
	hashesBucket      = []byte("hashes")
	attachmentsBucket = []byte("attachments")
	requestsBucket    = []byte("requests")
	checkpointsBucket = []byte("checkpoints")
	privateBucket     = []byte("private")
	activeBucket      = []byte("active")
	projectionsBucket = []byte("projections")

	topBuckets = [][]byte{metaBucket, entriesBucket, hashesBucket, attachmentsBucket, requestsBucket, checkpointsBucket,
		privateBucket, activeBucket, projectionsBucket}

	formatKey = []byte("format")
	originKey = []byte("origin")
)

// Keys come in ascending order in these buckets, so pages can be filled nearly whole. The rest is for the odd longer row.
const sequentialFill = 0.97

// Limits beside those of api/chain.
const (
	// MaxAttachment is the largest size of one attachment in bytes.
	MaxAttachment = 8 << 20
	// MaxAttachments is the largest number of attachments of an entry.
	MaxAttachments = 64
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// storeError names the causes of a failed write that callers tell apart.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG),
		errors.Is(err, berrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrUnavailable):
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// indexKey returns the key of an index.
func indexKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// attachmentKey returns the key of an entry's attachment.
func attachmentKey(index uint64, ordinal int) []byte {
	return binary.BigEndian.AppendUint16(indexKey(index), uint16(ordinal))
}

// hashReader reads stored tree hashes from a transaction.
func hashReader(tx *bolt.Tx) chain.HashReader {
	b := tx.Bucket(hashesBucket)
	return func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		var key [8]byte
		for i, stored := range indexes {
			level, n := tlog.SplitStoredHashIndex(stored)
			entry := (uint64(n)+1)<<level - 1 // the entry that completed this hash
			binary.BigEndian.PutUint64(key[:], entry)
			row := b.Get(key[:])
			if len(row) != 32*hashesOf(entry) {
				return nil, corrupt("the tree hashes of entry %d have %d bytes", entry, len(row))
			}
			copy(out[i][:], row[32*level:])
		}
		return out, nil
	}
}

// hashesOf returns how many tree hashes an entry completes.
func hashesOf(index uint64) int { return 1 + bits.TrailingZeros64(index+1) }

// hasEntry reports, by ErrNotFound, that there is no such entry, here or in the archive.
func hasEntry(tx *bolt.Tx, index uint64) error {
	if tx.Bucket(hashesBucket).Get(indexKey(index)) == nil {
		return fmt.Errorf("%w: %d", ErrNotFound, index)
	}
	return nil
}

// readEntry returns the bytes of an entry in the file, valid as long as the transaction; see [Ledger.readEntry].
func readEntry(tx *bolt.Tx, index uint64) ([]byte, error) {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], index)
	entry := tx.Bucket(entriesBucket).Get(key[:])
	if entry == nil {
		return nil, fmt.Errorf("%w: %d", ErrNotFound, index)
	}
	return entry, nil
}

// readAttachments returns copies of an entry's attachments.
func readAttachments(tx *bolt.Tx, index uint64) [][]byte {
	var out [][]byte
	prefix := indexKey(index)
	c := tx.Bucket(attachmentsBucket).Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		out = append(out, bytes.Clone(v))
	}
	return out
}

// position is where the ledger ends: what is needed to append the next entry.
type position struct {
	tree *chain.Frontier
	prev chain.Hash
	time chain.Time
}

func (p position) clone() position { return position{p.tree.Clone(), p.prev, p.time} }

// readPosition reads where the ledger ends.
func readPosition(tx *bolt.Tx) (position, error) {
	key, last := tx.Bucket(entriesBucket).Cursor().Last()
	if key == nil {
		return position{tree: new(chain.Frontier)}, nil
	}
	if len(key) != 8 {
		return position{}, corrupt("an entry's key has %d bytes", len(key))
	}
	index := binary.BigEndian.Uint64(key)
	if index >= chain.MaxSize {
		return position{}, corrupt("the last entry has the index %d", index)
	}
	e, err := chain.ParseEntry(last)
	if err != nil {
		return position{}, corrupt("entry %d: %v", index, err)
	}
	if e.Index != index {
		return position{}, corrupt("entry %d says that it is entry %d", index, e.Index)
	}
	tree, err := chain.NewFrontier(index+1, hashReader(tx))
	if err != nil {
		return position{}, err
	}
	return position{tree: tree, prev: chain.LeafHash(last), time: e.Time}, nil
}
