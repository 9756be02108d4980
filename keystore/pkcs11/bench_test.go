package pkcs11_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// BenchmarkSign measures three things in turns, so that what else the machine does meets each of them: the raw C_Sign, the
// token (queue, worker, one cgo call), and the store (which also verifies). The ratios are of signatures a second; cpu
// is the CPU time of one signature. One op is one signature through the store.
func BenchmarkSign(b *testing.B) {
	for _, a := range []keystore.Algorithm{keystore.ECDSAP256, keystore.Ed25519} {
		for _, copies := range []bool{false, true} {
			c := keystoretest.Config(b)
			c.SessionCopies = copies
			token := keystoretest.Open(b, c)
			store := keystore.New(token, keystore.Options{})
			key := keystoretest.Generate(b, store, "k", a)
			for _, callers := range []int{1, 16, 64} {
				b.Run(fmt.Sprintf("%s/copies=%t/callers=%d", a, copies, callers), func(b *testing.B) {
					const turn = 100 * time.Millisecond
					message := make([]byte, 64)
					digest := sha256.Sum256(message)
					input := message
					if a.Hash() != 0 {
						input = digest[:]
					}
					var raw, signed, stored keystoretest.Rate
					for stored.Count < b.N {
						raw = raw.Add(keystoretest.RawSignRate(b, token, key.ID, callers, turn))
						signed = signed.Add(keystoretest.Measure(b, callers, turn, func() error {
							_, err := token.Sign(b.Context(), key.ID, a, input)
							return err
						}))
						stored = stored.Add(keystoretest.Measure(b, callers, turn, func() error {
							_, err := store.Sign(b.Context(), key.ID, key.Public, message)
							return err
						}))
						if b.Failed() {
							return
						}
					}
					b.ReportMetric(float64(stored.Elapsed.Nanoseconds())/float64(stored.Count), "ns/op")
					b.ReportMetric(raw.PerSecond(), "raw/s")
					b.ReportMetric(signed.PerSecond()/raw.PerSecond(), "token/raw")
					b.ReportMetric(stored.PerSecond()/raw.PerSecond(), "store/raw")
					b.ReportMetric(float64(raw.CPUEach().Nanoseconds())/1e3, "raw-cpu-µs")
					b.ReportMetric(float64(signed.CPUEach().Nanoseconds())/1e3, "token-cpu-µs")
					b.ReportMetric(float64(stored.CPUEach().Nanoseconds())/1e3, "store-cpu-µs")
				})
			}
		}
	}
}
