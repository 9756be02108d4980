package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"
	"time"
)

// Every single bit of a token counts: with any one flipped, it does not verify.
func TestEveryBitCounts(t *testing.T) {
	withRoot := func(a *authority) []byte {
		f := newForge(t, a)
		f.certificates = append(f.certificates, a.root.Raw)
		return f.token()
	}
	tests := []struct {
		name  string
		token func() (der []byte, a *authority)
	}{
		{"our own", func() ([]byte, *authority) { a := newAuthority(t, "P-256"); return a.token(t), a }},
		{"with an intermediate certificate", func() ([]byte, *authority) { a := newDeepAuthority(t, "P-256"); return a.token(t), a }},
		{"with the root", func() ([]byte, *authority) { a := newAuthority(t, "P-256"); return withRoot(a), a }},
		{"RSA PSS", func() ([]byte, *authority) { a := newAuthority(t, "RSA"); return a.token(t), a }},
		{"Ed25519", func() ([]byte, *authority) { a := newAuthority(t, "Ed25519"); return a.token(t), a }},
		{"another authority's", func() ([]byte, *authority) {
			a := newAuthority(t, "P-256")
			f := newForge(t, a)
			f.info[infoAccuracy] = nil
			f.digests = element(tagSequence, []byte(oidSHA256), []byte(derNull))
			f.signerDigest = f.digests
			f.attributes["\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05"] = element(0x17, []byte("261121093000Z"))
			return f.token(), a
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			requirement(t, "11.10(a)", "B-41")
			t.Parallel()
			der, a := test.token()
			if _, err := judge(der, a.options()); err != nil {
				t.Fatal(err)
			}
			flipped := bytes.Clone(der)
			for i := range 8 * len(der) {
				flipped[i/8] ^= 0x80 >> (i % 8)
				if _, err := judge(flipped, a.options()); err == nil {
					t.Errorf("verifies with bit %d of byte %d flipped (%#02x)", i%8, i/8, der[i/8])
				}
				flipped[i/8] = der[i/8]
			}
		})
	}
}

