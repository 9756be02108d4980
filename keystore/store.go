package keystore

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
)

// Options of a [Store]. The zero value is safe.
type Options struct {
	// Canary is the key that Health signs with; CanaryID if empty.
	Canary ID
}

// A Store makes keys and signs with them on one [Token], and enforces on it what the package doc promises. It is safe
// for use by several goroutines.
type Store struct {
	token  Token
	canary ID

	mu    sync.RWMutex
	known map[ID]known // keys that kept the policy when they were read
}

type known struct {
	key   Key
	epoch uint64
}

// New returns a store on a token that is open. The store closes the token when it is closed.
func New(token Token, o Options) *Store {
	if o.Canary == "" {
		o.Canary = CanaryID
	}
	return &Store{token: token, canary: o.Canary, known: make(map[ID]known)}
}

// Close closes the token.
func (s *Store) Close() error { return s.token.Close() }

// Generate makes a key. When it returns without an error the key is durable, kept the policy when it was read back, and
// has proven by a signature that its private half belongs to its public half. A key that fails this is destroyed again;
// the error wraps [ErrPolicy] or [ErrWrongSignature].
//
// The caller records the key only after Generate returned: a crash in between leaves a key in the token that nothing
// refers to, and its id is not used again.
func (s *Store) Generate(ctx context.Context, spec Spec) (Key, error) {
	if err := spec.Validate(); err != nil {
		return Key{}, err
	}
	epoch := s.token.Epoch()
	key, err := s.token.Generate(ctx, spec)
	if err != nil {
		return Key{}, fmt.Errorf("generate key %q: %w", spec.ID, err)
	}
	if err := s.admit(ctx, spec, key); err != nil {
		// A key that must not be used must not stay, not even when the caller has gone.
		destroyed := s.token.Destroy(context.WithoutCancel(ctx), spec.ID)
		if destroyed != nil {
			destroyed = fmt.Errorf("and it could not be destroyed, do that by hand: %w", destroyed)
		}
		return Key{}, fmt.Errorf("generate key %q: %w", spec.ID, errors.Join(err, destroyed))
	}
	s.remember(key, epoch)
	return key.clone(), nil
}

// admit checks a key that was just made.
func (s *Store) admit(ctx context.Context, spec Spec, key Key) error {
	if err := checkKey(key, spec.ID); err != nil {
		return err
	}
	if key.Algorithm != spec.Algorithm {
		return fmt.Errorf("%w: asked for %s, the token made a key for %s", ErrPolicy, spec.Algorithm, key.Algorithm)
	}
	_, err := s.prove(ctx, key)
	return err
}

// checkKey checks what a token says of a key.
func checkKey(key Key, id ID) error {
	if key.ID != id {
		return fmt.Errorf("%w: asked for key %q, the token answered with %q", ErrPolicy, id, key.ID)
	}
	if of, err := AlgorithmOf(key.Public); err != nil || of != key.Algorithm {
		return fmt.Errorf("%w: the public key is no key for %s", ErrPolicy, key.Algorithm)
	}
	if key.KeyID != KeyID(key.Public) {
		return fmt.Errorf("%w: the key id is not that of the public key", ErrPolicy)
	}
	return CheckPolicy(key.Attributes)
}

// Key returns a key of the token. It is read, and its attributes are held against the policy, once per epoch of the
// token; then the answer comes from memory.
func (s *Store) Key(ctx context.Context, id ID) (Key, error) {
	key, err := s.lookup(ctx, id)
	if err != nil {
		return Key{}, err
	}
	return key.clone(), nil
}

func (s *Store) lookup(ctx context.Context, id ID) (Key, error) {
	epoch := s.token.Epoch()
	s.mu.RLock()
	k, ok := s.known[id]
	s.mu.RUnlock()
	if ok && k.epoch == epoch {
		return k.key, nil
	}
	if err := id.Validate(); err != nil {
		return Key{}, err
	}
	key, err := s.token.Find(ctx, id)
	if err != nil {
		return Key{}, fmt.Errorf("key %q: %w", id, err)
	}
	if err := checkKey(key, id); err != nil {
		return Key{}, fmt.Errorf("key %q: %w", id, err)
	}
	s.remember(key, epoch)
	return key, nil
}

func (s *Store) remember(key Key, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[key.ID] = known{key.clone(), epoch}
}

func (s *Store) forget(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, id)
}

// Sign signs message with the key of that id and returns the signature only if the public key want, which is the one
// the caller enrolled, verifies it. The algorithm is the one of want.
//
// It fails with [ErrWrongSignature] if the token's key is another one or if the signature does not verify; nothing of
// what the token answered is returned then.
func (s *Store) Sign(ctx context.Context, id ID, want crypto.PublicKey, message []byte) ([]byte, error) {
	algorithm, err := AlgorithmOf(want)
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", id, err)
	}
	key, err := s.lookup(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if !SamePublic(key.Public, want) {
		return nil, fmt.Errorf("sign with key %q: %w: the token has key %s under this id, enrolled is %s",
			id, ErrWrongSignature, key.KeyID, KeyID(want))
	}
	input, err := algorithm.Input(message)
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", id, err)
	}
	signature, err := s.token.Sign(ctx, id, algorithm, input)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			s.forget(id)
		}
		return nil, fmt.Errorf("sign with key %q: %w", id, err)
	}
	if err := verifyInput(algorithm, want, input, signature); err != nil {
		s.forget(id)
		return nil, fmt.Errorf("sign with key %q: %w", id, ErrWrongSignature)
	}
	return signature, nil
}

// Destroy removes a key from the token for good.
func (s *Store) Destroy(ctx context.Context, id ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	err := s.token.Destroy(ctx, id)
	s.forget(id) // even if it failed: half of the pair may be gone
	if err != nil {
		return fmt.Errorf("destroy key %q: %w", id, err)
	}
	return nil
}

// Health reports whether the token signs, by letting it sign with the canary key, whose attributes are read again.
// There must be such a key ([Options].Canary).
func (s *Store) Health(ctx context.Context) error {
	s.forget(s.canary) // read it from the device
	key, err := s.lookup(ctx, s.canary)
	if err == nil {
		_, err = s.prove(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("health of the HSM: %w", err)
	}
	return nil
}

// prove lets a key sign a fresh message that means nothing, and verifies the signature.
func (s *Store) prove(ctx context.Context, key Key) ([]byte, error) {
	message := append([]byte("signet key proof v1\x00"), make([]byte, 32)...)
	rand.Read(message[len(message)-32:])
	input, err := key.Algorithm.Input(message)
	if err != nil {
		return nil, err
	}
	signature, err := s.token.Sign(ctx, key.ID, key.Algorithm, input)
	if err != nil {
		return nil, err
	}
	if err := verifyInput(key.Algorithm, key.Public, input, signature); err != nil {
		return nil, ErrWrongSignature
	}
	return signature, nil
}

func (k Key) clone() Key {
	k.Attributes = maps.Clone(k.Attributes)
	return k
}
