package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// profileDocument describes every certificate that the service issues.
const profileDocument = "../deploy/certificate-profile.md"

// tableOf reads the table of a section of the document.
func tableOf(t *testing.T, section string) (rows []string) {
	t.Helper()
	b, err := os.ReadFile(profileDocument)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", profileDocument, section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| field ") && !strings.HasPrefix(line, "| ---") {
			rows = append(rows, strings.TrimSuffix(line, "\n"))
		} else if len(rows) > 0 {
			break // the first table
		}
	}
	return rows
}

// profiled holds what was issued against the table of a section.
func profiled(t *testing.T, section string, rows []string) {
	t.Helper()
	if want, got := strings.Join(tableOf(t, section), "\n"), strings.Join(rows, "\n"); want != got {
		t.Errorf("%s, section %q says\n%s\nand what is issued is\n%s", profileDocument, section, want, got)
	}
}

func row(field, critical, value string) string {
	return fmt.Sprintf("| %s | %s | %s |", field, critical, value)
}

// names replaces what differs from service to service.
func names(s, issuer, id string) string {
	known := []string{issuer, "*issuer*", "localhost", "*host*", "https://ca.example/signet", "*web.publicURL*", "Example Medical", "*organisation*", "Bob Noyce", "*printed name*"}
	if id != "" {
		known = append(known, id, "*id*")
	}
	return strings.NewReplacer(known...).Replace(s)
}

// span is a validity in words.
func span(d time.Duration) string {
	const year = 365 * 24 * time.Hour
	if d%year == 0 {
		return fmt.Sprintf("%d years of 365 days", d/year)
	}
	return d.String()
}

// certificateRows lists every field and every extension of a certificate. One that it does not know fails the test.
func certificateRows(t *testing.T, c, ca *x509.Certificate, issuer, id string) []string {
	t.Helper()
	keyID := func(of *x509.Certificate) []byte { sum := sha256.Sum256(of.RawSubjectPublicKeyInfo); return sum[:20] }
	serial := "another"
	if c.SerialNumber.BitLen() == 159 {
		serial = "159 bits, 158 of them random"
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		t.Fatalf("key %T", c.PublicKey)
	}
	rows := []string{
		row("version", "", fmt.Sprint(c.Version)), row("serialNumber", "", serial), row("signature", "", c.SignatureAlgorithm.String()),
		row("issuer", "", names(c.Issuer.String(), issuer, id)), row("validity", "", span(c.NotAfter.Sub(c.NotBefore))), row("subject", "", names(c.Subject.String(), issuer, id)),
		row("subjectPublicKeyInfo", "", key.Params().Name),
	}
	for _, e := range c.Extensions {
		critical := "no"
		if e.Critical {
			critical = "yes"
		}
		var name, value string
		switch e.Id.String() {
		case "2.5.29.15":
			name, value = "keyUsage", usages(c.KeyUsage)
		case "2.5.29.37":
			name, value = "extKeyUsage", extUsages(t, e.Value)
		case "2.5.29.19":
			name, value = "basicConstraints", fmt.Sprintf("CA %v", c.IsCA)
			if c.IsCA {
				value += fmt.Sprintf(", path length %d", c.MaxPathLen)
			}
		case "2.5.29.14":
			name, value = "subjectKeyIdentifier", "another"
			if bytes.Equal(c.SubjectKeyId, keyID(c)) {
				value = "the first 160 bits of the SHA-256 of the SubjectPublicKeyInfo"
			}
		case "2.5.29.35":
			name, value = "authorityKeyIdentifier", "another"
			if bytes.Equal(c.AuthorityKeyId, ca.SubjectKeyId) {
				value = "subjectKeyIdentifier of the CA"
			}
		case "2.5.29.30":
			name, value = "nameConstraints", "permitted: URI "+names(strings.Join(c.PermittedURIDomains, " "), issuer, id)
			if len(c.ExcludedDNSDomains)+len(c.ExcludedURIDomains)+len(c.ExcludedEmailAddresses)+len(c.ExcludedIPRanges)+len(c.PermittedDNSDomains)+len(c.PermittedEmailAddresses)+len(c.PermittedIPRanges) != 0 {
				value += " and more"
			}
		case "2.5.29.17":
			name, value = "subjectAltName", "others"
			if len(c.URIs) == 1 && len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) == 0 {
				value = "URI " + names(c.URIs[0].String(), issuer, id)
			}
		case "2.5.29.31":
			name, value = "cRLDistributionPoints", names(strings.Join(c.CRLDistributionPoints, " "), issuer, keyIDOf(ca))
		case "1.3.6.1.5.5.7.1.1":
			name, value = "authorityInfoAccess", "caIssuers "+names(strings.Join(c.IssuingCertificateURL, " "), issuer, keyIDOf(ca))
		case "1.3.6.1.4.1.57264.1.8":
			var said string
			if _, err := asn1.UnmarshalWithParams(e.Value, &said, "utf8"); err != nil {
				t.Error(err)
			}
			name, value = "1.3.6.1.4.1.57264.1.8", "UTF8String "+names(said, issuer, id)
		default:
			t.Errorf("%s: an extension %s that the document cannot describe", c.Subject, e.Id)
		}
		rows = append(rows, row(name, critical, value))
	}
	return rows
}

func keyIDOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return fmt.Sprintf("%x", sum)
}

func usages(u x509.KeyUsage) string {
	var out []string
	for i, name := range []string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"} {
		if u&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

func extUsages(t *testing.T, der []byte) string {
	t.Helper()
	var ids []asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(der, &ids); err != nil {
		t.Fatal(err)
	}
	known := map[string]string{"1.3.6.1.5.5.7.3.3": "codeSigning", "1.3.6.1.5.5.7.3.8": "timeStamping", "1.3.6.1.5.5.7.3.36": "documentSigning"}
	var out []string
	for _, id := range ids {
		name, ok := known[id.String()]
		if !ok {
			name = id.String()
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

// listRows is certificateRows for a revocation list.
func listRows(t *testing.T, list *x509.RevocationList, ca *x509.Certificate, issuer string) []string {
	t.Helper()
	rows := []string{
		row("version", "", "2"), row("signature", "", list.SignatureAlgorithm.String()), row("issuer", "", names(list.Issuer.String(), issuer, "")), row("thisUpdate", "", "when it was made"),
		row("nextUpdate", "", fmt.Sprintf("%.0f hours later (`certificates.listLifetime`)", list.NextUpdate.Sub(list.ThisUpdate).Hours())),
	}
	for _, e := range list.Extensions {
		critical := "no"
		if e.Critical {
			critical = "yes"
		}
		name, value := e.Id.String(), "another"
		switch name {
		case "2.5.29.35":
			if name = "authorityKeyIdentifier"; bytes.Equal(list.AuthorityKeyId, ca.SubjectKeyId) {
				value = "subjectKeyIdentifier of the CA"
			}
		case "2.5.29.20":
			if name = "cRLNumber"; list.Number.Cmp(big.NewInt(list.ThisUpdate.Unix())) >= 0 {
				value = "thisUpdate in seconds since 1970, or one more than that of the list before it where that is more"
			}
		case "2.5.29.60":
			var at time.Time
			if _, err := asn1.UnmarshalWithParams(e.Value, &at, "generalized"); err != nil {
				t.Error(err)
			}
			if name = "expiredCertsOnCRL"; at.Equal(ca.NotBefore) {
				value = "notBefore of the CA"
			}
		}
		rows = append(rows, row(name, critical, value))
	}
	return rows
}
