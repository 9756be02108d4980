package identity

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// # One-time passwords
//
// A person can add time-based one-time passwords (RFC 6238: HMAC-SHA-1, 6 digits, steps of 30 s, which is what every authenticator app knows).
// From then on they belong to every proof of that person's password, at login, for each signature and each change. A code holds one step before
// and one after its own. The entry credential.used spends its step, together with what it proves or right before: neither that step nor an
// earlier one counts again, whatever happens afterwards.
//
// The seed lies beside the ledger, encrypted with AES-256-GCM under a key that the HSM computes, in the form
//
//	$totp$v=1,k=3f0a9c…$NONCE$CIPHERTEXT
//
// and signer.credential of the kind "totp" holds the SHA-256 of all of it.
const (
	privateTOTP = "identity.totp" // signer id → sealed seed

	totpStep    = 30 // seconds
	totpDigits  = 6
	totpSkew    = 1 // steps
	seedSize    = 20
	macSeal     = "one-time password seal v1"
	totpPending = 10 * time.Minute // for the first code
)

// pendingSeeds are those whose first code has not been seen. They live as long as the process.
type pendingSeeds struct {
	mu    sync.Mutex
	seeds map[string]pendingSeed // by session
}

type pendingSeed struct {
	signer  string
	seed    []byte
	expires time.Time
}

// maxPendingSeeds bounds what sessions can leave behind.
const maxPendingSeeds = 10000

func (p *pendingSeeds) put(session string, s pendingSeed, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, old := range p.seeds {
		if !now.Before(old.expires) {
			delete(p.seeds, id)
		}
	}
	if p.seeds == nil || len(p.seeds) >= maxPendingSeeds {
		p.seeds = map[string]pendingSeed{}
	}
	p.seeds[session] = s
}

func (p *pendingSeeds) get(session string) (pendingSeed, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.seeds[session]
	return s, ok
}

func (p *pendingSeeds) drop(session string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.seeds, session)
}

// seal encrypts a seed for its signer.
func (d *Directory) seal(ctx context.Context, key keystore.MACKey, signer string, seed []byte) (string, error) {
	nonce := make([]byte, 12)
	rand.Read(nonce)
	aead, err := d.sealer(ctx, key, signer)
	if err != nil {
		return "", err
	}
	k := keyName(key)
	return fmt.Sprintf("$totp$v=1,k=%s$%s$%s", k, b64.EncodeToString(nonce), b64.EncodeToString(aead.Seal(nil, nonce, seed, []byte(signer+"/"+k)))), nil
}

func (d *Directory) sealer(ctx context.Context, key keystore.MACKey, signer string) (cipher.AEAD, error) {
	secret, err := d.computeMAC(ctx, key, macSeal, []byte(signer))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// unseal decrypts a seed.
func (d *Directory) unseal(ctx context.Context, key keystore.MACKey, signer, sealed string) ([]byte, error) {
	bad := fmt.Errorf("%w: the seed of the one-time passwords of %s is not in its form", ErrTampered, signer)
	parts := strings.Split(sealed, "$")
	if len(sealed) > 512 || len(parts) != 5 || parts[1] != "totp" {
		return nil, bad
	}
	if parts[2] != "v=1,k="+keyName(key) {
		return nil, fmt.Errorf("%w: the seed of the one-time passwords of %s was sealed with another MAC key", ErrTampered, signer)
	}
	nonce, err1 := b64.DecodeString(parts[3])
	box, err2 := b64.DecodeString(parts[4])
	aead, err := d.sealer(ctx, key, signer)
	switch {
	case err != nil:
		return nil, err
	case err1 != nil || err2 != nil || len(nonce) != aead.NonceSize():
		return nil, bad
	}
	seed, err := aead.Open(nil, nonce, box, []byte(signer+"/"+keyName(key)))
	if err != nil || len(seed) != seedSize {
		return nil, bad
	}
	return seed, nil
}

// codeOf is the code of a step.
func codeOf(seed []byte, step uint64) (string, error) {
	return hotp.GenerateCodeCustom(base32NoPad.EncodeToString(seed), step, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
}

// stepOf finds the step of a code, near a time. Every step near it is computed, whichever fits.
func stepOf(seed []byte, code Secret, now time.Time) (step uint64, ok bool, err error) {
	at := uint64(max(now.Unix(), 0)) / totpStep
	for s := at - min(at, totpSkew); s <= at+totpSkew; s++ {
		want, err := codeOf(seed, s)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code.Reveal())) == 1 {
			step, ok = s, true
		}
	}
	return step, ok, nil
}

