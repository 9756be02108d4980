package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

// A MAC key of a real token: durable, bound to its check value, and not to be replaced by another one.
func TestMAC(t *testing.T) {
	store := keystoretest.New(t)
	key, err := store.GenerateMAC(t.Context(), "passwords-a")
	if err != nil {
		t.Fatal(err)
	}
	if err := keystore.CheckMACPolicy(key.Attributes); err != nil {
		t.Error(err)
	}
	one, err := store.MAC(t.Context(), key, []byte("input"))
	if err != nil || len(one) != 32 {
		t.Fatalf("%d bytes, %v", len(one), err)
	}
	if two, err := store.MAC(t.Context(), key, []byte("input")); err != nil || !bytes.Equal(one, two) {
		t.Errorf("another MAC over the same input: %v", err)
	}
	other, err := store.GenerateMAC(t.Context(), "passwords-b")
	if err != nil {
		t.Fatal(err)
	}
	if other.Check == key.Check {
		t.Error("two keys have one check value")
	}
	swapped := keystore.MACKey{ID: other.ID, Check: key.Check, Attributes: other.Attributes}
	if _, err := store.MAC(t.Context(), swapped, []byte("input")); !errors.Is(err, keystore.ErrWrongSignature) {
		t.Errorf("another key than the recorded one: %v", err)
	}
	drifted := key
	drifted.Attributes = map[string]string{"CKA_EXTRACTABLE": "true"}
	if _, err := keystoretestReopen(t, store, drifted); !errors.Is(err, keystore.ErrDrift) {
		t.Errorf("attributes that are not the recorded ones: %v", err)
	}
	device := keystoretest.NewFake()
	drifting := keystore.New(device, keystore.Options{})
	made, err := drifting.GenerateMAC(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	device.Answer = func(k keystore.Key) keystore.Key { k.Attributes["CKA_MODIFIABLE"] = "true"; return k }
	made.Attributes["CKA_MODIFIABLE"] = "false"
	device.Restart()
	if _, err := drifting.MAC(t.Context(), made, []byte("input")); !errors.Is(err, keystore.ErrDrift) {
		t.Errorf("attributes that are others since the device began an epoch: %v", err)
	}
	if err := store.DestroyMAC(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.MAC(t.Context(), key, []byte("input")); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a destroyed key: %v", err)
	}
	for _, input := range [][]byte{nil, make([]byte, keystore.MaxMACInput+1)} {
		if _, err := store.MAC(t.Context(), other, input); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("an input of %d bytes: %v", len(input), err)
		}
	}
}

