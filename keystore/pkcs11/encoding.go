package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signetd/signet/keystore"
)

// parsePoint reads a CKA_EC_POINT. The standard wants a DER OCTET STRING; modules also give the bytes of the point
// themselves, or a BIT STRING, Ed25519's above all. The length tells them apart: no point is as long as its wrapping.
func parsePoint(a keystore.Algorithm, value []byte) (crypto.PublicKey, error) {
	k, err := kindOf(a)
	if err != nil {
		return nil, err
	}
	length := k.field
	if k.keyType != ckkECEdwards {
		length = 1 + 2*k.field
	}
	point := value
	if len(value) != length {
		if point, err = unwrapPoint(value); err != nil {
			return nil, err
		}
	}
	if len(point) != length {
		return nil, fmt.Errorf("CKA_EC_POINT holds a point of %d bytes, %s has points of %d", len(point), a, length)
	}
	if k.keyType == ckkECEdwards {
		return ed25519.PublicKey(append([]byte(nil), point...)), nil
	}
	curve := map[keystore.Algorithm]elliptic.Curve{
		keystore.ECDSAP256: elliptic.P256(), keystore.ECDSAP384: elliptic.P384(), keystore.ECDSAP521: elliptic.P521(),
	}[a]
	if curve == nil {
		return nil, fmt.Errorf("%s has no CKA_EC_POINT", a)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("CKA_EC_POINT is not a point of the curve: %w", err)
	}
	return public, nil
}

func unwrapPoint(value []byte) ([]byte, error) {
	var inner cryptobyte.String
	outer := cryptobyte.String(value)
	if outer.ReadASN1(&inner, asn1.OCTET_STRING) && outer.Empty() {
		return inner, nil
	}
	var bits []byte
	outer = cryptobyte.String(value)
	if outer.ReadASN1BitStringAsBytes(&bits) && outer.Empty() {
		return bits, nil
	}
	return nil, fmt.Errorf("CKA_EC_POINT of %d bytes is neither a point nor an OCTET STRING or BIT STRING with one", len(value))
}

// curveNames are other ways to say in CKA_EC_PARAMS which curve it is: names in a PrintableString (PKCS#11 v3.0, section 2.3.3), and
// the object identifier that Ed25519 had before RFC 8410.
var curveNames = map[keystore.Algorithm][]string{
	keystore.ECDSAP256: {"\x13\x09secp256r1", "\x13\x0aprime256v1", "\x13\x05P-256"},
	keystore.ECDSAP384: {"\x13\x09secp384r1", "\x13\x05P-384"},
	keystore.ECDSAP521: {"\x13\x09secp521r1", "\x13\x05P-521"},
	keystore.Ed25519:   {"\x13\x0cedwards25519", "\x13\x07Ed25519", "\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"},
}

// onCurve reports whether CKA_EC_PARAMS names the curve of this kind.
func (k kind) onCurve(params []byte) bool {
	return k.params != nil && (bytes.Equal(k.params, params) || slices.Contains(curveNames[k.algorithm], string(params)))
}

// input returns what the mechanism signs for what the algorithm signs.
func (k kind) input(input []byte) []byte {
	if k.prefix == nil {
		return input
	}
	return append(append(make([]byte, 0, len(k.prefix)+len(input)), k.prefix...), input...)
}

// number64 reads a CK_ULONG. Its size is that of the module's platform; a bridge to another one may give the other.
func number64(value []byte) (uint64, bool) {
	switch len(value) {
	case 8:
		return binary.NativeEndian.Uint64(value), true
	case 4:
		if n := binary.NativeEndian.Uint32(value); n != math.MaxUint32 {
			return uint64(n), true
		}
		return unavailableInformation, true
	}
	return 0, false
}

// ulong is a CK_ULONG as a value of an attribute.
func ulong(n uint) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(n))
	if bits.UintSize == 32 {
		b = binary.NativeEndian.AppendUint32(nil, uint32(n))
	}
	return b
}

// unavailableInformation is CK_UNAVAILABLE_INFORMATION as number64 returns it.
const unavailableInformation = math.MaxUint64

// mechanismList reads CKA_ALLOWED_MECHANISMS, an array of CK_ULONG, and sorts it. A key that is not restricted has none.
func mechanismList(value []byte) ([]uint64, bool) {
	const size = bits.UintSize / 8
	if len(value)%size != 0 || len(value) > maxMechanisms*size {
		return nil, false
	}
	var list []uint64
	for ; len(value) > 0; value = value[size:] {
		n, _ := number64(value[:size])
		list = append(list, n)
	}
	slices.Sort(list)
	return slices.Compact(list), true
}

const maxMechanisms = 1024

// keyNumber is the CKA_ID of both halves of a key: it follows from the label, so that other tools find what belongs together.
// Where a public key does not say what it is for, it follows from that, too: a token that does not keep
// CKA_ALLOWED_MECHANISMS keeps this.
func keyNumber(id keystore.ID, a keystore.Algorithm) []byte {
	name := string(id)
	if a == keystore.RSAPKCS1 {
		name += "\x00" + string(a) // no id has a zero byte
	}
	sum := sha256.Sum256([]byte(name))
	return sum[:16]
}

var errRawSignature = errors.New("the token's signature is not two numbers of the curve's length")

// encodeSignature turns what a token returns for a kind of key into the form that its algorithm prescribes. Only ECDSA
// differs: a token gives both numbers one after the other.
func encodeSignature(k kind, raw []byte) ([]byte, error) {
	if k.keyType != ckkEC {
		return raw, nil
	}
	if len(raw) != 2*k.field {
		return nil, errRawSignature
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, number := range [][]byte{raw[:k.field], raw[k.field:]} {
			for len(number) > 1 && number[0] == 0 {
				number = number[1:]
			}
			b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) {
				if number[0]&0x80 != 0 {
					b.AddUint8(0)
				}
				b.AddBytes(number)
			})
		}
	})
	return b.Bytes()
}
