package identity

import (
	"context"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// Suspend takes a signer's rights away until they are reinstated. Their sessions end at once.
func (d *Directory) Suspend(ctx context.Context, caller Caller, id, reason string) (Signer, error) {
	return d.change(ctx, caller, id, reason, func(tx *ledger.Tx, row signerRow) error {
		if row.State != StateActive {
			return wrongState(row)
		}
		if err := d.keepAnAdministrator(tx, id); err != nil {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.SignerSuspended, Actor: caller.Actor(), Body: signerChanged{ID: id, Reason: reason}})
		return nil
	})
}

// Reinstate ends a suspension.
func (d *Directory) Reinstate(ctx context.Context, caller Caller, id, reason string) (Signer, error) {
	return d.change(ctx, caller, id, reason, func(tx *ledger.Tx, row signerRow) error {
		if row.State != StateSuspended {
			return wrongState(row)
		}
		tx.Emit(ledger.Event{Type: chain.SignerReinstated, Actor: caller.Actor(), Body: signerChanged{ID: id, Reason: reason}})
		return nil
	})
}

// Revoke takes a signer's rights and key away for good. Their sessions end at once, their password verifier is erased,
// their name is never given again. Earlier signatures stand.
func (d *Directory) Revoke(ctx context.Context, caller Caller, id, reason string) (Signer, error) {
	return d.change(ctx, caller, id, reason, func(tx *ledger.Tx, row signerRow) error {
		if row.State == StateRevoked {
			return wrongState(row)
		}
		if row.State == StateActive {
			if err := d.keepAnAdministrator(tx, id); err != nil {
				return err
			}
		}
		ev := ledger.Event{Type: chain.SignerRevoked, Actor: caller.Actor(), Body: manifest.SignerRevoked{
			By: caller.ID, ID: id, KeyID: row.KeyID, Reason: reason,
		}}
		if row.Service {
			ev.Type = chain.ServiceRevoked
		}
		if row.Credential != "" {
			tx.DeletePrivate(privateVerifiers, []byte(id))
		}
		tx.Emit(ev)
		return nil
	})
}

// change runs an administrator's change of a signer's state.
func (d *Directory) change(ctx context.Context, caller Caller, id, reason string, emit func(tx *ledger.Tx, row signerRow) error) (Signer, error) {
	if err := checkReason(reason); err != nil {
		return Signer{}, err
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		row, ok, err := getSigner(view, id)
		if err != nil {
			return err
		}
		if !ok {
			return ErrNotFound
		}
		if id == manifest.ClosingService {
			return fmt.Errorf("%w: without %s no record can be closed", ErrState, id)
		}
		return emit(tx, row)
	})
	if err != nil {
		return Signer{}, err
	}
	return d.Get(ctx, id)
}

func wrongState(row signerRow) error {
	return fmt.Errorf("%w: %s is %s", ErrState, row.UserName, row.State)
}
