package ledger_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

// benchSizes are how many entries the ledgers of the benchmarks have: none, and SIGNET_BENCH_ENTRIES (several separated by commas;
// a million by default). Ten millions take some minutes to make and 8 GB: with SIGNET_BENCH_FOLDER they are kept there for the next run.
func benchSizes(b testing.TB) []int {
	sizes := []int{0}
	s := os.Getenv("SIGNET_BENCH_ENTRIES")
	if s == "" {
		s = "1000000"
	}
	for one := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n < 1 {
			b.Fatalf("SIGNET_BENCH_ENTRIES=%q", s)
		}
		sizes = append(sizes, n)
	}
	return sizes
}

// benchEvent returns an event whose entry has about 600 bytes and belongs to a request of its own, as each does that a client asks for.
func benchEvent(b testing.TB, n uint64) ledger.Event {
	digest := sha256.Sum256([]byte(strconv.FormatUint(n, 10)))
	h := hex.EncodeToString(digest[:])
	body, err := ledger.EncodeBody(map[string]string{"record": h, "text": strings.Repeat("x", 160)})
	if err != nil {
		b.Fatal(err)
	}
	return ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body, Request: h}
}

// larges holds the large ledgers, by their number of entries, made once a run or found in SIGNET_BENCH_FOLDER.
var larges = struct {
	mu     sync.Mutex
	folder string
	made   map[int]bool
}{made: map[int]bool{}}

// benchOptions returns the options of a ledger of n entries. A large one is not copied: what a benchmark appends to it is little
// beside what it has.
func benchOptions(b *testing.B, n int) ledger.Options {
	b.Helper()
	o := ledgertest.Options(b)
	o.Signer = fixedSigner()
	if n == 0 {
		return o
	}
	larges.mu.Lock()
	defer larges.mu.Unlock()
	folder := os.Getenv("SIGNET_BENCH_FOLDER")
	if folder == "" {
		if larges.folder == "" {
			var err error
			if larges.folder, err = os.MkdirTemp("", "signet-bench-*"); err != nil {
				b.Fatal(err)
			}
		}
		folder = larges.folder
	}
	o.Path = filepath.Join(folder, fmt.Sprintf("ledger-%d.db", n))
	if !larges.made[n] {
		if err := fillLarge(b, o, uint64(n)); err != nil {
			b.Fatal(err)
		}
		larges.made[n] = true
	}
	return o
}

// fillLarge appends until a ledger has n entries, in batches as there are under load.
func fillLarge(b *testing.B, o ledger.Options, n uint64) error {
	b.Helper()
	l, err := ledger.Open(context.Background(), o)
	if err != nil {
		return err
	}
	start := time.Now()
	before := l.Size()
	for size := before; size < n; {
		end := min(size+500, n)
		events := make([]ledger.Event, 0, end-size)
		for ; size < end; size++ {
			events = append(events, benchEvent(b, size))
		}
		_, err = l.Do(context.Background(), func(tx *ledger.Tx) error {
			for _, ev := range events {
				tx.Emit(ev)
			}
			return nil
		})
		if err != nil {
			break
		}
	}
	if before < n {
		b.Logf("made the ledger of %d entries in %v", n, time.Since(start).Round(time.Second))
	}
	return errors.Join(err, l.Close())
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
	if larges.folder != "" {
		os.RemoveAll(larges.folder)
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
// in large ones.
func BenchmarkLedgerCommit(b *testing.B) {
	for _, committers := range []int{1, 256} {
		for _, n := range benchSizes(b) {
			b.Run(fmt.Sprintf("committers=%d/entries=%d", committers, n), func(b *testing.B) { benchmarkCommit(b, committers, n) })
		}
	}
}

func benchmarkCommit(b *testing.B, committers, n int) {
	o := benchOptions(b, n)
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
				if _, err := l.Do(context.Background(), emit(benchEvent(b, seed+uint64(i)))); err != nil {
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

// eachLarge runs a benchmark on each of the large ledgers, opened.
func eachLarge(b *testing.B, run func(b *testing.B, l *ledger.Ledger, n uint64)) {
	for _, n := range benchSizes(b)[1:] {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			l, err := ledger.Open(b.Context(), benchOptions(b, n))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			run(b, l, uint64(n))
		})
	}
}

// BenchmarkProve measures one inclusion proof, with the entry read and the proof verified, and its bytes in a manifest.
func BenchmarkProve(b *testing.B) {
	eachLarge(b, func(b *testing.B, l *ledger.Ledger, _ uint64) {
		signed, err := l.Checkpointed(b.Context(), l.Size())
		if err != nil {
			b.Fatal(err)
		}
		size, count := 0, 0
		for b.Loop() {
			p, err := l.Proof(b.Context(), rand.Uint64N(signed.Checkpoint.Size), signed)
			if err != nil {
				b.Fatal(err)
			}
			size += len(p.Encode())
			count++
		}
		b.ReportMetric(float64(size)/float64(count), "proof-B")
	})
}

// BenchmarkProveConsistency measures the proof that one checkpoint continues another.
func BenchmarkProveConsistency(b *testing.B) {
	eachLarge(b, func(b *testing.B, l *ledger.Ledger, _ uint64) {
		size, count, last := 0, 0, l.Size()
		for b.Loop() {
			p, err := l.ProveConsistency(1+rand.Uint64N(last-1), last)
			if err != nil {
				b.Fatal(err)
			}
			size += len(p) * 32
			count++
		}
		b.ReportMetric(float64(size)/float64(count), "proof-B")
	})
}

// BenchmarkProvedEntry measures what a decision to sign costs: an entry read and proved, in a view.
func BenchmarkProvedEntry(b *testing.B) {
	eachLarge(b, func(b *testing.B, l *ledger.Ledger, _ uint64) {
		for b.Loop() {
			err := l.View(func(r *ledger.Read) error {
				_, err := r.ProvedEntry(rand.Uint64N(r.Head().Checkpoint.Size))
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRequest measures how a repeated call finds what it brought about.
func BenchmarkRequest(b *testing.B) {
	eachLarge(b, func(b *testing.B, l *ledger.Ledger, n uint64) {
		for b.Loop() {
			request := benchEvent(b, rand.Uint64N(n)).Request
			err := l.View(func(r *ledger.Read) error {
				if len(r.Request(request)) == 0 {
					return errors.New("a request is not found")
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen measures start-up with many entries, where nothing is replayed, and how much of the file an entry takes.
func BenchmarkOpen(b *testing.B) {
	for _, n := range benchSizes(b)[1:] {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			o := benchOptions(b, n)
			size := uint64(0)
			for b.Loop() {
				l, err := ledger.Open(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				size = l.Size()
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
			info, err := os.Stat(o.Path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/float64(size), "file-B/entry")
		})
	}
}
