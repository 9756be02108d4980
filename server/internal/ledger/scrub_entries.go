package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/tiles"
)

// entries reads every entry with what belongs to it, and replays it, until it has caught up with those who append, or cannot.
func (s *scrub) entries(ctx context.Context) error {
	auditors := newAudit(s.l.o.Auditors)
	auditors.rootsFrom(s.l.rootOf)
	defer auditors.close()
	rand.Read(s.sum.key[:])
	s.walk = &entryWalk{checker: s.checker, tree: new(chain.Frontier), audit: auditors, archived: map[uint64][]string{}, request: s.request}
	var err error
	if s.walk.seen, err = s.besideRoots(); err != nil {
		return err
	}
	for before := uint64(math.MaxUint64); ; {
		total := s.l.Size()
		left := total - s.walk.tree.Size()
		if left == 0 || left > before/2 { // those who append are as fast: the next scrub reads what they add
			return nil
		}
		for s.walk.tree.Size() < total {
			if err := s.someEntries(ctx, total); err != nil {
				return err
			}
			s.progress(StageEntries, s.walk.tree.Size(), total)
		}
		before = left
	}
}

// rootOf returns the root of the tree of an earlier size.
func (l *Ledger) rootOf(size uint64) (root chain.Hash, err error) {
	err = l.read(func(tx *bolt.Tx) error {
		root, err = chain.Root(size, hashReader(tx))
		return err
	})
	return root, err
}

// row is a copy of a row.
type row struct{ k, v []byte }

// listed walks over rows that were read before.
func listed(list []row) *rows {
	r := &rows{more: func() (k, v []byte) {
		if len(list) == 0 {
			return nil, nil
		}
		k, v, list = list[0].k, list[0].v, list[1:]
		return k, v
	}}
	r.next()
	return r
}

// someEntries reads and checks the next few entries.
func (s *scrub) someEntries(ctx context.Context, total uint64) error {
	from := s.walk.tree.Size()
	var entries, hashes, attachments, checkpoints []row
	var elsewhere *away
	count := 0
	err := s.within(ctx, func(tx *bolt.Tx, root diskBucket) (err error) {
		to := min(total, from+scrubEntries)
		end, err := archivedEnd(tx)
		if err != nil {
			return err
		}
		if from < end { // the whole bundle, as it is kept elsewhere
			a, err := locate(tx, from)
			if err != nil {
				return err
			}
			elsewhere, to = &a, min(end, from/tiles.Width*tiles.Width+tiles.Width)
		} else if entries, err = s.rowsOf(root, entriesBucket, indexKey(from), indexKey(to), scrubBytes); err != nil {
			return err
		} else if len(entries) > 0 { // as many as fit
			to = from + uint64(len(entries))
		}
		if attachments, to, err = s.attachments(root, from, to); err != nil {
			return err
		}
		if hashes, err = s.rowsOf(root, hashesBucket, indexKey(from), indexKey(to), 0); err != nil {
			return err
		}
		count = int(to - from)
		checkpoints, err = s.rowsOf(root, checkpointsBucket, indexKey(from+1), indexKey(to+1), 0)
		return err
	})
	if err != nil {
		return err
	}
	if elsewhere != nil {
		if entries, err = s.fromArchive(ctx, *elsewhere, from); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return corrupt("entry %d is missing; nothing after it can be checked", from)
	}
	entries = entries[:min(len(entries), count)]
	w := s.walk
	local := listed(entries)
	w.entries = &entryRows{local: local, k: local.k, v: local.v}
	w.hashes, w.attachments, w.checkpoints = listed(hashes), listed(attachments), listed(checkpoints)
	return w.chunk()
}

// attachmentBytes bounds what one range reads of attachments, unless it is of one entry.
const attachmentBytes = 16 << 20

// attachments reads the attachments of the entries [from, to), or of fewer, and returns where these end.
func (s *scrub) attachments(root diskBucket, from, to uint64) ([]row, uint64, error) {
	rows, err := s.rowsOf(root, attachmentsBucket, indexKey(from), indexKey(to), attachmentBytes)
	if err != nil || len(rows) == 0 {
		return nil, to, err
	}
	size := 0
	for _, r := range rows {
		size += len(r.v)
	}
	if size < attachmentBytes {
		return rows, to, nil
	}
	last := rows[len(rows)-1].k[:min(8, len(rows[len(rows)-1].k))] // of this entry there may be more
	if end := binary.BigEndian.Uint64(append(clone(last), make([]byte, 8-len(last))...)); end > from {
		return slices.DeleteFunc(rows, func(r row) bool { return bytes.HasPrefix(r.k, last) }), end, nil
	}
	rows, err = s.rowsOf(root, attachmentsBucket, indexKey(from), indexKey(from+1), 0)
	return rows, from + 1, err
}

