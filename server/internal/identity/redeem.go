package identity

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/ledger"
)

// Redeem takes up an invitation: the person sets the password that only they know, and acknowledges the accountability
// statement. For somebody who signs, a key is made in the HSM and certified, and its first signature is over that statement.
// The code works once, for this user name, until it lapses. If the HSM fails, nothing was changed and the code can be used again.
//
// Whatever is wrong with code and name, the answer is ErrCodeInvalid, in the same time.
func (d *Directory) Redeem(ctx context.Context, src Source, code Secret, userName string, password Secret, acknowledged bool) (Signer, error) {
	if !acknowledged {
		return Signer{}, ErrNotAcknowledged
	}
	name := fold(userName)
	blind, err := d.blinder(ctx)
	if err != nil {
		return Signer{}, err
	}
	source, err := d.sources.of(src)
	if err != nil {
		return Signer{}, err
	}
	from, err := d.placeOf(ctx, src)
	if err != nil {
		return Signer{}, err
	}
	nobody := System("anonymous").Actor()
	nobody.Source = source.commitment
	row, invitation, v, err := d.redeemable(ctx, attempt{
		purpose: purposeCode, name: name, blinded: blind(name), counter: blind(name), actor: nobody, source: source, place: from,
	}, code, password)
	if err != nil {
		return Signer{}, err
	}
	actor := chain.Actor{ID: row.ID, Kind: chain.Person, Method: MethodCode, Source: source.commitment}
	body := manifest.SignerEnrolled{
		Accountability: d.cfg.Accountability.Version, Credential: hexSum([]byte(v)), ID: row.ID, Name: invitation.Name, Organisation: invitation.Organisation,
		Roles: invitation.Roles, Title: invitation.Title, UserName: row.UserName, Zone: invitation.Zone,
	}
	if body.Proofing, err = invitation.Proofing.digest(); err != nil {
		return Signer{}, err
	}
	var made *certified
	var signed ledger.Event
	signs, err := d.getsKey(ctx, row.ID, invitation.Roles)
	if err != nil {
		return Signer{}, err
	}
	if signs {
		made, err = d.certify(ctx, Subject{ID: row.ID, Name: body.Name, Organisation: body.Organisation})
		if err != nil {
			return Signer{}, err
		}
		body.KeyID, body.Certificate = made.key.KeyID, hexSum(made.certificate)
		if signed, err = d.accountable(ctx, actor, body, made); err != nil {
			d.discard(ctx, made)
			return Signer{}, err
		}
	}
	// Crash point: a key is in the HSM that no entry names. It means nothing, and its id is not used again.
	failpoint.Hit("identity.key-made")
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if made != nil {
			if err := d.MayCertify(tx); err != nil {
				return err
			}
		}
		now, _, err := getSigner(tx.View(projectionName), row.ID)
		if err != nil {
			return err
		}
		if now.Invitation != row.Invitation || now.State != row.State || !tx.Now().Before(now.Invitation.Expires) {
			return ErrCodeInvalid // redeemed by another call, or lapsed meanwhile
		}
		source.put(tx)
		ev := ledger.Event{Type: chain.SignerEnrolled, Actor: actor, Body: body}
		if now.Enrolled != 0 {
			ev.Type = chain.SignerRenewed
		}
		if made != nil {
			tx.Emit(made.event(actor, "signer"))
			ev.Attachments = [][]byte{made.certificate}
		}
		if locked := lockError(tx.View(projectionName), now.Login, tx.Now().Time()); locked != nil {
			if !errors.Is(locked, ErrLocked) {
				return locked
			}
			tx.Emit(ledger.Event{Type: chain.SignerUnlocked, Actor: actor, Body: signerUnlocked{
				Counter: now.Login, ID: row.ID, Reason: "a new credential",
			}})
		}
		tx.PutPrivate(privateVerifiers, []byte(row.ID), []byte(v))
		tx.Emit(ev)
		if made != nil {
			tx.Emit(signed)
		}
		if changes := alterations(now, body); len(changes) > 0 && now.Enrolled != 0 {
			tx.Emit(ledger.Event{Type: chain.SignerChanged, Actor: actor, Body: signerValues{Changes: changes, ID: row.ID, Reason: invitation.Reason}})
		}
		return nil
	})
	if err != nil {
		d.discardAfter(ctx, made, err)
		return Signer{}, err
	}
	d.settle(ctx, result)
	return d.Get(ctx, row.ID)
}

