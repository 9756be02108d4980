package identity

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signetd/signet/keystore"
)

// How long certificates hold, where nothing else is said.
const (
	rootLifetime   = 20 * 365 * 24 * time.Hour
	tsaLifetime    = 10 * 365 * 24 * time.Hour
	signerLifetime = 2 * 365 * 24 * time.Hour
)

// maxCommonName is ub-common-name and ub-organization-name of RFC 5280, in characters.
const maxCommonName = 64

// KeySigner signs a message with a key in the HSM and returns the signature only if the public key verifies it. A
// *keystore.Store is one.
type KeySigner interface {
	Sign(ctx context.Context, id keystore.ID, want crypto.PublicKey, message []byte) ([]byte, error)
}

// hsmKey is a key in the HSM as crypto/x509 wants it. It gets the whole message: what is signed is hashed here, never
// by who asks.
type hsmKey struct {
	ctx    context.Context
	keys   KeySigner
	id     keystore.ID
	public crypto.PublicKey
}

// Public implements crypto.Signer.
func (k hsmKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer.
func (k hsmKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("this key signs messages, not digests")
}

// SignMessage implements crypto.MessageSigner.
func (k hsmKey) SignMessage(_ io.Reader, message []byte, o crypto.SignerOpts) ([]byte, error) {
	algorithm, err := keystore.AlgorithmOf(k.public)
	if err != nil {
		return nil, err
	}
	if o != nil && o.HashFunc() != algorithm.Hash() {
		return nil, fmt.Errorf("key %q signs with %v, not %v", k.id, algorithm.Hash(), o.HashFunc())
	}
	return k.keys.Sign(k.ctx, k.id, k.public, message)
}

var (
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	oidDocumentSigning  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 36}    // RFC 9336
	oidSigstoreIssuerV2 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8} // the issuer as a DER UTF8String
)

// RootConfig says which root certificate to make.
type RootConfig struct {
	Issuer       string // URL of the service: the CA certifies names at its host alone
	Name         string
	Organisation string
	Key          keystore.Key // the CA's
	Keys         KeySigner
	Now          time.Time
	Lifetime     time.Duration // 20 years
}

// CreateRoot makes the certificate of the CA, signed by itself: it certifies signers and a time-stamping authority and signs revocation lists.
// It vouches for no other CA, for nobody's TLS, and for no URI at another host than the issuer's: a verifier refuses what a stolen key of it makes
// for others.
func CreateRoot(ctx context.Context, c RootConfig) (*x509.Certificate, error) {
	template, err := newTemplate(c.Name, c.Organisation, c.Key.Public, c.Now, orDefault(c.Lifetime, rootLifetime))
	if err != nil {
		return nil, err
	}
	template.IsCA, template.MaxPathLenZero = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageTimeStamping}
	template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidDocumentSigning}
	host, err := constrainedHost(c.Issuer)
	if err != nil {
		return nil, err
	}
	if host != "" {
		template.PermittedURIDomains, template.PermittedDNSDomainsCritical = []string{host}, true // critical for all names (RFC 5280, 4.2.1.10)
	}
	return create(template, template, c.Key.Public, hsmKey{ctx, c.Keys, c.Key.ID, c.Key.Public})
}

// constrainedHost is the host that a CA may certify URIs at; empty where the issuer has an address in the place of a name, for which there are no
// constraints (RFC 5280, 4.2.1.10).
func constrainedHost(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Hostname() == "" {
		return "", invalid("CA: issuer %q; use a URL with a host", issuer)
	}
	host := strings.ToLower(u.Hostname())
	if net.ParseIP(host) != nil {
		return "", nil
	}
	return host, nil
}

// Points says where a CA's revocation list and certificate are found. Certificates name the places; empty: there are none.
type Points struct {
	List        string // URL of the revocation list
	Certificate string // URL of the CA's certificate
}

