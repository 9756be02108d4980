package index

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
)

// check gives all entries to a checker and returns what is wrong with each.
func check(t *testing.T, l *testLedger) (map[uint64]error, *Checker) {
	t.Helper()
	c := NewChecker(t.TempDir())
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	faults := map[uint64]error{}
	for i, raw := range l.entries {
		e, err := chain.ParseEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Entry(e, raw); err != nil {
			faults[uint64(i)] = err
		}
	}
	return faults, c
}

func TestChecker(t *testing.T) {
	t.Attr("requirement", "11.10(e)")
	good := func(l *testLedger, n int) {
		l.some(n)
		l.commit(len(l.entries))
	}
	wrong := func(l *testLedger, change func(c *Commitment)) {
		real := l.commit(len(l.entries))
		l.entries, l.hashes = l.entries[:len(l.entries)-1], nil
		change(&real)
		// The entry after which it comes is the last one: nothing is signed here, so the tree need not be right.
		e, err := chain.ParseEntry(l.entries[len(l.entries)-1])
		if err != nil {
			t.Fatal(err)
		}
		l.prev = chain.LeafHash(l.entries[len(l.entries)-1])
		body, err := chain.MarshalBody(real)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := chain.Entry{Actor: chain.Actor{ID: "index", Kind: chain.System}, Body: body, Index: e.Index + 1, Prev: l.prev, Time: e.Time,
			Type: chain.IndexCommitted, V: chain.Version}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		l.prev = chain.LeafHash(raw)
		l.entries = append(l.entries, raw)
	}
	for name, test := range map[string]struct {
		make func(l *testLedger)
		bad  uint64 // the entry with the fault; 0: none
		want error
	}{
		"no commitment": {make: func(l *testLedger) { l.some(300) }},
		"commitments":   {make: func(l *testLedger) { good(l, 10); good(l, 1); good(l, 200); l.some(5) }},
		"commitments to earlier sizes": {make: func(l *testLedger) {
			l.some(100)
			l.commit(60)
			l.some(7)
			l.commit(103)
		}},
		"another root":      {make: func(l *testLedger) { l.some(10); wrong(l, func(c *Commitment) { c.Root[0] ^= 1 }) }, bad: 10, want: ErrRoot},
		"another count":     {make: func(l *testLedger) { l.some(10); wrong(l, func(c *Commitment) { c.Keys++ }) }, bad: 10, want: ErrRoot},
		"another size":      {make: func(l *testLedger) { l.some(10); wrong(l, func(c *Commitment) { c.Entries-- }) }, bad: 10, want: ErrRoot},
		"a size to come":    {make: func(l *testLedger) { l.some(10); wrong(l, func(c *Commitment) { c.Entries++ }) }, bad: 10, want: ErrMalformed},
		"not beyond before": {make: func(l *testLedger) { l.some(10); l.commit(8); l.commit(9) }, bad: 11, want: ErrRoot},
		"the same again":    {make: func(l *testLedger) { l.some(10); l.commit(10); l.commit(10) }, bad: 11, want: ErrRoot},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			test.make(l)
			faults, _ := check(t, l)
			if test.want == nil && len(faults) > 0 || test.want != nil && (len(faults) != 1 || !errors.Is(faults[test.bad], test.want)) {
				t.Errorf("%v, want %v of entry %d", faults, test.want, test.bad)
			}
		})
	}
	t.Run("the one after a wrong one", func(t *testing.T) {
		l := newLedger(t)
		l.some(10)
		wrong(l, func(c *Commitment) { c.Root[0] ^= 1 })
		l2 := newLedger(t)
		l2.entries, l2.prev = l.entries, l.prev
		for range l.entries { // the tree counts entries
			l2.tree.Append(chain.Hash{}, func(int64, chain.Hash) {})
		}
		l2.some(5)
		l2.commit(len(l2.entries))
		if faults, _ := check(t, l2); len(faults) != 1 || faults[10] == nil {
			t.Errorf("%v", faults)
		}
	})
	t.Run("out of order", func(t *testing.T) {
		l := newLedger(t)
		l.some(3)
		c := NewChecker("")
		e, err := chain.ParseEntry(l.entries[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Entry(e, l.entries[1]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v", err)
		}
	})
}

// TestScratch moves pages to a file and finds the same there.
func TestScratch(t *testing.T) {
	dir := t.TempDir()
	pages := &scratch{dir: dir}
	var m Map
	var err error
	key := func(i int) Key { return Key("subject:" + strings.Repeat("k", i%3+1) + string(rune(i))) }
	for round := range 3 {
		var c Changes
		for i := range 2000 {
			c.Add(uint64(round*2000+i), chain.Hash{byte(i)}, []chain.Hash{key(i + round*500).Hash()})
		}
		if m, err = m.Update(held{pages}, &c, pages.put); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if err := pages.spill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 3000 {
		if list, err := m.Get(held{pages}, key(i).Hash()); err != nil || list.Count == 0 {
			t.Fatalf("%d: %v %v", i, list, err)
		}
	}
	if pages.file == nil || len(pages.slots) == 0 || pages.next > uint32(len(pages.slots)+len(pages.free)) {
		t.Errorf("%d pages in the file, %d places, %d free", len(pages.slots), pages.next, len(pages.free))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the file has a name: %v %v", left, err)
	}
	if err := pages.close(); err != nil {
		t.Error(err)
	}
	t.Run("no room for the file", func(t *testing.T) {
		pages := &scratch{dir: filepath.Join(dir, "none"), memory: map[PageID][]byte{}}
		if err := pages.spill(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}
