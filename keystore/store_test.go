package keystore_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

var message = []byte("the statement")

func newFake(t *testing.T) (*keystore.Store, *keystoretest.Fake) {
	fake := keystoretest.NewFake()
	store := keystore.New(fake, keystore.Options{})
	t.Cleanup(func() { store.Close() })
	return store, fake
}

// What leaves the store was made by the enrolled key, whatever the device does.
func TestVerifyAfterSign(t *testing.T) {
	for _, a := range []keystore.Algorithm{keystore.ECDSAP256, keystore.ECDSAP384, keystore.ECDSAP521, keystore.Ed25519, keystore.RSAPSS} {
		t.Run(string(a), func(t *testing.T) {
			tampers := map[string]func(id keystore.ID, signature []byte, other func(keystore.ID) []byte) ([]byte, error){
				"another person's key": func(_ keystore.ID, _ []byte, other func(keystore.ID) []byte) ([]byte, error) {
					return other("other"), nil
				},
				"nothing": func(keystore.ID, []byte, func(keystore.ID) []byte) ([]byte, error) { return nil, nil },
				"zeros": func(_ keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) {
					return make([]byte, len(s)), nil
				},
				"cut off": func(_ keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) { return s[:len(s)-1], nil },
				"longer": func(_ keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) {
					return append(s, 0), nil
				},
			}
			for _, bit := range []int{0, 9, 100, 500} {
				tampers[fmt.Sprintf("bit %d changed", bit)] = func(_ keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) {
					s[bit/8] ^= 1 << (bit % 8)
					return s, nil
				}
			}
			_, fake := newFake(t)
			key := keystoretest.Generate(t, keystore.New(fake, keystore.Options{}), "k", a)
			keystoretest.Generate(t, keystore.New(fake, keystore.Options{}), "other", a)
			for name, tamper := range tampers {
				t.Run(name, func(t *testing.T) {
					store := keystore.New(fake, keystore.Options{}) // that has no opinion of the device yet
					fake.Tamper = tamper
					got, err := store.Sign(t.Context(), "k", key.Public, message)
					fake.Tamper = nil
					if !errors.Is(err, keystore.ErrWrongSignature) || got != nil {
						t.Errorf("got %x, %v", got, err)
					}
					got, err = store.Sign(t.Context(), "k", key.Public, message)
					if err != nil || keystore.Verify(a, key.Public, message, got) != nil {
						t.Errorf("a right signature: %v", err)
					}
				})
			}
		})
	}

	t.Run("the signature of another message", func(t *testing.T) {
		store, fake := newFake(t)
		key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
		old, err := store.Sign(t.Context(), "k", key.Public, []byte("another statement"))
		if err != nil {
			t.Fatal(err)
		}
		fake.Tamper = func(keystore.ID, []byte, func(keystore.ID) []byte) ([]byte, error) { return old, nil }
		if _, err := store.Sign(t.Context(), "k", key.Public, message); !errors.Is(err, keystore.ErrWrongSignature) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("handles that start again", func(t *testing.T) {
		store, fake := newFake(t)
		alice := keystoretest.Generate(t, store, "alice", keystore.ECDSAP256)
		keystoretest.Generate(t, store, "bob", keystore.ECDSAP256)
		fake.Swap("alice", "bob")
		if _, err := store.Sign(t.Context(), "alice", alice.Public, message); !errors.Is(err, keystore.ErrWrongSignature) {
			t.Errorf("bob's key signed for alice: %v", err)
		}
	})
}

// B-36: the key that signs is the one that was enrolled, and its id says which.
func TestEnrolledKey(t *testing.T) {
	store := keystoretest.New(t)
	key := keystoretest.Generate(t, store, "signer-1", keystore.ECDSAP256)

	t.Run("the key id is that of the public key", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		again, err := store.Key(t.Context(), "signer-1")
		if err != nil || again.KeyID != key.KeyID || keystore.KeyID(key.Public) != key.KeyID || len(key.KeyID) != 64 {
			t.Errorf("key ids %q and %q, %v", key.KeyID, again.KeyID, err)
		}
	})
	t.Run("no other key than the enrolled one signs", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Sign(t.Context(), "signer-1", other.Public(), message); !errors.Is(err, keystore.ErrWrongSignature) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not even inside the HSM", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		store, fake := newFake(t)
		alice := keystoretest.Generate(t, store, "alice", keystore.ECDSAP256)
		keystoretest.Generate(t, store, "bob", keystore.ECDSAP256)
		fake.Tamper = func(id keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) {
			t.Errorf("the HSM signed with %s's key", id)
			return s, nil
		}
		if _, err := store.Sign(t.Context(), "bob", alice.Public, message); !errors.Is(err, keystore.ErrWrongSignature) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a key that is not in the HSM is refused", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		if _, err := store.Sign(t.Context(), "signer-2", key.Public, message); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a destroyed key signs no more", func(t *testing.T) {
		gone := keystoretest.Generate(t, store, "signer-3", keystore.ECDSAP256)
		if _, err := store.Sign(t.Context(), "signer-3", gone.Public, message); err != nil {
			t.Fatal(err)
		}
		if err := store.Destroy(t.Context(), "signer-3"); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Sign(t.Context(), "signer-3", gone.Public, message); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSignRefusesKindsOfKeysThatAreNotOurs(t *testing.T) {
	store, _ := newFake(t)
	keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2047, 1), E: 65537} // 2048 bits
	for _, public := range []crypto.PublicKey{nil, "key", p224.Public(), ed25519.PublicKey{1, 2}, (*ecdsa.PublicKey)(nil), short} {
		if _, err := store.Sign(t.Context(), "k", public, message); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("%T: got %v", public, err)
		}
	}
}

// Each attribute of the policy, when it is wrong or unknown: the key is refused and does not stay.
func TestPolicy(t *testing.T) {
	wrong := map[string]string{
		"CKA_ALWAYS_SENSITIVE": "false", "CKA_LOCAL": "false", "CKA_NEVER_EXTRACTABLE": "false", "CKA_PRIVATE": "false",
		"CKA_SENSITIVE": "false", "CKA_SIGN": "false", "CKA_TOKEN": "false",
		"CKA_DECRYPT": "true", "CKA_DERIVE": "true", "CKA_EXTRACTABLE": "true", "CKA_UNWRAP": "true",
		"CKA_SIGN_RECOVER": "true",
	}
	if names := slices.Sorted(maps.Keys(wrong)); !slices.Equal(names, keystore.PolicyAttributes()) {
		t.Fatalf("this test knows %v, the policy %v", names, keystore.PolicyAttributes())
	}
	try := func(t *testing.T, name string, change func(map[string]string)) {
		store, fake := newFake(t)
		fake.Answer = func(k keystore.Key) keystore.Key {
			change(k.Attributes)
			return k
		}
		_, err := store.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
		if !errors.Is(err, keystore.ErrPolicy) || !strings.Contains(err.Error(), name) {
			t.Errorf("Generate: got %v", err)
		}
		if now, ever := fake.Keys(); now != 0 || ever != 1 {
			t.Errorf("the token has %d of %d keys, the refused one must be destroyed", now, ever)
		}
	}
	for name, value := range wrong {
		t.Run(name+" is "+value, func(t *testing.T) {
			try(t, name, func(a map[string]string) { a[name] = value })
		})
		if name == "CKA_SIGN_RECOVER" {
			continue // may be unknown
		}
		t.Run(name+" is unknown", func(t *testing.T) {
			try(t, name, func(a map[string]string) { delete(a, name) })
		})
	}

	t.Run("drift after a restart of the device", func(t *testing.T) {
		store, fake := newFake(t)
		key := keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
		fake.Answer = func(k keystore.Key) keystore.Key {
			k.Attributes["CKA_EXTRACTABLE"] = "true"
			return k
		}
		fake.Restart()
		if _, err := store.Sign(t.Context(), "k", key.Public, message); !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("Sign: got %v", err)
		}
		if _, err := store.Key(t.Context(), "k"); !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("Key: got %v", err)
		}
	})

	t.Run("a key of another kind than asked for", func(t *testing.T) {
		store, fake := newFake(t)
		other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		fake.Answer = func(k keystore.Key) keystore.Key {
			k.Public, k.Algorithm, k.KeyID = other.Public(), keystore.ECDSAP384, keystore.KeyID(other.Public())
			return k
		}
		if _, err := store.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("a pair whose halves do not belong together", func(t *testing.T) {
		store, fake := newFake(t)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		fake.Answer = func(k keystore.Key) keystore.Key {
			k.Public, k.KeyID = other.Public(), keystore.KeyID(other.Public())
			return k
		}
		if _, err := store.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrWrongSignature) {
			t.Errorf("got %v", err)
		}
		if now, _ := fake.Keys(); now != 0 {
			t.Error("the refused key must be destroyed")
		}
	})

	t.Run("keys made by SoftHSM keep it", func(t *testing.T) {
		store := keystoretest.New(t)
		key := keystoretest.Generate(t, store, "k", keystore.ECDSAP384)
		if err := keystore.CheckPolicy(key.Attributes); err != nil {
			t.Error(err)
		}
	})
}

