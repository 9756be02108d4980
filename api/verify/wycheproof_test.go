package verify

import (
	"compress/gzip"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/api/manifest"
)

// wycheproof is a file of test vectors, as far as it is used.
type wycheproof struct {
	NumberOfTests int
	TestGroups    []struct {
		PublicKeyDer string // SubjectPublicKeyInfo in hex; of RSA-PSS with the algorithm of the key alone
		Tests        []struct {
			TcID             int `json:"tcId"`
			Comment          string
			Msg, Sig, Result string
		}
	}
}

func readVectors(t *testing.T, name string) wycheproof {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "wycheproof", name+"_test.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var v wycheproof
	if err := json.UnmarshalRead(z, &v, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Project Wycheproof's vectors for every algorithm of a manifest: malleable encodings, edge cases of the arithmetic, modified paddings. What is
// valid there is accepted, and nothing else.
func TestWycheproof(t *testing.T) {
	t.Attr("requirement", "B-58")
	for _, c := range []struct {
		algorithm, file string
		accepted, tests int
	}{
		{manifest.ECDSAP256, "ecdsa_secp256r1_sha256", 174, 484},
		{manifest.ECDSAP384, "ecdsa_secp384r1_sha384", 194, 504},
		{manifest.ECDSAP521, "ecdsa_secp521r1_sha512", 232, 542},
		{manifest.Ed25519, "ed25519", 88, 150},
		{manifest.RSAPSS, "rsa_pss_2048_sha256_mgf1_32", 63, 108},
		{manifest.RSAPSS, "rsa_pss_3072_sha256_mgf1_32", 63, 108},
		{manifest.RSAPSS, "rsa_pss_4096_sha256_mgf1_32", 63, 108},
		{manifest.RSAPSS, "rsa_signature_3072_sha256", 1, 259}, // PKCS #1 v1.5, no algorithm of a manifest, but for one signature with PSS
		{manifest.RSAPSS, "rsa_signature_4096_sha256", 1, 258},
	} {
		t.Run(c.file, func(t *testing.T) {
			v := readVectors(t, c.file)
			accepted, tests := 0, 0
			for _, g := range v.TestGroups {
				key, err := x509.ParsePKIXPublicKey(unhex(t, g.PublicKeyDer))
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range g.Tests {
					err := checkSignature(key, c.algorithm, unhex(t, x.Msg), unhex(t, x.Sig))
					valid := x.Result == "valid"
					if c.accepted == 1 {
						valid = x.TcID == 258
					}
					if (err == nil) != valid {
						t.Errorf("%d (%s) is %s: %v", x.TcID, x.Comment, x.Result, err)
					}
					tests++
					if err == nil {
						accepted++
					}
				}
			}
			if tests != c.tests || v.NumberOfTests != c.tests || accepted != c.accepted {
				t.Errorf("%d of %d vectors were accepted, want %d of %d", accepted, tests, c.accepted, c.tests)
			}
		})
	}
}
