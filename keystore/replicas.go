package keystore

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A ReplicasConfig tunes [Replicas]. The zero value is good.
type ReplicasConfig struct {
	// Attempt is how long a call waits for one token before it asks the next, but never longer than half of the time that
	// its caller has left. 0 means 3 s.
	Attempt time.Duration

	// Return is how long a token that failed must sign well with its canary before calls go back to it. 0 means 30 s.
	Return time.Duration
}

// Replicas makes one token of two or more that hold the same keys, a pair of cloned devices, say. The first serves. When a
// call to it ends without a signature, the same call asks the next; if that one answers, the calls that follow go
// to it, until the first has signed well with its canary for some time ([Store.Watch] or [Store.Health] ask it to): a
// device that comes and goes is not flapped to. So a call is lost only if no token is well while it lasts: one that finds the first
// hanging costs Attempt, or half of the caller's deadline if that is less.
//
// Tokens of one PKCS#11 module in one process are set up anew together, as the module is what must be initialised: then the
// second is away for some milliseconds, too, for which its calls wait. Tokens in processes of their own do not have that.
//
// # Keys
//
// The tokens hold the same keys because people, or the devices themselves, clone them: PKCS#11 has no way to do that which
// leaves a key unextractable. So Generate makes a key in one device only, the one that serves, after all that can be
// asked have said that they have no key of this id. It can be used at once, by that device alone; until it was cloned the
// others miss it, which Status counts and [Store.Missing] lists. A key that must not be lost, the CA's above all, is
// cloned before anything relies on it; a person's key need not be, since a new one can be enrolled.
//
// At the first use of a key in each epoch of a device, its public half is compared with the others'. A token that has
// another key under an id is no replica: it is refused as a whole. A copy of a key whose attributes do not
// keep the policy, or have drifted, makes the key itself suspect, since the secret is the same: once seen on any token, it is used
// on none. The canary is the exception: each device may have its own.
//
// Destroy removes a key from all tokens. If one cannot be asked it fails, and is to be repeated.
func Replicas(c ReplicasConfig, tokens ...Token) (Token, error) {
	if len(tokens) < 2 || c.Attempt < 0 || c.Return < 0 {
		return nil, fmt.Errorf("%w: replicas are two or more tokens", ErrInvalid)
	}
	if c.Attempt == 0 {
		c.Attempt = 3 * time.Second
	}
	if c.Return == 0 {
		c.Return = 30 * time.Second
	}
	r := &replicas{config: c, rules: newRules(Options{})}
	for i, t := range tokens {
		g, ok := asNode(t).(*guard)
		if !ok {
			return nil, fmt.Errorf("%w: a replica is one token, not several", ErrInvalid)
		}
		g.replica = i
		g.standby.Store(i != 0)
		g.learn = func(k Key) { r.compared.learn(i, k) }
		r.members = append(r.members, &member{guard: g})
	}
	r.compared.begin(r.members)
	return r, nil
}

type replicas struct {
	config  ReplicasConfig
	rules   *rules
	members []*member
	active  atomic.Int32
	moves   atomic.Uint64 // how often active changed

	compared compared
}

type member struct {
	*guard
	mu   sync.Mutex
	good time.Time // since when its canary signs well, without a failure; zero: it does not
}

func (m *member) failed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.good = time.Time{}
}

// signsWell notes a good canary and returns since when all were.
func (m *member) signsWell(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.good.IsZero() {
		m.good = now
	}
	return m.good
}

func (r *replicas) attach(rules *rules) {
	r.rules = rules
	for _, m := range r.members {
		m.attach(rules)
	}
	r.compared.canary = rules.canary
}

func (r *replicas) guards() []*guard {
	var all []*guard
	for _, m := range r.members {
		all = append(all, m.guard)
	}
	return all
}

// order returns the tokens, the active one first.
func (r *replicas) order() []int {
	active := int(r.active.Load())
	order := []int{active}
	for i := range r.members {
		if i != active {
			order = append(order, i)
		}
	}
	return order
}

// elsewhere reports whether a call that failed so is worth trying on another token.
func elsewhere(err error) bool {
	return !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrPolicy) && !errors.Is(err, ErrExists)
}

// gone reports whether an error says that the token as a whole does not work, rather than one key in it.
func gone(err error) bool {
	return (errors.Is(err, ErrUnavailable) || errors.Is(err, ErrPIN)) && !errors.Is(err, ErrNotFound)
}

// passes reports whether the same token may answer a moment later.
func passes(err error) bool {
	mismatch := (*errOtherKey)(nil)
	return err != nil && (gone(err) || errors.Is(err, errLacked) || errors.Is(err, ErrWrongSignature) && !errors.As(err, &mismatch))
}

// failedBy collects what the tokens said.
type failedBy []error

