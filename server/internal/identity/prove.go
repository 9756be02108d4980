package identity

import (
	"context"
	"errors"
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
	code     Secret // a one-time password; empty: none given
	partly   bool   // a one-time password may be left out: a continuous period
	counter  string // the blinded name whose failures are counted
	owner    string // only this signer's proof will do; empty: that of whoever has the name
	actor    chain.Actor
	source   sourceProof
	place    string // the network that it comes from, blinded; empty: not known
}

// candidate is whom an attempt may be about.
type candidate struct {
	row      signerRow
	verifier *verifier // nil: nothing can be right
	seed     string    // sealed, of one-time passwords; empty: none, or none is asked for
	tampered error     // what is stored is not what the ledger committed to
}

// proved is who has proved themselves, and with which step of a one-time password; 0: with none.
type proved struct {
	row  signerRow
	step uint64
}

// prove checks a password, and a one-time password for whom that belongs to it: one argon2id computation and the same calls of the HSM, whatever
// was given. If all was right, then runs, while the place in the queue is still held. If not, the failure is durable when prove returns
// [ErrBadCredentials]. Holding the place until the failure is counted means that at most as many guesses as there are places can overtake a
// lock. Where the HSM cannot be asked nothing is known, and nothing counted.
func (d *Directory) prove(ctx context.Context, a attempt, then func(ctx context.Context, p proved) error) error {
	if err := d.ledger.View(func(r *ledger.Read) error { return d.checkLock(r.View(projectionName), a) }); err != nil {
		return err
	}
	key, err := d.macKey(ctx)
	if err != nil {
		return err
	}
	release, err := d.hasher.acquireFor(ctx, a)
	if err != nil {
		return err
	}
	defer release()
	var c candidate
	look := func(r *ledger.Read) (err error) {
		if err := d.checkLock(r.View(projectionName), a); err != nil { // it may have happened while we waited
			return err
		}
		c, err = d.candidate(r, a)
		return err
	}
	if err = d.ledger.View(look); errors.Is(err, ledger.ErrNotCheckpointed) { // a credential was changed this moment
		if _, err = d.ledger.Checkpointed(ctx, d.ledger.Size()); err == nil {
			err = d.ledger.View(look)
		}
	}
	if err != nil {
		return err
	}
	// From here on the outcome is recorded even if the caller has gone: hanging up does not save a failure from being
	// counted.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	right, err := d.matches(ctx, key, c.verifier, a.name, a.password)
	if err != nil && !errors.Is(err, ErrTampered) {
		return err
	}
	step, rightCode, errCode := d.checkCode(ctx, key, c, a.code)
	if errCode != nil && !errors.Is(errCode, ErrTampered) {
		return errCode
	}
	if c.tampered == nil {
		c.tampered = errors.Join(err, errCode)
	}
	switch {
	case c.tampered != nil:
		d.cfg.Log.ErrorContext(ctx, "a password was not checked", "signer", c.row.ID, "error", c.tampered)
		return errJoin(c.tampered, d.denied(ctx, a.actor, a.source, string(a.purpose), "the stored verifier does not match its commitment"))
	case !right || !rightCode:
		return d.failed(ctx, a, c.row.ID)
	case c.row.State != StateActive:
		return errJoin(stateError(c.row.State), d.denied(ctx, a.actor, a.source, string(a.purpose), string(c.row.State)))
	case a.purpose != purposeSession && a.purpose != purposePassword && d.passwordExpired(c.row, d.cfg.Clock()):
		return errJoin(ErrPasswordExpired, d.denied(ctx, a.actor, a.source, string(a.purpose), "the password has expired"))
	}
	err = then(ctx, proved{row: c.row, step: step})
	if errors.Is(err, errSpent) {
		return d.failed(ctx, a, c.row.ID)
	}
	if err == nil && d.outdated(*c.verifier) {
		d.rehash(ctx, c.row, a.password)
	}
	return err
}

// failed counts a failure. In a session it ends a continuous period.
func (d *Directory) failed(ctx context.Context, a attempt, id string) error {
	if a.actor.Session != "" {
		d.activity.signingEvent(a.actor.Session, proofFailed, "", d.cfg.Clock())
	}
	return d.recordFailure(ctx, a, id)
}

