package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/server/internal/ledger"
)

// passkeys is what the process knows of passkeys, beside the ledger.
type passkeys struct {
	cache passkeyCache

	mu      sync.Mutex
	started map[string]startedRegistration // by signer: each has one at the most
	tests   map[string]startedTest         // by signer, "/" and passkey
}

// startedRegistration waits for the answer of a device. It ends with the process.
type startedRegistration struct {
	token   string // SHA-256, hex
	label   string
	session webauthn.SessionData
	expires time.Time
}

// passkeyUser is a signer as the library wants them.
type passkeyUser struct{ row signerRow }

func (u passkeyUser) WebAuthnID() []byte                         { return []byte(u.row.ID) }
func (u passkeyUser) WebAuthnName() string                       { return u.row.UserName }
func (u passkeyUser) WebAuthnDisplayName() string                { return u.row.Name }
func (u passkeyUser) WebAuthnCredentials() []webauthn.Credential { return nil }

// relyingParty is the library for our pages.
func (d *Directory) relyingParty() (*webauthn.WebAuthn, error) {
	if d.cfg.Passkeys.RPID == "" {
		return nil, ErrPasskeysOff
	}
	return webauthn.New(&webauthn.Config{
		RPID: d.cfg.Passkeys.RPID, RPDisplayName: d.cfg.Organisation, RPOrigins: d.cfg.Passkeys.Origins, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationRequired,
		},
	})
}

// StartPasskey begins the registration of a passkey, after a fresh proof. It returns what navigator.credentials.create takes, and a token that
// the answer must come with.
func (d *Directory) StartPasskey(ctx context.Context, caller Caller, proof Proof, label string) (registration Secret, options []byte, expires time.Time, err error) {
	fail := func(err error) (Secret, []byte, time.Time, error) { return "", nil, time.Time{}, err }
	party, err := d.relyingParty()
	if err != nil {
		return fail(err)
	}
	if err := checkText("label", label, 1, 64); err != nil {
		return fail(err)
	}
	if err := d.ProveAct(ctx, caller, proof, PurposeCredential, "passkey"); err != nil {
		return fail(err)
	}
	var user passkeyUser
	var known []protocol.CredentialDescriptor
	err = d.settled(ctx, func(r *ledger.Read) error {
		known = nil
		row, ok, err := getSigner(r.View(projectionName), caller.ID)
		if err != nil || !ok {
			return errors.Join(err, ErrSession)
		}
		user = passkeyUser{row}
		rows, err := passkeysOf(r.View(projectionName), caller.ID)
		if err != nil {
			return err
		}
		if err := roomForPasskey(rows); err != nil {
			return err
		}
		for _, row := range rows {
			if row.State == PasskeyRevoked {
				continue
			}
			body, err := d.binding(r, row)
			if err != nil {
				return err
			}
			known = append(known, protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: protocol.URLEncodedBase64(body.Binding.CredentialID)})
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	creation, session, err := party.BeginRegistration(user, webauthn.WithExclusions(known), webauthn.WithCredentialParameters([]protocol.CredentialParameter{
		{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256}, {Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
		{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
	}))
	if err != nil {
		return fail(err)
	}
	creation.Response.Timeout = int(d.cfg.Passkeys.Lifetime.Milliseconds())
	if options, err = json.Marshal(creation.Response); err != nil {
		return fail(err)
	}
	token := rand.Text()
	expires = d.cfg.Clock().Add(d.cfg.Passkeys.Lifetime)
	d.passkeys.start(caller.ID, startedRegistration{token: hexSum([]byte(token)), label: label, session: *session, expires: expires}, d.cfg.Clock())
	return Secret(token), options, expires, nil
}

// maxStarted bounds registrations that wait.
const maxStarted = 10000

func (p *passkeys) start(signer string, s startedRegistration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started == nil {
		p.started = map[string]startedRegistration{}
	}
	if len(p.started) >= maxStarted {
		for id, old := range p.started {
			if !now.Before(old.expires) {
				delete(p.started, id)
			}
		}
	}
	p.started[signer] = s
}

// take ends a registration: its token works once.
func (p *passkeys) take(signer string, token Secret, now time.Time) (startedRegistration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.started[signer]
	if !ok || s.token != hexSum([]byte(token.Reveal())) || !now.Before(s.expires) {
		return startedRegistration{}, ErrRegistrationLapsed
	}
	delete(p.started, signer)
	return s, nil
}

func roomForPasskey(rows []passkeyRow) error {
	current := 0
	for _, row := range rows {
		if row.State != PasskeyRevoked {
			current++
		}
	}
	if current >= maxPasskeys || len(rows) >= maxPasskeysAll {
		return fmt.Errorf("%w: you have %d passkeys; revoke one that you no longer use", ErrPasskeyState, current)
	}
	return nil
}

// FinishPasskey ends a registration with the device's answer, RegistrationResponseJSON. The passkey waits to be vouched for; a first
// administrator's is bound at once, and belongs into the trust file.
func (d *Directory) FinishPasskey(ctx context.Context, caller Caller, registration Secret, response []byte) (Passkey, error) {
	party, err := d.relyingParty()
	if err != nil {
		return Passkey{}, err
	}
	s, err := d.passkeys.take(caller.ID, registration, d.cfg.Clock())
	if err != nil {
		return Passkey{}, err
	}
	b, err := d.registered(party, s, response)
	if err != nil {
		return Passkey{}, err
	}
	if _, err := d.ledger.Checkpointed(ctx, d.ledger.Size()); err != nil {
		return Passkey{}, err
	}
	_, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		row, err := d.inSession(tx, caller)
		if err != nil {
			return err
		}
		for _, name := range []string{"cred:" + string(credentialKey(b.CredentialID)), "key:" + b.Key().ID()} {
			if view.Get(bucketPasskeyNames, []byte(name)) != nil {
				return ErrPasskeyTaken
			}
		}
		rows, err := passkeysOf(view, caller.ID)
		if err != nil {
			return err
		}
		if err := roomForPasskey(rows); err != nil {
			return err
		}
		b := b
		b.Signer, b.Name, b.Registered = row.ID, row.Name, passkey.Time(tx.Now().Time())
		b.Vouches = d.mayAdminister(tx, caller) == nil
		if err := b.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrPasskeyInvalid, err)
		}
		index := tx.Emit(ledger.Event{Type: chain.PasskeyRegistered, Actor: caller.Actor(), Body: passkeyRegistered{Binding: b, KeyID: b.Key().ID(), Label: s.label, Signer: b.Signer}})
		others, err := d.vouchingSigners(tx)
		if err != nil {
			return err
		}
		if b.Vouches && others < passkey.Vouchers {
			index = tx.Emit(ledger.Event{Type: chain.PasskeyBound, Actor: caller.Actor(), Body: passkey.NewBound(b)})
			d.passkeyAlert(tx, alertPasskeyPinned, caller.ID, index, "A passkey of an administrator was bound without vouchers: it belongs into the trust file, and everybody who verifies must pin that anew.")
			return nil
		}
		d.passkeyAlert(tx, alertPasskey, caller.ID, index, "A passkey was registered for you. It signs once it is vouched for.")
		return nil
	})
	if err != nil {
		return Passkey{}, err
	}
	return d.Passkey(ctx, caller.ID, b.Nonce)
}

