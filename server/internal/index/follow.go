package index

import (
	"context"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/ledger"
)

const (
	// poll is how often the follower looks whether there is something new.
	poll = 200 * time.Millisecond
	// pace is how long the follower waits at least between two commitments under load, so that appends have the disk to themselves.
	pace = time.Second
	// retry is how long it waits after a failure.
	retry = 5 * time.Second
	// rest is how many times as long as a step took the follower waits after it, as long as it is not far behind: appends go first.
	rest = 4
	// patience is how long a state waits for the preferred checkpoint.
	patience = 30 * time.Second
	// readChunk is how many entries it takes at a time.
	readChunk = 4096
	// bulk is how many entries it brings into the file at a time where it has many to catch up with.
	bulk = 16 << 10
)

// errLag says that too many entries came between making a commitment and appending it.
var errLag = errors.New("index: the ledger has grown meanwhile")

// Run follows the ledger until ctx ends, and commits roots of the index to it.
func (x *Index) Run(ctx context.Context) {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for {
		began := time.Now()
		busy, err := x.step(ctx)
		if ctx.Err() != nil {
			return
		}
		x.note(err)
		wait := poll
		switch {
		case err != nil:
			wait = retry
		case busy && x.o.Ledger.Size() > x.end()+index.MaxLag:
			continue
		case busy:
			wait = min(rest*time.Since(began), pace)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
		case <-timer.C:
		}
	}
}

// note keeps why a step came to nothing, and logs it once.
func (x *Index) note(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil && (x.failed == nil || x.failed.Error() != err.Error()) {
		x.log.Error("index: following the ledger failed; trying again", "err", err)
	}
	x.failed = err
}

// step brings the index a step further. busy says that there is more to do at once.
func (x *Index) step(ctx context.Context) (busy bool, err error) {
	defer func() {
		if isDamage(err) {
			x.damage(err)
			busy, err = true, nil
		}
	}()
	if err := x.settle(ctx); err != nil {
		return false, err
	}
	caughtUp, err := x.follow(ctx)
	if err != nil {
		return false, err
	}
	waiting := len(x.recent)
	if x.next == nil && x.seen != nil && (caughtUp || waiting >= bulk) {
		if err := x.adopt(x.seen); err != nil {
			return false, err
		}
	}
	full := waiting > index.MaxLag+bulk
	if x.next != nil && (full || x.covered(x.next)) {
		return true, x.advance(x.next)
	}
	if x.next == nil && full { // nobody commits: what no commitment can leave out any more goes into the file
		p, err := x.prepare(x.end() - index.MaxLag)
		if err != nil {
			return false, err
		}
		return true, x.advance(p)
	}
	if caughtUp && x.next == nil && x.due() {
		return true, x.commit(ctx)
	}
	return !caughtUp, nil
}

// covered reports whether the checkpoint that proofs are made against covers the commitment to a state, so that the state before is not
// needed any more.
func (x *Index) covered(p *prepared) bool {
	if x.o.Ledger.Head().Checkpoint.Size <= p.commitment {
		return false
	}
	if x.o.Preferred == nil || x.o.Preferred().Checkpoint.Size > p.commitment {
		return true
	}
	now := x.o.Clock()
	if p.since.IsZero() {
		p.since = now
	}
	return now.Sub(p.since) >= patience
}

// settle opens the file, and makes it anew where it is not to be trusted.
func (x *Index) settle(ctx context.Context) error {
	x.mu.RLock()
	db, suspect := x.db, x.suspect
	x.mu.RUnlock()
	if suspect != nil {
		x.log.Warn("index: the file is made anew from the entries", "reason", suspect)
		if err := x.drop(); err != nil {
			return err
		}
		db = nil
	}
	if db != nil {
		return nil
	}
	return x.load(ctx)
}

