package ledger

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// The index of requests against a plain list, with many hashes that share their first bytes.
func TestRequestIndex(t *testing.T) {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "x.db"), 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rapid.Check(t, func(rt *rapid.T) {
		tx, err := db.Begin(true)
		if err != nil {
			rt.Fatal(err)
		}
		defer tx.Rollback()
		b, err := tx.CreateBucket(requestsBucket)
		if err != nil {
			rt.Fatal(err)
		}
		model := map[string][]uint64{}
		spread := rapid.IntRange(1, 500).Draw(rt, "spread")
		hash := rapid.Custom(func(rt *rapid.T) string { // the same hash for the same first bytes, so that both tell the same
			return fmt.Sprintf("%016x%048d", rapid.IntRange(0, spread).Draw(rt, "hash"), 0)
		})
		n := rapid.IntRange(0, 400).Draw(rt, "records")
		for i := range n {
			h := hash.Draw(rt, "request")
			if err := putRequest(b, requestRecord(h, uint64(i))); err != nil {
				rt.Fatal(err)
			}
			model[h] = append(model[h], uint64(i))
		}
		for i := range spread + 1 {
			h := fmt.Sprintf("%016x%048d", i, 0)
			var got []uint64
			if err := eachRequest(b, h, func(i uint64) bool { got = append(got, i); return true }); err != nil {
				rt.Fatal(err)
			}
			if !slices.EqualFunc(got, model[h], func(a, b uint64) bool { return cmp.Compare(a, b) == 0 }) {
				rt.Fatalf("%s: %v, want %v", h, got, model[h])
			}
			for _, index := range model[h] {
				if found, err := hasRequest(b, h, index); err != nil || !found {
					rt.Fatalf("%s %d is not found: %v", h, index, err)
				}
			}
			if found, _ := hasRequest(b, h, uint64(n)); found {
				rt.Fatalf("%s %d is found", h, n)
			}
		}
		if got, err := countRequests(b); err != nil || got != uint64(n) {
			rt.Fatalf("%d records, want %d, %v", got, n, err)
		}
	})
}
