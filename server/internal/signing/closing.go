package signing

import (
	"context"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// closer is who acts when a record is closed.
func closer() identity.Caller { return identity.System(manifest.ClosingService) }

// close makes the closing seal of a record where one is missing: a statement of the closing service over every statement that
// record.decided names, and the outcome. A later decision or withdrawal cannot be stripped from a manifest
// without leaving an older closing.
func (c *Ceremony) close(ctx context.Context, event string) error {
	c.closing.Lock()
	defer c.closing.Unlock()
	for tries := 0; ; tries++ {
		err := c.closeOnce(ctx, event)
		if tries < closingTries && (errors.Is(err, ErrRecordChanged) || errors.Is(err, errDecidedAgain)) {
			continue // the closing key was rotated, or somebody withdrew, just now
		}
		return err
	}
}

const closingTries = 3

func (c *Ceremony) closeOnce(ctx context.Context, event string) error {
	key, err := eventKey(event)
	if err != nil {
		return err
	}
	var pending closingState
	var decided recordDecided
	var missing bool
	err = c.Ledger.View(func(r *ledger.Read) error {
		if missing, err = get(r.View(projectionName), bucketClosings, key, &pending); err != nil || !missing {
			return err
		}
		e, err := parsed(r, pending.Decided)
		if err != nil {
			return err
		}
		return readBody(e, &decided)
	})
	if err != nil || !missing {
		return err
	}
	// The statement names a head that covers the decision, so that its `previous` is the deciding statement.
	if _, err := c.Ledger.Checkpointed(ctx, pending.Decided+1); err != nil {
		return err
	}
	inputs, err := closingInputs(decided)
	if err != nil {
		return err
	}
	req := Request{Event: event, Decision: decisionSeal, Meaning: meaningClosing, Inputs: inputs}
	made, _, err := c.seal(ctx, nil, identity.Caller{ID: manifest.ClosingService}, key, req, "")
	if err != nil {
		return err
	}
	created, err := c.created(closer(), made.Signature, made.Statement)
	if err != nil {
		return err
	}
	_, err = c.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		var now closingState
		ok, err := get(view, bucketClosings, key, &now)
		if err != nil || !ok {
			return err
		}
		if now != pending {
			return errDecidedAgain
		}
		if _, err := c.admitSeal(tx, view, identity.Caller{ID: manifest.ClosingService}, key, made.Signature); err != nil {
			return err
		}
		tx.Emit(created)
		return nil
	})
	return err
}

// errDecidedAgain: a withdrawal came between the decision and its closing; whoever brought it closes again.
var errDecidedAgain = errors.New("the record was decided again meanwhile")

// closingInputs is what a closing statement covers: the outcome, and the list of statements.
func closingInputs(d recordDecided) ([]manifest.Input, error) {
	outcome, err := jcs.Marshal(d.Outcome)
	if err != nil {
		return nil, err
	}
	list, err := jcs.Marshal(d.Statements)
	if err != nil {
		return nil, err
	}
	return []manifest.Input{{Name: manifest.InputOutcome, Value: outcome}, {Name: manifest.InputStatements, Value: list}}, nil
}

// Recover finishes what a crash left open: attempts are abandoned, for their signatures were never released, and
// decided records get their closing seals. Call it at the start, before the first caller, and again where a closing failed.
func (c *Ceremony) Recover(ctx context.Context) error {
	attempts := map[string]string{}
	var failed error
	err := c.Ledger.View(func(r *ledger.Read) error {
		r.View(projectionName).Ascend(bucketAttempts, nil, func(k, v []byte) bool {
			var a attemptState
			if failed = decode(bucketAttempts, v, &a); failed != nil {
				return false
			}
			attempts[string(k)] = a.Event
			return true
		})
		return failed
	})
	if err != nil {
		return err
	}
	for preparation, event := range attempts {
		if err := c.abandonAttempt(ctx, identity.System("recovery"), event, preparation, "interrupted"); err != nil {
			return fmt.Errorf("abandon %s: %w", preparation, err)
		}
	}
	return c.ClosePending(ctx)
}

// ClosePending makes every closing seal that is missing.
func (c *Ceremony) ClosePending(ctx context.Context) error {
	var events []string
	err := c.Ledger.View(func(r *ledger.Read) error {
		r.View(projectionName).Ascend(bucketClosings, nil, func(k, _ []byte) bool {
			events = append(events, eventOf(k))
			return true
		})
		return nil
	})
	if err != nil {
		return err
	}
	for _, event := range events {
		if err := c.close(ctx, event); err != nil {
			return fmt.Errorf("closing seal of record %s: %w", event, err)
		}
	}
	return nil
}
