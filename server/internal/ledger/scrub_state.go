package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// requestSum is the number and the sum of records of requests, whatever their order.
type requestSum struct {
	key [32]byte // random, so that nobody can choose records of the same sum
	n   uint64
	sum [4]uint64
}

// add adds a record: the SHA-256 of key and record as a number.
func (r *requestSum) add(record []byte) {
	r.n++
	h := sha256.Sum256(append(r.key[:], record...))
	carry := uint64(0)
	for i := range r.sum {
		r.sum[i], carry = bits.Add64(r.sum[i], binary.BigEndian.Uint64(h[8*i:]), carry)
	}
}

func (s *scrub) request(e chain.Entry) { s.sum.add(requestRecord(e.Request, e.Index)) }

// requests holds the index of requests against the entries. It is read in its own order, row by row: a row's key never changes, and what is
// added meanwhile belongs to newer entries. Whether it has the records of the entries that were read, and no others, shows in their sum.
func (s *scrub) requests(ctx context.Context) error {
	if s.walk == nil {
		return nil
	}
	size := s.walk.tree.Size()
	found := requestSum{key: s.sum.key}
	var next, last []byte
	for done := false; !done; {
		err := s.within(ctx, func(tx *bolt.Tx, root diskBucket) error {
			b, err := s.disk.find(root, requestsBucket)
			if err != nil {
				return err
			}
			if b == nil {
				return corrupt("the bucket %q is not on the disk", requestsBucket)
			}
			now, err := readSize(tx)
			if err != nil {
				return err
			}
			c := s.disk.seek(*b, next)
			for n := 0; c.k != nil && n < scrubRows; n++ {
				if err := wellFormed(c.k, c.v, last); err != nil {
					return err
				}
				for r := c.v; len(r) > 0; r = r[recordSize:] {
					last = clone(r[:recordSize])
					switch index := binary.BigEndian.Uint64(r[8:]); {
					case index < size:
						found.add(last)
					case index >= now:
						if err := s.fault("index of requests", "it names entry %d; there are %d", index, now); err != nil {
							return err
						}
					}
				}
				c.next()
			}
			next, done = clone(c.k), c.k == nil
			return c.err
		})
		s.count.requests = found.n
		s.progress(StageRequests, found.n, s.sum.n)
		if err != nil {
			return err
		}
	}
	if found == s.sum {
		return nil
	}
	return s.wrongRequests(ctx, size, found.n)
}

// wellFormed checks that a row of the index of requests is packed as it should be.
func wellFormed(key, row, last []byte) error {
	if len(key) != recordSize || len(row) == 0 || len(row)%recordSize != 0 || len(row) > maxRecords*recordSize || bytes.Compare(key, row[:recordSize]) > 0 {
		return corrupt("the index of requests has a malformed row %x", key)
	}
	for ; len(row) > 0; row = row[recordSize:] {
		if bytes.Compare(last, row[:recordSize]) >= 0 {
			return corrupt("the index of requests is not in order at row %x", key)
		}
		last = row[:recordSize]
	}
	return nil
}

// wrongRequests finds out which entries are not in the index of requests.
func (s *scrub) wrongRequests(ctx context.Context, size, found uint64) error {
	missing := 0
	err := s.l.Entries(ctx, 0, size, func(index uint64, raw []byte) error {
		e, err := chain.ParseEntry(raw)
		if err != nil || e.Request == "" {
			return nil // what is wrong with it was said before
		}
		var has bool
		err = s.l.read(func(tx *bolt.Tx) (err error) {
			has, err = hasRequest(tx.Bucket(requestsBucket), e.Request, index)
			return err
		})
		if err != nil || has {
			return err
		}
		missing++
		return s.fault(fmt.Sprintf("entry %d", index), "its request is not in the index of requests")
	})
	if err != nil {
		return err
	}
	if missing == 0 || found+uint64(missing) != s.sum.n {
		return s.fault("index of requests", "it has %d records of the first %d entries, but the entries give %d", found, size, s.sum.n)
	}
	return nil
}

// projections compares every row of every projection with the replayed one.
func (s *scrub) projections(ctx context.Context) error {
	if s.walk == nil {
		return nil
	}
	if s.walk.stopReplay || s.walk.tree.Size() == 0 && s.l.Size() > 0 {
		return s.fault("projections", "they were not compared: the entries cannot be replayed")
	}
	at := s.walk.tree.Size()
	for {
		size := s.l.Size()
		if at+scrubEntries/4 > size {
			break
		}
		if err := s.replayTo(ctx, &at, min(size, at+scrubEntries)); err != nil {
			return err
		}
	}
	for _, p := range s.l.o.Projections {
		c := &rowComparison{scrub: s, p: p, at: &at}
		for !c.done {
			if err := s.within(ctx, c.some); err != nil {
				return err
			}
			s.progress(StageProjections, s.report.Rows, 0)
		}
	}
	return nil
}

// replayTo replays entries that came after those that were read.
func (s *scrub) replayTo(ctx context.Context, at *uint64, to uint64) error {
	return s.within(ctx, func(tx *bolt.Tx, _ diskBucket) error {
		return s.onFresh(func(fresh *bolt.Tx) error { return s.catchUp(tx, fresh, at, to) })
	})
}