// rowsOf reads the rows [from, to) of a bucket from the disk, up to a number of bytes, if that is not 0.
func (s *scrub) rowsOf(root diskBucket, name, from, to []byte, most int) ([]row, error) {
	b, err := s.disk.find(root, name)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, corrupt("the bucket %q is not on the disk", name)
	}
	var out []row
	n := 0
	c := s.disk.seek(*b, from)
	for ; c.k != nil && bytes.Compare(c.k, to) < 0 && (most == 0 || n < most); c.next() {
		if c.bucket {
			return nil, corrupt("bucket %q: the row %x is a bucket", name, c.k)
		}
		n += len(c.v)
		out = append(out, row{clone(c.k), clone(c.v)})
	}
	return out, c.err
}

// fromArchive reads a bundle from the archive itself, not from what is kept of it in memory.
func (s *scrub) fromArchive(ctx context.Context, a away, from uint64) ([]row, error) {
	if s.l.o.Archive == nil {
		return nil, fmt.Errorf("%w: the entries from %d on are in an archive; say where in ledger.archive.store", ErrUnavailable, from)
	}
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	data, err := s.l.o.Archive.Get(limited, a.digest, tiles.MaxBundle)
	if err != nil {
		return nil, fmt.Errorf("%w: the archive does not give %x, the entries from %d on: %w", ErrUnavailable, a.digest, a.number*tiles.Width, err)
	}
	s.beside += int64(len(data))
	if err := s.pace(ctx, int64(len(data))); err != nil {
		return nil, err
	}
	bundle, err := a.open(data)
	if err != nil {
		return nil, err
	}
	var out []row
	for i := from % tiles.Width; i < tiles.Width; i++ {
		out = append(out, row{indexKey(a.number*tiles.Width + i), bundle[i]})
	}
	return out, nil
}

// tail looks for rows beyond the last entry, and at the list of what is in the archive.
func (s *scrub) tail(ctx context.Context) error {
	known := uint64(0)
	if s.walk != nil {
		known = s.walk.tree.Size()
	}
	s.report.Size = known
	if s.walk != nil {
		s.report.Root = s.walk.tree.Root()
	}
	return s.within(ctx, func(tx *bolt.Tx, root diskBucket) error {
		size, err := readSize(tx)
		if err != nil {
			return err
		}
		for _, b := range []struct {
			name []byte
			from []byte
		}{{entriesBucket, indexKey(size)}, {hashesBucket, indexKey(size)}, {attachmentsBucket, indexKey(size)}, {checkpointsBucket, indexKey(size + 1)}} {
			at, err := s.disk.find(root, b.name)
			if err != nil || at == nil {
				return err
			}
			s.disk.single = true
			c := s.disk.seek(*at, b.from)
			s.disk.single = false
			if c.err != nil {
				return c.err
			}
			if c.k != nil {
				err := s.fault(fmt.Sprintf("%s, key %x", b.name, c.k), "it lies beyond the last of %d entries: entries are missing", size)
				if err != nil {
					return err
				}
			}
		}
		return s.archiveList(root, size)
	})
}

// archiveList holds the list of what is in the archive against the entries that say so.
func (s *scrub) archiveList(root diskBucket, size uint64) error {
	if s.walk == nil {
		return nil
	}
	b, err := s.disk.find(root, archivedBucket)
	if err != nil || b == nil {
		return err
	}
	number := uint64(0)
	c := s.disk.seek(*b, nil)
	for ; c.k != nil; c.next() {
		where := fmt.Sprintf("list of the archive, key %x", c.k)
		if !bytes.Equal(c.k, indexKey(number)) {
			return s.fault(where, "want the row of entry bundle %d", number)
		}
		says := s.walk.archived[number]
		fresh := says == nil && size > s.walk.tree.Size() // by an entry that came later
		if !fresh && !slices.Contains(says, hex.EncodeToString(c.v)) {
			if err := s.fault(where, "no entry says that entry bundle %d is in the archive as %x", number, c.v); err != nil {
				return err
			}
		}
		number++
	}
	return c.err
}

// rootsFrom tells those auditors that want to know it how to get the root of the tree of an earlier size.
func (a *audit) rootsFrom(root func(size uint64) (chain.Hash, error)) {
	for _, auditor := range a.auditors {
		if r, ok := auditor.(interface {
			Roots(root func(size uint64) (chain.Hash, error))
		}); ok {
			r.Roots(root)
		}
	}
}
