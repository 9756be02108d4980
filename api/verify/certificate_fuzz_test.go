package verify

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/api/manifest"
)

// FuzzCertificate reads certificates as a verdict does: whatever they are, nothing panics, what is read is all that there is, and what fits the signer
// names exactly them.
func FuzzCertificate(f *testing.F) {
	const issuer = "https://sign.example"
	var signer manifest.Signer
	for _, name := range []string{"sound-with-ed25519", "sound-with-rsa", "sound-with-ecdsa-p-384", "sound-with-ecdsa-p-521"} {
		b, err := os.ReadFile(filepath.Join("testdata", "tampered", "manifests", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		m, err := manifest.Parse(b)
		if err != nil {
			f.Fatal(err)
		}
		signer = m.Signatures[0].Statement.Predicate.Signer
		for _, s := range m.Signatures {
			for _, der := range s.Certificates {
				f.Add(der)
			}
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Raw, der) {
			t.Fatal("what is behind the certificate was accepted")
		}
		profile, names := checkProfile(c), checkNames(c, signer, issuer)
		uri, err := onlyURI(c)
		if names == nil && (err != nil || uri != issuer+"/signers/"+signer.ID || c.Subject.CommonName != signer.Name) {
			t.Fatalf("the certificate of %q, %q, %v passes for that of %s", uri, c.Subject, err, signer.ID)
		}
		if profile == nil && (c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 1) {
			t.Fatalf("usages %b %v pass", c.KeyUsage, c.ExtKeyUsage)
		}
		for _, a := range []string{manifest.ECDSAP256, manifest.ECDSAP384, manifest.ECDSAP521, manifest.Ed25519, manifest.RSAPSS} {
			if checkSignature(c.PublicKey, a, []byte("message"), der[:min(len(der), 64)]) == nil {
				t.Fatal("a piece of the certificate passes for a signature")
			}
		}
	})
}
