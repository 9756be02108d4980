package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// TestCertificateProfile holds certificates against formats.md, section 3: the profile that verifiers demand.
func TestCertificateProfile(t *testing.T) {
	t.Attr("requirement", "A-18")
	f := prepareFixture(t)
	key := keystoretest.Generate(t, f.keys.Store, "k", keystore.ECDSAP256)
	for _, s := range []Subject{
		{ID: "sgn_abc", Name: "Zoë Ångström", Organisation: organisation},
		{ID: "svc_abc", Name: "builder", Organisation: organisation, Service: true},
	} {
		t.Run(s.ID, func(t *testing.T) {
			der, err := f.ca.Issue(t.Context(), s, key.Public)
			if err != nil {
				t.Fatal(err)
			}
			c := must(x509.ParseCertificate(der))
			uri := testIssuer + "/signers/" + s.ID
			if s.Service {
				uri = testIssuer + "/services/" + s.ID
			}
			if c.Subject.CommonName != s.Name || len(c.Subject.Names) != 2 || !reflect.DeepEqual(c.Subject.Organization, []string{organisation}) {
				t.Errorf("subject %v", c.Subject)
			}
			if len(c.URIs) != 1 || c.URIs[0].String() != uri || len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) != 0 {
				t.Errorf("names %v %v %v", c.URIs, c.DNSNames, c.EmailAddresses)
			}
			if c.KeyUsage != x509.KeyUsageDigitalSignature || c.IsCA || !c.BasicConstraintsValid ||
				!reflect.DeepEqual(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) ||
				len(c.UnknownExtKeyUsage) != 1 || !c.UnknownExtKeyUsage[0].Equal(oidDocumentSigning) {
				t.Errorf("usage %v %v %v, CA %v", c.KeyUsage, c.ExtKeyUsage, c.UnknownExtKeyUsage, c.IsCA)
			}
			if !c.NotBefore.Equal(start) || !c.NotAfter.Equal(start.Add(signerLifetime)) || c.SerialNumber.BitLen() != 159 {
				t.Errorf("from %v to %v, serial of %d bits", c.NotBefore, c.NotAfter, c.SerialNumber.BitLen())
			}
			critical, issuer := map[string]bool{}, ""
			for _, e := range c.Extensions {
				critical[e.Id.String()] = e.Critical
				if e.Id.Equal(oidSigstoreIssuerV2) {
					issuer = string(e.Value)
				}
			}
			if !critical["2.5.29.15"] || !critical["2.5.29.19"] || critical["2.5.29.37"] {
				t.Errorf("critical %v", critical)
			}
			if issuer != "\x0c"+string(rune(len(testIssuer)))+testIssuer { // UTF8String
				t.Errorf("issuer %q", issuer)
			}
			pool := x509.NewCertPool()
			pool.AddCert(f.root)
			if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("never longer than the CA", func(t *testing.T) {
		f.clock.Add(rootLifetime - 24*time.Hour)
		c := must(x509.ParseCertificate(must(f.ca.Issue(t.Context(), Subject{ID: "sgn_abc", Name: "A", Organisation: "B"}, key.Public))))
		if !c.NotAfter.Equal(f.root.NotAfter) {
			t.Errorf("to %v, the CA to %v", c.NotAfter, f.root.NotAfter)
		}
		f.clock.Add(24 * time.Hour)
		if _, err := f.ca.Issue(t.Context(), Subject{ID: "sgn_abc", Name: "A", Organisation: "B"}, key.Public); !errors.Is(err, ErrCertificateExpired) {
			t.Errorf("a lapsed CA issues: %v", err)
		}
		f.clock.Add(-rootLifetime)
	})
	t.Run("only what fits", func(t *testing.T) {
		for _, s := range []Subject{{ID: "sgn_abc", Organisation: "B"}, {ID: "sgn_abc", Name: strings.Repeat("ä", 65), Organisation: "B"}, {ID: "sgn_abc", Name: "A"}} {
			if _, err := f.ca.Issue(t.Context(), s, key.Public); !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v: %v", s, err)
			}
		}
	})
	t.Run("another CA's certificate has no chain here", func(t *testing.T) {
		if _, err := f.ca.chain(client(t, "x", p256(t), start, start.Add(time.Hour))); err == nil {
			t.Error("a chain")
		}
	})
}

// TestTSACertificate holds the certificate of the time-stamping authority against RFC 3161, 2.3.
func TestTSACertificate(t *testing.T) {
	f := prepareFixture(t)
	key := keystoretest.Generate(t, f.keys.Store, "tsa-1", keystore.ECDSAP256)
	c, err := IssueTSA(t.Context(), TSAConfig{
		Name: "Example Medical Signet TSA", Organisation: organisation, Public: key.Public, CA: f.root, CAKey: f.caKey, Keys: f.keys, Now: start,
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || !reflect.DeepEqual(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) ||
		len(c.UnknownExtKeyUsage) != 0 {
		t.Errorf("CA %v, usage %v %v", c.IsCA, c.KeyUsage, c.ExtKeyUsage)
	}
	usages := 0
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage) {
			usages++
			if !e.Critical {
				t.Error("extended key usage is not critical")
			}
		}
	}
	if usages != 1 {
		t.Errorf("%d extended key usages", usages)
	}
	if f.root.SignatureAlgorithm != x509.ECDSAWithSHA384 || !f.root.IsCA || f.root.MaxPathLen != 0 || !f.root.MaxPathLenZero ||
		f.root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("root: %v, CA %v, path %d, usage %v", f.root.SignatureAlgorithm, f.root.IsCA, f.root.MaxPathLen, f.root.KeyUsage)
	}
	t.Run("OpenSSL agrees", func(t *testing.T) {
		openssl, err := exec.LookPath("openssl")
		if err != nil {
			t.Fatal("openssl is not installed: run tools/deps.sh")
		}
		dir := t.TempDir()
		signer := must(f.ca.Issue(t.Context(), Subject{ID: "sgn_abc", Name: "Ada Lovelace", Organisation: organisation}, key.Public))
		for name, der := range map[string][]byte{"root": f.root.Raw, "tsa": c.Raw, "signer": signer} {
			if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range []struct {
			name, purpose string
			ok            bool
		}{{"tsa", "timestampsign", true}, {"signer", "codesign", true}, {"signer", "timestampsign", false}, {"tsa", "codesign", false}, {"signer", "sslclient", false}} {
			command := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-attime", "1795253401", "-purpose", v.purpose, "-CAfile", "root", v.name)
			command.Dir = dir
			out, err := command.CombinedOutput()
			if (err == nil) != v.ok && !bytes.Contains(out, []byte("nvalid purpose")) { // codesign is not known to older ones
				t.Errorf("%s for %s: %v: %s", v.name, v.purpose, err, out)
			}
		}
	})
}

// TestNewCA refuses what is no CA.
func TestNewCA(t *testing.T) {
	f := prepareFixture(t)
	good := CAConfig{Issuer: testIssuer, Key: f.caKey.ID, Certificate: f.root, Keys: f.keys, Clock: f.clock.Now}
	for what, change := range map[string]func(c *CAConfig){
		"no certificate":      func(c *CAConfig) { c.Certificate = nil },
		"no keys":             func(c *CAConfig) { c.Keys = nil },
		"no clock":            func(c *CAConfig) { c.Clock = nil },
		"no CA":               func(c *CAConfig) { c.Certificate = client(t, "x", p256(t), start, start.Add(time.Hour)) },
		"no issuer":           func(c *CAConfig) { c.Issuer = "" },
		"issuer with a slash": func(c *CAConfig) { c.Issuer = testIssuer + "/" },
		"another's chain":     func(c *CAConfig) { c.Chain = []*x509.Certificate{client(t, "x", p256(t), start, start.Add(time.Hour))} },
	} {
		c := good
		change(&c)
		if _, err := NewCA(c); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

// TestConstraints holds what the CA may certify against Go and OpenSSL: URIs at the issuer's host, for signatures of code and documents and for
// time-stamps. What somebody makes for other names or other uses with its key, they refuse.
func TestConstraints(t *testing.T) {
	t.Attr("requirement", "B-65")
	f := prepareFixture(t)
	key := keystoretest.Generate(t, f.keys.Store, "k", keystore.ECDSAP256)
	ca := hsmKey{t.Context(), f.keys, f.caKey.ID, f.caKey.Public}
	make := func(change func(*x509.Certificate)) *x509.Certificate {
		template := must(newTemplate("Mallory", organisation, key.Public, start, time.Hour))
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		template.URIs = []*url.URL{must(url.Parse(testIssuer + "/signers/sgn_abc"))}
		change(template)
		return must(create(template, f.root, key.Public, ca))
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(f.root)
	for name, x := range map[string]struct {
		usage   x509.ExtKeyUsage
		purpose string // of OpenSSL
		change  func(*x509.Certificate)
		ok      bool
	}{
		"as it issues them":    {x509.ExtKeyUsageCodeSigning, "any", func(*x509.Certificate) {}, true},
		"at another host":      {x509.ExtKeyUsageCodeSigning, "any", func(c *x509.Certificate) { c.URIs[0].Host = "evil.example" }, false},
		"at a host below":      {x509.ExtKeyUsageCodeSigning, "any", func(c *x509.Certificate) { c.URIs[0].Host = "a." + c.URIs[0].Host }, false},
		"at a host above":      {x509.ExtKeyUsageCodeSigning, "any", func(c *x509.Certificate) { c.URIs[0].Host = "example" }, false},
		"at another port":      {x509.ExtKeyUsageCodeSigning, "any", func(c *x509.Certificate) { c.URIs[0].Host += ":9" }, true}, // a host is what is constrained
		"at an address":        {x509.ExtKeyUsageCodeSigning, "any", func(c *x509.Certificate) { c.URIs[0].Host = "192.0.2.1" }, false},
		"a name like a host's": {x509.ExtKeyUsageCodeSigning, "any", func(c *x509.Certificate) { c.Subject.CommonName = "ci.evil.example" }, true}, // a printed name is no host
		"for a server of TLS": {x509.ExtKeyUsageServerAuth, "sslserver", func(c *x509.Certificate) {
			c.URIs, c.DNSNames, c.ExtKeyUsage = nil, []string{"bank.example"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}, false},
		"for another CA": {x509.ExtKeyUsageCodeSigning, "any", func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		}, true}, // it is no harm: path length 0 keeps it from certifying
	} {
		t.Run(name, func(t *testing.T) {
			c := make(x.change)
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x.usage}})
			if below := name == "at a host below"; (err == nil) != (x.ok || below) { // Go takes a host for all below it; RFC 5280 does not
				t.Errorf("Go: %v", err)
			}
			file := filepath.Join(t.TempDir(), "leaf")
			if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), "openssl", "verify", "-attime", strconv.FormatInt(start.Unix()+1, 10), "-purpose", x.purpose, "-CAfile", "root", file)
			command.Dir = dir
			if out, err := command.CombinedOutput(); (err == nil) != x.ok {
				t.Errorf("OpenSSL: %v: %s", err, out)
			}
		})
	}
	t.Run("the issuer moved to another host", func(t *testing.T) {
		moved := must(NewCA(CAConfig{Issuer: "https://moved.example", Key: f.caKey.ID, Certificate: f.root, Keys: f.keys, Clock: f.clock.Now}))
		if _, err := moved.Issue(t.Context(), Subject{ID: "sgn_abc", Name: "Ada", Organisation: organisation}, key.Public); !errors.Is(err, ErrCertificateUnfit) {
			t.Errorf("a certificate that no verifier takes: %v", err)
		}
	})
	t.Run("a CA that was made before there were constraints", func(t *testing.T) {
		template := must(newTemplate("Old CA", organisation, f.caKey.Public, start, rootLifetime))
		template.IsCA, template.MaxPathLenZero, template.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		old := must(create(template, template, f.caKey.Public, ca))
		before := must(NewCA(CAConfig{Issuer: "https://moved.example", Key: f.caKey.ID, Certificate: old, Keys: f.keys, Clock: f.clock.Now}))
		if _, err := before.Issue(t.Context(), Subject{ID: "sgn_abc", Name: "Ada", Organisation: organisation}, key.Public); err != nil {
			t.Error(err)
		}
	})
	t.Run("an issuer without a name has no constraints", func(t *testing.T) {
		root := must(CreateRoot(t.Context(), RootConfig{Issuer: "https://192.0.2.7:8443", Name: "CA", Organisation: organisation, Key: f.caKey, Keys: f.keys, Now: start}))
		if len(root.PermittedURIDomains) != 0 {
			t.Error(root.PermittedURIDomains)
		}
		at := must(NewCA(CAConfig{Issuer: "https://192.0.2.7:8443", Key: f.caKey.ID, Certificate: root, Keys: f.keys, Clock: f.clock.Now}))
		if _, err := at.Issue(t.Context(), Subject{ID: "sgn_abc", Name: "Ada", Organisation: organisation}, key.Public); err != nil {
			t.Error(err)
		}
	})
}
