package identity

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
)

// What alerts about passkeys are called.
const (
	alertPasskey       = "credential.changed"
	alertPasskeyPinned = "passkey.pinned"
)

// passkeyAlert tells the signer, or the security unit of a passkey that nobody vouched for.
func (d *Directory) passkeyAlert(tx *ledger.Tx, kind, signer string, entry uint64, summary string) {
	a := notify.Alert{Kind: kind, Subject: signer, Summary: summary, Entry: entry, Audience: notify.Signer}
	if kind == alertPasskeyPinned {
		a.Audience = notify.Security
	}
	notify.Raise(tx, a)
}

// VouchPasskey vouches for a passkey that waits, with an assertion of a passkey of the caller over its binding. What binds it is entered with
// it: an earlier passkey of the same signer, or those of two other people who may vouch and are administrators.
func (d *Directory) VouchPasskey(ctx context.Context, caller Caller, signer, id string, a passkey.Assertion) (Passkey, error) {
	if caller.Kind != chain.Person || caller.Session == "" {
		return Passkey{}, fmt.Errorf("%w: only a person in a session vouches", ErrForbidden)
	}
	if _, err := d.ledger.Checkpointed(ctx, d.ledger.Size()); err != nil {
		return Passkey{}, err
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		if _, err := d.inSession(tx, caller); err != nil {
			return err
		}
		row, err := mustPasskey(view, signer, id)
		if err != nil {
			return err
		}
		self := caller.ID == signer
		if !self {
			if err := d.mayAdminister(tx, caller); err != nil {
				return err
			}
		}
		if row.State != PasskeyPending {
			return fmt.Errorf("%w: it is %s", ErrPasskeyState, row.State)
		}
		owner, ok, err := getSigner(view, signer)
		if err != nil || !ok {
			return errors.Join(err, ErrPasskeyAbsent)
		}
		if err := stateError(owner.State); err != nil {
			return err
		}
		body, err := d.binding(tx, row)
		if err != nil {
			return err
		}
		if body.Binding.Name != owner.Name {
			return fmt.Errorf("%w: it was registered under the name %q, and its owner's name is %q now; they must register a new one", ErrPasskeyState, body.Binding.Name, owner.Name)
		}
		challenge, err := body.Binding.Challenge()
		if err != nil {
			return err
		}
		h, err := d.holder(tx, caller.ID, a.CredentialID)
		if err != nil {
			return err
		}
		if err := passkey.Verify(h.Key, challenge, a); err != nil {
			return &assertionError{err}
		}
		if err := d.relyOn(tx, caller.ID, a.CredentialID); err != nil {
			return err
		}
		vouchers := []passkey.Voucher{passkey.NewVoucher(caller.ID, a)}
		if !self {
			if !h.Vouches {
				return fmt.Errorf("%w: this passkey was not registered by an administrator, and may not vouch for others", ErrForbidden)
			}
			earlier, err := d.earlierVouchers(tx, row)
			if err != nil {
				return err
			}
			for _, v := range earlier {
				if v.Signer == caller.ID {
					return fmt.Errorf("%w: you have vouched for it already", ErrSecondPerson)
				}
			}
			vouchers = append(earlier, vouchers...)
		}
		bound := passkey.NewBound(body.Binding, vouchers...)
		err = bound.Check(func(signer string, credentialID []byte) (passkey.Holder, error) {
			return d.holder(tx, signer, credentialID)
		})
		switch {
		case err == nil:
			index := tx.Emit(ledger.Event{Type: chain.PasskeyBound, Actor: caller.Actor(), Body: bound})
			d.passkeyAlert(tx, alertPasskey, signer, index, "A passkey was bound to you. From now on it signs for you.")
			return nil
		case self:
			return fmt.Errorf("%w: your own passkey cannot vouch for it: %w", ErrPasskeyState, err)
		case len(vouchers) >= passkey.Vouchers:
			return err
		}
		tx.Emit(ledger.Event{Type: chain.PasskeyVouched, Actor: caller.Actor(), Body: passkeyVouched{Nonce: row.ID, Signer: signer, Voucher: vouchers[len(vouchers)-1]}})
		return nil
	})
	if err != nil {
		return Passkey{}, err
	}
	return d.Passkey(ctx, signer, id)
}

// earlierVouchers are those that were given before and still count: whose passkey was revoked since, or who no longer administers, does not.
func (d *Directory) earlierVouchers(tx *ledger.Tx, row passkeyRow) (out []passkey.Voucher, err error) {
	for _, v := range row.Vouched {
		e, err := provedEntry(tx, v.Index, chain.PasskeyVouched)
		if err != nil {
			return nil, err
		}
		body, err := readBody[passkeyVouched](e)
		if err != nil {
			return nil, err
		}
		if body.Nonce != row.ID || body.Signer != row.Signer || body.Voucher.Signer != v.Signer {
			return nil, errTamperedRow(v.Index)
		}
		h, err := d.holder(tx, v.Signer, body.Voucher.CredentialID)
		switch {
		case errors.Is(err, ErrBadCredentials):
			continue
		case err != nil:
			return nil, err
		case !h.Vouches || d.mayAdminister(tx, Caller{ID: v.Signer, Kind: chain.Person}) != nil:
			continue
		}
		out = append(out, body.Voucher)
	}
	return out, nil
}

// RevokePasskey ends a passkey at once and for good: its owner, or an administrator, after a fresh proof.
func (d *Directory) RevokePasskey(ctx context.Context, caller Caller, proof Proof, signer, id, reason string) (Passkey, error) {
	if err := checkReason(reason); err != nil {
		return Passkey{}, err
	}
	if err := d.ProveAct(ctx, caller, proof, PurposeCredential, signer+"/passkeys/"+id); err != nil {
		return Passkey{}, err
	}
	if _, err := d.ledger.Checkpointed(ctx, d.ledger.Size()); err != nil {
		return Passkey{}, err
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if caller.ID != signer {
			if err := d.mayAdminister(tx, caller); err != nil {
				return err
			}
		}
		row, err := mustPasskey(tx.View(projectionName), signer, id)
		if err != nil {
			return err
		}
		if row.State == PasskeyRevoked {
			return fmt.Errorf("%w: it is revoked", ErrPasskeyState)
		}
		index := tx.Emit(ledger.Event{Type: chain.PasskeyRevoked, Actor: caller.Actor(), Body: passkey.Revoked{
			By: caller.ID, KeyID: row.KeyID, Nonce: row.ID, Reason: reason, Signer: signer,
		}})
		d.passkeyAlert(tx, alertPasskey, signer, index, "A passkey of yours was revoked. It signs no more.")
		return nil
	})
	if err != nil {
		return Passkey{}, err
	}
	return d.Passkey(ctx, signer, id)
}

// revocationsOf are the indices of the entries that revoked a signer.
func revocationsOf(view *ledger.State, id string) (out []uint64) {
	prefix := []byte(id + "/")
	view.Prefix(bucketRevocations, prefix, func(k, _ []byte) bool {
		out = append(out, binary.BigEndian.Uint64(k[len(prefix):]))
		return true
	})
	return out
}
