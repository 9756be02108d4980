package conformance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signetd/signet/keystore"
)

// Constants of PKCS#11 v3.0, section 2.3, that the wrapper does not have.
const (
	ckkECEdwards           = 0x00000040
	ckmECEdwardsKeyPairGen = 0x00001055
	ckmEDDSA               = 0x00001057
)

// A kind is one algorithm as PKCS#11 has it. This package has its own table, and its own way to read what a token says:
// the package it examines the token for must not be its own judge.
type kind struct {
	algorithm keystore.Algorithm
	keyType   uint
	generate  uint
	sign      uint
	signName  string
	params    []byte // CKA_EC_PARAMS
	named     []byte // the same as a PrintableString
	curve     elliptic.Curve
	prefix    []byte // what stands before the digest in the mechanism's input
}

// digestInfo begins the DigestInfo of SHA-256 (RFC 8017, section 9.2, note 1).
var digestInfo = []byte{
	0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
}

var kinds = []kind{
	{keystore.ECDSAP256, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA, "CKM_ECDSA",
		[]byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}, nil, elliptic.P256(), nil},
	{keystore.ECDSAP384, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA, "CKM_ECDSA",
		[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}, nil, elliptic.P384(), nil},
	{keystore.ECDSAP521, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA, "CKM_ECDSA",
		[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}, nil, elliptic.P521(), nil},
	{keystore.Ed25519, ckkECEdwards, ckmECEdwardsKeyPairGen, ckmEDDSA, "CKM_EDDSA",
		[]byte{0x06, 0x03, 0x2b, 0x65, 0x70}, append([]byte{0x13, 12}, "edwards25519"...), nil, nil},
	{keystore.RSAPSS, pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKM_RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS", nil, nil, nil, nil},
	{keystore.RSAPKCS1, pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKM_RSA_PKCS, "CKM_RSA_PKCS", nil, nil, nil, digestInfo},
}

func kindOf(a keystore.Algorithm) (kind, bool) {
	for _, k := range kinds {
		if k.algorithm == a {
			return k, true
		}
	}
	return kind{}, false
}

const (
	rsaBits    = 3072
	rsaBitsBig = 4096
)

// parameter is what the mechanism wants to sign with.
func (k kind) parameter() []byte {
	if k.sign == pkcs11.CKM_RSA_PKCS_PSS {
		return pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32)
	}
	return nil
}

// A testKey is a pair that the run made.
type testKey struct {
	kind     kind
	label    string
	public   crypto.PublicKey
	pub      pkcs11.ObjectHandle
	priv     pkcs11.ObjectHandle
	left     []string // attributes that the token does not take at generation
	encoding string   // of CKA_EC_POINT
}

// A wish is an attribute that a key is made with.
type wish struct {
	name   string
	number uint
	want   bool
	must   bool // the token is not asked again without it
}

var privateWishes = []wish{
	{"CKA_TOKEN", pkcs11.CKA_TOKEN, true, true},
	{"CKA_PRIVATE", pkcs11.CKA_PRIVATE, true, true},
	{"CKA_SENSITIVE", pkcs11.CKA_SENSITIVE, true, true},
	{"CKA_EXTRACTABLE", pkcs11.CKA_EXTRACTABLE, false, true},
	{"CKA_SIGN", pkcs11.CKA_SIGN, true, true},
	{"CKA_SIGN_RECOVER", pkcs11.CKA_SIGN_RECOVER, false, false},
	{"CKA_DECRYPT", pkcs11.CKA_DECRYPT, false, false},
	{"CKA_UNWRAP", pkcs11.CKA_UNWRAP, false, false},
	{"CKA_DERIVE", pkcs11.CKA_DERIVE, false, false},
}

var publicWishes = []wish{
	{"CKA_TOKEN", pkcs11.CKA_TOKEN, true, true},
	{"CKA_PRIVATE", pkcs11.CKA_PRIVATE, false, true},
	{"CKA_VERIFY", pkcs11.CKA_VERIFY, true, true},
	{"CKA_ENCRYPT", pkcs11.CKA_ENCRYPT, false, false},
	{"CKA_WRAP", pkcs11.CKA_WRAP, false, false},
}

// generate makes a pair with the attributes of a signer's key and whatever is asked for beyond. bits is for RSA.
func (r *run) generate(k kind, label string, bits int, more ...*pkcs11.Attribute) (*testKey, error) {
	key, err := r.generateWith(k, label, bits, nil, more)
	if err == nil || !templateRefused(err) || len(more) > 0 {
		return key, err
	}
	// One of the attributes may be what it does not like: first leave out all that it need not take, then only those that
	// it does not take one by one.
	optional := func(w wish) bool { return !w.must }
	var all, left []string
	for _, w := range append(append([]wish(nil), privateWishes...), publicWishes...) {
		if optional(w) {
			all = append(all, w.name)
		}
	}
	if key, err = r.generateWith(k, label, bits, all, nil); err != nil {
		return nil, err
	}
	for _, name := range all {
		if err := r.destroy(key); err != nil {
			return nil, err
		}
		without := append([]string(nil), left...)
		for _, other := range all {
			if other != name {
				without = append(without, other)
			}
		}
		again, err := r.generateWith(k, label, bits, without, nil)
		if err == nil {
			key = again
			continue
		}
		left = append(left, name)
		if key, err = r.generateWith(k, label, bits, all, nil); err != nil {
			return nil, err
		}
	}
	if err := r.destroy(key); err != nil {
		return nil, err
	}
	if key, err = r.generateWith(k, label, bits, left, nil); err != nil {
		key, err = r.generateWith(k, label, bits, all, nil)
		left = all
	}
	if err == nil {
		key.left = left
	}
	return key, err
}