// drop closes and deletes the file.
func (x *Index) drop() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.db != nil {
		if err := x.db.Close(); err != nil {
			return err
		}
	}
	x.db, x.cur, x.recent, x.suspect = nil, state{}, nil, nil
	x.next, x.seen = nil, nil
	return removeStore(x.o.Path)
}

// load opens the file and holds it against the ledger. Its map must be the one that an entry commits to: so a file that was swapped,
// edited or copied from elsewhere is found before a commitment is made from it.
func (x *Index) load(ctx context.Context) error {
	db, err := openStore(ctx, x.o.Path, x.o.Ledger.Verifier().Name())
	if err != nil {
		return err
	}
	var s state
	err = guard(func() error {
		return db.View(func(tx *bolt.Tx) (err error) {
			if s.size = readSize(tx); s.size == 0 {
				return checkEmpty(tx)
			}
			if s.commitment, s.committed = readCommitment(tx); !s.committed {
				return damaged("it stops between two commitments")
			}
			if s.m, err = loadMap(ctx, tx); err != nil {
				return err
			}
			return x.compare(ctx, s)
		})
	})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.db, x.cur, x.recent = db, s, nil
	x.next, x.seen = nil, nil
	x.built = s.size == 0
	return nil
}

// compare holds a state against the entry that commits to it.
func (x *Index) compare(ctx context.Context, s state) error {
	c, err := x.commitmentAt(ctx, s.commitment)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return damaged("it covers %d entries, and its commitment, entry %d, does not exist: it is another ledger's, or the ledger is older", s.size, s.commitment)
	case err != nil:
		return err
	case c.Entries != s.size || c.Root != s.m.Root() || c.Keys != s.m.Len():
		return damaged("it covers %d entries with the root %s; entry %d commits to %d with %s", s.size, s.m.Root(), s.commitment, c.Entries, c.Root)
	}
	return nil
}

// commitmentAt reads a commitment, and proves the entry where a checkpoint covers it.
func (x *Index) commitmentAt(ctx context.Context, i uint64) (index.Commitment, error) {
	raw, err := x.o.Ledger.Entry(i)
	if err != nil {
		return index.Commitment{}, err
	}
	if head := x.o.Ledger.Head(); i < head.Checkpoint.Size {
		if _, err := x.o.Ledger.Proof(ctx, i, head); err != nil {
			return index.Commitment{}, err
		}
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return index.Commitment{}, err
	}
	c, err := index.ParseCommitment(e)
	if err != nil {
		return index.Commitment{}, damaged("entry %d is not the commitment that it names: %v", i, err)
	}
	return c, nil
}

// follow reads entries that are new, and reports whether there are no more.
func (x *Index) follow(ctx context.Context) (caughtUp bool, err error) {
	from, size := x.end(), x.o.Ledger.Size()
	if from > size {
		return false, damaged("it covers %d entries, the ledger has %d", from, size)
	}
	to := min(size, from+readChunk)
	if from == to {
		return true, nil
	}
	read := make([]entry, 0, to-from)
	err = x.o.Ledger.Entries(ctx, from, to, func(i uint64, raw []byte) error {
		e, err := chain.ParseEntry(raw)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if e.Index != i {
			return fmt.Errorf("%w: entry %d says that it is entry %d", ledger.ErrCorrupt, i, e.Index)
		}
		if e.Type == chain.IndexCommitted {
			c, err := index.ParseCommitment(e)
			if err != nil {
				x.fault(err)
			} else {
				x.seen = &committed{c, i}
			}
		}
		read = append(read, entry{chain.LeafHash(raw), index.Hashes(index.Keys(e)), e.Time, !ledger.Housekeeping(e.Type)})
		return nil
	})
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.recent = append(x.recent, read...)
	close(x.reached)
	x.reached = make(chan struct{})
	return to == size && len(read) == int(to-from), nil
}

// fault notes that the ledger commits to what is not so.
func (x *Index) fault(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wrong == nil {
		x.log.Error("index: the ledger has a wrong commitment; run `signetd ledger check`", "err", err)
		x.wrong = err
	}
}

