package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// benchEvent returns an event like those of the ceremony: an entry of some 700 bytes with eight keys, of which each statement's, each
// preparation's and each record's are few entries' own.
func benchEvent(b testing.TB, n uint64) ledger.Event {
	digest := func(what string, n uint64) string {
		d := sha256.Sum256([]byte(what + strconv.FormatUint(n, 10)))
		return hex.EncodeToString(d[:])
	}
	signature := n / 3
	body, err := ledger.EncodeBody(map[string]string{
		"event": digest("event", signature/3)[:36], "preparation": digest("preparation", signature)[:30], "record": digest("record", signature/3),
		"signer": fmt.Sprintf("sgn_%d", signature%1000), "statement": digest("statement", signature), "text": strings.Repeat("x", 120),
	})
	if err != nil {
		b.Fatal(err)
	}
	return ledger.Event{
		Type:  []chain.Type{chain.SignaturePrepared, chain.SignatureAttempted, chain.SignatureCreated}[n%3],
		Actor: chain.Actor{ID: fmt.Sprintf("sgn_%d", signature%1000), Kind: chain.Person, Method: "password", Session: digest("session", signature/10)[:22]},
		Body:  body,
	}
}

// BenchmarkAppend appends entries from 256 goroutines, with the index following and without.
func BenchmarkAppend(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("index=%t", on), func(b *testing.B) {
			o := ledgertest.Options(b)
			l, err := ledger.Open(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			var running sync.WaitGroup
			ctx, cancel := context.WithCancel(b.Context())
			x, err := Open(Options{Path: filepath.Join(b.TempDir(), "index.db"), Ledger: l})
			if err != nil {
				b.Fatal(err)
			}
			if on {
				running.Go(func() { x.Run(ctx) })
			}
			var n atomic.Uint64
			cpu := cpuTime(b)
			b.SetParallelism(128)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ev := benchEvent(b, n.Add(1))
					if _, err := l.Do(ctx, func(tx *ledger.Tx) error { tx.Emit(ev); return nil }); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/entry")
			if on {
				b.ReportMetric(float64(l.Size()-x.Status().Size), "behind")
			}
			cancel()
			running.Wait()
			if err := x.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}

// cpuTime returns the processor time that this process has used: on a busy machine it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIndex measures an index over SIGNET_BENCH_ENTRIES entries, a million by default: building it, looking up, proving, opening,
// and what `ledger check` needs for it.
func BenchmarkIndex(b *testing.B) {
	total := 1_000_000
	if s := os.Getenv("SIGNET_BENCH_ENTRIES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1000 {
			b.Fatalf("SIGNET_BENCH_ENTRIES=%q", s)
		}
		total = n
	}
	o := ledgertest.Options(b)
	l, err := ledger.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(b.TempDir(), "index.db")
	clock := ledgertest.NewClock(time.Now())
	open := func() *Index {
		x, err := Open(Options{Path: path, Ledger: l, Clock: clock.Now})
		if err != nil {
			b.Fatal(err)
		}
		return x
	}
	x := open()
	follow := func() (elapsed time.Duration) {
		for {
			if _, err := l.Checkpointed(b.Context(), l.Size()); err != nil {
				b.Fatal(err)
			}
			began := cpuTime(b)
			busy, err := x.step(b.Context())
			elapsed += cpuTime(b) - began
			if err != nil {
				b.Fatal(err)
			}
			if !busy && x.next == nil {
				return elapsed
			}
		}
	}
	var following time.Duration
	for n := 0; n < total; n += 1000 {
		events := make([]ledger.Event, 1000)
		for i := range events {
			events[i] = benchEvent(b, uint64(n+i))
		}
		_, err := l.Do(b.Context(), func(tx *ledger.Tx) error {
			for _, ev := range events {
				tx.Emit(ev)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		clock.Add(time.Second)
		following += follow()
	}
	s := x.Status()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("follow", func(b *testing.B) {
		b.ReportMetric(following.Seconds()*1e6/float64(s.Committed), "cpu-µs/entry")
		b.ReportMetric(float64(info.Size())/float64(s.Committed), "file-B/entry")
		b.ReportMetric(float64(s.Keys)/float64(s.Committed), "keys/entry")
		b.ReportMetric(0, "ns/op")
	})
	r := rand.New(rand.NewPCG(1, 1))
	key := func(b *testing.B, kind string) index.Key {
		raw, err := l.Entry(r.Uint64N(s.Committed))
		if err != nil {
			b.Fatal(err)
		}
		e, err := chain.ParseEntry(raw)
		if err != nil {
			b.Fatal(err)
		}
		for _, k := range index.Keys(e) {
			if strings.HasPrefix(string(k), kind) {
				return k
			}
		}
		return "event:none"
	}
	for _, kind := range []string{"event:", "session:", "actor:sgn_"} {
		b.Run("prove/"+kind, func(b *testing.B) {
			size, entries := 0, 0
			for b.Loop() {
				var doc bytes.Buffer
				if err := x.Prove(b.Context(), key(b, kind), ledger.Signed{}, &doc); err != nil {
					b.Fatal(err)
				}
				size += doc.Len()
				entries += bytes.Count(doc.Bytes(), []byte{'\n'}) - 1
			}
			b.ReportMetric(float64(size)/float64(b.N), "B")
			b.ReportMetric(float64(entries)/float64(b.N), "entries")
		})
		b.Run("find/"+kind, func(b *testing.B) {
			for b.Loop() {
				k := key(b, kind)
				f := Filter{Limit: 100, Descending: true}
				switch k.Kind() {
				case index.Event:
					f.Event = k.Value()
				case index.Session:
					f.Session = k.Value()
				case index.Actor:
					f.Actor = k.Value()
				}
				if err := x.Find(b.Context(), f, func(chain.Entry, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("find/person and type", func(b *testing.B) {
		for b.Loop() {
			f := Filter{Actor: key(b, "actor:sgn_").Value(), Types: []chain.Type{chain.SignatureCreated}, Limit: 100, From: chain.NewTime(time.Unix(0, 0))}
			if err := x.Find(b.Context(), f, func(chain.Entry, []byte) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if err := x.Close(); err != nil {
				b.Fatal(err)
			}
			x = open()
			if err := x.load(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("rebuild", func(b *testing.B) {
		cpu := cpuTime(b)
		for b.Loop() {
			x.damage(errDamaged)
			follow()
		}
		b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(total)/float64(b.N), "cpu-µs/entry")
	})
	b.Run("audit", func(b *testing.B) {
		cpu := cpuTime(b)
		for b.Loop() {
			a := auditor{index.NewChecker(b.TempDir())}
			err := l.Entries(b.Context(), 0, l.Size(), func(_ uint64, raw []byte) error {
				e, err := chain.ParseEntry(raw)
				if err != nil {
					return err
				}
				return a.Entry(e, raw)
			})
			if err != nil {
				b.Fatal(err)
			}
			if err := a.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(total)/float64(b.N), "cpu-µs/entry")
	})
	if err := x.Close(); err != nil {
		b.Error(err)
	}
}
