package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
)

const (
	// findChunk is how many entries are looked up, or read, at a time.
	findChunk = 256
	// maxScan is how many entries a question may make the ledger read one by one, because the index does not have them yet.
	maxScan = 1 << 18
)

// groups returns the keys of a filter: an entry that fits has one of each group.
func (f Filter) groups() ([][]index.Key, error) {
	var groups [][]index.Key
	if len(f.Types) > 0 {
		var types []index.Key
		for _, t := range f.Types {
			if !t.Known() {
				return nil, fmt.Errorf("%w: there is no entry type %.80q", ErrFilter, t)
			}
			types = append(types, index.Key(string(index.Type)+":"+string(t)))
		}
		groups = append(groups, types)
	}
	for _, g := range [...]struct {
		kind  index.Kind
		value string
	}{{index.Actor, f.Actor}, {index.Subject, f.Subject}, {index.Event, f.Event}, {index.Session, f.Session}} {
		if g.value == "" {
			continue
		}
		k, err := index.NewKey(g.kind, g.value)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFilter, err)
		}
		groups = append(groups, []index.Key{k})
	}
	return groups, nil
}

// fits reports whether an entry has one key of each group.
func fits(e chain.Entry, groups [][]index.Key) bool {
	keys := index.Keys(e)
	for _, g := range groups {
		if !slices.ContainsFunc(g, func(k index.Key) bool { _, ok := slices.BinarySearch(keys, k); return ok }) {
			return false
		}
	}
	return true
}

// search is one call of Find.
type search struct {
	x      *Index
	f      Filter
	groups [][]index.Key
	lo, hi uint64 // what is left: [lo, hi)
	found  uint64
	plain  bool // read every entry
	fn     func(e chain.Entry, raw []byte) error
}

// errEnough ends a search whose limit is reached.
var errEnough = errors.New("enough")

// Find calls fn with the entries that fit the filter, in order. No transaction is open while fn runs, so it may wait for the network. Every
// entry was held against the filter itself, and what is newer than the index is read one by one. That none is left out is what the index
// says; who needs it proved asks for a proof ([Index.Prove]). ErrRebuilding says that the index lacks too much.
func (x *Index) Find(ctx context.Context, f Filter, fn func(e chain.Entry, raw []byte) error) error {
	s := &search{x: x, f: f, fn: fn, lo: f.Start, hi: x.o.Ledger.Size()}
	if f.End > 0 {
		s.hi = min(s.hi, f.End)
	}
	var err error
	if s.groups, err = f.groups(); err != nil {
		return err
	}
	s.plain = len(s.groups) == 0
	if err := s.times(); err != nil {
		return err
	}
	for s.lo < s.hi {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.mayScan(); err != nil {
			return err
		}
		err := s.chunk(ctx)
		switch {
		case err == errEnough:
			return nil
		case isDamage(err):
			x.damage(err)
			if s.found > 0 {
				return fmt.Errorf("%w: it was damaged, and what was found before may lack entries", ErrRebuilding)
			}
			s.plain = true
		case err != nil:
			return err
		}
	}
	return nil
}

// times narrows the range by time, which never goes back from entry to entry.
func (s *search) times() (err error) {
	first := func(t chain.Time) uint64 {
		n := sort.Search(int(s.hi-min(s.lo, s.hi)), func(i int) bool {
			raw, failed := s.x.o.Ledger.Entry(s.lo + uint64(i))
			var e chain.Entry
			if failed == nil {
				e, failed = chain.ParseEntry(raw)
			}
			if failed != nil && err == nil {
				err = failed
			}
			return failed == nil && !e.Time.Before(t)
		})
		return s.lo + uint64(n)
	}
	if !s.f.To.IsZero() {
		s.hi = min(s.hi, first(s.f.To))
	}
	if !s.f.From.IsZero() && err == nil {
		s.lo = first(s.f.From)
	}
	return err
}

// chunk finds some entries and moves on.
func (s *search) chunk(ctx context.Context) error {
	if !s.plain {
		found, next, err := s.x.lookUp(s)
		if err == nil {
			if err := s.deliver(found); err != nil {
				return err
			}
			s.move(next)
			return nil
		}
		if !errors.Is(err, ErrRebuilding) {
			return err
		}
	}
	from, to := s.lo, min(s.hi, s.lo+findChunk)
	if s.f.Descending {
		from, to = max(s.lo, s.hi-min(s.hi, findChunk)), s.hi
	}
	var entries [][]byte
	err := s.x.o.Ledger.Entries(ctx, from, to, func(_ uint64, raw []byte) error {
		entries = append(entries, raw)
		return nil
	})
	if err != nil {
		return err
	}
	if uint64(len(entries)) != to-from {
		return fmt.Errorf("%w: entries from %d on", ledger.ErrNotFound, from+uint64(len(entries)))
	}
	if s.f.Descending {
		slices.Reverse(entries)
	}
	for _, raw := range entries {
		if _, err := s.entry(raw); err != nil {
			return err
		}
	}
	if s.f.Descending {
		s.move(from)
	} else {
		s.move(to)
	}
	return nil
}

