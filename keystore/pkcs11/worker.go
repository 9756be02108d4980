package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A signJob is one signature. Its caller may have left: then nobody reads what the worker writes into it.
type signJob struct {
	handle  *handle
	input   []byte
	arrived int64
	check   func(input, signature []byte) error // nil: whoever waits checks it
	made    []byte
	err     error
	done    chan struct{} // has room for one

	// Guarded by the lock of the queue.
	before, after *signJob
	queued        bool
}

// Sign implements [keystore.Token].
func (t *Token) Sign(ctx context.Context, id keystore.ID, algorithm keystore.Algorithm, input []byte) ([]byte, error) {
	return t.SignChecked(ctx, id, algorithm, input, nil)
}

// SignChecked implements [keystore.CheckingSigner].
func (t *Token) SignChecked(ctx context.Context, id keystore.ID, algorithm keystore.Algorithm, input []byte,
	check func(input, signature []byte) error) ([]byte, error) {
	if err := algorithm.CheckInput(input); err != nil {
		return nil, err
	}
	input = append([]byte(nil), input...) // a worker may read it after the caller has left
	lookedAgain, setUpAgain, late := false, false, 0
	for {
		signature, h, err := t.sign(ctx, id, algorithm, input, check)
		var stale *staleError
		switch {
		case err == nil:
			return signature, nil
		case isGone(err) && !setUpAgain:
			setUpAgain = true // and ready waits for it
		case errors.Is(err, errOldHandle) && late < maxLate:
			late++ // another caller's failure came in between
		case errors.As(err, &stale) && !lookedAgain:
			lookedAgain = true
			if err := t.renew(ctx, id, h, stale.cause); err != nil && !isGone(err) {
				return nil, err
			}
		case errors.As(err, &stale) && !setUpAgain:
			setUpAgain = true
			_ = t.fail(h.epoch, stale.cause) // neither the key nor the login is back
		default:
			return nil, err
		}
	}
}

// maxLate is how often one call may find that the token was set up anew after its handle was looked up.
const maxLate = 8

// renew makes good what a stale handle lacks: the login, or the handle.
func (t *Token) renew(ctx context.Context, id keystore.ID, h *handle, cause error) error {
	if meaningOf(code(cause)) == lostLogin {
		return t.loginAgain(ctx, h.epoch)
	}
	return t.forget(ctx, id, h)
}

// sign makes one attempt.
func (t *Token) sign(ctx context.Context, id keystore.ID, algorithm keystore.Algorithm, input []byte,
	check func(input, signature []byte) error) ([]byte, *handle, error) {
	if err := t.ready(ctx); err != nil {
		return nil, nil, err
	}
	h, err := t.handle(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if h.kind.algorithm != algorithm {
		return nil, h, fmt.Errorf("%w: key %q is for %s, not for %s", keystore.ErrInvalid, id, h.kind.algorithm, algorithm)
	}
	signature, err := t.submit(ctx, &signJob{handle: h, input: input, check: check, done: make(chan struct{}, 1)})
	return signature, h, err
}

// submit queues a job and waits for it as long as the caller does.
func (t *Token) submit(ctx context.Context, j *signJob) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, expired(ctx)
	}
	if t.allHang() {
		return nil, errHangs
	}
	select {
	case <-t.closing:
		return nil, errClosed
	default:
	}
	j.arrived = now()
	room, waits := t.queue.put(j)
	if !room {
		return nil, t.full()
	}
	if waits {
		t.watchOver()
	}
	select {
	case <-j.done:
		return j.made, j.err
	case <-ctx.Done():
		t.queue.remove(j)
		return nil, expired(ctx)
	case <-t.stopped:
		select {
		case <-j.done: // it was the last one that was made
			return j.made, j.err
		default:
			return nil, errClosed
		}
	}
}

func (j *signJob) finish(signature []byte, err error) {
	j.made, j.err = signature, err
	j.done <- struct{}{}
}

func (t *Token) allHang() bool {
	for _, w := range t.workers {
		if !w.busy.hangs(t.config.Hang) {
			return false
		}
	}
	return true
}

// watchOver sees to it that those who wait are sent away when all workers hang.
func (t *Token) watchOver() {
	if t.watched.CompareAndSwap(false, true) {
		time.AfterFunc(t.config.Hang/4+time.Millisecond, t.sendAway)
	}
}

func (t *Token) sendAway() {
	t.watched.Store(false)
	if t.allHang() {
		for _, j := range t.queue.drain() {
			j.finish(nil, errHangs)
		}
	}
	if t.queue.waiting() > 0 {
		t.watchOver()
	}
}

// full says that too many wait, and until when they are expected to be served.
func (t *Token) full() error {
	served := t.service.Durations()
	wait := minDelay
	if served.Number > 0 {
		wait = served.Sum / time.Duration(served.Number) * time.Duration(t.config.Queue) / time.Duration(len(t.workers))
	}
	return unavailable(min(max(wait, minDelay), hangRetry), errFull)
}

// A worker owns one session. Its fields are used by its goroutine alone, but for busy, next and connected.
type worker struct {
	token    *Token
	session  session
	room     []byte
	computed bool // the last signature, on this CPU
	busy     busy
	next     chan *signJob // has room for one

	connected atomic.Bool // it has a session, as far as it knows
}

