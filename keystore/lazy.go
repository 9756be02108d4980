package keystore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A LazyConfig describes a token that is only there when it is needed: a CA that is plugged in to enrol.
type LazyConfig struct {
	Name string // what people call it: an error says to plug in "the CA's token"
	Hint string // where it is and who may fetch it; may be empty

	// Open opens the token.
	Open func(context.Context) (Token, error)

	// Idle is how long after its last use the token is closed, which logs out. 0 means 5 minutes.
	Idle time.Duration
}

// Lazy returns a token that is opened when it is used and closed when it has not been for a while, or when it fails: so
// it can be unplugged and plugged in again. While it is closed its state is Offline, which is healthy; a use of it
// that cannot open it fails with an ErrUnavailable that says which token to plug in.
func Lazy(c LazyConfig) (Token, error) {
	if c.Name == "" || c.Open == nil || c.Idle < 0 {
		return nil, fmt.Errorf("%w: a token that is opened when it is needed has a name and a way to open it", ErrInvalid)
	}
	if c.Idle == 0 {
		c.Idle = 5 * time.Minute
	}
	return &lazy{config: c, since: time.Now(), turn: make(chan struct{}, 1)}, nil
}

type lazy struct {
	config LazyConfig
	turn   chan struct{} // held by the one who opens

	mu     sync.Mutex
	token  *opened // nil while it is closed
	past   uint64  // no epoch of the tokens that are closed was higher
	since  time.Time
	reason string // why it was closed or could not be opened, if that was a failure
	last   Status
	closed bool
	ending sync.WaitGroup
}

// opened is the token while it is open. It is closed once it is retired and nobody uses it.
type opened struct {
	token   Token
	users   int
	retired bool
	idle    *time.Timer
}

// use runs f on the open token.
func (l *lazy) use(ctx context.Context, f func(Token) error) error {
	o, err := l.enter(ctx)
	if err != nil {
		return err
	}
	err = f(o.token)
	failed := errors.Is(err, ErrUnavailable) && ctx.Err() == nil
	l.leave(o, failed, err)
	if failed {
		return l.plugIn(err)
	}
	return err
}

func (l *lazy) plugIn(err error) error {
	hint := ""
	if l.config.Hint != "" {
		hint = " (" + l.config.Hint + ")"
	}
	return fmt.Errorf("%w: plug in %s%s and try again: %w", ErrUnavailable, l.config.Name, hint, err)
}

var errLazyClosed = fmt.Errorf("%w: the token is closed", ErrUnavailable)

func (l *lazy) enter(ctx context.Context) (*opened, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, errLazyClosed
	}
	if o := l.token; o != nil {
		o.users++
		o.idle.Stop()
		l.mu.Unlock()
		return o, nil
	}
	l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}

	t, err := l.config.Open(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.closed {
		err = errors.Join(errLazyClosed, t.Close())
	}
	if err != nil {
		l.reason = err.Error()
		if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
			return nil, l.plugIn(err)
		}
		return nil, fmt.Errorf("open %s: %w", l.config.Name, err)
	}
	o := &opened{token: t, users: 1}
	o.idle = time.AfterFunc(l.config.Idle, func() { l.retire(o, "") })
	o.idle.Stop()
	l.token, l.since, l.reason = o, time.Now(), ""
	return o, nil
}

func (l *lazy) leave(o *opened, failed bool, err error) {
	l.mu.Lock()
	o.users--
	switch {
	case o.retired:
		l.end(o)
	case failed:
		l.mu.Unlock()
		l.retire(o, err.Error())
		return
	case o.users == 0:
		o.idle.Reset(l.config.Idle)
	}
	l.mu.Unlock()
}

