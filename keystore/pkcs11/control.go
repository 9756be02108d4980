package pkcs11

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A control is the session that stays open and logged in: closing the last session of a token, or logging out, ends every
// handle of a private object. All searching, making and destroying happens in it, in one goroutine.
type control struct {
	token   *Token
	session pkcs11.SessionHandle
	open    bool

	searches int                        // in this epoch
	index    map[keystore.ID][]object   // all keys of this epoch, once it was made
	seen     map[keystore.ID]bool       // ids that were there once and were not destroyed by us
	noCopies bool                       // the token does not copy keys as we need it
	copyOf   map[keystore.ID]copyHandle // by key
}

type copyHandle struct{ original, use pkcs11.ObjectHandle }

func newControl(t *Token) control {
	return control{token: t, seen: make(map[keystore.ID]bool), noCopies: !t.config.SessionCopies}
}

// connect sees to it that the session is open and logged in, and begins an epoch if it had to do anything for that.
func (c *control) connect(ctx context.Context) error {
	if c.open {
		info, err := c.token.module.ctx.GetSessionInfo(c.session)
		if err == nil && info.State == cksRWUserFunctions {
			return nil
		}
		if err != nil {
			c.token.module.ctx.CloseSession(c.session)
			c.open = false
			if !sessionLost(code(err)) {
				return failed("C_GetSessionInfo", err)
			}
		}
	}
	state := uint(0)
	if !c.open {
		var err error
		if c.session, state, err = c.token.connectSession(pkcs11.CKF_RW_SESSION); err != nil {
			return err
		}
		c.open = true
	}
	if state != cksRWUserFunctions {
		if err := c.login(ctx); err != nil {
			return err
		}
	} else if c.token.epoch.Load() == 0 {
		return fmt.Errorf("%w: another part of this program is logged in to the token, so the PIN cannot be checked",
			keystore.ErrInvalid)
	}
	c.beginEpoch()
	return nil
}

func (c *control) login(ctx context.Context) error {
	t := c.token
	err := t.module.login(ctx, t.info.Slot, c.session, t.config.PIN)
	if code(err) == pkcs11.CKR_USER_ALREADY_LOGGED_IN && t.epoch.Load() != 0 {
		return nil // another session of ours is still logged in
	}
	return err
}

// beginEpoch forgets every handle.
func (c *control) beginEpoch() {
	c.searches, c.index = 0, nil
	c.copyOf = make(map[keystore.ID]copyHandle) // they went with the session or the login
	c.token.epoch.Add(1)
	c.token.handles.Clear()
}

// disconnect logs out if we had logged in, which ends the login of all sessions of the token, and closes the session.
func (c *control) disconnect() error {
	if !c.open {
		return nil
	}
	c.open = false
	if c.token.epoch.Load() != 0 { // the login is ours
		c.token.module.ctx.Logout(c.session) // fails if it was lost: just as well
	}
	return failed("C_CloseSession", c.token.module.ctx.CloseSession(c.session))
}

// A task runs in the control session's goroutine.
type task struct {
	ctx  context.Context
	run  func(ctx context.Context) error
	err  error
	done chan struct{}
}

// do runs a function in the control session, connected and with the module's objects locked. If the session turns out to
// be lost it is replaced and the function runs once more. The caller may leave before it has run.
func (t *Token) do(ctx context.Context, run func(ctx context.Context) error) error {
	return t.task(ctx, func(ctx context.Context) error {
		t.module.objects.Lock()
		defer t.module.objects.Unlock()
		for attempt := 0; ; attempt++ {
			if err := t.control.connect(ctx); err != nil {
				return err
			}
			err := run(ctx)
			if err == nil || attempt > 0 {
				return err
			}
			if rv := code(err); !sessionLost(rv) && rv != pkcs11.CKR_USER_NOT_LOGGED_IN {
				return err
			}
			t.module.ctx.CloseSession(t.control.session)
			t.control.open = false
		}
	})
}

// loginAgain logs in once more, unless that has happened since the epoch.
func (t *Token) loginAgain(ctx context.Context, epoch uint64) error {
	return t.task(ctx, func(ctx context.Context) error {
		if t.epoch.Load() != epoch {
			return nil
		}
		if err := t.control.connect(ctx); err != nil || t.epoch.Load() != epoch {
			return err
		}
		// The session says that it is logged in, and a signature was refused because it is not.
		if err := t.control.login(ctx); err != nil {
			return err
		}
		t.control.beginEpoch()
		return nil
	})
}

func (t *Token) task(ctx context.Context, run func(ctx context.Context) error) error {
	j := &task{ctx: ctx, run: run, done: make(chan struct{})}
	if t.desk.hangs(t.config.Hang) {
		return errHangs
	}
	select {
	case t.tasks <- j:
	case <-ctx.Done():
		return expired(ctx)
	case <-t.closing:
		return errClosed
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return expired(ctx)
	case <-t.stopped:
		select {
		case <-j.done:
			return j.err
		default:
			return errClosed
		}
	}
}

func (t *Token) serveTasks() {
	for {
		select {
		case <-t.closing:
			return
		case j := <-t.tasks:
			t.desk.begin()
			j.err = j.run(j.ctx)
			t.desk.end()
			close(j.done)
		}
	}
}