// redeemable computes the verifier, whatever the code is, and then looks at the code: so a wrong one costs as much as a
// right one, and nobody floods the ledger with guesses. They are counted by name and network, apart from passwords: a
// code of 150 random bits cannot be guessed, and nobody takes its ten minutes from its owner from elsewhere.
func (d *Directory) redeemable(ctx context.Context, a attempt, code, password Secret) (
	row signerRow, invitation signerInvited, verifier string, err error) {
	if err := d.ledger.View(func(r *ledger.Read) error { return d.checkLock(r.View(projectionName), a) }); err != nil {
		return row, invitation, "", err
	}
	release, err := d.hasher.acquireFor(ctx, a)
	if err != nil {
		return row, invitation, "", err
	}
	defer release()
	if err := checkNewPassword(password, d.cfg.MinPassword, []string{a.name, d.cfg.Organisation, "signet"}, d.cfg.Blocklist); err != nil {
		return row, invitation, "", err
	}
	if verifier, err = d.newVerifier(ctx, a.name, password); err != nil {
		return row, invitation, "", err
	}
	valid, id := false, ""
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		view := r.View(projectionName)
		id = string(view.Get(bucketNames, personName(a.name)))
		var ok bool
		if row, ok, err = getSigner(view, id); err != nil {
			return err
		}
		same := subtle.ConstantTimeCompare([]byte(codeDigest(code)), []byte(row.Invitation.Code)) == 1
		if valid = ok && row.Invitation.Index != 0 && same && d.cfg.Clock().Before(row.Invitation.Expires.Time()); !valid {
			return nil
		}
		if row.State == StateSuspended {
			return ErrSuspended
		}
		invitation, err = provedInvitation(r, row)
		return err
	})
	if err != nil {
		return row, invitation, "", err
	}
	if !valid {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		return row, invitation, "", d.recordFailure(ctx, a, id)
	}
	return row, invitation, verifier, d.testVerifier(ctx, a.name, verifier, password)
}

// testVerifier checks the new password against its verifier as a log-in would, before anybody leans on it (21 CFR 11.300(e)). The caller has
// acquired a place to compute.
func (d *Directory) testVerifier(ctx context.Context, name, verifier string, password Secret) error {
	key, err := d.macKey(ctx)
	if err != nil {
		return err
	}
	v, err := parseVerifier(verifier)
	if err != nil {
		return err
	}
	right, err := d.matches(ctx, key, &v, name, password)
	if err == nil && !right {
		err = errors.New("identity: a new password does not fit its own verifier")
	}
	return err
}

// alterations are what a renewal has changed.
func alterations(old signerRow, now manifest.SignerEnrolled) []valueChange {
	var out []valueChange
	for _, f := range []valueChange{
		{Field: "name", Old: old.Name, New: now.Name}, {Field: "title", Old: old.Title, New: now.Title},
		{Field: "organisation", Old: old.Organisation, New: now.Organisation}, {Field: "zone", Old: old.Zone, New: now.Zone},
		{Field: "roles", Old: strings.Join(enrolledRoles(old.Roles), " "), New: strings.Join(now.Roles, " ")},
	} {
		if f.Old != f.New {
			out = append(out, f)
		}
	}
	return out
}

// certified is a new key with its certificate.
type certified struct {
	key         keystore.Key
	spki        []byte
	certificate []byte
}

// certify makes a key in the HSM and certifies it.
func (d *Directory) certify(ctx context.Context, s Subject) (*certified, error) {
	return d.certifyAs(ctx, s, keystore.Spec{ID: NewLabel("signer-" + s.ID), Algorithm: keystore.ECDSAP256})
}

// NewLabel returns a label for a new key that no key of the HSM has had: one that a crash has left unnamed blocks nothing.
func NewLabel(prefix string) keystore.ID { return keystore.ID(prefix + "-" + newID("")[:8]) }

func (d *Directory) certifyAs(ctx context.Context, s Subject, spec keystore.Spec) (*certified, error) {
	if err := d.ledger.View(func(r *ledger.Read) error { return d.MayCertify(r) }); err != nil {
		return nil, err
	}
	key, err := d.keys.Generate(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", s.ID, err)
	}
	c := &certified{key: key}
	if c.spki, err = x509.MarshalPKIXPublicKey(key.Public); err == nil {
		c.certificate, err = d.ca.Load().Issue(ctx, s, key.Public)
	}
	if err != nil {
		d.discard(ctx, c)
		return nil, err
	}
	return c, nil
}

// event is key.created.
func (c *certified) event(actor chain.Actor, role string) ledger.Event {
	return ledger.Event{Type: chain.KeyCreated, Actor: actor, Attachments: [][]byte{c.spki}, Body: keyCreated{
		Algorithm: string(c.key.Algorithm), Attributes: c.key.Attributes, ID: string(c.key.ID), KeyID: c.key.KeyID, Role: role,
	}}
}

// discardAfter discards a key whose entry was not appended. Where the ledger does not know whether it was, the key stays:
// who is enrolled with it must be able to sign after the next start.
func (d *Directory) discardAfter(ctx context.Context, c *certified, cause error) {
	if !errors.Is(cause, ledger.ErrUnavailable) {
		d.discard(ctx, c)
	}
}

// discard destroys a key that no entry will name, where the key maker can.
func (d *Directory) discard(ctx context.Context, c *certified) {
	destroyer, ok := d.keys.(interface {
		Destroy(ctx context.Context, id keystore.ID) error
	})
	if c == nil || !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := destroyer.Destroy(ctx, c.key.ID); err != nil {
		d.cfg.Log.WarnContext(ctx, "a key that nothing refers to stays in the HSM", "key", c.key.ID, "error", err)
	}
}