// prepared is a state of the index that is not in the file yet.
type prepared struct {
	state
	pages   map[index.PageID][]byte
	changes *index.Changes
	since   time.Time // when a signed checkpoint was first seen to cover its commitment, but not the preferred one
}

// prepare computes the state over the entries below size.
func (x *Index) prepare(size uint64) (*prepared, error) {
	pages := &overlay{x, map[index.PageID][]byte{}}
	p := &prepared{changes: &index.Changes{}}
	for i, e := range x.recent[:size-x.cur.size] {
		p.changes.Add(x.cur.size+uint64(i), e.leaf, e.keys)
	}
	m, err := x.cur.m.Update(pages, p.changes, pages.put)
	if err != nil {
		return nil, err
	}
	p.state, p.pages = state{m: m, size: size}, pages.pages
	return p, nil
}

// adopt makes a commitment of the ledger the coming state, if it is what the entries give.
func (x *Index) adopt(c *committed) error {
	x.seen = nil
	if c.Entries < x.cur.size || c.Entries == x.cur.size && x.cur.committed {
		return nil
	}
	p, err := x.prepare(c.Entries)
	if err != nil {
		return err
	}
	if p.m.Root() != c.Root || p.m.Len() != c.Keys {
		err := fmt.Errorf("%w: entry %d commits to the root %s of %d keys over %d entries, but these give %s of %d keys", index.ErrRoot, c.index,
			c.Root, c.Keys, c.Entries, p.m.Root(), p.m.Len())
		if !x.built { // it may be the file that is wrong
			return damaged("%v", err)
		}
		x.fault(err)
		return nil
	}
	p.committed, p.commitment = true, c.index
	x.next = p
	return nil
}

// due reports whether it is time to commit.
func (x *Index) due() bool {
	from := uint64(0)
	if x.seen != nil && x.seen.Entries > x.cur.size {
		from = x.seen.Entries - x.cur.size
	}
	n, since := uint64(0), chain.Time{}
	for _, e := range x.recent[from:] {
		if !e.news {
			continue
		}
		if n == 0 {
			since = e.time
		}
		n++
	}
	now := x.o.Clock()
	return n > 0 && (n >= x.o.Every && now.Sub(x.last) >= pace || now.Sub(since.Time()) >= x.o.Within)
}

// commit appends a commitment to all entries that were read.
func (x *Index) commit(ctx context.Context) error {
	p, err := x.prepare(x.end())
	if err != nil {
		return err
	}
	body, err := ledger.EncodeBody(index.Commitment{Entries: p.size, Format: index.Format, Keys: p.m.Len(), Root: p.m.Root()})
	if err != nil {
		return err
	}
	res, err := x.o.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		if tx.Size()-p.size > index.MaxLag {
			return errLag
		}
		tx.Emit(ledger.Event{Type: chain.IndexCommitted, Actor: chain.Actor{ID: "index", Kind: chain.System}, Body: body})
		return nil
	})
	if errors.Is(err, errLag) {
		return nil // once more, over more entries
	}
	if err != nil {
		return err
	}
	// Crash point: the commitment is durable, the file does not have its state. The follower reads it again and computes the state anew.
	failpoint.Hit("index.committed")
	p.committed, p.commitment = true, res.First
	x.next, x.last = p, x.o.Clock()
	return nil
}

// advance brings a prepared state into the file.
func (x *Index) advance(p *prepared) error {
	n := int(p.size - x.cur.size)
	x.writing.Lock()
	defer x.writing.Unlock()
	err := guard(func() error {
		return x.db.Update(func(tx *bolt.Tx) error { return write(tx, p) })
	})
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cur, x.next = p.state, nil
	x.recent = append(make([]entry, 0, len(x.recent)-n+readChunk), x.recent[n:]...)
	return nil
}
