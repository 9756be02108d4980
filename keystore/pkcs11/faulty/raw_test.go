package faulty_test

import (
	"crypto"
	"crypto/ecdsa"
	"math/big"
)

// verifyRaw verifies a signature as PKCS#11 gives it: both numbers one after the other.
func verifyRaw(public crypto.PublicKey, digest, signature []byte) bool {
	k, ok := public.(*ecdsa.PublicKey)
	if !ok || len(signature) != 64 {
		return false
	}
	return ecdsa.Verify(k, digest, new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}
