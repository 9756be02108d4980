package pkcs11_test

import (
	"context"
	"errors"
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

// A device may name the curve in other ways than by its object identifier.
func TestCurveNames(t *testing.T) {
	fault, token, _, _ := newFault(t, nil)
	for a, names := range map[keystore.Algorithm][]string{
		keystore.ECDSAP256: {"\x13\x09secp256r1", "\x13\x0aprime256v1", "\x13\x05P-256"},
		keystore.ECDSAP384: {"\x13\x09secp384r1", "\x13\x05P-384"},
		keystore.ECDSAP521: {"\x13\x09secp521r1", "\x13\x05P-521"},
		keystore.Ed25519:   {"\x13\x0cedwards25519", "\x13\x07Ed25519", "\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"},
	} {
		id := keystore.ID("key-" + a)
		key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: a})
		if err != nil {
			t.Fatal(err)
		}
		find := func(params string) (keystore.Key, error) {
			fault.Attribute(wrapper.CKA_EC_PARAMS, []byte(params))
			defer fault.HealRules()
			if err := token.Reset(t.Context(), token.Epoch(), errors.New("the test wants it")); err != nil {
				t.Fatal(err)
			}
			return token.Find(t.Context(), id)
		}
		for _, params := range names {
			if found, err := find(params); err != nil || found.Algorithm != a || found.KeyID != key.KeyID {
				t.Errorf("%s as %q: found %+v, %v", a, params, found, err)
			}
		}
		for _, params := range []string{"", "\x13\x09secp256k1", names[0][1:], names[0] + "\x00", strings.ToUpper(names[0])} {
			if found, err := find(params); !errors.Is(err, keystore.ErrInvalid) {
				t.Errorf("%s as %q: found %+v, %v", a, params, found, err)
			}
		}
	}
}

// What an RSA key is for is known also where the token does not keep its allowed mechanisms; and where it tells others than those it
// was made with, the key is not used.
func TestAllowedMechanisms(t *testing.T) {
	t.Attr("requirement", "B-31")
	fault := faulty.New(t)
	c := keystoretest.Config(t)
	c.Module = fault.Path
	token := keystoretest.Open(t, c)
	t.Cleanup(fault.Heal)
	recorded := make(map[keystore.ID]map[string]string)
	store := keystore.New(token, keystore.Options{Recorded: func(id keystore.ID) (map[string]string, bool) {
		attributes, ok := recorded[id]
		return attributes, ok
	}})
	anew := func() {
		t.Helper()
		if err := token.Reset(t.Context(), token.Epoch(), errors.New("the test wants it")); err != nil {
			t.Fatal(err)
		}
	}
	fault.NoAttribute(wrapper.CKA_ALLOWED_MECHANISMS)
	for id, a := range map[keystore.ID]keystore.Algorithm{"pss": keystore.RSAPSS, "pkcs1": keystore.RSAPKCS1} {
		key, err := store.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: a})
		if err != nil || key.Algorithm != a {
			t.Fatalf("made %+v, %v", key, err)
		}
		if _, told := key.Attributes["CKA_ALLOWED_MECHANISMS"]; told {
			t.Error("the token tells what it does not know")
		}
		anew()
		if _, err := store.SignAs(t.Context(), id, a, key.Public, message); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		other := map[keystore.Algorithm]keystore.Algorithm{keystore.RSAPSS: keystore.RSAPKCS1, keystore.RSAPKCS1: keystore.RSAPSS}[a]
		if _, err := store.SignAs(t.Context(), id, other, key.Public, message); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("%s signs %s: %v", id, other, err)
		}
	}
	fault.HealRules()
	anew()

	key, err := store.Key(t.Context(), "pss")
	if err != nil {
		t.Fatal(err)
	}
	curve := keystoretest.Generate(t, store, "curve", keystore.ECDSAP256)
	recorded["pss"], recorded["curve"] = key.Attributes, curve.Attributes
	for name, allowed := range map[string][]byte{
		"the other":     faulty.Ulong(wrapper.CKM_RSA_PKCS),
		"both":          append(faulty.Ulong(wrapper.CKM_RSA_PKCS), faulty.Ulong(wrapper.CKM_RSA_PKCS_PSS)...),
		"any":           nil,
		"part of a one": {1},
	} {
		fault.Attribute(wrapper.CKA_ALLOWED_MECHANISMS, allowed)
		anew()
		for _, key := range []keystore.Key{key, curve} {
			_, err := store.Sign(t.Context(), key.ID, key.Public, message)
			if name == "part of a one" && key.ID == "pss" {
				if err == nil {
					t.Errorf("%s, %s: it signs", key.ID, name)
				}
			} else if !errors.Is(err, keystore.ErrPolicy) {
				t.Errorf("%s, %s: %v", key.ID, name, err)
			}
		}
		fault.HealRules()
		anew()
	}
	for _, key := range []keystore.Key{key, curve} {
		if _, err := store.Sign(t.Context(), key.ID, key.Public, message); err != nil {
			t.Errorf("%s, as it was made: %v", key.ID, err)
		}
	}
}

