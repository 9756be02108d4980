package exchange

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signetd/signet/api/manifest"
)

// Media types of the forms.
const (
	BundleMediaType      = "application/vnd.dev.sigstore.bundle.v0.3+json"
	TrustedRootMediaType = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
	SummaryType          = "https://slsa.dev/verification_summary/v1"
)

// ErrNotExpressible says that a form cannot say what the signature says.
var ErrNotExpressible = errors.New("this form cannot hold it")

// ErrList says that a revocation list is not one of a pinned CA.
var ErrList = errors.New("not a revocation list that counts")

type envelope struct {
	Payload     []byte           `json:"payload"` // base64
	PayloadType string           `json:"payloadType"`
	Signatures  []envelopeSigned `json:"signatures"`
}

type envelopeSigned struct {
	KeyID string `json:"keyid,omitzero"`
	Sig   []byte `json:"sig"`
}

func envelopeOf(s manifest.Signature, keyID string) (envelope, error) {
	statement, err := s.Statement.Canonical()
	if err != nil {
		return envelope{}, err
	}
	return envelope{statement, manifest.PayloadType, []envelopeSigned{{keyID, s.Signature.Value}}}, nil
}

// DSSE returns the signature as a DSSE envelope. Its keyid is the SHA-256 of the signer's public key (SPKI).
func DSSE(s manifest.Signature) ([]byte, error) {
	e, err := envelopeOf(s, s.Signature.KeyID)
	if err != nil {
		return nil, err
	}
	return encode(e)
}

type rawBytes struct {
	RawBytes []byte `json:"rawBytes"`
}

type sigstoreBundle struct {
	MediaType            string `json:"mediaType"`
	VerificationMaterial struct {
		Certificate rawBytes `json:"certificate"`
		Timestamps  struct {
			RFC3161 []signedTimestamp `json:"rfc3161Timestamps"`
		} `json:"timestampVerificationData"`
	} `json:"verificationMaterial"`
	Envelope envelope `json:"dsseEnvelope"`
}

type signedTimestamp struct {
	SignedTimestamp []byte `json:"signedTimestamp"`
}

// Sigstore returns the signature as a Sigstore bundle v0.3. What it is checked against is the bundle's document (its SHA-256 is the first
// subject), and the trusted root of [TrustedRoot]. Needs --use-signed-timestamps: without it, tools judge the certificate at the present time.
func Sigstore(s manifest.Signature) ([]byte, error) {
	if len(s.Certificates) == 0 || len(s.Timestamps) == 0 {
		return nil, fmt.Errorf("%w: a Sigstore bundle needs the certificate and a time-stamp", ErrNotExpressible)
	}
	var b sigstoreBundle
	var err error
	if b.Envelope, err = envelopeOf(s, ""); err != nil { // with a keyid, tools look for a key instead of the certificate
		return nil, err
	}
	b.MediaType = BundleMediaType
	b.VerificationMaterial.Certificate.RawBytes = s.Certificates[0]
	for _, token := range s.Timestamps {
		response, err := granted(token)
		if err != nil {
			return nil, err
		}
		b.VerificationMaterial.Timestamps.RFC3161 = append(b.VerificationMaterial.Timestamps.RFC3161, signedTimestamp{response})
	}
	return encode(b)
}

// granted puts a time-stamp token into the TimeStampResp in which it came (RFC 3161, section 2.4.2).
func granted(token []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(0) }) // PKIStatusInfo: granted
		b.AddBytes(token)
	})
	return b.Bytes()
}

type trustedRoot struct {
	MediaType              string      `json:"mediaType"`
	Tlogs                  []struct{}  `json:"tlogs"`
	CertificateAuthorities []authority `json:"certificateAuthorities"`
	Ctlogs                 []struct{}  `json:"ctlogs"`
	TimestampAuthorities   []authority `json:"timestampAuthorities"`
}

type authority struct {
	Subject struct {
		Organization string `json:"organization"`
		CommonName   string `json:"commonName"`
	} `json:"subject"`
	URI       string `json:"uri"`
	CertChain struct {
		Certificates []rawBytes `json:"certificates"`
	} `json:"certChain"`
	ValidFor struct {
		Start manifest.Time `json:"start"`
		End   string        `json:"end,omitzero"`
	} `json:"validFor"`
}

// TrustedRoot returns the roots of a trust file as a Sigstore trusted root. The ledger is not in it: Sigstore's tools read another kind of log.
func TrustedRoot(t manifest.Trust) ([]byte, error) {
	out := trustedRoot{MediaType: TrustedRootMediaType, Tlogs: []struct{}{}, Ctlogs: []struct{}{}}
	var err error
	if out.CertificateAuthorities, err = authorities(t.Issuer, t.SignerRoots); err != nil {
		return nil, err
	}
	if out.TimestampAuthorities, err = authorities(t.Issuer, t.TimestampRoots); err != nil {
		return nil, err
	}
	return encode(out)
}