// retire takes the token out of use; the last user closes it. A timer that fires as somebody begins to use it does nothing.
func (l *lazy) retire(o *opened, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.retired || reason == "" && o.users > 0 {
		return
	}
	o.retired = true
	o.idle.Stop()
	if l.token == o {
		l.past += o.token.Epoch() + 1
		if r, ok := o.token.(Reporter); ok {
			if all := r.Status(); len(all) > 0 {
				l.last = all[0]
			}
		}
		l.token, l.since, l.reason = nil, time.Now(), reason
	}
	l.end(o)
}

// end closes a retired token that nobody uses. It may take long, so nobody waits for it but Close, which does it itself from then on.
func (l *lazy) end(o *opened) {
	if o.users > 0 || l.closed {
		return
	}
	l.ending.Go(func() {
		_ = o.token.Close() // it is gone, or logs out; nobody is there to hear what it says
	})
}

func (l *lazy) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token != nil
}

// Generate implements [Token].
func (l *lazy) Generate(ctx context.Context, spec Spec) (key Key, err error) {
	if err := spec.Validate(); err != nil {
		return Key{}, err
	}
	err = l.use(ctx, func(t Token) (err error) {
		key, err = t.Generate(ctx, spec)
		return err
	})
	return key, err
}

// Find implements [Token].
func (l *lazy) Find(ctx context.Context, id ID) (key Key, err error) {
	if err := id.Validate(); err != nil {
		return Key{}, err
	}
	err = l.use(ctx, func(t Token) (err error) {
		key, err = t.Find(ctx, id)
		return err
	})
	return key, err
}

// Sign implements [Token].
func (l *lazy) Sign(ctx context.Context, id ID, a Algorithm, input []byte) (signature []byte, err error) {
	if err := a.CheckInput(input); err != nil {
		return nil, err
	}
	err = l.use(ctx, func(t Token) (err error) {
		signature, err = t.Sign(ctx, id, a, input)
		return err
	})
	return signature, err
}

// Destroy implements [Token].
func (l *lazy) Destroy(ctx context.Context, id ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	return l.use(ctx, func(t Token) error { return t.Destroy(ctx, id) })
}

// Epoch implements [Token]: each opening begins one.
func (l *lazy) Epoch() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil {
		return l.past
	}
	return l.past + l.token.token.Epoch()
}

// Close implements [Token].
func (l *lazy) Close() error {
	l.mu.Lock()
	l.closed = true
	o := l.token
	if o != nil {
		l.token, l.since, l.reason = nil, time.Now(), ""
		l.past += o.token.Epoch() + 1
		o.retired = true
		o.idle.Stop()
	}
	l.mu.Unlock()
	l.ending.Wait()
	if o == nil {
		return nil
	}
	return o.token.Close() // ends what is queued and waits for what is running, so the users leave
}

// Reset implements [Resetter]: the next use opens the token anew.
func (l *lazy) Reset(_ context.Context, suspect uint64, reason error) error {
	l.mu.Lock()
	o := l.token
	stale := o == nil || l.past+o.token.Epoch() != suspect
	l.mu.Unlock()
	if !stale {
		l.retire(o, reason.Error())
	}
	return nil
}

// KnownAnswers implements [KnownAnswerTester].
func (l *lazy) KnownAnswers(ctx context.Context) (names []string, err error) {
	err = l.use(ctx, func(t Token) (err error) {
		if tester, ok := t.(KnownAnswerTester); ok {
			names, err = tester.KnownAnswers(ctx)
		}
		return err
	})
	return names, err
}

// Status implements [Reporter].
func (l *lazy) Status() []Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token != nil {
		if r, ok := l.token.token.(Reporter); ok {
			return r.Status()
		}
	}
	s := l.last
	s.Since, s.Reason, s.Sessions, s.Busy, s.Stuck, s.Waiting = l.since, l.reason, 0, 0, 0, 0
	if s.Token == "" {
		s.Token = l.config.Name
	}
	switch {
	case l.closed:
		s.State = Closed
	case l.token != nil:
		s.State = Working
	default:
		s.State = Offline
	}
	return []Status{s}
}
