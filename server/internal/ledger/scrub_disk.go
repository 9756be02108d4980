package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"

	bolt "go.etcd.io/bbolt"
)

// disk reads the pages of the file as the disk has them, beside the map through which bbolt reads them: with a descriptor of its own, past
// the kernel's cache where the file system lets it (O_DIRECT), else after telling the kernel to forget them. A short read transaction
// must be open meanwhile: the pages of what it sees are not written to before it ends.
type disk struct {
	f      *os.File
	direct bool
	size   int64 // of a page
	read   int64 // bytes, in all
	high   uint64
	pages  map[uint64][]byte // read ahead, within one transaction
	single bool              // nothing is read ahead
}

const (
	// aheadPages is how many pages that follow each other are read at once.
	aheadPages = 32
	// aheadGap is how many pages of others may lie between two of them.
	aheadGap = 4
	// alignment of the memory that O_DIRECT reads into.
	alignment = 4096
)

// openDisk opens the file once more, without touching its lock.
func openDisk(path string, pageSize int) (*disk, error) {
	d := &disk{size: int64(pageSize)}
	if directFlag != 0 && pageSize%alignment == 0 {
		if f, err := os.OpenFile(path, os.O_RDONLY|directFlag|syscall.O_CLOEXEC, 0); err == nil {
			if _, err := f.ReadAt(aligned(pageSize), 0); err == nil {
				d.f, d.direct = f, true
				return d, nil
			}
			f.Close()
		}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, storeError(err)
	}
	d.f = f
	return d, nil
}

func (d *disk) close() { d.f.Close() } // it was only read

// aligned returns n bytes at an address that O_DIRECT accepts.
func aligned(n int) []byte {
	b := make([]byte, n+alignment)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (alignment - 1)
	return b[skip : skip+n : skip+n]
}

// begin goes to what a transaction sees, and returns its outermost bucket. What the disk says of the newest transaction must not be older.
func (d *disk) begin(tx *bolt.Tx) (diskBucket, error) {
	d.pages = map[uint64][]byte{}
	info, err := d.f.Stat()
	if err != nil {
		return diskBucket{}, storeError(err)
	}
	d.high = uint64(info.Size() / d.size)
	root := uint64(tx.Cursor().Bucket().Root())
	b := aligned(int(2 * d.size))
	if err := d.readAt(b, 0); err != nil {
		return diskBucket{}, corrupt("the first two pages cannot be read from the disk: %v", err)
	}
	newest := newestMeta(bytes.NewReader(b), d.size)
	switch {
	case newest == nil:
		return diskBucket{}, corrupt("on the disk, neither of the first two pages is valid")
	case newest.txid < uint64(tx.ID()):
		return diskBucket{}, corrupt("the disk has transaction %d, memory %d: a write was lost", newest.txid, tx.ID())
	case newest.txid == uint64(tx.ID()) && newest.root != root:
		return diskBucket{}, corrupt("the outermost page is %d on the disk and %d in memory", newest.root, root)
	}
	return diskBucket{root: root}, nil
}

// newestMeta returns the newer of two meta pages of a known size, or nil.
func newestMeta(r io.ReaderAt, pageSize int64) (newest *meta) {
	for _, at := range [...]int64{0, pageSize} {
		if m := metaAt(r, at); m != nil && m.pageSize == pageSize && (newest == nil || m.txid > newest.txid) {
			newest = m
		}
	}
	return newest
}