// keystoretestReopen uses a key as it is in its first use of an epoch.
func keystoretestReopen(t *testing.T, store *keystore.Store, key keystore.MACKey) ([]byte, error) {
	t.Helper()
	fake := keystoretest.NewFake()
	if _, err := fake.GenerateMAC(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	return keystore.New(fake, keystore.Options{}).MAC(t.Context(), key, []byte("input"))
}

// A device that computes wrongly, once or always, never makes a MAC that comes out.
func TestMACsOfADeviceThatLies(t *testing.T) {
	flip := func(mac []byte) []byte { return append([]byte{mac[0] ^ 1}, mac[1:]...) }
	for name, tamper := range map[string]func(int, []byte) []byte{
		"always":     func(_ int, mac []byte) []byte { return flip(mac) },
		"the first":  func(n int, mac []byte) []byte { return map[bool][]byte{true: flip(mac), false: mac}[n == 1] },
		"the second": func(n int, mac []byte) []byte { return map[bool][]byte{true: flip(mac), false: mac}[n == 2] },
		"the third":  func(n int, mac []byte) []byte { return map[bool][]byte{true: flip(mac), false: mac}[n == 3] },
		"too short":  func(_ int, mac []byte) []byte { return mac[:16] },
	} {
		t.Run(name, func(t *testing.T) {
			fake := keystoretest.NewFake()
			store := keystore.New(fake, keystore.Options{})
			key, err := store.GenerateMAC(t.Context(), "m")
			if err != nil {
				t.Fatal(err)
			}
			before := 0
			fake.TamperMAC = func(n int, mac []byte) []byte {
				if before == 0 {
					before = n
				}
				return tamper(n-before+1, mac)
			}
			if mac, err := store.MAC(t.Context(), key, []byte("input")); !errors.Is(err, keystore.ErrWrongSignature) || mac != nil {
				t.Errorf("%x, %v", mac, err)
			}
		})
	}
}

// Of replicas the one that has the key answers; one with another key under the id is never believed.
func TestMACsOfReplicas(t *testing.T) {
	first, second := keystoretest.NewFake(), keystoretest.NewFake()
	token, err := keystore.Replicas(keystore.ReplicasConfig{}, first, second)
	if err != nil {
		t.Fatal(err)
	}
	store := keystore.New(token, keystore.Options{})
	key, err := store.GenerateMAC(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	want, err := store.MAC(t.Context(), key, []byte("input"))
	if err != nil {
		t.Fatal(err)
	}
	down := func(context.Context, string) error { return keystore.ErrUnavailable }
	first.SetFault(down)
	if _, err := store.MAC(t.Context(), key, []byte("input")); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("the only one that has it is down: %v", err)
	}
	second.CopyFrom(first) // as its vendor's tool clones it
	if got, err := store.MAC(t.Context(), key, []byte("input")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the clone: %v", err)
	}
	first.SetFault(nil)
	if err := second.DestroyMAC(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if _, err := second.GenerateMAC(t.Context(), "m"); err != nil { // a key of the same id that is another one
		t.Fatal(err)
	}
	first.SetFault(down)
	if _, err := store.MAC(t.Context(), key, []byte("input")); !errors.Is(err, keystore.ErrWrongSignature) {
		t.Errorf("another key under the same id: %v", err)
	}
	first.SetFault(nil)
	if got, err := store.MAC(t.Context(), key, []byte("input")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the first is back: %v", err)
	}
	if err := store.DestroyMAC(t.Context(), "m"); err != nil {
		t.Error(err)
	}
}

// A MAC key lives where the rule for its id says.
func TestMACsByRoute(t *testing.T) {
	one, rest := keystoretest.NewFake(), keystoretest.NewFake()
	token, err := keystore.Route(keystore.Rule{Prefixes: []string{"ca-"}, Token: one}, keystore.Rule{Prefixes: []string{""}, Token: rest})
	if err != nil {
		t.Fatal(err)
	}
	store := keystore.New(token, keystore.Options{})
	key, err := store.GenerateMAC(t.Context(), "passwords-a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.MAC(t.Context(), key, []byte("input")); err != nil {
		t.Error(err)
	}
	if _, err := one.MACAttributes(t.Context(), key.ID); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("the other token: %v", err)
	}
	if _, err := rest.MACAttributes(t.Context(), key.ID); err != nil {
		t.Error(err)
	}
	if err := store.DestroyMAC(t.Context(), key.ID); err != nil {
		t.Error(err)
	}
}

// A key that does not keep the policy is not left behind.
func TestMACKeyThatDoesNotKeepThePolicy(t *testing.T) {
	for _, name := range append(keystore.PolicyAttributes(), keystore.MACPolicyAttributes()...) {
		if name == "CKA_SIGN_RECOVER" {
			continue // no attribute of a secret key
		}
		fake := keystoretest.NewFake()
		fake.Answer = func(k keystore.Key) keystore.Key {
			k.Attributes[name] = map[string]string{"true": "false", "false": "true"}[k.Attributes[name]]
			return k
		}
		_, err := keystore.New(fake, keystore.Options{}).GenerateMAC(t.Context(), "m")
		if !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := fake.MACAttributes(t.Context(), "m"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: the key was left behind: %v", name, err)
		}
	}
}
