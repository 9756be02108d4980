package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

const shortHang = 200 * time.Millisecond

// briefly is a context for a call that may hang.
func briefly(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// While some calls hang, others go on; what hung and comes back is used again.
func TestSomeHang(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Sessions, c.Hang = 3, shortHang })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	fault.Hang(faulty.Sign, 2, 0)
	var hung sync.WaitGroup
	for range 2 {
		hung.Go(func() {
			ctx := briefly(t, 20*time.Second)
			signature, err := store.Sign(ctx, key.ID, key.Public, message)
			if err != nil || keystore.Verify(key.Algorithm, key.Public, message, signature) != nil {
				t.Errorf("a call that hung and came back within its deadline: %v", err)
			}
		})
	}
	until(t, "two that hang", func() bool { return token.Status()[0].Stuck == 2 })
	for range 20 {
		if err := sign(t, store, key); err != nil {
			t.Errorf("beside calls that hang: %v", err)
		}
	}
	if s := token.Status()[0]; s.State != keystore.Working || s.Busy != 2 || s.Workers != 3 {
		t.Errorf("status: %+v", s)
	}
	closed := fault.Calls(faulty.CloseSession)
	fault.Heal()
	hung.Wait()
	if got := fault.Calls(faulty.CloseSession) - closed; got != 2 {
		t.Errorf("%d sessions closed, want those of the 2 calls that hung", got)
	}
	until(t, "all to be there again", func() bool { s := token.Status()[0]; return s.Busy == 0 && s.Stuck == 0 })
}

// A call that hangs keeps the module from being finalised, which would crash. What does not hang is set up anew all the same, and
// what comes back from before is thrown away.
func TestDeviceGoneWhileACallHangs(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Sessions, c.Hang = 2, shortHang })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	fault.Hang(faulty.Sign, 1, 0)
	var hung sync.WaitGroup
	hung.Go(func() {
		input, _ := key.Algorithm.Input(message)
		if signature, err := token.Sign(t.Context(), key.ID, key.Algorithm, input); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("a signature of before the token was set up anew came out: %x, %v", signature, err)
		}
	})
	until(t, "one that hangs", func() bool { return token.Status()[0].Stuck == 1 })
	epoch, finalized := token.Epoch(), fault.Calls(faulty.Finalize)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_REMOVED)
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	if token.Epoch() == epoch {
		t.Error("the handles of before are still good")
	}
	if fault.Calls(faulty.Finalize) != finalized {
		t.Fatal("C_Finalize during C_Sign")
	}
	fault.Heal()
	hung.Wait()
	if err := sign(t, store, key); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Where all calls hang and the device is gone, nothing can be done but to say so, and to go on when they return.
func TestAllHangAndTheDeviceIsGone(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Sessions, c.Hang = 1, shortHang })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	fault.Hang(faulty.Sign, 1, wrapper.CKR_DEVICE_REMOVED)
	ctx, cancel := context.WithCancel(t.Context())
	var hung sync.WaitGroup
	hung.Go(func() { _, _ = store.Sign(ctx, key.ID, key.Public, message) })
	until(t, "one that hangs", func() bool { return token.Status()[0].Stuck == 1 })
	s := token.Status()[0]
	if s.State != keystore.Hanging || s.Reason == "" || time.Since(s.Since) < 0 {
		t.Errorf("status: %+v", s)
	}
	if err := sign(t, store, key); !isUnavailable(err) {
		t.Errorf("got %v", err)
	}
	cancel()
	hung.Wait()
	fault.Heal()
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	state(t, token, keystore.Working)
}

