package pkcs11

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

func ulongs(numbers ...uint) []byte {
	var b []byte
	for _, n := range numbers {
		b = append(b, ulong(n)...)
	}
	return b
}

func TestNumber64(t *testing.T) {
	for _, test := range []struct {
		value []byte
		want  uint64
		ok    bool
	}{
		{ulong(0x1041), 0x1041, true},
		{ulong(math.MaxUint), math.MaxUint64, true},
		{binary.NativeEndian.AppendUint32(nil, 0x1041), 0x1041, true},
		{binary.NativeEndian.AppendUint32(nil, math.MaxUint32), math.MaxUint64, true}, // CK_UNAVAILABLE_INFORMATION in both sizes
		{nil, 0, false}, {make([]byte, 1), 0, false}, {make([]byte, 3), 0, false}, {make([]byte, 16), 0, false},
	} {
		if got, ok := number64(test.value); got != test.want || ok != test.ok {
			t.Errorf("%x: got %x, %v", test.value, got, ok)
		}
	}
}

func TestMechanismList(t *testing.T) {
	for _, test := range []struct {
		value []byte
		want  []uint64
		ok    bool
	}{
		{nil, nil, true}, {ulongs(13), []uint64{13}, true}, {ulongs(13, 1, 13), []uint64{1, 13}, true},
		{make([]byte, 7), nil, false}, {make([]byte, 9), nil, false}, {make([]byte, 8*(maxMechanisms+1)), nil, false},
	} {
		if got, ok := mechanismList(test.value); !slices.Equal(got, test.want) || ok != test.ok {
			t.Errorf("%x: got %v, %v", test.value, got, ok)
		}
	}
}

func TestRSAKind(t *testing.T) {
	pss, pkcs1 := keyNumber("k", keystore.RSAPSS), keyNumber("k", keystore.RSAPKCS1)
	for _, test := range []struct {
		name            string
		allowed, number []byte
		want            keystore.Algorithm
		err             error
	}{
		{"PSS", ulongs(pkcs11.CKM_RSA_PKCS_PSS), pss, keystore.RSAPSS, nil},
		{"PKCS #1", ulongs(pkcs11.CKM_RSA_PKCS), pkcs1, keystore.RSAPKCS1, nil},
		{"PSS, by CKA_ID", nil, pss, keystore.RSAPSS, nil},
		{"PKCS #1, by CKA_ID", nil, pkcs1, keystore.RSAPKCS1, nil},
		{"PSS of another program", ulongs(pkcs11.CKM_RSA_PKCS_PSS), []byte{1}, keystore.RSAPSS, nil},
		{"PKCS #1 of another program", ulongs(pkcs11.CKM_RSA_PKCS), nil, keystore.RSAPKCS1, nil},
		{"nothing", nil, nil, "", keystore.ErrInvalid},
		{"only another CKA_ID", nil, keyNumber("other", keystore.RSAPSS), "", keystore.ErrInvalid},
		{"one against the other", ulongs(pkcs11.CKM_RSA_PKCS), pss, "", keystore.ErrPolicy},
		{"the other against the one", ulongs(pkcs11.CKM_RSA_PKCS_PSS), pkcs1, "", keystore.ErrPolicy},
		{"both mechanisms", ulongs(pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_PKCS_PSS), pss, "", keystore.ErrPolicy},
		{"another mechanism", ulongs(pkcs11.CKM_RSA_X_509), pss, "", keystore.ErrPolicy},
		{"one more", ulongs(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.CKM_RSA_X_509), pss, "", keystore.ErrPolicy},
		{"no list", make([]byte, 3), pss, "", keystore.ErrUnavailable},
	} {
		got, err := rsaKind("k", test.allowed, test.number)
		if got.algorithm != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: got %q, %v", test.name, got.algorithm, err)
		}
	}
}

// FuzzRSAKind: an RSA key is for one algorithm that each thing told of it allows, or for none.
func FuzzRSAKind(f *testing.F) {
	f.Add(ulongs(pkcs11.CKM_RSA_PKCS), keyNumber("k", keystore.RSAPKCS1))
	f.Add(ulongs(pkcs11.CKM_RSA_PKCS_PSS), keyNumber("k", keystore.RSAPSS))
	f.Add([]byte(nil), keyNumber("k", keystore.RSAPSS))
	f.Add(ulongs(1, 13), []byte{1})
	f.Fuzz(func(t *testing.T, allowed, number []byte) {
		k, err := rsaKind("k", allowed, number)
		if err != nil {
			if k.algorithm != "" {
				t.Errorf("refused, and yet %q", k.algorithm)
			}
			return
		}
		list, ok := mechanismList(allowed)
		named := slices.Equal(number, keyNumber("k", k.algorithm))
		if !ok || len(list) > 1 || len(list) == 1 && list[0] != uint64(k.sign) || len(list) == 0 && !named {
			t.Errorf("%x, %x: %q", allowed, number, k.algorithm)
		}
	})
}

func TestKeyNumbersDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for _, id := range []keystore.ID{"a", "b", "a.rsa-pkcs1-sha256", "arsa-pkcs1-sha256"} {
		for _, a := range []keystore.Algorithm{keystore.RSAPSS, keystore.RSAPKCS1} {
			n := string(keyNumber(id, a))
			if seen[n] || len(n) != 16 {
				t.Errorf("%s, %s: %x", id, a, n)
			}
			seen[n] = true
		}
	}
}

func TestDigestInfo(t *testing.T) {
	k, err := kindOf(keystore.RSAPKCS1)
	if err != nil {
		t.Fatal(err)
	}
	want := der(t, struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue},
		make([]byte, 32),
	})
	if got := k.input(make([]byte, 32)); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
