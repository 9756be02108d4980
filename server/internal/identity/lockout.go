package identity

import (
	"context"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// checkLock says whether a name is locked.
func (d *Directory) checkLock(view reader, counter string) error {
	return lockError(view, counter, d.cfg.Clock())
}

func lockError(view reader, counter string, now time.Time) error {
	if counter == "" {
		return nil
	}
	var f failureRow
	ok, err := get(view, bucketFailures, []byte(counter), &f)
	if err != nil || !ok {
		return err
	}
	if until := f.Until.Time(); now.Before(until) {
		return &LockedError{Until: until, now: now}
	}
	return nil
}

// recordFailure counts a failure, and locks the name after the last one. Attempts while it is locked leave no entry of
// their own: the entry of the lock says that they are refused unseen, and nobody fills the disk with them.
func (d *Directory) recordFailure(ctx context.Context, a attempt, id string) error {
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		if err := lockError(view, a.counter, tx.Now().Time()); err != nil {
			return err
		}
		var f failureRow
		if a.counter != "" {
			if _, err := get(view, bucketFailures, []byte(a.counter), &f); err != nil {
				return err
			}
			f.Count++
		}
		a.source.put(tx)
		tx.Emit(ledger.Event{Type: chain.AuthenticationFailed, Actor: a.actor, Body: authenticationFailed{
			Counter: a.counter, Failures: f.Count, ID: id, Name: a.blinded, Purpose: a.purpose, Subject: a.subject,
		}})
		if a.counter != "" && f.Count >= d.cfg.LockAfter {
			locked := id
			if a.owner != "" {
				locked = a.owner
			}
			tx.Emit(ledger.Event{Type: chain.SignerLocked, Actor: System("lockout").Actor(), Body: signerLocked{
				Counter: a.counter, ID: locked, Until: tx.Now().Add(d.cfg.LockFor),
			}})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if a.purpose == purposeCode {
		return ErrCodeInvalid
	}
	return ErrBadCredentials
}
