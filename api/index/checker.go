package index

import (
	"fmt"

	"github.com/signetd/signet/api/chain"
)

// Checker recomputes the index over all entries of a ledger and compares each committed root. It is what everybody who holds a single
// completeness document leans on: that somebody does this.
//
// It needs memory for some 70,000 entries and 100 bytes for each 30 keys; the map itself moves to a temporary file once it is large.
type Checker struct {
	m           Map
	pages       scratch
	base        uint64    // the map is that over the entries below
	pending     []posting // and these are the entries from there on
	newest      uint64    // index of the newest commitment
	commitments uint64
}

// posting is an entry that the map does not have yet.
type posting struct {
	leaf chain.Hash
	keys []chain.Hash
}

// settleFrom is how many entries wait for a commitment before those that none can cover any more are brought into the map.
const settleFrom = MaxLag + 4096

// NewChecker returns a Checker that puts its temporary file into dir; the system's folder if it is empty.
func NewChecker(dir string) *Checker { return &Checker{pages: scratch{dir: dir}} }

// Entry takes the next entry, which must be well-formed: raw are its bytes. An error that wraps [ErrMalformed] or [ErrRoot] says that the
// entry commits to what is not so, and the next entry can be given; another one says that the temporary file could not be used.
func (c *Checker) Entry(e chain.Entry, raw []byte) error {
	if want := c.base + uint64(len(c.pending)); e.Index != want {
		return malformed("entry %d follows where entry %d belongs", e.Index, want)
	}
	var fault error
	if e.Type == chain.IndexCommitted {
		if fault = c.commitment(e); fault != nil && !isFault(fault) {
			return fault
		}
	}
	c.pending = append(c.pending, posting{chain.LeafHash(raw), Hashes(Keys(e))})
	if len(c.pending) > settleFrom {
		if err := c.settle(c.base + uint64(len(c.pending)) - MaxLag); err != nil {
			return err
		}
	}
	return fault
}

// commitment compares a commitment with the index.
func (c *Checker) commitment(e chain.Entry) error {
	said, err := ParseCommitment(e)
	if err != nil {
		return err
	}
	if said.Entries < c.base || c.commitments > 0 && said.Entries <= c.newest {
		return fmt.Errorf("%w: entry %d commits to %d entries, not beyond the commitment before it, entry %d", ErrRoot, e.Index, said.Entries, c.newest)
	}
	c.newest = e.Index
	c.commitments++
	if err := c.settle(said.Entries); err != nil {
		return err
	}
	if root := c.m.Root(); root != said.Root || c.m.Len() != said.Keys {
		return fmt.Errorf("%w: entry %d commits to the root %s of %d keys over %d entries, but these give %s of %d keys", ErrRoot,
			e.Index, said.Root, said.Keys, said.Entries, root, c.m.Len())
	}
	return nil
}

// settle brings the entries below to into the map.
func (c *Checker) settle(to uint64) error {
	var changes Changes
	n := int(to - c.base)
	for i, p := range c.pending[:n] {
		changes.Add(c.base+uint64(i), p.leaf, p.keys)
	}
	next, err := c.m.Update(&c.pages, &changes, c.pages.put)
	if err != nil {
		return err
	}
	c.m, c.base = next, to
	c.pending = append(make([]posting, 0, len(c.pending)-n+1024), c.pending[n:]...)
	return nil
}

// Commitments returns how many commitments were compared.
func (c *Checker) Commitments() uint64 { return c.commitments }

// Close removes the temporary file.
func (c *Checker) Close() error { return c.pages.close() }
