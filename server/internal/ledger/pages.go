package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// bbolt maps the file and trusts its pages: a page that is not there or points to itself kills the process. So the file is
// read here as bytes first: its two meta pages at every opening, all pages in Check. The layout is that of bbolt 1.5 (and of all
// versions before it): little-endian, as on every machine that this program is built for.
const (
	pageHeader  = 16
	branchElem  = 16
	leafElem    = 16
	bucketHead  = 16
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	minPage     = 512
	maxPage     = 1 << 20
	metaSize    = 64

	branchFlag   = 0x01
	leafFlag     = 0x02
	freelistFlag = 0x10
	bucketFlag   = 0x01
)

// meta is what is needed of a meta page.
type meta struct {
	pageSize             int64
	root, freelist, high uint64 // page numbers; high is the first that is not used
	txid                 uint64
}

// checkFile reads the meta pages of a file that nobody has open and refuses one that is shorter than they say.
func checkFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err != nil {
		return storeError(err)
	}
	defer f.Close() // and with it the lock
	deadline := time.Now().Add(lockTimeout)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if err == nil {
			break
		} else if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return storeError(err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %s", ErrLocked, path)
		}
		time.Sleep(lockPoll)
	}
	_, err = readMeta(f)
	return err
}

// lockPoll is how often a lock is tried.
const lockPoll = 25 * time.Millisecond

// readMeta returns the newer of the two valid meta pages, or nil for an empty file, which is a new one.
func readMeta(f *os.File) (*meta, error) {
	newest := metaAt(f, 0)
	if newest != nil {
		if second := metaAt(f, newest.pageSize); second != nil && second.pageSize == newest.pageSize && second.txid > newest.txid {
			newest = second
		}
	} else {
		for page := int64(minPage); page <= maxPage && newest == nil; page *= 2 {
			if m := metaAt(f, page); m != nil && m.pageSize == page {
				newest = m
			}
		}
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, storeError(err)
	case info.Size() == 0:
		return nil, nil
	case newest == nil:
		return nil, corrupt("%s has no valid meta page: it is not a ledger, or damaged", f.Name())
	}
	if pages := uint64(info.Size() / newest.pageSize); newest.high > pages {
		return nil, corrupt("%s is truncated: it has %d pages and should have %d", f.Name(), pages, newest.high)
	}
	return newest, nil
}

// metaAt reads a meta page, or returns nil.
func metaAt(f io.ReaderAt, offset int64) *meta {
	b := make([]byte, pageHeader+metaSize)
	if _, err := f.ReadAt(b, offset); err != nil {
		return nil
	}
	b = b[pageHeader:]
	le := binary.LittleEndian
	m := &meta{pageSize: int64(le.Uint32(b[8:])), root: le.Uint64(b[16:]), freelist: le.Uint64(b[32:]), high: le.Uint64(b[40:]),
		txid: le.Uint64(b[48:])}
	h := fnv.New64a()
	h.Write(b[:56])
	if le.Uint32(b) != boltMagic || le.Uint32(b[4:]) != boltVersion || le.Uint64(b[56:]) != h.Sum64() ||
		m.pageSize < minPage || m.pageSize > maxPage || m.pageSize&(m.pageSize-1) != 0 {
		return nil
	}
	return m
}

// pageWalk walks all pages that are in use.
type pageWalk struct {
	ctx  context.Context
	f    *os.File
	meta *meta
	seen []uint64 // a bit for each page
}

// checkPages walks the tree of pages and checks its structure: that every page is where it should be and is used once, that
// nothing points outside, that keys rise. After it, bbolt can read the file.
func checkPages(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return storeError(err)
	}
	defer f.Close()
	m, err := readMeta(f)
	if err != nil {
		return err
	}
	if m == nil {
		return corrupt("%s is empty", path)
	}
	w := &pageWalk{ctx: ctx, f: f, meta: m, seen: make([]uint64, m.high/64+1)}
	if m.freelist != ^uint64(0) {
		if err := w.freelist(m.freelist); err != nil {
			return err
		}
	}
	_, _, err = w.tree(m.root, 0)
	return err
}

