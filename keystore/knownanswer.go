package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
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

// KnownAnswers returns vectors of RFC 6979 (ECDSA), RFC 8032 (Ed25519) and Wycheproof (RSA), one for each algorithm.
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
	rsaAnswer := func(a Algorithm, file, signature string) KnownAnswer {
		return KnownAnswer{
			Source: "Wycheproof, " + file + ", test 4", Algorithm: a, Public: &rsa.PublicKey{N: number(wycheproofModulus), E: 65537},
			Message: []byte("123400"), Signature: octets(signature),
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
		rsaAnswer(RSAPSS, "rsa_pss_3072_sha256_mgf1_32", ""+
			"8f9ac1354af4161d0e55b5674821d02823b3a6b3f79cefb98cbc77f9ac2d91cc6345f989a7828132f73f3630a247a936b6a057b3e5a2fda0c5999ea7721ee888"+
			"0960c24cd2377e869cca1799747142d57ad6a8d83ec9254d89f591add11a758e1ea1e29bd08f624d0e28cea52ed5eed7c0f5f49d3533eb1cdbb2af837dc42942"+
			"f9a86b5f4e2d5ce506697ef067a344949bdd89afcc25978af4d50c300bcd0ffc9d93cc559e3ae1a13215a1d3f6030827340c6591061a5ab7e65153b1df8b25e1"+
			"421f924d39c7e6f76243c1bb9ae4063d9a475cd2ece45f4e288fe0720074e87868d70a5584a9ac2b47a56417cc76f15154315545a3ed6704b365f15d34320804"+
			"469c3b09ed211cbc9e9e767b6f21fa16f8641d8b78b8dff8062a25b5bd3b6a38cb4706c42c1fbbe66db1c05cb57531132eb94fe1569735c33ec491c318a686c8"+
			"37ac810be4afff605f92bb390e7ab3cd24c0cd997cf13f112e5aa01746f43902432639e1eefcbd37b413c586f057bcba40a8f1251251e84cb7c87c53c1d1d558"),
		rsaAnswer(RSAPKCS1, "rsa_signature_3072_sha256", ""+
			"636d31d8d5dfe0fc6ab01ef2ccd4602dfea62d386b002c429e7e846e7a98d0cb1d448d25be039d5158887ab46a9dd49c41537a89036a065fc10329df051e5f2e"+
			"5c1d4436e84790ff6db4d3f31575e5f0fbdfcaee625722c5492fceaa3fb29d0a865200dec06e117b04753ca9450a7ca7f7d1a1176cc38ecab721864413a0d7a2"+
			"2d8fc1595b6cd0032fbf154fbbb31b56d3bf963761ce8ec9fb38bba3419716d0d39e976857e79b1faefd5f5a2ce0ebd94968da1ec3a387804694d90f37b34033"+
			"c7f70ccfb26beffaafb7bf56c1b8385d489217458e0a68b5d680f9fa45382fd1c227ff3c11e3ec82426ec648a564f0e886e5b12e695dd2fc8465bd9d08731fb1"+
			"40084c79be64d915bcb4ba10f1edb4c37e35231753be2d9f339d37d7b5f22c91584a68a973f9cc469a23d3b5800157dbd72a8405fef4e444ff01f7fd23efa143"+
			"c1887504e81773743843d8a73209a1deb66c5f305df539bc30e871332e82330e5b66fa6ea253b2b64b4c9781011d20e80ddd8cb83916834eb8fa696b0a4b6bcd"),
	}
}

// wycheproofModulus is that of the key of 3072 bits in the vectors of Wycheproof.
const wycheproofModulus = "" +
	"c6fe23792566023c265287c5ac6f71541c0994d11d059ee6403986efa21c24b51bd91d8862f9df79a4e328e3e27c83df260b25a9b43420affc44b51e8d7525b6" +
	"f29c372a405104732007527a62ed82fac73f4892a80e09682a41a58cd347017f3be7d801334f92d9321aafd53b51bffabfc752cfccae0b1ee03bdaff9e428cc1" +
	"c117f1ac96b4fe23f8c23e6381186a66fd59289339ae55c4bcdadbff84abdaa532240d4e1d28b2d0481dadd3b246557ca8fe18092817730b39e6ee378ffcc85b" +
	"19ffdc916a9b991a6b66d4a9c7bab5f5e7a3722101142e7a4108c15d573b15289e07e46eaea07b42c2abcba330e99554b4656165bb4c0db2b6393a07eca575c5" +
	"1a93c4e15bdb0f747909447e3efe34c67ca8954b530e56a20a1b6d84d45ed1bcd3aa58ec06f184ee5857aaa819e1cca9a26f4e28d6b977d33916db9896d252d1" +
	"afa762e287cb0d384cc75bfe53f4e922d02dd0a481c042e2d306b4b3c189371e575b25e0005a164cf69dd0976e4d5be476806ea6be6084e71ab4f5ac5c1b1203"

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