func newWorker(t *Token) *worker {
	return &worker{token: t, room: make([]byte, maxRaw), next: make(chan *signJob, 1)}
}

// connect sees to it that the worker has a session of the token as it was last set up.
func (w *worker) connect() error {
	if w.session.open && w.session.setup == w.token.setup.Load() {
		return nil
	}
	w.disconnect()
	s, _, err := w.token.openSession(0) // read-only; it shares the login of the control session
	if err != nil {
		return err
	}
	w.session = s
	w.connected.Store(true)
	return nil
}

// A sessionError says that a worker got no session. It is not returned to callers.
type sessionError struct{ error }

// disconnect closes the session. What the device says to that changes nothing.
func (w *worker) disconnect() {
	w.connected.Store(false)
	_ = w.token.closeSession(&w.session)
}

func (w *worker) serve() {
	for {
		select {
		case <-w.token.closing:
			return
		default:
		}
		j := w.token.queue.take(w)
		if j == nil {
			select {
			case <-w.token.closing:
				return
			case j = <-w.next:
			}
		}
		// The caller goes on before the next signature is begun, on the thread that has its answer warm. Else it waits until
		// the scheduler takes the CPU from a call into the device, or from this worker for its 10 ms: with a few dozen callers, one
		// in a hundred waited that long, and threads woken for them pushed the device's aside. That is so where the device is this
		// CPU itself. One that is waited for leaves the CPU to callers anyway, and is to have as many calls at a time as it has
		// sessions: yielding to them kept workers from it.
		w.computed = false
		w.work(j)
		if w.computed {
			runtime.Gosched()
		}
	}
}

// sessionPause is how long a worker does without a session that the token did not give it.
const sessionPause = 250 * time.Millisecond

// leaveToOthers gives a job back that the worker has no session for, as the token allows fewer than it said or others use them,
// and lets the worker rest. Somebody else must have one.
func (w *worker) leaveToOthers(j *signJob, err error) bool {
	t := w.token
	if code(err) != pkcs11.CKR_SESSION_COUNT || !slices.ContainsFunc(t.workers, func(o *worker) bool { return o.connected.Load() }) {
		return false
	}
	t.stats.failed(pkcs11.CKR_SESSION_COUNT)
	t.queue.giveBack(j)
	rest := time.NewTimer(sessionPause)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-t.closing:
	}
	return true
}

// work makes a signature.
func (w *worker) work(j *signJob) {
	t := w.token
	began := w.busy.begin()
	raw, err := w.sign(j)
	w.busy.end()
	if lacks := (*sessionError)(nil); errors.As(err, &lacks) {
		if w.leaveToOthers(j, lacks.error) {
			return
		}
		err = t.judge(j.handle.epoch, lacks.error)
	}
	t.wait.Add(time.Duration(began - j.arrived))
	t.service.Add(time.Duration(now() - began))
	if err != nil {
		j.finish(nil, err)
		return
	}
	j.finish(j.judge(raw))
}

// judge makes a signature of what the device answered, and has it checked. Where the worker does that, there are never more
// of these computations at a time than workers, and none of them waits for the next signature to be made.
func (j *signJob) judge(raw []byte) ([]byte, error) {
	signature, err := encodeSignature(j.handle.kind, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keystore.ErrWrongSignature, err)
	}
	if j.check != nil {
		if err := j.check(j.input, signature); err != nil {
			return nil, err
		}
	}
	return signature, nil
}

// sign makes one signature. The session is closed after any failure, since a device may leave the operation active in it;
// one that was lost is replaced and the signature tried once more, as the device made none.
func (w *worker) sign(j *signJob) ([]byte, error) {
	t := w.token
	if !t.enter() {
		return nil, &staleError{errOldHandle} // nothing was tried: it waits until the token is ready, and looks again
	}
	defer t.leave()
	for attempt := 0; ; attempt++ {
		if j.handle.epoch != t.epoch.Load() {
			return nil, &staleError{errOldHandle}
		}
		if err := w.connect(); err != nil {
			return nil, &sessionError{err}
		}
		asked := now()
		n, how, rv := t.module.native.sign(uint(w.session.number), j.handle.kind.sign, uint(j.handle.use), j.handle.kind.input(j.input), w.room)
		if hung := now()-asked > int64(t.config.Hang); hung {
			w.disconnect() // and what it answered is thrown away if the token was set up anew meanwhile
			if j.handle.epoch != t.epoch.Load() {
				return nil, unavailable(hangRetry, errHangs)
			}
		}
		if w.computed = how.computed; rv == pkcs11.CKR_OK {
			t.signed()
			t.stats.signatures[j.handle.kind.algorithm].Add(1)
			return append([]byte(nil), w.room[:n]...), nil
		}
		w.disconnect()
		call := "C_SignInit"
		if how.began {
			call = "C_Sign"
		}
		err := failed(call, pkcs11.Error(rv))
		switch meaningOf(rv) {
		case lostSession:
			t.stats.failed(rv)
			if attempt == 0 {
				continue
			}
			return nil, t.suspect(j.handle.epoch, err)
		case lostHandle, lostLogin:
			t.stats.failed(rv)
			return nil, &staleError{err}
		}
		return nil, t.judge(j.handle.epoch, err)
	}
}

var errOldHandle = fmt.Errorf("%w: it was set up anew meanwhile", keystore.ErrUnavailable)