// page reads a page with its overflow, and marks it as used.
func (w *pageWalk) page(id uint64) (p []byte, flags uint16, count int, err error) {
	if w.ctx.Err() != nil {
		return nil, 0, 0, context.Cause(w.ctx)
	}
	if id < 2 || id >= w.meta.high {
		return nil, 0, 0, corrupt("page %d does not exist", id)
	}
	header := make([]byte, pageHeader)
	if _, err := w.f.ReadAt(header, int64(id)*w.meta.pageSize); err != nil {
		return nil, 0, 0, storeError(err)
	}
	le := binary.LittleEndian
	overflow := uint64(le.Uint32(header[12:]))
	if le.Uint64(header) != id || id+overflow >= w.meta.high {
		return nil, 0, 0, corrupt("page %d says that it is page %d with %d more", id, le.Uint64(header), overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, 0, 0, corrupt("page %d is used twice", i)
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	p = make([]byte, int64(overflow+1)*w.meta.pageSize)
	if _, err := w.f.ReadAt(p, int64(id)*w.meta.pageSize); err != nil && err != io.EOF {
		return nil, 0, 0, storeError(err)
	}
	return p, le.Uint16(header[8:]), int(le.Uint16(header[10:])), nil
}

// freelist checks the list of free pages: none twice, none in use. The latter follows from marking them as seen.
func (w *pageWalk) freelist(id uint64) error {
	p, flags, count, err := w.page(id)
	if err != nil {
		return err
	}
	if flags != freelistFlag {
		return corrupt("page %d is not the list of free pages", id)
	}
	le, at := binary.LittleEndian, pageHeader
	n := uint64(count)
	if count == 0xFFFF { // then the number stands in the first element
		n, at = le.Uint64(p[at:]), at+8
	}
	if n > uint64(len(p)-at)/8 {
		return corrupt("the list of free pages has %d pages, more than fit", n)
	}
	for i := range int(n) {
		free := le.Uint64(p[at+8*i:])
		if free < 2 || free >= w.meta.high || w.seen[free/64]&(1<<(free%64)) != 0 {
			return corrupt("the list of free pages holds page %d, which does not exist, is in use or is there twice", free)
		}
		w.seen[free/64] |= 1 << (free % 64)
	}
	return nil
}

// tree walks the pages of a bucket and returns its first and last key.
func (w *pageWalk) tree(id uint64, depth int) (first, last []byte, err error) {
	if depth > 64 {
		return nil, nil, corrupt("page %d lies deeper than any tree of this size", id)
	}
	p, flags, count, err := w.page(id)
	if err != nil {
		return nil, nil, err
	}
	return w.elements(id, p, flags, count, depth)
}

// elements walks the elements of a branch or leaf page, which may stand inline in a bucket's value.
func (w *pageWalk) elements(id uint64, p []byte, flags uint16, count, depth int) (first, last []byte, err error) {
	if flags != branchFlag && flags != leafFlag {
		return nil, nil, corrupt("page %d has the kind %#x: neither branch nor leaf", id, flags)
	}
	if pageHeader+count*leafElem > len(p) || flags == branchFlag && count == 0 {
		return nil, nil, corrupt("page %d has %d elements, which is not possible", id, count)
	}
	le := binary.LittleEndian
	for i := range count {
		at := pageHeader + i*leafElem
		elem := p[at:]
		var key, value, childLast []byte
		if flags == branchFlag {
			pos, ksize := uint64(le.Uint32(elem)), uint64(le.Uint32(elem[4:]))
			if key = slice(p, uint64(at)+pos, ksize); key == nil {
				return nil, nil, corrupt("page %d: element %d points outside of the page", id, i)
			}
			var childFirst []byte
			if childFirst, childLast, err = w.tree(le.Uint64(elem[8:]), depth+1); err != nil {
				return nil, nil, err
			}
			if childFirst == nil || bytes.Compare(key, childFirst) > 0 {
				return nil, nil, corrupt("page %d: element %d does not fit the page below it", id, i)
			}
		} else {
			pos, ksize, vsize := uint64(le.Uint32(elem[4:])), uint64(le.Uint32(elem[8:])), uint64(le.Uint32(elem[12:]))
			key, value = slice(p, uint64(at)+pos, ksize), slice(p, uint64(at)+pos+ksize, vsize)
			if key == nil || value == nil {
				return nil, nil, corrupt("page %d: element %d points outside of the page", id, i)
			}
			if err := w.leaf(id, i, le.Uint32(elem), value, depth); err != nil {
				return nil, nil, err
			}
			childLast = key
		}
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return nil, nil, corrupt("page %d: the keys of element %d and the one before do not rise", id, i)
		}
		if first == nil {
			first = key
		}
		last = childLast
	}
	return first, last, nil
}

// leaf checks a leaf element: a plain value, or a bucket.
func (w *pageWalk) leaf(id uint64, i int, flags uint32, value []byte, depth int) error {
	switch {
	case flags == 0:
		return nil
	case flags != bucketFlag || len(value) < bucketHead:
		return corrupt("page %d: element %d is neither a value nor a bucket", id, i)
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		_, _, err := w.tree(root, depth+1)
		return err
	}
	inline := value[bucketHead:]
	if len(inline) < pageHeader || depth > 64 {
		return corrupt("page %d: element %d is an incomplete bucket", id, i)
	}
	le := binary.LittleEndian
	_, _, err := w.elements(id, inline, le.Uint16(inline[8:]), int(le.Uint16(inline[10:])), depth+1)
	return err
}

// slice returns p[at:at+n], or nil if that is not in p.
func slice(p []byte, at, n uint64) []byte {
	if at > uint64(len(p)) || n > uint64(len(p))-at {
		return nil
	}
	return p[at : at+n : at+n]
}
