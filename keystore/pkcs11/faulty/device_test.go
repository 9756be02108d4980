package faulty_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// A device is the module as an application sees it: no pool in between.
type device struct {
	t    *testing.T
	m    *faulty.Module
	p    *pkcs11.Ctx
	keys []keystore.Key
}

var digest = bytes.Repeat([]byte{7}, 32)

// newDevice gives a module with two P-256 keys, "a" and "b", and calls C_Initialize.
func newDevice(t *testing.T) *device {
	t.Helper()
	m := faulty.New(t)
	d := &device{t: t, m: m}
	store := keystore.New(keystoretest.Open(t, m.Config(t)), keystore.Options{})
	for _, id := range []keystore.ID{"a", "b"} {
		d.keys = append(d.keys, keystoretest.Generate(t, store, id, keystore.ECDSAP256))
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	d.p = pkcs11.New(m.Path)
	if d.p == nil {
		t.Fatal("the module cannot be loaded")
	}
	t.Setenv("SOFTHSM2_CONF", m.Config(t).SoftHSMConf)
	d.must(d.p.Initialize())
	t.Cleanup(func() {
		m.Heal()
		d.p.Finalize()
	})
	return d
}

func (d *device) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) again() {
	d.t.Helper()
	d.must(d.p.Finalize())
	os.Setenv("SOFTHSM2_CONF", d.m.Config(d.t).SoftHSMConf) // opening a content has changed it
	d.must(d.p.Initialize())
}

func (d *device) slot() uint {
	d.t.Helper()
	slots, err := d.p.GetSlotList(true)
	d.must(err)
	for _, s := range slots {
		if info, err := d.p.GetTokenInfo(s); err == nil && info.Label == "faulty" {
			return s
		}
	}
	d.t.Fatal("no token")
	return 0
}

func (d *device) session() pkcs11.SessionHandle {
	d.t.Helper()
	s, err := d.p.OpenSession(d.slot(), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	d.must(err)
	if err := d.p.Login(s, pkcs11.CKU_USER, keystoretest.PIN); code(err) != pkcs11.CKR_USER_ALREADY_LOGGED_IN {
		d.must(err)
	}
	return s
}

func (d *device) find(s pkcs11.SessionHandle, class uint, label string) []pkcs11.ObjectHandle {
	d.t.Helper()
	d.must(d.p.FindObjectsInit(s, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}))
	found, _, err := d.p.FindObjects(s, 10)
	d.must(err)
	d.must(d.p.FindObjectsFinal(s))
	return found
}

func (d *device) private(s pkcs11.SessionHandle, label string) pkcs11.ObjectHandle {
	d.t.Helper()
	found := d.find(s, pkcs11.CKO_PRIVATE_KEY, label)
	if len(found) != 1 {
		d.t.Fatalf("%d keys %q", len(found), label)
	}
	return found[0]
}

func (d *device) sign(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) ([]byte, error) {
	if err := d.p.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, key); err != nil {
		return nil, err
	}
	return d.p.Sign(s, digest)
}

func (d *device) verifies(public crypto.PublicKey, signature []byte) bool {
	return verifyRaw(public, digest, signature)
}

func code(err error) uint {
	var e pkcs11.Error
	errors.As(err, &e)
	return uint(e)
}

func (d *device) want(err error, rv uint) {
	d.t.Helper()
	if code(err) != rv {
		d.t.Errorf("got %v, want %#x", err, rv)
	}
}

// verifyRaw verifies a signature as PKCS#11 gives it: both numbers one after the other.
func verifyRaw(public crypto.PublicKey, digest, signature []byte) bool {
	k, ok := public.(*ecdsa.PublicKey)
	if !ok || len(signature) != 64 {
		return false
	}
	return ecdsa.Verify(k, digest, new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
