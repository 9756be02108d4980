package rfc3161

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// ErrConfig: an [Issuer]'s fields do not fit together. The text says which; nothing was signed.
var ErrConfig = errors.New("this issuer cannot make time-stamps")

// Issuer makes tokens of the strict profile. Its fields must not change once it is in use; it may be used by several goroutines at once.
type Issuer struct {
	// Certificate signs: no CA's, critical key usage digitalSignature alone, the one extended key usage timeStamping, critical.
	Certificate *x509.Certificate
	// Chain holds the intermediate certificates that go into a token beside the signer's. A self-issued one (the root) is left out: a verifier has it pinned.
	Chain []*x509.Certificate
	// Policy stands in each token, and is the only one that a request may ask for.
	Policy asn1.ObjectIdentifier
	// Accuracy is how far the clock may be off at the most: between a microsecond and a second.
	Accuracy time.Duration
	// Sign returns the signature of message by the certificate's key: ECDSA in ASN.1 DER with the hash of the curve's size, RSA PSS with SHA-256 and a salt of
	// 32 bytes, Ed25519 of the message itself. It must have verified what it returns; Issue looks only at its shape.
	Sign func(ctx context.Context, message []byte) ([]byte, error)
	// Serial returns a number that no other token of this authority has: positive, 160 bits at the most. nil draws 159 random bits.
	Serial func() *big.Int

	once   sync.Once
	static *template
	err    error
}

// template holds the parts of a token that are the same in all of one issuer's.
type template struct {
	algorithm    algorithm
	digest       []byte // AlgorithmIdentifier of the digest
	signature    []byte // AlgorithmIdentifier of the signature
	sid          []byte
	policy       []byte // version and policy of TSTInfo
	accuracy     []byte
	attributes   []byte // the SET OF signed attributes, with zeros for the message digest
	messageAt    int    // where in attributes the message digest goes
	certificates []byte // [0], the set of certificates
}

// Check reports whether the issuer's fields fit together; errors wrap [ErrConfig], and [ErrCertificate] where the certificate is at fault. Issue does the same.
func (i *Issuer) Check() error {
	_, err := i.prepare()
	return err
}

// ExtendedKeyUsage returns the extension that a time-stamping certificate needs: the one usage timeStamping, critical. Put it into
// the ExtraExtensions of a template: x509.CreateCertificate itself never marks extended key usage as critical.
func ExtendedKeyUsage() pkix.Extension {
	return pkix.Extension{
		Id:       asn1.ObjectIdentifier{2, 5, 29, 37},
		Critical: true,
		Value:    []byte("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x08"), // SEQUENCE { 1.3.6.1.5.5.7.3.8 }
	}
}

func (i *Issuer) prepare() (*template, error) {
	i.once.Do(func() { i.static, i.err = i.build() })
	return i.static, i.err
}

