package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A control is the session that stays open and logged in: closing the last session of a token, or logging out, ends every
// handle of a private object. All searching, making and destroying happens in it, in one goroutine. The keeper uses it while
// that goroutine has no task.
type control struct {
	token *Token
	own   session
	// session is the number of own, for the calls that are made in it.
	session pkcs11.SessionHandle

	searches int                                 // in this epoch
	index    map[keystore.ID][]object            // all keys of this epoch, once it was made
	seen     map[keystore.ID]bool                // ids that were there once and were not destroyed by us
	seenMACs map[keystore.ID]bool                // the same of MAC keys
	lost     map[keystore.ID]*loss               // of them, those that were not found
	noCopies bool                                // the token does not copy keys as we need it
	copyOf   map[keystore.ID]copyHandle          // by key
	macs     map[keystore.ID]pkcs11.ObjectHandle // of this epoch
	unknown  map[uint]bool                       // attributes that the token does not take when a key is made
}

type copyHandle struct{ original, use pkcs11.ObjectHandle }

func newControl(t *Token) control {
	return control{
		token: t, seen: make(map[keystore.ID]bool), seenMACs: make(map[keystore.ID]bool), lost: make(map[keystore.ID]*loss), unknown: make(map[uint]bool),
		noCopies: !t.config.SessionCopies,
	}
}

// connect sees to it that the session is open and logged in, and begins an epoch if it had to do anything for that.
func (c *control) connect(ctx context.Context) error {
	if c.own.open {
		info, err := c.token.module.ctx.GetSessionInfo(c.session)
		if err == nil && info.State == cksRWUserFunctions {
			return nil
		}
		if err != nil {
			c.drop()
			if !sessionLost(code(err)) {
				return failed("C_GetSessionInfo", err)
			}
		}
	}
	state := uint(0)
	if !c.own.open {
		var err error
		if c.own, state, err = c.token.openSession(pkcs11.CKF_RW_SESSION); err != nil {
			return err
		}
		c.session = c.own.number
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
	err := t.module.login(ctx, t.info.Load().Slot, c.session, t.config.PIN)
	if code(err) == pkcs11.CKR_USER_ALREADY_LOGGED_IN && t.epoch.Load() != 0 {
		return nil // another session of ours is still logged in
	}
	return err
}

// drop closes the session, if it is one of the module as it is initialised now.
func (c *control) drop() { _ = c.token.closeSession(&c.own) }

// beginEpoch forgets every handle.
func (c *control) beginEpoch() {
	c.searches, c.index = 0, nil
	c.copyOf = make(map[keystore.ID]copyHandle) // they went with the session or the login
	c.macs = make(map[keystore.ID]pkcs11.ObjectHandle)
	c.token.epoch.Add(1)
	c.token.handles.Clear()
}

// disconnect logs out if we had logged in, which ends the login of all sessions of the token, and closes the session.
func (c *control) disconnect() error {
	if !c.own.open || !c.token.current(c.own) {
		c.own.open = false
		return nil
	}
	if c.token.epoch.Load() != 0 { // the login is ours
		c.token.module.ctx.Logout(c.session) // fails if it was lost: just as well
	}
	return failed("C_CloseSession", c.token.closeSession(&c.own))
}

// A task runs in the control session's goroutine.
type task struct {
	run  func() error
	err  error
	done chan struct{}
}

// ask is do for a function that changes nothing: it also runs once more after the token was set up anew.
func (t *Token) ask(ctx context.Context, run func(ctx context.Context) error) error {
	err := t.do(ctx, run)
	if isGone(err) {
		err = t.do(ctx, run)
	}
	return err
}

// do runs a function in the control session, connected and with the module's objects locked. If the session or the login turns
// out to be lost it is replaced and the function runs once more. The caller may leave before it has run.
func (t *Token) do(ctx context.Context, run func(ctx context.Context) error) (err error) {
	for range maxLate {
		if err := t.ready(ctx); err != nil {
			return err
		}
		var began atomic.Bool // the caller may leave before the task does
		err = t.task(ctx, func() error {
			if ctx.Err() != nil {
				return expired(ctx)
			}
			t.module.objects.Lock()
			defer t.module.objects.Unlock()
			if !t.enterDesk() {
				return &goneError{unavailable(minDelay, t.condition.Load().reason)}
			}
			defer t.leaveDesk()
			began.Store(true)
			return t.control.run(ctx, run)
		})
		if !isGone(err) || ctx.Err() != nil || began.Load() {
			return err
		}
	}
	return err
}

// run calls a function in the session.
func (c *control) run(ctx context.Context, run func(ctx context.Context) error) error {
	t := c.token
	for attempt := 0; ; attempt++ {
		if err := c.connectForTask(); err != nil {
			return t.judge(t.epoch.Load(), err)
		}
		err := run(ctx)
		if err == nil {
			t.worked()
			return nil
		}
		if vanished := (*vanishedError)(nil); errors.As(err, &vanished) {
			return t.fail(t.epoch.Load(), err)
		}
		switch rv := code(err); meaningOf(rv) {
		case lostSession, lostLogin:
			t.stats.failed(rv)
			c.drop()
			if attempt == 0 {
				continue
			}
			return t.fail(t.epoch.Load(), err) // a new session and a new login did not help
		case lostHandle:
			t.stats.failed(rv)
			return t.suspect(t.epoch.Load(), err)
		}
		return t.judge(t.epoch.Load(), err)
	}
}

// connectForTask connects with a PIN source that has its own time: the caller's deadline says nothing about the PIN.
func (c *control) connectForTask() error {
	ctx, cancel := context.WithTimeout(c.token.life, pinPatience)
	defer cancel()
	return c.connect(ctx)
}

// loginAgain logs in once more, unless that has happened since the epoch.
func (t *Token) loginAgain(ctx context.Context, epoch uint64) error {
	return t.do(ctx, func(context.Context) error {
		if t.epoch.Load() != epoch {
			return nil
		}
		// The session says that it is logged in, and a signature was refused because it is not.
		ctx, cancel := context.WithTimeout(t.life, pinPatience)
		defer cancel()
		if err := t.control.login(ctx); err != nil {
			return err
		}
		t.control.beginEpoch()
		return nil
	})
}

// task lets the goroutine of the control session do something and waits for it as long as the caller does, and not for one
// that hangs.
func (t *Token) task(ctx context.Context, run func() error) error {
	j := &task{run: run, done: make(chan struct{})}
	tasks := t.tasks
	for {
		left := t.desk.left(t.deskLimit())
		if left <= 0 {
			return errDeskHangs
		}
		look := time.NewTimer(left)
		select {
		case tasks <- j:
			tasks = nil
		case <-j.done:
			look.Stop()
			return j.err
		case <-ctx.Done():
			look.Stop()
			return expired(ctx)
		case <-look.C:
		case <-t.stopped:
			look.Stop()
			select {
			case <-j.done:
				return j.err
			default:
				return errClosed
			}
		case <-t.closingBefore(tasks):
			look.Stop()
			return errClosed
		}
		look.Stop()
	}
}

// closingBefore ends the waiting of a task that was not begun.
func (t *Token) closingBefore(tasks chan *task) chan struct{} {
	if tasks == nil {
		return nil
	}
	return t.closing
}

func (t *Token) serveTasks() {
	for {
		select {
		case <-t.closing:
			return
		case j := <-t.tasks:
			t.desk.begin()
			j.err = j.run()
			t.desk.end()
			close(j.done)
		}
	}
}
