package isolate_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// BenchmarkSign measures signatures in this process, in one and in two worker processes, in turns, so that what else the machine
// does meets each of them. One op is one signature of each. cpu is the processor time of a signature, here and in the workers.
func BenchmarkSign(b *testing.B) {
	for _, a := range []keystore.Algorithm{keystore.ECDSAP256, keystore.Ed25519, keystore.RSAPSS} {
		tokens := make([]keystore.Token, 3)
		for n := range tokens {
			c := keystoretest.Config(b)
			if n == 0 {
				tokens[n] = keystoretest.Open(b, c)
			} else {
				tokens[n] = open(b, c, processes(b, n))
			}
			if _, err := tokens[n].Generate(context.Background(), keystore.Spec{ID: "k", Algorithm: a}); err != nil {
				b.Fatal(err)
			}
		}
		input, err := a.Input([]byte("message"))
		if err != nil {
			b.Fatal(err)
		}
		for _, callers := range []int{1, 2, 8, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", a, callers), func(b *testing.B) {
				const turn = 100 * time.Millisecond
				var sums [3]turns
				for sums[0].count < b.N {
					for n, token := range tokens {
						pids := []int{0}
						if t, ok := token.(interface{ Pids() []int }); ok {
							pids = append(pids, t.Pids()...)
						}
						sums[n].take(b, pids, callers, turn, func() error {
							_, err := token.Sign(context.Background(), "k", a, input)
							return err
						})
					}
				}
				for n, s := range sums {
					name := []string{"here", "1proc", "2proc"}[n]
					b.ReportMetric(float64(s.count)/s.elapsed.Seconds(), name+"/s")
					b.ReportMetric(float64(s.cpu.Microseconds())/float64(s.count), name+"-cpu-µs")
					slices.Sort(s.took)
					b.ReportMetric(float64(s.took[len(s.took)/2].Microseconds()), name+"-p50-µs")
					b.ReportMetric(float64(s.took[len(s.took)*99/100].Microseconds()), name+"-p99-µs")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

type turns struct {
	count   int
	elapsed time.Duration
	cpu     time.Duration
	took    []time.Duration
}

func (s *turns) take(b *testing.B, pids []int, callers int, d time.Duration, f func() error) {
	before, began := cpuOf(pids), time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			var took []time.Duration
			for time.Since(began) < d {
				start := time.Now()
				if err := f(); err != nil {
					b.Error(err)
					break
				}
				took = append(took, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			s.took = append(s.took, took...)
			s.count += len(took)
		})
	}
	all.Wait()
	s.elapsed += time.Since(began)
	s.cpu += cpuOf(pids) - before
}

// cpuOf returns the processor time that processes have used; 0 is this one.
func cpuOf(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		clock := int32(unix.CLOCK_PROCESS_CPUTIME_ID)
		if pid != 0 {
			clock = int32(^pid<<3 | 2) // of another process: clock_getcpuclockid(3)
		}
		var t unix.Timespec
		if unix.ClockGettime(clock, &t) == nil {
			sum += time.Duration(t.Nano())
		}
	}
	return sum
}
