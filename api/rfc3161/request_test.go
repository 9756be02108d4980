package rfc3161

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
)

func TestRequestRoundTrip(t *testing.T) {
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, nonce := range []*big.Int{nil, big.NewInt(0), big.NewInt(-1), big.NewInt(128), new(big.Int).Lsh(big.NewInt(1), 200)} {
			for _, policy := range []asn1.ObjectIdentifier{nil, testPolicy} {
				for _, certReq := range []bool{false, true} {
					for _, null := range []bool{false, true} {
						r := Request{Hash: hash, Imprint: digest(hash, signature), Nonce: nonce, Policy: policy, CertReq: certReq, null: null}
						der, err := r.Encode()
						if err != nil {
							t.Fatal(err)
						}
						got, err := ParseRequest(der)
						if err != nil {
							t.Fatal(err)
						}
						again, err := got.Encode()
						if err != nil {
							t.Fatal(err)
						}
						if !bytes.Equal(der, again) || !reflect.DeepEqual(got.Imprint, r.Imprint) || got.CertReq != certReq {
							t.Errorf("%+v is read as %+v", r, got)
						}
					}
				}
			}
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	version := []byte{tagInteger, 1, 1}
	imprint := encodeImprint(crypto.SHA256, true, imprintOf(signature))
	sha1 := element(tagSequence, element(tagSequence, []byte("\x06\x05\x2b\x0e\x03\x02\x1a")), element(tagOctetString, make([]byte, 20)))
	yes := []byte{tagBoolean, 1, 0xff}
	extension := element(0xa0, element(tagSequence, []byte(oidTSTInfo), element(tagOctetString)))
	tests := []struct {
		name      string
		der       []byte
		want      FailInfo
		malformed bool
	}{
		{"nothing", nil, BadDataFormat, true},
		{"not DER", []byte{0x30, 0x80, 0, 0}, BadDataFormat, true},
		{"too large", make([]byte, MaxRequest+1), BadDataFormat, true},
		{"too large, and DER", element(tagSequence, version, imprint, element(tagInteger, bytes.Repeat([]byte{1}, MaxRequest))), BadDataFormat, true},
		{"an INTEGER", version, BadDataFormat, true},
		{"version 2", element(tagSequence, []byte{tagInteger, 1, 2}, imprint), BadRequest, true},
		{"huge version", element(tagSequence, element(tagInteger, bytes.Repeat([]byte{1}, 40)), imprint), BadDataFormat, true},
		{"no imprint", element(tagSequence, version), BadDataFormat, true},
		{"SHA-1", element(tagSequence, version, sha1), BadAlg, false},
		{"imprint too short", element(tagSequence, version, encodeImprint(crypto.SHA256, true, imprintOf(signature)[:31])), BadDataFormat, false},
		{"imprint too long", element(tagSequence, version, encodeImprint(crypto.SHA256, true, make([]byte, 33))), BadDataFormat, false},
		{"nonce too long", element(tagSequence, version, imprint, element(tagInteger, bytes.Repeat([]byte{1}, 80))), BadRequest, false},
		{"policy beyond 31 bits", element(tagSequence, version, imprint, []byte("\x06\x0a\x69\x81\x83\x83\x83\x83\x83\x83\x83\x03")), UnacceptedPolicy, false},
		{"certReq FALSE, written", element(tagSequence, version, imprint, []byte{tagBoolean, 1, 0}), BadDataFormat, true},
		{"an extension", element(tagSequence, version, imprint, yes, extension), UnacceptedExtension, false},
		{"members out of order", element(tagSequence, version, imprint, yes, []byte{tagInteger, 1, 1}), BadDataFormat, true},
		{"a time that the client wants", element(tagSequence, version, imprint, encodeTime(genTime)), BadDataFormat, true},
		{"trailing bytes", append(element(tagSequence, version, imprint), 0), BadDataFormat, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := ParseRequest(test.der)
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("read as %+v, error %v", r, err)
			}
			if refusal.FailInfo != test.want || errors.Is(err, ErrMalformed) != test.malformed {
				t.Errorf("%v, expected %v", err, test.want)
			}
		})
	}
}

