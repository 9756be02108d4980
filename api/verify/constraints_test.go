package verify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// constrained makes an authority that may certify URIs at one host alone.
func (w *world) constrained(host string, usages ...x509.ExtKeyUsage) *authority {
	w.tb.Helper()
	plain := w.newAuthority("Example Constrained CA", elliptic.P384())
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.check(err)
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: plain.cert.Subject, NotBefore: plain.cert.NotBefore, NotAfter: plain.cert.NotAfter, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: plain.cert.KeyUsage, ExtKeyUsage: usages, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 36}},
		PermittedURIDomains: []string{host}, PermittedDNSDomainsCritical: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	w.check(err)
	cert, err := x509.ParseCertificate(der)
	w.check(err)
	return &authority{key, cert}
}

// TestConstrainedCA: a CA with name constraints and extended key usages certifies what they permit, and nothing else; one without, as they were made
// before, goes on as ever.
func TestConstrainedCA(t *testing.T) {
	t.Attr("requirement", "B-65")
	all := []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageTimeStamping}
	for name, x := range map[string]struct {
		host   string
		usages []x509.ExtKeyUsage
		code   verify.Code
	}{
		"the issuer's host":          {"sign.example", all, verify.OK},
		"another host":               {"other.example", all, verify.Untrusted},
		"a host below":               {"a.sign.example", all, verify.Untrusted},
		"not for signatures of code": {"sign.example", all[1:], verify.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ca = w.constrained(x.host, x.usages...)
			w.trust.SignerRoots = append(w.trust.SignerRoots, manifest.Root{Certificate: w.ca.cert.Raw, From: w.trust.SignerRoots[0].From})
			ada := w.enrol("sgn_ada", "Ada Lovelace")
			w.newRecord(1, []*signer{ada})
			w.sign(ada, manifest.Approve)
			w.close(manifest.OutcomeApproved)
			want(t, w.verify(w.manifest()), x.code, "")
		})
	}
}
