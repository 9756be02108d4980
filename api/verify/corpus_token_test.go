package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/api/verify"
)

// der is one element of DER with the joined contents.
func der(tag byte, contents ...[]byte) []byte {
	b := slices.Concat(contents...)
	switch n := len(b); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, b...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, b...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, b...)
	}
}

func derOID(numbers ...int) []byte {
	b, _ := asn1.Marshal(asn1.ObjectIdentifier(numbers))
	return b
}

var (
	sha256Name    = der(0x30, derOID(2, 16, 840, 1, 101, 3, 4, 2, 1))
	tstInfo       = derOID(1, 2, 840, 113549, 1, 9, 16, 1, 4)
	contentType   = derOID(1, 2, 840, 113549, 1, 9, 3)
	messageDigest = derOID(1, 2, 840, 113549, 1, 9, 4)
	essV2         = derOID(1, 2, 840, 113549, 1, 9, 16, 2, 47)
)

// shape is a token in the making, well signed whatever is in it. It begins as a good one.
type shape struct {
	certificate  *x509.Certificate // a template until it is issued
	key          crypto.Signer
	algorithm    []byte   // of the signature
	info         [][]byte // TSTInfo: version, policy, imprint, serial, genTime, accuracy, ordering, nonce, name, extensions
	attributes   [][]byte // values by their types: content-type, message-digest, signing-certificate-v2
	further      []byte   // an attribute beside them
	bare         bool     // no signed attributes: the content itself is signed
	backwards    bool     // the attributes in another order than that of DER
	certificates [][]byte
	crls         []byte
	version      byte // of SignerInfo
	signers      int
	unsigned     []byte
}

// shaped is approved with a time-stamp that is not as it should be. issued changes the certificate of the authority, made the token.
func shaped(issued func(*x509.Certificate), made func(*making, *shape)) func(*making) {
	return func(k *making) {
		k.forged(forge{token: func(tb testing.TB, _ *rfc3161.Issuer, good []byte) []byte {
			tb.Helper()
			g, err := rfc3161.Parse(good)
			k.check(err)
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			k.check(err)
			s := &shape{key: key, algorithm: derOID(1, 2, 840, 10045, 4, 3, 2), version: 1, signers: 1, certificate: &x509.Certificate{
				SerialNumber: serial(), Subject: pkix.Name{CommonName: "Example TSA"}, NotBefore: start.Add(-24 * time.Hour), NotAfter: start.Add(24 * time.Hour),
				BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{rfc3161.ExtendedKeyUsage()},
			}}
			if issued != nil {
				issued(s.certificate)
			}
			s.certificate, err = x509.ParseCertificate(k.issue(k.tsaRoot, s.certificate, key.Public()))
			k.check(err)
			s.certificates = [][]byte{s.certificate.Raw}
			s.info = [][]byte{
				{2, 1, 1}, derOID(1, 3, 6, 1, 4, 1, 99999, 1), der(0x30, sha256Name, der(4, g.Imprint)), {2, 1, 77},
				der(0x18, []byte(g.GenTime.Format("20060102150405.000Z"))), der(0x30, []byte{0x80, 1, 100}), nil, nil, nil, nil,
			}
			s.attributes = [][]byte{tstInfo, nil, der(0x30, der(0x30, essID(s.certificate.Raw)))}
			if made != nil {
				made(k, s)
			}
			return s.token(k)
		}})
	}
}

func essID(certificate []byte) []byte {
	sum := sha256.Sum256(certificate)
	return der(0x30, der(4, sum[:]))
}

// rekey certifies another key.
func (s *shape) rekey(k *making, key crypto.Signer) {
	s.key, s.certificate.ExtraExtensions = key, []pkix.Extension{rfc3161.ExtendedKeyUsage()}
	var err error
	s.certificate, err = x509.ParseCertificate(k.issue(k.tsaRoot, s.certificate, key.Public()))
	k.check(err)
	s.certificates, s.attributes[2] = [][]byte{s.certificate.Raw}, der(0x30, der(0x30, essID(s.certificate.Raw)))
}

