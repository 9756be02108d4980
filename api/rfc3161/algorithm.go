package rfc3161

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
)

// Object identifiers as their whole DER encodings.
const (
	oidSignedData           = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"         // 1.2.840.113549.1.7.2
	oidTSTInfo              = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04" // 1.2.840.113549.1.9.16.1.4
	oidContentType          = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03"         // 1.2.840.113549.1.9.3
	oidMessageDigest        = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04"         // 1.2.840.113549.1.9.4
	oidSigningCertificateV2 = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x2f" // 1.2.840.113549.1.9.16.2.47

	oidSHA256 = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1
	oidSHA384 = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	oidSHA512 = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03"

	oidECDSAWithSHA256 = "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02" // 1.2.840.10045.4.3.2
	oidECDSAWithSHA384 = "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidECDSAWithSHA512 = "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"
	oidEd25519         = "\x06\x03\x2b\x65\x70"                         // 1.3.101.112
	oidRSA             = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" // 1.2.840.113549.1.1.1
	oidMGF1            = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"
	oidRSAPSS          = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"
	oidSHA256WithRSA   = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	oidSHA384WithRSA   = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"
	oidSHA512WithRSA   = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"

	derNull = "\x05\x00"
)

// Bounds on RSA keys: below, they are too weak; above, they only cost the verifier time.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

func hashOID(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return oidSHA256
	case crypto.SHA384:
		return oidSHA384
	case crypto.SHA512:
		return oidSHA512
	}
	return ""
}

// parseHash reads the contents of a hash's AlgorithmIdentifier. Its parameters are absent or NULL (RFC 5754, section 2); null says which.
func parseHash(identifier []byte) (h crypto.Hash, null, ok bool) {
	for _, h := range [...]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		switch oid := hashOID(h); string(identifier) {
		case oid:
			return h, false, true
		case oid + derNull:
			return h, true, true
		}
	}
	return 0, false, false
}

// scheme is a family of signatures.
type scheme int

const (
	schemeECDSA scheme = iota + 1
	schemePKCS1
	schemePSS
	schemeEd25519
)

// algorithm is a signature algorithm with its hash.
type algorithm struct {
	scheme scheme
	hash   crypto.Hash // zero: that of the signer's digest algorithm
}

// parseAlgorithm reads the contents of a signature's AlgorithmIdentifier. Each algorithm has one form, parameters included.
func parseAlgorithm(identifier []byte) (algorithm, bool) {
	switch string(identifier) {
	case oidECDSAWithSHA256:
		return algorithm{schemeECDSA, crypto.SHA256}, true
	case oidECDSAWithSHA384:
		return algorithm{schemeECDSA, crypto.SHA384}, true
	case oidECDSAWithSHA512:
		return algorithm{schemeECDSA, crypto.SHA512}, true
	case oidEd25519:
		return algorithm{schemeEd25519, crypto.SHA512}, true // RFC 8419, section 3.1
	case oidRSA + derNull:
		return algorithm{schemePKCS1, 0}, true
	case oidSHA256WithRSA + derNull:
		return algorithm{schemePKCS1, crypto.SHA256}, true
	case oidSHA384WithRSA + derNull:
		return algorithm{schemePKCS1, crypto.SHA384}, true
	case oidSHA512WithRSA + derNull:
		return algorithm{schemePKCS1, crypto.SHA512}, true
	}
	for _, h := range [...]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if string(identifier) == string(pssIdentifier(h)) {
			return algorithm{schemePSS, h}, true
		}
	}
	return algorithm{}, false
}

// pssIdentifier returns the contents of the AlgorithmIdentifier of RSASSA-PSS with one hash throughout and a salt of its length (RFC 4056).
func pssIdentifier(h crypto.Hash) []byte {
	hash := element(tagSequence, []byte(hashOID(h)), []byte(derNull))
	mgf := element(tagSequence, []byte(oidMGF1), hash)
	salt := []byte{tagInteger, 1, byte(h.Size())}
	params := element(tagSequence, element(0xa0, hash), element(0xa1, mgf), element(0xa2, salt))
	return append([]byte(oidRSAPSS), params...)
}

// ownAlgorithm returns the algorithm that an issuer with this key signs with, and the contents of its AlgorithmIdentifier.
func ownAlgorithm(pub crypto.PublicKey) (algorithm, []byte, bool) {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return algorithm{schemeECDSA, crypto.SHA256}, []byte(oidECDSAWithSHA256), true
		case elliptic.P384():
			return algorithm{schemeECDSA, crypto.SHA384}, []byte(oidECDSAWithSHA384), true
		case elliptic.P521():
			return algorithm{schemeECDSA, crypto.SHA512}, []byte(oidECDSAWithSHA512), true
		}
	case ed25519.PublicKey:
		return algorithm{schemeEd25519, crypto.SHA512}, []byte(oidEd25519), true
	case *rsa.PublicKey:
		if acceptableKey(key) {
			return algorithm{schemePSS, crypto.SHA256}, pssIdentifier(crypto.SHA256), true
		}
	}
	return algorithm{}, nil, false
}

// acceptableKey reports whether the profile knows the key's kind and size.
func acceptableKey(pub crypto.PublicKey) bool {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521()
	case *rsa.PublicKey:
		return key.N.BitLen() >= minRSABits && key.N.BitLen() <= maxRSABits
	case ed25519.PublicKey:
		return len(key) == ed25519.PublicKeySize
	}
	return false
}

// verify reports whether signature is that of message under pub.
func (a algorithm) verify(pub crypto.PublicKey, message, signature []byte) bool {
	if !acceptableKey(pub) {
		return false
	}
	switch a.scheme {
	case schemeECDSA:
		key, ok := pub.(*ecdsa.PublicKey)
		return ok && ecdsa.VerifyASN1(key, digest(a.hash, message), signature)
	case schemeEd25519:
		key, ok := pub.(ed25519.PublicKey)
		return ok && ed25519.Verify(key, message, signature)
	case schemePKCS1:
		key, ok := pub.(*rsa.PublicKey)
		return ok && rsa.VerifyPKCS1v15(key, a.hash, digest(a.hash, message), signature) == nil
	case schemePSS:
		key, ok := pub.(*rsa.PublicKey)
		options := rsa.PSSOptions{SaltLength: a.hash.Size(), Hash: a.hash}
		return ok && rsa.VerifyPSS(key, a.hash, digest(a.hash, message), signature, &options) == nil
	}
	return false
}

func digest(h crypto.Hash, message []byte) []byte {
	switch h {
	case crypto.SHA384:
		sum := sha512.Sum384(message)
		return sum[:]
	case crypto.SHA512:
		sum := sha512.Sum512(message)
		return sum[:]
	case crypto.SHA256:
		sum := sha256.Sum256(message)
		return sum[:]
	}
	panic("rfc3161: a hash that is not in the profile") // neither parsing nor building lets one in
}