// mayScan refuses a question that would make the ledger read too much.
func (s *search) mayScan() error {
	if len(s.groups) == 0 {
		return nil
	}
	from := s.lo
	if !s.plain {
		s.x.mu.RLock()
		if s.x.db != nil {
			from = max(from, s.x.end())
		}
		s.x.mu.RUnlock()
	}
	if s.hi > from && s.hi-from > s.x.scan {
		return fmt.Errorf("%w: it does not have %d entries yet", ErrRebuilding, s.hi-from)
	}
	return nil
}

// move notes how far the search is.
func (s *search) move(next uint64) {
	if s.f.Descending {
		s.hi = next
	} else {
		s.lo = next
	}
}

// entry gives an entry to the caller, if it fits.
func (s *search) entry(raw []byte) (fit bool, err error) {
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return false, err
	}
	if !fits(e, s.groups) {
		return false, nil
	}
	if err := s.fn(e, raw); err != nil {
		return true, err
	}
	if s.found++; s.found == s.f.Limit {
		return true, errEnough
	}
	return true, nil
}

// deliver gives the entries that the index has named to the caller.
func (s *search) deliver(found []uint64) error {
	for _, i := range found {
		raw, err := s.x.o.Ledger.Entry(i)
		if err != nil {
			return err
		}
		fit, err := s.entry(raw)
		if err != nil {
			return err
		}
		if !fit {
			return damaged("it lists entry %d under a key that the entry does not have", i)
		}
	}
	return nil
}

// lookUp asks the index for some entries of what is left of a search, in its order, and where to go on. ErrRebuilding says that the index
// does not reach to where the search is.
func (x *Index) lookUp(s *search) (found []uint64, next uint64, err error) {
	q, err := x.open(s)
	if err != nil {
		return nil, 0, err
	}
	defer q.tx.Rollback()
	err = guard(func() error {
		found, next, err = q.run(s)
		return err
	})
	return found, next, err
}

// query is a search in one consistent view of the index.
type query struct {
	tx     *bolt.Tx
	groups [][]*postings
	end    uint64 // the view covers the entries below
}

// open makes a view.
func (x *Index) open(s *search) (*query, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.db == nil {
		return nil, ErrRebuilding
	}
	q := &query{end: x.end()}
	if s.f.Descending && s.hi > q.end || !s.f.Descending && s.lo >= q.end {
		return nil, ErrRebuilding
	}
	tx, err := x.db.Begin(false)
	if err != nil {
		return nil, err
	}
	q.tx = tx
	err = guard(func() error {
		size := readSize(tx) // that of x.cur, or of the next state, which has just been written
		for _, g := range s.groups {
			var group []*postings
			for _, k := range g {
				hash := k.Hash()
				p := &postings{c: tx.Bucket(postingsBucket).Cursor(), prefix: slices.Clone(hash[:keySize]), recent: x.newer(hash, size)}
				if size == x.cur.size {
					list, err := x.cur.m.Get(storedPages{tx.Bucket(pagesBucket)}, hash)
					if err != nil {
						return err
					}
					p.count, p.counted = list.Count, true
				}
				group = append(group, p)
			}
			q.groups = append(q.groups, group)
		}
		return nil
	})
	if err != nil {
		tx.Rollback()
		return nil, err
	}
	return q, nil
}

// newer returns the entries from size on that have a key and that were read. The caller holds mu.
func (x *Index) newer(key chain.Hash, size uint64) (out []uint64) {
	for i := max(size, x.cur.size); i < x.end(); i++ {
		if slices.Contains(x.recent[i-x.cur.size].keys, key) {
			out = append(out, i)
		}
	}
	return out
}

// run intersects the groups.
func (q *query) run(s *search) (found []uint64, next uint64, err error) {
	if s.f.Descending {
		at := s.hi - 1
		for len(found) < findChunk {
			i, ok, err := q.below(at)
			if err != nil {
				return nil, 0, err
			}
			if !ok || i < s.lo {
				return found, s.lo, nil
			}
			if found = append(found, i); i == s.lo {
				return found, s.lo, nil
			}
			at = i - 1
		}
		return found, at + 1, nil
	}
	end := min(q.end, s.hi)
	at := s.lo
	for len(found) < findChunk {
		i, ok, err := q.above(at)
		if err != nil {
			return nil, 0, err
		}
		if !ok || i >= end {
			return found, end, nil
		}
		found, at = append(found, i), i+1
	}
	return found, at, nil
}