// err is the answer to the caller. ErrNotFound is one only if all tokens say so: another one might have had the key.
func (f failedBy) err() error {
	var rest []error
	text := ""
	for i, err := range f {
		switch {
		case err == nil:
		case errors.Is(err, ErrNotFound):
			text += fmt.Sprintf("; replica %d: %v", i, err)
		default:
			rest = append(rest, fmt.Errorf("replica %d: %w", i, err))
		}
	}
	if len(rest) == 0 {
		return ErrNotFound
	}
	err := errors.Join(rest...)
	if len(rest) == 1 {
		err = rest[0]
	}
	if text != "" {
		err = fmt.Errorf("%w%s", err, text)
	}
	return err
}

// each asks the tokens in order until one answers. Twice: a token can come back just as the other one goes.
func (r *replicas) each(ctx context.Context, ask func(ctx context.Context, m *member, again bool) error) error {
	first := r.active.Load()
	order := r.order()
	failed := make(failedBy, len(r.members))
	for round := range 2 {
		for n, i := range order {
			if err := r.ask(ctx, r.members[i], round == 0 || n+1 < len(order), func(ctx context.Context, m *member) error {
				return ask(ctx, m, round > 0)
			}); err == nil {
				if before := failed[first]; int32(i) != first && before != nil && gone(before) {
					r.move(first, int32(i))
				}
				return nil
			} else if failed[i] = err; !elsewhere(err) || ctx.Err() != nil {
				return err
			}
		}
		if !slices.ContainsFunc(failed, passes) {
			break
		}
	}
	return failed.err()
}

// ask asks one token. It does not wait for it for so long that no time is left for another.
func (r *replicas) ask(ctx context.Context, m *member, more bool, ask func(context.Context, *member) error) error {
	parent := ctx
	if more {
		limit := r.config.Attempt
		if deadline, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(deadline)/2)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	err := ask(ctx, m)
	if err != nil && gone(err) && parent.Err() == nil {
		m.failed()
	}
	return err
}

func (r *replicas) move(from, to int32) {
	if !r.active.CompareAndSwap(from, to) {
		return
	}
	r.moves.Add(1)
	for i, m := range r.members {
		m.standby.Store(int32(i) != to)
	}
	r.rules.changed()
}

func (r *replicas) sign(ctx context.Context, id ID, a Algorithm, want crypto.PublicKey, input []byte) (signature []byte, err error) {
	other := false // a token has another key than the one that is wanted
	err = r.each(ctx, func(ctx context.Context, m *member, again bool) (err error) {
		if err := r.compared.refuses(m.replica, id); err != nil && !(again && errors.Is(err, errLacked)) {
			return err
		}
		if other { // of two tokens that differ the comparison may have refused this one, and it has the key that is wanted
			r.compared.holds(m.replica, id, KeyID(want))
		}
		signature, err = m.guard.sign(ctx, id, a, want, input)
		r.noted(m, id, err)
		mismatch := (*errOtherKey)(nil)
		other = other || errors.As(err, &mismatch)
		return err
	})
	if err == nil && other {
		r.compared.enrolled(id, KeyID(want))
	}
	return signature, err
}

// noted remembers what an error says of a token's copy of a key.
func (r *replicas) noted(m *member, id ID, err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrPolicy):
		r.compared.suspect(m.replica, id, err)
	case errors.Is(err, ErrNotFound):
		r.compared.lacks(m.replica, id)
	}
}

func (r *replicas) key(ctx context.Context, id ID) (key Key, err error) {
	err = r.each(ctx, func(ctx context.Context, m *member, again bool) (err error) {
		if err := r.compared.refuses(m.replica, id); err != nil && !(again && errors.Is(err, errLacked)) {
			return err
		}
		if err := m.admitted(ctx); err != nil {
			return err
		}
		key, err = m.guard.key(ctx, id)
		r.noted(m, id, err)
		return err
	})
	return key, err
}

func (r *replicas) forget(id ID) {
	for _, m := range r.members {
		m.forget(id)
	}
}

// Find implements [Token].
func (r *replicas) Find(ctx context.Context, id ID) (key Key, err error) {
	if err := id.Validate(); err != nil {
		return Key{}, err
	}
	err = r.each(ctx, func(ctx context.Context, m *member, _ bool) (err error) {
		if err := m.admitted(ctx); err != nil {
			return err
		}
		key, err = m.Find(ctx, id)
		return err
	})
	return key, err
}

// Sign implements [Token]. The signature is verified, so that a wrong one is not the last word.
func (r *replicas) Sign(ctx context.Context, id ID, a Algorithm, input []byte) ([]byte, error) {
	if err := a.CheckInput(input); err != nil {
		return nil, err
	}
	key, err := r.key(ctx, id)
	if err != nil {
		return nil, err
	}
	if key.Algorithm != a {
		return nil, fmt.Errorf("%w: key %q is for %s, not for %s", ErrInvalid, id, key.Algorithm, a)
	}
	return r.sign(ctx, id, a, key.Public, input)
}

