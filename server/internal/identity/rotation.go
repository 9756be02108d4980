package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/ledger"
)

// States of a key as the bodies of key.* entries have them.
const (
	KeyActive     = "active"     // signs, where its signer may
	KeyDisabled   = "disabled"   // until an administrator enables it
	KeyRetired    = "retired"    // a newer key has taken its place
	KeyRevoked    = "revoked"    // its signer was revoked
	KeyDestroying = "destroying" // its destruction was confirmed, the HSM has not carried it out yet
	KeyDestroyed  = "destroyed"  // the HSM no longer has it
)

// keyError says why a key may not sign.
func keyError(view reader, keyID string) error {
	switch state := string(view.Get(bucketKeyStates, []byte(keyID))); state {
	case "":
		return nil
	case KeyDisabled:
		return ErrKeyDisabled
	default:
		return ErrKeyDestroyed
	}
}

// MayAdminister refuses who is not an active administrator as of a view or command.
func (d *Directory) MayAdminister(r Reader, caller Caller) error {
	return d.mayAdminister(r, caller)
}

// MayCertify refuses while the CA's key is disabled.
func (d *Directory) MayCertify(r Reader) error {
	if err := keyError(r.View(projectionName), keystore.KeyID(d.ca.Load().Certificate.PublicKey)); err != nil {
		return fmt.Errorf("%w: that of the CA, so no certificate is issued", err)
	}
	return nil
}

// SetCA changes the CA that certifies from now on. It must know those before it as Earlier.
func (d *Directory) SetCA(ca *CA) { d.ca.Store(ca) }

// Rotation is a new key of a signer, with a certificate for who they are already. It means nothing until its events are
// emitted.
type Rotation struct {
	made *certified
	from signerRow
	role string
	body any
	typ  chain.Type
}

// Key is the new key.
func (r *Rotation) Key() keystore.Key { return r.made.key }

// BeginRotation makes a new key for a signer, of the same algorithm, and certifies it. role and label say what it is to the
// service. The signer must be active and have the key of that id.
func (d *Directory) BeginRotation(ctx context.Context, caller Caller, id, keyID, role string, label keystore.ID) (*Rotation, error) {
	out := &Rotation{role: role}
	var subject Subject
	var algorithm keystore.Algorithm
	var person manifest.SignerEnrolled
	var service manifest.ServiceEnrolled
	err := d.ledger.View(func(r *ledger.Read) (err error) {
		if out.from, err = d.rotatable(r, caller, id, keyID); err != nil {
			return err
		}
		proved, err := d.enrolment(r, out.from)
		if err != nil {
			return err
		}
		algorithm = proved.algorithm
		subject = Subject{ID: id, Name: proved.name, Organisation: proved.organisation, Service: proved.service}
		b, err := r.ProvedEntry(out.from.Enrolled)
		if err != nil {
			return err
		}
		e, err := chain.ParseEntry(b)
		if err != nil {
			return err
		}
		if proved.service {
			out.typ = chain.ServiceRenewed
			service, err = manifest.ParseServiceEnrolled(e.Body)
			return err
		}
		out.typ = chain.SignerRenewed
		if person, err = manifest.ParseSignerEnrolled(e.Body); err != nil {
			return err
		}
		if password, _, err := d.credentialOf(r, out.from); err != nil || password != out.from.Credential {
			return errors.Join(err, errTamperedRow(out.from.Enrolled))
		}
		person.Credential = out.from.Credential // none, where an administrator has ended it
		return nil
	})
	if err != nil {
		return nil, err
	}
	if out.made, err = d.certifyAs(ctx, subject, keystore.Spec{ID: label, Algorithm: algorithm}); err != nil {
		return nil, err
	}
	// Crash point: a key is in the HSM that no entry names. It means nothing, and its label is not used again.
	failpoint.Hit("identity.key-renewed")
	if subject.Service {
		service.KeyID, service.Certificate = out.made.key.KeyID, hexSum(out.made.certificate)
		out.body = service
	} else {
		person.KeyID, person.Certificate = out.made.key.KeyID, hexSum(out.made.certificate)
		out.body = person
	}
	return out, nil
}

// rotatable returns the signer whose key can be rotated.
func (d *Directory) rotatable(r Reader, caller Caller, id, keyID string) (signerRow, error) {
	if err := d.mayAdminister(r, caller); err != nil {
		return signerRow{}, err
	}
	row, ok, err := getSigner(r.View(projectionName), id)
	switch {
	case err != nil:
		return row, err
	case !ok:
		return row, ErrNotFound
	case id == caller.ID:
		return row, fmt.Errorf("%w: nobody rotates their own key; ask another administrator", ErrForbidden)
	case row.State != StateActive:
		return row, wrongState(row)
	case row.KeyID != keyID || row.Enrolled == 0:
		return row, fmt.Errorf("%w: %s has another key by now", ErrState, row.UserName)
	}
	return row, nil
}

// EmitRotation emits the new key and what binds it to its signer, if nothing has changed since it was begun.
func (d *Directory) EmitRotation(tx *ledger.Tx, caller Caller, r *Rotation) error {
	now, err := d.rotatable(tx, caller, r.from.ID, r.from.KeyID)
	if err != nil {
		return err
	}
	if now.Enrolled != r.from.Enrolled || now.Credential != r.from.Credential {
		return fmt.Errorf("%w: %s was changed at the same time; try again", ErrState, now.UserName)
	}
	if err := d.MayCertify(tx); err != nil {
		return err
	}
	tx.Emit(r.made.event(caller.Actor(), r.role))
	tx.Emit(ledger.Event{Type: r.typ, Actor: caller.Actor(), Body: r.body, Attachments: [][]byte{r.made.certificate}})
	return nil
}

// InUse reports whether a signer who is not revoked signs with the key.
func InUse(r Reader, signer, keyID string) (bool, error) {
	row, ok, err := getSigner(r.View(projectionName), signer)
	return ok && row.State != StateRevoked && row.KeyID == keyID, err
}

// Settle waits, within bounds, until what was appended is covered by a signed checkpoint.
func (d *Directory) Settle(ctx context.Context, r ledger.Result) { d.settle(ctx, r) }
