package keystore

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// A node is a token in the tree below a [Store]: a guard on one device, or what makes one of several. It judges, so what
// it returns can be used.
type node interface {
	Token

	// sign returns a signature over input that the key want verifies, or none.
	sign(ctx context.Context, id ID, a Algorithm, want crypto.PublicKey, input []byte) ([]byte, error)

	// key returns a key that keeps the policy and is as it was recorded. It is read once per epoch.
	key(ctx context.Context, id ID) (Key, error)

	// makeCanary makes a canary on each device that has none and should be there, and checks it. Without any: ErrExists.
	makeCanary(ctx context.Context, spec Spec) (Key, error)

	generateMAC(ctx context.Context, id ID) (map[string]string, error) // makes a MAC key, and does not judge it
	checkMAC(ctx context.Context, id ID) ([]byte, error)               // what a new MAC key computes over the check text
	mac(ctx context.Context, key MACKey, input []byte) ([]byte, error) // computes, with a key that proves itself at the same time
	destroyMAC(ctx context.Context, id ID) error

	forget(id ID)                                   // the next look at a key asks the device
	health(ctx context.Context) error               // lets each device sign that should be there
	selfTest(ctx context.Context) ([]string, error) // known answers of each device that should be there
	ready() error                                   // what is known without asking
	guards() []*guard                               // in order
	attach(r *rules)                                // before use, by the one Store
}

// rules are what a Store asks of every key and device below it.
type rules struct {
	canary   ID
	recorded func(ID) (map[string]string, bool)
	changed  func() // something may have changed in a status
}

func newRules(o Options) *rules {
	r := &rules{canary: o.Canary, recorded: o.Recorded, changed: func() {}}
	if r.canary == "" {
		r.canary = CanaryID
	}
	return r
}

// asNode puts a guard in front of a device.
func asNode(t Token) node {
	if n, ok := t.(node); ok {
		return n
	}
	return &guard{Token: t, rules: newRules(Options{}), known: make(map[ID]*known), reading: make(map[ID]*reading),
		doubts: make(map[ID]*doubt), canaryTurn: make(chan struct{}, 1)}
}

// A guard stands in front of one device and believes nothing it says: a key is checked once per epoch, each signature
// is verified.
//
// A wrong signature is thrown away. What then happens depends on what explains it. A handle that means another key
// is cured by setting the device up anew, so that is done, once for all callers that were hit; the key then has to prove itself
// by a signature over nothing before it signs again. A key that does not is refused, alone, as long as the canary
// signs well. A device whose canary does not, or that lied several times within an hour, is refused as a whole until the canary
// has signed well and an increasing time has gone by.
type guard struct {
	Token
	rules *rules
	learn func(Key) // is told of each key that was read; nil for a device without replicas
	again bool      // a signature that was wrong is tried once more here, as there is no replica

	mu         sync.RWMutex
	known      map[ID]*known
	macs       map[ID]uint64 // MAC keys whose attributes were read → in which epoch
	reading    map[ID]*reading
	doubts     map[ID]*doubt
	lies       doubt         // of the device
	empty      doubt         // times that the canary was not found
	generation uint64        // counts the lies that set the device up anew
	resetting  chan struct{} // closed when that is done; nil while it is not under way

	refusal    atomic.Pointer[refusal]
	canaryTurn chan struct{}
	canaryErr  atomic.Pointer[outcome] // of the last canary
	tested     atomic.Int64            // Unix time in ns of the last known-answer tests that passed
	replica    int
	standby    atomic.Bool // a replica to which no calls go
	missing    atomic.Int64
}

// known is a key that was read in an epoch. It is not changed once others see it, but for proven.
type known struct {
	key        Key
	epoch      uint64
	generation uint64
	doubted    bool // it must prove itself
	proven     atomic.Bool
	read       time.Time
}

type reading struct {
	began time.Time
	done  chan struct{}
	k     *known
	err   error
	left  bool // the one who read has left
}

type outcome struct {
	err error
	at  time.Time
	// good is when the canary last signed well; zero if never.
	good time.Time
}

// A doubt is what is held against a key or device that lied.
type doubt struct {
	lies  int
	last  time.Time
	until time.Time
}

const (
	forgiven = time.Hour // after so long without a lie, all are forgotten
	freeLies = 3         // so many have no delay
	maxHold  = time.Minute

	lookAgain  = time.Second            // after this, a key that was not the enrolled one is read again
	patience   = 250 * time.Millisecond // for another caller who reads the same key: that one may hang
	resetLimit = 5 * time.Second        // for callers to wait until a device was set up anew
)

// lie adds one and says how long the liar is left alone.
func (d *doubt) lie(now time.Time) {
	if now.Sub(d.last) > forgiven {
		d.lies = 0
	}
	d.lies++
	d.last, d.until = now, now
	if extra := d.lies - freeLies; extra > 0 {
		d.until = now.Add(min(time.Second<<min(extra-1, 16), maxHold))
	}
}