func TestEncodeRefusesRequests(t *testing.T) {
	for _, r := range []Request{
		{},
		{Hash: crypto.MD5, Imprint: make([]byte, 16)},
		{Hash: crypto.SHA256, Imprint: make([]byte, 31)},
		{Hash: crypto.SHA256, Imprint: make([]byte, 32), Policy: asn1.ObjectIdentifier{7}},
	} {
		if der, err := r.Encode(); err == nil {
			t.Errorf("%+v is written as %x", r, der)
		}
	}
}

func TestResponses(t *testing.T) {
	a := newAuthority(t, "P-256")
	token := a.token(t)
	t.Run("granted", func(t *testing.T) {
		got, err := ParseResponse(EncodeResponse(token))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Raw, token) {
			t.Error("the token is another")
		}
	})
	t.Run("refused", func(t *testing.T) {
		for _, f := range []FailInfo{
			BadAlg, BadRequest, BadDataFormat, TimeNotAvailable, UnacceptedPolicy, UnacceptedExtension, AddInfoNotAvailable, SystemFailure,
		} {
			for _, text := range []string{"", "why – in words"} {
				_, err := ParseResponse(EncodeRefusal(f, text))
				var refusal *Refusal
				if !errors.As(err, &refusal) || refusal.FailInfo != f || refusal.Text != text {
					t.Errorf("%v %q is read as %v", f, text, err)
				}
			}
		}
	})
	t.Run("a text that is too long or not UTF-8", func(t *testing.T) {
		for _, text := range []string{strings.Repeat("ü", 5000), "\xff\xfe", strings.Repeat("\xff", 5000)} {
			_, err := ParseResponse(EncodeRefusal(BadAlg, text))
			var refusal *Refusal
			if !errors.As(err, &refusal) || len(refusal.Text) == 0 || len(refusal.Text) > maxText {
				t.Errorf("%.20q is read as %v", text, err)
			}
		}
	})
	t.Run("an unknown reason is a system failure", func(t *testing.T) {
		var refusal *Refusal
		if _, err := ParseResponse(EncodeRefusal(99, "")); !errors.As(err, &refusal) || refusal.FailInfo != SystemFailure {
			t.Errorf("read as %v", err)
		}
	})

	status := func(n byte, members ...[]byte) []byte {
		return element(tagSequence, append([][]byte{{tagInteger, 1, n}}, members...)...)
	}
	text := element(tagSequence, element(tagUTF8String, []byte("no")))
	for _, test := range []struct {
		name string
		der  []byte
	}{
		{"granted without a token", element(tagSequence, status(0))},
		{"granted with two tokens", element(tagSequence, status(0), token, token)},
		{"granted with a reason for refusing", element(tagSequence, status(0, []byte{tagBitString, 2, 7, 0x80}), token)},
		{"refused with a token", element(tagSequence, status(2), token)},
		{"unknown status", element(tagSequence, status(6))},
		{"negative status", element(tagSequence, status(0xff))},
		{"two reasons", element(tagSequence, status(2, []byte{tagBitString, 2, 5, 0xa0}))},
		{"a reason with trailing zeros", element(tagSequence, status(2, []byte{tagBitString, 2, 6, 0x80}))},
		{"an unknown reason", element(tagSequence, status(2, []byte{tagBitString, 2, 6, 0x40}))},
		{"no reason in the list", element(tagSequence, status(2, []byte{tagBitString, 1, 0}))},
		{"no text in the list", element(tagSequence, status(2, element(tagSequence)))},
		{"text of another type", element(tagSequence, status(2, element(tagSequence, []byte{0x16, 1, 'x'})))},
		{"reason before text", element(tagSequence, status(2, []byte{tagBitString, 2, 7, 0x80}, text))},
		{"trailing bytes", append(EncodeResponse(token), 0)},
		{"a bare token", token},
		{"too large", make([]byte, maxResponse+1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := ParseResponse(test.der); !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v, expected %v", err, ErrMalformed)
			}
		})
	}
	t.Run("granted with modifications", func(t *testing.T) {
		if _, err := ParseResponse(element(tagSequence, status(1, text), token)); err != nil {
			t.Error(err)
		}
	})
}