// Generate implements [Token]: see [Replicas].
func (r *replicas) Generate(ctx context.Context, spec Spec) (Key, error) {
	if err := spec.Validate(); err != nil {
		return Key{}, err
	}
	if spec.ID == r.rules.canary {
		return r.makeCanary(ctx, spec)
	}
	var maker *member
	failed := make(failedBy, len(r.members))
	for _, i := range r.order() {
		m := r.members[i]
		err := r.ask(ctx, m, true, func(ctx context.Context, m *member) error {
			if err := m.admitted(ctx); err != nil {
				return err
			}
			_, err := m.Find(ctx, spec.ID)
			return err
		})
		switch {
		case err == nil:
			return Key{}, fmt.Errorf("%w: on replica %d", ErrExists, i)
		case !errors.Is(err, ErrNotFound):
			failed[i] = err
		case maker == nil:
			maker = m
		}
	}
	if maker == nil {
		return Key{}, failed.err()
	}
	key, err := maker.Generate(ctx, spec)
	if err != nil {
		return Key{}, err
	}
	r.compared.learn(maker.replica, key)
	return key, nil
}

func (r *replicas) makeCanary(ctx context.Context, spec Spec) (Key, error) {
	var nodes []node
	for _, m := range r.members {
		nodes = append(nodes, m.guard)
	}
	return makeCanaries(ctx, spec, nodes)
}

// makeCanaries makes a canary on each token that has none, and returns the first one it made.
func makeCanaries(ctx context.Context, spec Spec, nodes []node) (first Key, err error) {
	err = ErrExists
	for i, n := range nodes {
		key, failed := n.makeCanary(ctx, spec)
		switch {
		case errors.Is(failed, ErrExists):
		case failed != nil:
			return Key{}, fmt.Errorf("token %d: %w", i, failed)
		case err != nil:
			first, err = key, nil
		}
	}
	return first, err
}

// Destroy implements [Token].
func (r *replicas) Destroy(ctx context.Context, id ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	failed := make(failedBy, len(r.members))
	found := false
	for i, m := range r.members {
		failed[i] = m.Destroy(ctx, id)
		m.forget(id)
		found = found || failed[i] == nil
	}
	if err := failed.err(); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("the key may still be there, repeat this when all replicas are: %w", err)
	}
	r.compared.destroyed(id)
	if !found {
		return ErrNotFound
	}
	return nil
}

// Epoch implements [Token].
func (r *replicas) Epoch() uint64 {
	epoch := r.moves.Load()
	for _, m := range r.members {
		epoch += m.Epoch()
	}
	return epoch
}

// Close implements [Token].
func (r *replicas) Close() error {
	r.compared.end()
	var all []error
	for _, m := range r.members {
		all = append(all, m.Close())
	}
	return errors.Join(all...)
}

// health lets all tokens sign with their canaries, side by side, and decides which one is active.
func (r *replicas) health(ctx context.Context) error {
	failed := make(failedBy, len(r.members))
	var all sync.WaitGroup
	for i, m := range r.members {
		all.Go(func() { failed[i] = m.health(ctx) })
	}
	all.Wait()
	if ctx.Err() == nil || slices.Contains(failed, nil) {
		r.decide(failed)
	}
	r.compared.refresh()
	if slices.Contains(failed, nil) {
		return nil
	}
	return errors.Join(failed...)
}

// decide makes the first token active that has signed well for long enough, or any that signs where the active one does not.
func (r *replicas) decide(failed failedBy) {
	now := time.Now()
	active := r.active.Load()
	for i, m := range r.members {
		if failed[i] != nil {
			m.failed()
			continue
		}
		since := m.signsWell(now)
		switch {
		case int32(i) < active && now.Sub(since) >= r.config.Return, int32(i) != active && failed[active] != nil:
			r.move(active, int32(i))
			return
		}
	}
}

func (r *replicas) selfTest(ctx context.Context) ([]string, error) {
	var names []string
	failed := make(failedBy, len(r.members))
	for i, m := range r.members {
		var ran []string
		ran, failed[i] = m.selfTest(ctx)
		for _, name := range ran {
			names = append(names, fmt.Sprintf("replica %d: %s", i, name))
		}
	}
	if slices.Contains(failed, nil) {
		return names, nil // the others are refused until they pass, or are not there
	}
	return names, errors.Join(failed...)
}

func (r *replicas) ready() error {
	failed := make(failedBy, len(r.members))
	for i, m := range r.members {
		if failed[i] = m.ready(); failed[i] == nil {
			return nil
		}
	}
	return errors.Join(failed...)
}

// Status implements [Reporter].
func (r *replicas) Status() []Status { return statusOf(r) }

// KnownAnswers implements [KnownAnswerTester].
func (r *replicas) KnownAnswers(ctx context.Context) ([]string, error) { return r.selfTest(ctx) }

// replicasOf returns the replicas below a node.
func replicasOf(n node) (all []*replicas) {
	switch n := n.(type) {
	case *replicas:
		all = append(all, n)
	case *route:
		for _, n := range n.nodes {
			all = append(all, replicasOf(n)...)
		}
	}
	return all
}
