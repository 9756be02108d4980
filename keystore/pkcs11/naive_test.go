package pkcs11_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync"
	"testing"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// A naive pool is what most programs in Go have in front of PKCS#11: sessions in a channel, the handles of keys in a map, one more try
// with another session after an error, and the module initialised again when the device seems to be gone. There is nothing wrong with
// how it is written; what is wrong is what it believes.
type naive struct {
	p        *wrapper.Ctx
	conf     string
	label    string
	pin      string
	size     int
	sessions chan wrapper.SessionHandle

	mu      sync.Mutex
	handles map[string]wrapper.ObjectHandle
}

func newNaive(c pkcs11.Config, size int) (*naive, error) {
	n := &naive{
		p: wrapper.New(c.Module), conf: c.SoftHSMConf, label: c.TokenLabel, pin: keystoretest.PIN, size: size,
		handles: make(map[string]wrapper.ObjectHandle),
	}
	return n, n.start()
}

func (n *naive) start() error {
	os.Setenv("SOFTHSM2_CONF", n.conf)
	if err := n.p.Initialize(); err != nil {
		return err
	}
	slot, err := n.slot()
	if err != nil {
		return err
	}
	n.sessions = make(chan wrapper.SessionHandle, n.size)
	for range n.size {
		s, err := n.p.OpenSession(slot, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
		if err != nil {
			return err
		}
		if err := n.login(s); err != nil {
			return err
		}
		n.sessions <- s
	}
	return nil
}

func (n *naive) slot() (uint, error) {
	slots, err := n.p.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := n.p.GetTokenInfo(slot); err == nil && info.Label == n.label {
			return slot, nil
		}
	}
	return 0, errors.New("no such token")
}

// login also serves to check somebody's PIN.
func (n *naive) login(s wrapper.SessionHandle) error {
	err := n.p.Login(s, wrapper.CKU_USER, n.pin)
	if rv(err) == wrapper.CKR_USER_ALREADY_LOGGED_IN {
		return nil
	}
	return err
}

// restart is what it does when the device is gone.
func (n *naive) restart() error {
	n.p.Finalize()
	return n.start()
}

func (n *naive) find(s wrapper.SessionHandle, label string) (wrapper.ObjectHandle, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h, known := n.handles[label]; known {
		return h, nil
	}
	found, err := n.search(s, wrapper.CKO_PRIVATE_KEY, label)
	if err != nil {
		return 0, err
	}
	if len(found) == 0 {
		return 0, errors.New("no such key")
	}
	n.handles[label] = found[0]
	return found[0], nil
}

func (n *naive) search(s wrapper.SessionHandle, class uint, label string) ([]wrapper.ObjectHandle, error) {
	err := n.p.FindObjectsInit(s, []*wrapper.Attribute{
		wrapper.NewAttribute(wrapper.CKA_CLASS, class), wrapper.NewAttribute(wrapper.CKA_LABEL, label),
	})
	if err != nil {
		return nil, err
	}
	defer n.p.FindObjectsFinal(s)
	found, _, err := n.p.FindObjects(s, 2)
	return found, err
}

// with lends a session. After an error it tries once more, with the next one.
func (n *naive) with(do func(s wrapper.SessionHandle) error) error {
	var err error
	for range 2 {
		s := <-n.sessions
		err = do(s)
		n.sessions <- s
		if err == nil {
			return nil
		}
	}
	return err
}

func (n *naive) sign(label string, input []byte) ([]byte, error) {
	return n.signWith(wrapper.CKM_ECDSA, label, input)
}

func (n *naive) signWith(mechanism uint, label string, input []byte) (signature []byte, err error) {
	err = n.with(func(s wrapper.SessionHandle) error {
		key, err := n.find(s, label)
		if err != nil {
			return err
		}
		if err := n.p.SignInit(s, []*wrapper.Mechanism{wrapper.NewMechanism(mechanism, nil)}, key); err != nil {
			return err
		}
		signature, err = n.p.Sign(s, input)
		return err
	})
	return signature, err
}

// healthy is the usual answer to a health check.
func (n *naive) healthy() bool {
	return n.with(func(s wrapper.SessionHandle) error {
		_, err := n.p.GetSessionInfo(s)
		return err
	}) == nil
}

