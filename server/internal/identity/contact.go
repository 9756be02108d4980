package identity

import (
	"context"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
)

// SetContact sets where a person is told of the use of their signature: they themselves, or an administrator, who has proved themselves for it
// (see [Directory.ProveAct]). An empty address erases the one before. The ledger has commitments; the address before hears of the change, so that
// nobody turns the news away unseen.
func (d *Directory) SetContact(ctx context.Context, caller Caller, id, email, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	var contact notify.Contact
	if email != "" {
		var err error
		if contact, err = notify.NewContact(email); err != nil {
			return err
		}
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		row, ok, err := getSigner(tx.View(projectionName), id)
		switch {
		case err != nil:
			return err
		case caller.ID != id:
			if err := d.mayAdminister(tx.Read, caller); err != nil {
				return err
			}
		}
		old := notify.ContactOf(tx.Read, id)
		switch {
		case !ok:
			return ErrNotFound
		case row.Service:
			return fmt.Errorf("%w: a service has no address; its messages go to the security unit", ErrState)
		case row.State == StateRevoked && email != "":
			return ErrRevoked
		case email == "" && old == "":
			return nil
		}
		at := tx.Emit(ledger.Event{Type: chain.SignerChanged, Actor: caller.Actor(), Body: signerValues{
			Changes: []valueChange{{Field: notify.ContactField, New: contact.Commitment, Old: old}}, ID: id, Reason: reason,
		}})
		if email != "" {
			contact.Put(tx, id)
		}
		if old == "" {
			return nil
		}
		by := "you"
		if caller.ID != id {
			by = "an administrator"
		}
		what := "changed"
		if email == "" {
			what = "erased"
		}
		notify.Raise(tx, notify.Alert{
			Kind: notify.KindContactChanged, Subject: id, Entry: at, Audience: notify.Signer, Contact: old,
			Summary: "The address at which you hear of the use of your signature was " + what + " by " + by + ".",
		})
		return nil
	})
	return err
}

// noteSource tells a person of a login from where they have never been: in the transaction of session.opened, after its source was put.
func (d *Directory) noteSource(tx *ledger.Tx, by chain.Actor, opened uint64) {
	notify.Seen(tx, by, opened, func(commitment string) []byte {
		b := tx.GetPrivate(privateSources, []byte(commitment))
		if len(b) < 32 {
			return nil
		}
		return b[32:]
	})
}

// ZoneOf returns the time zone of a signer; empty if there is no such signer.
func (d *Directory) ZoneOf(r *ledger.Read, id string) string {
	row, _, err := getSigner(r.View(projectionName), id)
	if err != nil {
		return ""
	}
	return row.Zone
}
