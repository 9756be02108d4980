package pkcs11_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// storage is where SoftHSM has the token with a serial number, and where a test puts it meanwhile.
func storage(t *testing.T, c pkcs11.Config) (here, away string) {
	t.Helper()
	tokens := filepath.Join(filepath.Dir(c.SoftHSMConf), "tokens")
	entries, err := os.ReadDir(tokens)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(strings.ReplaceAll(e.Name(), "-", ""), c.Serial) || strings.HasPrefix(strings.ReplaceAll(e.Name(), "-", ""), c.Serial) {
			return filepath.Join(tokens, e.Name()), filepath.Join(filepath.Dir(c.SoftHSMConf), "away-"+c.Serial)
		}
	}
	t.Fatalf("no folder for serial number %s", c.Serial)
	return "", ""
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// state waits for a state of a token.
func state(t *testing.T, token *pkcs11.Token, want keystore.State) keystore.Status {
	t.Helper()
	until(t, "the state "+string(want), func() bool { return token.Status()[0].State == want })
	return token.Status()[0]
}

// A token whose storage is gone and comes back signs again, without anybody restarting anything, and callers are sent away at
// once meanwhile.
func TestTokenComesBack(t *testing.T) {
	t.Attr("requirement", "B-31")
	c := keystoretest.Config(t)
	c.SessionCopies = false
	token := keystoretest.Open(t, c)
	store := keystore.New(token, keystore.Options{})
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	here, away := storage(t, c)
	for range 3 {
		epoch := token.Epoch()
		move(t, here, away)
		until(t, "an outage", func() bool { return sign(t, store, key) != nil })
		s := state(t, token, keystore.Recovering)
		if s.Reason == "" || s.Since.IsZero() {
			t.Errorf("status: %+v", s)
		}
		until(t, "the moment in which callers wait to be over", func() bool {
			began := time.Now()
			err := sign(t, store, key)
			if !isUnavailable(err) {
				t.Fatalf("got %v", err)
			}
			return time.Since(began) < 50*time.Millisecond
		})
		move(t, away, here)
		returned := time.Now()
		until(t, "a signature", func() bool { return sign(t, store, key) == nil })
		if took := time.Since(returned); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		if token.Epoch() == epoch {
			t.Error("the handles of before are still good")
		}
		if s := token.Status()[0]; s.State != keystore.Working || s.Reason != "" {
			t.Errorf("status: %+v", s)
		}
	}
	if s := token.Status()[0]; s.Recoveries < 3 {
		t.Errorf("status: %+v", s)
	}
}

// Another token in the place of the one that was opened is not used, whatever it is called.
func TestAnotherTokenComesBack(t *testing.T) {
	c := keystoretest.Config(t)
	c.SessionCopies = false
	token := keystoretest.Open(t, c)
	store := keystore.New(token, keystore.Options{})
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	here, away := storage(t, c)
	move(t, here, away)
	until(t, "an outage", func() bool { return sign(t, store, key) != nil })
	var other pkcs11.TokenInfo
	until(t, "another token", func() bool {
		info, err := pkcs11.InitToken(t.Context(), pkcs11.InitConfig{
			Module: c.Module, SoftHSMConf: c.SoftHSMConf, Label: c.TokenLabel,
			SOPIN: keystore.NewSecret(keystoretest.SOPIN), PIN: keystore.NewSecret(keystoretest.PIN),
		})
		other = info
		return err == nil
	})
	s := state(t, token, keystore.Refusing)
	if !strings.Contains(s.Reason, other.Serial) || !strings.Contains(s.Reason, c.Serial) {
		t.Errorf("the reason does not say which token is there: %s", s.Reason)
	}
	if err := sign(t, store, key); !isUnavailable(err) || !strings.Contains(err.Error(), other.Serial) {
		t.Errorf("got %v", err)
	}
	elsewhere := c
	elsewhere.Serial = other.Serial
	gone, _ := storage(t, elsewhere)
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	move(t, away, here)
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
}

// A token that comes back with its own number and other keys is found out by the store: the key is not the one that was enrolled.
func TestTokenComesBackWithOtherKeys(t *testing.T) {
	c := keystoretest.Config(t)
	here, away := storage(t, c)
	if err := os.CopyFS(away, os.DirFS(here)); err != nil {
		t.Fatal(err)
	}
	swap := func() {
		move(t, here, here+".swap")
		move(t, away, here)
		move(t, here+".swap", away)
	}
	open := func() (*pkcs11.Token, *keystore.Store) {
		token, err := pkcs11.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return token, keystore.New(token, keystore.Options{})
	}
	_, store := open()
	other := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	swap()
	token, store := open()
	defer store.Close()
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	swap()
	if err := token.Reset(t.Context(), token.Epoch(), errors.New("a test")); err != nil {
		t.Fatal(err)
	}
	if err := sign(t, store, key); !errors.Is(err, keystore.ErrWrongSignature) {
		t.Errorf("the enrolled key: got %v", err)
	}
	if err := sign(t, store, other); err != nil {
		t.Errorf("the key that is there: %v", err)
	}
	swap()
	if err := token.Reset(t.Context(), token.Epoch(), errors.New("a test")); err != nil {
		t.Fatal(err)
	}
	if err := sign(t, store, key); err != nil {
		t.Errorf("the enrolled key, back again: %v", err)
	}
}

