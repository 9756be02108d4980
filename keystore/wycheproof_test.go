package keystore_test

import (
	"compress/gzip"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/keystore"
)

// Project Wycheproof's vectors for every algorithm: what a token answers with is verified by the same rules as what a manifest holds. An empty
// message and RSA keys of 2,048 bits are never signed here, and so never verified.
func TestWycheproof(t *testing.T) {
	decode := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		algorithm keystore.Algorithm
		file      string
		accepted  int
	}{
		{keystore.ECDSAP256, "ecdsa_secp256r1_sha256", 174},
		{keystore.ECDSAP384, "ecdsa_secp384r1_sha384", 194},
		{keystore.ECDSAP521, "ecdsa_secp521r1_sha512", 232},
		{keystore.Ed25519, "ed25519", 84},
		{keystore.RSAPSS, "rsa_pss_2048_sha256_mgf1_32", 0},
		{keystore.RSAPSS, "rsa_pss_3072_sha256_mgf1_32", 63},
		{keystore.RSAPSS, "rsa_pss_4096_sha256_mgf1_32", 63},
		{keystore.RSAPSS, "rsa_signature_3072_sha256", 1}, // the one with PSS
		{keystore.RSAPKCS1, "rsa_signature_2048_sha256", 0},
		{keystore.RSAPKCS1, "rsa_signature_3072_sha256", 8},
		{keystore.RSAPKCS1, "rsa_signature_4096_sha256", 7},
		{keystore.RSAPKCS1, "rsa_pss_3072_sha256_mgf1_32", 1}, // the one with PKCS #1 v1.5
	} {
		t.Run(string(c.algorithm)+"/"+c.file, func(t *testing.T) {
			f, err := os.Open(filepath.Join("..", "api", "verify", "testdata", "wycheproof", c.file+"_test.json.gz"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			z, err := gzip.NewReader(f)
			if err != nil {
				t.Fatal(err)
			}
			var v struct {
				TestGroups []struct {
					PublicKeyDer string
					Tests        []struct {
						TcID             int `json:"tcId"`
						Comment          string
						Msg, Sig, Result string
					}
				}
			}
			if err := json.UnmarshalRead(z, &v, json.MatchCaseInsensitiveNames(true)); err != nil {
				t.Fatal(err)
			}
			accepted := 0
			for _, g := range v.TestGroups {
				key, err := x509.ParsePKIXPublicKey(decode(g.PublicKeyDer))
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range g.Tests {
					valid := x.Result == "valid"
					if c.accepted == 1 {
						valid = x.TcID == 258 || x.TcID == 108 && c.algorithm == keystore.RSAPKCS1
					}
					err := keystore.Verify(c.algorithm, key, decode(x.Msg), decode(x.Sig))
					switch {
					case err == nil && !valid:
						t.Errorf("%d (%s) is %s, and was accepted", x.TcID, x.Comment, x.Result)
					case err != nil && valid && c.accepted > 0 && x.Msg != "":
						t.Errorf("%d (%s) is valid, and was refused: %v", x.TcID, x.Comment, err)
					case err == nil:
						accepted++
					}
				}
			}
			if accepted != c.accepted {
				t.Errorf("%d were accepted, want %d", accepted, c.accepted)
			}
		})
	}
}
