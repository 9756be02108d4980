package tesseratest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// entrySize is what an entry of the benchmark has, in bytes, in either log.
const entrySize = 600

// BenchmarkAppend appends entries of 600 bytes, each durable and covered by a published checkpoint before its committer goes on: into a
// ledger, and into Tessera's log on files, on the same disk. Tessera publishes a checkpoint every 100 ms at the most, so that its rate is
// that of its committers; it is measured with many more of them, too.
func BenchmarkAppend(b *testing.B) {
	for _, committers := range []int{256, 4096} {
		b.Run(fmt.Sprintf("signet/%d", committers), func(b *testing.B) { benchmarkSignet(b, committers) })
	}
	for _, committers := range []int{256, 4096, 16384} {
		b.Run(fmt.Sprintf("tessera/%d", committers), func(b *testing.B) { benchmarkTessera(b, committers) })
	}
}

// commit runs one append after the other in each of the committers.
func commit(b *testing.B, committers int, appendOne func(n uint64) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for range min(committers, b.N) {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := appendOne(uint64(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "entries/s")
}

func benchmarkSignet(b *testing.B, committers int) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	l, err := ledger.Open(b.Context(), ledger.Options{
		Path: b.TempDir() + "/ledger.db", Origin: "signet.example/bench", Clock: time.Now,
		Signer: ledger.CheckpointSigner{Public: public, Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(private, msg), nil }},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	text := strings.Repeat("x", 265)
	size := 0
	commit(b, committers, func(n uint64) error {
		body, err := ledger.EncodeBody(map[string]string{"record": fmt.Sprintf("%064d", n), "text": text})
		if err != nil {
			return err
		}
		done, err := l.Do(b.Context(), func(tx *ledger.Tx) error {
			tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: chain.Actor{ID: "bench", Kind: chain.System}, Body: body})
			return nil
		})
		if err != nil {
			return err
		}
		_, err = l.Checkpointed(b.Context(), done.End())
		return err
	})
	b.StopTimer()
	if e, err := l.Entry(0); err == nil {
		size = len(e)
	}
	if size < entrySize-40 || size > entrySize+40 {
		b.Errorf("an entry has %d bytes, not about %d", size, entrySize)
	}
}

func benchmarkTessera(b *testing.B, committers int) {
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	skey, _, err := note.GenerateKey(rand.Reader, "signet.example/bench")
	if err != nil {
		b.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		b.Fatal(err)
	}
	driver, err := posix.New(b.Context(), posix.Config{Path: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	options := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithCheckpointInterval(100*time.Millisecond).
		WithBatching(uint(min(committers, 1024)), 5*time.Millisecond).WithPushback(1 << 20)
	appender, shutdown, reader, err := tessera.NewAppender(b.Context(), driver, options)
	if err != nil {
		b.Fatal(err)
	}
	awaiter := tessera.NewPublicationAwaiter(b.Context(), reader.ReadCheckpoint, 5*time.Millisecond)
	text := strings.Repeat("x", entrySize-64)
	commit(b, committers, func(n uint64) error {
		_, _, err := awaiter.Await(b.Context(), appender.Add(b.Context(), tessera.NewEntry(fmt.Appendf(nil, "%064d%s", n, text))))
		return err
	})
	b.StopTimer()
	if err := shutdown(context.WithoutCancel(b.Context())); err != nil {
		b.Error(err)
	}
}
