package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"
)

// What a verifier must refuse, in the words of those who ask for it: each token differs from a sound one, which verifies, by that alone. The error says
// what is wrong.
func TestRefusalsThatAreAskedFor(t *testing.T) {
	timeStamping, codeSigning := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	usages := func(critical bool, usages ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		value, err := asn1.Marshal(usages)
		if err != nil {
			t.Fatal(err)
		}
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}}
		}
	}
	for _, test := range []struct {
		name        string
		certificate func(*x509.Certificate)
		forge       func(f *forge)
		want        error
		says        string
	}{
		{name: "extended key usage not critical", certificate: usages(false, timeStamping), want: ErrCertificate, says: "extended key usage is not critical"},
		{name: "a second extended key usage", certificate: usages(true, timeStamping, codeSigning), want: ErrCertificate, says: "not timeStamping alone"},
		{name: "key usage with keyEncipherment", certificate: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment },
			want: ErrCertificate, says: "key usage is not digitalSignature alone"},
		{name: "a CA as leaf", certificate: func(c *x509.Certificate) { c.IsCA = true }, want: ErrCertificate, says: "it is a CA's"},
		{name: "ESSCertIDv2 wrong", forge: func(f *forge) {
			f.attributes[oidSigningCertificateV2] = signingCertificate(essID([]byte("another certificate")))
		}, want: ErrCertificate, says: "no certificate has the hash that ESSCertIDv2 states"},
		{name: "ESSCertIDv2 absent", forge: func(f *forge) { f.attributes[oidSigningCertificateV2] = nil },
			want: ErrMalformed, says: "no signed attribute signing-certificate-v2 (ESSCertIDv2)"},
		{name: "nonce missing", forge: func(f *forge) { f.info[infoNonce] = nil }, want: ErrAnswer, says: "nonce is missing"},
		{name: "imprint of the wrong length", forge: func(f *forge) {
			f.info[infoImprint] = element(tagSequence, element(tagSequence, []byte(oidSHA256)), element(tagOctetString, make([]byte, 20)))
		}, want: ErrMalformed, says: "the imprint is 20 bytes long"},
		{name: "certificate lapsed at genTime", certificate: func(c *x509.Certificate) { c.NotAfter = genTime.Add(-time.Second) },
			want: ErrCertificate, says: "and the time is 2026-11-21T09:30:00.123Z"},
		{name: "signed attributes absent", forge: func(f *forge) { f.unattributed = true }, want: ErrMalformed, says: "no signed attributes"},
		{name: "trailing bytes", forge: func(f *forge) { f.tail = []byte{5, 0} }, want: ErrMalformed, says: "2 trailing bytes"},
		{name: "a token for another signature", forge: func(f *forge) {
			f.info[infoImprint] = encodeImprint(crypto.SHA256, false, imprintOf([]byte("another signature")))
		}, want: ErrImprint, says: "its imprint is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			requirement(t, "A-19", "B-41")
			asked := request()
			asked.Nonce = big.NewInt(77)
			try := func(certificate func(*x509.Certificate), edit func(*forge)) error {
				var a *authority
				if certificate == nil {
					a = newAuthority(t, "P-256")
				} else {
					a = newAuthority(t, "P-256", certificate)
				}
				f := newForge(t, a)
				f.info = append(f.info, make([][]byte, infoExtensions+1-len(f.info))...)
				f.info[infoNonce] = []byte{tagInteger, 1, 77}
				if edit != nil {
					edit(f)
				}
				token, err := Parse(f.token())
				if err != nil {
					return err
				}
				if _, err := token.Verify(a.options()); err != nil {
					return err
				}
				return token.Answers(asked)
			}
			if err := try(nil, nil); err != nil {
				t.Fatalf("a sound token: %v", err)
			}
			if err := try(test.certificate, test.forge); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, expected %v that says %q", err, test.want, test.says)
			}
		})
	}
	t.Run("40 MB of nested BER", func(t *testing.T) {
		requirement(t, "A-19", "B-41")
		for _, open := range [][]byte{{0x30, 0x80}, {0x24, 0x80}, {0xa0, 0x80}, {0x30, 0x84, 0x02, 0x62, 0x5a, 0x00}} {
			der := bytes.Repeat(open, 40_000_000/len(open))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			for _, err := range []error{
				func() error { _, err := Parse(der); return err }(),
				func() error { _, err := ParseResponse(der); return err }(),
				func() error { _, err := ParseRequest(der); return err }(),
			} {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("error %v, expected %v", err, ErrMalformed)
				}
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if bytes := after.TotalAlloc - before.TotalAlloc; took > 10*time.Second || bytes > 64<<10 {
				t.Errorf("took %v and %d bytes of memory", took, bytes)
			}
		}
	})
}
