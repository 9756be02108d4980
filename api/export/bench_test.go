package export_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
)

// large is a ledger of many entries of some 600 bytes.
type large struct {
	*fakeLedger
	stored []chain.Hash
}

func (l *large) Nodes(level int, from uint64, n int) (out []chain.Hash, err error) {
	for i := range n {
		out = append(out, l.stored[tlog.StoredHashIndex(level, int64(from)+int64(i))])
	}
	return out, nil
}

const largeEntries = 100_000

func newLarge(tb testing.TB) (*large, []byte) {
	tb.Helper()
	l := &large{fakeLedger: newLedger(tb)}
	note := strings.Repeat("x", 250)
	for len(l.entries) < largeEntries {
		l.append(chain.SessionOpened, map[string]string{"id": "sgn_ada", "note": note})
	}
	var edge chain.Frontier
	for _, leaf := range l.leaves {
		edge.Append(leaf, func(_ int64, h chain.Hash) { l.stored = append(l.stored, h) })
	}
	return l, l.sign(chain.Checkpoint{Origin: origin, Size: edge.Size(), Root: edge.Root()})
}

var once sync.Once

func BenchmarkExport(b *testing.B) {
	l, note := newLarge(b)
	var archive bytes.Buffer
	if err := export.Write(b.Context(), &archive, l, export.Range{Checkpoint: note}); err != nil {
		b.Fatal(err)
	}
	once.Do(func() { b.Logf("%d entries, %d bytes", largeEntries, archive.Len()) })
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(archive.Len()))
		b.ReportAllocs()
		for b.Loop() {
			if err := export.Write(context.Background(), io.Discard, l, export.Range{Checkpoint: note}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(largeEntries*b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(int64(archive.Len()))
		b.ReportAllocs()
		trust := l.trust()
		for b.Loop() {
			if r, err := export.Verify(context.Background(), bytes.NewReader(archive.Bytes()), export.Options{Trust: trust}); err != nil || r.Code != 0 {
				b.Fatal(err, r)
			}
		}
		b.ReportMetric(float64(largeEntries*b.N)/b.Elapsed().Seconds(), "entries/s")
	})
}
