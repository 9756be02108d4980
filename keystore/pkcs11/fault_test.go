package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
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

// newFault gives a store on a token behind the module that fails on demand, with one key "k".
func newFault(t *testing.T, change func(*pkcs11.Config)) (*faulty.Module, *pkcs11.Token, *keystore.Store, keystore.Key) {
	t.Helper()
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module = fault.Path
	c.Sessions, c.Grace = 1, 3*time.Second // a busy machine may need more than the default for what takes milliseconds
	if change != nil {
		change(&c)
	}
	var key keystore.Key
	if hang := c.Hang; hang != 0 { // what is short for a call that hangs may not do for making a key
		c.Hang = 0
		maker := keystoretest.Open(t, c)
		key = keystoretest.Generate(t, keystore.New(maker, keystore.Options{}), "k", keystore.ECDSAP256)
		if err := maker.Close(); err != nil {
			t.Fatal(err)
		}
		c.Hang = hang
	}
	token := keystoretest.Open(t, c)
	t.Cleanup(fault.Heal) // before closing
	store := keystore.New(token, keystore.Options{})
	if key.ID == "" {
		key = keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	}
	return fault, token, store, key
}

var message = []byte("the statement")

func sign(t *testing.T, store *keystore.Store, key keystore.Key) error {
	t.Helper()
	signature, err := store.Sign(t.Context(), key.ID, key.Public, message)
	if err == nil && keystore.Verify(key.Algorithm, key.Public, message, signature) != nil {
		t.Error("a wrong signature came out")
	}
	return err
}

// Where the device made no signature and another session, login or handle may help, one more try is made. Where that fails in
// the same way, the token is set up anew.
func TestSignRetries(t *testing.T) {
	for _, test := range []struct {
		name     string
		function faulty.Function
		code     uint
		logins   int
		anew     bool // after two faults in a row
	}{
		{"session gone at C_SignInit", faulty.SignInit, wrapper.CKR_SESSION_HANDLE_INVALID, 0, false},
		{"session closed at C_SignInit", faulty.SignInit, wrapper.CKR_SESSION_CLOSED, 0, false},
		{"operation active", faulty.SignInit, wrapper.CKR_OPERATION_ACTIVE, 0, false},
		{"session gone at C_Sign", faulty.Sign, wrapper.CKR_SESSION_HANDLE_INVALID, 0, false},
		{"operation forgotten", faulty.Sign, wrapper.CKR_OPERATION_NOT_INITIALIZED, 0, false},
		{"login gone", faulty.SignInit, wrapper.CKR_USER_NOT_LOGGED_IN, 1, true},
		{"login gone at C_Sign", faulty.Sign, wrapper.CKR_USER_NOT_LOGGED_IN, 1, true},
		{"key handle gone", faulty.SignInit, wrapper.CKR_KEY_HANDLE_INVALID, 0, true},
		{"object handle gone", faulty.SignInit, wrapper.CKR_OBJECT_HANDLE_INVALID, 0, true},
	} {
		for _, copies := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/copies=%t", test.name, copies), func(t *testing.T) {
				fault, token, store, key := newFault(t, func(c *pkcs11.Config) { c.SessionCopies = copies })
				if err := sign(t, store, key); err != nil {
					t.Fatal(err)
				}
				epoch, logins := token.Epoch(), fault.Calls(faulty.Login)

				fault.Fail(test.function, 1, test.code)
				if err := sign(t, store, key); err != nil {
					t.Errorf("one fault: %v", err)
				}
				if got := fault.Calls(faulty.Login) - logins; got != test.logins {
					t.Errorf("%d logins, want %d", got, test.logins)
				}
				if changed := token.Epoch() != epoch; changed != (test.logins > 0) {
					t.Errorf("the epoch changed: %t", changed)
				}

				before, finalized := fault.Calls(faulty.SignInit), fault.Calls(faulty.Finalize)
				fault.Fail(test.function, 2, test.code)
				want := map[bool]int{false: 2, true: 3}[test.anew]
				if err := sign(t, store, key); test.anew != (err == nil) || err != nil && !errors.Is(err, keystore.ErrUnavailable) {
					t.Errorf("two faults: got %v", err)
				}
				if got := fault.Calls(faulty.SignInit) - before; got != want {
					t.Errorf("tried %d times, want %d", got, want)
				}
				if anew := fault.Calls(faulty.Finalize) > finalized; anew != test.anew {
					t.Errorf("set up anew: %t", anew)
				}
				fault.Heal()
				if err := sign(t, store, key); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// A device that is gone is set up anew, and the call that found out is made once more. One that is gone for good is not tried
// for ever by one call.
func TestDeviceGone(t *testing.T) {
	for _, code := range []uint{
		wrapper.CKR_DEVICE_ERROR, wrapper.CKR_DEVICE_REMOVED, wrapper.CKR_TOKEN_NOT_PRESENT, wrapper.CKR_TOKEN_NOT_RECOGNIZED,
		wrapper.CKR_CRYPTOKI_NOT_INITIALIZED, wrapper.CKR_SLOT_ID_INVALID,
	} {
		for _, function := range []faulty.Function{faulty.SignInit, faulty.Sign} {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%#x at %d, after the work %t", code, function, after), func(t *testing.T) {
					fault, token, store, key := newFault(t, nil)
					if after {
						fault.FailAfter(function, 1, code)
					} else {
						fault.Fail(function, 1, code)
					}
					tries, initialized, epoch := fault.Calls(faulty.SignInit), fault.Calls(faulty.Initialize), token.Epoch()
					if err := sign(t, store, key); err != nil {
						t.Errorf("got %v", err)
					}
					if got := fault.Calls(faulty.SignInit) - tries; got != 2 {
						t.Errorf("tried %d times", got)
					}
					if got := fault.Calls(faulty.Initialize) - initialized; got != 1 {
						t.Errorf("initialised %d times", got)
					}
					if token.Epoch() == epoch {
						t.Error("the handles of before are still good")
					}
					s := token.Status()[0]
					if s.State != keystore.Working || s.Recoveries != 1 || s.Errors[wrapperName(code)] != 1 || s.Reason != "" {
						t.Errorf("status: %+v", s)
					}
					fault.Fail(function, 1000, code)
					tries = fault.Calls(faulty.SignInit)
					if err := sign(t, store, key); !isUnavailable(err) {
						t.Errorf("got %v", err)
					}
					if got := fault.Calls(faulty.SignInit) - tries; got != 2 {
						t.Errorf("tried %d times a device that is gone", got)
					}
				})
			}
		}
	}
}

