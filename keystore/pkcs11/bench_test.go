package pkcs11_test

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

// BenchmarkSign measures signing through the store, which verifies each signature, against the raw module, at several numbers
// of callers. One op is one signature through the store. In each run all of these are measured in turns, so that what else
// the machine does meets each of them:
//
//   - c/s: a C program that does nothing but C_SignInit and C_Sign on the token's object, a thread and a session for each caller
//   - ccopy/s: the same on session copies of the key, which is what the store signs with
//   - wrapper/s: the loop of a Go program with the usual wrapper, on the token's object
//   - token/s: the token, that is the queue, the workers and one cgo call, without verification
//   - store/s: the store
//   - both/s: the loop of the wrapper that also verifies a signature after each one that it makes
//   - floor/s: what no program can do without: a goroutine for each worker that the store would use, with a session of its own and the
//     session copy, one cgo call for each signature, which it verifies before it lets the scheduler go round
//   - handover/s: floor, but that the caller is another goroutine, which waits on a channel. So it must be where a caller is to leave
//     at its deadline though no call into a module ends before it wants to. Nothing is queued, and nothing else is looked at
//   - verify-µs: the CPU time of one verification alone
//
// store/both, store/floor and store/handover need no formula: they are the store against a loop that does the same work without any of its care.
// store-cpu-µs and floor-cpu-µs, the CPU time of one signature, say the same where other programs take CPUs away.
//
// The other ratios take the verification's own cost off. n signatures through the store in the time T cost n verifications of CPU
// time V, which min(callers, CPUs) CPUs share, so without them they would have taken T' = T - n·V/min(callers, CPUs).
//
//   - net/c, net/ccopy, net/wrapper: n/T' against the signatures per second of each raw loop with as many callers
//   - net/best: against the best of the raw loops on the token's object at this number of callers or a smaller one
//   - cpu/c: the CPU time of one raw signature against that of one through the store less V
//   - token/c: what is left when nothing is verified at all, without any formula
//
// A formula that takes off too much flatters where the raw loop leaves CPUs idle: then token/c is the honest one.
//
// service-p99-µs is the 99th percentile of the time in a worker, total-p99-µs that of the whole call of Sign. floor-p99-µs is that
// of the one cgo call of floor: it grows by itself from one thread in the device to as many as there are workers.
func BenchmarkSign(b *testing.B) {
	for _, a := range []keystore.Algorithm{keystore.ECDSAP256, keystore.Ed25519, keystore.RSAPSS} {
		b.Run(string(a), func(b *testing.B) {
			c := keystoretest.Config(b)
			c.SessionCopies = true
			maker := keystore.New(keystoretest.Open(b, c), keystore.Options{})
			key := keystoretest.Generate(b, maker, "k", a) // ahead: RSA takes its time
			if err := maker.Close(); err != nil {
				b.Fatal(err)
			}
			loop := keystoretest.NewRawLoop(b, c, key)
			best := 0.0
			for _, callers := range []int{1, 2, 8, 64} {
				b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
					token := keystoretest.Open(b, c) // with meters of its own
					m := &signing{store: keystore.New(token, keystore.Options{}), key: key, message: make([]byte, 64), callers: callers}
					m.input, _ = a.Input(m.message)
					for m.stored.Count < b.N && !b.Failed() {
						m.turn(b, token, loop)
					}
					if b.Failed() {
						return
					}
					best = max(best, m.c.PerSecond(), m.wrapper.PerSecond())
					m.report(b, best)
					b.ReportMetric(float64(token.ServiceMeter().Quantile(0.99).Nanoseconds())/1e3, "service-p99-µs")
				})
			}
		})
	}
}

type signing struct {
	store   *keystore.Store
	key     keystore.Key
	message []byte
	input   []byte
	callers int

	c, ccopy, wrapper, both, floor, handover, token, verify, stored keystoretest.Rate

	bare keystore.Meter // of the calls of floor

	mu   sync.Mutex
	took []time.Duration // by signatures through the store
}

