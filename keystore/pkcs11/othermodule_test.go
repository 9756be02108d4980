package pkcs11_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/conformance/modules"
)

// openCryptoki's soft token is another implementation, of other people, with a daemon, and it keeps its promises.
func TestOpenCryptokiKeepsTheContract(t *testing.T) {
	modules.OpenCryptoki(t, func(t *testing.T, config func(t testing.TB) pkcs11.Config) {
		keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
			c := config(t)
			c.SessionCopies = true
			return keystoretest.Open(t, c)
		}, keystore.RSAPSS)
	})
}

func TestOpenCryptoki(t *testing.T) {
	modules.OpenCryptoki(t, func(t *testing.T, config func(t testing.TB) pkcs11.Config) {
		t.Run("a process uses one of its tokens", func(t *testing.T) {
			// It makes no token while a session of another one is open, and a login to one counts for all.
			configs := []pkcs11.Config{config(t), config(t)}
			first := keystoretest.Open(t, configs[0])
			if _, err := pkcs11.Open(t.Context(), configs[1]); !errors.Is(err, keystore.ErrInvalid) || !strings.Contains(err.Error(), "logged in") {
				t.Errorf("got %v: a PIN that the token did not check was accepted", err)
			}
			keystoretest.Generate(t, keystore.New(first, keystore.Options{}), "k", keystore.RSAPSS)
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := keystoretest.Open(t, configs[1]).Find(t.Context(), "k"); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("the other token: %v", err)
			}
		})
		t.Run("a wrong PIN is tried once", func(t *testing.T) { testWrongPIN(t, config(t)) })
		t.Run("finalized by another part of the program", func(t *testing.T) { testFinalized(t, config(t), keystore.RSAPSS) })
		t.Run("what the policy needs", func(t *testing.T) {
			store := keystore.New(keystoretest.Open(t, config(t)), keystore.Options{})
			key := keystoretest.Generate(t, store, "k", keystore.RSAPSS)
			if err := sign(t, store, key); err != nil {
				t.Error(err)
			}
			// It knows neither CKA_COPYABLE nor CKA_ALLOWED_MECHANISMS; what it knows is kept all the same.
			if key.Attributes["CKA_MODIFIABLE"] != "false" || key.Attributes["CKA_COPYABLE"] != "" || key.Attributes["CKA_ALLOWED_MECHANISMS"] != "" {
				t.Errorf("attributes: %v", key.Attributes)
			}
			if _, err := store.Generate(t.Context(), keystore.Spec{ID: "e", Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrInvalid) ||
				!strings.Contains(err.Error(), "does not support") {
				t.Errorf("a curve that the token does not have: %v", err)
			}
		})
	})
}

// testWrongPIN opens a token with a PIN that it refuses, and looks whether the token counted more than one try.
func testWrongPIN(t *testing.T, c pkcs11.Config) {
	bad := c
	bad.PIN = keystore.PINFixed(keystore.NewSecret("wrong-12"))
	for range 8 { // more than any token allows
		_, err := pkcs11.Open(t.Context(), bad)
		if !errors.Is(err, keystore.ErrPIN) || strings.Contains(err.Error(), "wrong-12") {
			t.Fatalf("got %v", err)
		}
	}
	keystoretest.Open(t, c) // it is not locked
}

// testFinalized finalizes the module behind the token's back.
func testFinalized(t *testing.T, c pkcs11.Config, a keystore.Algorithm) {
	token := keystoretest.Open(t, c)
	key, err := token.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	if err := wrapper.New(c.Module).Finalize(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	input, err := a.Input(message)
	if err != nil {
		t.Fatal(err)
	}
	for {
		signature, err := token.Sign(ctx, key.ID, a, input)
		if err == nil {
			if err := keystore.Verify(a, key.Public, message, signature); err != nil {
				t.Fatalf("signed wrongly: %v", err)
			}
			return
		}
		if !errors.Is(err, keystore.ErrUnavailable) {
			t.Fatal(err)
		}
		wait := 10 * time.Millisecond
		if u := (*keystore.UnavailableError)(nil); errors.As(err, &u) && u.RetryAfter > 0 {
			wait = u.RetryAfter
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			t.Fatalf("it does not come back: %v", err)
		}
	}
}

// Mozilla's NSS does not keep what it is asked for. The token as such works, and Signet's store refuses its keys.
func TestNSSKeysAreRefused(t *testing.T) {
	t.Attr("requirement", "B-31")
	token := keystoretest.Open(t, modules.NSS(t))
	store := keystore.New(token, keystore.Options{})
	for _, a := range []keystore.Algorithm{keystore.ECDSAP256, keystore.ECDSAP384, keystore.ECDSAP521, keystore.RSAPSS} {
		id := keystore.ID("k-" + string(a))
		if _, err := store.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: a}); !errors.Is(err, keystore.ErrPolicy) ||
			!strings.Contains(err.Error(), "CKA_LOCAL is false") {
			t.Errorf("%s: %v", a, err)
		}
		if _, err := token.Find(t.Context(), id); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: a key that was refused stays: %v", a, err)
		}
	}
	key, err := token.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256}) // the token does not judge
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Key(t.Context(), "k"); !errors.Is(err, keystore.ErrPolicy) {
		t.Errorf("Key: %v", err)
	}
	if _, err := store.Sign(t.Context(), "k", key.Public, message); !errors.Is(err, keystore.ErrPolicy) {
		t.Errorf("Sign: %v", err)
	}
}

// A trusting token says what NSS should, so that the rest of the contract is held to.
type trusting struct{ keystore.Token }

func (t trusting) Generate(ctx context.Context, spec keystore.Spec) (keystore.Key, error) {
	return trust(t.Token.Generate(ctx, spec))
}

func (t trusting) Find(ctx context.Context, id keystore.ID) (keystore.Key, error) {
	return trust(t.Token.Find(ctx, id))
}

func trust(key keystore.Key, err error) (keystore.Key, error) {
	if err == nil {
		key.Attributes["CKA_LOCAL"] = "true"
	}
	return key, err
}

func TestNSSKeepsTheRestOfTheContract(t *testing.T) {
	keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
		return trusting{keystoretest.Open(t, modules.NSS(t))}
	}, keystore.ECDSAP256, keystore.ECDSAP384, keystore.ECDSAP521, keystore.RSAPSS)
}

func TestNSS(t *testing.T) {
	t.Run("a wrong PIN is tried once", func(t *testing.T) { testWrongPIN(t, modules.NSS(t)) })
	t.Run("finalized by another part of the program", func(t *testing.T) { testFinalized(t, modules.NSS(t), keystore.ECDSAP256) })
}
