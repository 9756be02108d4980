package ledger_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// benchStore is an archive in a directory, made durable file by file.
type benchStore struct{ dir string }

func (f benchStore) Put(_ context.Context, data []byte) ([32]byte, error) {
	digest := sha256.Sum256(data)
	file, err := os.Create(filepath.Join(f.dir, fmt.Sprintf("%x", digest)))
	if err != nil {
		return digest, err
	}
	_, err = file.Write(data)
	return digest, errors.Join(err, file.Sync(), file.Close())
}

func (f benchStore) Get(_ context.Context, digest [32]byte, _ int64) ([]byte, error) {
	return os.ReadFile(filepath.Join(f.dir, fmt.Sprintf("%x", digest)))
}

const benchEntries = 20_000

// BenchmarkArchive moves entries to an archive in a folder, and reads them from there.
func BenchmarkArchive(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		o := ledgertest.Options(b, kept{})
		o.Archive = benchStore{b.TempDir()}
		l, err := ledger.Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		fill(b, l, benchEntries)
		b.StartTimer()
		moved, err := l.Archive(b.Context(), system, "a benchmark", 1)
		if err != nil || moved == 0 {
			b.Fatal(moved, err)
		}
		b.StopTimer()
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(benchEntries*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkExport writes dumps, and BenchmarkImport fills new files from one.
func BenchmarkExport(b *testing.B) {
	l, _ := benchLedger(b)
	for b.Loop() {
		if _, err := l.Export(b.Context(), true, func(string, []byte) error { return nil }, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(benchEntries*b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkImport(b *testing.B) {
	l, o := benchLedger(b)
	d, _ := export(b, l, true)
	for i := 0; b.Loop(); i++ {
		other := o
		other.Path = filepath.Join(b.TempDir(), "ledger.db")
		if _, err := fillImport(b, d, other); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(benchEntries*b.N)/b.Elapsed().Seconds(), "entries/s")
}

func benchLedger(b *testing.B) (*ledger.Ledger, ledger.Options) {
	b.Helper()
	o := ledgertest.Options(b, kept{})
	l, err := ledger.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	fill(b, l, benchEntries)
	return l, o
}
