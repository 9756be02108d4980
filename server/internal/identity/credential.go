package identity

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Kinds of credentials, as signer.credential has them.
const (
	credentialVerifier = "password-verifier" // the same password with another cost or key
	credentialTOTP     = "totp"
)

// credentialUsed: a step of a one-time password has counted.
type credentialUsed struct {
	ID      string  `json:"id"`
	Kind    string  `json:"kind"` // credentialTOTP
	Purpose Purpose `json:"purpose"`
	Step    uint64  `json:"step,string"` // Unix time / 30
	Subject string  `json:"subject"`
}

// applyCredentialOf applies signer.credential of a person.
func applyCredentialOf(s *ledger.State, e chain.Entry, body signerCredential) error {
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	switch body.Kind {
	case credentialPassword:
		row.Credential, row.CredentialEntry = body.Commitment, e.Index
		row.PasswordSet, row.PasswordTime, row.PasswordShort = e.Index, e.Time, body.Short
		if body.Commitment == "" {
			row.PasswordShort = false
		}
	case credentialVerifier:
		row.Credential, row.CredentialEntry = body.Commitment, e.Index
		return putSigner(s, row) // the password is the same, and nothing ends
	case credentialTOTP:
		row.TOTP, row.TOTPEntry, row.TOTPStep = body.Commitment, e.Index, 0
	default:
		return fmt.Errorf("entry %d: signer.credential of the unknown kind %.40q", e.Index, body.Kind)
	}
	dropSessionsBut(s, row.ID, e.Actor.Session)
	if err := putSigner(s, row); err != nil || e.Actor.ID != row.ID {
		return err
	}
	return clearFailures(s, e.Actor) // the proof was right
}

// dropSessionsBut removes all sessions of a signer but one.
func dropSessionsBut(s *ledger.State, signer, but string) {
	var sessions []string
	prefix := openKey(signer, "")
	s.Prefix(bucketOpen, prefix, func(k, _ []byte) bool {
		if session := string(k[len(prefix):]); session != but {
			sessions = append(sessions, session)
		}
		return true
	})
	for _, session := range sessions {
		_ = dropSession(s, signer, session)
	}
}

// credentialOf returns the commitments to a signer's verifier and seed, from their entries, proved by inclusion.
func (d *Directory) credentialOf(r Reader, row signerRow) (password, seed string, err error) {
	if row.Credential != "" {
		if row.CredentialEntry == 0 {
			e, err := d.enrolment(r, row)
			if err != nil {
				return "", "", err
			}
			password = e.credential
		} else if password, err = provedCredential(r, row, row.CredentialEntry, credentialPassword, credentialVerifier); err != nil {
			return "", "", err
		}
	}
	if row.TOTP != "" {
		if seed, err = provedCredential(r, row, row.TOTPEntry, credentialTOTP); err != nil {
			return "", "", err
		}
	}
	return password, seed, nil
}

func provedCredential(r Reader, row signerRow, index uint64, kinds ...string) (string, error) {
	b, err := r.ProvedEntry(index)
	if err != nil {
		return "", err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return "", err
	}
	if e.Type != chain.SignerCredential {
		return "", errTamperedRow(index)
	}
	body, err := readBody[signerCredential](e)
	if err != nil {
		return "", err
	}
	for _, kind := range kinds {
		if body.Kind == kind && body.ID == row.ID && body.Commitment != "" {
			return body.Commitment, nil
		}
	}
	return "", errTamperedRow(index)
}

// inSession returns the caller's row, if they are active and their session is open.
func (d *Directory) inSession(r Reader, caller Caller) (signerRow, error) {
	view := r.View(projectionName)
	row, ok, err := d.rows.get(view, caller.ID)
	switch {
	case err != nil:
		return row, err
	case !ok || view.Get(bucketOpen, openKey(caller.ID, caller.Session)) == nil:
		return row, ErrSession
	}
	return row, stateError(row.State)
}

// passwordContext are words that a password of somebody must not be made of.
func (d *Directory) passwordContext(row signerRow) []string {
	words := []string{row.UserName, row.Name, row.Organisation, d.cfg.Organisation, "signet"}
	if u, err := url.Parse(d.cfg.Issuer); err == nil {
		words = append(words, u.Hostname())
	}
	return words
}

