package keystore_test

import (
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"

	"github.com/signetd/signet/keystore"
)

func rsaOf(bits uint) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
}

func TestSpec(t *testing.T) {
	for _, test := range []struct {
		algorithm keystore.Algorithm
		bits      int
		want      int // bits of RSA; -1: refused
	}{
		{keystore.ECDSAP256, 0, 0}, {keystore.Ed25519, 0, 0}, {keystore.ECDSAP256, 256, -1}, {keystore.ECDSAP384, 3072, -1},
		{keystore.RSAPSS, 0, 3072}, {keystore.RSAPSS, 3072, 3072}, {keystore.RSAPKCS1, 4096, 4096},
		{keystore.RSAPSS, 2048, -1}, {keystore.RSAPKCS1, 8192, -1}, {keystore.RSAPSS, -1, -1}, {"rot13", 0, -1},
	} {
		s := keystore.Spec{ID: "k", Algorithm: test.algorithm, Bits: test.bits}
		err := s.Validate()
		if test.want < 0 {
			if !errors.Is(err, keystore.ErrInvalid) {
				t.Errorf("%+v: got %v", s, err)
			}
		} else if err != nil || s.RSABits() != test.want {
			t.Errorf("%+v: got %d, %v", s, s.RSABits(), err)
		}
	}
}

func TestSpecCheck(t *testing.T) {
	s := keystore.Spec{ID: "k", Algorithm: keystore.RSAPKCS1}
	good := keystore.Key{ID: "k", Algorithm: keystore.RSAPKCS1, Public: rsaOf(3072)}
	if err := s.Check(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*keystore.Key){
		"another id":        func(k *keystore.Key) { k.ID = "l" },
		"another algorithm": func(k *keystore.Key) { k.Algorithm = keystore.RSAPSS },
		"another kind":      func(k *keystore.Key) { k.Public = ed25519.PublicKey(make([]byte, 32)) },
		"more bits":         func(k *keystore.Key) { k.Public = rsaOf(4096) },
		"a few bits more":   func(k *keystore.Key) { k.Public = rsaOf(3073) },
		"too few bits":      func(k *keystore.Key) { k.Public = rsaOf(3071) },
		"no public key":     func(k *keystore.Key) { k.Public = nil },
	} {
		key := good
		change(&key)
		if err := s.Check(key); !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDriftOfAttributes(t *testing.T) {
	recorded := map[string]string{"CKA_LOCAL": "true", "CKA_MODIFIABLE": "false", "CKA_ALLOWED_MECHANISMS": "0xd"}
	for name, test := range map[string]struct {
		change func(map[string]string)
		names  []string
	}{
		"nothing":         {func(map[string]string) {}, nil},
		"one that is new": {func(m map[string]string) { m["CKA_COPYABLE"] = "true" }, nil},
		"another":         {func(m map[string]string) { m["CKA_MODIFIABLE"] = "true" }, []string{"CKA_MODIFIABLE"}},
		"to the better":   {func(m map[string]string) { m["CKA_ALLOWED_MECHANISMS"] = "" }, []string{"CKA_ALLOWED_MECHANISMS"}},
		"unknown now":     {func(m map[string]string) { delete(m, "CKA_LOCAL") }, []string{"CKA_LOCAL"}},
		"everything":      {func(m map[string]string) { clear(m) }, []string{"CKA_ALLOWED_MECHANISMS", "CKA_LOCAL", "CKA_MODIFIABLE"}},
	} {
		now := maps.Clone(recorded)
		test.change(now)
		err := keystore.Drift(recorded, now)
		if (len(test.names) > 0) != errors.Is(err, keystore.ErrDrift) || (err != nil) != errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("%s: got %v", name, err)
		}
		for _, want := range test.names {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not name %s", name, err, want)
			}
		}
	}
}
