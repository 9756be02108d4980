package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// maxCertificates bounds the certificates in a token.
const maxCertificates = 8

// maxAccuracy is the widest accuracy that our own tokens state.
const maxAccuracy = time.Second

// Token is a time-stamp token as it was read. Nothing in it is proven before [Token.Verify] has succeeded.
type Token struct {
	GenTime time.Time // UTC
	// Accuracy is how far GenTime may be off: what the token states, and one second at the least where it states none or GenTime has no sub-seconds.
	Accuracy     time.Duration
	Serial       *big.Int // unique for the authority
	Policy       asn1.ObjectIdentifier
	Hash         crypto.Hash // of the imprint
	Imprint      []byte
	Nonce        *big.Int            // nil if there is none
	Certificates []*x509.Certificate // as embedded, in their order; empty if the request did not ask for them
	Raw          []byte              // the token in DER

	signed signed
}

// signed is the part of a token that Verify judges.
type signed struct {
	content       []byte // TSTInfo, the bytes that message-digest is about
	messageDigest []byte
	attributes    []byte // the signed attributes as the SET that the signature is about
	digest        crypto.Hash
	algorithm     algorithm
	signature     []byte
	issuer        []byte // of the signer's certificate, a Name in DER
	serial        *big.Int
	certificates  []certificateID // ESSCertIDv2, the signer's first
	name          []byte          // TSTInfo.tsa, a GeneralName; nil if there is none
	departures    []string        // from the strict profile
}

// certificateID is an ESSCertIDv2 (RFC 5035).
type certificateID struct {
	hash   crypto.Hash
	value  []byte
	issuer []byte // a Name in DER; nil if the certificate is named by its hash alone
	serial *big.Int
}

// depart notes a departure from the strict profile.
func (t *Token) depart(what string) { t.signed.departures = append(t.signed.departures, what) }

// Parse reads a token: a CMS ContentInfo in DER, 64 KiB at the most. It takes a copy of der. All errors wrap [ErrMalformed].
func Parse(der []byte) (*Token, error) {
	if len(der) > MaxToken {
		return nil, malformed("the token is %d bytes long; the most is %d", len(der), MaxToken)
	}
	if err := checkDER(der); err != nil {
		return nil, err
	}
	t := &Token{Raw: bytes.Clone(der)}
	input := cryptobyte.String(t.Raw)
	var info, explicit, data cryptobyte.String
	if !input.ReadASN1(&info, tags.SEQUENCE) || !readOID(&info, oidSignedData) ||
		!info.ReadASN1(&explicit, tags.Tag(0).ContextSpecific().Constructed()) || !info.Empty() ||
		!explicit.ReadASN1(&data, tags.SEQUENCE) || !explicit.Empty() {
		return nil, malformed("not a CMS SignedData")
	}
	if err := t.parseSignedData(data); err != nil {
		return nil, err
	}
	return t, nil
}

// readOID reads an object identifier and reports whether it is want.
func readOID(s *cryptobyte.String, want string) bool {
	var oid cryptobyte.String
	return s.ReadASN1Element(&oid, tags.OBJECT_IDENTIFIER) && string(oid) == want
}

// parseSignedData reads the members of a SignedData (RFC 5652, section 5.1).
func (t *Token) parseSignedData(data cryptobyte.String) error {
	var version int
	if !data.ReadASN1Integer(&version) || version != 3 {
		return malformed("SignedData is not of version 3")
	}
	var algorithms, identifier cryptobyte.String
	if !data.ReadASN1(&algorithms, tags.SET) || !algorithms.ReadASN1(&identifier, tags.SEQUENCE) || !algorithms.Empty() {
		return malformed("SignedData does not have exactly one digest algorithm")
	}
	digestIdentifier := identifier
	hash, null, ok := parseHash(identifier)
	if !ok {
		return malformed("the digest algorithm must be SHA-256, SHA-384 or SHA-512")
	}
	t.signed.digest = hash
	if null {
		t.depart("the digest algorithm has parameters")
	}

	var content, explicit, octets cryptobyte.String
	if !data.ReadASN1(&content, tags.SEQUENCE) || !readOID(&content, oidTSTInfo) ||
		!content.ReadASN1(&explicit, tags.Tag(0).ContextSpecific().Constructed()) || !content.Empty() ||
		!explicit.ReadASN1(&octets, tags.OCTET_STRING) || !explicit.Empty() {
		return malformed("the signed content is not a TSTInfo")
	}
	t.signed.content = octets
	if err := t.parseTSTInfo(octets); err != nil {
		return err
	}

	if set := tags.Tag(0).ContextSpecific().Constructed(); data.PeekASN1Tag(set) {
		var certificates cryptobyte.String
		if !data.ReadASN1(&certificates, set) || certificates.Empty() {
			return malformed("an empty set of certificates")
		}
		if err := t.parseCertificates(certificates); err != nil {
			return err
		}
	}
	if data.PeekASN1Tag(tags.Tag(1).ContextSpecific().Constructed()) {
		return malformed("revocation lists have no place in a token")
	}
	var signers, signer cryptobyte.String
	if !data.ReadASN1(&signers, tags.SET) || !data.Empty() || !signers.ReadASN1(&signer, tags.SEQUENCE) || !signers.Empty() {
		return malformed("SignedData does not have exactly one signer as its last member")
	}
	return t.parseSigner(signer, digestIdentifier)
}