// candidate finds what the attempt is checked against.
func (d *Directory) candidate(r *ledger.Read, a attempt) (c candidate, err error) {
	view := r.View(projectionName)
	id := view.Get(bucketNames, personName(a.name))
	if id == nil {
		return c, nil
	}
	c.row, _, err = getSigner(view, string(id))
	if err != nil || a.owner != "" && a.owner != c.row.ID || c.row.Credential == "" {
		return c, err
	}
	password, seed, err := d.credentialOf(r, c.row)
	if err != nil {
		return c, err
	}
	stored, sealed := r.GetPrivate(privateVerifiers, []byte(c.row.ID)), r.GetPrivate(privateTOTP, []byte(c.row.ID))
	switch {
	case password != c.row.Credential || seed != c.row.TOTP:
		c.tampered = fmt.Errorf("%w: the credential of %s is not that of its entry", ErrTampered, c.row.ID)
		return c, nil
	case hexSum(stored) != password:
		c.tampered = fmt.Errorf("%w: the password verifier of %s is not that of its entry", ErrTampered, c.row.ID)
		return c, nil
	case seed != "" && hexSum(sealed) != seed:
		c.tampered = fmt.Errorf("%w: the seed of the one-time passwords of %s is not that of its entry", ErrTampered, c.row.ID)
		return c, nil
	}
	if seed != "" && (!a.partly || a.code != "") {
		c.seed = string(sealed)
	}
	v, err := parseVerifier(string(stored))
	if err != nil {
		c.tampered = err
		return c, nil
	}
	c.verifier = &v
	return c, nil
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

// Denied appends that a call was refused, within bounds.
func (d *Directory) Denied(ctx context.Context, caller Caller, method, why string) error {
	return d.denied(ctx, caller.Actor(), sourceProof{}, method, why)
}

func (d *Directory) denied(ctx context.Context, actor chain.Actor, source sourceProof, method, why string) error {
	count := d.denials.add(actor, method, why, d.cfg.Clock())
	if count == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		source.put(tx)
		tx.Emit(ledger.Event{Type: chain.AccessDenied, Actor: actor, Body: accessDenied{Count: count, Method: method, Reason: why}})
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

	all         bool   // with all components
	credentials string // what they were: see credentialsOf
}

// The components, as Proven lists them.
const (
	componentName     = "user name"
	componentPassword = "password"
	componentCode     = "one-time password"
	componentPasskey  = "passkey"
)

// ProveSignature checks a fresh proof for one signature: subject is the preparation, requires what its statement demands, challenge the
// SHA-256 of the statement's pre-authentication encoding, which a passkey must have signed. The proof must be the caller's own: an
// unknown name, somebody else's name and a wrong password get the same answer in the same time, and each is counted against the caller.
// Success opens nothing.
//
// What was proven is at least what is required. A one-time password belongs to the password of who has set one, unless a passkey stands for
// it or the caller is in a continuous period.
func (d *Directory) ProveSignature(ctx context.Context, caller Caller, p Proof, subject string, requires manifest.AuthorizationKind, challenge [32]byte) (Proven, error) {
	if caller.Kind != chain.Person || caller.Session == "" {
		return Proven{}, fmt.Errorf("%w: only a person in a session signs with a password", ErrForbidden)
	}
	own, err := d.ownRow(caller)
	if err != nil {
		return Proven{}, err
	}
	var out Proven
	out.credentials = credentialsOf(own)
	continuing := d.activity.continuing(d.cfg.Continuous, caller.Session, out.credentials, d.cfg.Clock())
	password := requires != manifest.AuthorizationPasskey || !d.cfg.PasskeyAlone || p.UserName != "" || p.Password != "" || p.TOTP != ""
	switch {
	case !requires.Known() || requires == manifest.AuthorizationService:
		return Proven{}, fmt.Errorf("%w: the statement demands %q, which is no proof of a person", ErrForbidden, requires)
	case requires.Passkey() && p.Passkey == nil:
		return Proven{}, fmt.Errorf("%w: the statement demands a passkey", ErrCredentialsMissing)
	case password && (p.Password == "" || p.UserName == "" && !continuing):
		return Proven{}, fmt.Errorf("%w: give user name and password", ErrCredentialsMissing)
	case requires == manifest.AuthorizationPasswordTOTP && own.TOTP == "":
		return Proven{}, fmt.Errorf("%w: the statement demands a one-time password, and you have not set them up", ErrCredentialsMissing)
	case p.TOTP == "" && (requires == manifest.AuthorizationPasswordTOTP || password && own.TOTP != "" && p.Passkey == nil && !continuing):
		return Proven{}, fmt.Errorf("%w: a one-time password is missing", ErrCredentialsMissing)
	}
	out.all = p.UserName != "" && p.Password != ""
	out.Authorization.Kind = manifest.AuthorizationPassword
	if p.Passkey != nil {
		if out.Authorization, err = d.provePasskey(ctx, caller, own, p.Passkey, subject, challenge); err != nil {
			return Proven{}, err
		}
		if !password {
			out.Authorization.Kind = manifest.AuthorizationPasskey
			out.Components, out.all = []string{componentPasskey}, false
			return out, nil
		}
		out.Authorization.Kind = manifest.AuthorizationPasswordPasskey
	} else if p.TOTP != "" && own.TOTP != "" {
		out.Authorization.Kind = manifest.AuthorizationPasswordTOTP
	}
	if !out.Authorization.Kind.Covers(requires) {
		return Proven{}, fmt.Errorf("%w: the statement demands %s", ErrCredentialsMissing, requires)
	}
	if err := d.checkAgain(ctx, caller, p, purposeSignature, subject, p.Passkey != nil || continuing); err != nil {
		return Proven{}, err
	}
	if p.UserName != "" {
		out.Components = append(out.Components, componentName)
	}
	out.Components = append(out.Components, componentPassword)
	if p.TOTP != "" && own.TOTP != "" {
		out.Components = append(out.Components, componentCode)
	}
	if p.Passkey != nil {
		out.Components = append(out.Components, componentPasskey)
	}
	return out, nil
}

// StillProven refuses, in the transaction that leans on what was proven, what has ended since: the caller's session, or one of their credentials.
func (d *Directory) StillProven(r Reader, caller Caller, p Proven) error {
	row, err := d.inSession(r, caller)
	if err != nil {
		return err
	}
	if credentialsOf(row) != p.credentials {
		return fmt.Errorf("%w: your credentials have changed since you gave them; begin again", ErrState)
	}
	return nil
}

// provePasskey checks the assertion of a passkey for one signature. A wrong one counts like a wrong password.
func (d *Directory) provePasskey(ctx context.Context, caller Caller, own signerRow, assertion *passkey.Assertion, subject string, challenge [32]byte) (manifest.Authorization, error) {
	a := attempt{purpose: purposeSignature, subject: subject, name: own.UserName, blinded: own.Login, counter: own.Login, owner: own.ID, actor: caller.Actor()}
	var out manifest.Authorization
	err := d.settled(ctx, func(r *ledger.Read) (err error) {
		if err := d.checkLock(r.View(projectionName), a); err != nil {
			return err
		}
		out, err = d.checkAssertion(r, own.ID, challenge, assertion)
		return err
	})
	if errors.Is(err, ErrBadCredentials) {
		if counted := d.failed(ctx, a, own.ID); !errors.Is(counted, ErrBadCredentials) {
			return out, counted
		}
	}
	return out, err
}

// Demands returns which components a statement demands of a signer who prepares it: at least those of the policy and those that the signer asks
// for, and a one-time password where the signer has set them up and no passkey stands for it.
func (d *Directory) Demands(r Reader, caller Caller, policy, asked manifest.AuthorizationKind) (manifest.AuthorizationKind, error) {
	policy = both(policy, d.cfg.Requires)
	if asked == "" {
		asked = policy
	}
	if !asked.Known() || asked == manifest.AuthorizationService || !asked.Covers(policy) {
		return "", fmt.Errorf("%w: %q does not have all that the policy demands (%s)", ErrRequires, asked, policy)
	}
	if asked == manifest.AuthorizationPasskey && !d.cfg.PasskeyAlone {
		return "", fmt.Errorf("%w: a passkey alone does not sign here, as 21 CFR 11.200(a)(1) takes user name and password; use password+passkey", ErrRequires)
	}
	row, ok, err := d.rows.get(r.View(projectionName), caller.ID)
	if err != nil || !ok {
		return asked, err
	}
	switch {
	case asked == manifest.AuthorizationPassword && row.TOTP != "" &&
		!d.activity.continuing(d.cfg.Continuous, caller.Session, credentialsOf(row), d.cfg.Clock()):
		return manifest.AuthorizationPasswordTOTP, nil
	case asked == manifest.AuthorizationPasswordTOTP && row.TOTP == "":
		return "", fmt.Errorf("%w: it takes one-time passwords, and you have not set them up", ErrRequires)
	}
	return asked, nil
}

// both has the components of two kinds. Where a passkey is among them it stands for a one-time password, too.
func both(a, b manifest.AuthorizationKind) manifest.AuthorizationKind {
	switch {
	case a.Covers(b):
		return a
	case b.Covers(a):
		return b
	}
	return manifest.AuthorizationPasswordPasskey
}

// ProveAct checks a fresh proof for one act that a session alone may not do: a change of a key or a credential, the confirmation of a
// proposal. The subject names what it is about. It takes user name, password and, where the caller has set them up, a one-time password.
func (d *Directory) ProveAct(ctx context.Context, caller Caller, p Proof, purpose Purpose, subject string) error {
	if caller.Kind != chain.Person || caller.Session == "" {
		return fmt.Errorf("%w: only a person in a session can prove themselves", ErrForbidden)
	}
	own, err := d.ownRow(caller)
	switch {
	case err != nil:
		return err
	case p.UserName == "" || p.Password == "":
		return fmt.Errorf("%w: give user name and password", ErrCredentialsMissing)
	case own.TOTP != "" && p.TOTP == "":
		return fmt.Errorf("%w: a one-time password is missing", ErrCredentialsMissing)
	}
	return d.checkAgain(ctx, caller, p, purpose, subject, false)
}

// ownRow is the caller's.
func (d *Directory) ownRow(caller Caller) (own signerRow, err error) {
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		own, _, err = getSigner(r.View(projectionName), caller.ID)
		return err
	})
	if err == nil && own.Login == "" {
		err = ErrSession
	}
	return own, err
}