func (m *signing) turn(b *testing.B, token *pkcs11.Token, loop *keystoretest.RawLoop) {
	const turn = 100 * time.Millisecond
	m.c = m.c.Add(loop.Measure(b, m.callers, turn, false))
	m.ccopy = m.ccopy.Add(loop.Measure(b, m.callers, turn, true))
	m.wrapper = m.wrapper.Add(keystoretest.RawSignRate(b, token, m.key.ID, m.callers, turn))
	m.token = m.token.Add(keystoretest.Measure(b, m.callers, turn, func() error {
		_, err := token.Sign(b.Context(), m.key.ID, m.key.Algorithm, m.input)
		return err
	}))
	signature, err := token.Sign(b.Context(), m.key.ID, m.key.Algorithm, m.input)
	if err != nil {
		b.Fatal(err)
	}
	m.verify = m.verify.Add(keystoretest.Measure(b, min(m.callers, runtime.NumCPU()), turn, func() error {
		return keystore.Verify(m.key.Algorithm, m.key.Public, m.message, signature)
	}))
	m.both = m.both.Add(keystoretest.RawSignRateThen(b, token, m.key.ID, m.callers, turn, func() error {
		return keystore.Verify(m.key.Algorithm, m.key.Public, m.message, signature)
	}))
	m.floor = m.floor.Add(keystoretest.MeasureEach(b, min(m.callers, token.Sessions()), turn, func() (func() error, func()) {
		return m.bareSigner(b, token)
	}))
	m.handover = m.handover.Add(keystoretest.MeasureEach(b, min(m.callers, token.Sessions()), turn, func() (func() error, func()) {
		do, end := m.bareSigner(b, token)
		asked, done := make(chan struct{}, 1), make(chan error, 1)
		go func() {
			for range asked {
				done <- do()
			}
			close(done)
		}()
		return func() error {
				asked <- struct{}{}
				return <-done
			}, func() {
				close(asked)
				<-done
				end()
			}
	}))
	m.stored = m.stored.Add(keystoretest.Measure(b, m.callers, turn, func() error {
		begin := time.Now()
		_, err := m.store.Sign(b.Context(), m.key.ID, m.key.Public, m.message)
		took := time.Since(begin)
		m.mu.Lock()
		m.took = append(m.took, took)
		m.mu.Unlock()
		return err
	}))
}

// bareSigner returns what makes one signature as floor does.
func (m *signing) bareSigner(b *testing.B, token *pkcs11.Token) (do func() error, end func()) {
	sign, leave, err := token.BareSigner(b.Context(), m.key.ID)
	if err != nil {
		return func() error { return err }, func() {}
	}
	do = func() error {
		begin := time.Now()
		signature, err := sign(m.input)
		if err != nil {
			return err
		}
		m.bare.Add(time.Since(begin))
		err = keystore.Verify(m.key.Algorithm, m.key.Public, m.message, signature)
		runtime.Gosched() // without it the floor lies above the store
		return err
	}
	return do, func() {
		if err := leave(); err != nil {
			b.Error(err)
		}
	}
}

func (m *signing) report(b *testing.B, best float64) {
	verification := m.verify.CPUEach()
	cpus := min(m.callers, runtime.NumCPU())
	net := m.stored
	net.Elapsed -= time.Duration(m.stored.Count) * verification / time.Duration(cpus)
	ratio := func(r keystoretest.Rate) float64 { return net.PerSecond() / r.PerSecond() }
	µs := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

	b.ReportMetric(float64(m.stored.Elapsed.Nanoseconds())/float64(m.stored.Count), "ns/op")
	b.ReportMetric(m.c.PerSecond(), "c/s")
	b.ReportMetric(m.ccopy.PerSecond(), "ccopy/s")
	b.ReportMetric(m.wrapper.PerSecond(), "wrapper/s")
	b.ReportMetric(m.both.PerSecond(), "both/s")
	b.ReportMetric(m.floor.PerSecond(), "floor/s")
	b.ReportMetric(m.handover.PerSecond(), "handover/s")
	b.ReportMetric(m.token.PerSecond(), "token/s")
	b.ReportMetric(m.stored.PerSecond(), "store/s")
	b.ReportMetric(µs(verification), "verify-µs")
	b.ReportMetric(m.stored.PerSecond()/m.both.PerSecond(), "store/both")
	b.ReportMetric(m.stored.PerSecond()/m.floor.PerSecond(), "store/floor")
	b.ReportMetric(m.stored.PerSecond()/m.handover.PerSecond(), "store/handover")
	b.ReportMetric(µs(m.stored.CPUEach()), "store-cpu-µs")
	b.ReportMetric(µs(m.floor.CPUEach()), "floor-cpu-µs")
	b.ReportMetric(µs(m.bare.Quantile(0.99)), "floor-p99-µs")
	b.ReportMetric(ratio(m.c), "net/c")
	b.ReportMetric(ratio(m.ccopy), "net/ccopy")
	b.ReportMetric(ratio(m.wrapper), "net/wrapper")
	b.ReportMetric(net.PerSecond()/best, "net/best")
	b.ReportMetric(m.token.PerSecond()/m.c.PerSecond(), "token/c")
	b.ReportMetric(float64(m.c.CPUEach())/float64(m.stored.CPUEach()-verification), "cpu/c")
	slices.SortFunc(m.took, cmp.Compare[time.Duration])
	b.ReportMetric(µs(m.took[len(m.took)*99/100]), "total-p99-µs")
}