// checkCode checks a one-time password against the seed of a candidate. For who has none the HSM computes all the same, so that the time tells
// nothing.
func (d *Directory) checkCode(ctx context.Context, key keystore.MACKey, c candidate, code Secret) (step uint64, ok bool, err error) {
	if c.seed == "" {
		_, err = d.sealer(ctx, key, c.row.ID)
		return 0, true, err
	}
	seed, err := d.unseal(ctx, key, c.row.ID, c.seed)
	if err != nil {
		return 0, false, err
	}
	return stepOf(seed, code, d.cfg.Clock())
}

// errSpent: the step of a one-time password has counted already, or a later one has. Callers hear that their credentials are wrong.
var errSpent = errors.New("the one-time password was used before")

// spend appends that a step has counted. Step 0 stands for a proof without a one-time password.
func spend(tx *ledger.Tx, actor chain.Actor, a attempt, now signerRow, step uint64) error {
	if step == 0 {
		return nil
	}
	if step <= now.TOTPStep {
		return errSpent
	}
	tx.Emit(ledger.Event{Type: chain.CredentialUsed, Actor: actor, Body: credentialUsed{
		ID: now.ID, Kind: credentialTOTP, Purpose: a.purpose, Step: step, Subject: a.subject,
	}})
	return nil
}

// NewTOTP is a seed that its owner has not used yet.
type NewTOTP struct {
	Secret  Secret // base32
	URI     Secret // otpauth://
	Expires time.Time
}

// StartTOTP makes a seed for the caller, who proves themselves for it. It counts for nothing until ConfirmTOTP has seen a code of it.
func (d *Directory) StartTOTP(ctx context.Context, caller Caller, p Proof) (NewTOTP, error) {
	if err := d.ProveAct(ctx, caller, p, PurposeCredential, "totp"); err != nil {
		return NewTOTP{}, err
	}
	var own signerRow
	err := d.ledger.View(func(r *ledger.Read) (err error) {
		own, _, err = getSigner(r.View(projectionName), caller.ID)
		return err
	})
	if err != nil {
		return NewTOTP{}, err
	}
	if own.TOTP != "" {
		return NewTOTP{}, ErrTOTPPresent
	}
	seed := make([]byte, seedSize)
	rand.Read(seed)
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: strings.NewReplacer(":", " ", "%", " ").Replace(d.cfg.Organisation) + " Signet", AccountName: own.UserName, Period: totpStep,
		Secret: seed, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return NewTOTP{}, fmt.Errorf("one-time passwords: %w", err)
	}
	now := d.cfg.Clock()
	out := NewTOTP{Secret: Secret(key.Secret()), URI: Secret(key.URL()), Expires: now.Add(totpPending)}
	d.pending.put(caller.Session, pendingSeed{signer: caller.ID, seed: seed, expires: out.Expires}, now)
	return out, nil
}

