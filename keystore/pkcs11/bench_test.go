package pkcs11_test

import (
	"syscall"

	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

func BenchmarkSign(b *testing.B) {
	token := keystoretest.Open(b, keystoretest.Config(b))
	store := keystore.New(token, keystore.Options{})
	key := keystoretest.Generate(b, store, "k", keystore.ECDSAP256)
	digest := sha256.Sum256([]byte("x"))
	for _, callers := range []int{1, 16, 64} {
		run := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				c0 := cpu()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if err := f(); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric((cpu()-c0)/float64(b.N)*1e6, "cpu-µs/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sign/s")
			})
		}
		run("token", func() error {
			_, err := token.Sign(b.Context(), key.ID, key.Algorithm, digest[:])
			return err
		})
		run("store", func() error {
			_, err := store.Sign(b.Context(), key.ID, key.Public, digest[:])
			return err
		})
	}
}

func cpu() float64 {
	var r syscall.Rusage
	syscall.Getrusage(0, &r)
	return float64(r.Utime.Sec) + float64(r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}
