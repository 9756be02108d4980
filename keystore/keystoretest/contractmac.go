package keystoretest

import (
	"bytes"
	"maps"
	"testing"

	"github.com/signetd/signet/keystore"
)

// testMACs is the contract of [keystore.MACer].
func testMACs(t *testing.T, token keystore.Token) {
	m, ok := token.(keystore.MACer)
	if !ok {
		t.Skip("it has no MAC keys")
	}
	made, err := m.GenerateMAC(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	found, err := m.MACAttributes(t.Context(), "m")
	if err != nil || !maps.Equal(made, found) {
		t.Errorf("attributes: made %v, found %v (%v)", made, found, err)
	}
	if err := keystore.CheckMACPolicy(found); err != nil {
		t.Error(err)
	}
	if _, err := m.GenerateMAC(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	compute := func(id keystore.ID, input string) []byte {
		t.Helper()
		mac, err := m.MAC(t.Context(), id, []byte(input))
		if err != nil || len(mac) != 32 {
			t.Fatalf("a MAC of %d bytes (%v)", len(mac), err)
		}
		return mac
	}
	one := compute("m", "one")
	if !bytes.Equal(one, compute("m", "one")) || bytes.Equal(one, compute("m", "two")) || bytes.Equal(one, compute("n", "one")) {
		t.Error("a MAC is not a function of key and input alone")
	}
	_, err = m.GenerateMAC(t.Context(), "m")
	wantError(t, "GenerateMAC", err, keystore.ErrExists)
	_, err = token.Find(t.Context(), "m")
	wantError(t, "Find of a secret key", err, keystore.ErrNotFound)
	if err := m.DestroyMAC(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	_, err = m.MAC(t.Context(), "m", []byte("one"))
	wantError(t, "MAC", err, keystore.ErrNotFound)
	_, err = m.MACAttributes(t.Context(), "m")
	wantError(t, "MACAttributes", err, keystore.ErrNotFound)
	wantError(t, "DestroyMAC", m.DestroyMAC(t.Context(), "m"), keystore.ErrNotFound)
	compute("n", "one")
}