func (g *guard) attach(r *rules) { g.rules = r }

func (g *guard) guards() []*guard { return []*guard{g} }

// lookup returns a key of this epoch.
func (g *guard) lookup(ctx context.Context, id ID) (*known, error) {
	for {
		epoch := g.Epoch()
		g.mu.RLock()
		k := g.known[id]
		g.mu.RUnlock()
		if k != nil && k.epoch == epoch {
			return k, nil
		}
		if err := id.Validate(); err != nil {
			return nil, err
		}
		g.mu.Lock()
		if under := g.resetting; under != nil { // what is read now may be stale again
			g.mu.Unlock()
			if err := wait(ctx, under); err != nil {
				return nil, err
			}
			continue
		}
		r := g.reading[id]
		if r == nil || time.Since(r.began) >= patience {
			r = &reading{began: time.Now(), done: make(chan struct{})}
			g.reading[id] = r
			generation := g.generation
			_, doubted := g.doubts[id]
			g.mu.Unlock()
			r.k, r.err = g.read(ctx, id, epoch, generation, doubted)
			r.left = r.err != nil && ctx.Err() != nil
			g.mu.Lock()
			if g.reading[id] == r {
				delete(g.reading, id)
			}
			g.mu.Unlock()
			close(r.done)
			return r.k, r.err
		}
		g.mu.Unlock()
		late := time.NewTimer(patience - time.Since(r.began))
		select {
		case <-r.done:
			late.Stop()
			if !r.left {
				return r.k, r.err
			}
		case <-late.C:
		case <-ctx.Done():
			late.Stop()
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// read asks the device for a key and holds it against the policy and what was recorded.
func (g *guard) read(ctx context.Context, id ID, epoch, generation uint64, doubted bool) (*known, error) {
	key, err := g.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := checkKey(key, id); err != nil {
		return nil, err
	}
	if g.rules.recorded != nil && id != g.rules.canary { // each device has a canary of its own
		if recorded, ok := g.rules.recorded(id); ok {
			if err := Drift(recorded, key.Attributes); err != nil {
				return nil, err
			}
		}
	}
	k := &known{key: key.clone(), epoch: epoch, generation: generation, doubted: doubted, read: time.Now()}
	g.mu.Lock()
	if g.generation == generation {
		g.known[id] = k
	}
	g.mu.Unlock()
	if g.learn != nil {
		g.learn(k.key)
	}
	return k, nil
}

func (g *guard) key(ctx context.Context, id ID) (Key, error) {
	k, err := g.lookup(ctx, id)
	if err != nil {
		return Key{}, err
	}
	return k.key, nil
}

// discard destroys a key that was just made and must not be used. It must not stay, not even when the caller has gone.
func discard(ctx context.Context, n node, id ID) error {
	err := n.Destroy(context.WithoutCancel(ctx), id)
	n.forget(id)
	if err != nil {
		return fmt.Errorf("and it could not be destroyed, do that by hand: %w", err)
	}
	return nil
}

func (g *guard) forget(id ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.known, id)
}

// errOtherKey: the device has another key under an id than the one that the caller enrolled.
type errOtherKey struct{ has, want string }

func (e *errOtherKey) Error() string {
	return fmt.Sprintf("%v: the token has key %s under this id, enrolled is %s", ErrWrongSignature, e.has, e.want)
}

func (e *errOtherKey) Unwrap() error { return ErrWrongSignature }

func (g *guard) sign(ctx context.Context, id ID, a Algorithm, want crypto.PublicKey, input []byte) ([]byte, error) {
	signature, k, err := g.try(ctx, id, a, want, input)
	if k == nil || err == nil {
		return signature, err
	}
	g.lied(ctx, k)
	if !g.again {
		return nil, err
	}
	signature, k, again := g.try(ctx, id, a, want, input)
	if k != nil && again != nil {
		g.lied(ctx, k)
	}
	if again != nil && !errors.Is(again, ErrWrongSignature) {
		again = fmt.Errorf("%w; then, tried again: %w", err, again)
	}
	return signature, again
}

// try makes one signature. With the error for a wrong one it returns the key that was trusted to make it.
func (g *guard) try(ctx context.Context, id ID, a Algorithm, want crypto.PublicKey, input []byte) ([]byte, *known, error) {
	if err := g.admitted(ctx); err != nil {
		return nil, nil, err
	}
	k, err := g.lookup(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if !SamePublic(k.key.Public, want) {
		if time.Since(k.read) > lookAgain {
			g.forget(id) // perhaps the right token is back
		}
		return nil, nil, &errOtherKey{k.key.KeyID, KeyID(want)}
	}
	if k.key.Algorithm != a { // of RSA keys, the public half does not tell
		return nil, nil, fmt.Errorf("%w: the key was made for %s, it does not sign %s", ErrInvalid, k.key.Algorithm, a)
	}
	if k.doubted && !k.proven.Load() {
		if err := g.absolve(ctx, k); err != nil {
			return nil, nil, err
		}
	}
	signature, err := g.make(ctx, id, a, want, input)
	switch {
	case err == nil:
		return signature, nil, nil
	case errors.Is(err, ErrNotFound):
		g.forget(id)
	case errors.Is(err, ErrWrongSignature): // or not even the form of one
		return nil, k, err
	}
	return nil, nil, err
}

// make returns a signature that was verified.
func (g *guard) make(ctx context.Context, id ID, a Algorithm, want crypto.PublicKey, input []byte) ([]byte, error) {
	check := func(input, signature []byte) error {
		if verifyInput(a, want, input, signature) != nil {
			return ErrWrongSignature
		}
		return nil
	}
	return SignChecked(ctx, g.Token, id, a, input, check)
}

// lied is called after a wrong signature of a key that was trusted. Callers that were hit by the same fault are one lie.
func (g *guard) lied(ctx context.Context, k *known) {
	g.mu.Lock()
	if g.generation != k.generation {
		if g.known[k.key.ID] == k {
			delete(g.known, k.key.ID)
		}
		g.mu.Unlock()
		return
	}
	now := time.Now()
	g.doubted(k.key.ID).lie(now)
	until := g.distrust(now)
	g.mu.Unlock()

	reason := fmt.Errorf("%w: key %q", ErrWrongSignature, k.key.ID)
	if until.After(now) {
		g.refuse(byCanary, reason, until)
	}
	g.reset(ctx, k.epoch, reason)
	g.rules.changed()
}

// distrust forgets every handle after a lie, until reset. It returns until when the device is to be left alone. Called with the
// lock held.
func (g *guard) distrust(now time.Time) time.Time {
	g.generation++
	g.known = make(map[ID]*known)
	if g.resetting == nil {
		g.resetting = make(chan struct{})
	}
	g.lies.lie(now)
	return g.lies.until
}

func (g *guard) doubted(id ID) *doubt {
	d := g.doubts[id]
	if d == nil {
		d = new(doubt)
		g.doubts[id] = d
	}
	return d
}

// reset sets the device up anew. Whether that worked, the next call tells.
func (g *guard) reset(ctx context.Context, suspect uint64, reason error) {
	if r, ok := g.Token.(Resetter); ok {
		ctx, cancel := context.WithTimeout(ctx, resetLimit)
		_ = r.Reset(ctx, suspect, errors.New(reason.Error())) // what fails meanwhile is unavailable, and no lie
		cancel()
	}
	g.settled()
}

func (g *guard) settled() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.resetting != nil {
		close(g.resetting)
		g.resetting = nil
	}
}

// absolve lets a key that lied prove itself.
func (g *guard) absolve(ctx context.Context, k *known) error {
	id := k.key.ID
	g.mu.Lock()
	d := g.doubted(id)
	wait := time.Until(d.until)
	g.mu.Unlock()
	if wait > 0 {
		return fmt.Errorf("%w: it has done so again and again, and is tried again in %v", ErrWrongSignature, wait.Round(time.Second))
	}
	err := prove(ctx, g.Token, k.key)
	if err == nil {
		k.proven.Store(true)
		return nil
	}
	if !errors.Is(err, ErrWrongSignature) {
		return err
	}
	g.mu.Lock()
	d.lie(time.Now())
	if g.known[id] == k {
		delete(g.known, id)
	}
	g.mu.Unlock()
	if id != g.rules.canary {
		_ = g.canary(ctx) // is it the key alone? If not, the device is refused from now on
	}
	return err
}

// proofMessage begins what a key signs to show that it can: nothing else that is signed begins so.
const proofMessage = "signet key proof v1\x00"

// prove lets a key sign a fresh message that means nothing, and verifies the signature.
func prove(ctx context.Context, t Token, key Key) error {
	input, err := key.Algorithm.Input([]byte(proofMessage + rand.Text()))
	if err != nil {
		return err
	}
	signature, err := t.Sign(ctx, key.ID, key.Algorithm, input)
	if err != nil {
		return err
	}
	if err := verifyInput(key.Algorithm, key.Public, input, signature); err != nil {
		return ErrWrongSignature
	}
	return nil
}

// checkKey checks what a token says of a key.
func checkKey(key Key, id ID) error {
	if key.ID != id {
		return fmt.Errorf("%w: asked for key %q, the token answered with %q", ErrPolicy, id, key.ID)
	}
	if key.Algorithm.Fits(key.Public) != nil {
		return fmt.Errorf("%w: the public key is no key for %s", ErrPolicy, key.Algorithm)
	}
	if key.KeyID != KeyID(key.Public) {
		return fmt.Errorf("%w: the key id is not that of the public key", ErrPolicy)
	}
	return CheckPolicy(key.Attributes)
}

func (k Key) clone() Key {
	k.Attributes = maps.Clone(k.Attributes)
	return k
}
