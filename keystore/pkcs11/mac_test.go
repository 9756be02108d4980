package pkcs11_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// What the device loses while it computes a MAC is replaced, and the MAC is the same.
func TestMACRetries(t *testing.T) {
	for _, test := range []struct {
		function faulty.Function
		code     uint
	}{
		{faulty.SignInit, wrapper.CKR_SESSION_HANDLE_INVALID}, {faulty.SignInit, wrapper.CKR_OPERATION_ACTIVE},
		{faulty.SignInit, wrapper.CKR_USER_NOT_LOGGED_IN}, {faulty.SignInit, wrapper.CKR_KEY_HANDLE_INVALID},
		{faulty.Sign, wrapper.CKR_OPERATION_NOT_INITIALIZED}, {faulty.Sign, wrapper.CKR_SESSION_CLOSED},
		{faulty.Sign, wrapper.CKR_DEVICE_REMOVED},
	} {
		t.Run(fmt.Sprintf("%v/%#x", test.function, test.code), func(t *testing.T) {
			fault, _, store, _ := newFault(t, nil)
			key, err := store.GenerateMAC(t.Context(), "m")
			if err != nil {
				t.Fatal(err)
			}
			want, err := store.MAC(t.Context(), key, message)
			if err != nil {
				t.Fatal(err)
			}
			fault.Fail(test.function, 1, test.code)
			if got, err := store.MAC(t.Context(), key, message); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x, %v; want %x", got, err, want)
			}
		})
	}
}

// A device that fails, or computes wrongly, gives an error that says so and no MAC.
func TestMACFails(t *testing.T) {
	fault, token, store, _ := newFault(t, nil)
	key, err := store.GenerateMAC(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	fault.Add(faulty.Fault{Function: faulty.SignInit, Times: faulty.Always, Code: wrapper.CKR_FUNCTION_FAILED})
	if mac, err := store.MAC(t.Context(), key, message); !errors.Is(err, keystore.ErrUnavailable) || mac != nil {
		t.Errorf("%x, %v", mac, err)
	}
	fault.Heal()
	if _, err := store.MAC(t.Context(), key, message); err != nil {
		t.Errorf("after it was healed: %v", err)
	}
	for _, wrong := range []faulty.Wrong{faulty.Corrupted, faulty.Truncated, faulty.Zeroed, faulty.TooLong} {
		fault.WrongSignature(1, wrong)
		if mac, err := store.MAC(t.Context(), key, message); err == nil || mac != nil {
			t.Errorf("a wrong MAC (%d) came out: %x, %v", wrong, mac, err)
		}
		fault.Heal()
		if _, err := store.MAC(t.Context(), key, message); err != nil {
			t.Errorf("after it was healed: %v", err)
		}
	}
	fault.Add(faulty.Fault{Function: faulty.GenerateKey, Code: wrapper.CKR_DEVICE_MEMORY})
	if _, err := store.GenerateMAC(t.Context(), "n"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("the key could not be made: %v", err)
	}
	fault.Heal()
	if _, err := store.GenerateMAC(t.Context(), "n"); err != nil {
		t.Errorf("after it was healed: %v", err)
	}
	fault.Fail(faulty.GetAttributeValue, 1, wrapper.CKR_DEVICE_ERROR)
	if _, err := store.GenerateMAC(t.Context(), "o"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("the key could not be read back: %v", err)
	}
	if _, err := token.MACAttributes(t.Context(), "o"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("it stayed: %v", err)
	}
}