// leastPassword is the least number of characters of a password.
func (d *Directory) leastPassword(row signerRow) int {
	if row.TOTP != "" {
		return d.cfg.MinPasswordSecond
	}
	return d.cfg.MinPassword
}

// ChangePassword sets another password for the caller, who proves themselves with all that they have. Their other sessions end.
func (d *Directory) ChangePassword(ctx context.Context, caller Caller, p Proof, fresh Secret) error {
	if caller.Kind != chain.Person || caller.Session == "" {
		return fmt.Errorf("%w: only a person in a session has a password to change", ErrForbidden)
	}
	var own signerRow
	err := d.ledger.View(func(r *ledger.Read) (err error) {
		own, err = d.inSession(r, caller)
		return err
	})
	if err != nil {
		return err
	}
	// A password that cannot be is refused before the one-time password is spent.
	if err := d.checkFresh(ctx, caller, own, p.Password, fresh); err != nil {
		return err
	}
	if err := d.ProveAct(ctx, caller, p, purposePassword, "password"); err != nil {
		return err
	}
	release, err := d.hasher.acquireFor(ctx, attempt{actor: caller.Actor()})
	if err != nil {
		return err
	}
	verifier, err := d.newVerifier(ctx, own.UserName, fresh)
	release()
	if err != nil {
		return err
	}
	short := characters(fresh) < d.cfg.MinPassword
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		row, err := d.inSession(tx, caller)
		if err != nil {
			return err
		}
		if credentialsOf(row) != credentialsOf(own) || short && row.TOTP == "" {
			return fmt.Errorf("%w: your credentials were changed at the same time; try again", ErrState)
		}
		tx.PutPrivate(privateVerifiers, []byte(row.ID), []byte(verifier))
		tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: caller.Actor(), Body: signerCredential{
			Commitment: hexSum([]byte(verifier)), ID: row.ID, Kind: credentialPassword, Reason: "changed by its owner", Short: short,
		}})
		return nil
	})
	if err == nil {
		d.settle(ctx, result)
	}
	return err
}

// checkFresh looks at a new password in a place to compute, as estimating its strength takes time, too.
func (d *Directory) checkFresh(ctx context.Context, caller Caller, own signerRow, old, fresh Secret) error {
	release, err := d.hasher.acquireFor(ctx, attempt{actor: caller.Actor()})
	if err != nil {
		return err
	}
	defer release()
	if err := checkNewPassword(fresh, d.leastPassword(own), d.passwordContext(own), d.cfg.Blocklist); err != nil {
		return err
	}
	if normalPassword(old) == normalPassword(fresh) {
		return fmt.Errorf("%w: it is the one that you have", ErrWeakPassword)
	}
	return nil
}

// rehash replaces the verifier of a password that was right a moment ago, and whose verifier has another cost than is configured now, or none of
// the HSM in it. The caller holds a place to compute. If it fails the old one stays, and the next login tries again.
func (d *Directory) rehash(ctx context.Context, row signerRow, password Secret) {
	verifier, err := d.newVerifier(ctx, row.UserName, password)
	if err == nil {
		var result ledger.Result
		result, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
			now, _, err := getSigner(tx.View(projectionName), row.ID)
			if err != nil || now.Credential != row.Credential { // it is another one by now
				return err
			}
			tx.PutPrivate(privateVerifiers, []byte(row.ID), []byte(verifier))
			tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: System("passwords").Actor(), Body: signerCredential{
				Commitment: hexSum([]byte(verifier)), ID: row.ID, Kind: credentialVerifier, Reason: "the cost of a guess, or the key in the HSM, has changed",
				Short: row.PasswordShort,
			}})
			return nil
		})
		if err == nil {
			d.settle(ctx, result)
		}
	}
	if err != nil {
		d.cfg.Log.WarnContext(ctx, "a password verifier was not made anew", "signer", row.ID, "error", err)
	}
}

// passwordExpired reports whether ageing is on and the password is too old.
func (d *Directory) passwordExpired(row signerRow, now time.Time) bool {
	return d.cfg.PasswordAge > 0 && row.Credential != "" && !now.Before(row.PasswordTime.Time().Add(d.cfg.PasswordAge))
}
