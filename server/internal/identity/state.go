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
		role, err := overseerAs(tx, row)
		if err != nil {
			return err
		}
		at := tx.Emit(ledger.Event{Type: chain.SignerSuspended, Actor: caller.Actor(), Body: signerChanged{
			From: row.State, ID: id, Reason: reason, To: StateSuspended,
		}})
		return tellOversight(tx, at, caller, id, role, "suspended %[2]s, who had the role %[3]s")
	})
}

// Reinstate ends a suspension. With four eyes it is a proposal.
func (d *Directory) Reinstate(ctx context.Context, caller Caller, id, reason string) (Issued, error) {
	if err := checkReason(reason); err != nil {
		return Issued{}, err
	}
	row, err := d.row(id)
	if err != nil {
		return Issued{}, err
	}
	out, err := d.actWith(ctx, caller, intent{kind: ActReinstate, subject: id}, reinstateContent{ID: id, Reason: reason, UserName: row.UserName})
	if err != nil {
		return Issued{}, err
	}
	issued, _, _, err := d.issued(ctx, id, out)
	return issued, err
}

// RevocationCause is why a signer is revoked.
type RevocationCause string

// The causes.
const (
	CauseOther   RevocationCause = "other" // the reason says it
	CauseLeft    RevocationCause = "left"
	CauseLost    RevocationCause = "lost"    // a credential is lost or stolen
	CauseMisused RevocationCause = "misused" // somebody has misused it
)

// Revoke takes a signer's rights and key away for good. Their sessions end at once, their password verifier is erased,
// their name is never given again. Earlier signatures stand. It takes one administrator: what takes rights away does not wait.
func (d *Directory) Revoke(ctx context.Context, caller Caller, id, reason string, cause RevocationCause) (Signer, error) {
	switch cause {
	case CauseOther, CauseLeft, CauseLost, CauseMisused:
	default:
		return Signer{}, invalid("cause %.40q; use %s, %s, %s or %s", cause, CauseLeft, CauseLost, CauseMisused, CauseOther)
	}
	return d.change(ctx, caller, id, reason, func(tx *ledger.Tx, row signerRow) error {
		if row.State == StateRevoked {
			return wrongState(row)
		}
		if row.State == StateActive {
			if err := d.keepAnAdministrator(tx, id); err != nil {
				return err
			}
		}
		role, err := overseerAs(tx, row)
		if err != nil {
			return err
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
		tx.Emit(ledger.Event{Type: chain.SignerChanged, Actor: caller.Actor(), Body: signerValues{
			Cause: string(cause), Changes: []valueChange{{Field: "state", New: string(StateRevoked), Old: string(row.State)}},
			ID: id, Reason: reason,
		}})
		return tellOversight(tx, tx.Emit(ev), caller, id, role, "revoked %[2]s, who had the role %[3]s")
	})
}

// change runs an administrator's change of a signer's state.
func (d *Directory) change(ctx context.Context, caller Caller, id, reason string, emit func(tx *ledger.Tx, row signerRow) error) (Signer, error) {
	if err := checkReason(reason); err != nil {
		return Signer{}, err
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		row, err := changeable(tx.View(projectionName), id)
		if err != nil {
			return err
		}
		return emit(tx, row)
	})
	if err != nil {
		return Signer{}, err
	}
	return d.Get(ctx, id)
}

// changeable returns a signer whose state administrators can change.
func changeable(view reader, id string) (signerRow, error) {
	row, ok, err := getSigner(view, id)
	switch {
	case err != nil:
		return row, err
	case !ok:
		return row, ErrNotFound
	case id == manifest.ClosingService:
		return row, fmt.Errorf("%w: without %s no record can be closed", ErrState, id)
	}
	return row, nil
}

func wrongState(row signerRow) error {
	return fmt.Errorf("%w: %s is %s", ErrState, row.UserName, row.State)
}