// readAt reads whole pages.
func (d *disk) readAt(b []byte, offset int64) error {
	if !d.direct {
		forgetCached(d.f, offset, int64(len(b)))
	}
	n, err := d.f.ReadAt(b, offset)
	d.read += int64(n)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ahead reads pages that are needed one after the other, as far as they lie close to each other.
func (d *disk) ahead(ids []uint64) {
	if d.single || len(ids) == 0 || d.pages[ids[0]] != nil || ids[0] < 2 || ids[0] >= d.high {
		return
	}
	first, last := ids[0], ids[0]
	for _, id := range ids[1:] {
		if id <= last || id > last+aheadGap || id >= first+aheadPages || id >= d.high {
			break
		}
		last = id
	}
	b := aligned(int(int64(last-first+1) * d.size))
	if d.readAt(b, int64(first)*d.size) != nil {
		return // each is read, and judged, by itself
	}
	for id := first; id <= last; id++ {
		d.pages[id] = b[int64(id-first)*d.size:][:d.size]
	}
}

// page reads a page with its overflow.
func (d *disk) page(id uint64) ([]byte, error) {
	if id < 2 || id >= d.high {
		return nil, corrupt("page %d does not exist", id)
	}
	b := d.pages[id]
	delete(d.pages, id)
	if b == nil {
		b = aligned(int(d.size))
		if err := d.readAt(b, int64(id)*d.size); err != nil {
			return nil, corrupt("page %d cannot be read from the disk: %v", id, err)
		}
	}
	le := binary.LittleEndian
	overflow := uint64(le.Uint32(b[12:]))
	if le.Uint64(b) != id || overflow >= d.high-id {
		return nil, corrupt("page %d says that it is page %d with %d more", id, le.Uint64(b), overflow)
	}
	if overflow == 0 {
		return b, nil
	}
	whole := aligned(int(int64(overflow+1) * d.size))
	if err := d.readAt(whole, int64(id)*d.size); err != nil {
		return nil, corrupt("page %d cannot be read from the disk: %v", id, err)
	}
	return whole, nil
}

// diskBucket is where a bucket's rows are: a page, or the page that stands in its parent's row.
type diskBucket struct {
	root   uint64
	inline []byte
}

// bucketOf reads the value of a row that is a bucket.
func bucketOf(value []byte) (diskBucket, error) {
	if len(value) < bucketHead {
		return diskBucket{}, corrupt("a bucket's row has %d bytes", len(value))
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return diskBucket{root: root}, nil
	}
	if len(value) < bucketHead+pageHeader {
		return diskBucket{}, corrupt("a bucket's row has %d bytes", len(value))
	}
	return diskBucket{inline: value[bucketHead:]}, nil
}

// diskCursor walks the rows of a bucket. It checks the pages that it meets: no page is taken for what it is not.
type diskCursor struct {
	d      *disk
	levels []diskLevel
	k, v   []byte // the current row; k is nil at the end
	bucket bool   // the row is a bucket
	err    error
}

type diskLevel struct {
	id    uint64
	page  []byte
	leaf  bool
	count int
	at    int
}

// seek begins at the first row from key on.
func (d *disk) seek(b diskBucket, key []byte) *diskCursor {
	c := &diskCursor{d: d}
	if b.inline != nil {
		c.enter(0, b.inline, key)
	} else {
		c.descend(b.root, key)
	}
	c.settle(key)
	return c
}

func (c *diskCursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = corrupt(format, args...)
	}
}

// descend goes down to the leaf that holds key or would.
func (c *diskCursor) descend(id uint64, key []byte) {
	for c.err == nil {
		if len(c.levels) > 64 {
			c.fail("page %d lies deeper than any tree of this size", id)
			return
		}
		page, err := c.d.page(id)
		if err != nil {
			c.err = err
			return
		}
		l := c.enter(id, page, key)
		if c.err != nil || l.leaf {
			return
		}
		id = l.child(l.at)
	}
}