func wrapperName(code uint) string {
	text := wrapper.Error(code).Error()
	return text[strings.LastIndex(text, "CKR_"):]
}

// isUnavailable reports whether an error says that the token cannot be used, and when to try again.
func isUnavailable(err error) bool {
	var u *keystore.UnavailableError
	return errors.As(err, &u) && u.RetryAfter > 0 && errors.Is(err, keystore.ErrUnavailable)
}

// A failure that can be the call's own is its caller's to know, at once, and the session is not used again. Three in a row are
// the device's.
func TestDoubtfulFailures(t *testing.T) {
	for _, code := range []uint{
		wrapper.CKR_GENERAL_ERROR, wrapper.CKR_FUNCTION_FAILED, wrapper.CKR_HOST_MEMORY, wrapper.CKR_DEVICE_MEMORY,
		wrapper.CKR_ARGUMENTS_BAD, 0x80000001, 0x00000999,
	} {
		for _, function := range []faulty.Function{faulty.SignInit, faulty.Sign} {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%#x at %d, after the work %t", code, function, after), func(t *testing.T) {
					fault, token, store, key := newFault(t, nil)
					fail := fault.Fail
					if after {
						fail = fault.FailAfter
					}
					finalized := fault.Calls(faulty.Finalize)
					for range 4 {
						fail(function, 1, code)
						tries, opened := fault.Calls(faulty.SignInit), fault.Calls(faulty.OpenSession)
						if err := sign(t, store, key); !errors.Is(err, keystore.ErrUnavailable) {
							t.Errorf("got %v", err)
						}
						if got := fault.Calls(faulty.SignInit) - tries; got != 1 {
							t.Errorf("tried %d times", got)
						}
						if err := sign(t, store, key); err != nil {
							t.Errorf("afterwards: %v", err)
						}
						if got := fault.Calls(faulty.OpenSession) - opened; got != 1 {
							t.Errorf("%d sessions opened, want 1: the old one must be dropped", got)
						}
					}
					if fault.Calls(faulty.Finalize) != finalized {
						t.Error("set up anew although it worked in between")
					}
					epoch := token.Epoch()
					fail(function, 3, code)
					for i := range 2 {
						if err := sign(t, store, key); !errors.Is(err, keystore.ErrUnavailable) {
							t.Errorf("failure %d: got %v", i, err)
						}
					}
					if err := sign(t, store, key); err != nil {
						t.Errorf("the third: %v", err)
					}
					if token.Epoch() == epoch || fault.Calls(faulty.Finalize) != finalized+1 {
						t.Error("not set up anew after three in a row")
					}
				})
			}
		}
	}
}