// Tokens of one module are set up anew together, and the others' callers do not notice. One that stays away does not take
// much of their time.
func TestTokensOfOneModuleGoTogether(t *testing.T) {
	c, otherConfig := keystoretest.Config(t), keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module, otherConfig.Module = fault.Path, fault.Path
	c.SessionCopies = false
	otherConfig.Grace = time.Minute // its callers wait, however long that takes on this machine
	token, other := keystoretest.Open(t, c), keystoretest.Open(t, otherConfig)
	t.Cleanup(fault.Heal)
	store, otherStore := keystore.New(token, keystore.Options{}), keystore.New(other, keystore.Options{})
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	otherKey := keystoretest.Generate(t, otherStore, "k", keystore.ECDSAP256)

	stop := make(chan struct{})
	var callers sync.WaitGroup
	var signatures atomic.Int64
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := sign(t, otherStore, otherKey); err != nil {
					t.Errorf("the other token: %v", err)
				}
				signatures.Add(1)
			}
		})
	}
	epoch := other.Epoch()
	for range 5 {
		if err := token.Reset(t.Context(), token.Epoch(), errors.New("a test")); err != nil {
			t.Error(err)
		}
		if err := sign(t, store, key); err != nil {
			t.Error(err)
		}
	}
	if other.Epoch() == epoch {
		t.Error("the other token's handles of before are still good")
	}

	here, away := storage(t, c)
	move(t, here, away)
	until(t, "an outage", func() bool { return sign(t, store, key) != nil })
	state(t, token, keystore.Recovering)
	initialized, began, made := fault.Calls(faulty.Initialize), time.Now(), signatures.Load()
	until(t, "attempts", func() bool { return fault.Calls(faulty.Initialize)-initialized >= 5 })
	if signatures.Load() == made {
		t.Errorf("no signature of the other token in %v", time.Since(began))
	}
	move(t, away, here)
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	close(stop)
	callers.Wait()
}

// A PIN that is changed while the program runs: the old one is tried once, the token is not used, and the new one heals it.
func TestPINChangesWhileRunning(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	var pin atomic.Value
	pin.Store(keystoretest.PIN)
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) {
		c.PIN = func(context.Context) (keystore.Secret, error) { return keystore.NewSecret(pin.Load().(string)), nil }
	})
	module := wrapper.New(token.Info().Module)
	session, err := module.OpenSession(token.Info().Slot, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	const changed = "changed-4711"
	if err := module.SetPIN(session, keystoretest.PIN, changed); err != nil {
		t.Fatal(err)
	}
	if err := sign(t, store, key); err != nil {
		t.Errorf("a session that is logged in: %v", err)
	}
	logins := fault.Calls(faulty.Login)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_REMOVED)
	for range 20 {
		if err := sign(t, store, key); !errors.Is(err, keystore.ErrPIN) || !isUnavailable(err) {
			t.Errorf("got %v", err)
		}
	}
	if s := token.Status()[0]; s.State != keystore.Refusing || !strings.Contains(s.Reason, "PIN") || s.Errors["CKR_PIN_INCORRECT"] != 1 {
		t.Errorf("status: %+v", s)
	}
	if got := fault.Calls(faulty.Login) - logins; got != 1 {
		t.Errorf("%d logins with the old PIN, want 1", got)
	}
	pin.Store(changed)
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	if got := fault.Calls(faulty.Login) - logins; got != 2 {
		t.Errorf("%d logins, want 2", got)
	}
}

// Callers that want to know at once, because they have another token, are told at once.
func TestNoGrace(t *testing.T) {
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.Grace = -1 })
	fault.Fail(faulty.Initialize, 1, wrapper.CKR_DEVICE_REMOVED) // it is not back in no time
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_REMOVED)
	if err := sign(t, store, key); !isUnavailable(err) {
		t.Errorf("got %v", err)
	}
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	if got := token.Status()[0].Recoveries; got != 1 {
		t.Errorf("%d recoveries", got)
	}
}

// A device that fails again right after it was set up is not set up over and over without a pause, and callers know.
func TestDeviceThatDoesNotHeal(t *testing.T) {
	fault, token, store, key := newFault(t, nil)
	fault.Fail(faulty.SignInit, 1<<30, wrapper.CKR_DEVICE_ERROR)
	began, initialized := time.Now(), fault.Calls(faulty.Initialize)
	until(t, "ten attempts", func() bool {
		if err := sign(t, store, key); !isUnavailable(err) {
			t.Errorf("got %v", err)
		}
		return fault.Calls(faulty.Initialize)-initialized >= 10
	})
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("ten attempts in %v", took)
	}
	fault.Heal()
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	if s := token.Status()[0]; s.State != keystore.Working {
		t.Errorf("status: %+v", s)
	}
}

