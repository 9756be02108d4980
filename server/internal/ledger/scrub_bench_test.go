package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/signetd/signet/server/internal/ledger"
)

// BenchmarkCommitBesideScrub measures what a scrub at the default rate costs those who append.
func BenchmarkCommitBesideScrub(b *testing.B) {
	for _, scrubbing := range []bool{false, true} {
		b.Run(fmt.Sprintf("scrub=%v", scrubbing), func(b *testing.B) {
			l := openBench(b, benchOptions(b, 0))
			ctx, stop := context.WithCancel(b.Context())
			var beside sync.WaitGroup
			if scrubbing {
				beside.Go(func() {
					for ctx.Err() == nil {
						if _, err := l.Scrub(ctx, ledger.ScrubOptions{Rate: 16 << 20}); err != nil && !errors.Is(err, context.Canceled) {
							b.Error(err)
							return
						}
					}
				})
			}
			var next atomic.Uint64
			b.SetParallelism(128)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					ev := benchEvent(b, next.Add(1))
					if _, err := l.Do(b.Context(), func(tx *ledger.Tx) error { tx.Emit(ev); return nil }); err != nil {
						b.Error(err)
						return
					}
				}
			})
			stop()
			beside.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
