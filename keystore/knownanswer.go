package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// A KnownAnswer is a published test vector: a signature that verifies.
type KnownAnswer struct {
	Source    string // where it is published
	Algorithm Algorithm
	Public    crypto.PublicKey
	Message   []byte
	Signature []byte
	Seed      []byte // Ed25519: the private key of the vector, which makes exactly this signature
}

// KnownAnswers returns vectors of RFC 6979 (ECDSA) and RFC 8032 (Ed25519).
func KnownAnswers() []KnownAnswer {
	ec := func(a Algorithm, section string, curve elliptic.Curve, x, y, r, s string) KnownAnswer {
		field := (curve.Params().BitSize + 7) / 8
		point := append([]byte{4}, append(number(x).FillBytes(make([]byte, field)), number(y).FillBytes(make([]byte, field))...)...)
		public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			public = nil // the vector is wrong: nothing verifies with it
		}
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1BigInt(number(r))
			b.AddASN1BigInt(number(s))
		})
		return KnownAnswer{
			Source: "RFC 6979, appendix " + section, Algorithm: a, Public: public, Message: []byte("sample"), Signature: b.BytesOrPanic(),
		}
	}
	return []KnownAnswer{
		ec(ECDSAP256, "A.2.5", elliptic.P256(),
			"60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6",
			"7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299",
			"EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
			"F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"),
		ec(ECDSAP384, "A.2.6", elliptic.P384(),
			"EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13",
			"8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720",
			"94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
			"99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8"),
		ec(ECDSAP521, "A.2.7", elliptic.P521(),
			"1894550D0785932E00EAA23B694F213F8C3121F86DC97A04E5A7167DB4E5BCD371123D46E45DB6B5D5370A7F20FB633155D38FFA16D2BD761DCAC474B9A2F5023A4",
			"0493101C962CD4D2FDDF782285E64584139C2F91B47F87FF82354D6630F746A28A0DB25741B5B34A828008B22ACC23F924FAAFBD4D33F81EA66956DFEAA2BFDFCF5",
			"0C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA",
			"0617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A"),
		{
			Source: "RFC 8032, section 7.1, test 3", Algorithm: Ed25519,
			Public:    ed25519.PublicKey(octets("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")),
			Message:   octets("af82"),
			Signature: octets("6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
			Seed:      octets("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"),
		},
	}
}

// octets and number read constants of this file; a wrong one gives a vector that fails.
func octets(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil
	}
	return b
}

func number(text string) *big.Int {
	n, ok := new(big.Int).SetString(text, 16)
	if !ok {
		return new(big.Int)
	}
	return n
}

// SelfTest is the known-answer test of signing and verifying, to be run at start-up and from time to time (21 CFR
// 11.300(e)): the verifier that guards each signature accepts published signatures and refuses them with one bit
// changed, the device computes answers that are known beforehand as far as it can be asked to, and it signs with the
// canary key. It returns the names of the tests that ran. Its error says which one failed.
func (s *Store) SelfTest(ctx context.Context) ([]string, error) {
	ran, err := s.selfTest(ctx)
	s.selfTested.Store(&outcome{err: err, at: time.Now()})
	return ran, err
}

func (s *Store) selfTest(ctx context.Context) ([]string, error) {
	ran, err := verifierAnswers()
	names, nerr := s.node.selfTest(ctx) // also if the verifier failed: no device is used then
	for _, name := range names {
		ran = append(ran, "HSM: "+name)
	}
	if err != nil {
		return ran, fmt.Errorf("self-test of the verifier: %w", err)
	}
	if nerr != nil {
		return ran, fmt.Errorf("self-test of the HSM: %w", nerr)
	}
	if err := s.Health(ctx); err != nil {
		return ran, err
	}
	return append(ran, "HSM: sign with the canary key"), nil
}

// verifierAnswers is the known-answer test of the verifier.
func verifierAnswers() (ran []string, err error) {
	for _, v := range KnownAnswers() {
		if err := v.check(); err != nil {
			return ran, err
		}
		ran = append(ran, "verify "+string(v.Algorithm)+" ("+v.Source+")")
	}
	return ran, nil
}

func (v KnownAnswer) check() error {
	if err := Verify(v.Algorithm, v.Public, v.Message, v.Signature); err != nil {
		return fmt.Errorf("%s, %s: %w", v.Algorithm, v.Source, err)
	}
	changed := append([]byte(nil), v.Signature...)
	changed[len(changed)-1] ^= 1
	if Verify(v.Algorithm, v.Public, v.Message, changed) == nil {
		return fmt.Errorf("%s, %s: %w", v.Algorithm, v.Source, errors.New("a changed signature verifies"))
	}
	return nil
}