// A token that is cut, or that has something between its members, is refused.
func TestCutAndStretched(t *testing.T) {
	a := newAuthority(t, "P-256")
	der := a.token(t)
	for n := range der {
		if _, err := Parse(der[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("the first %d bytes: error %v, expected %v", n, err, ErrMalformed)
		}
		for _, b := range []byte{0, 5, 0x30, 0xff} {
			longer := append(append(bytes.Clone(der[:n]), b), der[n:]...)
			if _, err := judge(longer, a.options()); err == nil {
				t.Fatalf("verifies with %#02x put in at %d", b, n)
			}
		}
	}
}

// No member of any SEQUENCE or SET has room beside it, neither in what is signed nor around it.
func TestNothingBeside(t *testing.T) {
	a := newDeepAuthority(t, "P-256")
	whole := func(t *testing.T, f *forge) {
		der := f.token()
		if _, err := judge(der, a.options()); err != nil {
			t.Fatal(err)
		}
		elements := 0
		for k := 1; ; k++ {
			stuffed, ok := stuff(der, k)
			if !ok {
				break
			}
			elements++
			if _, err := judge(stuffed, a.options()); err == nil {
				t.Errorf("verifies with something more in element %d", k)
			}
		}
		if elements < 50 {
			t.Errorf("only %d elements", elements)
		}
	}
	full := func() *forge {
		f := newForge(t, a)
		f.certificates = append(f.certificates, a.intermediate.Raw)
		f.info[infoAccuracy] = encodeAccuracy(500_100 * time.Microsecond)
		f.info[infoOrdering] = []byte{tagBoolean, 1, 0xff}
		f.info[infoNonce] = []byte{tagInteger, 1, 7}
		f.info[infoName] = element(0xa0, element(0xa4, a.tsa.RawSubject))
		f.info[infoExtensions] = element(0xa1, element(tagSequence, []byte(oidTSTInfo), element(tagOctetString)))
		f.attributes[oidSigningCertificateV2] = signingCertificate(element(tagSequence, element(tagSequence, []byte(oidSHA256), []byte(derNull)),
			element(tagOctetString, imprintOf(a.tsa.Raw)), element(tagSequence, element(tagSequence, element(0xa4, a.tsa.RawIssuer)), encodeInteger(a.tsa.SerialNumber))))
		return f
	}
	t.Run("our own", func(t *testing.T) {
		f := newForge(t, a)
		f.certificates = append(f.certificates, a.intermediate.Raw)
		whole(t, f)
	})
	t.Run("with all that others may have", func(t *testing.T) { whole(t, full()) })
	t.Run("in TSTInfo, signed so", func(t *testing.T) {
		content := element(tagSequence, full().info...)
		for k := 1; ; k++ {
			if _, ok := stuff(content, k); !ok {
				break
			}
			f := full()
			f.stuffed = k
			if _, err := judge(f.token(), a.options()); err == nil {
				t.Errorf("verifies with something more in element %d", k)
			}
		}
	})
	t.Run("in the signed attributes, signed so", func(t *testing.T) {
		for _, oid := range []string{oidContentType, oidMessageDigest, oidSigningCertificateV2} {
			values := full().attributes[oid]
			if oid == oidMessageDigest {
				continue // its value is not constructed
			}
			for k := 1; ; k++ {
				stuffed, ok := stuff(values, k)
				if !ok {
					break
				}
				f := full()
				f.attributes[oid] = stuffed
				if _, err := judge(f.token(), a.options()); err == nil {
					t.Errorf("verifies with something more in element %d", k)
				}
			}
		}
	})
}

// A hostile token costs no more than its size allows, whatever is in it.
func TestBoundedTime(t *testing.T) {
	nested := func(n int, open []byte) []byte { return bytes.Repeat(open, n/len(open)) }
	tests := []struct {
		name string
		der  []byte
	}{
		{"40 MB of nested BER", nested(40<<20, []byte{0x30, 0x80})},
		{"40 MB of nested OCTET STRINGs", nested(40<<20, []byte{0x24, 0x80})},
		{"64 KiB of nested BER", nested(MaxToken, []byte{0x30, 0x80})},
		{"64 KiB of nested DER", nestedDER(MaxToken)},
		{"64 KiB of empty elements", append([]byte{0x30, 0x83, 0, 0xff, 0xfb}, bytes.Repeat([]byte{5, 0}, 32765)...)},
		{"64 KiB of empty elements, minimally", append([]byte{0x30, 0x82, 0xff, 0xfc}, bytes.Repeat([]byte{5, 0}, 32766)...)},
		{"length of 4 GiB", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0}},
		{"length of more than 64 bits", append([]byte{0x30, 0x89}, make([]byte, 9)...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			allocated := testing.AllocsPerRun(1, func() {
				if _, err := Parse(test.der); !errors.Is(err, ErrMalformed) {
					t.Errorf("error %v, expected %v", err, ErrMalformed)
				}
				if _, err := ParseResponse(test.der); !errors.Is(err, ErrMalformed) {
					t.Errorf("as a response: error %v, expected %v", err, ErrMalformed)
				}
				if _, err := ParseRequest(test.der); !errors.Is(err, ErrMalformed) {
					t.Errorf("as a request: error %v, expected %v", err, ErrMalformed)
				}
			})
			if allocated > 100 {
				t.Errorf("%v allocations", allocated)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("an RSA key of 300,000 bits", func(t *testing.T) {
		// Nobody multiplies such numbers: the key is refused for its size first.
		key := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 300_000), E: 65537}
		a := newAuthority(t, "P-256")
		c := *a.tsa.Certificate
		c.PublicKey = key
		if err := checkProfile(&c, false); !errors.Is(err, ErrCertificate) {
			t.Errorf("error %v, expected %v", err, ErrCertificate)
		}
		if (algorithm{schemePKCS1, crypto.SHA256}).verify(key, signature, make([]byte, key.Size())) {
			t.Error("verifies")
		}
	})
}

// nestedDER returns SEQUENCEs in each other, as deep as n bytes allow.
func nestedDER(n int) []byte {
	lengths := []int{0}
	for total := 2; total < n-4; {
		lengths = append(lengths, total)
		total += len(appendHeader(nil, tagSequence, total))
	}
	var b []byte
	for i := len(lengths) - 1; i >= 0; i-- {
		b = appendHeader(b, tagSequence, lengths[i])
	}
	return b
}
