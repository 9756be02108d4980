package rfc3161

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
)

// seeds returns a root and a token below it that do not change from run to run, so that what a fuzzer found means the same later.
func seeds(t testing.TB) (*x509.Certificate, []byte) {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	root, err := x509.ParseCertificate(read("root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return root, read("token.pem")
}

// The token in testdata is of the first version that wrote any. It verifies for ever.
func TestOldTokenVerifies(t *testing.T) {
	root, der := seeds(t)
	token, err := judge(der, VerifyOptions{Imprint: imprintOf(signature), Roots: []*x509.Certificate{root}, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if !token.GenTime.Equal(genTime) {
		t.Errorf("genTime %v, expected %v", token.GenTime, genTime)
	}
}

// A token that verifies is the token that was issued: no other bytes do.
func FuzzParse(f *testing.F) {
	root, der := seeds(f)
	f.Add(der)
	a := newAuthority(f, "P-256")
	for _, kind := range []string{"P-384", "RSA", "Ed25519"} {
		f.Add(newAuthority(f, kind).token(f))
	}
	odd := newForge(f, a)
	odd.info[infoName] = element(0xa0, element(0xa4, a.tsa.RawSubject))
	odd.attributes[oidSigningCertificateV2] = signingCertificate(element(tagSequence, element(tagSequence, []byte(oidSHA256), []byte(derNull)),
		element(tagOctetString, imprintOf(a.tsa.Raw)), element(tagSequence, element(tagSequence, element(0xa4, a.tsa.RawIssuer)), encodeInteger(a.tsa.SerialNumber))))
	f.Add(odd.token())
	options := VerifyOptions{Imprint: imprintOf(signature), Roots: []*x509.Certificate{root}, Strict: true}
	f.Fuzz(func(t *testing.T, b []byte) {
		token, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(token.Raw, b) {
			t.Error("the token is kept otherwise than it was read")
		}
		if token.Accuracy <= 0 || token.Serial.Sign() < 0 || len(token.Imprint) != token.Hash.Size() {
			t.Errorf("read as %+v", token)
		}
		if _, err := token.Verify(options); err == nil && !bytes.Equal(b, der) {
			t.Errorf("other bytes verify: %x", b)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	r := request()
	for _, nonce := range []*big.Int{nil, big.NewInt(-1), big.NewInt(1 << 40)} {
		r.Nonce = nonce
		r.null = !r.null
		der, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
		r.Policy = testPolicy
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("written as %x (%v), read from %x", again, err, b)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	_, der := seeds(f)
	f.Add(EncodeResponse(der))
	f.Add(EncodeRefusal(BadAlg, "why"))
	f.Add(EncodeRefusal(SystemFailure, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		token, err := ParseResponse(b)
		if err == nil && !bytes.Contains(b, token.Raw) {
			t.Error("the token is not in the response")
		}
	})
}

// Whatever passes the check of DER can be walked to its end.
func FuzzCheckDER(f *testing.F) {
	_, der := seeds(f)
	f.Add(der)
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Add(nestedDER(80))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkDER(b) != nil {
			return
		}
		again, rest, depth := rewrite(b)
		if len(rest) != 0 || !bytes.Equal(again, b) || depth > maxDepth+1 {
			t.Errorf("%x is rewritten as %x, rest %x, depth %d", b, again, rest, depth)
		}
	})
}

// rewrite decodes and encodes the first element of b with the plainest code there is.
func rewrite(b []byte) (again, rest []byte, depth int) {
	start, length, err := header(b, 0, len(b))
	if err != nil {
		return nil, b, 0
	}
	contents, rest := b[start:start+length], b[start+length:]
	if b[0]&tagConstructed == 0 {
		return element(b[0], contents), rest, 1
	}
	var members [][]byte
	for len(contents) > 0 {
		member, after, below := rewrite(contents)
		if member == nil {
			return nil, b, 0
		}
		members, contents, depth = append(members, member), after, max(depth, below)
	}
	return element(b[0], members...), rest, depth + 1
}

func BenchmarkIssue(b *testing.B) {
	a := newAuthority(b, "P-256")
	i := a.issuer()
	fixed, err := signWith(a.tsa.key, signature)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("codec", func(b *testing.B) { // all but the signature
		without := a.issuer()
		without.Sign = func(_ context.Context, _ []byte) ([]byte, error) { return fixed, nil }
		b.ReportAllocs()
		for b.Loop() {
			if _, err := without.Issue(b.Context(), request(), genTime); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("with a signature in software", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := i.Issue(b.Context(), request(), genTime); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	a := newAuthority(b, "P-256")
	der := a.token(b)
	b.Run("Parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Parse(der); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Parse and Verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := judge(der, a.options()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
