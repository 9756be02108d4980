package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/server/internal/ledger"
)

// recordTimeout is how long the outcome of a check may take to become durable.
const recordTimeout = 15 * time.Second

// attempt is one try to prove oneself with a password.
type attempt struct {
	purpose  Purpose
	subject  string
	name     string // as given, folded
	blinded  string // the same, blinded
	password Secret
	counter  string // the blinded name whose failures are counted
	owner    string // only this signer's proof will do; empty: that of whoever has the name
	actor    chain.Actor
	source   sourceProof
	place    string // the network that it comes from, blinded; empty: not known
}

// prove checks a password: one argon2id computation, whatever was given. If it was right, then runs, while the place in
// the queue is still held. If not, the failure is durable when prove returns [ErrBadCredentials]. Holding the place
// until the failure is counted means that at most as many guesses as there are places can overtake a lock.
func (d *Directory) prove(ctx context.Context, a attempt, then func(ctx context.Context, row signerRow) error) error {
	if err := d.ledger.View(func(r *ledger.Read) error { return d.checkLock(r.View(projectionName), a) }); err != nil {
		return err
	}
	release, err := d.hasher.acquireFor(ctx, a)
	if err != nil {
		return err
	}
	defer release()
	var row signerRow
	var against *verifier
	var tampered error
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		if err := d.checkLock(r.View(projectionName), a); err != nil { // it may have happened while we waited
			return err
		}
		row, against, tampered, err = d.candidate(r, a)
		return err
	})
	if err != nil {
		return err
	}
	right := d.hasher.matches(against, a.password)
	// From here on the outcome is recorded even if the caller has gone: hanging up does not save a failure from being
	// counted.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	switch {
	case tampered != nil:
		d.cfg.Log.ErrorContext(ctx, "a password was not checked", "signer", row.ID, "error", tampered)
		return errJoin(tampered, d.denied(ctx, a.actor, a.source, string(a.purpose), "the stored verifier does not match its commitment"))
	case !right:
		return d.recordFailure(ctx, a, row.ID)
	case row.State != StateActive:
		return errJoin(stateError(row.State), d.denied(ctx, a.actor, a.source, string(a.purpose), string(row.State)))
	}
	return then(ctx, row)
}

// candidate finds the verifier that the attempt is checked against; nil where there is none.
func (d *Directory) candidate(r *ledger.Read, a attempt) (row signerRow, against *verifier, tampered, err error) {
	view := r.View(projectionName)
	id := view.Get(bucketNames, personName(a.name))
	if id == nil {
		return signerRow{}, nil, nil, nil
	}
	row, _, err = getSigner(view, string(id))
	if err != nil || a.owner != "" && a.owner != row.ID || row.Credential == "" {
		return row, nil, nil, err
	}
	proved, err := d.enrolment(r, row)
	if err != nil {
		return row, nil, nil, err
	}
	stored := r.GetPrivate(privateVerifiers, []byte(row.ID))
	switch {
	case proved.credential != row.Credential:
		return row, nil, fmt.Errorf("%w: the credential of %s is not that of entry %d", ErrTampered, row.ID, row.Enrolled), nil
	case hexSum(stored) != proved.credential:
		return row, nil, fmt.Errorf("%w: the password verifier of %s is not that of entry %d", ErrTampered, row.ID, row.Enrolled), nil
	}
	v, err := parseVerifier(string(stored))
	if err != nil {
		return row, nil, err, nil
	}
	return row, &v, nil, nil
}

// stateError says why a signer may not act.
func stateError(s State) error {
	switch s {
	case StateActive:
		return nil
	case StateSuspended:
		return ErrSuspended
	case StateRevoked:
		return ErrRevoked
	}
	return ErrNoKey
}

// Denied appends that a call was refused.
func (d *Directory) Denied(ctx context.Context, caller Caller, method, why string) error {
	return d.denied(ctx, caller.Actor(), sourceProof{}, method, why)
}

func (d *Directory) denied(ctx context.Context, actor chain.Actor, source sourceProof, method, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		source.put(tx)
		tx.Emit(ledger.Event{Type: chain.AccessDenied, Actor: actor, Body: accessDenied{Count: 1, Method: method, Reason: why}})
		return nil
	})
	return err
}

// errJoin returns the first error, with the second beside it if there is one.
func errJoin(err, also error) error {
	if also == nil {
		return err
	}
	return fmt.Errorf("%w (and it could not be recorded: %w)", err, also)
}

// Proof is what a person gives to prove themselves for one act.
type Proof struct {
	UserName string
	Password Secret
	TOTP     Secret             // empty: none given
	Passkey  *passkey.Assertion // nil: none given
}

// Proven is what a person has proved.
type Proven struct {
	Authorization manifest.Authorization // as it stands in the manifest
	Components    []string               // as the entry signature.attempted lists them
}

// ProveSignature checks a fresh proof for one signature: subject is the preparation, requires what its statement demands, challenge the
// SHA-256 of the statement's pre-authentication encoding, which a passkey must have signed. The proof must be the caller's own: an
// unknown name, somebody else's name and a wrong password get the same answer in the same time, and each is counted against the caller.
// Success opens nothing.
func (d *Directory) ProveSignature(ctx context.Context, caller Caller, p Proof, subject string, requires manifest.AuthorizationKind, challenge [32]byte) (Proven, error) {
	if caller.Kind != chain.Person || caller.Session == "" {
		return Proven{}, fmt.Errorf("%w: only a person in a session signs with a password", ErrForbidden)
	}
	if err := d.checkAgain(ctx, caller, p, purposeSignature, subject); err != nil {
		return Proven{}, err
	}
	return Proven{Authorization: manifest.Authorization{Kind: manifest.AuthorizationPassword}, Components: []string{"user name", "password"}}, nil
}

// ProveAct checks a fresh proof for one act that a session alone may not do: a change of a key or a credential, the confirmation of a
// proposal. The subject names what it is about. It takes all components that the caller has.
func (d *Directory) ProveAct(ctx context.Context, caller Caller, p Proof, purpose Purpose, subject string) error {
	if caller.Kind != chain.Person || caller.Session == "" {
		return fmt.Errorf("%w: only a person in a session can prove themselves", ErrForbidden)
	}
	return d.checkAgain(ctx, caller, p, purpose, subject)
}

// checkAgain checks the password of somebody who is in a session, for one act.
func (d *Directory) checkAgain(ctx context.Context, caller Caller, p Proof, purpose Purpose, subject string) error {
	blind, err := d.blinder(ctx)
	if err != nil {
		return err
	}
	var own signerRow
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		own, _, err = getSigner(r.View(projectionName), caller.ID)
		return err
	})
	if err != nil {
		return err
	}
	if own.Login == "" {
		return ErrSession
	}
	name := fold(p.UserName)
	a := attempt{
		purpose: purpose, subject: subject, name: name, blinded: blind(name), password: p.Password, counter: own.Login, owner: own.ID,
		actor: caller.Actor(),
	}
	return d.prove(ctx, a, func(_ context.Context, row signerRow) error {
		return d.ledger.View(func(r *ledger.Read) error { // what another call may have changed meanwhile
			view := r.View(projectionName)
			if err := d.checkLock(view, a); err != nil {
				return err
			}
			now, _, err := getSigner(view, row.ID)
			if err != nil {
				return err
			}
			if now.Credential != row.Credential {
				return ErrBadCredentials
			}
			return stateError(now.State)
		})
	})
}