func (s *shape) token(k *making) []byte {
	content := der(0x30, s.info...)
	if s.attributes[1] == nil {
		sum := sha256.Sum256(content)
		s.attributes[1] = der(4, sum[:])
	}
	list := [][]byte{}
	for i, kind := range [][]byte{contentType, messageDigest, essV2} {
		if len(s.attributes[i]) > 0 {
			list = append(list, der(0x30, kind, der(0x31, s.attributes[i])))
		}
	}
	if s.further != nil {
		list = append(list, s.further)
	}
	slices.SortFunc(list, bytes.Compare)
	if s.backwards {
		slices.Reverse(list)
	}
	attributes, message := der(0xa0, list...), der(0x31, list...)
	if s.bare {
		attributes, message = nil, content
	}
	sum := sha256.Sum256(message)
	value, err := s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	k.check(err)
	number, err := asn1.Marshal(s.certificate.SerialNumber)
	k.check(err)
	signer := der(0x30, []byte{2, 1, s.version}, der(0x30, s.certificate.RawIssuer, number), sha256Name, attributes,
		der(0x30, s.algorithm), der(4, value), s.unsigned)
	return der(0x30, derOID(1, 2, 840, 113549, 1, 7, 2), der(0xa0, der(0x30, []byte{2, 1, 3}, der(0x31, sha256Name),
		der(0x30, tstInfo, der(0xa0, der(4, content))), der(0xa0, s.certificates...), s.crls, der(0x31, bytes.Repeat(signer, s.signers)))))
}

