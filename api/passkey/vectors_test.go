package passkey_test

import (
	"encoding/json/v2"
	"os"
	"strings"
	"testing"

	"github.com/signetd/signet/api/passkey"
)

// vector is an assertion out of WebAuthn Level 3, section 16 (test vectors), made by nobody here.
type vector struct {
	Name              string `json:"name"`
	Says              string `json:"says"` // why it does not count here; empty: it does
	SPKI              []byte `json:"spki"`
	Challenge         []byte `json:"challenge"`
	CredentialID      []byte `json:"credentialId"`
	AuthenticatorData []byte `json:"authenticatorData"`
	ClientDataJSON    []byte `json:"clientDataJSON"`
	Signature         []byte `json:"signature"`
}

// TestVectors holds Verify against the test vectors of the specification that are made with ES256.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/webauthn-level-3.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	counts := 0
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			key := passkey.Key{CredentialID: v.CredentialID, SPKI: v.SPKI, RPID: "example.org", Origins: []string{"https://example.org"}}
			err := passkey.Verify(key, [32]byte(v.Challenge), passkey.Assertion{
				CredentialID: v.CredentialID, AuthenticatorData: v.AuthenticatorData, ClientDataJSON: v.ClientDataJSON, Signature: v.Signature,
			})
			if v.Says == "" {
				counts++
			}
			if (err == nil) != (v.Says == "") || err != nil && !strings.Contains(err.Error(), v.Says) {
				t.Errorf("%v, want %q", err, v.Says)
			}
		})
	}
	if counts < 3 {
		t.Errorf("%d vectors count", counts)
	}
}