// generate asks for a key that cannot be read or wrapped out, and trusts that it is one.
func (n *naive) generate(label string) error {
	return n.with(func(s wrapper.SessionHandle) error {
		name := wrapper.NewAttribute(wrapper.CKA_LABEL, label)
		_, _, err := n.p.GenerateKeyPair(s, []*wrapper.Mechanism{wrapper.NewMechanism(wrapper.CKM_EC_KEY_PAIR_GEN, nil)},
			[]*wrapper.Attribute{
				name, wrapper.NewAttribute(wrapper.CKA_TOKEN, true),
				wrapper.NewAttribute(wrapper.CKA_EC_PARAMS, []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}),
			},
			[]*wrapper.Attribute{
				name, wrapper.NewAttribute(wrapper.CKA_TOKEN, true), wrapper.NewAttribute(wrapper.CKA_PRIVATE, true),
				wrapper.NewAttribute(wrapper.CKA_SENSITIVE, true), wrapper.NewAttribute(wrapper.CKA_EXTRACTABLE, false),
				wrapper.NewAttribute(wrapper.CKA_SIGN, true),
			})
		return err
	})
}

func rv(err error) uint {
	var e wrapper.Error
	errors.As(err, &e)
	return uint(e)
}

// A fixture is the keys "a" and "b" (P-256) and "ed" in a token behind a module that fails on demand, twice: one for each side.
type fixture struct {
	module *faulty.Module
	config pkcs11.Config
	keys   map[keystore.ID]keystore.Key
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{module: faulty.New(t), keys: make(map[keystore.ID]keystore.Key)}
	f.config = f.module.Config(t)
	c := f.config
	c.SessionCopies = true // so that the keys may be copied
	store := keystore.New(keystoretest.Open(t, c), keystore.Options{})
	for _, spec := range []keystore.Spec{
		{ID: "a", Algorithm: keystore.ECDSAP256}, {ID: "b", Algorithm: keystore.ECDSAP256}, {ID: "ed", Algorithm: keystore.Ed25519},
		{ID: keystore.CanaryID, Algorithm: keystore.ECDSAP256},
	} {
		f.keys[spec.ID] = keystoretest.Generate(t, store, spec.ID, spec.Algorithm)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

// A theirs is a naive pool on a device.
type theirs struct {
	*fixture
	*naive
}

// naively opens a naive pool with that many sessions. How it misuses the module is no failure of the test.
func naively(t *testing.T, size int) *theirs {
	t.Helper()
	return naivelyOn(t, newFixture(t), size)
}

func naivelyOn(t *testing.T, f *fixture, size int) *theirs {
	t.Helper()
	n, err := newNaive(f.config, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.module.Heal()
		n.p.Finalize()
		f.module.Violations()
	})
	return &theirs{f, n}
}

// made reports which of the keys made a signature over the digest, or "".
func (f *fixture) made(digest, raw []byte) keystore.ID {
	for id, key := range f.keys {
		if verifyRaw(key.Public, digest, raw) {
			return id
		}
	}
	return ""
}

func verifyRaw(public crypto.PublicKey, digest, raw []byte) bool {
	k, ok := public.(*ecdsa.PublicKey)
	return ok && len(raw) == 64 && ecdsa.Verify(k, digest, new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:]))
}

// An ours is our pool on a device.
type ours struct {
	*fixture
	t     *testing.T
	token *pkcs11.Token
	store *keystore.Store
}

func properly(t *testing.T, change func(*pkcs11.Config)) *ours {
	t.Helper()
	return properlyOn(t, newFixture(t), change)
}

func properlyOn(t *testing.T, f *fixture, change func(*pkcs11.Config)) *ours {
	t.Helper()
	c := f.config
	c.Sessions = 2
	if change != nil {
		change(&c)
	}
	o := &ours{fixture: f, t: t, token: keystoretest.Open(t, c)}
	t.Cleanup(f.module.Heal) // before closing
	o.store = keystore.New(o.token, keystore.Options{})
	return o
}

// sign signs and checks that what comes out is right.
func (o *ours) sign(id keystore.ID) error {
	o.t.Helper()
	return o.signIn(o.t.Context(), id)
}

func (o *ours) signIn(ctx context.Context, id keystore.ID) error {
	o.t.Helper()
	key := o.keys[id]
	signature, err := o.store.Sign(ctx, id, key.Public, message)
	if err == nil && keystore.Verify(key.Algorithm, key.Public, message, signature) != nil {
		o.t.Error("a wrong signature came out")
	}
	return err
}

func (o *ours) signs(ids ...keystore.ID) {
	o.t.Helper()
	for _, id := range ids {
		if err := o.sign(id); err != nil {
			o.t.Errorf("ours: key %q: %v", id, err)
		}
	}
}

var naiveDigest = bytes.Repeat([]byte{7}, 32)

func (n *theirs) mustSign(t *testing.T, label string) {
	t.Helper()
	if raw, err := n.sign(label, naiveDigest); err != nil || n.made(naiveDigest, raw) != keystore.ID(label) {
		t.Fatalf("the naive pool does not work at all: %v", err)
	}
}

func wentWrong(t *testing.T, wrong bool, format string, a ...any) {
	t.Helper()
	if !wrong {
		t.Errorf("the naive pool holds: %s", fmt.Sprintf(format, a...))
	}
}
