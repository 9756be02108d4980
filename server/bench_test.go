package server_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/server/internal/signing"
	"github.com/signetd/signet/server/servertest"
)

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSeal is the whole RPC over TLS: authentication, statement, HSM signature, time-stamp, durable ledger entry, proof against a
// signed checkpoint. Beside it, in the same run, stands the raw rate of C_Sign with the same kind of key and as many callers.
//
//	seals/s     seals in a second
//	raw/s       raw C_Sign in a second
//	of-bound    seals/s in relation to raw/s ÷ 2: a Seal signs twice, the statement and its time-stamp
//	cpu-us      processor time of a Seal, client and server, in microseconds
//	raw-cpu-us  processor time of two raw C_Sign
func BenchmarkSeal(b *testing.B) {
	s := servertest.Start(b)
	s.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	s.Enroll("rita", "Rita Levi", signetv1.Role_ROLE_RELEASE_MANAGER)
	rita := s.Login("rita")
	d := documentOf(b)
	document, err := d.Canonical()
	if err != nil {
		b.Fatal(err)
	}
	client := signetv1.NewSigningServiceClient(s.DialSealing())
	newRecord := func() string {
		r, err := s.Record(rita, document, header("ada"))
		if err != nil {
			b.Fatal(err)
		}
		return r.GetName()
	}
	key := keystoretest.Generate(b, s.Keys, "raw", keystore.ECDSAP256)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			const perRecord = signing.MaxSignatures - 100
			records := make([]string, b.N/perRecord+1)
			for i := range records {
				records[i] = newRecord()
			}
			raw := keystoretest.RawSignRate(b, s.Token, key.ID, callers, time.Second)
			b.ResetTimer()
			before, start := cpu(b), time.Now()
			var next atomic.Int64
			var wait sync.WaitGroup
			for range callers {
				wait.Go(func() {
					for {
						i := int(next.Add(1)) - 1
						if i >= b.N {
							return
						}
						_, err := client.Seal(context.Background(), &signetv1.SealRequest{Record: records[i/perRecord], Meaning: "evidence-seal"})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wait.Wait()
			elapsed := time.Since(start)
			used := cpu(b) - before
			rate := float64(b.N) / elapsed.Seconds()
			b.ReportMetric(rate, "seals/s")
			b.ReportMetric(raw.PerSecond(), "raw/s")
			b.ReportMetric(rate/(raw.PerSecond()/2), "of-bound")
			b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-us")
			b.ReportMetric(2*float64(raw.CPUEach().Nanoseconds())/1e3, "raw-cpu-us")
		})
	}
}
