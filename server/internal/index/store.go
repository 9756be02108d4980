package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
)

// storeFormat names the layout of the file; see the package documentation.
const storeFormat = "signet-index-store/v1"

var (
	metaBucket     = []byte("meta")
	pagesBucket    = []byte("pages")
	postingsBucket = []byte("postings")

	formatKey     = []byte("format")
	originKey     = []byte("origin")
	sizeKey       = []byte("size")
	commitmentKey = []byte("commitment")
)

const (
	lockTimeout = 500 * time.Millisecond
	// initialMap is how much address space is mapped at first: remapping waits for readers.
	initialMap = 4 << 30
	// maxRow is how long a row of postings gets before a new one is begun.
	maxRow  = 64
	keySize = 16
)

// errDamaged says that the file is not what this program wrote for this ledger. It is made anew.
var errDamaged = errors.New("index: the file does not fit the ledger")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...)
}

// guard turns what damaged pages do to a reader into an error.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged("reading it failed: %v", r)
		}
	}()
	return fn()
}

// openStore opens the file, or makes an empty one.
func openStore(ctx context.Context, path, origin string) (*bolt.DB, error) {
	if err := ledger.CheckStore(ctx, path); errors.Is(err, ledger.ErrCorrupt) {
		return nil, damaged("%v", err)
	} else if err != nil {
		return nil, err
	}
	var db *bolt.DB
	open := func(initial int) error {
		return guard(func() (err error) {
			db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, InitialMmapSize: initial, FreelistType: bolt.FreelistMapType,
				NoFreelistSync: true, NoStatistics: true})
			return err
		})
	}
	err := open(initialMap)
	if errors.Is(err, syscall.ENOMEM) { // the address space is limited
		err = open(0)
	}
	if err != nil {
		return nil, err
	}
	err = guard(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			if k, _ := tx.Cursor().First(); k != nil {
				return checkMeta(tx, origin)
			}
			for _, name := range [][]byte{metaBucket, pagesBucket, postingsBucket} {
				if _, err := tx.CreateBucket(name); err != nil {
					return err
				}
			}
			m := tx.Bucket(metaBucket)
			return errors.Join(m.Put(formatKey, []byte(storeFormat)), m.Put(originKey, []byte(origin)), m.Put(sizeKey, make([]byte, 8)))
		})
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, os.Chmod(path, 0o600)
}

