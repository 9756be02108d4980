package pkcs11

import (
	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// Constants of PKCS#11 v3.0, section 2.3, that the wrapper does not have.
const (
	ckkECEdwards           = 0x00000040
	ckmECEdwardsKeyPairGen = 0x00001055
	ckmEDDSA               = 0x00001057
)

const (
	ckkEC                    = pkcs11.CKK_EC
	ckrBufferTooSmall        = pkcs11.CKR_BUFFER_TOO_SMALL
	ckUnavailableInformation = ^uint(0)
	ckEffectivelyInfinite    = 0
	cksROUserFunctions       = 1
	cksRWUserFunctions       = 3
	maxRaw                   = 1024 // the longest signature of a token: RSA of 8192 bits
)

// A kind is what a token needs to know of an algorithm.
type kind struct {
	algorithm keystore.Algorithm
	keyType   uint   // CKA_KEY_TYPE
	generate  uint   // mechanism that makes the pair
	sign      uint   // mechanism that signs
	params    []byte // CKA_EC_PARAMS: the curve's object identifier in DER
	named     []byte // the same as a PrintableString, which some modules want or tell (PKCS#11 v3.0, section 2.3.3)
	field     int    // bytes of one coordinate
	prefix    []byte // what stands before the digest in the input of the mechanism
}

// digestInfo begins the DigestInfo of SHA-256 (RFC 8017, section 9.2, note 1). CKM_RSA_PKCS wants it made by the caller.
var digestInfo = []byte{
	0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
}

var kinds = []kind{
	{keystore.ECDSAP256, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA,
		[]byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}, nil, 32, nil},
	{keystore.ECDSAP384, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA,
		[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}, nil, 48, nil},
	{keystore.ECDSAP521, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA,
		[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}, nil, 66, nil},
	{keystore.Ed25519, ckkECEdwards, ckmECEdwardsKeyPairGen, ckmEDDSA,
		[]byte{0x06, 0x03, 0x2b, 0x65, 0x70}, append([]byte{0x13, 12}, "edwards25519"...), 32, nil},
	{keystore.RSAPSS, pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKM_RSA_PKCS_PSS, nil, nil, 0, nil},
	{keystore.RSAPKCS1, pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKM_RSA_PKCS, nil, nil, 0, digestInfo},
}

func kindOf(a keystore.Algorithm) (kind, error) {
	for _, k := range kinds {
		if k.algorithm == a {
			return k, nil
		}
	}
	return kind{}, a.Validate()
}

// mechanism is how the key signs, for the wrapper.
func (k kind) mechanism() []*pkcs11.Mechanism {
	if k.sign == pkcs11.CKM_RSA_PKCS_PSS {
		return mechanism(k.sign, pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32))
	}
	return mechanism(k.sign, nil)
}

func mechanism(number uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(number, parameter)}
}

// attributeTypes are the attributes of a private key that are read back, by name. All but CKA_ID, the numbers and the list of
// mechanisms are flags.
var attributeTypes = map[string]uint{
	"CKA_ALLOWED_MECHANISMS":  pkcs11.CKA_ALLOWED_MECHANISMS,
	"CKA_ALWAYS_AUTHENTICATE": pkcs11.CKA_ALWAYS_AUTHENTICATE,
	"CKA_ALWAYS_SENSITIVE":    pkcs11.CKA_ALWAYS_SENSITIVE,
	"CKA_COPYABLE":            pkcs11.CKA_COPYABLE,
	"CKA_DECRYPT":             pkcs11.CKA_DECRYPT,
	"CKA_DERIVE":              pkcs11.CKA_DERIVE,
	"CKA_DESTROYABLE":         pkcs11.CKA_DESTROYABLE,
	"CKA_EXTRACTABLE":         pkcs11.CKA_EXTRACTABLE,
	"CKA_ID":                  pkcs11.CKA_ID,
	"CKA_KEY_GEN_MECHANISM":   pkcs11.CKA_KEY_GEN_MECHANISM,
	"CKA_KEY_TYPE":            pkcs11.CKA_KEY_TYPE,
	"CKA_LOCAL":               pkcs11.CKA_LOCAL,
	"CKA_MODIFIABLE":          pkcs11.CKA_MODIFIABLE,
	"CKA_NEVER_EXTRACTABLE":   pkcs11.CKA_NEVER_EXTRACTABLE,
	"CKA_PRIVATE":             pkcs11.CKA_PRIVATE,
	"CKA_SENSITIVE":           pkcs11.CKA_SENSITIVE,
	"CKA_SIGN":                pkcs11.CKA_SIGN,
	"CKA_SIGN_RECOVER":        pkcs11.CKA_SIGN_RECOVER,
	"CKA_TOKEN":               pkcs11.CKA_TOKEN,
	"CKA_UNWRAP":              pkcs11.CKA_UNWRAP,
	"CKA_WRAP_WITH_TRUSTED":   pkcs11.CKA_WRAP_WITH_TRUSTED,
}