func TestKeyIsCachedAndCopied(t *testing.T) {
	store, fake := newFake(t)
	keystoretest.Generate(t, store, "k", keystore.ECDSAP256)
	finds := 0
	fake.Answer = func(k keystore.Key) keystore.Key {
		finds++
		return k
	}
	for range 3 {
		key, err := store.Key(t.Context(), "k")
		if err != nil || key.Attributes["CKA_SENSITIVE"] != "true" {
			t.Fatal(key, err)
		}
		key.Attributes["CKA_SENSITIVE"] = "changed by the caller"
	}
	if finds != 0 {
		t.Errorf("the token was asked %d times for a key that it just made", finds)
	}
	fake.Restart()
	for range 3 {
		if _, err := store.Key(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	if finds != 1 {
		t.Errorf("the token was asked %d times after a restart, want once", finds)
	}
}

func TestHealth(t *testing.T) {
	t.Run("no canary", func(t *testing.T) {
		store, _ := newFake(t)
		if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("wrong signatures", func(t *testing.T) {
		store, fake := newFake(t)
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		if err := store.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		fake.Tamper = func(_ keystore.ID, s []byte, _ func(keystore.ID) []byte) ([]byte, error) { return s[1:], nil }
		if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrWrongSignature) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("attributes that drift", func(t *testing.T) {
		store, fake := newFake(t)
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		fake.Answer = func(k keystore.Key) keystore.Key {
			k.Attributes["CKA_SENSITIVE"] = "false"
			return k
		}
		if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a device that is gone", func(t *testing.T) {
		store, fake := newFake(t)
		keystoretest.Generate(t, store, keystore.CanaryID, keystore.ECDSAP256)
		fake.Close()
		if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSelfTest(t *testing.T) {
	store := keystoretest.New(t)
	ran, err := store.SelfTest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(ran, "\n")
	for name, want := range map[string]string{
		"the verifier knows published signatures":      "verify ecdsa-p256-sha256 (RFC 6979",
		"the HSM knows a published digest":             "HSM: digest sha-256 (FIPS 180-4)",
		"the HSM verifies a published signature":       "HSM: verify ecdsa-p384-sha384 (RFC 6979",
		"the HSM makes a published signature":          "HSM: sign ed25519 (RFC 8032",
		"the HSM signs with its canary, and it counts": "HSM: sign with the canary key",
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "11.300(e)")
			if !strings.Contains(all, want) {
				t.Errorf("%q is not among\n%s", want, all)
			}
		})
	}
	t.Run("a device that computes wrongly is reported", func(t *testing.T) {
		t.Attr("requirement", "11.300(e)")
		broken := errors.New("2+2=5")
		store := keystore.New(wrongAnswers{keystoretest.NewFake(), broken}, keystore.Options{})
		if _, err := store.SelfTest(t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}

type wrongAnswers struct {
	*keystoretest.Fake
	err error
}

func (w wrongAnswers) KnownAnswers(context.Context) ([]string, error) { return nil, w.err }

func TestVerifyRefuses(t *testing.T) {
	for _, v := range keystore.KnownAnswers() {
		if err := keystore.Verify(v.Algorithm, v.Public, v.Message, v.Signature); err != nil {
			t.Errorf("%s: %v", v.Source, err)
		}
		for _, other := range keystore.Algorithms() {
			if other != v.Algorithm && keystore.Verify(other, v.Public, v.Message, v.Signature) == nil {
				t.Errorf("%s: verifies as %s", v.Source, other)
			}
		}
		for bit := 0; bit < len(v.Signature)*8; bit += 7 { // each byte, each place in a byte
			changed := slices.Clone(v.Signature)
			changed[bit/8] ^= 1 << (bit % 8)
			if keystore.Verify(v.Algorithm, v.Public, v.Message, changed) == nil {
				t.Errorf("%s: verifies with bit %d changed", v.Source, bit)
			}
		}
		if keystore.Verify(v.Algorithm, v.Public, append(v.Message, 0), v.Signature) == nil {
			t.Errorf("%s: verifies for a longer message", v.Source)
		}
	}
}

func FuzzVerify(f *testing.F) {
	vectors := keystore.KnownAnswers()
	for i, v := range vectors {
		f.Add(uint8(i), v.Message, v.Signature)
	}
	f.Fuzz(func(t *testing.T, which uint8, message, signature []byte) {
		v := vectors[int(which)%len(vectors)]
		err := keystore.Verify(v.Algorithm, v.Public, message, signature)
		same := string(message) == string(v.Message) && string(signature) == string(v.Signature)
		if same != (err == nil) {
			t.Errorf("%s of %x over %x: %v", v.Algorithm, signature, message, err)
		}
	})
}