// PointsBelow are the places below the public URL of the HTTPS listener; none without one.
func PointsBelow(publicURL string, ca *x509.Certificate) Points {
	if publicURL == "" {
		return Points{}
	}
	id := keystore.KeyID(ca.PublicKey)
	return Points{List: publicURL + "/ca/" + id + ".crl", Certificate: publicURL + "/ca/" + id + ".crt"}
}

func (p Points) in(template *x509.Certificate) {
	if p.List != "" {
		template.CRLDistributionPoints = []string{p.List}
	}
	if p.Certificate != "" {
		template.IssuingCertificateURL = []string{p.Certificate}
	}
}

// TSAConfig says which time-stamping certificate to make.
type TSAConfig struct {
	Name         string
	Organisation string
	Public       crypto.PublicKey // of the time-stamping authority
	CA           *x509.Certificate
	CAKey        keystore.Key
	PublicURL    string // of the HTTPS listener; empty: the certificate names no revocation list
	Keys         KeySigner
	Now          time.Time
	Lifetime     time.Duration // 10 years
}

// IssueTSA makes the certificate of the time-stamping authority (RFC 3161, 2.3): no CA, key usage digitalSignature
// alone, the one extended key usage timeStamping, critical.
func IssueTSA(ctx context.Context, c TSAConfig) (*x509.Certificate, error) {
	template, err := newTemplate(c.Name, c.Organisation, c.Public, c.Now, orDefault(c.Lifetime, tsaLifetime))
	if err != nil {
		return nil, err
	}
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{oidTimeStamping})
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtraExtensions = []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usage}}
	PointsBelow(c.PublicURL, c.CA).in(template)
	if template.NotAfter.After(c.CA.NotAfter) {
		template.NotAfter = c.CA.NotAfter
	}
	return issueFor(template, c.CA, c.Public, hsmKey{ctx, c.Keys, c.CAKey.ID, c.CAKey.Public}, c.Now, x509.ExtKeyUsageTimeStamping)
}

// CAConfig is what a CA is made of.
type CAConfig struct {
	Issuer      string // URL of the service, without a slash at the end
	Key         keystore.ID
	Certificate *x509.Certificate   // the CA's
	Chain       []*x509.Certificate // above it, the root last; empty if it is the root
	Earlier     []*x509.Certificate // roots whose keys were rotated: what they have certified still holds
	PublicURL   string              // of the HTTPS listener; empty: certificates name no revocation list
	Keys        KeySigner
	Lifetime    time.Duration // of signers' certificates; 2 years
	Clock       func() time.Time
}

// CA certifies the keys of signers and services.
type CA struct {
	CAConfig
	issuer string
	above  [][]byte // DER of the CA's certificate and those above it
}

// NewCA checks that the parts fit together.
func NewCA(c CAConfig) (*CA, error) {
	if c.Certificate == nil || c.Keys == nil || c.Clock == nil {
		return nil, errors.New("CA: certificate, keys and clock are all needed")
	}
	if u, err := url.Parse(c.Issuer); err != nil || u.Scheme == "" || u.Host == "" || strings.HasSuffix(c.Issuer, "/") {
		return nil, invalid("CA: issuer %q; use a URL without a slash at the end", c.Issuer)
	}
	if !c.Certificate.IsCA || c.Certificate.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("CA: %q is not the certificate of a CA", c.Certificate.Subject)
	}
	c.Lifetime = orDefault(c.Lifetime, signerLifetime)
	ca := &CA{CAConfig: c, issuer: c.Issuer, above: [][]byte{c.Certificate.Raw}}
	below := c.Certificate
	for _, up := range c.Chain {
		if err := below.CheckSignatureFrom(up); err != nil {
			return nil, fmt.Errorf("CA: %q did not issue %q: %w", up.Subject, below.Subject, err)
		}
		ca.above, below = append(ca.above, up.Raw), up
	}
	return ca, nil
}

// Subject is whom a certificate is for.
type Subject struct {
	ID           string
	Name         string // printed name, or the name of the service
	Organisation string
	Service      bool
}