// tokenCases are time-stamps that are signed by a key that leads to a pinned root, and must not count.
func tokenCases() []kase {
	const code = verify.TimeNotProven
	usages := func(critical bool, list ...[]byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: der(0x30, list...)}}
		}
	}
	stamping, signing := derOID(1, 3, 6, 1, 5, 5, 7, 3, 8), derOID(1, 3, 6, 1, 5, 5, 7, 3, 3)
	info := func(i int, value ...byte) func(*making) {
		return shaped(nil, func(_ *making, s *shape) { s.info[i] = value })
	}
	at := func(layout string) func(*making) {
		return shaped(nil, func(_ *making, s *shape) {
			t, err := time.Parse("20060102150405.000Z", string(s.info[4][2:]))
			if err != nil {
				panic(err)
			}
			s.info[4] = der(0x18, []byte(t.Format(layout)))
		})
	}
	attribute := func(i int, value []byte) func(*making) {
		return shaped(nil, func(_ *making, s *shape) { s.attributes[i] = value })
	}
	made := func(change func(*shape)) func(*making) { return shaped(nil, func(_ *making, s *shape) { change(s) }) }
	return []kase{
		{"sound with a time-stamp of another shape", verify.OK, shaped(nil, nil), nil},
		{"a time-stamp whose extended key usage is not critical", code, shaped(usages(false, stamping), nil), nil},
		{"a time-stamp with a second extended key usage", code, shaped(usages(true, stamping, signing), nil), nil},
		{"a time-stamp without an extended key usage", code, shaped(func(c *x509.Certificate) { c.ExtraExtensions = nil }, nil), nil},
		{"a time-stamp of a key that may encrypt", code, shaped(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, nil), nil},
		{"a time-stamp of a CA", code, shaped(func(c *x509.Certificate) { c.IsCA = true }, nil), nil},
		{"a time-stamp of a certificate that lapsed within that second", code, shaped(func(c *x509.Certificate) { c.NotAfter = start.Add(3 * time.Second).Truncate(time.Second) }, nil), nil},
		{"a time-stamp of a certificate that held from the next second", code, shaped(func(c *x509.Certificate) { c.NotBefore = start.Add(4 * time.Second).Truncate(time.Second) }, nil), nil},
		{"a time-stamp of a small key", code, shaped(nil, func(k *making, s *shape) {
			key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
			k.check(err)
			s.rekey(k, key)
		}), nil},
		{"sound with a time-stamp of an RSA key", verify.OK, shaped(nil, func(k *making, s *shape) {
			s.rekey(k, k.key(manifest.RSAPSS))
			s.algorithm = append(derOID(1, 2, 840, 113549, 1, 1, 1), 5, 0) // rsaEncryption, as many authorities write it
		}), nil},
		{"a time-stamp that names another certificate", code, attribute(2, der(0x30, der(0x30, essID([]byte("another"))))), nil},
		{"a time-stamp that names no certificate", code, attribute(2, []byte{}), nil},
		{"a time-stamp that names a further certificate", code, shaped(nil, func(_ *making, s *shape) {
			s.attributes[2] = der(0x30, der(0x30, essID(s.certificate.Raw), essID([]byte("another"))))
		}), nil},
		{"a time-stamp that names another issuer", code, shaped(nil, func(k *making, s *shape) {
			sum := sha256.Sum256(s.certificate.Raw)
			s.attributes[2] = der(0x30, der(0x30, der(0x30, der(4, sum[:]), der(0x30, der(0x30, der(0xa4, k.ca.cert.RawSubject)), []byte{2, 1, 1}))))
		}), nil},
		{"a time-stamp with an imprint of the wrong length", code, shaped(nil, func(_ *making, s *shape) {
			s.info[2] = der(0x30, sha256Name, der(4, make([]byte, 20)))
		}), nil},
		{"a time-stamp without signed attributes", code, made(func(s *shape) { s.bare = true }), nil},
		{"a time-stamp with attributes that nobody signed", code, made(func(s *shape) { s.unsigned = der(0xa1, der(0x30, contentType, der(0x31, tstInfo))) }), nil},
		{"a time-stamp with attributes out of order", code, made(func(s *shape) { s.backwards = true }), nil},
		{"a time-stamp with an attribute twice", code, made(func(s *shape) { s.further = der(0x30, messageDigest, der(0x31, der(4, make([]byte, 32)))) }), nil},
		{"a time-stamp of other content", code, attribute(1, der(4, make([]byte, 32))), nil},
		{"a time-stamp of content of another type", code, attribute(0, derOID(1, 2, 840, 113549, 1, 7, 1)), nil},
		{"a time-stamp of two signers", code, made(func(s *shape) { s.signers = 2 }), nil},
		{"a time-stamp with a signer of another version", code, made(func(s *shape) { s.version = 3 }), nil},
		{"a time-stamp with a revocation list", code, made(func(s *shape) { s.crls = der(0xa1, der(0x30)) }), nil},
		{"a time-stamp with the certificate of a stranger", code, shaped(nil, func(k *making, s *shape) { s.certificates = append(s.certificates, k.ca.cert.Raw) }), nil},
		{"a time-stamp with its certificate twice", code, made(func(s *shape) { s.certificates = append(s.certificates, s.certificate.Raw) }), nil},
		{"a time-stamp in the name of somebody else", code, shaped(nil, func(k *making, s *shape) { s.info[8] = der(0xa0, der(0xa4, k.ca.cert.RawSubject)) }), nil},
		{"a time-stamp of another version", code, info(0, 2, 1, 2), nil},
		{"a time-stamp with a serial number below zero", code, info(3, 2, 1, 0xff), nil},
		{"a time-stamp whose time ends in zeros", code, at("20060102150405.000000Z"), nil},
		{"a time-stamp whose time is of another zone", code, at("20060102150405.000+0000"), nil},
		{"a time-stamp with an accuracy below zero", code, info(5, 0x30, 3, 2, 1, 0xff), nil},
		{"a time-stamp with an accuracy of a thousand thousandths", code, info(5, 0x30, 4, 0x80, 2, 3, 0xe8), nil},
		{"a time-stamp with an accuracy of nothing", code, info(5, 0x30, 0), nil},
		{"a time-stamp with an ordering that goes without saying", code, info(6, 1, 1, 0), nil},
		{"a time-stamp with a critical extension", code, info(9, der(0xa1, der(0x30, derOID(1, 2, 3), []byte{1, 1, 0xff}, []byte{4, 0}))...), nil},
		{"a time-stamp with something behind its last member", code, info(9, 0x82, 0), nil},
	}
}
