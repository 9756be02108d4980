package keystore_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// use is what the process holds of the machine.
type use struct {
	goroutines, threads, files int
	resident                   int64 // bytes
}

func (u use) String() string {
	return fmt.Sprintf("%d goroutines, %d threads, %d files, %.1f MiB resident", u.goroutines, u.threads, u.files, float64(u.resident)/(1<<20))
}

func used(t *testing.T) (u use) {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	u.goroutines = runtime.NumGoroutine()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("only Linux tells: ", err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		number, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		switch {
		case name == "VmRSS" && err == nil:
			u.resident = int64(number) << 10
		case name == "Threads" && err == nil:
			u.threads = number
		}
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	u.files = len(files)
	return u
}

// TestSoak signs and sets the token up anew again and again, and holds what the process uses at the end against what it used
// after the first tenth. SIGNET_SOAK=1 does it a million times and a thousand times.
func TestSoak(t *testing.T) {
	signatures, recoveries := 19_200, 40
	if os.Getenv("SIGNET_SOAK") != "" {
		signatures, recoveries = 1_000_000, 1_000
	}
	const callers, rounds = 16, 20
	token := keystoretest.Open(t, keystoretest.Config(t))
	store := keystore.New(token, keystore.Options{})
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	var keys []keystore.Key
	for i := range 4 {
		// No Ed25519: SoftHSM 2.6.1 itself loses some 70 bytes with each such signature, in a plain C loop as well.
		keys = append(keys, keystoretest.Generate(t, store, keystore.ID(fmt.Sprint("key-", i)), keystore.ECDSAP256))
	}
	reason := errors.New("the test asks for it")
	var made, retried atomic.Int64
	every := int64(signatures / recoveries)
	round := func() {
		due := make(chan struct{}, recoveries)
		var signers, all sync.WaitGroup
		for i := range callers {
			signers.Go(func() {
				key := keys[i%len(keys)]
				for n := 0; n < signatures/rounds/callers; {
					later := (*keystore.UnavailableError)(nil)
					switch _, err := store.Sign(t.Context(), key.ID, key.Public, message); {
					case err == nil:
						n++
						if made.Add(1)%every == 0 {
							due <- struct{}{}
						}
					case errors.As(err, &later): // the machine is so busy that setting it up anew takes long
						retried.Add(1)
						select {
						case <-time.After(later.RetryAfter):
						case <-t.Context().Done():
							return
						}
					case errors.Is(err, keystore.ErrUnavailable):
						retried.Add(1) // it was set up anew twice during one call
					default:
						t.Error(err)
						return
					}
				}
			})
		}
		all.Go(func() { // while they sign
			for range due {
				if err := token.Reset(t.Context(), token.Epoch(), reason); err != nil {
					t.Error(err)
				}
				if err := store.Health(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		signers.Wait()
		close(due)
		all.Wait()
	}
	begin := time.Now()
	for range rounds / 10 {
		round()
	}
	before := used(t)
	for range rounds - rounds/10 {
		round()
		if t.Failed() {
			return
		}
	}
	after := used(t)
	s := store.Status()[0]
	t.Logf("%d signatures and %d recoveries in %v; %d calls were made again", made.Load(), s.Recoveries, time.Since(begin).Round(time.Millisecond), retried.Load())
	t.Logf("after a tenth: %v", before)
	t.Logf("after all:     %v", after)
	if int(s.Recoveries) < recoveries*9/10 {
		t.Error("it was not set up anew so often")
	}
	if after.goroutines > before.goroutines+2 || after.threads > before.threads+2 || after.files > before.files+2 {
		t.Error("goroutines, threads or files grow")
	}
	if limit := before.resident + before.resident/10 + 8<<20; after.resident > limit {
		t.Errorf("memory grows: at most %.1f MiB were expected", float64(limit)/(1<<20))
	}
}
