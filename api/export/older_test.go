package export

import (
	"encoding/binary"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

// TestOlder asks for the tree at the oldest size that a time-stamped checkpoint may name, again and again.
func TestOlder(t *testing.T) {
	var o older
	var whole chain.Frontier
	var roots []chain.Hash
	const n = 3*manifest.MaxBracketLag + 1000
	for i := range uint64(n) {
		leaf := chain.LeafHash(binary.BigEndian.AppendUint64(nil, i))
		whole.Append(leaf, func(int64, chain.Hash) {})
		if i%1000 == 0 {
			roots = append(roots, whole.Root())
		}
		o.add(leaf, chain.TimeFromMilli(int64(i)))
		if len(o.recent) > 2*manifest.MaxBracketLag {
			t.Fatalf("%d entries are kept", len(o.recent))
		}
	}
	if p := o.at(n - 1 - manifest.MaxBracketLag); p.back || p.outside || p.time.UnixMilli() != n-2-manifest.MaxBracketLag {
		t.Errorf("the oldest size: %+v", p)
	}
	last := uint64(len(roots)-1) * 1000
	if p := o.at(last + 1); p.root != roots[len(roots)-1] || p.time.UnixMilli() != int64(last) {
		t.Errorf("the root at %d: %+v", last+1, p)
	}
	if p := o.at(last); !p.back {
		t.Errorf("sizes may go back: %+v", p)
	}
	if p := o.at(n); p.root != whole.Root() {
		t.Errorf("the root at the end: %+v", p)
	}
}