// What the device says of the request is told, and costs nobody else anything.
func TestRefusedRequests(t *testing.T) {
	fault, token, store, key := newFault(t, nil)
	epoch := token.Epoch()
	for range 5 {
		fault.Fail(faulty.SignInit, 1, wrapper.CKR_MECHANISM_INVALID)
		if err := sign(t, store, key); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}
	if token.Epoch() != epoch {
		t.Error("set up anew")
	}
}

func TestNoOtherSessionToBeHad(t *testing.T) {
	fault, _, store, key := newFault(t, nil)
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_SESSION_HANDLE_INVALID)
	fault.Fail(faulty.OpenSession, 1, wrapper.CKR_SESSION_COUNT)
	if err := sign(t, store, key); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := sign(t, store, key); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A login that is lost for good, because the PIN was changed, is tried once and never again, until somebody corrects it.
func TestLoginLostForGood(t *testing.T) {
	var pin atomic.Value
	var asked atomic.Int32
	pin.Store(keystoretest.PIN)
	fault, token, store, key := newFault(t, func(c *pkcs11.Config) {
		c.PIN = func(context.Context) (keystore.Secret, error) {
			asked.Add(1)
			return keystore.NewSecret(pin.Load().(string)), nil
		}
	})
	fault.Fail(faulty.SignInit, 1000, wrapper.CKR_USER_NOT_LOGGED_IN)
	fault.Fail(faulty.Login, 1000, wrapper.CKR_PIN_INCORRECT)
	logins := fault.Calls(faulty.Login)
	for range 5 {
		if err := sign(t, store, key); !errors.Is(err, keystore.ErrPIN) {
			t.Errorf("got %v", err)
		}
	}
	if got := fault.Calls(faulty.Login) - logins; got != 1 {
		t.Errorf("%d logins with a PIN that was refused", got)
	}
	if s := token.Status()[0]; s.State != keystore.Refusing || !strings.Contains(s.Reason, "PIN") {
		t.Errorf("status: %+v", s)
	}
	pin.Store("another one")
	until(t, "a login with the other PIN", func() bool {
		if err := sign(t, store, key); !errors.Is(err, keystore.ErrPIN) {
			t.Errorf("got %v", err)
		}
		return fault.Calls(faulty.Login)-logins >= 2
	})
	asked.Store(0)
	until(t, "the PIN source to be asked again", func() bool { return asked.Load() >= 2 })
	if got := fault.Calls(faulty.Login) - logins; got != 2 {
		t.Errorf("%d logins with two PINs that were refused", got)
	}
}