// parseCertificates reads the embedded certificates, each once.
func (t *Token) parseCertificates(set cryptobyte.String) error {
	var last []byte
	for !set.Empty() {
		var der cryptobyte.String
		if !set.ReadASN1Element(&der, tags.SEQUENCE) {
			return malformed("the set of certificates holds something else")
		}
		if len(t.Certificates) == maxCertificates {
			return malformed("more than %d certificates", maxCertificates)
		}
		if !certificateShape(der) {
			return malformed("certificate %d has more or less than its three members", len(t.Certificates))
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return malformed("certificate %d: %v", len(t.Certificates), err)
		}
		for _, other := range t.Certificates {
			if bytes.Equal(other.Raw, c.Raw) {
				return malformed("certificate %d is there twice", len(t.Certificates))
			}
		}
		if bytes.Compare(last, c.Raw) > 0 {
			t.depart("the certificates are not in the order of DER")
		}
		last = c.Raw
		t.Certificates = append(t.Certificates, c)
	}
	return nil
}

// certificateShape reports whether der has the members of a Certificate and nothing beside them: crypto/x509 does not look behind the
// signature, and what stands there nobody has signed.
func certificateShape(der cryptobyte.String) bool {
	var members cryptobyte.String
	return der.ReadASN1(&members, tags.SEQUENCE) && members.SkipASN1(tags.SEQUENCE) && members.SkipASN1(tags.SEQUENCE) &&
		members.SkipASN1(tags.BIT_STRING) && members.Empty()
}

// parseSigner reads a SignerInfo (RFC 5652, section 5.3).
func (t *Token) parseSigner(info cryptobyte.String, digestIdentifier []byte) error {
	var version int
	if !info.ReadASN1Integer(&version) || version != 1 {
		return malformed("SignerInfo is not of version 1")
	}
	var sid cryptobyte.String
	if !info.ReadASN1(&sid, tags.SEQUENCE) || !readIssuerAndSerial(sid, &t.signed.issuer, &t.signed.serial) {
		return malformed("the signer is not named by issuer and serial number")
	}
	var identifier, attributes cryptobyte.String
	if !info.ReadASN1(&identifier, tags.SEQUENCE) || !bytes.Equal(identifier, digestIdentifier) {
		return malformed("the signer's digest algorithm is not that of the SignedData")
	}
	set := tags.Tag(0).ContextSpecific().Constructed()
	if !info.ReadASN1Element(&attributes, set) {
		return malformed("no signed attributes")
	}
	t.signed.attributes = bytes.Clone(attributes)
	t.signed.attributes[0] = tagSet // what is signed is the SET, not its implicit tag (RFC 5652, section 5.4)
	var list cryptobyte.String
	if !attributes.ReadASN1(&list, set) {
		return malformed("no signed attributes")
	}
	if err := t.parseAttributes(list); err != nil {
		return err
	}
	var signature cryptobyte.String
	if !info.ReadASN1(&identifier, tags.SEQUENCE) || !info.ReadASN1(&signature, tags.OCTET_STRING) {
		return malformed("SignerInfo without a signature")
	}
	if !info.Empty() {
		return malformed("unsigned attributes have no place in a token")
	}
	a, ok := parseAlgorithm(identifier)
	if !ok {
		return malformed("the signature algorithm must be ECDSA, RSA (PKCS #1 v1.5, PSS) or Ed25519 with SHA-2, its identifier in the one form")
	}
	if a.hash == 0 {
		a.hash = t.signed.digest
	}
	if a.hash != t.signed.digest {
		return malformed("the signature's hash is %s and the signer's digest algorithm %s", a.hash, t.signed.digest)
	}
	if a.scheme == schemePKCS1 {
		t.depart("the signature is RSA with PKCS #1 v1.5")
	}
	t.signed.algorithm = a
	t.signed.signature = signature
	return nil
}

// readIssuerAndSerial reads the members of an IssuerAndSerialNumber.
func readIssuerAndSerial(s cryptobyte.String, issuer *[]byte, serial **big.Int) bool {
	*serial = new(big.Int)
	return s.ReadASN1Element((*cryptobyte.String)(issuer), tags.SEQUENCE) && s.ReadASN1Integer(*serial) && s.Empty()
}

