package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
)

// proved is what a proof takes from the index, checked against the commitment.
type proved struct {
	state
	proof   index.MapProof
	indexes []uint64 // the entries that the key's list names
}

// Prove writes a completeness document (see api/index): every entry below the checkpoint at that has the key, and the proof that these are
// all. The zero Signed stands for the preferred or newest checkpoint, which always covers the commitment. Nothing is written before what is written was verified; where the index turns out
// not to be what the ledger commits to, it is made anew, and the caller asks again (ErrRebuilding).
func (x *Index) Prove(ctx context.Context, key index.Key, at ledger.Signed, w io.Writer) error {
	if err := key.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrFilter, err)
	}
	p, err := x.gather(ctx, key)
	switch {
	case isDamage(err), errors.Is(err, index.ErrProof):
		x.damage(err)
		return fmt.Errorf("%w: it was damaged", ErrRebuilding)
	case err != nil && !errors.Is(err, ErrRebuilding):
		return err
	}
	if at.Note == nil {
		if at = x.newest(p); at.Note == nil {
			return ledger.ErrNotCheckpointed
		}
	}
	if err != nil || !p.committed || p.commitment >= at.Checkpoint.Size { // no commitment: every entry then, if they are not too many
		if at.Checkpoint.Size > index.MaxLag {
			return ErrRebuilding
		}
		p = proved{proof: index.MapProof{Siblings: []chain.Hash{}}}
	}
	return x.write(ctx, key, p, at, w)
}

// newest returns the checkpoint that something is proved against.
func (x *Index) newest(p proved) ledger.Signed {
	if x.o.Preferred != nil {
		if s := x.o.Preferred(); s.Note != nil && s.Checkpoint.Size > p.commitment {
			return s
		}
	}
	return x.o.Ledger.Head()
}

// gather reads what the index has of a key, and verifies it: the map's proof against the commitment, the list against the entries.
func (x *Index) gather(ctx context.Context, key index.Key) (proved, error) {
	p, err := x.look(key)
	if err != nil || !p.committed {
		return p, err
	}
	c, err := x.commitmentAt(ctx, p.commitment)
	if err != nil {
		return p, err
	}
	if c.Entries != p.size {
		return p, damaged("entry %d commits to %d entries, not to %d", p.commitment, c.Entries, p.size)
	}
	want, err := p.proof.Verify(c.Root, key.Hash())
	if err != nil {
		return p, err
	}
	if want.Count != uint64(len(p.indexes)) {
		return p, damaged("it has %d postings of a key, the map says %d", len(p.indexes), want.Count)
	}
	var got index.List
	for _, i := range p.indexes {
		if ctx.Err() != nil {
			return p, context.Cause(ctx)
		}
		raw, err := x.o.Ledger.Entry(i)
		if errors.Is(err, ledger.ErrNotFound) {
			return p, damaged("it lists entry %d, which does not exist", i)
		} else if err != nil {
			return p, err
		}
		got = got.Append(i, chain.LeafHash(raw))
	}
	if got != want {
		return p, damaged("the postings of a key are others than those of the map")
	}
	return p, nil
}

// look reads the proof and the postings of a key in one view.
func (x *Index) look(key index.Key) (p proved, err error) {
	x.writing.RLock()
	x.mu.RLock()
	if x.db == nil || x.cur.size == 0 {
		x.mu.RUnlock()
		x.writing.RUnlock()
		return p, ErrRebuilding
	}
	p.state = x.cur
	tx, err := x.db.Begin(false)
	x.mu.RUnlock()
	x.writing.RUnlock()
	if err != nil {
		return p, err
	}
	defer tx.Rollback()
	hash := key.Hash()
	err = guard(func() (err error) {
		if p.proof, err = p.m.Prove(storedPages{tx.Bucket(pagesBucket)}, hash); err != nil {
			return err
		}
		list := &postings{c: tx.Bucket(postingsBucket).Cursor(), prefix: hash[:keySize]}
		for from, before := uint64(0), uint64(0); ; {
			r, ok, err := list.after(from, before)
			if err != nil || !ok {
				return err
			}
			p.indexes = append(p.indexes, r.indexes...)
			if r.last() == math.MaxUint64 {
				return damaged("a row of postings does not end")
			}
			from, before = r.last()+1, r.count()
		}
	})
	return p, err
}

// write writes the document.
func (x *Index) write(ctx context.Context, key index.Key, p proved, at ledger.Signed, w io.Writer) error {
	subtrees, err := x.o.Ledger.Subtrees(p.size)
	if err != nil {
		return err
	}
	h := index.Header{Checkpoint: string(at.Note), Entries: p.size, Key: key, Map: p.proof, Subtrees: subtrees}
	if p.size > 0 {
		h.Commitment = formatIndex(p.commitment)
	}
	d, err := index.NewWriter(w, h)
	if err != nil {
		return err
	}
	for _, i := range p.indexes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		raw, proof, _, err := x.o.Ledger.Place(i, 0, at)
		if err != nil {
			return err
		}
		if err := d.Listed(raw, proof.Hashes); err != nil {
			return err
		}
	}
	err = x.o.Ledger.Entries(ctx, p.size, at.Checkpoint.Size, func(_ uint64, raw []byte) error { return d.Following(raw) })
	if err != nil {
		return err
	}
	return d.Close()
}
