package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A signJob is one signature. Its caller may have left: then nobody reads what the worker writes into it.
type signJob struct {
	ctx    context.Context
	handle *handle
	input  []byte
	raw    []byte
	err    error
	done   chan struct{}
}

// A staleError says that a handle must be looked up again before another try; the device made no signature.
type staleError struct{ cause error }

func (e *staleError) Error() string { return e.cause.Error() }
func (e *staleError) Unwrap() error { return e.cause }

// Sign implements [keystore.Token].
func (t *Token) Sign(ctx context.Context, id keystore.ID, algorithm keystore.Algorithm, input []byte) ([]byte, error) {
	if err := algorithm.CheckInput(input); err != nil {
		return nil, err
	}
	input = append([]byte(nil), input...) // a worker may read it after the caller has left
	for attempt := 0; ; attempt++ {
		h, err := t.handle(ctx, id)
		if err != nil {
			return nil, err
		}
		if h.kind.algorithm != algorithm {
			return nil, fmt.Errorf("%w: key %q is for %s, not for %s", keystore.ErrInvalid, id, h.kind.algorithm, algorithm)
		}
		raw, err := t.submit(ctx, &signJob{ctx: ctx, handle: h, input: input, done: make(chan struct{})})
		if err == nil {
			return encodeSignature(h.kind, raw)
		}
		var stale *staleError
		if !errors.As(err, &stale) {
			return nil, err
		}
		if attempt > 0 {
			return nil, stale.cause
		}
		if code(stale.cause) == pkcs11.CKR_USER_NOT_LOGGED_IN {
			err = t.loginAgain(ctx, h.epoch)
		} else {
			err = t.forget(ctx, id, h)
		}
		if err != nil {
			return nil, err
		}
	}
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
	select {
	case t.queue <- j:
	default:
		return nil, errFull
	}
	select {
	case <-j.done:
		return j.raw, j.err
	case <-ctx.Done():
		return nil, expired(ctx)
	case <-t.stopped:
		select {
		case <-j.done: // it was the last one that was made
			return j.raw, j.err
		default:
			return nil, errClosed
		}
	}
}

func (t *Token) allHang() bool {
	for _, w := range t.workers {
		if !w.busy.hangs(t.config.Hang) {
			return false
		}
	}
	return true
}

// A worker owns one session. Its fields are used by its goroutine alone, but for busy.
type worker struct {
	token   *Token
	session pkcs11.SessionHandle
	open    bool
	room    []byte
	busy    busy
}

func (w *worker) connect() error {
	session, _, err := w.token.connectSession(0) // read-only; it shares the login of the control session
	if err != nil {
		return err
	}
	w.session, w.open = session, true
	return nil
}

// disconnect closes the session. What the device says to that changes nothing.
func (w *worker) disconnect() {
	if w.open {
		w.open = false
		w.token.module.ctx.CloseSession(w.session)
	}
}

func (w *worker) serve() {
	for {
		select {
		case <-w.token.closing:
			return
		default:
		}
		select {
		case <-w.token.closing:
			return
		case j := <-w.token.queue:
			if j.ctx.Err() != nil {
				continue // nobody waits for it any more
			}
			w.busy.begin()
			j.raw, j.err = w.sign(j)
			w.busy.end()
			close(j.done)
		}
	}
}

// sign makes one signature. The session is closed after any failure, since a device may leave the operation active in it;
// one that was lost is replaced and the signature tried once more, as the device made none.
func (w *worker) sign(j *signJob) ([]byte, error) {
	for attempt := 0; ; attempt++ {
		if j.handle.epoch != w.token.epoch.Load() {
			return nil, &staleError{errOldHandle}
		}
		if !w.open {
			if err := w.connect(); err != nil {
				return nil, err
			}
		}
		n, began, rv := w.token.module.native.sign(uint(w.session), j.handle.kind.sign, uint(j.handle.use), j.input, w.room)
		if rv == pkcs11.CKR_OK {
			return append([]byte(nil), w.room[:n]...), nil
		}
		w.disconnect()
		call := "C_SignInit"
		if began {
			call = "C_Sign"
		}
		err := failed(call, pkcs11.Error(rv))
		switch {
		case sessionLost(rv) && attempt == 0:
			continue
		case handleLost(rv), rv == pkcs11.CKR_USER_NOT_LOGGED_IN:
			return nil, &staleError{err}
		}
		return nil, err
	}
}

var errOldHandle = fmt.Errorf("%w: it was set up anew meanwhile", keystore.ErrUnavailable)
