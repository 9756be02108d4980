package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// Entries in the archive are read from there, not from what memory has of them, and while others are moved.
func TestScrubOfArchivedEntries(t *testing.T) {
	l, _, s := archived(t, 2000, 300)
	t.Run("what is there is read", func(t *testing.T) {
		t.Attr("requirement", "11.10(c)")
		before := s.gets
		r := scrub(t, l, ledger.ScrubOptions{})
		if at, err := l.Archived(); err != nil || at == 0 || r.Size != l.Size() || uint64(s.gets-before) != at/256 {
			t.Errorf("%d of %d entries, %d bundles read for %d entries, %v", r.Size, l.Size(), s.gets-before, at, err)
		}
	})
	t.Run("what the archive has changed", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		s.lie = func(data []byte) []byte { data[len(data)/2] ^= 1; return data }
		defer func() { s.lie = nil }()
		r, err := l.Scrub(t.Context(), ledger.ScrubOptions{})
		if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(r.Faults[0].What, "the archive gives other bytes") {
			t.Errorf("%v, %v", r.Faults, err)
		}
	})
	t.Run("an archive that does not answer is no fault of it", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		s.failGet = errors.New("away")
		defer func() { s.failGet = nil }()
		r, err := l.Scrub(t.Context(), ledger.ScrubOptions{})
		if !errors.Is(err, ledger.ErrUnavailable) || len(r.Faults) > 0 {
			t.Errorf("%v, %v", r.Faults, err)
		}
	})
	t.Run("while entries move", func(t *testing.T) {
		t.Attr("requirement", "11.10(c)")
		moved := false
		r := scrub(t, l, ledger.ScrubOptions{Progress: func(p ledger.ScrubProgress) {
			if p.Stage == ledger.StageEntries && !moved {
				moved = true
				fill(t, l, 300)
				if n, err := l.Archive(t.Context(), system, "test", 1); err != nil || n == 0 {
					t.Errorf("%d were moved, %v", n, err)
				}
			}
		}})
		if r.Size < 2300 {
			t.Errorf("%d entries", r.Size)
		}
	})
}

// What a program that was killed during a scrub has left is dropped by the next one.
func TestScrubDropsWhatIsLeft(t *testing.T) {
	l, o, _ := archived(t, 300, 300)
	left := filepath.Join(filepath.Dir(o.Path), ".scrub-123")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "replay.db"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	scrub(t, l, ledger.ScrubOptions{})
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// A scrub ends, also where more is appended than it reads.
func TestScrubEndsUnderLoad(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := ledgertest.Options(t, kept{})
	l := ledgertest.Open(t, o)
	fill(t, l, 3000)
	r := scrub(t, l, ledger.ScrubOptions{Progress: func(p ledger.ScrubProgress) {
		if p.Stage == ledger.StageEntries {
			fill(t, l, 1100) // a range has fewer
		}
	}})
	if r.Size < 3000 || r.Size > 10_000 {
		t.Errorf("%d entries were read", r.Size)
	}
}

// Large attachments are read a few at a time.
func TestScrubOfLargeAttachments(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	n := uint64(0)
	for _, sizes := range [][]int{{7 << 20, 1}, {7 << 20}, {5 << 20, 5 << 20, 7 << 20, 3}, {}, {1 << 20}, {8 << 20, 8 << 20}, {8 << 20, 8 << 20}, {1}} {
		do(t, l, func(tx *ledger.Tx) error {
			ev := ledger.Event{Type: chain.RecordCreated, Actor: actor}
			b := body{Key: "k", Status: "s"}
			for i, size := range sizes {
				a := bytes.Repeat([]byte{byte(i), byte(tx.Size())}, (size+1)/2)[:size]
				sum := sha256.Sum256(a)
				b.Digests = append(b.Digests, hex.EncodeToString(sum[:]))
				ev.Attachments = append(ev.Attachments, a)
			}
			ev.Body = b
			tx.Emit(ev)
			return nil
		})
		n += uint64(len(sizes))
	}
	ranges := 0
	r := scrub(t, l, ledger.ScrubOptions{Progress: func(p ledger.ScrubProgress) {
		if p.Stage == ledger.StageEntries {
			ranges++
		}
	}})
	if r.Attachments != n || r.Size != 8 || ranges < 4 {
		t.Errorf("%d attachments of %d, %d entries, %d ranges", r.Attachments, n, r.Size, ranges)
	}
}

func BenchmarkScrub(b *testing.B) {
	eachLarge(b, func(b *testing.B, l *ledger.Ledger, _ uint64) {
		entries := uint64(0)
		for b.Loop() {
			r, err := l.Scrub(b.Context(), ledger.ScrubOptions{})
			if err != nil {
				b.Fatal(err, r.Faults)
			}
			b.SetBytes(r.Bytes)
			entries += r.Size
		}
		b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
	})
}