// While the control session hangs, signing with keys that are known goes on, and what needs it is told at once.
func TestControlSessionHangs(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Hang, c.Grace = shortHang, shortHang })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	fault.Hang(faulty.FindObjectsInit, 1, 0)
	if _, err := token.Find(briefly(t, 10*time.Millisecond), "stranger"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the deadline of the caller: got %v", err)
	}
	until(t, "those who need it to be sent away", func() bool {
		_, err := token.Find(t.Context(), "stranger")
		if !isUnavailable(err) {
			t.Errorf("got %v", err)
		}
		return err != nil
	})
	for range 10 {
		if err := sign(t, store, key); err != nil {
			t.Errorf("a known key: %v", err)
		}
	}
	if s := token.Status()[0]; s.State != keystore.Working || !strings.Contains(s.Reason, "does not return") {
		t.Errorf("status: %+v", s)
	}
	// It cannot be set up anew: no call may be in the module.
	finalized := fault.Calls(faulty.Finalize)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_REMOVED)
	if err := sign(t, store, key); !isUnavailable(err) {
		t.Errorf("got %v", err)
	}
	if s := state(t, token, keystore.Hanging); !strings.Contains(s.Reason, "control session") || !strings.Contains(s.Reason, "DEVICE_REMOVED") {
		t.Errorf("status: %+v", s)
	}
	if fault.Calls(faulty.Finalize) != finalized {
		t.Fatal("C_Finalize during C_FindObjectsInit")
	}
	fault.Heal()
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	if _, err := token.Find(t.Context(), "stranger"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// Setting up anew can hang itself, in each of its calls. Callers are told, threads stay few, and it goes on when the call returns.
func TestRecoveryHangs(t *testing.T) {
	for name, function := range map[string]faulty.Function{
		"C_Finalize": faulty.Finalize, "C_Initialize": faulty.Initialize, "C_GetSlotList": faulty.GetSlotList,
		"C_OpenSession": faulty.OpenSession, "C_Login": faulty.Login,
	} {
		t.Run(name, func(t *testing.T) {
			fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Hang, c.Queue, c.Grace = shortHang, 8, shortHang })
			if err := sign(t, store, key); err != nil {
				t.Fatal(err)
			}
			before := threads(t)
			fault.Hang(function, 1, 0)
			fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_REMOVED)
			if err := sign(t, store, key); !isUnavailable(err) {
				t.Errorf("got %v", err)
			}
			s := state(t, token, keystore.Hanging)
			if s.Reason == "" {
				t.Errorf("status: %+v", s)
			}
			var all sync.WaitGroup
			for i := range 100 {
				all.Go(func() {
					ctx := briefly(t, 10*time.Second)
					switch i % 4 {
					case 0, 1:
						_, err := store.Sign(ctx, key.ID, key.Public, message)
						if !isUnavailable(err) || ctx.Err() != nil {
							t.Errorf("Sign: got %v", err)
						}
					case 2:
						if _, err := token.Find(ctx, "stranger"); !isUnavailable(err) || ctx.Err() != nil {
							t.Errorf("Find: got %v", err)
						}
					case 3:
						c := pkcs11.Config{Module: s.Module, TokenLabel: "another", Hang: shortHang}
						if _, err := pkcs11.Open(ctx, c); !isUnavailable(err) || ctx.Err() != nil {
							t.Errorf("Open: got %v", err)
						}
					}
				})
			}
			all.Wait()
			if got := threads(t); got > before+8 {
				t.Errorf("%d threads, %d before", got, before)
			}
			fault.Heal()
			until(t, "a signature", func() bool { return sign(t, store, key) == nil })
			state(t, token, keystore.Working)
		})
	}
}

// However many callers there are, each with a deadline, a device that hangs takes no more threads than it has workers.
func TestThreadsAreBounded(t *testing.T) {
	t.Attr("requirement", "B-31")
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Sessions, c.Queue, c.Hang = 4, 64, time.Minute })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	before := threads(t)
	fault.Hang(faulty.Sign, 1<<30, 0)
	fault.Hang(faulty.FindObjectsInit, 1<<30, 0)
	const deadline = 200 * time.Millisecond
	for range 3 {
		ctx := briefly(t, deadline)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = store.Sign(ctx, key.ID, key.Public, message)
				} else {
					_, err = token.Find(ctx, keystore.ID(fmt.Sprint("stranger", i)))
				}
				if !errors.Is(err, keystore.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > deadline+2*time.Second {
			t.Errorf("callers left after %v, their deadline was %v", took, deadline)
		}
	}
	if got := threads(t); got > before+16 {
		t.Errorf("%d threads, %d before", got, before)
	}
	if got := fault.Hung(faulty.Sign) + fault.Hung(faulty.FindObjectsInit); got > 5 {
		t.Errorf("%d calls hang", got)
	}
	if s := token.Status()[0]; s.Waiting != 0 || s.Busy != 4 {
		t.Errorf("nobody waits any more: %+v", s)
	}
	fault.Heal()
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip("threads are counted on Linux only")
	}
	return len(tasks)
}

// Who waits when all sessions begin to hang is sent away long before their deadline.
func TestWhoWaitsIsSentAway(t *testing.T) {
	fault, _, store, key := newFault(t, func(c *pkcs11.Config) { c.Hang = 50 * time.Millisecond })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	hang := fault.Hang(faulty.Sign, 1, 0)
	var first sync.WaitGroup
	first.Go(func() { _ = sign(t, store, key) })
	until(t, "a call that hangs", func() bool { return fault.Hung(faulty.Sign) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it does not come to that
	defer cancel()
	_, err := store.Sign(ctx, key.ID, key.Public, message)
	if !sentAway(err) || !isUnavailable(err) {
		t.Errorf("got %v", err)
	}
	hang.Heal()
	first.Wait()
}
