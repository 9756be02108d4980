package ledger

import (
	"bytes"
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// projections compares every row of every projection with the replayed one.
func (c *checker) projections(ctx context.Context, tx *bolt.Tx) error {
	stored, active := tx.Bucket(projectionsBucket), tx.Bucket(activeBucket)
	if err := c.unknownProjections(stored, active); err != nil {
		return err
	}
	fresh, err := c.fresh.Begin(false)
	if err != nil {
		return storeError(err)
	}
	defer rollback(fresh)
	for _, p := range c.l.o.Projections {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		version, err := readVersion(tx, p.Name())
		if err != nil {
			return err
		}
		if version != p.Version() {
			err := c.fault("projection "+p.Name(), "the file has version %d, this program %d: start the server once, it rebuilds it",
				version, p.Version())
			if err != nil {
				return err
			}
			continue
		}
		got := nested(stored, []byte(p.Name()), versionName(version))
		want := nested(fresh.Bucket(projectionsBucket), []byte(p.Name()), versionName(version))
		if err := c.compare("projection "+p.Name(), got, want); err != nil {
			return err
		}
	}
	return nil
}

func nested(b *bolt.Bucket, names ...[]byte) *bolt.Bucket {
	for _, n := range names {
		if b == nil {
			return nil
		}
		b = b.Bucket(n)
	}
	return b
}

// unknownProjections finds projections in the file that were not replayed.
func (c *checker) unknownProjections(stored, active *bolt.Bucket) error {
	unknown := func(k, v []byte) error {
		if c.l.known[string(k)] == nil {
			return c.fault(fmt.Sprintf("projection %q", k), "this program does not know it")
		}
		return nil
	}
	if err := stored.ForEach(unknown); err != nil {
		return err
	}
	return active.ForEach(unknown)
}

// compare compares two buckets row by row, nested buckets included.
func (c *checker) compare(where string, got, want *bolt.Bucket) error {
	g, w := newRowsOrNone(got), newRowsOrNone(want)
	for g.k != nil || w.k != nil {
		order := bytes.Compare(g.k, w.k)
		if g.k == nil {
			order = 1
		} else if w.k == nil {
			order = -1
		}
		row := fmt.Sprintf("%s, %s", where, printable(g.k, w.k, order))
		var err error
		switch {
		case order == 0 && g.v == nil && w.v == nil:
			err = c.compare(row, got.Bucket(g.k), want.Bucket(w.k))
		case order == 0 && !bytes.Equal(g.v, w.v) || order == 0 && (g.v == nil) != (w.v == nil):
			err = c.fault(row, "it was changed: the file has %s, the entries give %s", excerpt(g.v), excerpt(w.v))
		case order < 0 && g.v == nil: // a bucket: what counts are its rows
			err = c.compare(row, got.Bucket(g.k), nil)
		case order > 0 && w.v == nil:
			err = c.compare(row, nil, want.Bucket(w.k))
		case order < 0:
			err = c.fault(row, "no entry gives this row: the file has %s", excerpt(g.v))
		case order > 0:
			err = c.fault(row, "it is missing: the entries give %s", excerpt(w.v))
		default:
			c.report.Rows++
		}
		if err != nil {
			return err
		}
		if order <= 0 {
			g.next()
		}
		if order >= 0 {
			w.next()
		}
	}
	return nil
}

func newRowsOrNone(b *bolt.Bucket) *rows {
	if b == nil {
		return &rows{}
	}
	return newRows(b)
}

// printable names a row by its key.
func printable(g, w []byte, order int) string {
	key := g
	if order > 0 {
		key = w
	}
	for _, r := range string(key) {
		if r < 0x20 || r > 0x7e {
			return fmt.Sprintf("key %x", key)
		}
	}
	return fmt.Sprintf("key %q", key)
}

// excerpt shows the beginning of a value.
func excerpt(v []byte) string {
	if v == nil {
		return "a bucket"
	}
	return fmt.Sprintf("%.120q", v)
}
