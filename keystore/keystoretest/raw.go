package keystoretest

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
)

// A Rate is how fast something was done.
type Rate struct {
	Count   int
	Elapsed time.Duration
	CPU     time.Duration // of the whole process meanwhile, user and system
}

// PerSecond returns how many there were in a second.
func (r Rate) PerSecond() float64 { return float64(r.Count) / r.Elapsed.Seconds() }

// CPUEach returns the CPU time of one.
func (r Rate) CPUEach() time.Duration {
	if r.Count == 0 {
		return 0
	}
	return r.CPU / time.Duration(r.Count)
}

// Add adds a measurement of the same thing.
func (r Rate) Add(o Rate) Rate { return Rate{r.Count + o.Count, r.Elapsed + o.Elapsed, r.CPU + o.CPU} }

// Measure calls f from that many goroutines for about that long.
func Measure(tb testing.TB, callers int, d time.Duration, f func() error) Rate {
	tb.Helper()
	return MeasureEach(tb, callers, d, func() (func() error, func()) { return f, func() {} })
}

// MeasureEach is Measure where each goroutine has what it calls from begin, and gives it back with end. Neither is measured.
func MeasureEach(tb testing.TB, callers int, d time.Duration, begin func() (do func() error, end func())) Rate {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	var ready, all sync.WaitGroup
	start := make(chan struct{})
	counts := make([]int, callers)
	ready.Add(callers)
	for i := range callers {
		all.Go(func() {
			do, end := begin()
			defer end()
			ready.Done()
			<-start
			for ctx.Err() == nil {
				if err := do(); err != nil {
					tb.Error(err)
					return
				}
				counts[i]++
			}
		})
	}
	ready.Wait()
	before, cpu := time.Now(), cpuTime(tb)
	timer := time.AfterFunc(d, cancel)
	defer timer.Stop()
	close(start)
	all.Wait()
	r := Rate{Elapsed: time.Since(before), CPU: cpuTime(tb) - cpu}
	for _, n := range counts {
		r.Count += n
	}
	return r
}

func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// RawSignRate measures what any program gets out of the token: C_SignInit and C_Sign of the wrapper in a loop, with the
// token's own object of the key, one session and one thread for each caller, nothing verified. The token must be open.
// The wrapper crosses into C three times for one signature, C_Sign being called once more for the length: [RawLoop] does not.
func RawSignRate(tb testing.TB, token *pkcs11.Token, id keystore.ID, callers int, d time.Duration) Rate {
	tb.Helper()
	return RawSignRateThen(tb, token, id, callers, d, func() error { return nil })
}

// RawSignRateThen is RawSignRate of a loop that does something after each signature: verifies one, say.
func RawSignRateThen(tb testing.TB, token *pkcs11.Token, id keystore.ID, callers int, d time.Duration, then func() error) Rate {
	tb.Helper()
	key, err := token.Find(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	message := make([]byte, 64)
	rand.Read(message)
	input, err := key.Algorithm.Input(message)
	if err != nil {
		tb.Fatal(err)
	}
	info := token.Info()
	module := wrapper.New(info.Module) // is loaded, initialised and logged in already; never unloaded
	if module == nil {
		tb.Fatalf("cannot load %s", info.Module)
	}
	var find sync.Mutex
	return MeasureEach(tb, callers, d, func() (func() error, func()) {
		runtime.LockOSThread()
		find.Lock()
		defer find.Unlock()
		session, private, err := rawKey(module, info.Slot, string(id))
		if err != nil {
			return func() error { return err }, func() {}
		}
		var parameter any
		if key.Algorithm == keystore.RSAPSS {
			parameter = wrapper.NewPSSParams(wrapper.CKM_SHA256, wrapper.CKG_MGF1_SHA256, 32)
		}
		mechanism := []*wrapper.Mechanism{wrapper.NewMechanism(mechanismOf(key.Algorithm), parameter)}
		do := func() error {
			if err := module.SignInit(session, mechanism, private); err != nil {
				return err
			}
			if _, err := module.Sign(session, input); err != nil {
				return err
			}
			return then()
		}
		return do, func() { module.CloseSession(session) }
	})
}

func mechanismOf(a keystore.Algorithm) uint {
	switch a {
	case keystore.Ed25519:
		return 0x1057 // CKM_EDDSA
	case keystore.RSAPSS:
		return wrapper.CKM_RSA_PKCS_PSS
	}
	return wrapper.CKM_ECDSA
}

func rawKey(module *wrapper.Ctx, slot uint, label string) (wrapper.SessionHandle, wrapper.ObjectHandle, error) {
	session, err := module.OpenSession(slot, wrapper.CKF_SERIAL_SESSION)
	if err != nil {
		return 0, 0, err
	}
	err = module.FindObjectsInit(session, []*wrapper.Attribute{
		wrapper.NewAttribute(wrapper.CKA_CLASS, wrapper.CKO_PRIVATE_KEY),
		wrapper.NewAttribute(wrapper.CKA_TOKEN, true),
		wrapper.NewAttribute(wrapper.CKA_LABEL, label),
	})
	if err != nil {
		return 0, 0, err
	}
	found, _, err := module.FindObjects(session, 2)
	if err != nil {
		return 0, 0, err
	}
	if err := module.FindObjectsFinal(session); err != nil {
		return 0, 0, err
	}
	if len(found) != 1 {
		return 0, 0, fmt.Errorf("%d private keys with the label %q", len(found), label)
	}
	return session, found[0], nil
}
