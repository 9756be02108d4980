package rfc3161

import (
	"crypto"
	"encoding/asn1"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of requests and responses.
const (
	// MaxRequest is the size of the largest request that [ParseRequest] reads.
	MaxRequest = 4096
	// MaxToken is the size of the largest token that [Parse] reads.
	MaxToken = 64 << 10
	// maxNonce bounds a nonce, in bits.
	maxNonce = 512
	// maxSerial bounds the serial number of a token, in bits (RFC 3161, section 2.4.2).
	maxSerial = 160
)

// Request asks for a time-stamp (TimeStampReq).
type Request struct {
	Hash    crypto.Hash           // SHA-256, SHA-384 or SHA-512
	Imprint []byte                // the hash of what is to be stamped
	Nonce   *big.Int              // echoed in the token; nil if there is none
	Policy  asn1.ObjectIdentifier // the policy asked for; nil leaves it to the authority
	CertReq bool                  // the token must carry the signer's certificate

	null bool // the hash's identifier had NULL for parameters, and the token's must have them too
}

// Encode returns the request in DER.
func (r Request) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddBytes(encodeImprint(r.Hash, r.null, r.Imprint))
		if r.Policy != nil {
			b.AddASN1ObjectIdentifier(r.Policy)
		}
		if r.Nonce != nil {
			b.AddASN1BigInt(r.Nonce)
		}
		if r.CertReq {
			b.AddASN1Boolean(true)
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, refuse(UnacceptedPolicy, "the policy %v is not an object identifier", r.Policy)
	}
	return der, nil
}

// check refuses what no token can be made for.
func (r Request) check() error {
	if hashOID(r.Hash) == "" {
		return refuse(BadAlg, "the hash must be SHA-256, SHA-384 or SHA-512")
	}
	if len(r.Imprint) != r.Hash.Size() {
		return refuse(BadDataFormat, "the imprint is %d bytes long, and a hash of %s has %d", len(r.Imprint), r.Hash, r.Hash.Size())
	}
	if r.Nonce != nil && r.Nonce.BitLen() > maxNonce {
		return refuse(BadRequest, "the nonce is longer than %d bits", maxNonce)
	}
	return nil
}

// ParseRequest reads a request. Every error is a [*Refusal], whose FailInfo belongs into the response, and wraps
// [ErrMalformed] where the bytes are no request.
func ParseRequest(der []byte) (Request, error) {
	bad := func(f FailInfo, format string, args ...any) (Request, error) {
		r := refuse(f, format, args...)
		r.Err = ErrMalformed
		return Request{}, r
	}
	if len(der) > MaxRequest {
		return bad(BadDataFormat, "the request is %d bytes long; the most is %d", len(der), MaxRequest)
	}
	if err := checkDER(der); err != nil {
		return bad(BadDataFormat, "%v", err)
	}
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	var version int
	if !input.ReadASN1(&seq, tags.SEQUENCE) || !seq.ReadASN1Integer(&version) {
		return bad(BadDataFormat, "not a TimeStampReq")
	}
	if version != 1 {
		return bad(BadRequest, "version %d of TimeStampReq is not known; use 1", version)
	}
	var r Request
	hash, null, imprint, ok := readImprint(&seq)
	if !ok {
		return bad(BadDataFormat, "no message imprint")
	}
	if hash == 0 {
		return Request{}, refuse(BadAlg, "the hash must be SHA-256, SHA-384 or SHA-512")
	}
	r.Hash, r.null, r.Imprint = hash, null, imprint
	if seq.PeekASN1Tag(tags.OBJECT_IDENTIFIER) {
		if !seq.ReadASN1ObjectIdentifier(&r.Policy) {
			return Request{}, refuse(UnacceptedPolicy, "the policy's object identifier has numbers beyond 31 bits")
		}
	}
	if seq.PeekASN1Tag(tags.INTEGER) {
		r.Nonce = new(big.Int)
		if !seq.ReadASN1Integer(r.Nonce) {
			return bad(BadDataFormat, "the nonce is not an INTEGER")
		}
	}
	if seq.PeekASN1Tag(tags.BOOLEAN) {
		if !seq.ReadASN1Boolean(&r.CertReq) || !r.CertReq {
			return bad(BadDataFormat, "certReq is FALSE, and DER leaves a default out")
		}
	}
	if seq.PeekASN1Tag(tags.Tag(0).ContextSpecific().Constructed()) {
		return Request{}, refuse(UnacceptedExtension, "no extension of requests is known")
	}
	if !seq.Empty() || !input.Empty() {
		return bad(BadDataFormat, "something follows the request's last member")
	}
	if err := r.check(); err != nil {
		return Request{}, err
	}
	return r, nil
}

// encodeImprint returns a MessageImprint.
func encodeImprint(h crypto.Hash, null bool, imprint []byte) []byte {
	params := ""
	if null {
		params = derNull
	}
	identifier := element(tagSequence, []byte(hashOID(h)), []byte(params))
	return element(tagSequence, identifier, element(tagOctetString, imprint))
}

// readImprint reads a MessageImprint. The hash is zero where it is none of the profile's.
func readImprint(s *cryptobyte.String) (h crypto.Hash, null bool, imprint []byte, ok bool) {
	var seq, identifier, octets cryptobyte.String
	if !s.ReadASN1(&seq, tags.SEQUENCE) || !seq.ReadASN1(&identifier, tags.SEQUENCE) ||
		!seq.ReadASN1(&octets, tags.OCTET_STRING) || !seq.Empty() {
		return 0, false, nil, false
	}
	h, null, known := parseHash(identifier)
	if !known {
		return 0, false, octets, true
	}
	return h, null, append([]byte(nil), octets...), true
}
