package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A refusal says why a device is not used.
type refusal struct {
	reason error
	since  time.Time
	until  time.Time // then the canary may end it
	by     accuser
}

// An accuser is who had a device refused, and only it ends that. A higher one is stronger.
type accuser int

const (
	byCanary     accuser = iota // signatures were wrong
	byTest                      // known-answer tests failed
	byComparison                // it has other keys than the other replicas
)

func (g *guard) makeCanary(ctx context.Context, spec Spec) (Key, error) {
	key, err := g.Generate(ctx, spec)
	if err == nil {
		if err = checkKey(key, spec.ID); err == nil {
			err = g.canary(ctx)
		}
		if err != nil {
			return Key{}, errors.Join(err, discard(ctx, g, spec.ID))
		}
	}
	return key, err
}

// refuse keeps calls away from the device.
func (g *guard) refuse(by accuser, reason error, until time.Time) {
	r := &refusal{reason: reason, since: time.Now(), until: until, by: by}
	for {
		old := g.refusal.Load()
		if old != nil && old.by > by {
			return
		}
		if old != nil && old.by == by {
			r.since = old.since
		}
		if g.refusal.CompareAndSwap(old, r) {
			g.rules.changed()
			return
		}
	}
}

// acquit ends a refusal. It reports why not if it is too early.
func (g *guard) acquit(by accuser) error {
	r := g.refusal.Load()
	if r == nil || r.by != by {
		return nil
	}
	if wait := time.Until(r.until); wait > 0 {
		return r.err()
	}
	g.refusal.CompareAndSwap(r, nil)
	g.rules.changed()
	return nil
}

func (r *refusal) err() error {
	wait := max(time.Until(r.until), time.Second)
	return &UnavailableError{RetryAfter: wait, Cause: fmt.Errorf("the token is not used: %w", r.reason)}
}

// admitted lets a call through to a device that was refused only if it proves itself now.
func (g *guard) admitted(ctx context.Context) error {
	r := g.refusal.Load()
	if r == nil {
		return nil
	}
	if r.by != byCanary || time.Until(r.until) > 0 {
		return r.err()
	}
	return g.canary(ctx)
}