func (i *Issuer) build() (*template, error) {
	bad := func(format string, args ...any) (*template, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...)
	}
	if i.Certificate == nil || i.Sign == nil {
		return bad("a certificate and a way to sign are needed")
	}
	if err := checkProfile(i.Certificate, true); err != nil {
		return bad("%w", err)
	}
	if i.Accuracy < time.Microsecond || i.Accuracy > maxAccuracy || i.Accuracy%time.Microsecond != 0 {
		return bad("an accuracy of %v; it must be between 1 µs and 1 s, in whole microseconds", i.Accuracy)
	}
	t := &template{accuracy: encodeAccuracy(i.Accuracy)}
	var identifier []byte
	var ok bool
	if t.algorithm, identifier, ok = ownAlgorithm(i.Certificate.PublicKey); !ok {
		return bad("no signature algorithm for the certificate's key")
	}
	hash := t.algorithm.hash
	t.signature = element(tagSequence, identifier)
	t.digest = element(tagSequence, []byte(hashOID(hash)))

	var b cryptobyte.Builder
	b.AddASN1Int64(1)
	b.AddASN1ObjectIdentifier(i.Policy)
	var err error
	if t.policy, err = b.Bytes(); err != nil {
		return bad("the policy %v is not an object identifier", i.Policy)
	}
	b = cryptobyte.Builder{}
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(i.Certificate.RawIssuer)
		b.AddASN1BigInt(i.Certificate.SerialNumber)
	})
	if t.sid, err = b.Bytes(); err != nil {
		return bad("the certificate's serial number: %v", err)
	}

	message := element(tagOctetString, make([]byte, hash.Size()))
	essID := element(tagSequence, element(tagOctetString, digest(crypto.SHA256, i.Certificate.Raw)))
	attributes := [][]byte{
		encodeAttribute(oidContentType, []byte(oidTSTInfo)),
		encodeAttribute(oidMessageDigest, message),
		encodeAttribute(oidSigningCertificateV2, element(tagSequence, element(tagSequence, essID))),
	}
	slices.SortFunc(attributes, bytes.Compare) // the digest, still zero, cannot change the order: object identifiers differ before it
	t.attributes = element(tagSet, attributes...)
	t.messageAt = bytes.Index(t.attributes, message) + len(message) - hash.Size()

	certificates := [][]byte{i.Certificate.Raw}
	for _, c := range i.Chain {
		if !bytes.Equal(c.RawSubject, c.RawIssuer) && !bytes.Equal(c.Raw, i.Certificate.Raw) {
			certificates = append(certificates, c.Raw)
		}
	}
	if len(certificates) > maxCertificates {
		return bad("a chain of more than %d certificates", maxCertificates)
	}
	slices.SortFunc(certificates, bytes.Compare)
	t.certificates = element(0xa0, certificates...)
	if len(t.certificates) > MaxToken/2 {
		return bad("the certificates take %d bytes; a token has room for %d", len(t.certificates), MaxToken/2)
	}
	return t, nil
}

func encodeAttribute(oid string, value []byte) []byte {
	return element(tagSequence, []byte(oid), element(tagSet, value))
}

// encodeAccuracy returns an Accuracy; zero members are left out.
func encodeAccuracy(d time.Duration) []byte {
	integer := func(tag byte, n int64) []byte {
		if n == 0 {
			return nil
		}
		if n < 0x80 {
			return []byte{tag, 1, byte(n)}
		}
		return []byte{tag, 2, byte(n >> 8), byte(n)} // up to 999, so never negative
	}
	return element(tagSequence,
		integer(tagInteger, int64(d/time.Second)),
		integer(tagContext0, int64(d%time.Second/time.Millisecond)),
		integer(tagContext1, int64(d%time.Millisecond/time.Microsecond)))
}

// encodeInteger returns n as an INTEGER.
func encodeInteger(n *big.Int) []byte {
	if n.Sign() < 0 {
		var b cryptobyte.Builder
		b.AddASN1BigInt(n)
		der, _ := b.Bytes() // every integer has an encoding
		return der
	}
	value := n.Bytes()
	if len(value) == 0 || value[0] >= 0x80 {
		value = append([]byte{0}, value...)
	}
	return element(tagInteger, value)
}

// Issue makes a token for req at genTime, which is cut to milliseconds. A request that must be refused gives a [*Refusal]; a certificate
// that does not hold at genTime gives [ErrCertificate]; Sign's errors come back wrapped.
func (i *Issuer) Issue(ctx context.Context, req Request, genTime time.Time) ([]byte, error) {
	t, err := i.prepare()
	if err != nil {
		return nil, err
	}
	if err := req.check(); err != nil {
		return nil, err
	}
	if req.Policy != nil && !req.Policy.Equal(i.Policy) {
		return nil, refuse(UnacceptedPolicy, "the policy %v is not known; this authority's is %v", req.Policy, i.Policy)
	}
	genTime = genTime.UTC().Truncate(time.Millisecond)
	if err := checkValidity(i.Certificate, genTime); err != nil {
		return nil, err
	}
	serial, err := i.serial()
	if err != nil {
		return nil, err
	}

	content := t.content(req, genTime, serial)
	attributes := bytes.Clone(t.attributes)
	copy(attributes[t.messageAt:], digest(t.algorithm.hash, content))

	signature, err := i.Sign(ctx, bytes.Clone(attributes))
	if err != nil {
		return nil, fmt.Errorf("signing the time-stamp: %w", err)
	}
	if !t.algorithm.shaped(i.Certificate.PublicKey, signature) {
		return nil, fmt.Errorf("%w: what was returned does not have the shape of a signature by the certificate's key", ErrSignature)
	}
	attributes[0] = 0xa0
	return t.token(content, attributes, signature, req.CertReq), nil
}

