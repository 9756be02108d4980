package export

import (
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

// older knows the tree as it was at the sizes that time-stamped checkpoints may name.
type older struct {
	base   edge       // the tree at the smallest size that is still known
	time   chain.Time // of the entry before that, if it is one of this export
	inside bool       // base has an entry of this export
	recent []recent   // the entries from there on
}

type recent struct {
	leaf chain.Hash
	time chain.Time
}

// past is the tree as it was.
type past struct {
	root    chain.Hash
	time    chain.Time // of its last entry
	back    bool       // a larger size was asked for before
	outside bool       // it lies before the entries of this export
}

// add adds an entry.
func (o *older) add(leaf chain.Hash, t chain.Time) {
	o.recent = append(o.recent, recent{leaf, t})
	if len(o.recent) > 2*manifest.MaxBracketLag {
		o.forget(len(o.recent) - manifest.MaxBracketLag - 1)
	}
}

// forget moves the base forward.
func (o *older) forget(n int) {
	for _, r := range o.recent[:n] {
		o.base.add(0, r.leaf)
		o.time, o.inside = r.time, true
	}
	o.recent = append(o.recent[:0], o.recent[n:]...)
}

// at returns the tree at a size. Sizes that are asked for never go back.
func (o *older) at(size uint64) past {
	if size < o.base.size {
		return past{back: o.inside, outside: !o.inside}
	}
	o.forget(int(size - o.base.size))
	return past{root: o.base.root(), time: o.time}
}
