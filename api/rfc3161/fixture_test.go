package rfc3161

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"
)

// genTime is when the tests' tokens are made, in the middle of all validities.
var genTime = time.Date(2026, 11, 21, 9, 30, 0, 123_000_000, time.UTC)

var testPolicy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 99, 1}

const oidPolicy = "\x06\x09\x2b\x06\x01\x04\x01\x83\xbf\x30\x63" // shorter than testPolicy: forge's own

// party is a certificate with its key.
type party struct {
	*x509.Certificate
	key crypto.Signer
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "P-224":
		key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "RSA":
		key, err = rsaKey()
	default:
		t.Fatalf("kind of key %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rsaKey is made once: it takes up to seconds.
var rsaKey = sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// template returns a certificate of the profile; edits change it.
func certificateTemplate(name string) *x509.Certificate {
	serial := make([]byte, 12)
	rand.Read(serial)
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(append([]byte{1}, serial...)),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Example Medical"}},
		NotBefore:             genTime.Add(-24 * time.Hour),
		NotAfter:              genTime.Add(24 * time.Hour),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtraExtensions:       []pkix.Extension{ExtendedKeyUsage()},
	}
}

func certify(t testing.TB, template *x509.Certificate, key crypto.Signer, issuer *party) *party {
	t.Helper()
	parent, by := template, key
	if issuer != nil {
		parent, by = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{c, key}
}

func newCA(t testing.TB, name string, issuer *party) *party {
	t.Helper()
	template := certificateTemplate(name)
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.ExtraExtensions = nil
	template.NotBefore = genTime.Add(-1000 * time.Hour)
	template.NotAfter = genTime.Add(1000 * time.Hour)
	return certify(t, template, newKey(t, "P-256"), issuer) // the fastest: every bit of what it signs is flipped
}

// authority is a root and a time-stamping certificate below it.
type authority struct {
	root, intermediate, tsa *party // intermediate may be nil
}

// newAuthority makes one; edits change the time-stamping certificate before it is signed.
func newAuthority(t testing.TB, kind string, edits ...func(*x509.Certificate)) *authority {
	t.Helper()
	a := &authority{root: newCA(t, "Root", nil)}
	a.tsa = a.leaf(t, kind, edits...)
	return a
}

func newDeepAuthority(t testing.TB, kind string) *authority {
	t.Helper()
	a := &authority{root: newCA(t, "Root", nil)}
	a.intermediate = newCA(t, "Intermediate", a.root)
	a.tsa = a.leaf(t, kind)
	return a
}

func (a *authority) leaf(t testing.TB, kind string, edits ...func(*x509.Certificate)) *party {
	t.Helper()
	template := certificateTemplate("Time-stamps")
	for _, edit := range edits {
		edit(template)
	}
	issuer := a.root
	if a.intermediate != nil {
		issuer = a.intermediate
	}
	return certify(t, template, newKey(t, kind), issuer)
}

func (a *authority) roots() []*x509.Certificate { return []*x509.Certificate{a.root.Certificate} }

func (a *authority) issuer() *Issuer {
	i := &Issuer{
		Certificate: a.tsa.Certificate,
		Chain:       []*x509.Certificate{a.root.Certificate},
		Policy:      testPolicy,
		Accuracy:    time.Second,
		Sign:        func(_ context.Context, message []byte) ([]byte, error) { return signWith(a.tsa.key, message) },
	}
	if a.intermediate != nil {
		i.Chain = append(i.Chain, a.intermediate.Certificate)
	}
	return i
}

// signWith signs as Issuer.Sign must.
func signWith(key crypto.Signer, message []byte) ([]byte, error) {
	algorithm, _, _ := ownAlgorithm(key.Public())
	switch algorithm.scheme {
	case schemeEd25519:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case schemePSS:
		options := &rsa.PSSOptions{SaltLength: algorithm.hash.Size(), Hash: algorithm.hash}
		return key.Sign(rand.Reader, digest(algorithm.hash, message), options)
	}
	return key.Sign(rand.Reader, digest(algorithm.hash, message), algorithm.hash)
}

// signature stands for the bytes that are stamped.
var signature = []byte("the raw bytes of a signature")

func imprintOf(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

func request() Request {
	return Request{Hash: crypto.SHA256, Imprint: imprintOf(signature), CertReq: true}
}

func (a *authority) token(t testing.TB) []byte {
	t.Helper()
	der, err := a.issuer().Issue(t.Context(), request(), genTime)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (a *authority) options() VerifyOptions {
	return VerifyOptions{Imprint: imprintOf(signature), Roots: a.roots()}
}

// judge is Parse and Verify in one.
func judge(der []byte, o VerifyOptions) (*Token, error) {
	token, err := Parse(der)
	if err != nil {
		return nil, err
	}
	if _, err := token.Verify(o); err != nil {
		return nil, err
	}
	return token, nil
}

// forge writes tokens of any shape, well signed. Each field is DER; newForge fills in those of a good token.
type forge struct {
	version      []byte
	digests      []byte // contents of the SET of digest algorithms
	contentType  string
	info         [][]byte // members of TSTInfo
	certificates [][]byte
	crls         []byte
	signer       []byte // version of SignerInfo
	issuer       []byte
	serial       *big.Int
	signerDigest []byte
	attributes   map[string][]byte // contents of the SET of values by the object identifier's encoding
	further      [][]byte          // whole attributes beside those
	unsorted     bool
	unattributed bool // signs the content itself, without attributes
	algorithm    []byte
	unsigned     []byte
	sign         func(message []byte) []byte
	tail         []byte // after the token
	stuffed      int    // an empty [2] more goes into this constructed element of TSTInfo, counted from 1
}

// Members of forge.info.
const (
	infoVersion = iota
	infoPolicy
	infoImprint
	infoSerial
	infoTime
	infoAccuracy
	infoOrdering
	infoNonce
	infoName
	infoExtensions
)

func newForge(t testing.TB, a *authority) *forge {
	t.Helper()
	own, identifier, ok := ownAlgorithm(a.tsa.PublicKey)
	if !ok {
		t.Fatal("no algorithm for the key")
	}
	hash := element(tagSequence, []byte(hashOID(own.hash)))
	f := &forge{
		version:     []byte{tagInteger, 1, 3},
		digests:     hash,
		contentType: oidTSTInfo,
		info: [][]byte{
			infoVersion:    {tagInteger, 1, 1},
			infoPolicy:     []byte(oidPolicy),
			infoImprint:    encodeImprint(crypto.SHA256, false, imprintOf(signature)),
			infoSerial:     {tagInteger, 1, 77},
			infoTime:       encodeTime(genTime),
			infoAccuracy:   encodeAccuracy(time.Second),
			infoExtensions: nil,
		},
		certificates: [][]byte{a.tsa.Raw},
		signer:       []byte{tagInteger, 1, 1},
		issuer:       a.tsa.RawIssuer,
		serial:       a.tsa.SerialNumber,
		signerDigest: hash,
		attributes: map[string][]byte{
			oidContentType:          []byte(oidTSTInfo),
			oidSigningCertificateV2: signingCertificate(essID(a.tsa.Raw)),
		},
		algorithm: element(tagSequence, identifier),
		sign: func(message []byte) []byte {
			signature, err := signWith(a.tsa.key, message)
			if err != nil {
				t.Fatal(err)
			}
			return signature
		},
	}
	return f
}

// essID returns an ESSCertIDv2 with SHA-256.
func essID(certificate []byte) []byte {
	return element(tagSequence, element(tagOctetString, imprintOf(certificate)))
}

func signingCertificate(ids ...[]byte) []byte {
	return element(tagSequence, element(tagSequence, ids...))
}

func (f *forge) token() []byte {
	content := element(tagSequence, f.info...)
	if f.stuffed > 0 {
		content, _ = stuff(content, f.stuffed)
	}
	hash, _, _ := parseHash(f.signerDigest[2:]) // the contents of the AlgorithmIdentifier
	if hash == 0 {
		hash = crypto.SHA256
	}
	attributes := map[string][]byte{oidMessageDigest: element(tagOctetString, digest(hash, content))}
	for oid, values := range f.attributes {
		attributes[oid] = values
		if values == nil {
			delete(attributes, oid)
		}
	}
	list := slices.Clone(f.further)
	for oid, values := range attributes {
		list = append(list, element(tagSequence, []byte(oid), element(tagSet, values)))
	}
	slices.SortFunc(list, bytes.Compare)
	if f.unsorted {
		slices.Reverse(list)
	}
	members := [][]byte{
		f.signer,
		element(tagSequence, f.issuer, encodeInteger(f.serial)),
		f.signerDigest,
	}
	message := element(tagSet, list...)
	if f.unattributed {
		message = content
	} else {
		members = append(members, element(0xa0, list...))
	}
	members = append(members, f.algorithm, element(tagOctetString, f.sign(message)), f.unsigned)
	var certificates []byte
	if len(f.certificates) > 0 {
		certificates = element(0xa0, f.certificates...)
	}
	data := element(tagSequence, f.version, element(tagSet, f.digests),
		element(tagSequence, []byte(f.contentType), element(0xa0, element(tagOctetString, content))),
		certificates, f.crls, element(tagSet, element(tagSequence, members...)))
	return append(element(tagSequence, []byte(oidSignedData), element(0xa0, data)), f.tail...)
}

// stuff appends an empty [2] to the k-th constructed element of der, counted from 1 in the order of their ends, and mends the lengths. It reports whether there are that many.
func stuff(der []byte, k int) ([]byte, bool) {
	var again func(b []byte) []byte
	again = func(b []byte) []byte {
		var members []byte
		for len(b) > 0 {
			start, length, err := header(b, 0, len(b))
			if err != nil {
				panic(err) // the tests' own bytes
			}
			contents := b[start : start+length]
			if b[0]&tagConstructed != 0 {
				contents = again(contents)
				if k--; k == 0 {
					contents = append(contents, 0x82, 0)
				}
			}
			members = append(members, element(b[0], contents)...)
			b = b[start+length:]
		}
		return members
	}
	stuffed := again(der)
	return stuffed, k <= 0
}