// content returns the TSTInfo.
func (t *template) content(req Request, genTime time.Time, serial []byte) []byte {
	var nonce []byte
	if req.Nonce != nil {
		nonce = encodeInteger(req.Nonce)
	}
	imprint, at := encodeImprint(req.Hash, req.null, req.Imprint), encodeTime(genTime)
	w := newBackwards(len(t.policy) + len(imprint) + len(serial) + len(at) + len(t.accuracy) + len(nonce) + maxHeader)
	end := w.at
	w.put(t.policy, imprint, serial, at, t.accuracy, nonce)
	w.wrap(tagSequence, end)
	return w.bytes()
}

// token returns the ContentInfo.
func (t *template) token(content, attributes, signature []byte, certificates bool) []byte {
	size := len(t.digest)*2 + len(content) + len(t.certificates) + len(t.sid) + len(attributes) + len(t.signature) + len(signature)
	w := newBackwards(size + len(oidTSTInfo) + len(oidSignedData) + 2*len(version3) + 10*maxHeader)
	end := w.at

	w.put(signature)
	w.wrap(tagOctetString, end)
	w.put(version1, t.sid, t.digest, attributes, t.signature)
	w.wrap(tagSequence, end) // SignerInfo
	w.wrap(tagSet, end)
	if certificates {
		w.put(t.certificates)
	}

	info := w.at
	w.put(content)
	w.wrap(tagOctetString, info)
	w.wrap(0xa0, info)
	w.putString(oidTSTInfo)
	w.wrap(tagSequence, info) // EncapsulatedContentInfo

	algorithms := w.at
	w.put(t.digest)
	w.wrap(tagSet, algorithms)
	w.put(version3)
	w.wrap(tagSequence, end) // SignedData
	w.wrap(0xa0, end)
	w.putString(oidSignedData)
	w.wrap(tagSequence, end)
	return w.bytes()
}

// Versions of SignerInfo and SignedData.
var (
	version1 = []byte{tagInteger, 1, 1}
	version3 = []byte{tagInteger, 1, 3}
)

// serial returns the next serial number as an INTEGER.
func (i *Issuer) serial() ([]byte, error) {
	if i.Serial == nil {
		var b [maxSerial / 8]byte
		rand.Read(b[:])
		b[0] &= 0x7f // 20 bytes, and still positive
		return encodeInteger(new(big.Int).SetBytes(b[:])), nil
	}
	n := i.Serial()
	if n == nil || n.Sign() <= 0 || n.BitLen() > maxSerial {
		return nil, fmt.Errorf("%w: a serial number must be positive and of %d bits at the most", ErrConfig, maxSerial)
	}
	return encodeInteger(n), nil
}

// shaped reports whether signature can be one of pub, without verifying it.
func (a algorithm) shaped(pub crypto.PublicKey, signature []byte) bool {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		if len(signature) > 256 || checkDER(signature) != nil {
			return false
		}
		input := cryptobyte.String(signature)
		var seq cryptobyte.String
		var r, s big.Int
		order := key.Curve.Params().N
		return input.ReadASN1(&seq, tags.SEQUENCE) && seq.ReadASN1Integer(&r) && seq.ReadASN1Integer(&s) && seq.Empty() &&
			r.Sign() > 0 && s.Sign() > 0 && r.Cmp(order) < 0 && s.Cmp(order) < 0
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize
	case *rsa.PublicKey:
		return len(signature) == key.Size()
	}
	return false
}
