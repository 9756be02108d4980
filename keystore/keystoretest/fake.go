package keystoretest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/signetd/signet/keystore"
)

// A Fake is a [keystore.Token] in memory. It keeps the contract (TestToken holds it to that) until it is told to
// misbehave, for tests of what stands between a device and the world. Set the functions before it is used.
type Fake struct {
	// Answer changes what Generate and Find say of a key. It gets a copy.
	Answer func(keystore.Key) keystore.Key

	// Tamper changes what Sign returns. other makes a signature over the same input with another key of the token.
	Tamper func(id keystore.ID, signature []byte, other func(keystore.ID) []byte) ([]byte, error)

	// TamperMAC changes what MAC returns. number counts the calls, from 1.
	TamperMAC func(number int, mac []byte) []byte

	// OnReset happens when the token is told to set itself up anew, before the new epoch begins.
	OnReset func(reason error)

	failing atomic.Pointer[func(ctx context.Context, call string) error]

	mu     sync.Mutex
	keys   map[keystore.ID]fakeKey
	macs   map[keystore.ID][]byte
	epoch  uint64
	closed bool
	made   int
	macked int
	resets int
}

type fakeKey struct {
	key    keystore.Key
	signer crypto.Signer
}

// NewFake returns a token without keys.
func NewFake() *Fake {
	return &Fake{keys: make(map[keystore.ID]fakeKey), macs: make(map[keystore.ID][]byte), epoch: 1}
}

var errClosed = fmt.Errorf("%w: the fake token is closed", keystore.ErrUnavailable)

// SetFault lets something happen before each call does anything, from now on: it gets the name of the method, may take time,
// and what it returns ends the call. Nil ends it. The token may be in use.
func (f *Fake) SetFault(fault func(ctx context.Context, call string) error) { f.failing.Store(&fault) }

func (f *Fake) fault(ctx context.Context, call string) error {
	if fault := f.failing.Load(); fault != nil && *fault != nil {
		return (*fault)(ctx, call)
	}
	return nil
}

func (f *Fake) enter(ctx context.Context) error {
	if f.closed {
		return errClosed
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, context.Cause(ctx))
	}
	return nil
}

// Generate implements [keystore.Token].
func (f *Fake) Generate(ctx context.Context, spec keystore.Spec) (keystore.Key, error) {
	if err := spec.Validate(); err != nil {
		return keystore.Key{}, err
	}
	signer, err := newSigner(spec)
	if err != nil {
		return keystore.Key{}, err
	}
	if err := f.fault(ctx, "Generate"); err != nil {
		return keystore.Key{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return keystore.Key{}, err
	}
	if f.taken(spec.ID) {
		return keystore.Key{}, keystore.ErrExists
	}
	key := keystore.Key{
		ID: spec.ID, Algorithm: spec.Algorithm, Public: signer.Public(), KeyID: keystore.KeyID(signer.Public()),
		Attributes: map[string]string{
			"CKA_ALWAYS_SENSITIVE": "true", "CKA_LOCAL": "true", "CKA_NEVER_EXTRACTABLE": "true", "CKA_PRIVATE": "true",
			"CKA_SENSITIVE": "true", "CKA_SIGN": "true", "CKA_TOKEN": "true",
			"CKA_DECRYPT": "false", "CKA_DERIVE": "false", "CKA_EXTRACTABLE": "false", "CKA_UNWRAP": "false",
			"CKA_SIGN_RECOVER": "false",
		},
	}
	f.keys[spec.ID] = fakeKey{key, signer}
	f.made++
	return f.answer(key), nil
}

func newSigner(spec keystore.Spec) (crypto.Signer, error) {
	switch spec.Algorithm {
	case keystore.ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keystore.ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case keystore.ECDSAP521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case keystore.Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case keystore.RSAPSS, keystore.RSAPKCS1:
		return rsa.GenerateKey(rand.Reader, spec.RSABits())
	}
	return nil, spec.Algorithm.Validate()
}

func (f *Fake) answer(key keystore.Key) keystore.Key {
	key.Attributes = maps.Clone(key.Attributes)
	if f.Answer != nil {
		key = f.Answer(key)
	}
	return key
}

// Find implements [keystore.Token].
func (f *Fake) Find(ctx context.Context, id keystore.ID) (keystore.Key, error) {
	if err := id.Validate(); err != nil {
		return keystore.Key{}, err
	}
	if err := f.fault(ctx, "Find"); err != nil {
		return keystore.Key{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return keystore.Key{}, err
	}
	k, ok := f.keys[id]
	if !ok {
		return keystore.Key{}, keystore.ErrNotFound
	}
	return f.answer(k.key), nil
}

// Sign implements [keystore.Token].
func (f *Fake) Sign(ctx context.Context, id keystore.ID, a keystore.Algorithm, input []byte) ([]byte, error) {
	if err := a.CheckInput(input); err != nil {
		return nil, err
	}
	if err := f.fault(ctx, "Sign"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	k, ok := f.keys[id]
	if !ok {
		return nil, keystore.ErrNotFound
	}
	if k.key.Algorithm != a {
		return nil, fmt.Errorf("%w: the key is for %s", keystore.ErrInvalid, k.key.Algorithm)
	}
	signature, err := k.sign(input)
	if err != nil || f.Tamper == nil {
		return signature, err
	}
	return f.Tamper(id, signature, func(other keystore.ID) []byte {
		s, _ := f.keys[other].sign(input)
		return s
	})
}

func (k fakeKey) sign(input []byte) ([]byte, error) {
	var options crypto.SignerOpts = k.key.Algorithm.Hash()
	if k.key.Algorithm == keystore.RSAPSS {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	return k.signer.Sign(rand.Reader, input, options)
}

// Destroy implements [keystore.Token].
func (f *Fake) Destroy(ctx context.Context, id keystore.ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	if err := f.fault(ctx, "Destroy"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return err
	}
	if _, ok := f.keys[id]; !ok {
		return keystore.ErrNotFound
	}
	delete(f.keys, id)
	return nil
}

// Epoch implements [keystore.Token].
func (f *Fake) Epoch() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

// Close implements [keystore.Token].
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// Reset implements [keystore.Resetter].
func (f *Fake) Reset(ctx context.Context, suspect uint64, reason error) error {
	if err := f.fault(ctx, "Reset"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil || f.epoch != suspect {
		return err
	}
	if f.OnReset != nil {
		f.OnReset(reason)
	}
	f.resets++
	f.epoch++
	return nil
}

// Resets returns how often the token was set up anew because it was told to.
func (f *Fake) Resets() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets
}

// Clone returns a token with the same keys, as of now.
func (f *Fake) Clone() *Fake {
	c := NewFake()
	c.CopyFrom(f)
	return c
}

// CopyFrom gives the token the keys of another one. Its own of the same ids are replaced, but for the canary.
func (f *Fake) CopyFrom(o *Fake) {
	o.mu.Lock()
	keys, macs := maps.Clone(o.keys), maps.Clone(o.macs)
	o.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.macs, macs)
	for id, k := range keys {
		if _, has := f.keys[id]; !has || id != keystore.CanaryID {
			f.keys[id] = k
		}
	}
}

// Restart begins an epoch, as a device does that was initialised anew.
func (f *Fake) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch++
}

// Swap exchanges what two ids stand for, as a device does whose handles start again.
func (f *Fake) Swap(a, b keystore.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[a], f.keys[b] = f.keys[b], f.keys[a]
}

// Keys returns how many keys there are, and how many were ever made.
func (f *Fake) Keys() (now, ever int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.keys), f.made
}
