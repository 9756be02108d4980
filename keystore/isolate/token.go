package isolate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/keystore"
)

// A Token is one token that worker processes have open. It implements keystore.Token, keystore.Reporter, keystore.Resetter and
// keystore.KnownAnswerTester.
type Token struct {
	config  Config
	build   string
	spawner *spawner
	pins    *pins

	processes atomic.Pointer[[]*process] // those that are up
	epoch     atomic.Uint64
	patient   atomic.Int32  // callers who wait for a process
	objects   chan struct{} // held by the call that looks for keys or changes them
	held      atomic.Int64  // since when

	closing chan struct{} // closed first
	life    context.Context
	endLife context.CancelFunc
	running sync.WaitGroup
	close   func() error

	mu      sync.Mutex
	slots   []slot
	state   keystore.State
	since   time.Time
	outage  time.Time // when it last stopped working
	reason  error
	changed chan struct{} // closed when any of it changes

	closeErrs []error
}

// Sign implements [keystore.Token].
func (t *Token) Sign(ctx context.Context, id keystore.ID, a keystore.Algorithm, input []byte) ([]byte, error) {
	if err := a.CheckInput(input); err != nil {
		return nil, err
	}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	number, err := algorithmNumber(a)
	if err != nil {
		return nil, err
	}
	add := func(b []byte, request, left uint64) []byte { return appendSign(b, request, left, number, id, input) }
	r, err := t.repeat(ctx, func(p *process) (*request, error) {
		r := &request{kind: sign, id: id}
		err := p.ask(ctx, r, add)
		if err != errCold {
			return r, err
		}
		if err := t.lock(ctx); err != nil {
			return nil, err
		}
		r = &request{kind: sign, id: id, after: t.unlock}
		return r, t.askLocked(ctx, p, r, add)
	})
	if err != nil {
		return nil, err
	}
	return r.body, nil
}

// askLocked sends a request that ends the lock when it is answered.
func (t *Token) askLocked(ctx context.Context, p *process, r *request, add func(b []byte, number, left uint64) []byte) error {
	err := p.ask(ctx, r, add)
	if err != nil && !r.open {
		t.unlock() // it was never among the requests
	}
	return err
}

// repeat lets a process answer a request that changes nothing. One that was lost with its process is asked once more, and so is one
// that a process could not answer while another works.
func (t *Token) repeat(ctx context.Context, ask func(p *process) (*request, error)) (*request, error) {
	var avoid *process
	again := false
	for late := 0; ; late++ {
		p, err := t.pick(ctx, avoid)
		if err != nil {
			return nil, err
		}
		r, err := ask(p)
		lost := (*lostError)(nil)
		switch {
		case err == nil:
			return r, nil
		case ctx.Err() != nil || late > maxLate:
			return nil, err
		case errors.As(err, &lost):
			if lost.begun && again {
				return nil, err
			}
			again = again || lost.begun
		case again || !errors.Is(err, keystore.ErrUnavailable) || !t.another(p):
			return nil, err
		default:
			again = true
		}
		avoid = p
	}
}

// maxLate is how often one call may meet processes that are gone before it is sent.
const maxLate = 8

// another reports whether another process works.
func (t *Token) another(than *process) bool {
	for _, p := range *t.processes.Load() {
		if p != than && !p.leaving.Load() && p.works() {
			return true
		}
	}
	return false
}