// checkAgain checks the password of somebody who is in a session, for one act. In a continuous period, or beside a passkey, parts may be left
// out: the user name, which is then that of the caller, and the one-time password.
func (d *Directory) checkAgain(ctx context.Context, caller Caller, p Proof, purpose Purpose, subject string, partly bool) error {
	blind, err := d.blinder(ctx)
	if err != nil {
		return err
	}
	own, err := d.ownRow(caller)
	if err != nil {
		return err
	}
	name := fold(p.UserName)
	if p.UserName == "" && partly {
		name = own.UserName
	}
	a := attempt{
		purpose: purpose, subject: subject, name: name, blinded: blind(name), password: p.Password, code: p.TOTP, partly: partly,
		counter: own.Login, owner: own.ID, actor: caller.Actor(),
	}
	return d.prove(ctx, a, func(ctx context.Context, p proved) error {
		if p.step == 0 {
			return d.ledger.View(func(r *ledger.Read) error {
				_, err := d.stillProved(r, a, p, chain.NewTime(d.cfg.Clock()))
				return err
			})
		}
		_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
			now, err := d.stillProved(tx, a, p, tx.Now())
			if err != nil {
				return err
			}
			return spend(tx, a.actor, a, now, p.step)
		})
		return err
	})
}

// stillProved looks at what another call may have changed meanwhile, and returns the signer as of now.
func (d *Directory) stillProved(r Reader, a attempt, p proved, at chain.Time) (signerRow, error) {
	view := r.View(projectionName)
	if err := d.refused(view, a, at); err != nil {
		return signerRow{}, err
	}
	now, _, err := getSigner(view, p.row.ID)
	if err != nil {
		return now, err
	}
	if credentialsOf(now) != credentialsOf(p.row) || now.Credential == "" {
		return now, ErrBadCredentials
	}
	if a.actor.Session != "" && view.Get(bucketOpen, openKey(a.actor.ID, a.actor.Session)) == nil {
		return now, ErrSession
	}
	return now, stateError(now.State)
}
