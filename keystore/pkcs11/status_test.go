package pkcs11_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

func TestStatus(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Sessions, c.Queue, c.Hang = 2, 5, time.Minute })
	zero := token.Status()[0]
	if zero.State != keystore.Working || zero.Since.IsZero() || zero.Token != token.Info().Label || zero.Serial != token.Info().Serial ||
		zero.Module != token.Info().Module || !strings.Contains(zero.Model, "SoftHSM") || zero.Workers != 2 || zero.Queue != 5 ||
		zero.Epoch != token.Epoch() || !zero.Active {
		t.Errorf("status: %+v", zero)
	}
	for range 5 {
		if err := sign(t, store, key); err != nil {
			t.Fatal(err)
		}
	}
	s := token.Status()[0]
	if got := s.Signatures[keystore.ECDSAP256] - zero.Signatures[keystore.ECDSAP256]; got != 5 {
		t.Errorf("%d signatures", got)
	}
	if s.Wait.Number-zero.Wait.Number != 5 || s.Service.Number-zero.Service.Number != 5 || s.Service.Sum <= zero.Service.Sum {
		t.Errorf("wait %+v, service %+v", s.Wait, s.Service)
	}
	if s.Sessions != 3 || s.Busy != 0 || s.Waiting != 0 {
		t.Errorf("status: %+v", s)
	}

	fault.Hang(faulty.Sign, 2, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { _, _ = store.Sign(ctx, key.ID, key.Public, message) })
	}
	until(t, "two that sign and three that wait", func() bool {
		s := token.Status()[0]
		return s.Busy == 2 && s.Waiting == 3 && s.Stuck == 0
	})
	cancel()
	all.Wait()
	fault.Heal()
	until(t, "nobody", func() bool { s := token.Status()[0]; return s.Busy == 0 && s.Waiting == 0 })

	fault.Fail(faulty.SignInit, 1, wrapper.CKR_GENERAL_ERROR)
	_ = sign(t, store, key)
	fault.Fail(faulty.SignInit, 1, 0x80000815)
	_ = sign(t, store, key)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_SESSION_CLOSED)
	_ = sign(t, store, key)
	s = token.Status()[0]
	if s.Errors["CKR_GENERAL_ERROR"] != 1 || s.Errors["CKR_0x80000815"] != 1 || s.Errors["CKR_SESSION_CLOSED"] != 1 || s.Sessions > 3 {
		t.Errorf("status: %+v", s)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if s := token.Status()[0]; s.State != keystore.Closed || s.Sessions != 0 {
		t.Errorf("status: %+v", s)
	}
}

// Callers are served in the order in which they came.
func TestFirstComeFirstServed(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Hang = time.Minute })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	fault.Hang(faulty.Sign, 1, 0)
	const callers = 16
	input, _ := key.Algorithm.Input(message)
	served := make(chan int, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			_, err := token.SignChecked(t.Context(), key.ID, key.Algorithm, input, func([]byte, []byte) error {
				served <- i // in the worker, of which there is one
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		until(t, "the caller to wait", func() bool { return token.Status()[0].Waiting == i && fault.Hung(faulty.Sign) == 1 })
	}
	fault.Heal()
	all.Wait()
	for i := range callers {
		if got := <-served; got != i {
			t.Errorf("served as number %d: %d", i, got)
		}
	}
}

// A token that gives fewer sessions than it said it has is used with those that it gives.
func TestFewerSessionsThanWorkers(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Sessions = 4 })
	fault.Fail(faulty.SignInit, 3, wrapper.CKR_SESSION_CLOSED) // of three workers, or of fewer
	fault.Fail(faulty.OpenSession, 1<<30, wrapper.CKR_SESSION_COUNT)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var all sync.WaitGroup
	lost, made := make(chan error, 1<<20), 0
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := store.Sign(t.Context(), key.ID, key.Public, message); err != nil {
					lost <- err
				}
			}
		})
	}
	all.Wait()
	made = int(token.Status()[0].Signatures[keystore.ECDSAP256])
	if len(lost) > 0 {
		t.Errorf("%d calls failed, the first with %v", len(lost), <-lost)
	}
	if made < 100 {
		t.Errorf("%d signatures", made)
	}
	fault.Heal()
	until(t, "all sessions", func() bool {
		if err := sign(t, store, key); err != nil {
			t.Error(err)
		}
		return token.Status()[0].Sessions >= 2
	})
	if s := token.Status()[0]; s.State != keystore.Working || s.Recoveries != 0 {
		t.Errorf("status: %+v", s)
	}
}

// Closing a token that is being set up anew, or cannot be, takes no longer than closing any other.
func TestCloseInAnOutage(t *testing.T) {
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module, c.Hang = fault.Path, shortHang
	defer fault.Heal()
	open := func() (*pkcs11.Token, *keystore.Store, keystore.Key) {
		token, err := pkcs11.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		store := keystore.New(token, keystore.Options{})
		key, err := store.Key(t.Context(), "k")
		if err != nil {
			key = keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
		}
		return token, store, key
	}
	for _, function := range []faulty.Function{faulty.Initialize, faulty.Finalize, faulty.Login, faulty.OpenSession} {
		token, store, key := open()
		fault.Fail(function, 1<<30, wrapper.CKR_DEVICE_ERROR)
		fault.Fail(faulty.SignInit, 1<<30, wrapper.CKR_DEVICE_ERROR)
		if err := sign(t, store, key); !isUnavailable(err) {
			t.Errorf("got %v", err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if s := token.Status()[0].State; s != keystore.Closed {
			t.Errorf("it is %s", s)
		}
		if err := sign(t, store, key); err == nil {
			t.Error("it signs although it is closed")
		}
		fault.Heal()
	}
	token, store, key := open()
	token.SetCloseWait(20 * time.Millisecond)
	fault.Hang(faulty.Initialize, 1, 0)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_ERROR)
	_ = sign(t, store, key)
	if err := store.Close(); !isUnavailable(err) {
		t.Errorf("Close: got %v", err)
	}
	if _, err := pkcs11.Open(t.Context(), c); !isUnavailable(err) {
		t.Errorf("Open: got %v", err)
	}
	fault.Heal()
	until(t, "the module to be free", func() bool {
		again, err := pkcs11.Open(t.Context(), c)
		if err != nil {
			return false
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		return true
	})
}