// Issue certifies a public key for a signer: the profile of formats.md, section 3. The certificate is an end entity's
// that signs code and documents and nothing else, and its one SAN is the URI of the signer.
func (ca *CA) Issue(ctx context.Context, s Subject, public crypto.PublicKey) ([]byte, error) {
	now := ca.Clock()
	if now.Before(ca.Certificate.NotBefore) || now.After(ca.Certificate.NotAfter) {
		return nil, fmt.Errorf("%w: that of the CA holds from %s to %s", ErrCertificateExpired,
			ca.Certificate.NotBefore.Format(time.RFC3339), ca.Certificate.NotAfter.Format(time.RFC3339))
	}
	template, err := newTemplate(s.Name, s.Organisation, public, now, ca.Lifetime)
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(ca.Certificate.NotAfter) {
		template.NotAfter = ca.Certificate.NotAfter
	}
	uri, err := ca.uri(s)
	if err != nil {
		return nil, err
	}
	issuer, err := asn1.MarshalWithParams(ca.issuer, "utf8")
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidDocumentSigning}
	template.URIs = []*url.URL{uri}
	template.ExtraExtensions = []pkix.Extension{{Id: oidSigstoreIssuerV2, Value: issuer}}
	PointsBelow(ca.PublicURL, ca.Certificate).in(template)
	certificate, err := issueFor(template, ca.Certificate, public, hsmKey{ctx, ca.Keys, ca.Key, ca.Certificate.PublicKey}, now, x509.ExtKeyUsageCodeSigning)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", s.ID, err)
	}
	return certificate.Raw, nil
}

// uri names a signer below the issuer.
func (ca *CA) uri(s Subject) (*url.URL, error) {
	folder := "signers"
	if s.Service {
		folder = "services"
	}
	return url.Parse(ca.issuer + "/" + folder + "/" + s.ID)
}

// chain returns the certificates from a leaf to the root.
func (ca *CA) chain(leaf *x509.Certificate) ([][]byte, error) {
	err := leaf.CheckSignatureFrom(ca.Certificate)
	if err == nil {
		return append([][]byte{leaf.Raw}, ca.above...), nil
	}
	for _, root := range ca.Earlier {
		if leaf.CheckSignatureFrom(root) == nil {
			return [][]byte{leaf.Raw, root.Raw}, nil
		}
	}
	return nil, fmt.Errorf("certificate of %q: it was issued by another CA than this one: %w", leaf.Subject, err)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// newTemplate is what all certificates have in common.
func newTemplate(name, organisation string, public crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	for what, s := range map[string]string{"name": name, "organisation": organisation} {
		if n := utf8.RuneCountInString(s); n < 1 || n > maxCommonName || !utf8.ValidString(s) {
			return nil, invalid("certificate: %s of %d characters; a certificate holds 1 to %d (RFC 5280)", what, n, maxCommonName)
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	sum := sha256.Sum256(spki)
	serial := make([]byte, 20)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // 159 bits, positive, always of the same length
	now = now.UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: name, Organization: []string{organisation}},
		NotBefore:             now,
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
		SubjectKeyId:          sum[:20], // RFC 7093, method 4, cut to 160 bits
	}, nil
}

// create signs a certificate and reads it back.
func create(template, parent *x509.Certificate, public crypto.PublicKey, key hsmKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// issueFor signs the certificate of an end entity and verifies it as others will: a certificate that no verifier takes, because the issuer's host
// is another one than the CA was made for, is refused here and not years later.
func issueFor(template, ca *x509.Certificate, public crypto.PublicKey, key hsmKey, now time.Time, usage x509.ExtKeyUsage) (*x509.Certificate, error) {
	c, err := create(template, ca, public, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now.UTC().Truncate(time.Second), KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return nil, fmt.Errorf("%w: %q would not verify below the CA %q: %w; if the issuer has changed, rotate the CA's key", ErrCertificateUnfit, c.Subject, ca.Subject, err)
	}
	return c, nil
}
