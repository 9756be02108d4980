package pkcs11_test

import (
	"context"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

// Every kind and size of key: made, read back with what was asked for, signs, and says what it is for.
func TestKindsOfKeys(t *testing.T) {
	t.Attr("requirement", "B-31")
	c := keystoretest.Config(t)
	c.SessionCopies = false
	token := keystoretest.Open(t, c)
	store := keystore.New(token, keystore.Options{})
	for _, test := range []struct {
		spec     keystore.Spec
		bits     int
		allowed  string
		keyType  string
		generate string
	}{
		{keystore.Spec{ID: "p256", Algorithm: keystore.ECDSAP256}, 0, "0x1041", "0x3", "0x1040"},
		{keystore.Spec{ID: "p384", Algorithm: keystore.ECDSAP384}, 0, "0x1041", "0x3", "0x1040"},
		{keystore.Spec{ID: "p521", Algorithm: keystore.ECDSAP521}, 0, "0x1041", "0x3", "0x1040"},
		{keystore.Spec{ID: "ed", Algorithm: keystore.Ed25519}, 0, "0x1057", "0x40", "0x1055"},
		{keystore.Spec{ID: "pss", Algorithm: keystore.RSAPSS}, 3072, "0xd", "0x0", "0x0"},
		{keystore.Spec{ID: "pss-4096", Algorithm: keystore.RSAPSS, Bits: 4096}, 4096, "0xd", "0x0", "0x0"},
		{keystore.Spec{ID: "pkcs1", Algorithm: keystore.RSAPKCS1, Bits: 3072}, 3072, "0x1", "0x0", "0x0"},
	} {
		t.Run(string(test.spec.ID), func(t *testing.T) {
			key, err := store.Generate(t.Context(), test.spec)
			if err != nil {
				t.Fatal(err)
			}
			if key.Algorithm != test.spec.Algorithm {
				t.Errorf("it is for %s", key.Algorithm)
			}
			if public, ok := key.Public.(*rsa.PublicKey); ok && public.N.BitLen() != test.bits {
				t.Errorf("it has %d bits", public.N.BitLen())
			}
			for name, want := range map[string]string{
				"CKA_ALLOWED_MECHANISMS": test.allowed, "CKA_KEY_TYPE": test.keyType, "CKA_KEY_GEN_MECHANISM": test.generate,
				"CKA_MODIFIABLE": "false", "CKA_COPYABLE": "false", "CKA_LOCAL": "true", "CKA_ALWAYS_SENSITIVE": "true",
				"CKA_NEVER_EXTRACTABLE": "true", "CKA_ALWAYS_AUTHENTICATE": "false", "CKA_WRAP_WITH_TRUSTED": "false",
			} {
				if got := key.Attributes[name]; got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			found, err := token.Find(t.Context(), test.spec.ID)
			if err != nil || found.Algorithm != test.spec.Algorithm || keystore.Drift(key.Attributes, found.Attributes) != nil {
				t.Errorf("found %+v, %v", found, err)
			}
			message := []byte("message")
			signature, err := store.SignAs(t.Context(), key.ID, key.Algorithm, key.Public, message)
			if err != nil || keystore.Verify(key.Algorithm, key.Public, message, signature) != nil {
				t.Errorf("sign: %v", err)
			}
		})
	}

	t.Run("an RSA key signs what it was made for and nothing else", func(t *testing.T) {
		for id, other := range map[keystore.ID]keystore.Algorithm{"pss": keystore.RSAPKCS1, "pkcs1": keystore.RSAPSS} {
			key, err := token.Find(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.SignAs(t.Context(), id, other, key.Public, []byte("m")); !errors.Is(err, keystore.ErrInvalid) {
				t.Errorf("the store lets key %q sign %s: %v", id, other, err)
			}
			if _, err := token.Sign(t.Context(), id, other, make([]byte, 32)); !errors.Is(err, keystore.ErrInvalid) {
				t.Errorf("the token lets key %q sign %s: %v", id, other, err)
			}
			if _, err := store.Sign(t.Context(), id, key.Public, []byte("m")); (err == nil) != (id == "pss") {
				t.Errorf("key %q as manifests have it: %v", id, err)
			}
			err = rawSign(t, token, c, id, map[keystore.Algorithm]uint{keystore.RSAPSS: wrapper.CKM_RSA_PKCS_PSS, keystore.RSAPKCS1: wrapper.CKM_RSA_PKCS}[other])
			if !errors.Is(err, wrapper.Error(wrapper.CKR_MECHANISM_INVALID)) {
				t.Errorf("SoftHSM lets key %q sign %s: %v", id, other, err)
			}
		}
	})
}

// rawSign lets another program with the PIN sign.
func rawSign(t *testing.T, token *pkcs11.Token, c pkcs11.Config, id keystore.ID, mechanism uint) error {
	t.Helper()
	ctx, session := rawSession(t, token, c)
	private := rawFind(t, ctx, session, wrapper.CKO_PRIVATE_KEY, string(id))
	var parameter any
	if mechanism == wrapper.CKM_RSA_PKCS_PSS {
		parameter = wrapper.NewPSSParams(wrapper.CKM_SHA256, wrapper.CKG_MGF1_SHA256, 32)
	}
	return ctx.SignInit(session, []*wrapper.Mechanism{wrapper.NewMechanism(mechanism, parameter)}, private[0])
}

// rawSession is one beside the token's, which share its login.
func rawSession(t *testing.T, token *pkcs11.Token, c pkcs11.Config) (*wrapper.Ctx, wrapper.SessionHandle) {
	t.Helper()
	ctx := wrapper.New(c.Module)
	session, err := ctx.OpenSession(token.Info().Slot, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ctx.CloseSession(session) })
	return ctx, session
}

func rawFind(t *testing.T, ctx *wrapper.Ctx, session wrapper.SessionHandle, class uint, label string) []wrapper.ObjectHandle {
	t.Helper()
	if err := ctx.FindObjectsInit(session, []*wrapper.Attribute{
		wrapper.NewAttribute(wrapper.CKA_CLASS, class), wrapper.NewAttribute(wrapper.CKA_TOKEN, true), wrapper.NewAttribute(wrapper.CKA_LABEL, label),
	}); err != nil {
		t.Fatal(err)
	}
	found, _, err := ctx.FindObjects(session, 10)
	if err == nil {
		err = ctx.FindObjectsFinal(session)
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// rawPair makes a key as another program would, with all that the policy asks for.
func rawPair(t *testing.T, ctx *wrapper.Ctx, session wrapper.SessionHandle, label string, number []byte, mechanism uint, public ...*wrapper.Attribute) {
	t.Helper()
	attr := wrapper.NewAttribute
	both := []*wrapper.Attribute{attr(wrapper.CKA_LABEL, label), attr(wrapper.CKA_ID, number), attr(wrapper.CKA_TOKEN, true)}
	if _, _, err := ctx.GenerateKeyPair(session, []*wrapper.Mechanism{wrapper.NewMechanism(mechanism, nil)},
		append(append([]*wrapper.Attribute{attr(wrapper.CKA_VERIFY, true)}, both...), public...),
		append([]*wrapper.Attribute{
			attr(wrapper.CKA_PRIVATE, true), attr(wrapper.CKA_SENSITIVE, true), attr(wrapper.CKA_EXTRACTABLE, false), attr(wrapper.CKA_SIGN, true),
			attr(wrapper.CKA_DECRYPT, false), attr(wrapper.CKA_UNWRAP, false), attr(wrapper.CKA_DERIVE, false), attr(wrapper.CKA_SIGN_RECOVER, false),
		}, both...)); err != nil {
		t.Fatal(err)
	}
}

var p256 = wrapper.NewAttribute(wrapper.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})

// What an RSA key of another program is for nobody knows, so it is not used.
func TestForeignRSAKey(t *testing.T) {
	c := keystoretest.Config(t)
	token := keystoretest.Open(t, c)
	ctx, session := rawSession(t, token, c)
	rawPair(t, ctx, session, "foreign", []byte{1}, wrapper.CKM_RSA_PKCS_KEY_PAIR_GEN,
		wrapper.NewAttribute(wrapper.CKA_MODULUS_BITS, 3072), wrapper.NewAttribute(wrapper.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	if key, err := token.Find(t.Context(), "foreign"); !errors.Is(err, keystore.ErrInvalid) {
		t.Errorf("got %+v, %v", key, err)
	}
	if _, err := token.Sign(t.Context(), "foreign", keystore.RSAPSS, make([]byte, 32)); !errors.Is(err, keystore.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if err := token.Destroy(t.Context(), "foreign"); err != nil {
		t.Error(err)
	}
}

// A key that is used without copies cannot be changed or copied by others who have the PIN. Where sessions copy keys they may be,
// as SoftHSM copies none that cannot be changed; the canary is never copied.
func TestKeysAreFixed(t *testing.T) {
	for _, copies := range []bool{false, true} {
		c := keystoretest.Config(t)
		c.SessionCopies = copies
		token := keystoretest.Open(t, c)
		for _, id := range []keystore.ID{"k", keystore.CanaryID} {
			if _, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}); err != nil {
				t.Fatal(err)
			}
			ctx, session := rawSession(t, token, c)
			private := rawFind(t, ctx, session, wrapper.CKO_PRIVATE_KEY, string(id))[0]
			may := copies && id != keystore.CanaryID
			for _, change := range []*wrapper.Attribute{
				wrapper.NewAttribute(wrapper.CKA_LABEL, "other"), wrapper.NewAttribute(wrapper.CKA_ID, []byte{1}),
				wrapper.NewAttribute(wrapper.CKA_SIGN, false), wrapper.NewAttribute(wrapper.CKA_DERIVE, true),
			} {
				if may {
					break
				}
				if err := ctx.SetAttributeValue(session, private, []*wrapper.Attribute{change}); err == nil {
					t.Errorf("copies %v, key %q: attribute 0x%x can be changed", copies, id, change.Type)
				}
			}
			_, err := ctx.CopyObject(session, private, []*wrapper.Attribute{wrapper.NewAttribute(wrapper.CKA_TOKEN, false)})
			if may != (err == nil) {
				t.Errorf("copies %v, key %q: copying says %v", copies, id, err)
			}
		}
	}
}

// Nothing of a destroyed key stays, also when a crash came in between.
func TestDestroyLeavesNothing(t *testing.T) {
	c := keystoretest.Config(t)
	token := keystoretest.Open(t, c)
	ctx, session := rawSession(t, token, c)
	for _, left := range []string{"everything", "no private half", "no private half and no certificate"} {
		key, err := token.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		if err := token.PutCertificate(t.Context(), "k", selfSigned(t, token, key, "one")); err != nil {
			t.Fatal(err)
		}
		var classes []uint
		switch left {
		case "no private half":
			classes = []uint{wrapper.CKO_PRIVATE_KEY}
		case "no private half and no certificate":
			classes = []uint{wrapper.CKO_PRIVATE_KEY, wrapper.CKO_CERTIFICATE}
		}
		for _, class := range classes {
			if err := ctx.DestroyObject(session, rawFind(t, ctx, session, class, "k")[0]); err != nil {
				t.Fatal(err)
			}
		}
		if err := token.Destroy(t.Context(), "k"); err != nil {
			t.Fatalf("%s: %v", left, err)
		}
		for _, class := range []uint{wrapper.CKO_PRIVATE_KEY, wrapper.CKO_PUBLIC_KEY, wrapper.CKO_CERTIFICATE} {
			if found := rawFind(t, ctx, session, class, "k"); len(found) > 0 {
				t.Errorf("%s: an object of class %d stays", left, class)
			}
		}
		if err := token.Destroy(t.Context(), "k"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: again: %v", left, err)
		}
	}
}

func TestFindURI(t *testing.T) {
	c := keystoretest.Config(t)
	token := keystoretest.Open(t, c)
	keys := make(map[keystore.ID]keystore.Key)
	for _, id := range []keystore.ID{"a", "b"} {
		key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = key
	}
	number := func(id keystore.ID) string {
		b, err := hex.DecodeString(keys[id].Attributes["CKA_ID"])
		if err != nil || len(b) != 16 {
			t.Fatal(err, b)
		}
		return string(b)
	}
	ctx, session := rawSession(t, token, c)
	rawPair(t, ctx, session, "twin-1", []byte("twin"), wrapper.CKM_EC_KEY_PAIR_GEN, p256)
	rawPair(t, ctx, session, "twin-2", []byte("twin"), wrapper.CKM_EC_KEY_PAIR_GEN, p256)
	rawPair(t, ctx, session, "no id", []byte("odd"), wrapper.CKM_EC_KEY_PAIR_GEN, p256)
	whole := token.Info().URI()
	whole.Object, whole.ID, whole.Type, whole.ModulePath = "b", number("b"), pkcs11.URIPrivate, c.Module
	for _, test := range []struct {
		uri  pkcs11.URI
		want keystore.ID
		err  error
	}{
		{whole, "b", nil},
		{pkcs11.URI{Object: "a"}, "a", nil},
		{pkcs11.URI{ID: number("a")}, "a", nil},
		{pkcs11.URI{Object: "twin-2", ID: "twin", Type: pkcs11.URIPublic}, "twin-2", nil},
		{pkcs11.URI{Object: "a", ID: number("b")}, "", keystore.ErrNotFound},
		{pkcs11.URI{Object: "c"}, "", keystore.ErrNotFound},
		{pkcs11.URI{Object: "a", Token: "other"}, "", keystore.ErrNotFound},
		{pkcs11.URI{Object: "a", Serial: "0"}, "", keystore.ErrNotFound},
		{pkcs11.URI{Object: "a", ModulePath: "/other.so"}, "", keystore.ErrNotFound},
		{pkcs11.URI{ID: "twin"}, "", keystore.ErrInvalid},
		{pkcs11.URI{ID: "odd"}, "", keystore.ErrInvalid},
		{pkcs11.URI{Object: "a", Type: pkcs11.URICert}, "", keystore.ErrInvalid},
		{pkcs11.URI{Object: "a", ModuleName: "x"}, "", keystore.ErrInvalid},
		{pkcs11.URI{Object: "a", SlotID: "x"}, "", keystore.ErrInvalid},
		{pkcs11.URI{Token: c.TokenLabel}, "", keystore.ErrInvalid},
	} {
		got, err := token.FindURI(t.Context(), test.uri)
		if !errors.Is(err, test.err) || got.ID != test.want || err == nil && test.want < "c" && got.KeyID != keys[test.want].KeyID {
			t.Errorf("%s: got %+v, %v", test.uri, got, err)
		}
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if _, err := token.FindURI(left, whole); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("after the caller has left: %v", err)
	}
}

// The token checks its arithmetic with a published vector of each algorithm.
func TestKnownAnswersOfEachAlgorithm(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	token := keystoretest.Open(t, keystoretest.Config(t))
	ran, err := token.KnownAnswers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range keystore.Algorithms() {
		if !strings.Contains(strings.Join(ran, "\n"), "verify "+string(a)+" (") {
			t.Errorf("none for %s among %q", a, ran)
		}
	}
}
