package keystore

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Options of a [Store]. The zero value is safe.
type Options struct {
	// Canary is the key that Health signs with; CanaryID if empty. Each device has one of its own.
	Canary ID

	// Recorded returns the attributes of a key as they were recorded when it was made, and whether there are any. It is
	// asked at the first use of a key in each epoch of a device: a key whose attributes are others by then is not used
	// (ErrDrift). Nil: attributes are only held against the policy.
	Recorded func(ID) (map[string]string, bool)

	// CanaryLimit is how long one canary signature of Watch may take. 0 means 5 s.
	CanaryLimit time.Duration

	// SelfTestEvery is how often Watch repeats the known-answer tests. 0 means a day.
	SelfTestEvery time.Duration
}

// A Store makes keys and signs with them on one [Token], and enforces on it what the package doc promises. It is safe
// for use by several goroutines.
type Store struct {
	node    node
	rules   *rules
	options Options
	changed chan struct{} // something may have changed in a status

	selfTested atomic.Pointer[outcome] // the last SelfTest; nil if there was none
}

// New returns a store on a token that is open: a device, or what Replicas, Route or Lazy made of several. A token
// belongs to one store, which closes it when it is closed.
func New(token Token, o Options) *Store {
	if o.CanaryLimit <= 0 {
		o.CanaryLimit = 5 * time.Second
	}
	if o.SelfTestEvery <= 0 {
		o.SelfTestEvery = 24 * time.Hour
	}
	s := &Store{node: asNode(token), rules: newRules(o), options: o, changed: make(chan struct{}, 1)}
	s.rules.changed = s.nudge
	if g, ok := s.node.(*guard); ok {
		g.again = true
	}
	s.node.attach(s.rules)
	return s
}

func (s *Store) nudge() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Close closes the token.
func (s *Store) Close() error { return s.node.Close() }

// Generate makes a key. When it returns without an error the key is durable, kept the policy when it was read back, and
// has proven by a signature that its private half belongs to its public half. A key that fails this is destroyed again;
// the error wraps [ErrPolicy] or [ErrWrongSignature]. The canary's id ([Options].Canary) stands for a key on each device:
// where there is none, one is made.
//
// The caller records the key only after Generate returned: a crash in between leaves a key in the token that nothing
// refers to, and its id is not used again.
func (s *Store) Generate(ctx context.Context, spec Spec) (Key, error) {
	if err := spec.Validate(); err != nil {
		return Key{}, err
	}
	if spec.ID == s.rules.canary {
		key, err := s.node.makeCanary(ctx, spec)
		if err != nil {
			return Key{}, fmt.Errorf("generate key %q: %w", spec.ID, err)
		}
		return key.clone(), nil
	}
	key, err := s.node.Generate(ctx, spec)
	if err != nil {
		return Key{}, fmt.Errorf("generate key %q: %w", spec.ID, err)
	}
	if err := s.admit(ctx, spec, key); err != nil {
		return Key{}, fmt.Errorf("generate key %q: %w", spec.ID, errors.Join(err, discard(ctx, s.node, spec.ID)))
	}
	return key.clone(), nil
}

// admit checks a key that was just made.
func (s *Store) admit(ctx context.Context, spec Spec, key Key) error {
	if err := checkKey(key, spec.ID); err != nil {
		return err
	}
	if err := spec.Check(key); err != nil {
		return err
	}
	input, err := key.Algorithm.Input([]byte(proofMessage + rand.Text()))
	if err != nil {
		return err
	}
	_, err = s.node.sign(ctx, key.ID, key.Algorithm, key.Public, input)
	return err
}

// Key returns a key of the token. It is read, and its attributes are held against the policy, once per epoch of the
// token; then the answer comes from memory.
func (s *Store) Key(ctx context.Context, id ID) (Key, error) {
	key, err := s.node.key(ctx, id)
	if err != nil {
		return Key{}, fmt.Errorf("key %q: %w", id, err)
	}
	return key.clone(), nil
}

// Sign signs message with the key of that id and returns the signature only if the public key want, which is the one
// the caller enrolled, verifies it. The algorithm is the one of want that manifests use: see [AlgorithmOf].
//
// It fails with [ErrWrongSignature] if the token's key is another one or if the signature does not verify; nothing of
// what the token answered is returned then. It fails with [ErrInvalid] if the key was made for another algorithm.
func (s *Store) Sign(ctx context.Context, id ID, want crypto.PublicKey, message []byte) ([]byte, error) {
	algorithm, err := AlgorithmOf(want)
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", id, err)
	}
	return s.SignAs(ctx, id, algorithm, want, message)
}

// SignAs is [Store.Sign] with the algorithm that the caller enrolled the key for, which matters for RSA keys alone: one that
// was made for [RSAPKCS1] signs with nothing else, and no other key signs so.
func (s *Store) SignAs(ctx context.Context, id ID, algorithm Algorithm, want crypto.PublicKey, message []byte) ([]byte, error) {
	if err := algorithm.Fits(want); err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", id, err)
	}
	input, err := algorithm.Input(message)
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", id, err)
	}
	signature, err := s.node.sign(ctx, id, algorithm, want, input)
	if err != nil {
		return nil, fmt.Errorf("sign with key %q: %w", id, err)
	}
	return signature, nil
}

// Destroy removes a key from the token for good.
func (s *Store) Destroy(ctx context.Context, id ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	err := s.node.Destroy(ctx, id)
	s.node.forget(id) // even if it failed: half of the pair may be gone
	if err != nil {
		return fmt.Errorf("destroy key %q: %w", id, err)
	}
	return nil
}

// Health reports whether each device that should be there signs, by letting it sign with its canary key, whose
// attributes are read again. There must be such a key ([Options].Canary). Of replicas, one is enough. A token that is
// only plugged in when it is needed ([Lazy]) is left alone.
func (s *Store) Health(ctx context.Context) error {
	if err := s.node.health(ctx); err != nil {
		return fmt.Errorf("health of the HSM: %w", err)
	}
	return nil
}

// Ready reports, without asking a device, whether the store can sign: what the last calls and canaries showed. It needs
// Watch or Health to be called every now and then. Of replicas, one is enough.
func (s *Store) Ready() error {
	if err := s.node.ready(); err != nil {
		return fmt.Errorf("HSM: %w", err)
	}
	return nil
}

// ReadyFor is Ready for where a key of this id lives alone.
func (s *Store) ReadyFor(id ID) error {
	n := s.node
	if r, ok := n.(*route); ok {
		var err error
		if n, err = r.node(id); err != nil {
			return err
		}
	}
	if err := n.ready(); err != nil {
		return fmt.Errorf("HSM: %w", err)
	}
	return nil
}

// Status says what each device is doing.
func (s *Store) Status() []Status { return statusOf(s.node) }

// Missing lists the keys that one of several replicas is known not to have: what was made since they were cloned. A key
// counts from its first use on. It is empty without [Replicas].
func (s *Store) Missing() []MissingKey {
	var all []MissingKey
	for _, r := range replicasOf(s.node) {
		all = append(all, r.compared.missing()...)
	}
	return all
}
