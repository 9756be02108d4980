package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/signetd/signet/keystore"
)

// lock waits for the turn of a call that looks for keys or changes them. One that hangs is not waited for.
func (t *Token) lock(ctx context.Context) error {
	select {
	case t.objects <- struct{}{}:
		t.held.Store(now())
		return nil
	default:
	}
	for {
		left := t.config.Hang
		if since := t.held.Load(); since != 0 {
			left -= time.Duration(now() - since)
		}
		if left <= 0 {
			return unavailable(hangRetry, errors.New("a call that looks for keys, or makes or destroys one, does not return"))
		}
		timer := time.NewTimer(left)
		select {
		case t.objects <- struct{}{}:
			timer.Stop()
			t.held.Store(now())
			return nil
		case <-timer.C:
		case <-t.closing:
			timer.Stop()
			return errClosed
		case <-ctx.Done():
			timer.Stop()
			return expired(ctx)
		}
	}
}

func (t *Token) unlock() {
	t.held.Store(0)
	<-t.objects
}

// Find implements [keystore.Token].
func (t *Token) Find(ctx context.Context, id keystore.ID) (keystore.Key, error) {
	if err := id.Validate(); err != nil {
		return keystore.Key{}, err
	}
	r, err := t.repeat(ctx, func(*process) (*request, error) { return t.desk(ctx, find, []byte(id)) })
	if err != nil {
		return keystore.Key{}, err
	}
	return decodeKey(r.body)
}

// desk asks the elected process something that changes nothing.
func (t *Token) desk(ctx context.Context, k kind, body []byte) (*request, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	p, err := t.elected(ctx)
	if err != nil {
		t.unlock()
		return nil, err
	}
	r := &request{kind: k, after: t.unlock}
	return r, t.askLocked(ctx, p, r, func(b []byte, number, left uint64) []byte { return appendFrame(b, k, number, left, body) })
}

// Generate implements [keystore.Token].
func (t *Token) Generate(ctx context.Context, spec keystore.Spec) (keystore.Key, error) {
	if err := spec.Validate(); err != nil {
		return keystore.Key{}, err
	}
	body, err := json.Marshal(spec)
	if err != nil {
		return keystore.Key{}, fmt.Errorf("%w: %w", keystore.ErrInvalid, err)
	}
	r, err := t.change(ctx, generate, body, nil)
	if err != nil {
		return keystore.Key{}, err
	}
	return decodeKey(r.body)
}

// Destroy implements [keystore.Token].
func (t *Token) Destroy(ctx context.Context, id keystore.ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	_, err := t.change(ctx, destroy, []byte(id), func(did *process, err error) {
		if err != nil && !errors.Is(err, keystore.ErrNotFound) && did != nil {
			did.retire(fmt.Errorf("a key may or may not be destroyed: %w", err))
		}
		t.forgetEverywhere(did, id)
	})
	return err
}

// change lets the elected process change objects. It goes on when the caller has left: the lock ends when the device has done it, and
// the others have learnt of it.
func (t *Token) change(ctx context.Context, k kind, body []byte, then func(*process, error)) (*request, error) {
	for range maxLate {
		if err := t.lock(ctx); err != nil {
			return nil, err
		}
		p, err := t.elected(ctx)
		if err == nil && ctx.Err() != nil {
			err = expired(ctx)
		}
		if err != nil {
			t.unlock()
			return nil, err
		}
		r := &request{kind: k}
		result := make(chan error, 1)
		go func() {
			defer t.unlock()
			err := p.ask(context.WithoutCancel(ctx), r, func(b []byte, number, _ uint64) []byte { return appendFrame(b, k, number, 0, body) })
			if then != nil && !isNotBegun(err) {
				then(p, err)
			}
			result <- err
		}()
		select {
		case err = <-result:
		case <-ctx.Done():
			return nil, expired(ctx)
		}
		if !isNotBegun(err) {
			return r, err
		}
	}
	return nil, unavailable(minDelay, errors.New("its worker processes end before they can be asked"))
}

func isNotBegun(err error) bool {
	lost := (*lostError)(nil)
	return errors.As(err, &lost) && !lost.begun
}

// forgetEverywhere returns when no other process has a handle or copy of a key any more.
func (t *Token) forgetEverywhere(but *process, id keystore.ID) {
	var all sync.WaitGroup
	for _, p := range *t.processes.Load() {
		if p == but {
			continue
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.life, min(t.config.Hang, closeWait))
			defer cancel()
			err := p.ask(ctx, &request{kind: forget}, func(b []byte, number, left uint64) []byte {
				return appendFrame(b, forget, number, left, []byte(id))
			})
			p.mu.Lock()
			delete(p.warm, id)
			p.mu.Unlock()
			if err != nil {
				p.retire(fmt.Errorf("it has not forgotten a key that was destroyed: %w", err))
				p.drain(drainWait)
				p.lose(errors.New("it has not forgotten a key that was destroyed"))
				p.kill()
			}
		})
	}
	all.Wait()
	if but != nil {
		but.mu.Lock()
		delete(but.warm, id)
		but.mu.Unlock()
	}
}

// KnownAnswers implements [keystore.KnownAnswerTester]: each process computes.
func (t *Token) KnownAnswers(ctx context.Context) (names []string, err error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	if _, err := t.elected(ctx); err != nil {
		return nil, err
	}
	for i, p := range *t.processes.Load() {
		r := &request{kind: knownAnswers}
		err := p.ask(ctx, r, func(b []byte, number, left uint64) []byte { return appendFrame(b, knownAnswers, number, left) })
		if err != nil {
			return names, err
		}
		var a wireAnswers
		if err := json.Unmarshal(r.body, &a); err != nil {
			return names, fmt.Errorf("%w: %w: known answers: %w", keystore.ErrUnavailable, errProtocol, err)
		}
		if i == 0 || len(a.Ran) < len(names) {
			names = a.Ran // what all of them have run
		}
		if len(a.Failed) > 0 {
			return names, fmt.Errorf("worker process %d: %w", p.slot, decodeError(a.Failed))
		}
	}
	return names, nil
}
