package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/keystore"
)

// A lateToken is a replica that was away when the service started: it is opened when it has come. A wrong PIN is not tried again, as that
// could lock the token: whoever puts it right starts the service anew.
type lateToken struct {
	config TokenConfig
	open   OpenToken
	end    context.CancelFunc
	ended  chan struct{}
	token  atomic.Pointer[keystore.Token] // nil until it is open

	mu     sync.Mutex
	state  keystore.State
	since  time.Time
	reason error
	next   time.Time
}

// How often it is looked for.
const (
	lateFirst = time.Second
	lateLast  = 15 * time.Second
	lateLimit = time.Minute // for one attempt
)

func newLateToken(c TokenConfig, open OpenToken, reason error) *lateToken {
	ctx, cancel := context.WithCancel(context.Background())
	t := &lateToken{config: c, open: open, end: cancel, ended: make(chan struct{}), since: time.Now()}
	t.failed(reason, lateFirst)
	go t.keepTrying(ctx)
	return t
}

// failed notes why it cannot be opened.
func (t *lateToken) failed(reason error, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := keystore.Recovering
	if errors.Is(reason, keystore.ErrPIN) {
		state = keystore.Refusing
	}
	if t.state != state {
		t.state, t.since = state, time.Now()
	}
	t.reason, t.next = reason, time.Now().Add(wait)
}

func (t *lateToken) keepTrying(ctx context.Context) {
	defer close(t.ended)
	for wait := lateFirst; ; wait = min(2*wait, lateLast) {
		t.mu.Lock()
		reason := t.reason
		t.mu.Unlock()
		if errors.Is(reason, keystore.ErrPIN) {
			return
		}
		timer := time.NewTimer(wait - wait/10 + rand.N(wait/5))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		limited, cancel := context.WithTimeout(ctx, lateLimit)
		token, err := t.open(limited, t.config)
		cancel()
		if err == nil {
			t.token.Store(&token)
			return
		}
		t.failed(err, min(2*wait, lateLast))
	}
}

// opened returns the token, or why it is not there.
func (t *lateToken) opened() (keystore.Token, error) {
	if token := t.token.Load(); token != nil {
		return *token, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(t.reason, keystore.ErrPIN) {
		return nil, t.reason
	}
	return nil, &keystore.UnavailableError{RetryAfter: max(time.Until(t.next), lateFirst), Cause: fmt.Errorf("it was not there when the service started: %w", t.reason)}
}

// Generate implements [keystore.Token].
func (t *lateToken) Generate(ctx context.Context, spec keystore.Spec) (keystore.Key, error) {
	token, err := t.opened()
	if err != nil {
		return keystore.Key{}, err
	}
	return token.Generate(ctx, spec)
}

// Find implements [keystore.Token].
func (t *lateToken) Find(ctx context.Context, id keystore.ID) (keystore.Key, error) {
	token, err := t.opened()
	if err != nil {
		return keystore.Key{}, err
	}
	return token.Find(ctx, id)
}

// Sign implements [keystore.Token].
func (t *lateToken) Sign(ctx context.Context, id keystore.ID, a keystore.Algorithm, input []byte) ([]byte, error) {
	token, err := t.opened()
	if err != nil {
		return nil, err
	}
	return token.Sign(ctx, id, a, input)
}

// SignChecked implements [keystore.CheckingSigner], so that the token that comes checks where it can.
func (t *lateToken) SignChecked(ctx context.Context, id keystore.ID, a keystore.Algorithm, input []byte, check func(input, signature []byte) error) ([]byte, error) {
	token, err := t.opened()
	if err != nil {
		return nil, err
	}
	return keystore.SignChecked(ctx, token, id, a, input, check)
}

// Destroy implements [keystore.Token].
func (t *lateToken) Destroy(ctx context.Context, id keystore.ID) error {
	token, err := t.opened()
	if err != nil {
		return err
	}
	return token.Destroy(ctx, id)
}

// macer returns the token, if it has MAC keys, or why it is not there.
func (t *lateToken) macer() (keystore.MACer, error) {
	token, err := t.opened()
	if err != nil {
		return nil, err
	}
	if m, ok := token.(keystore.MACer); ok {
		return m, nil
	}
	return nil, fmt.Errorf("%w: this token has no keys for HMAC-SHA-256", keystore.ErrInvalid)
}

// GenerateMAC implements [keystore.MACer].
func (t *lateToken) GenerateMAC(ctx context.Context, id keystore.ID) (map[string]string, error) {
	m, err := t.macer()
	if err != nil {
		return nil, err
	}
	return m.GenerateMAC(ctx, id)
}

// MACAttributes implements [keystore.MACer].
func (t *lateToken) MACAttributes(ctx context.Context, id keystore.ID) (map[string]string, error) {
	m, err := t.macer()
	if err != nil {
		return nil, err
	}
	return m.MACAttributes(ctx, id)
}

// MAC implements [keystore.MACer].
func (t *lateToken) MAC(ctx context.Context, id keystore.ID, input []byte) ([]byte, error) {
	m, err := t.macer()
	if err != nil {
		return nil, err
	}
	return m.MAC(ctx, id, input)
}

// DestroyMAC implements [keystore.MACer].
func (t *lateToken) DestroyMAC(ctx context.Context, id keystore.ID) error {
	m, err := t.macer()
	if err != nil {
		return err
	}
	return m.DestroyMAC(ctx, id)
}

// Epoch implements [keystore.Token]: that it is open begins one.
func (t *lateToken) Epoch() uint64 {
	if token := t.token.Load(); token != nil {
		return (*token).Epoch() + 1
	}
	return 0
}

// Reset implements [keystore.Resetter].
func (t *lateToken) Reset(ctx context.Context, suspect uint64, reason error) error {
	token, err := t.opened()
	if err != nil || suspect == 0 {
		return err
	}
	if r, ok := token.(keystore.Resetter); ok {
		return r.Reset(ctx, suspect-1, reason)
	}
	return nil
}

// KnownAnswers implements [keystore.KnownAnswerTester].
func (t *lateToken) KnownAnswers(ctx context.Context) ([]string, error) {
	token, err := t.opened()
	if err != nil {
		return nil, err
	}
	if k, ok := token.(keystore.KnownAnswerTester); ok {
		return k.KnownAnswers(ctx)
	}
	return nil, nil
}

// Status implements [keystore.Reporter].
func (t *lateToken) Status() []keystore.Status {
	if token := t.token.Load(); token != nil {
		if r, ok := (*token).(keystore.Reporter); ok {
			return r.Status()
		}
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return []keystore.Status{{
		Token: t.config.Token, Module: t.config.Module, State: t.state, Since: t.since, Reason: t.reason.Error(), Processes: t.config.Processes,
	}}
}

// Close implements [keystore.Token].
func (t *lateToken) Close() error {
	t.end()
	<-t.ended
	if token := t.token.Load(); token != nil {
		return (*token).Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.since = keystore.Closed, time.Now()
	return nil
}