// registered checks the device's answer and returns the binding as far as it is known.
func (d *Directory) registered(party *webauthn.WebAuthn, s startedRegistration, response []byte) (passkey.Binding, error) {
	bad := func(err error) (passkey.Binding, error) {
		return passkey.Binding{}, fmt.Errorf("%w: %s", ErrPasskeyInvalid, describe(err))
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return bad(err)
	}
	c, err := party.CreateCredential(passkeyUser{signerRow{ID: string(s.session.UserID)}}, s.session, parsed)
	if err != nil {
		return bad(err)
	}
	spki, err := spkiOfCOSE(c.PublicKey)
	if err != nil {
		return bad(err)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	aaguid := make([]byte, 16)
	copy(aaguid, c.Authenticator.AAGUID)
	return passkey.Binding{
		AAGUID: hex.EncodeToString(aaguid), BackupEligible: c.Flags.BackupEligible, CredentialID: c.ID, Format: passkey.Format, Ledger: d.ledger.Head().Checkpoint.Origin,
		Nonce: hex.EncodeToString(nonce), Origins: d.cfg.Passkeys.Origins, RPID: d.cfg.Passkeys.RPID, SPKI: spki,
	}, nil
}

// describe is what the library has to say.
func describe(err error) string {
	if e := (*protocol.Error)(nil); errors.As(err, &e) {
		return fmt.Sprintf("%s (%s)", e.Details, e.DevInfo)
	}
	return err.Error()
}

// spkiOfCOSE is a COSE key (RFC 9053) as SubjectPublicKeyInfo.
func spkiOfCOSE(cose []byte) ([]byte, error) {
	parsed, err := webauthncose.ParsePublicKey(cose)
	if err != nil {
		return nil, err
	}
	var public any
	switch key := parsed.(type) {
	case webauthncose.EC2PublicKeyData:
		if key.Algorithm != int64(webauthncose.AlgES256) || key.Curve != int64(webauthncose.P256) || len(key.XCoord) != 32 || len(key.YCoord) != 32 {
			return nil, errors.New("a key that is not P-256 with ES256")
		}
		if public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, key.XCoord...), key.YCoord...)); err != nil {
			return nil, err
		}
	case webauthncose.OKPPublicKeyData:
		if key.Algorithm != int64(webauthncose.AlgEdDSA) || key.Curve != int64(webauthncose.Ed25519) || len(key.XCoord) != ed25519.PublicKeySize {
			return nil, errors.New("a key that is not Ed25519 with EdDSA")
		}
		public = ed25519.PublicKey(key.XCoord)
	case webauthncose.RSAPublicKeyData:
		if key.Algorithm != int64(webauthncose.AlgRS256) || len(key.Exponent) > 4 {
			return nil, errors.New("a key that is not RSA with RS256")
		}
		public = &rsa.PublicKey{N: new(big.Int).SetBytes(key.Modulus), E: int(new(big.Int).SetBytes(key.Exponent).Int64())}
	default:
		return nil, fmt.Errorf("a key of an unknown kind %T", parsed)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	_, err = passkey.ParseSPKI(spki)
	return spki, err
}

// vouchingSigners counts the administrators who have a passkey that may vouch.
func (d *Directory) vouchingSigners(r Reader) (int, error) {
	people := map[string]bool{}
	var failed error
	r.View(projectionName).Ascend(bucketPasskeyVouches, nil, func(k, _ []byte) bool {
		signer, _, _ := strings.Cut(string(k), "/")
		switch err := d.mayAdminister(r, Caller{ID: signer, Kind: chain.Person}); {
		case err == nil:
			people[signer] = true
		case !errors.Is(err, ErrForbidden):
			failed = err
		}
		return failed == nil && len(people) < passkey.Vouchers
	})
	return len(people), failed
}