// A caller's deadline holds although no call of PKCS#11 has one; callers are sent away while everything hangs; what
// hung is used again when it comes back.
func TestHang(t *testing.T) {
	const hang = 50 * time.Millisecond
	fault, _, store, key := newFault(t, func(c *pkcs11.Config) { c.Sessions, c.Queue, c.Hang = 2, 4, hang })
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	fault.Hang(faulty.Sign, 2, 0)
	cause := errors.New("deadline of the caller")
	ctx, cancel := context.WithCancelCause(t.Context())
	var all sync.WaitGroup
	callers := func(n int) {
		for range n {
			all.Go(func() {
				_, err := store.Sign(ctx, key.ID, key.Public, message)
				if errors.Is(err, cause) == sentAway(err) || !errors.Is(err, keystore.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
	callers(2)
	until(t, "two that hang", func() bool { return fault.Hung(faulty.Sign) == 2 })
	callers(3) // which wait, or come so late that they are sent away; one place is left for the probes
	// The queue refuses once it is full, and then, after a while, as nothing comes back from the sessions.
	until(t, "a full queue or hanging sessions", func() bool {
		probe, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		_, err := store.Sign(probe, key.ID, key.Public, message)
		return err != nil && probe.Err() == nil
	})
	until(t, "hanging sessions", func() bool {
		probe, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer stop()
		_, err := store.Sign(probe, key.ID, key.Public, message)
		return sentAway(err)
	})
	if got := fault.Hung(faulty.Sign); got != 2 {
		t.Errorf("%d calls hang, want 2", got)
	}
	cancel(cause)
	all.Wait()

	calls := fault.Calls(faulty.Sign)
	fault.Heal()
	until(t, "a signature", func() bool { return sign(t, store, key) == nil })
	if got := fault.Calls(faulty.Sign) - calls; got != 1 {
		t.Errorf("%d signatures made, though the callers of those that waited have left", got)
	}
}

func sentAway(err error) bool { return err != nil && strings.Contains(err.Error(), "do not return") }

// A call that hangs does not keep the program from stopping, and C_Finalize waits for it, since the two together crash.
func TestCloseWhileACallHangs(t *testing.T) {
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module = fault.Path
	defer fault.Heal()
	token, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	token.SetCloseWait(10 * time.Millisecond)
	store := keystore.New(token, keystore.Options{})
	key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	fault.Hang(faulty.Sign, 1, 0)
	var caller sync.WaitGroup
	caller.Go(func() {
		if err := sign(t, store, key); err != nil {
			t.Errorf("the call that hung and came back: %v", err)
		}
	})
	until(t, "a call that hangs", func() bool { return fault.Hung(faulty.Sign) == 1 })
	if err := store.Close(); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "does not return") {
		t.Errorf("Close: got %v", err)
	}
	if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Open: got %v", err)
	}
	if got := fault.Calls(faulty.Finalize); got != 0 {
		t.Error("C_Finalize during C_Sign")
	}
	fault.Heal()
	caller.Wait()
	until(t, "C_Finalize", func() bool { return fault.Calls(faulty.Finalize) == 1 })
	again, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// until waits for something that another goroutine or the device does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// A device that silently gives less than was asked for: the key is refused and destroyed, and so for each attribute.
func TestAttributesThatWereNotGiven(t *testing.T) {
	fault, token, store, _ := newFault(t, nil)
	for name, attribute := range map[string]uint{
		"CKA_SENSITIVE": wrapper.CKA_SENSITIVE, "CKA_EXTRACTABLE": wrapper.CKA_EXTRACTABLE, "CKA_LOCAL": wrapper.CKA_LOCAL,
		"CKA_ALWAYS_SENSITIVE": wrapper.CKA_ALWAYS_SENSITIVE, "CKA_NEVER_EXTRACTABLE": wrapper.CKA_NEVER_EXTRACTABLE,
		"CKA_SIGN": wrapper.CKA_SIGN, "CKA_DECRYPT": wrapper.CKA_DECRYPT, "CKA_UNWRAP": wrapper.CKA_UNWRAP,
		"CKA_DERIVE": wrapper.CKA_DERIVE, "CKA_PRIVATE": wrapper.CKA_PRIVATE, "CKA_SIGN_RECOVER": wrapper.CKA_SIGN_RECOVER,
	} {
		t.Run(name, func(t *testing.T) {
			id := keystore.ID("refused-" + name)
			fault.Lie(attribute)
			_, err := store.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
			if !errors.Is(err, keystore.ErrPolicy) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
			fault.Heal()
			if _, err := token.Find(t.Context(), id); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("the refused key is still there: %v", err)
			}
		})
	}
}

// Health asks the device itself, never a copy of the key in memory.
func TestTheCanaryIsNeverCopied(t *testing.T) {
	fault, _, store, _ := newFault(t, func(c *pkcs11.Config) { c.SessionCopies = true })
	copies := fault.Calls(faulty.CopyObject)
	if copies == 0 {
		t.Error("other keys are copied")
	}
	keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
	if err := store.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if got := fault.Calls(faulty.CopyObject) - copies; got != 0 {
		t.Errorf("%d copies of the canary key", got)
	}
}

// A module that forbids copies, or whose copies are less protected, is used without them.
func TestCopiesThatAreNotToBeHad(t *testing.T) {
	t.Run("forbidden", func(t *testing.T) {
		fault, _, store, key := newFault(t, nil)
		again := keystoretest.Generate(t, store, "again", keystore.ECDSAP256)
		fault.Fail(faulty.CopyObject, 1, wrapper.CKR_ACTION_PROHIBITED)
		if err := sign(t, store, again); err != nil {
			t.Error(err)
		}
		if err := sign(t, store, key); err != nil {
			t.Error(err)
		}
	})
	t.Run("less protected", func(t *testing.T) {
		fault, token, store, key := newFault(t, nil)
		if err := sign(t, store, key); err != nil {
			t.Fatal(err)
		}
		keystoretest.Generate(t, store, "other", keystore.ECDSAP256)
		if err := token.Destroy(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		last := mustGenerate(t, token, "last")
		fault.Lie(wrapper.CKA_EXTRACTABLE)
		input, _ := last.Algorithm.Input(message)
		destroyed := fault.Calls(faulty.DestroyObject)
		signature, err := token.Sign(t.Context(), "last", last.Algorithm, input)
		if err != nil || keystore.Verify(last.Algorithm, last.Public, message, signature) != nil {
			t.Errorf("signing without a copy: %v", err)
		}
		if fault.Calls(faulty.DestroyObject)-destroyed != 1 {
			t.Error("the copy was not destroyed")
		}
	})
}

func mustGenerate(t *testing.T, token *pkcs11.Token, id keystore.ID) keystore.Key {
	t.Helper()
	key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Each way in which a generation fails leaves no key behind that anybody could use, and the id stays free unless the
// device made the key and did not say so.
func TestGenerateFails(t *testing.T) {
	spec := keystore.Spec{ID: "new", Algorithm: keystore.ECDSAP256}
	t.Run("it did not happen", func(t *testing.T) {
		fault, _, store, _ := newFault(t, nil)
		fault.Fail(faulty.GenerateKeyPair, 1, wrapper.CKR_GENERAL_ERROR)
		if _, err := store.Generate(t.Context(), spec); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := store.Generate(t.Context(), spec); err != nil {
			t.Errorf("again: %v", err)
		}
	})
	t.Run("it happened and reported failure", func(t *testing.T) {
		fault, _, store, _ := newFault(t, nil)
		fault.FailAfter(faulty.GenerateKeyPair, 1, wrapper.CKR_DEVICE_ERROR)
		if _, err := store.Generate(t.Context(), spec); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := store.Generate(t.Context(), spec); !errors.Is(err, keystore.ErrExists) {
			t.Errorf("again: got %v", err)
		}
	})
	t.Run("the session is gone", func(t *testing.T) {
		fault, _, store, _ := newFault(t, nil)
		fault.Fail(faulty.GenerateKeyPair, 1, wrapper.CKR_SESSION_HANDLE_INVALID)
		if _, err := store.Generate(t.Context(), spec); err != nil {
			t.Errorf("got %v", err)
		}
	})
	t.Run("it cannot be read back", func(t *testing.T) {
		fault, token, store, _ := newFault(t, nil)
		fault.Fail(faulty.GetAttributeValue, 1, wrapper.CKR_DEVICE_ERROR)
		if _, err := store.Generate(t.Context(), spec); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := token.Find(t.Context(), "new"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("the key is still there: %v", err)
		}
	})
	t.Run("it does not sign", func(t *testing.T) {
		fault, token, store, _ := newFault(t, nil)
		fault.Fail(faulty.Sign, 1, wrapper.CKR_FUNCTION_FAILED)
		if _, err := store.Generate(t.Context(), spec); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := token.Find(t.Context(), "new"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("the key is still there: %v", err)
		}
	})
}

// A device whose storage is gone finds nothing and reports no error.
func TestStorageGone(t *testing.T) {
	fault, token, store, key := newFault(t, nil)
	if err := sign(t, store, key); err != nil {
		t.Fatal(err)
	}
	if _, err := token.GenerateMAC(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	fault.FindNothing()
	fault.Fail(faulty.SignInit, 1, wrapper.CKR_OBJECT_HANDLE_INVALID)
	if err := sign(t, store, key); !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Sign: got %v", err)
	}
	if _, err := token.Find(t.Context(), "k"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Find: got %v", err)
	}
	for _, id := range []keystore.ID{"k", "m"} {
		if _, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrExists) {
			t.Errorf("Generate of %s: got %v", id, err)
		}
		if _, err := token.GenerateMAC(t.Context(), id); !errors.Is(err, keystore.ErrExists) {
			t.Errorf("GenerateMAC of %s: got %v", id, err)
		}
	}
	if _, err := token.Find(t.Context(), "stranger"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Find of what never was: got %v", err)
	}
	fault.Heal()
	if err := sign(t, store, key); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// The control session is dropped by the device, with and without the login.
func TestControlSessionGone(t *testing.T) {
	for _, code := range []uint{wrapper.CKR_SESSION_HANDLE_INVALID, wrapper.CKR_SESSION_CLOSED} {
		t.Run(wrapper.Error(code).Error(), func(t *testing.T) {
			fault, token, store, key := newFault(t, nil)
			epoch := token.Epoch()
			fault.Fail(faulty.GetSessionInfo, 1, code)
			if _, err := token.Find(t.Context(), "k"); err != nil {
				t.Errorf("got %v", err)
			}
			if token.Epoch() == epoch {
				t.Error("handles of the old session are still taken for good")
			}
			if err := sign(t, store, key); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			fault.Fail(faulty.FindObjectsInit, 1, code)
			if _, err := token.Find(t.Context(), "stranger"); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What another process's login causes passes, and what stays is said after a few tries. See TestOpenBesideLogins of package isolate for
// the real thing.
func TestOpenTriesAgain(t *testing.T) {
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module = fault.Path
	for _, test := range []struct {
		name     string
		function faulty.Function
		times    int
		code     uint
		calls    int // of the function; 0 is any number
		err      error
	}{
		{"no list", faulty.GetSlotList, 2, wrapper.CKR_GENERAL_ERROR, 0, nil},
		{"no description", faulty.GetTokenInfo, 4, wrapper.CKR_GENERAL_ERROR, 0, nil},
		{"no description for long", faulty.GetTokenInfo, 99, wrapper.CKR_GENERAL_ERROR, 5, keystore.ErrUnavailable},
		{"no PIN yet, it says", faulty.Login, 2, wrapper.CKR_USER_PIN_NOT_INITIALIZED, 3, nil},
		{"no PIN", faulty.Login, 99, wrapper.CKR_USER_PIN_NOT_INITIALIZED, 5, keystore.ErrPIN},
		{"a doubtful login", faulty.Login, 2, wrapper.CKR_GENERAL_ERROR, 3, nil},
		{"a device that is gone", faulty.Login, 1, wrapper.CKR_DEVICE_ERROR, 1, keystore.ErrUnavailable},
		{"a locked PIN", faulty.Login, 1, wrapper.CKR_PIN_EXPIRED, 1, keystore.ErrPIN}, // the last: it is never tried again
	} {
		t.Run(test.name, func(t *testing.T) {
			defer fault.Heal()
			fault.Fail(test.function, test.times, test.code)
			before := fault.Calls(test.function)
			token, err := pkcs11.Open(t.Context(), c)
			if token != nil {
				if err := token.Close(); err != nil {
					t.Error(err)
				}
			}
			if !errors.Is(err, test.err) {
				t.Errorf("got %v", err)
			}
			if n := fault.Calls(test.function) - before; test.calls != 0 && n != test.calls {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// A login that failed without saying why, after which the token speaks of a wrong PIN, was one with a wrong PIN.
func TestDoubtfulLoginCountsAsRefused(t *testing.T) {
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module = fault.Path
	right, asked := c.PIN, 0
	c.PIN = func(ctx context.Context) (keystore.Secret, error) {
		if asked++; asked == 2 {
			fault.Flags(wrapper.CKF_USER_PIN_COUNT_LOW, 0)
		}
		return right(ctx)
	}
	fault.Fail(faulty.Login, 99, wrapper.CKR_GENERAL_ERROR)
	before := fault.Calls(faulty.Login)
	_, err := pkcs11.Open(t.Context(), c) // the flag comes during its second try, and the third sees it
	if !errors.Is(err, keystore.ErrPIN) || !strings.Contains(err.Error(), "counted a wrong PIN") {
		t.Errorf("got %v", err)
	}
	fault.HealRules()
	fault.Flags(0, 0)
	if _, err = pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrPIN) {
		t.Errorf("got %v", err)
	}
	if n := fault.Calls(faulty.Login) - before; n != 2 {
		t.Errorf("%d logins", n)
	}
}

// A login that failed without saying why and then succeeded says nothing against the PIN, whoever mistypes it later.
func TestDoubtfulLoginIsForgotten(t *testing.T) {
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module = fault.Path
	fault.Fail(faulty.Login, 1, wrapper.CKR_GENERAL_ERROR)
	token := keystoretest.Open(t, c)
	defer fault.Heal()
	key := mustGenerate(t, token, "k")
	fault.Flags(wrapper.CKF_USER_PIN_COUNT_LOW, 0)
	fault.DropLogin()
	if err := sign(t, keystore.New(token, keystore.Options{}), key); err != nil {
		t.Error(err)
	}
}

// A key that was made while its caller left does not stay: nobody knows of it.
func TestGenerateForNobody(t *testing.T) {
	fault, token, _, _ := newFault(t, nil)
	for name, generate := range map[keystore.ID]func(context.Context, keystore.ID) error{
		"pair": func(ctx context.Context, id keystore.ID) error {
			_, err := token.Generate(ctx, keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
			return err
		},
		"secret": func(ctx context.Context, id keystore.ID) error {
			_, err := token.GenerateMAC(ctx, id)
			return err
		},
	} {
		t.Run(string(name), func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			searches := fault.Calls(faulty.FindObjectsFinal)
			hang := fault.Hang(faulty.GetAttributeValue, 1, 0) // the key is made and is being read back
			left := make(chan error, 1)
			go func() { left <- generate(ctx, name) }()
			until(t, "a key that was made", func() bool { return fault.Hung(faulty.GetAttributeValue) == 1 })
			if fault.Calls(faulty.FindObjectsFinal) == searches {
				t.Error("it was not looked for")
			}
			leave()
			if err := <-left; !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			hang.Heal()
			_, pair := token.Find(t.Context(), name)
			_, secret := token.MACAttributes(t.Context(), name)
			if !errors.Is(pair, keystore.ErrNotFound) || !errors.Is(secret, keystore.ErrNotFound) {
				t.Errorf("it stayed: %v, %v", pair, secret)
			}
		})
	}
}

func TestOpenFails(t *testing.T) {
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module = fault.Path
	for name, function := range map[string]faulty.Function{
		"C_Initialize": faulty.Initialize, "C_GetSlotList": faulty.GetSlotList, "C_GetTokenInfo": faulty.GetTokenInfo,
		"C_OpenSession": faulty.OpenSession, "C_GetSessionInfo": faulty.GetSessionInfo, "C_Login": faulty.Login,
	} {
		t.Run(name, func(t *testing.T) {
			fault.Fail(function, 1, wrapper.CKR_DEVICE_ERROR)
			if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a worker's session", func(t *testing.T) {
		fault.FailLater(faulty.OpenSession, 2, 1, wrapper.CKR_SESSION_COUNT)
		if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the caller leaves", func(t *testing.T) {
		fault.Hang(faulty.Login, 1, 0)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			until(t, "a hanging login", func() bool { return fault.Hung(faulty.Login) == 1 })
			cancel()
		}()
		if _, err := pkcs11.Open(ctx, c); !errors.Is(err, keystore.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		finalized := fault.Calls(faulty.Finalize)
		fault.Heal()
		until(t, "the token to be closed", func() bool { return fault.Calls(faulty.Finalize) > finalized })
	})
	fault.Heal()
	token := keystoretest.Open(t, c)
	if token.Sessions() < 2 {
		t.Errorf("%d sessions", token.Sessions())
	}
}