// templateRefused says that the template can be why no key was made. Modules differ in how they say so; these are the answers that
// mean something else.
func templateRefused(err error) bool {
	switch code(err) {
	case pkcs11.CKR_OK, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_CURVE_NOT_SUPPORTED,
		pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_HANDLE_INVALID,
		pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_READ_ONLY, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return false
	}
	return true
}

func (r *run) generateWith(k kind, label string, bits int, without []string, more []*pkcs11.Attribute) (*testKey, error) {
	template := func(wishes []wish) []*pkcs11.Attribute {
		all := []*pkcs11.Attribute{attr(pkcs11.CKA_LABEL, label), attr(pkcs11.CKA_ID, keyNumber(label))}
	next:
		for _, w := range wishes {
			for _, name := range without {
				if name == w.name {
					continue next
				}
			}
			all = append(all, attr(w.number, w.want))
		}
		return all
	}
	private := append(template(privateWishes), more...)
	try := func(of ...*pkcs11.Attribute) (*testKey, error) {
		pub, priv, err := r.module.GenerateKeyPair(r.session, mechanism(k.generate, nil), append(template(publicWishes), of...), private)
		if err != nil {
			return nil, err
		}
		key := &testKey{kind: k, label: label, pub: pub, priv: priv}
		if err := r.readPublic(key); err != nil {
			return nil, errors.Join(err, r.destroy(key))
		}
		return key, nil
	}
	if k.keyType == pkcs11.CKK_RSA {
		return try(attr(pkcs11.CKA_MODULUS_BITS, bits), attr(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	}
	key, err := try(attr(pkcs11.CKA_EC_PARAMS, k.params))
	if err != nil && k.named != nil {
		if named, again := try(attr(pkcs11.CKA_EC_PARAMS, k.named)); again == nil {
			return named, nil
		}
	}
	return key, err
}

// destroy removes a pair.
func (r *run) destroy(k *testKey) error {
	return errors.Join(r.module.DestroyObject(r.session, k.priv), r.module.DestroyObject(r.session, k.pub))
}

// readPublic reads the public key, and how the token encodes it.
func (r *run) readPublic(k *testKey) error {
	if k.kind.keyType == pkcs11.CKK_RSA {
		modulus, err := r.value(k.pub, pkcs11.CKA_MODULUS)
		if err != nil {
			return fmt.Errorf("CKA_MODULUS: %s", said(err))
		}
		k.public = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
		return nil
	}
	value, err := r.value(k.pub, pkcs11.CKA_EC_POINT)
	if err != nil {
		return fmt.Errorf("CKA_EC_POINT: %s", said(err))
	}
	point, encoding, err := unwrapPoint(value, k.kind.pointSize())
	if err != nil {
		return err
	}
	k.encoding = encoding
	if k.kind.curve == nil {
		k.public = ed25519.PublicKey(point)
		return nil
	}
	public, err := ecdsa.ParseUncompressedPublicKey(k.kind.curve, point)
	if err != nil {
		return fmt.Errorf("CKA_EC_POINT is not a point of the curve: %w", err)
	}
	k.public = public
	return nil
}

func (k kind) pointSize() int {
	if k.curve == nil {
		return ed25519.PublicKeySize
	}
	return 1 + 2*k.fieldSize()
}

func (k kind) fieldSize() int { return (k.curve.Params().BitSize + 7) / 8 }

// unwrapPoint reads a CKA_EC_POINT of a size that is known, and says how it was encoded.
func unwrapPoint(value []byte, size int) (point []byte, encoding string, err error) {
	if len(value) == size {
		return value, "raw", nil
	}
	var inner cryptobyte.String
	if outer := cryptobyte.String(value); outer.ReadASN1(&inner, asn1.OCTET_STRING) && outer.Empty() && len(inner) == size {
		return inner, "OCTET STRING", nil
	}
	var bits []byte
	if outer := cryptobyte.String(value); outer.ReadASN1BitStringAsBytes(&bits) && outer.Empty() && len(bits) == size {
		return bits, "BIT STRING", nil
	}
	return nil, "", fmt.Errorf("CKA_EC_POINT of %d bytes is neither a point of %d bytes nor an OCTET STRING or BIT STRING with one", len(value), size)
}

// sign makes a signature of an algorithm's input, in the form of the algorithm.
func (r *run) sign(session pkcs11.SessionHandle, private pkcs11.ObjectHandle, k kind, input []byte) ([]byte, error) {
	raw, err := r.signWith(session, private, k.sign, k.parameter(), slices.Concat(k.prefix, input))
	if err != nil {
		return nil, err
	}
	return k.encode(raw)
}

func (r *run) signWith(session pkcs11.SessionHandle, private pkcs11.ObjectHandle, number uint, parameter, input []byte) ([]byte, error) {
	if err := r.module.SignInit(session, mechanism(number, parameter), private); err != nil {
		return nil, err
	}
	return r.module.Sign(session, input)
}

// encode turns a token's signature into the form that its algorithm prescribes.
func (k kind) encode(raw []byte) ([]byte, error) {
	if k.curve == nil {
		return raw, nil
	}
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, fmt.Errorf("an ECDSA signature of %d bytes", len(raw))
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:len(raw)/2]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[len(raw)/2:]))
	})
	return b.Bytes()
}
