package ledger

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// Projection is state as a pure function of the entries, kept in buckets of its own beside them.
//
// Apply is called once for each entry, in order, in the transaction that appends it, and again for all entries when the
// projection is rebuilt or checked. It must depend on nothing but its arguments: no clock, no randomness, no map order. It keeps
// none of the slices. If it fails, the command that emitted the event fails and nothing of it is written.
type Projection interface {
	// Name is its name for ever.
	Name() string
	// Version rises by one whenever Apply gives other rows for the same entries. The projection is then rebuilt at start-up.
	Version() int
	// Apply brings one entry into the state.
	Apply(s *State, e chain.Entry, entry []byte, attachments [][]byte) error
}

// State is the buckets of one projection inside a transaction. It is gone when the function that got it returns.
type State struct {
	root     *bolt.Bucket // nil if there is nothing yet and nothing may be written
	buckets  map[string]*bolt.Bucket
	writable bool
	changes  int // counts writes, so that a walk finds its place again
	err      error
}

func newState(root *bolt.Bucket, writable bool) *State {
	return &State{root: root, buckets: map[string]*bolt.Bucket{}, writable: writable}
}

func (s *State) bucket(name string) *bolt.Bucket {
	if b := s.buckets[name]; b != nil {
		return b
	}
	if s.root == nil {
		return nil
	}
	b := s.root.Bucket([]byte(name))
	if b != nil {
		s.buckets[name] = b
	}
	return b
}

// Get returns a copy of the value of key, or nil if there is none. An empty value is not nil.
func (s *State) Get(bucket string, key []byte) []byte {
	b := s.bucket(bucket)
	if b == nil {
		return nil
	}
	return clone(b.Get(key))
}

// clone copies what lies in the mapped file. An empty value stays different from none.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

// Put sets the value of key, which must not be empty. Only Apply may call it; an error makes Apply fail.
func (s *State) Put(bucket string, key, value []byte) {
	if !s.mayWrite(bucket, key) {
		return
	}
	b := s.bucket(bucket)
	if b == nil {
		var err error
		if b, err = s.root.CreateBucket([]byte(bucket)); err != nil {
			s.fail(err)
			return
		}
		s.buckets[bucket] = b
	}
	s.changes++
	s.fail(b.Put(key, append(make([]byte, 0, len(value)), value...))) // the store keeps the slice until the commit
}

// Delete removes key, if it is there. Only Apply may call it.
func (s *State) Delete(bucket string, key []byte) {
	if !s.mayWrite(bucket, key) {
		return
	}
	if b := s.bucket(bucket); b != nil {
		s.changes++
		s.fail(b.Delete(key))
	}
}

func (s *State) mayWrite(bucket string, key []byte) bool {
	switch {
	case !s.writable:
		s.fail(invalid("only Apply may write to a projection"))
	case bucket == "" || len(key) == 0:
		s.fail(invalid("a bucket and a key have names"))
	default:
		return s.err == nil
	}
	return false
}

func (s *State) fail(err error) {
	if s.err == nil && err != nil {
		s.err = err
	}
}

// Ascend calls fn with copies of the rows from key from on, in the order of their keys, until fn returns false. fn may write.
func (s *State) Ascend(bucket string, from []byte, fn func(key, value []byte) bool) {
	b := s.bucket(bucket)
	if b == nil {
		return
	}
	c := b.Cursor()
	k, v := c.Seek(from)
	for k != nil {
		key, next, before := clone(k), clone(k), s.changes
		if !fn(key, clone(v)) {
			return
		}
		if s.changes == before {
			k, v = c.Next()
			continue
		}
		c = b.Cursor() // a cursor does not survive a write: go to the next larger key
		k, v = c.Seek(append(next, 0))
	}
}

// Descend calls fn with copies of the rows below key below (all of them if it is nil), the largest key first, until fn returns
// false. fn must not write.
func (s *State) Descend(bucket string, below []byte, fn func(key, value []byte) bool) {
	b := s.bucket(bucket)
	if b == nil {
		return
	}
	c := b.Cursor()
	var k, v []byte
	if below == nil {
		k, v = c.Last()
	} else if k, _ = c.Seek(below); k == nil {
		k, v = c.Last()
	} else {
		k, v = c.Prev()
	}
	for ; k != nil; k, v = c.Prev() {
		if !fn(clone(k), clone(v)) {
			return
		}
	}
}

// Prefix calls fn with copies of the rows whose key begins with prefix, in the order of their keys, until fn returns false.
func (s *State) Prefix(bucket string, prefix []byte, fn func(key, value []byte) bool) {
	s.Ascend(bucket, prefix, func(k, v []byte) bool { return bytes.HasPrefix(k, prefix) && fn(k, v) })
}

// applier brings entries into projections.
type applier struct {
	projections []Projection
	states      []*State
}

// newApplier opens the states of projections for writing, each at its own version.
func newApplier(tx *bolt.Tx, projections []Projection) (*applier, error) {
	a := &applier{projections: projections}
	for _, p := range projections {
		root, err := projectionRoot(tx, p)
		if err != nil {
			return nil, err
		}
		a.states = append(a.states, newState(root, true))
	}
	return a, nil
}

func projectionRoot(tx *bolt.Tx, p Projection) (*bolt.Bucket, error) {
	named, err := tx.Bucket(projectionsBucket).CreateBucketIfNotExists([]byte(p.Name()))
	if err != nil {
		return nil, err
	}
	return named.CreateBucketIfNotExists(versionName(p.Version()))
}

func versionName(v int) []byte { return fmt.Appendf(nil, "%d", v) }

// apply brings one entry into every projection.
func (a *applier) apply(e chain.Entry, entry []byte, attachments [][]byte) error {
	for i, p := range a.projections {
		err := p.Apply(a.states[i], e, entry, attachments)
		if err == nil {
			err = a.states[i].err
		}
		if err != nil {
			return fmt.Errorf("projection %s: entry %d: %w", p.Name(), e.Index, err)
		}
	}
	return nil
}