func TestReset(t *testing.T) {
	fault, token, store, key := newFault(t, nil)
	epoch, finalized := token.Epoch(), fault.Calls(faulty.Finalize)
	for range 2 { // the second is late
		if err := token.Reset(t.Context(), epoch, errors.New("a signature was wrong")); err != nil {
			t.Fatal(err)
		}
	}
	if token.Epoch() == epoch || fault.Calls(faulty.Finalize) != finalized+1 {
		t.Errorf("epoch %d, was %d; %d times finalised", token.Epoch(), epoch, fault.Calls(faulty.Finalize)-finalized)
	}
	fault.Fail(faulty.Initialize, 1, wrapper.CKR_GENERAL_ERROR)
	if err := token.Reset(t.Context(), token.Epoch(), errors.New("a signature was wrong")); !isUnavailable(err) {
		t.Errorf("got %v", err)
	}
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
}

// What C_Finalize says does not matter if the module can be initialised again; and if it says that it still is, what it has of
// before is not used.
func TestFinalizeFails(t *testing.T) {
	fault, token, store, key := newFault(t, nil)
	for _, fail := range []func(faulty.Function, int, uint) *faulty.Rule{fault.Fail, fault.FailAfter} {
		epoch := token.Epoch()
		fail(faulty.Finalize, 1, wrapper.CKR_GENERAL_ERROR)
		fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_ERROR)
		if err := sign(t, store, key); err != nil {
			t.Errorf("got %v", err)
		}
		if token.Epoch() == epoch {
			t.Error("the handles of before are still good")
		}
	}
}

// C_Initialize may have worked and say that it did not.
func TestInitializeFails(t *testing.T) {
	fault, token, store, key := newFault(t, nil)
	for _, fail := range []func(faulty.Function, int, uint) *faulty.Rule{fault.Fail, fault.FailAfter} {
		for times := range 3 {
			epoch := token.Epoch()
			fail(faulty.Initialize, times, wrapper.CKR_GENERAL_ERROR)
			fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_ERROR)
			until(t, "a signature", func() bool { return sign(t, store, key) == nil })
			if token.Epoch() == epoch {
				t.Error("the handles of before are still good")
			}
		}
	}
}

// Another part of the program may finalise the module behind our back.
func TestFinalizedByOthers(t *testing.T) {
	token := keystoretest.Open(t, keystoretest.Config(t))
	store := keystore.New(token, keystore.Options{})
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	epoch := token.Epoch()
	if err := wrapper.New(token.Info().Module).Finalize(); err != nil {
		t.Fatal(err)
	}
	if err := sign(t, store, key); err != nil {
		t.Errorf("got %v", err)
	}
	if token.Epoch() == epoch {
		t.Error("the handles of before are still good")
	}
}

// What says that it was not initialised, and was, is taken for what it is.
func TestInitializeWorksAndSaysItFailed(t *testing.T) {
	fault, _, store, key := newFault(t, nil)
	fault.FailAfter(faulty.Initialize, 1, wrapper.CKR_GENERAL_ERROR)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_ERROR)
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
}

// The same for a module that says it was finalised before, and was not.
func TestFinalizeSaysItWasDone(t *testing.T) {
	fault, _, store, key := newFault(t, nil)
	fault.Fail(faulty.Finalize, 1, wrapper.CKR_CRYPTOKI_NOT_INITIALIZED)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_DEVICE_ERROR)
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
}

// No more callers wait for a token that is being set up anew than its queue has room for: who comes then is sent away, and the others sign.
func TestPatienceIsBounded(t *testing.T) {
	t.Attr("requirement", "B-31")
	m := faulty.New(t)
	c := m.Config(t)
	c.Queue, c.Grace = 2, time.Minute
	token := keystoretest.Open(t, c)
	t.Cleanup(m.Heal) // before closing
	store := keystore.New(token, keystore.Options{})
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	m.Hang(faulty.Initialize, faulty.Always, 0)
	var all sync.WaitGroup
	all.Go(func() {
		if err := token.Reset(t.Context(), token.Epoch(), errors.New("a test")); err != nil {
			t.Error(err)
		}
	})
	state(t, token, keystore.Recovering)
	for range c.Queue {
		all.Go(func() {
			if err := sign(t, store, key); err != nil {
				t.Errorf("who waited: %v", err)
			}
		})
	}
	until(t, "callers who wait", func() bool { return token.Status()[0].Waiting == c.Queue })
	var u *keystore.UnavailableError
	if err := sign(t, store, key); !errors.As(err, &u) || u.RetryAfter <= 0 || !strings.Contains(err.Error(), "too many") {
		t.Errorf("one more: %v", err)
	}
	m.Heal()
	all.Wait()
}