// pick returns the process with the fewest calls, and another than avoid if there is one.
func (t *Token) pick(ctx context.Context, avoid *process) (*process, error) {
	if ctx.Err() != nil {
		return nil, expired(ctx)
	}
	for {
		var best *process
		bestScore := int64(0)
		for _, p := range *t.processes.Load() {
			if p.leaving.Load() {
				continue
			}
			score := p.open.Load()
			if score > 0 && now()-p.heard.Load() > int64(2*t.config.Beat) {
				score += 1 << 20
			}
			if !p.works() {
				score += 1 << 21
			}
			if p == avoid {
				score += 1 << 22
			}
			if best == nil || score < bestScore {
				best, bestScore = p, score
			}
		}
		if best == nil {
			if err := t.becomeReady(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if best.open.Load() >= int64(t.config.Queue) {
			return nil, t.full(best)
		}
		return best, nil
	}
}

// elected returns the process that looks for keys and changes them.
func (t *Token) elected(ctx context.Context) (*process, error) {
	for {
		var worse *process
		for _, p := range *t.processes.Load() {
			if p.leaving.Load() {
				continue
			}
			if p.works() {
				return p, nil
			}
			if worse == nil {
				worse = p
			}
		}
		if worse != nil {
			return worse, nil
		}
		if err := t.becomeReady(ctx); err != nil {
			return nil, err
		}
	}
}

var errFull = errors.New("too many calls are waiting for it")

// full says when a process with many calls is expected to have room.
func (t *Token) full(p *process) error {
	wait := minDelay
	if s := p.status.Load(); s != nil && s.Service.Number > 0 && s.Workers > 0 {
		wait = s.Service.Sum / time.Duration(s.Service.Number) * time.Duration(t.config.Queue) / time.Duration(s.Workers)
	}
	return unavailable(min(max(wait, minDelay), hangRetry), errFull)
}

// becomeReady waits for a process to come up, or says why none does.
func (t *Token) becomeReady(ctx context.Context) error {
	if int(t.patient.Add(1)) > t.config.Queue {
		t.patient.Add(-1)
		return unavailable(minDelay, errFull)
	}
	defer t.patient.Add(-1)
	began := time.Now()
	for {
		select {
		case <-t.closing:
			return errClosed
		default:
		}
		t.mu.Lock()
		wait, retry, reason, changed := time.Until(t.outage.Add(max(0, t.config.Grace))), t.retryAfterLocked(), t.reason, t.changed
		up, state := t.upLocked(), t.state
		t.mu.Unlock()
		if up {
			return nil
		}
		if reason == nil { // it works, and its processes are leaving
			reason = errors.New("its worker processes are being replaced")
			wait = max(wait, time.Until(began.Add(drainWait+byeLimit)))
		}
		if wait <= 0 || state == keystore.Hanging || state == keystore.Refusing {
			return unavailable(retry, reason)
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-t.closing:
		case <-ctx.Done():
			timer.Stop()
			return expired(ctx)
		}
		timer.Stop()
	}
}

func (t *Token) upLocked() bool {
	for i := range t.slots {
		if p := t.slots[i].process; p != nil && !p.leaving.Load() {
			return true
		}
	}
	return false
}

// retryAfterLocked says when trying again makes sense: when the next process is expected to be up.
func (t *Token) retryAfterLocked() time.Duration {
	next := time.Duration(1 << 62)
	for i := range t.slots {
		next = min(next, time.Until(t.slots[i].next))
	}
	return min(max(next, 0)+4*minDelay, crashDelay)
}

// Reset implements [keystore.Resetter]: all processes are replaced, since one of them lied and with it what is in its memory.
func (t *Token) Reset(ctx context.Context, suspect uint64, reason error) error {
	t.mu.Lock()
	if t.epoch.Load() != suspect {
		t.mu.Unlock()
		return nil
	}
	old := *t.processes.Load()
	attempts := make([]uint64, len(t.slots))
	for i := range t.slots {
		attempts[i] = t.slots[i].attempts
	}
	t.mu.Unlock()
	for _, p := range old {
		p.retire(reason)
	}
	for {
		t.mu.Lock()
		changed, why, retry := t.changed, t.reason, t.retryAfterLocked()
		waiting, up := 0, t.upLocked()
		for i := range t.slots {
			if t.slots[i].attempts == attempts[i] {
				waiting++
			}
		}
		t.mu.Unlock()
		switch {
		case waiting == 0 && up:
			return nil
		case waiting == 0:
			return unavailable(retry, why)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return expired(ctx)
		case <-t.closing:
			return errClosed
		}
	}
}

// Epoch implements [keystore.Token].
func (t *Token) Epoch() uint64 { return t.epoch.Load() }

// Close implements [keystore.Token].
func (t *Token) Close() error { return t.close() }

func (t *Token) shut() error {
	close(t.closing)
	t.endLife()
	t.running.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setLocked(keystore.Closed, nil)
	t.spawner.end()
	return errors.Join(t.closeErrs...)
}