// ConfirmTOTP sets the seed of StartTOTP, with a code of it, whose step is spent. All other sessions of the caller end. A wrong code counts as a
// failure.
func (d *Directory) ConfirmTOTP(ctx context.Context, caller Caller, code Secret) error {
	pending, ok := d.pending.get(caller.Session)
	now := d.cfg.Clock()
	if caller.Kind != chain.Person || caller.Session == "" || !ok || pending.signer != caller.ID || !now.Before(pending.expires) {
		return ErrTOTPNotStarted
	}
	a := attempt{purpose: PurposeCredential, subject: "totp", owner: caller.ID, actor: caller.Actor()}
	err := d.ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		own, _, err := getSigner(view, caller.ID)
		if err != nil {
			return err
		}
		a.counter, a.name, a.blinded = own.Login, own.UserName, own.Login
		return d.checkLock(view, a)
	})
	if err != nil {
		return err
	}
	step, right, err := stepOf(pending.seed, code, now)
	if err != nil {
		return err
	}
	if !right {
		return d.recordFailure(context.WithoutCancel(ctx), a, caller.ID)
	}
	key, err := d.macKey(ctx)
	if err != nil {
		return err
	}
	sealed, err := d.seal(ctx, key, caller.ID, pending.seed)
	if err != nil {
		return err
	}
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		row, err := d.inSession(tx, caller)
		if err != nil {
			return err
		}
		if row.TOTP != "" {
			return ErrTOTPPresent
		}
		tx.PutPrivate(privateTOTP, []byte(row.ID), []byte(sealed))
		tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: caller.Actor(), Body: signerCredential{
			Commitment: hexSum([]byte(sealed)), ID: row.ID, Kind: credentialTOTP, Reason: "set by its owner",
		}})
		row.TOTPStep = 0
		return spend(tx, caller.Actor(), a, row, step)
	})
	if err != nil {
		return err
	}
	d.pending.drop(caller.Session)
	d.settle(ctx, result)
	return nil
}

// RemoveTOTP removes one-time passwords: those of the caller, who proves themselves with all credentials, or, for an administrator, those of
// somebody who has lost the device. A password that was short because there was a second factor goes with it: an administrator ends it, and its
// owner sets a longer one first.
func (d *Directory) RemoveTOTP(ctx context.Context, caller Caller, id string, p Proof, reason string) error {
	if id == "" {
		id = caller.ID
	}
	if err := checkReason(reason); err != nil {
		return err
	}
	check := func(r Reader) (signerRow, error) {
		row, ok, err := getSigner(r.View(projectionName), id)
		if id != caller.ID {
			if err := d.mayAdminister(r, caller); err != nil {
				return row, err
			}
		}
		switch {
		case err != nil:
			return row, err
		case !ok || row.Service:
			return row, ErrNotFound
		case row.TOTP == "":
			return row, ErrTOTPAbsent
		case id == caller.ID && row.PasswordShort:
			return row, fmt.Errorf("%w: your password has fewer than %d characters, which is enough with a second factor only; change it first",
				ErrWeakPassword, d.cfg.MinPassword)
		}
		return row, nil
	}
	if err := d.ledger.View(func(r *ledger.Read) error { _, err := check(r); return err }); err != nil {
		return err
	}
	if err := d.ProveAct(ctx, caller, p, PurposeCredential, id); err != nil {
		return err
	}
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		row, err := check(tx)
		if err != nil {
			return err
		}
		if id == caller.ID {
			if _, err := d.inSession(tx, caller); err != nil {
				return err
			}
		}
		tx.DeletePrivate(privateTOTP, []byte(id))
		tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: caller.Actor(), Body: signerCredential{ID: id, Kind: credentialTOTP, Reason: reason}})
		if row.PasswordShort && row.Credential != "" {
			tx.DeletePrivate(privateVerifiers, []byte(id))
			tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: caller.Actor(), Body: signerCredential{
				ID: id, Kind: credentialPassword, Reason: "it was too short without a second factor; " + reason,
			}})
		}
		return nil
	})
	if err == nil {
		d.settle(ctx, result)
	}
	return err
}

// applyUsed notes the last step that has counted.
func applyUsed(s *ledger.State, e chain.Entry) error {
	body, err := readBody[credentialUsed](e)
	if err != nil {
		return err
	}
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	if body.Kind != credentialTOTP {
		return fmt.Errorf("entry %d: credential.used of the unknown kind %.40q", e.Index, body.Kind)
	}
	row.TOTPStep = max(row.TOTPStep, body.Step)
	return putSigner(s, row)
}