// Making an RSA key may take longer than a call that hangs: who makes it waits, and so does who needs the control session.
func TestSlowGeneration(t *testing.T) {
	fault, token, _, key := newFault(t, func(c *pkcs11.Config) { c.Hang = shortHang })
	fault.Delay(faulty.GenerateKeyPair, 1, 5*shortHang)
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := token.Generate(t.Context(), keystore.Spec{ID: "rsa", Algorithm: keystore.RSAPSS}); err != nil {
			t.Errorf("made: %v", err)
		}
	})
	until(t, "a key is being made", func() bool { return fault.Inside(faulty.GenerateKeyPair) > 0 })
	if _, err := token.Find(t.Context(), key.ID); err != nil {
		t.Errorf("found meanwhile: %v", err)
	}
	all.Wait()

	// Other calls hang as soon as before, afterwards, too.
	fault.Hang(faulty.FindObjectsInit, 1, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := token.Find(ctx, "unknown"); !errors.Is(err, keystore.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

// A device that says that it destroyed a key, and did not.
func TestDestroyThatIsNone(t *testing.T) {
	fault, token, _, key := newFault(t, nil)
	if _, err := token.GenerateMAC(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	fault.Fail(faulty.DestroyObject, faulty.Always, wrapper.CKR_OK)
	if err := token.DestroyMAC(t.Context(), "m"); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "still has it") {
		t.Errorf("got %v", err)
	}
	if err := token.Destroy(t.Context(), key.ID); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "still has it") {
		t.Errorf("got %v", err)
	}
	fault.HealRules()
	if err := token.Destroy(t.Context(), key.ID); err != nil {
		t.Errorf("once it does what it says: %v", err)
	}
	if _, err := token.Find(t.Context(), key.ID); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// A device that makes another key than it was asked for, or stores another certificate than it was given.
func TestAnotherThanAskedFor(t *testing.T) {
	fault, token, _, key := newFault(t, nil)
	for name, test := range map[string]struct {
		attribute uint
		value     []byte
		want      error
	}{
		"a smaller modulus":     {wrapper.CKA_MODULUS, []byte{0x80, 0, 1}, keystore.ErrInvalid},
		"a small exponent":      {wrapper.CKA_PUBLIC_EXPONENT, []byte{3}, keystore.ErrUnavailable},
		"an exponent of 65 bit": {wrapper.CKA_PUBLIC_EXPONENT, []byte{1, 0, 0, 0, 0, 0, 1, 0, 1}, keystore.ErrUnavailable},
	} {
		fault.Attribute(test.attribute, test.value)
		if made, err := token.Generate(t.Context(), keystore.Spec{ID: "rsa", Algorithm: keystore.RSAPSS}); !errors.Is(err, test.want) {
			t.Errorf("%s: got %+v, %v", name, made, err)
		}
		fault.HealRules()
		if _, err := token.Find(t.Context(), "rsa"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: it stays: %v", name, err)
		}
	}

	was := selfSigned(t, token, key, "was")
	if err := token.PutCertificate(t.Context(), key.ID, was); err != nil {
		t.Fatal(err)
	}
	renewed := selfSigned(t, token, key, "renewed")
	fault.Attribute(wrapper.CKA_VALUE, was.Raw[:64])
	if err := token.PutCertificate(t.Context(), key.ID, renewed); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "another certificate") {
		t.Errorf("a certificate that is stored otherwise: %v", err)
	}
	fault.HealRules()
	if got, err := token.Certificate(t.Context(), key.ID); err != nil || !got.Equal(was) {
		t.Errorf("the one before: %v", err)
	}
}

// A key that another program destroyed is looked for with a new set-up now and then, not at each call: the others do not pay for it.
func TestKeyThatOthersDestroyed(t *testing.T) {
	fault, token, store, key := newFault(t, nil)
	other := keystoretest.Generate(t, store, "other", keystore.ECDSAP256)
	ctx, session := rawSession(t, token, pkcs11.Config{Module: fault.Path})
	for _, class := range []uint{wrapper.CKO_PRIVATE_KEY, wrapper.CKO_PUBLIC_KEY} {
		found := rawFind(t, ctx, session, class, "k")
		if len(found) != 1 {
			t.Fatalf("%d objects", len(found))
		}
		if err := ctx.DestroyObject(session, found[0]); err != nil {
			t.Fatal(err)
		}
	}
	initialized := fault.Calls(faulty.Initialize)
	for range 20 {
		if _, err := token.Find(t.Context(), key.ID); !errors.Is(err, keystore.ErrUnavailable) { // SoftHSM signs with it until somebody looks for it
			t.Errorf("got %v", err)
		}
		if err := sign(t, store, other); err != nil {
			t.Errorf("another key: %v", err)
		}
	}
	if n := fault.Calls(faulty.Initialize) - initialized; n > 4 {
		t.Errorf("set up anew %d times for one key", n)
	}
}
