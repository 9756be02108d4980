package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// intruder is a projection that tries to reach what is not its own.
type intruder struct{}

func (intruder) Name() string { return "intruder" }
func (intruder) Version() int { return 1 }

func (intruder) Apply(s *ledger.State, e chain.Entry, entry []byte, _ [][]byte) error {
	for _, bucket := range []string{"entries", "hashes", "../entries", "statuses", "meta"} {
		s.Put(bucket, binaryIndex(0), []byte("overwritten"))
		s.Delete(bucket, binaryIndex(e.Index))
	}
	clear(bytes.Clone(entry))
	return nil
}

func binaryIndex(n uint64) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, byte(n)} }

// TestTrail: entries are added and nothing else.
func TestTrail(t *testing.T) {
	history := func(t *testing.T, l *ledger.Ledger) (out [][]byte) {
		t.Helper()
		err := l.Entries(t.Context(), 0, l.Size(), func(_ uint64, entry []byte) error {
			out = append(out, entry)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Run("who, when and why stand in the entry, and who cannot be left out", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		at := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
		o := ledgertest.Options(t, statuses{})
		o.Clock = ledgertest.NewClock(at).Now
		l := ledgertest.Open(t, o)
		do(t, l, set("a", "because"))
		e, err := chain.ParseEntry(history(t, l)[0])
		if err != nil {
			t.Fatal(err)
		}
		if e.Actor != actor || e.Time != chain.NewTime(at) || !strings.Contains(string(e.Body), "because") {
			t.Errorf("entry %+v", e)
		}
		_, err = l.Do(t.Context(), emit(ledger.Event{Type: chain.RecordCreated, Actor: chain.Actor{Kind: chain.Person}, Body: body{}}))
		if !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("an entry without an actor: %v", err)
		}
	})
	t.Run("an earlier value stays when a later one takes its place", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		l := ledgertest.New(t, statuses{})
		var before [][]byte
		for i := range 30 {
			do(t, l, set("a", fmt.Sprint("value ", i)))
			_, _ = l.Do(t.Context(), set("a", "unappliable"))
			now := history(t, l)
			if len(now) != i+1 || !slices.EqualFunc(now[:i], before, bytes.Equal) || !bytes.Contains(now[i], fmt.Appendf(nil, "value %d", i)) {
				t.Fatalf("after %d commands the history is another", i+1)
			}
			before = now
		}
	})
	t.Run("no method changes or removes an entry", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		// Whoever adds a method that writes must come by here and say why no entry is changed by it.
		allowed := map[string][]string{
			"*ledger.Ledger": {"Do", "Close", "KeepBracket", "AcceptLoss", // the third writes beside the file, the last appends
				"Archive", // moves the same bytes elsewhere, and what reads them verifies them against the tree
				"Cosign"}, // adds signatures of witnesses to a checkpoint
			"*ledger.Tx":    {"Emit", "PutPrivate", "DeletePrivate"}, // private rows are no entries; erasing one is an entry
			"*ledger.Read":  nil,
			"*ledger.State": {"Put", "Delete"}, // a projection's own buckets, and only in Apply
		}
		reads := []string{"Archived", "Ascend", "AscendPrivate", "Attachments", "Changed", "Checkpointed", "Conflicts", "Cosigned", "Descend", "EachPrivate", "Entries", "Entry", "Err", "Export", "Get", "GetPrivate", "Head", "LastTime",
			"NextHead", "Nodes", "Now", "Prefix", "Proof", "ProveConsistency", "Place", "ProveInclusion", "ProvedEntry", "Request", "Scrub", "SetCommit", "Settle", "Size", "Subtrees", "Time", "Verifier", "View", "Witnessed"}
		for _, v := range []any{new(ledger.Ledger), new(ledger.Tx), new(ledger.Read), new(ledger.State)} {
			for m := range reflect.TypeOf(v).Methods() {
				if name := fmt.Sprintf("%T", v); !slices.Contains(allowed[name], m.Name) && !slices.Contains(reads, m.Name) {
					t.Errorf("%s has a new method %s: does it change an entry?", name, m.Name)
				}
			}
		}
	})
	t.Run("a projection reaches its own buckets only", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		l := ledgertest.New(t, statuses{}, intruder{})
		for i := range 5 {
			do(t, l, set("a", fmt.Sprint(i)))
		}
		for i, raw := range history(t, l) {
			if e, err := chain.ParseEntry(raw); err != nil || e.Index != uint64(i) {
				t.Errorf("entry %d: %+v, %v", i, e, err)
			}
		}
		if s := status(t, l, "a"); s != "4" {
			t.Errorf("the other projection says %q", s)
		}
	})
	t.Run("what a caller gets is a copy", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		l := ledgertest.New(t, statuses{})
		do(t, l, set("a", "x"))
		want := history(t, l)[0]
		do(t, l, func(tx *ledger.Tx) error {
			b, err := tx.Entry(0)
			clear(b)
			clear(tx.View("statuses").Get("status", []byte("a")))
			tx.View("statuses").Ascend("status", nil, func(k, v []byte) bool { clear(k); clear(v); return true })
			tx.View("statuses").Descend("status", nil, func(k, v []byte) bool { clear(k); clear(v); return true })
			return err
		})
		if b, err := l.Entry(0); err != nil || !bytes.Equal(b, want) || status(t, l, "a") != "x" {
			t.Errorf("the entry is now %q, %v", b, err)
		}
	})
}

