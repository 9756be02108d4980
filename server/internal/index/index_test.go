package index

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
)

// filters are questions of all kinds.
func filters(f *fixture, entries []chain.Entry) []Filter {
	size := uint64(len(entries))
	out := []Filter{
		{}, {Actor: "sgn_1"}, {Subject: "sgn_2"}, {Event: "event-3"}, {Session: "ses_4"}, {Actor: "nobody"}, {Subject: "statement-17"}, {Subject: "svc_1"},
		{Types: []chain.Type{chain.SessionOpened}}, {Types: []chain.Type{chain.SessionOpened, chain.SignatureCreated, chain.LedgerCreated}},
		{Actor: "sgn_1", Event: "event-3"}, {Types: []chain.Type{chain.SignatureCreated}, Actor: "sgn_0", Subject: "sgn_1", Event: "event-2"},
		{Types: []chain.Type{chain.IndexCommitted}}, {Actor: "index"},
	}
	for range 20 {
		pick := func(s string) string {
			if f.rand.IntN(3) > 0 {
				return ""
			}
			return s
		}
		e := entries[f.rand.IntN(len(entries))]
		filter := Filter{Actor: pick(e.Actor.ID), Session: pick(e.Actor.Session), Event: pick("event-5"), Subject: pick("sgn_3")}
		if f.rand.IntN(3) == 0 {
			filter.Types = []chain.Type{e.Type, chain.AccessDenied}
		}
		if f.rand.IntN(2) == 0 {
			filter.From = entries[f.rand.IntN(len(entries))].Time
		}
		if f.rand.IntN(2) == 0 {
			filter.To = entries[f.rand.IntN(len(entries))].Time.Add(time.Millisecond)
		}
		if f.rand.IntN(2) == 0 {
			filter.Start = f.rand.Uint64N(size)
		}
		if f.rand.IntN(2) == 0 {
			filter.End = f.rand.Uint64N(size + 10)
		}
		filter.Limit = f.rand.Uint64N(8) * f.rand.Uint64N(8)
		out = append(out, filter)
	}
	for _, filter := range out {
		filter.Descending = true
		out = append(out, filter)
	}
	return out
}

// allFilters compares the answers to all filters with what the entries say.
func (f *fixture) allFilters() {
	f.t.Helper()
	entries := f.entries()
	for _, filter := range filters(f, entries) {
		if got, want := f.find(filter), f.want(entries, filter); !slices.Equal(got, want) {
			f.t.Fatalf("find %+v: %d entries %v, want %d %v", filter, len(got), got, len(want), want)
		}
	}
}

// TestSameEntries asks for all approvals by person, by release and by time.
func TestSameEntries(t *testing.T) {
	t.Attr("requirement", "C-11")
	f := newFixture(t, 100)
	f.append(400)
	f.settle()
	f.append(20)
	approvals := Filter{Types: []chain.Type{chain.SignatureCreated}}
	all := f.want(f.entries(), approvals)
	same := func(how string, filters []Filter) {
		t.Run(how, func(t *testing.T) {
			var got []uint64
			for _, filter := range filters {
				filter.Types = approvals.Types
				got = append(got, f.find(filter)...)
			}
			if slices.Sort(got); !slices.Equal(got, all) {
				t.Errorf("%d entries, want %d", len(got), len(all))
			}
		})
	}
	var byPerson, byRelease, byTime []Filter
	for i := range 5 {
		byPerson = append(byPerson, Filter{Actor: fmt.Sprintf("sgn_%d", i)})
	}
	for i := range 10 {
		byRelease = append(byRelease, Filter{Event: fmt.Sprintf("event-%d", i)})
	}
	first, last := f.entries()[0].Time, f.l.LastTime()
	for from := first; !from.After(last); from = from.Add(7 * time.Second) {
		byTime = append(byTime, Filter{From: from, To: from.Add(7 * time.Second)})
	}
	same("by person", byPerson)
	same("by release", byRelease)
	same("by time", byTime)
}

func TestFind(t *testing.T) {
	t.Attr("requirement", "C-11")
	f := newFixture(t, 100)
	f.append(30)
	t.Run("before anything is indexed", func(*testing.T) { f.allFilters() })
	f.settle()
	t.Run("from memory", func(*testing.T) { f.allFilters() })
	f.append(800)
	t.Run("the most is not indexed yet", func(*testing.T) { f.allFilters() })
	f.settle()
	if s := f.x.Status(); s.Committed == 0 || s.Size != f.l.Size() || s.Err != nil {
		t.Fatalf("status %+v with %d entries", s, f.l.Size())
	}
	t.Run("from the file", func(*testing.T) { f.allFilters() })
	f.append(50)
	f.settle()
	f.append(20)
	t.Run("from the file, from memory, and from the entries", func(*testing.T) { f.allFilters() })
	f.open(100)
	t.Run("closed and opened, nothing loaded", func(*testing.T) { f.allFilters() })
	f.settle()
	t.Run("loaded", func(*testing.T) { f.allFilters() })
}

func TestProve(t *testing.T) {
	t.Attr("requirement", "B-47")
	f := newFixture(t, 40)
	keys := func() []index.Key {
		keys := []index.Key{"actor:nobody", "subject:statement-1", "event:event-99", "type:key.created"}
		for _, e := range f.entries()[:min(8, f.l.Size())] {
			keys = append(keys, index.Keys(e)...)
		}
		slices.Sort(keys)
		return slices.Compact(keys)
	}
	check := func(indexed bool) {
		t.Helper()
		entries := f.entries()
		for _, k := range keys() {
			_, c, got := f.prove(k)
			var want []uint64
			for _, e := range entries {
				if index.Has(e, k) {
					want = append(want, e.Index)
				}
			}
			if !slices.Equal(got, want) || c.Count != uint64(len(want)) || c.Checkpoint.Size != f.l.Size() || c.Key != k {
				t.Fatalf("%s: %v %+v, want %v of %d", k, got, c, want, f.l.Size())
			}
			if (c.Indexed > 0) != indexed {
				t.Fatalf("%s: the index covers %d entries", k, c.Indexed)
			}
		}
	}
	f.append(20)
	f.settle()
	t.Run("before the first commitment", func(*testing.T) { check(false) })
	f.append(100)
	f.settle()
	t.Run("committed", func(*testing.T) { check(true) })
	f.append(20)
	f.settle()
	t.Run("committed, and newer entries", func(*testing.T) { check(true) })
	f.append(100)
	f.settle()
	t.Run("committed again", func(*testing.T) { check(true) })
	f.open(40)
	t.Run("nothing loaded", func(*testing.T) { check(false) })
	f.settle()
	t.Run("loaded", func(*testing.T) { check(true) })
}