// above returns the smallest entry from at on that is in all groups.
func (q *query) above(at uint64) (uint64, bool, error) {
	for {
		moved := false
		for _, g := range q.groups {
			best, some := uint64(0), false
			for _, p := range g {
				i, ok, err := p.above(at)
				if err != nil {
					return 0, false, err
				}
				if ok && (!some || i < best) {
					best, some = i, true
				}
			}
			if !some {
				return 0, false, nil
			}
			if best > at {
				at, moved = best, true
			}
		}
		if !moved {
			return at, true, nil
		}
	}
}

// below returns the largest entry up to at that is in all groups.
func (q *query) below(at uint64) (uint64, bool, error) {
	for {
		moved := false
		for _, g := range q.groups {
			best, some := uint64(0), false
			for _, p := range g {
				i, ok, err := p.below(at)
				if err != nil {
					return 0, false, err
				}
				if ok && (!some || i > best) {
					best, some = i, true
				}
			}
			if !some {
				return 0, false, nil
			}
			if best < at {
				at, moved = best, true
			}
		}
		if !moved {
			return at, true, nil
		}
	}
}

// postings is the ordered list of the entries of a key: rows of the file, and then those that the file does not have yet.
type postings struct {
	c      *bolt.Cursor
	prefix []byte
	row    row // the one that was read last
	recent []uint64
	// How many entries the map says that the file has of the key, if counted.
	count   uint64
	counted bool
}

// upTo reads the last row that begins at or below i, and checks that the next row goes on where it ends, or that it is the last: so a row
// that was removed is missed wherever one looks.
func (p *postings) upTo(i uint64) (r row, ok bool, err error) {
	key := binary.BigEndian.AppendUint64(slices.Clone(p.prefix), i)
	k, v := p.c.Seek(key)
	if k == nil {
		k, v = p.c.Last()
	} else if !bytes.Equal(k, key) {
		k, v = p.c.Prev()
	}
	end := uint64(0) // entries up to and with this row
	if bytes.HasPrefix(k, p.prefix) {
		if r, err = decodeRow(k, v); err != nil {
			return row{}, false, err
		}
		ok, end = true, r.count()
		k, v = p.c.Next()
	} else {
		k, v = p.c.Seek(p.prefix)
	}
	if bytes.HasPrefix(k, p.prefix) {
		if before, n := binary.Uvarint(v); n <= 0 || before != end {
			return row{}, false, damaged("%d postings of a key come before a row that says %d", end, before)
		}
	} else if p.counted && end != p.count {
		return row{}, false, damaged("it has %d postings of a key, the map says %d", end, p.count)
	}
	return r, ok, nil
}

// after reads the row that follows the one that the cursor is at, or the first.
func (p *postings) after(i uint64, before uint64) (row, bool, error) {
	k, v := p.c.Seek(binary.BigEndian.AppendUint64(slices.Clone(p.prefix), i))
	if !bytes.HasPrefix(k, p.prefix) {
		return row{}, false, nil
	}
	r, err := decodeRow(k, v)
	if err == nil && r.before != before {
		err = damaged("%d postings of a key come before a row that says %d", before, r.before)
	}
	return r, err == nil, err
}

// covers reports whether the row that was read last has the place of i among its entries.
func (p *postings) covers(i uint64) bool {
	return len(p.row.indexes) > 0 && p.row.indexes[0] <= i && i <= p.row.last()
}

// above returns the smallest entry from i on.
func (p *postings) above(i uint64) (uint64, bool, error) {
	if !p.covers(i) {
		r, ok, err := p.upTo(i)
		if err != nil {
			return 0, false, err
		}
		if !ok || r.last() < i {
			from, before := uint64(0), uint64(0)
			if ok {
				from, before = r.last()+1, r.count()
			}
			if r, ok, err = p.after(from, before); err != nil {
				return 0, false, err
			}
		}
		if !ok {
			at, _ := slices.BinarySearch(p.recent, i)
			if at == len(p.recent) {
				return 0, false, nil
			}
			return p.recent[at], true, nil
		}
		p.row = r
	}
	at, _ := slices.BinarySearch(p.row.indexes, i)
	return p.row.indexes[at], true, nil
}

// below returns the largest entry up to i.
func (p *postings) below(i uint64) (uint64, bool, error) {
	if at, ok := slices.BinarySearch(p.recent, i); ok {
		return i, true, nil
	} else if at > 0 {
		return p.recent[at-1], true, nil
	}
	if !p.covers(i) {
		r, ok, err := p.upTo(i)
		if !ok || err != nil {
			return 0, false, err
		}
		p.row = r
	}
	at, ok := slices.BinarySearch(p.row.indexes, i)
	if !ok {
		at--
	}
	return p.row.indexes[at], true, nil
}
