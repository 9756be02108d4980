package pkcs11_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

type tokenSigner struct {
	ctx   context.Context
	token *pkcs11.Token
	key   keystore.Key
}

func (s tokenSigner) Public() crypto.PublicKey { return s.key.Public }

func (s tokenSigner) Sign(_ io.Reader, input []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.token.Sign(s.ctx, s.key.ID, s.key.Algorithm, input)
}

// selfSigned makes a certificate of a key in the token.
func selfSigned(t *testing.T, token *pkcs11.Token, key keystore.Key, name string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x80), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	if key.Algorithm == keystore.RSAPSS {
		template.SignatureAlgorithm = x509.SHA256WithRSAPSS
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public, tokenSigner{t.Context(), token, key})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestCertificates(t *testing.T) {
	t.Attr("requirement", "B-31")
	c := keystoretest.Config(t)
	token := keystoretest.Open(t, c)
	ctx, session := rawSession(t, token, c)
	for _, a := range keystore.Algorithms() {
		t.Run(string(a), func(t *testing.T) {
			id := keystore.ID("key-" + string(a))
			key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: a})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := token.Certificate(t.Context(), id); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("before there is one: %v", err)
			}
			if err := token.RemoveCertificate(t.Context(), id); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("removed before there is one: %v", err)
			}
			first, second := selfSigned(t, token, key, "first"), selfSigned(t, token, key, "second")
			for _, put := range []*x509.Certificate{first, first, second, first} {
				if err := token.PutCertificate(t.Context(), id, put); err != nil {
					t.Fatal(err)
				}
				got, err := token.Certificate(t.Context(), id)
				if err != nil || !got.Equal(put) {
					t.Fatalf("got %v, %v", got, err)
				}
			}
			objects := rawFind(t, ctx, session, wrapper.CKO_CERTIFICATE, string(id))
			if len(objects) != 1 {
				t.Fatalf("%d objects", len(objects))
			}
			// What other tools look for.
			attributes, err := ctx.GetAttributeValue(session, objects[0], []*wrapper.Attribute{
				wrapper.NewAttribute(wrapper.CKA_ID, nil), wrapper.NewAttribute(wrapper.CKA_SUBJECT, nil),
				wrapper.NewAttribute(wrapper.CKA_ISSUER, nil), wrapper.NewAttribute(wrapper.CKA_SERIAL_NUMBER, nil),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", attributes[0].Value); got != key.Attributes["CKA_ID"] {
				t.Errorf("CKA_ID is %s, the key's %s", got, key.Attributes["CKA_ID"])
			}
			if !bytes.Equal(attributes[1].Value, first.RawSubject) || !bytes.Equal(attributes[2].Value, first.RawIssuer) ||
				!bytes.Equal(attributes[3].Value, []byte{2, 2, 0, 0x80}) {
				t.Errorf("%x %x %x", attributes[1].Value, attributes[2].Value, attributes[3].Value)
			}
			if err := token.RemoveCertificate(t.Context(), id); err != nil {
				t.Error(err)
			}
			if _, err := token.Certificate(t.Context(), id); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("after it was removed: %v", err)
			}
		})
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	c := keystoretest.Config(t)
	token := keystoretest.Open(t, c)
	var keys []keystore.Key
	for _, id := range []keystore.ID{"a", "b"} {
		key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	right, other := selfSigned(t, token, keys[0], "a"), selfSigned(t, token, keys[1], "b")
	for name, test := range map[string]struct {
		id   keystore.ID
		put  *x509.Certificate
		want error
	}{
		"another key's":  {"a", other, keystore.ErrInvalid},
		"none":           {"a", nil, keystore.ErrInvalid},
		"empty":          {"a", &x509.Certificate{PublicKey: keys[0].Public}, keystore.ErrInvalid},
		"too long":       {"a", &x509.Certificate{PublicKey: keys[0].Public, Raw: make([]byte, 1<<17)}, keystore.ErrInvalid},
		"of no key":      {"c", right, keystore.ErrNotFound},
		"of no key's id": {"-", right, keystore.ErrInvalid},
	} {
		if err := token.PutCertificate(t.Context(), test.id, test.put); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := token.Certificate(t.Context(), "a"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a refused certificate stays: %v", err)
	}

	// What a crash or another program left: one that is right, one that is not, one that is none.
	ctx, session := rawSession(t, token, c)
	leave := func(value []byte) {
		t.Helper()
		if _, err := ctx.CreateObject(session, []*wrapper.Attribute{
			wrapper.NewAttribute(wrapper.CKA_CLASS, wrapper.CKO_CERTIFICATE), wrapper.NewAttribute(wrapper.CKA_CERTIFICATE_TYPE, wrapper.CKC_X_509),
			wrapper.NewAttribute(wrapper.CKA_TOKEN, true), wrapper.NewAttribute(wrapper.CKA_PRIVATE, false), wrapper.NewAttribute(wrapper.CKA_LABEL, "a"),
			wrapper.NewAttribute(wrapper.CKA_SUBJECT, other.RawSubject), wrapper.NewAttribute(wrapper.CKA_VALUE, value),
		}); err != nil {
			t.Fatal(err)
		}
	}
	leave([]byte("no certificate"))
	if _, err := token.Certificate(t.Context(), "a"); !errors.Is(err, keystore.ErrInvalid) {
		t.Errorf("what is none: %v", err)
	}
	leave(other.Raw)
	leave(right.Raw)
	leave(right.Raw)
	if _, err := token.Certificate(t.Context(), "a"); !errors.Is(err, keystore.ErrInvalid) {
		t.Errorf("several: %v", err)
	}
	if err := token.PutCertificate(t.Context(), "a", right); err != nil {
		t.Fatal(err)
	}
	if got, err := token.Certificate(t.Context(), "a"); err != nil || !got.Equal(right) {
		t.Errorf("after it was stored again: %v", err)
	}
}

func TestItems(t *testing.T) {
	c := keystoretest.Config(t)
	token := keystoretest.Open(t, c)
	list := func() []pkcs11.Item {
		t.Helper()
		var items []pkcs11.Item
		for item, err := range token.Items(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			items = append(items, item)
		}
		return items
	}
	if items := list(); len(items) != 0 {
		t.Errorf("an empty token has %+v", items)
	}
	const many = 50 // several pages
	keys := make(map[string]keystore.Key)
	for i := range many {
		key, err := token.Generate(t.Context(), keystore.Spec{ID: keystore.ID(fmt.Sprintf("key-%02d", i)), Algorithm: keystore.ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		keys[string(key.ID)] = key
	}
	pkcs1, err := token.Generate(t.Context(), keystore.Spec{ID: "pkcs1", Algorithm: keystore.RSAPKCS1})
	if err != nil {
		t.Fatal(err)
	}
	keys["pkcs1"] = pkcs1
	certificate := selfSigned(t, token, pkcs1, "pkcs1")
	if err := token.PutCertificate(t.Context(), "pkcs1", certificate); err != nil {
		t.Fatal(err)
	}
	ctx, session := rawSession(t, token, c)
	rawPair(t, ctx, session, "no id", []byte("odd"), wrapper.CKM_EC_KEY_PAIR_GEN, p256)
	rawPair(t, ctx, session, "p192", []byte{2}, wrapper.CKM_EC_KEY_PAIR_GEN,
		wrapper.NewAttribute(wrapper.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01}))
	rawPair(t, ctx, session, "half", []byte{1}, wrapper.CKM_EC_KEY_PAIR_GEN, p256)
	if err := ctx.DestroyObject(session, rawFind(t, ctx, session, wrapper.CKO_PUBLIC_KEY, "half")[0]); err != nil {
		t.Fatal(err)
	}

	items := list()
	if len(items) != many+4 || !slices.IsSortedFunc(items, func(a, b pkcs11.Item) int { return bytes.Compare([]byte(a.Label), []byte(b.Label)) }) {
		t.Fatalf("%d items", len(items))
	}
	for _, item := range items {
		switch item.Label {
		case "no id", "p192", "half":
			if !errors.Is(item.Err, keystore.ErrInvalid) || item.Key.Public != nil || item.Key.Attributes["CKA_EXTRACTABLE"] != "false" {
				t.Errorf("%+v", item)
			}
			continue
		}
		want := keys[item.Label]
		if item.Err != nil || item.Key.KeyID != want.KeyID || item.Key.Algorithm != want.Algorithm ||
			keystore.Drift(want.Attributes, item.Key.Attributes) != nil || item.Private != 1 || item.Public != 1 || item.BadCertificates != 0 {
			t.Errorf("%+v", item)
		}
		if n := len(item.Certificates); item.Label == "pkcs1" && (n != 1 || !item.Certificates[0].Equal(certificate)) || item.Label != "pkcs1" && n != 0 {
			t.Errorf("%s has the certificates %v", item.Label, item.Certificates)
		}
		uri, err := pkcs11.ParseURI(item.URI.String())
		if err != nil {
			t.Fatal(err)
		}
		if key, err := token.FindURI(t.Context(), uri); err != nil || key.KeyID != want.KeyID {
			t.Errorf("%s finds %v, %v", uri, key, err)
		}
	}

	t.Run("what changes while it is listed", func(t *testing.T) {
		seen := 0
		for item, err := range token.Items(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen == 1 {
				if err := token.Destroy(t.Context(), "key-49"); err != nil {
					t.Fatal(err)
				}
			}
			if item.Label == "key-49" {
				t.Error("a destroyed key is listed")
			}
		}
		if seen != many+3 {
			t.Errorf("%d items", seen)
		}
	})
	t.Run("an early end", func(t *testing.T) {
		for range token.Items(t.Context()) {
			break
		}
		left, leave := context.WithCancel(t.Context())
		defer leave()
		var last error
		for _, err := range token.Items(left) {
			leave()
			last = err
		}
		if !errors.Is(last, keystore.ErrUnavailable) {
			t.Errorf("got %v", last)
		}
	})
	t.Run("the token is set up anew", func(t *testing.T) {
		var last error
		reset := false
		for _, err := range token.Items(t.Context()) {
			if last = err; !reset {
				reset = true
				if err := token.Reset(t.Context(), token.Epoch(), errors.New("the test wants it")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !errors.Is(last, keystore.ErrUnavailable) {
			t.Errorf("got %v", last)
		}
	})
}