// parseAttributes reads the signed attributes: in the order of DER, each type once, each with one value.
func (t *Token) parseAttributes(list cryptobyte.String) error {
	var last []byte
	seen := make(map[string]bool)
	for !list.Empty() {
		var whole, attribute, oid, values, value cryptobyte.String
		if !list.ReadASN1Element(&whole, tags.SEQUENCE) {
			return malformed("a signed attribute is not a SEQUENCE")
		}
		if bytes.Compare(last, whole) >= 0 {
			return malformed("the signed attributes are not in the order of DER")
		}
		last = whole
		var tag tags.Tag
		if !whole.ReadASN1(&attribute, tags.SEQUENCE) || !attribute.ReadASN1Element(&oid, tags.OBJECT_IDENTIFIER) ||
			!attribute.ReadASN1(&values, tags.SET) || !attribute.Empty() ||
			!values.ReadAnyASN1Element(&value, &tag) || !values.Empty() {
			return malformed("a signed attribute does not have exactly one value")
		}
		if seen[string(oid)] {
			return malformed("a signed attribute is there twice")
		}
		seen[string(oid)] = true
		switch string(oid) {
		case oidContentType:
			if string(value) != oidTSTInfo {
				return malformed("the content-type attribute does not say TSTInfo")
			}
		case oidMessageDigest:
			if !value.ReadASN1((*cryptobyte.String)(&t.signed.messageDigest), tags.OCTET_STRING) ||
				len(t.signed.messageDigest) != t.signed.digest.Size() {
				return malformed("the message-digest attribute is not a hash of %s", t.signed.digest)
			}
		case oidSigningCertificateV2:
			if err := t.parseSigningCertificate(value); err != nil {
				return err
			}
		default:
			t.depart("further signed attributes")
		}
	}
	for _, required := range [...]struct{ oid, name string }{
		{oidContentType, "content-type"}, {oidMessageDigest, "message-digest"}, {oidSigningCertificateV2, "signing-certificate-v2 (ESSCertIDv2)"},
	} {
		if !seen[required.oid] {
			return malformed("no signed attribute %s", required.name)
		}
	}
	return nil
}

// parseSigningCertificate reads a SigningCertificateV2 (RFC 5035, section 3).
func (t *Token) parseSigningCertificate(value cryptobyte.String) error {
	var seq, list cryptobyte.String
	if !value.ReadASN1(&seq, tags.SEQUENCE) || !value.Empty() || !seq.ReadASN1(&list, tags.SEQUENCE) || list.Empty() {
		return malformed("signing-certificate-v2 names no certificate")
	}
	for !list.Empty() {
		if len(t.signed.certificates) == maxCertificates {
			return malformed("signing-certificate-v2 names more than %d certificates", maxCertificates)
		}
		var entry cryptobyte.String
		if !list.ReadASN1(&entry, tags.SEQUENCE) {
			return malformed("signing-certificate-v2 is not a list of ESSCertIDv2")
		}
		id, err := t.parseCertificateID(entry)
		if err != nil {
			return err
		}
		t.signed.certificates = append(t.signed.certificates, id)
	}
	if len(t.signed.certificates) > 1 {
		t.depart("ESSCertIDv2 for more than the signer's certificate")
	}
	if seq.PeekASN1Tag(tags.SEQUENCE) { // certificate policies, for information
		t.depart("signing-certificate-v2 has policies")
		seq.SkipASN1(tags.SEQUENCE)
	}
	if !seq.Empty() {
		return malformed("something follows signing-certificate-v2's last member")
	}
	return nil
}

// parseCertificateID reads the members of an ESSCertIDv2 (RFC 5035, section 4).
func (t *Token) parseCertificateID(entry cryptobyte.String) (certificateID, error) {
	id := certificateID{hash: crypto.SHA256}
	if entry.PeekASN1Tag(tags.SEQUENCE) {
		// Many authorities write the default out, against DER.
		t.depart("ESSCertIDv2 names its hash")
		var identifier cryptobyte.String
		ok := entry.ReadASN1(&identifier, tags.SEQUENCE)
		if ok {
			id.hash, _, ok = parseHash(identifier)
		}
		if !ok {
			return id, malformed("the hash of ESSCertIDv2 must be SHA-256, SHA-384 or SHA-512")
		}
	}
	if !entry.ReadASN1((*cryptobyte.String)(&id.value), tags.OCTET_STRING) || len(id.value) != id.hash.Size() {
		return id, malformed("ESSCertIDv2 does not hold a hash of %s", id.hash)
	}
	if entry.PeekASN1Tag(tags.SEQUENCE) { // IssuerSerial: the issuer as GeneralNames of one directoryName
		t.depart("ESSCertIDv2 repeats issuer and serial number")
		var issuerSerial, names, name cryptobyte.String
		id.serial = new(big.Int)
		directoryName := tags.Tag(4).ContextSpecific().Constructed()
		if !entry.ReadASN1(&issuerSerial, tags.SEQUENCE) || !issuerSerial.ReadASN1(&names, tags.SEQUENCE) ||
			!names.ReadASN1(&name, directoryName) || !names.Empty() || !readOne(name, &id.issuer) ||
			!issuerSerial.ReadASN1Integer(id.serial) || !issuerSerial.Empty() {
			return id, malformed("ESSCertIDv2: issuer and serial number")
		}
	}
	if !entry.Empty() {
		return id, malformed("something follows ESSCertIDv2's last member")
	}
	return id, nil
}