// removeStore deletes the file.
func removeStore(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func checkMeta(tx *bolt.Tx, origin string) error {
	for _, name := range [][]byte{metaBucket, pagesBucket, postingsBucket} {
		if tx.Bucket(name) == nil {
			return damaged("it has no %q", name)
		}
	}
	m := tx.Bucket(metaBucket)
	if got := m.Get(formatKey); string(got) != storeFormat {
		return damaged("it has the format %.40q, this program writes %q", got, storeFormat)
	}
	if got := m.Get(originKey); string(got) != origin {
		return damaged("it belongs to the ledger %.80q", got)
	}
	if len(m.Get(sizeKey)) != 8 {
		return damaged("it has no size")
	}
	return nil
}

// checkEmpty refuses a file that holds something and says that it covers nothing.
func checkEmpty(tx *bolt.Tx) error {
	for _, name := range [][]byte{pagesBucket, postingsBucket} {
		if k, _ := tx.Bucket(name).Cursor().First(); k != nil {
			return damaged("it covers no entries and has %s", name)
		}
	}
	return nil
}

// readSize returns how many entries the file covers.
func readSize(tx *bolt.Tx) uint64 {
	if b := tx.Bucket(metaBucket).Get(sizeKey); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func putUint64(b *bolt.Bucket, key []byte, n uint64) error {
	return b.Put(key, binary.BigEndian.AppendUint64(nil, n))
}

// pageKey returns the key of a page.
func pageKey(id index.PageID) []byte {
	return binary.BigEndian.AppendUint16(append(make([]byte, 0, 34), id.Prefix[:]...), id.Bits)
}

// storedPages reads pages in a transaction.
type storedPages struct{ bucket *bolt.Bucket }

// Read implements [index.Pages].
func (p storedPages) Read(id index.PageID) ([]byte, error) {
	page := p.bucket.Get(pageKey(id))
	if page == nil {
		return nil, index.ErrPage
	}
	return page, nil
}

// overlay is pages that are not in the file yet, above those that are. An empty page is gone.
type overlay struct {
	x     *Index
	pages map[index.PageID][]byte
}

// Read implements [index.Pages]. Only the goroutine that writes the file may call it.
func (o *overlay) Read(id index.PageID) (page []byte, err error) {
	if page, ok := o.pages[id]; ok {
		if len(page) == 0 {
			return nil, index.ErrPage
		}
		return page, nil
	}
	err = o.x.read(func(tx *bolt.Tx) error {
		page, err = storedPages{tx.Bucket(pagesBucket)}.Read(id)
		page = bytes.Clone(page)
		return err
	})
	return page, err
}

func (o *overlay) put(id index.PageID, page []byte) error {
	o.pages[id] = page
	return nil
}

// loadMap reads all pages of the map.
func loadMap(ctx context.Context, tx *bolt.Tx) (index.Map, error) {
	return index.Load(func(yield func(id index.PageID, page []byte) error) error {
		c := tx.Bucket(pagesBucket).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if len(k) != 34 {
				return damaged("a page has a key of %d bytes", len(k))
			}
			if err := yield(index.PageID{Prefix: chain.Hash(k[:32]), Bits: binary.BigEndian.Uint16(k[32:])}, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// row is a decoded row of postings.
type row struct {
	before  uint64 // how many entries of the key come before it
	indexes []uint64
}

// decodeRow reads a row.
func decodeRow(key, value []byte) (row, error) {
	if len(key) != keySize+8 {
		return row{}, damaged("a row of postings has a key of %d bytes", len(key))
	}
	at := binary.BigEndian.Uint64(key[keySize:])
	before, n := binary.Uvarint(value)
	if n <= 0 {
		return row{}, damaged("a row of postings has no count")
	}
	r := row{before, append(make([]uint64, 0, 1+len(value)-n), at)}
	for value = value[n:]; len(value) > 0; value = value[n:] {
		var step uint64
		if step, n = binary.Uvarint(value); n <= 0 || step == 0 || at+step < at {
			return row{}, damaged("a row of postings does not rise")
		}
		at += step
		r.indexes = append(r.indexes, at)
	}
	return r, nil
}

func (r row) last() uint64  { return r.indexes[len(r.indexes)-1] }
func (r row) count() uint64 { return r.before + uint64(len(r.indexes)) }

// putPostings adds indexes, all larger than those that are there, to the entries of a key, and returns how many they are then.
func putPostings(b *bolt.Bucket, key chain.Hash, indexes []uint64) (uint64, error) {
	c := b.Cursor()
	prefix := key[:keySize]
	past := append(slices.Clone(prefix), bytes.Repeat([]byte{0xff}, 8)...)
	k, _ := c.Seek(past)
	var v []byte
	if k == nil {
		k, v = c.Last()
	} else {
		k, v = c.Prev()
	}
	var total, last uint64
	var rowKey, value []byte
	if bytes.HasPrefix(k, prefix) {
		r, err := decodeRow(k, v)
		if err != nil {
			return 0, err
		}
		if total, last = r.count(), r.last(); last >= indexes[0] {
			return 0, damaged("the postings of a key already have entry %d", last)
		}
		if len(v) < maxRow {
			rowKey, value = slices.Clone(k), slices.Clone(v)
		}
	}
	for _, i := range indexes {
		if rowKey != nil && len(value) >= maxRow {
			if err := b.Put(rowKey, value); err != nil {
				return 0, err
			}
			rowKey = nil
		}
		if rowKey == nil {
			rowKey = binary.BigEndian.AppendUint64(slices.Clone(prefix), i)
			value = binary.AppendUvarint(nil, total)
		} else {
			value = binary.AppendUvarint(value, i-last)
		}
		last = i
		total++
	}
	return total, b.Put(rowKey, value)
}

// formatIndex writes an index as the formats have it.
func formatIndex(i uint64) string { return strconv.FormatUint(i, 10) }

// readCommitment returns the index of the entry that commits to what the file holds.
func readCommitment(tx *bolt.Tx) (uint64, bool) {
	if b := tx.Bucket(metaBucket).Get(commitmentKey); len(b) == 8 {
		return binary.BigEndian.Uint64(b), true
	}
	return 0, false
}

// write brings a prepared state and the postings of its entries into the file.
func write(tx *bolt.Tx, p *prepared) error {
	pages, rows, meta := tx.Bucket(pagesBucket), tx.Bucket(postingsBucket), tx.Bucket(metaBucket)
	for id, page := range p.pages {
		key := pageKey(id)
		if len(page) == 0 {
			if err := pages.Delete(key); err != nil {
				return err
			}
		} else if err := pages.Put(key, page); err != nil {
			return err
		}
	}
	err := p.changes.Each(func(key chain.Hash, entries []uint64, count uint64) error {
		n, err := putPostings(rows, key, entries)
		if err == nil && n != count {
			err = damaged("it has %d postings of a key, the map says %d", n, count)
		}
		return err
	})
	if err != nil {
		return err
	}
	if !p.committed {
		if err := meta.Delete(commitmentKey); err != nil {
			return err
		}
	} else if err := putUint64(meta, commitmentKey, p.commitment); err != nil {
		return err
	}
	return putUint64(meta, sizeKey, p.size)
}