func authorities(issuer string, roots []manifest.Root) ([]authority, error) {
	out := make([]authority, len(roots))
	for i, root := range roots {
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("a root of the trust file: %w", err)
		}
		a := &out[i]
		a.Subject.CommonName, a.URI = c.Subject.CommonName, issuer
		if len(c.Subject.Organization) > 0 {
			a.Subject.Organization = c.Subject.Organization[0]
		}
		a.CertChain.Certificates = []rawBytes{{root.Certificate}}
		a.ValidFor.Start, a.ValidFor.End = root.From, root.To
	}
	return out, nil
}

// Verdict is what a verifier found, for [Summary].
type Verdict struct {
	Passed   bool
	Verified time.Time
	Verifier string // URI of who verified
	Version  string // of the software that did
	Manifest []byte // the manifest file
	Resource string // URI of what was verified; empty: the record's repository, or its name
}

// Summary returns a SLSA Verification Summary Attestation about a manifest: an in-toto Statement whose subjects are the bundle and each of
// its files. It is not signed: whoever verified signs it, by the means that those who read it trust.
func Summary(m manifest.Manifest, v Verdict) ([]byte, error) {
	type digests map[string]string
	type subject struct {
		Name   string  `json:"name"`
		Digest digests `json:"digest"`
	}
	type resource struct {
		URI    string  `json:"uri"`
		Digest digests `json:"digest"`
	}
	type predicate struct {
		Verifier struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version"`
		} `json:"verifier"`
		TimeVerified       string     `json:"timeVerified"`
		ResourceURI        string     `json:"resourceUri"`
		Policy             resource   `json:"policy"`
		InputAttestations  []resource `json:"inputAttestations"`
		VerificationResult string     `json:"verificationResult"`
		VerifiedLevels     []string   `json:"verifiedLevels"`
		SLSAVersion        string     `json:"slsaVersion"`
	}
	record, err := m.Record.Digest()
	if err != nil {
		return nil, err
	}
	name := m.Record.Name + "-" + m.Record.Version
	subjects := []subject{{name + "#record", digests{"sha256": record.String()}}}
	if m.HasBundle() {
		subjects = append(subjects, subject{name, digests{"sha256": m.Record.Bundle.Digest.SHA256.String()}})
		for _, f := range m.Bundle.Files {
			subjects = append(subjects, subject{f.Path, digests{"sha256": f.SHA256.String()}})
		}
	}
	var p predicate
	p.Verifier.ID, p.Verifier.Version = v.Verifier, map[string]string{"signet": v.Version}
	p.TimeVerified = v.Verified.UTC().Format(time.RFC3339)
	if p.ResourceURI = v.Resource; p.ResourceURI == "" {
		if p.ResourceURI = m.Record.Source.Repo; p.ResourceURI == "" {
			p.ResourceURI = "urn:signet:record:" + m.Record.Event.ID
		}
	}
	template := m.Record.Policy.Template
	p.Policy = resource{fmt.Sprintf("urn:signet:policy:%s:%d", template.ID, template.Version), digests{"sha256": template.Digest.SHA256.String()}}
	sum := sha256.Sum256(v.Manifest)
	p.InputAttestations = []resource{{manifest.FileName(m.Record), digests{"sha256": fmt.Sprintf("%x", sum)}}}
	p.VerificationResult, p.VerifiedLevels, p.SLSAVersion = "FAILED", []string{"FAILED"}, "1.1"
	if v.Passed {
		p.VerificationResult, p.VerifiedLevels = "PASSED", []string{"SIGNET_APPROVED"}
	}
	return encode(struct {
		Type          string    `json:"_type"`
		Subject       []subject `json:"subject"`
		PredicateType string    `json:"predicateType"`
		Predicate     predicate `json:"predicate"`
	}{manifest.StatementType, subjects, SummaryType, p})
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// RevocationList reads a revocation list (DER) and finds the root of the trust file that has signed it.
func RevocationList(der []byte, t manifest.Trust) (*x509.RevocationList, *x509.Certificate, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, nil, fmt.Errorf("a revocation list: %w", err)
	}
	for _, roots := range [][]manifest.Root{t.SignerRoots, t.TimestampRoots} {
		for _, root := range roots {
			c, err := x509.ParseCertificate(root.Certificate)
			if err != nil {
				return nil, nil, fmt.Errorf("a root of the trust file: %w", err)
			}
			if list.CheckSignatureFrom(c) == nil {
				return list, c, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("%w: no root of the trust file has signed the revocation list of %q", ErrList, list.Issuer)
}

func pemBlock(kind string, der []byte) []byte {
	text := base64.StdEncoding.EncodeToString(der)
	out := []byte("-----BEGIN " + kind + "-----\n")
	for len(text) > 64 {
		out, text = append(append(out, text[:64]...), '\n'), text[64:]
	}
	return append(append(append(out, text...), '\n'), "-----END "+kind+"-----\n"...)
}