// canary lets the device sign with its canary key, whose attributes are read again. If that is right, and a refusal has
// lasted long enough, it ends; if it is wrong, also after the device was set up anew, the device is refused.
func (g *guard) canary(ctx context.Context) error {
	select {
	case g.canaryTurn <- struct{}{}:
		defer func() { <-g.canaryTurn }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	id := g.rules.canary
	var k *known
	var err error
	for again := false; ; again = true {
		g.forget(id) // read it from the device
		if k, err = g.lookup(ctx, id); err == nil {
			err = prove(ctx, g.Token, k.key)
		}
		if errors.Is(err, ErrNotFound) && g.lostAll(ctx, !again) {
			continue
		}
		if !errors.Is(err, ErrWrongSignature) {
			break
		}
		reason := fmt.Errorf("%w: the canary's", ErrWrongSignature)
		r := g.refusal.Load()
		held := r != nil && time.Until(r.until) > 0
		g.mu.Lock()
		until := g.distrust(time.Now())
		g.mu.Unlock()
		if again || held {
			g.refuse(byCanary, reason, until)
			g.settled() // it was set up anew often enough
			break
		}
		suspect := g.Epoch()
		if k != nil {
			suspect = k.epoch
		}
		g.reset(ctx, suspect, reason)
	}
	g.remember(err)
	if errors.Is(err, ErrNotFound) && g.refusal.Load() != nil {
		return g.acquit(byCanary) // it has no canary: the keys prove themselves one by one
	}
	if err == nil {
		err = g.acquit(byCanary)
	}
	return err
}

// lostAll is called when the canary is not found. A device that lost its storage finds nothing and reports no error, and that
// it comes back does not heal it: it is set up anew, now and then. It reports whether looking again makes sense.
func (g *guard) lostAll(ctx context.Context, first bool) bool {
	now := time.Now()
	g.mu.Lock()
	due := first && !g.empty.until.After(now)
	if due {
		g.empty.lie(now)
	}
	g.mu.Unlock()
	if due {
		g.reset(ctx, g.Epoch(), fmt.Errorf("%w: the canary %q", ErrNotFound, g.rules.canary))
	}
	return due
}

func (g *guard) remember(err error) {
	now := time.Now()
	next := &outcome{err: err, at: now}
	before := g.canaryErr.Load()
	if err == nil {
		next.good = now
		g.mu.Lock()
		g.empty = doubt{}
		g.mu.Unlock()
	} else if before != nil {
		next.good = before.good
	}
	g.canaryErr.Store(next)
	if (before != nil && before.err != nil) != (err != nil) {
		g.rules.changed()
	}
}

// seldom reports whether a device is one that is only plugged in when it is needed.
func seldom(n node) bool {
	g, ok := n.(*guard)
	if ok {
		_, ok = g.Token.(*lazy)
	}
	return ok
}

func (g *guard) health(ctx context.Context) error {
	if seldom(g) {
		return nil // it proves itself at each use
	}
	if r := g.refusal.Load(); r != nil && r.by == byTest {
		if _, err := g.selfTest(ctx); err != nil {
			return err
		}
	}
	if err := g.canary(ctx); err != nil {
		return err
	}
	if r := g.refusal.Load(); r != nil {
		return r.err()
	}
	return nil
}

// selfTest lets the device compute known answers, and sees whether the verifier that stands behind it knows right from
// wrong. A device that fails is refused until it passes.
func (g *guard) selfTest(ctx context.Context) (names []string, err error) {
	if l, ok := g.Token.(*lazy); ok && !l.isOpen() {
		return nil, nil
	}
	if _, err = verifierAnswers(); err == nil {
		if device, ok := g.Token.(KnownAnswerTester); ok {
			names, err = device.KnownAnswers(ctx)
		}
	}
	switch {
	case err == nil:
		g.tested.Store(time.Now().UnixNano())
		if err := g.acquit(byTest); err != nil {
			return names, err
		}
	case !errors.Is(err, ErrUnavailable):
		g.refuse(byTest, fmt.Errorf("self-test: %w", err), time.Now())
	}
	return names, err
}

func (g *guard) ready() error {
	if r := g.refusal.Load(); r != nil {
		return r.err()
	}
	if r, ok := g.Token.(Reporter); ok {
		for _, s := range r.Status() {
			if s.State != Working && s.State != Offline {
				return fmt.Errorf("%w: token %q is %s: %s", ErrUnavailable, s.Token, s.State, s.Reason)
			}
		}
	}
	if o := g.canaryErr.Load(); o != nil {
		return o.err
	}
	return nil
}

// Status implements [Reporter].
func (g *guard) Status() []Status {
	var all []Status
	if r, ok := g.Token.(Reporter); ok {
		all = r.Status()
	}
	if len(all) == 0 {
		all = []Status{{State: Working, Epoch: g.Epoch()}}
	}
	r, o := g.refusal.Load(), g.canaryErr.Load()
	for i := range all {
		s := &all[i]
		s.Replica, s.Active, s.Missing = g.replica, !g.standby.Load(), int(g.missing.Load())
		if at := g.tested.Load(); at != 0 {
			s.Tested = time.Unix(0, at)
		}
		if o != nil {
			s.Proved = o.good
		}
		switch {
		case s.State != Working:
		case r != nil:
			s.State, s.Since, s.Reason = Refusing, r.since, r.reason.Error()
		case o != nil && o.err != nil:
			s.State, s.Since, s.Reason = Recovering, o.at, o.err.Error()
		}
	}
	return all
}

// KnownAnswers implements [KnownAnswerTester].
func (g *guard) KnownAnswers(ctx context.Context) ([]string, error) { return g.selfTest(ctx) }

// statusOf says what each device below a node is doing.
func statusOf(n node) []Status {
	var all []Status
	for _, g := range n.guards() {
		all = append(all, g.Status()...)
	}
	return all
}
