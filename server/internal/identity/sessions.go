package identity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// maxSessions is how many sessions of one signer are listed.
const maxSessions = 1000

// Sessions returns the open sessions of the caller, or for an administrator those of any person, the newest first. Sessions that another process
// has opened, or that have idled too long, are over and are not there.
func (d *Directory) Sessions(ctx context.Context, caller Caller, signer string) ([]Session, error) {
	if signer == "" {
		signer = caller.ID
	}
	var list []Session
	err := d.ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		if err := d.mayLookAfter(r, caller, signer); err != nil {
			return err
		}
		var failed error
		prefix := openKey(signer, "")
		view.Prefix(bucketOpen, prefix, func(_, token []byte) bool {
			var row sessionRow
			if _, failed = get(view, bucketSessions, token, &row); failed != nil {
				return false
			}
			if d.activity.alive(row.ID, d.cfg.Clock()) && d.cfg.Clock().Before(row.Expires.Time()) {
				s := Session{ID: row.ID, Signer: signer, Expires: row.Expires.Time(), Idle: d.cfg.SessionIdle, Opened: row.Opened.Time(), Method: row.Method}
				if s.Source, failed = ReadSource(r, row.Source); failed != nil {
					return false
				}
				list = append(list, s)
			}
			return len(list) < maxSessions
		})
		return failed
	})
	slices.SortFunc(list, func(a, b Session) int { return b.Opened.Compare(a.Opened) })
	return list, err
}

// mayLookAfter refuses who is neither the signer nor an administrator.
func (d *Directory) mayLookAfter(r Reader, caller Caller, signer string) error {
	if signer == caller.ID {
		return nil
	}
	if err := d.mayAdminister(r, caller); err != nil {
		return err
	}
	row, ok, err := getSigner(r.View(projectionName), signer)
	if err == nil && (!ok || row.Service) {
		err = ErrNotFound
	}
	return err
}

// EndSession ends a session of the caller, or for an administrator anybody's. Who has had it is asked for user name and password at the next call.
func (d *Directory) EndSession(ctx context.Context, caller Caller, signer, session, reason string) error {
	if reason != "" {
		if err := checkText("reason", reason, 1, 1000); err != nil {
			return err
		}
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayLookAfter(tx, caller, signer); err != nil {
			return err
		}
		if tx.View(projectionName).Get(bucketOpen, openKey(signer, session)) == nil {
			return fmt.Errorf("%w: %s", ErrSessionNotFound, session)
		}
		tx.Emit(ledger.Event{Type: chain.SessionClosed, Actor: caller.Actor(), Body: sessionClosed{
			Cause: closedEnded, ID: signer, Reason: reason, Session: session,
		}})
		return nil
	})
	if err == nil {
		d.activity.forget(session)
	}
	return err
}

// alive reports whether a session can still be used, as far as time goes.
func (a *activity) alive(session string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.sessions[session]
	return ok && now.Sub(u.last) < a.idle
}
