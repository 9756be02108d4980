package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"fmt"

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