// enter puts a page on top of the others, at the element that key belongs to.
func (c *diskCursor) enter(id uint64, page, key []byte) *diskLevel {
	le := binary.LittleEndian
	flags, count := le.Uint16(page[8:]), int(le.Uint16(page[10:]))
	switch {
	case flags != branchFlag && flags != leafFlag:
		c.fail("page %d has the kind %#x: neither branch nor leaf", id, flags)
	case pageHeader+count*leafElem > len(page) || flags == branchFlag && count == 0:
		c.fail("page %d has %d elements, which is not possible", id, count)
	}
	if c.err != nil {
		return nil
	}
	c.levels = append(c.levels, diskLevel{id: id, page: page, leaf: flags == leafFlag, count: count})
	l := &c.levels[len(c.levels)-1]
	var last []byte
	for i := range count {
		k, _, _, ok := l.element(i)
		if !ok {
			c.fail("page %d: element %d points outside of the page", id, i)
			return nil
		}
		if i > 0 && bytes.Compare(last, k) >= 0 {
			c.fail("page %d: the keys of element %d and the one before do not rise", id, i)
			return nil
		}
		last = k
		switch order := bytes.Compare(k, key); {
		case l.leaf && order < 0:
			l.at = i + 1
		case !l.leaf && order <= 0:
			l.at = i
		}
	}
	if !l.leaf {
		ids := make([]uint64, 0, aheadPages)
		for i := l.at; i < count && len(ids) < aheadPages; i++ {
			ids = append(ids, l.child(i))
		}
		c.d.ahead(ids)
	}
	return l
}

// element returns a row of a leaf, or the key of a branch's element.
func (l *diskLevel) element(i int) (key, value []byte, flags uint32, ok bool) {
	at := uint64(pageHeader + i*leafElem)
	elem, le := l.page[at:], binary.LittleEndian
	if !l.leaf {
		key = slice(l.page, at+uint64(le.Uint32(elem)), uint64(le.Uint32(elem[4:])))
		return key, nil, 0, key != nil
	}
	pos, ksize, vsize := uint64(le.Uint32(elem[4:])), uint64(le.Uint32(elem[8:])), uint64(le.Uint32(elem[12:]))
	key, value = slice(l.page, at+pos, ksize), slice(l.page, at+pos+ksize, vsize)
	return key, value, le.Uint32(elem), key != nil && value != nil
}

func (l *diskLevel) child(i int) uint64 {
	return binary.LittleEndian.Uint64(l.page[pageHeader+i*branchElem+8:])
}

// settle takes the current row, or goes on to the next page that has one.
func (c *diskCursor) settle(from []byte) {
	c.k, c.v = nil, nil
	for c.err == nil && len(c.levels) > 0 {
		l := &c.levels[len(c.levels)-1]
		if l.at >= l.count {
			c.levels = c.levels[:len(c.levels)-1]
			if len(c.levels) > 0 {
				c.levels[len(c.levels)-1].at++
			}
			continue
		}
		if !l.leaf {
			ids := make([]uint64, 0, aheadPages)
			for i := l.at; i < l.count && len(ids) < aheadPages; i++ {
				ids = append(ids, l.child(i))
			}
			c.d.ahead(ids)
			c.descend(l.child(l.at), from)
			continue
		}
		k, v, flags, _ := l.element(l.at)
		if flags&^bucketFlag != 0 {
			c.fail("page %d: element %d is neither a value nor a bucket", l.id, l.at)
			return
		}
		c.k, c.v, c.bucket = k, v, flags == bucketFlag
		return
	}
}

// next goes to the next row. Keys rise from page to page, too.
func (c *diskCursor) next() {
	if c.err != nil || len(c.levels) == 0 {
		c.k, c.v = nil, nil
		return
	}
	before := c.k
	c.levels[len(c.levels)-1].at++
	c.settle(before)
	if c.k != nil && bytes.Compare(before, c.k) >= 0 {
		c.fail("the keys %x and %x do not rise", before, c.k)
		c.k, c.v = nil, nil
	}
}

// find returns a nested bucket; nil where there is none.
func (d *disk) find(b diskBucket, names ...[]byte) (*diskBucket, error) {
	d.single = true
	defer func() { d.single = false }()
	for _, name := range names {
		c := d.seek(b, name)
		switch {
		case c.err != nil:
			return nil, c.err
		case !bytes.Equal(c.k, name) || !c.bucket:
			return nil, nil
		}
		var err error
		if b, err = bucketOf(c.v); err != nil {
			return nil, err
		}
	}
	return &b, nil
}