// walks tests the order and the bounds of walks over a projection's rows.
type walks struct{}

func (walks) Name() string { return "walks" }
func (walks) Version() int { return 1 }

func (walks) Apply(s *ledger.State, e chain.Entry, _ []byte, _ [][]byte) error {
	for i := range 10 {
		s.Put("rows", []byte{byte(i)}, []byte{byte(i)})
	}
	var seen []byte
	s.Ascend("rows", []byte{2}, func(k, v []byte) bool { // writes while it walks
		seen = append(seen, k...)
		s.Delete("rows", k)
		s.Put("moved", k, v)
		s.Delete("rows", []byte{7})
		return true
	})
	s.Put("seen", []byte("k"), seen)
	return nil
}

func TestWalks(t *testing.T) {
	l := ledgertest.New(t, walks{})
	do(t, l, set("a", "b"))
	err := l.View(func(r *ledger.Read) error {
		s := r.View("walks")
		if seen := s.Get("seen", []byte("k")); !bytes.Equal(seen, []byte{2, 3, 4, 5, 6, 8, 9}) {
			return fmt.Errorf("a walk that writes has seen %v", seen)
		}
		var up, down []string
		s.Ascend("rows", nil, func(k, _ []byte) bool { up = append(up, string(k)); return true })
		s.Descend("rows", nil, func(k, _ []byte) bool { down = append(down, string(k)); return true })
		slices.Reverse(down)
		if !slices.Equal(up, down) || !slices.Equal(up, []string{"\x00", "\x01"}) {
			return fmt.Errorf("up %q, down %q", up, down)
		}
		var below []string
		s.Descend("rows", []byte{1}, func(k, _ []byte) bool { below = append(below, string(k)); return true })
		if !slices.Equal(below, []string{"\x00"}) {
			return fmt.Errorf("below 1: %q", below)
		}
		s.Descend("rows", []byte{255}, func(k, _ []byte) bool { below = []string{string(k)}; return false })
		if below[0] != up[len(up)-1] {
			return fmt.Errorf("the last is %q, want %q", below[0], up[len(up)-1])
		}
		s.Ascend("none", nil, func(_, _ []byte) bool { t.Error("a bucket that does not exist"); return false })
		s.Descend("none", nil, func(_, _ []byte) bool { t.Error("a bucket that does not exist"); return false })
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
