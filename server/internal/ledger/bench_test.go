package ledger_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// benchEntries is how many entries the large ledger of the benchmarks has: SIGNET_BENCH_ENTRIES, a million by default.
func benchEntries(b *testing.B) int {
	s := os.Getenv("SIGNET_BENCH_ENTRIES")
	if s == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		b.Fatalf("SIGNET_BENCH_ENTRIES=%q", s)
	}
	return n
}

// benchEvent returns an event whose entry has about 600 bytes, and that may belong to a request of its own.
func benchEvent(b testing.TB, n uint64, request bool) ledger.Event {
	digest := sha256.Sum256([]byte(strconv.FormatUint(n, 10)))
	h := hex.EncodeToString(digest[:])
	body, err := ledger.EncodeBody(map[string]string{"record": h, "text": strings.Repeat("x", 160)})
	if err != nil {
		b.Fatal(err)
	}
	ev := ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body}
	if request {
		ev.Request = h
	}
	return ev
}

// larges holds two ledgers with many entries, made once a run: without requests, and with one for each entry.
var larges [2]struct {
	once sync.Once
	o    ledger.Options
	err  error
}

// largeOptions returns the options of a copy of a large ledger.
func largeOptions(b *testing.B, requests bool) ledger.Options {
	b.Helper()
	large := &larges[0]
	if requests {
		large = &larges[1]
	}
	large.once.Do(func() {
		dir, err := os.MkdirTemp("", "signet-bench-*")
		if err != nil {
			large.err = err
			return
		}
		o := ledgertest.Options(b)
		o.Path = filepath.Join(dir, "ledger.db")
		large.o = o
		l, err := ledger.Open(context.Background(), o)
		if err != nil {
			large.err = err
			return
		}
		for n, total := 0, benchEntries(b); n < total && large.err == nil; {
			end := min(n+500, total)
			events := make([]ledger.Event, 0, end-n)
			for ; n < end; n++ {
				events = append(events, benchEvent(b, uint64(n), requests))
			}
			_, large.err = l.Do(context.Background(), func(tx *ledger.Tx) error {
				for _, ev := range events {
					tx.Emit(ev)
				}
				return nil
			})
		}
		if err := l.Close(); large.err == nil {
			large.err = err
		}
	})
	if large.err != nil {
		b.Fatal(large.err)
	}
	o := large.o
	o.Path = filepath.Join(b.TempDir(), "ledger.db")
	copyFile(b, large.o.Path, o.Path)
	return o
}

func copyFile(b testing.TB, from, to string) {
	b.Helper()
	src, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		b.Fatal(err)
	}
	if err := dst.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		b.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	for i := range larges {
		if path := larges[i].o.Path; path != "" {
			os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

func openBench(b *testing.B, o ledger.Options) *ledger.Ledger {
	b.Helper()
	l, err := ledger.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// BenchmarkLedgerCommit measures durable entries a second, one entry a command, with 1 and 256 committers, in a new ledger and
// in one with many entries.
func BenchmarkLedgerCommit(b *testing.B) {
	for _, requests := range []bool{false, true} {
		for _, committers := range []int{1, 256} {
			for _, n := range []int{0, benchEntries(b)} {
				b.Run(fmt.Sprintf("committers=%d/requests=%t/entries=%d", committers, requests, n), func(b *testing.B) {
					benchmarkCommit(b, committers, n, requests)
				})
			}
		}
	}
}

func benchmarkCommit(b *testing.B, committers, n int, requests bool) {
	o := ledgertest.Options(b)
	if n > 0 {
		o = largeOptions(b, requests)
	}
	l := openBench(b, o)
	var next atomic.Int64
	seed := rand.Uint64()
	b.ResetTimer()
	start, cpu := time.Now(), cpuTime(b)
	var wg sync.WaitGroup
	for range committers {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if _, err := l.Do(context.Background(), emit(benchEvent(b, seed+uint64(i), requests))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "entries/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/entry")
}

// cpuTime returns the processor time that this process has used: on a busy machine it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProve measures one inclusion proof, with the entry read and the proof verified.
func BenchmarkProve(b *testing.B) {
	o := largeOptions(b, true)
	l := openBench(b, o)
	signed, err := l.Checkpointed(b.Context(), l.Size())
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprintf("entries=%d", l.Size()), func(b *testing.B) {
		for b.Loop() {
			if _, err := l.Proof(b.Context(), rand.Uint64N(signed.Checkpoint.Size), signed); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkProvedEntry measures what a decision to sign costs: an entry read and proved, in a view.
func BenchmarkProvedEntry(b *testing.B) {
	l := openBench(b, largeOptions(b, true))
	for b.Loop() {
		err := l.View(func(r *ledger.Read) error {
			_, err := r.ProvedEntry(rand.Uint64N(r.Head().Checkpoint.Size))
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen measures start-up with many entries: nothing is replayed.
func BenchmarkOpen(b *testing.B) {
	o := largeOptions(b, true)
	for b.Loop() {
		l, err := ledger.Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