// onFresh runs fn in a transaction of the replayed state.
func (s *scrub) onFresh(fn func(fresh *bolt.Tx) error) error {
	fresh, err := s.fresh.Begin(true)
	if err != nil {
		return storeError(err)
	}
	defer rollback(fresh)
	if _, err := fresh.CreateBucketIfNotExists(projectionsBucket); err != nil {
		return storeError(err)
	}
	if err := fn(fresh); err != nil {
		return err
	}
	return storeError(fresh.Commit())
}

// catchUp brings the replayed state to what a transaction sees.
func (s *scrub) catchUp(tx, fresh *bolt.Tx, at *uint64, to uint64) error {
	if *at >= to {
		return nil
	}
	a, err := newApplier(fresh, s.l.o.Projections)
	if err != nil {
		return storeError(err)
	}
	*at, err = s.l.replay(tx, a, *at, to)
	return err
}

// rowComparison compares one projection, a range of rows at a time, each at the entry that both sides have reached.
type rowComparison struct {
	*scrub
	p     Projection
	at    *uint64
	name  []byte // of the bucket
	after []byte // where the next range begins; nil: with the next bucket
	done  bool
}

func (c *rowComparison) some(tx *bolt.Tx, root diskBucket) error {
	where := "projection " + c.p.Name()
	version, err := readVersion(tx, c.p.Name())
	if err != nil {
		return err
	}
	if version != c.p.Version() {
		c.done = true
		return c.fault(where, "the file has version %d, this program %d", version, c.p.Version())
	}
	size, err := readSize(tx)
	if err != nil {
		return err
	}
	return c.onFresh(func(fresh *bolt.Tx) error {
		if err := c.catchUp(tx, fresh, c.at, size); err != nil {
			return err
		}
		got, err := c.disk.find(root, projectionsBucket, []byte(c.p.Name()), versionName(version))
		if err != nil {
			return err
		}
		want := nested(fresh.Bucket(projectionsBucket), []byte(c.p.Name()), versionName(version))
		for budget := scrubRows; budget > 0; {
			if c.after == nil {
				if err := c.nextBucket(where, got, want); err != nil || c.done {
					return err
				}
			}
			n, err := c.someRows(fmt.Sprintf("%s, %s", where, printable(c.name, nil, 0)), got, want, budget)
			if err != nil {
				return err
			}
			budget -= n + 1
		}
		return nil
	})
}

// nextBucket goes to the next bucket that one of the two sides has.
func (c *rowComparison) nextBucket(where string, got *diskBucket, want *bolt.Bucket) error {
	for {
		from := append(clone(c.name), 0)
		g, w := &diskCursor{}, []byte(nil)
		var plain []byte
		if got != nil {
			c.disk.single = true
			g = c.disk.seek(*got, from)
			c.disk.single = false
			if g.err != nil {
				return g.err
			}
		}
		if want != nil {
			w, plain = want.Cursor().Seek(from)
		}
		if g.k == nil && w == nil {
			c.done = true
			return nil
		}
		c.name, c.after = clone(g.k), []byte{}
		if c.name == nil || w != nil && bytes.Compare(w, c.name) < 0 {
			c.name = clone(w)
		}
		if plain != nil || g.k != nil && !g.bucket && bytes.Equal(g.k, c.name) {
			c.after = nil
			if err := c.fault(fmt.Sprintf("%s, %s", where, printable(c.name, nil, 0)), "no entry gives this row"); err != nil {
				return err
			}
			continue
		}
		return nil
	}
}

// someRows compares rows of the current bucket.
func (c *rowComparison) someRows(where string, got *diskBucket, want *bolt.Bucket, budget int) (n int, err error) {
	g, w := &diskCursor{}, &rows{}
	if got != nil {
		b, err := c.disk.find(*got, c.name)
		if err != nil {
			return 0, err
		}
		if b != nil {
			g = c.disk.seek(*b, c.after)
		}
	}
	if b := nested(want, c.name); b != nil {
		w = &rows{c: b.Cursor()}
		w.k, w.v = w.c.Seek(c.after)
	}
	size := 0
	for ; g.k != nil || w.k != nil; n++ {
		if g.err != nil {
			return n, g.err
		}
		if n >= budget || size >= scrubBytes {
			n = budget
			c.after = clone(g.k)
			if g.k == nil || w.k != nil && bytes.Compare(w.k, g.k) < 0 {
				c.after = clone(w.k)
			}
			return n, nil
		}
		order := bytes.Compare(g.k, w.k)
		if g.k == nil {
			order = 1
		} else if w.k == nil {
			order = -1
		}
		at := fmt.Sprintf("%s, %s", where, printable(g.k, w.k, order))
		switch {
		case order < 0:
			err = c.fault(at, "no entry gives this row: the file has %s", excerpt(g.v))
		case order > 0:
			err = c.fault(at, "it is missing: the entries give %s", excerpt(w.v))
		case g.bucket || w.v == nil || !bytes.Equal(g.v, w.v):
			err = c.fault(at, "it was changed: the file has %s, the entries give %s", excerpt(g.v), excerpt(w.v))
		default:
			c.report.Rows++
		}
		if err != nil {
			return n, err
		}
		size += len(g.v)
		if order <= 0 {
			g.next()
		}
		if order >= 0 {
			w.next()
		}
	}
	c.after = nil
	return n, g.err
}
