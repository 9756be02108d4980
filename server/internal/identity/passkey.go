package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/server/internal/ledger"
)

// Passkeys. What they are worth to a verifier, and the rule by which one is bound to its signer, stands in package passkey. Here they are
// registered, vouched for and revoked, each in an entry, and their assertions are checked before a key signs:
//
//   - `passkey.registered`: the device has answered, and the binding is written. It signs nothing yet;
//   - `passkey.vouched`: an administrator's passkey has vouched for it, and one more must;
//   - `passkey.bound`: the binding with all that vouches for it. While fewer than two administrators have a passkey, an administrator's own is
//     bound without: it is the trust file that binds it, which people pin;
//   - `passkey.revoked`: it never counts again.

// Errors about passkeys.
var (
	// ErrPasskeysOff: the server has no pages that a browser could use a passkey at. Configure pages.publicURL.
	ErrPasskeysOff = errors.New("there are no passkeys here: the server has no signing pages (pages.address)")
	// ErrPasskeyInvalid: the device's answer to a registration cannot be used: the message says why.
	ErrPasskeyInvalid = errors.New("the passkey cannot be registered")
	// ErrRegistrationLapsed: the registration is unknown, of somebody else or too old. Start again.
	ErrRegistrationLapsed = errors.New("there is no such registration, or it has lapsed: start again")
	// ErrPasskeyTaken: the passkey is or was registered. A new one is needed.
	ErrPasskeyTaken = errors.New("this passkey is registered already; passkeys are never registered a second time")
	// ErrPasskeyState: the passkey's state does not allow it: the message says why.
	ErrPasskeyState = errors.New("the passkey's state does not allow this")
)

// PasskeyConfig says for whom passkeys are. The zero value: there are none.
type PasskeyConfig struct {
	RPID     string        // relying party: the host name of the pages
	Origins  []string      // of the pages
	Lifetime time.Duration // of a registration; 5 min
}

func (c *PasskeyConfig) settle() error {
	if c.Lifetime == 0 {
		c.Lifetime = 5 * time.Minute
	}
	if c.RPID == "" && len(c.Origins) == 0 {
		return nil
	}
	return passkey.CheckRelyingParty(c.RPID, c.Origins)
}

// The most passkeys of one signer that were not revoked, and of all.
const (
	maxPasskeys    = 10
	maxPasskeysAll = 200
)

// PasskeyState is where a passkey stands.
type PasskeyState string

// The states.
const (
	PasskeyPending PasskeyState = "pending" // registered, and not vouched for
	PasskeyBound   PasskeyState = "bound"   // it signs
	PasskeyRevoked PasskeyState = "revoked" // it signs no more
)

// Passkey is a passkey as others may see it.
type Passkey struct {
	ID       string // nonce of its binding
	Signer   string
	Label    string
	State    PasskeyState
	Binding  passkey.Binding
	Vouchers []string // ids of signers
	Pinned   bool     // the trust file binds it
	Created  time.Time
	Index    uint64 // of the entry passkey.registered: the place in a list
}

// passkeyRow is what the projection knows of a passkey.
type passkeyRow struct {
	ID         string       `json:"id"`
	Signer     string       `json:"signer"`
	State      PasskeyState `json:"state"`
	Created    chain.Time   `json:"created"`
	Registered uint64       `json:"registered"` // index of passkey.registered
	Bound      uint64       `json:"bound"`      // index of passkey.bound; 0: none
	Revoked    uint64       `json:"revoked"`    // index of passkey.revoked; 0: none
	Credential string       `json:"credential"` // SHA-256 of the credential id, hex
	KeyID      string       `json:"keyId"`
	Vouches    bool         `json:"vouches"`
	Pinned     bool         `json:"pinned"`
	Vouched    []vouchedRow `json:"vouched"`
}

// vouchedRow is a voucher that was given before the passkey was bound.
type vouchedRow struct {
	Signer string `json:"signer"`
	Index  uint64 `json:"index"` // of passkey.vouched
}

// Bodies. Those of passkey.bound and passkey.revoked stand in package passkey, because verifiers read them.
type (
	// passkeyRegistered: a device has answered.
	passkeyRegistered struct {
		Binding passkey.Binding `json:"binding"`
		KeyID   string          `json:"keyId"`
		Label   string          `json:"label"`
		Signer  string          `json:"signer"`
	}
	// passkeyVouched: a passkey of somebody else vouches for it.
	passkeyVouched struct {
		Nonce   string          `json:"nonce"`
		Signer  string          `json:"signer"` // whose passkey it is
		Voucher passkey.Voucher `json:"voucher"`
	}
)

// passkeyCache keeps bindings that were proved once, by the index of their entry: see provedCache.
type passkeyCache struct {
	mu   sync.RWMutex
	rows map[uint64]passkey.Bound
}

func (d *Directory) bound(r Reader, row passkeyRow) (passkey.Bound, error) {
	c := &d.passkeys.cache
	c.mu.RLock()
	b, ok := c.rows[row.Bound]
	c.mu.RUnlock()
	if !ok {
		e, err := provedEntry(r, row.Bound, chain.PasskeyBound)
		if err != nil {
			return b, err
		}
		if b, err = passkey.ParseBound(e.Body); err != nil {
			return b, err
		}
		c.mu.Lock()
		if c.rows == nil || len(c.rows) >= maxProved {
			c.rows = map[uint64]passkey.Bound{}
		}
		c.rows[row.Bound] = b
		c.mu.Unlock()
	}
	if b.Binding.Signer != row.Signer || b.Binding.Nonce != row.ID || b.Binding.Key().ID() != row.KeyID || b.Binding.Vouches != row.Vouches {
		return b, errTamperedRow(row.Bound)
	}
	return b, nil
}

// provedEntry reads an entry of a type, proved against the last signed checkpoint.
func provedEntry(r Reader, index uint64, kind chain.Type) (chain.Entry, error) {
	raw, err := r.ProvedEntry(index)
	if err != nil {
		return chain.Entry{}, err
	}
	e, err := chain.ParseEntry(raw)
	if err == nil && e.Type != kind {
		err = errTamperedRow(index)
	}
	return e, err
}

// binding is that of a passkey in whatever state, from the entry that registered it.
func (d *Directory) binding(r Reader, row passkeyRow) (passkeyRegistered, error) {
	e, err := provedEntry(r, row.Registered, chain.PasskeyRegistered)
	if err != nil {
		return passkeyRegistered{}, err
	}
	body, err := readBody[passkeyRegistered](e)
	if err == nil && (body.Binding.Signer != row.Signer || body.Binding.Nonce != row.ID || body.Binding.Key().ID() != row.KeyID) {
		err = errTamperedRow(row.Registered)
	}
	return body, err
}

// assertionError says why an assertion does not prove somebody. It is an [ErrBadCredentials].
type assertionError struct{ cause error }

// Error implements error.
func (e *assertionError) Error() string { return "the passkey does not prove you: " + e.cause.Error() }

// Is makes the error an [ErrBadCredentials].
func (e *assertionError) Is(target error) bool { return target == ErrBadCredentials }

// holder finds a signer's passkey that counts now, proved.
func (d *Directory) holder(r Reader, signer string, credentialID []byte) (passkey.Holder, error) {
	view := r.View(projectionName)
	row, ok, err := passkeyOf(view, credentialID)
	switch {
	case err != nil:
		return passkey.Holder{}, err
	case !ok || row.Signer != signer || row.State == PasskeyPending:
		return passkey.Holder{}, &assertionError{errors.New("it is not bound to you")}
	case row.State != PasskeyBound:
		return passkey.Holder{}, &assertionError{errors.New("it was revoked")}
	}
	b, err := d.bound(r, row)
	if err != nil {
		return passkey.Holder{}, err
	}
	return passkey.Holder{Key: b.Binding.Key(), Name: b.Binding.Name, Vouches: b.Binding.Vouches}, nil
}

// checkAssertion holds an assertion of a signer's passkey against a challenge. What it leans on is read from entries proved by inclusion. An
// assertion that proves nothing is an [ErrBadCredentials]; the caller counts it.
func (d *Directory) checkAssertion(r Reader, signerID string, challenge [32]byte, a *passkey.Assertion) (manifest.Authorization, error) {
	if a == nil {
		return manifest.Authorization{}, &assertionError{errors.New("none was given")}
	}
	h, err := d.holder(r, signerID, a.CredentialID)
	if err != nil {
		return manifest.Authorization{}, err
	}
	row, ok, err := d.rows.get(r.View(projectionName), signerID)
	if err != nil || !ok {
		return manifest.Authorization{}, errors.Join(err, ErrNotFound)
	}
	if row.Name != h.Name {
		return manifest.Authorization{}, fmt.Errorf("%w: it is bound to you under the name %q, and your name is %q; register a new one and have it vouched for",
			ErrPasskeyState, h.Name, row.Name)
	}
	if err := passkey.Verify(h.Key, challenge, *a); err != nil {
		return manifest.Authorization{}, &assertionError{err}
	}
	if err := d.relyOn(r, signerID, a.CredentialID); err != nil {
		return manifest.Authorization{}, err
	}
	return manifest.Authorization{
		Kind: manifest.AuthorizationPasskey, AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, CredentialID: a.CredentialID,
		Signature: a.Signature,
	}, nil
}

// requestOptions are PublicKeyCredentialRequestOptionsJSON (WebAuthn Level 3, section 5.1.10).
type requestOptions struct {
	AllowCredentials []credentialDescriptor `json:"allowCredentials"`
	Challenge        passkey.Base64URL      `json:"challenge"`
	RPID             string                 `json:"rpId"`
	Timeout          int64                  `json:"timeout"` // ms
	UserVerification string                 `json:"userVerification"`
}

type credentialDescriptor struct {
	ID   passkey.Base64URL `json:"id"`
	Type string            `json:"type"`
}

// PasskeyOptions returns what a browser needs to have a challenge signed by a passkey of the signer's that is bound:
// PublicKeyCredentialRequestOptionsJSON. nil: the signer has none. With vouching only those count that may vouch for others.
func (d *Directory) PasskeyOptions(r Reader, signer string, challenge [32]byte, vouching bool) ([]byte, error) {
	rows, err := passkeysOf(r.View(projectionName), signer)
	if err != nil {
		return nil, err
	}
	o := requestOptions{Challenge: challenge[:], RPID: d.cfg.Passkeys.RPID, Timeout: d.cfg.Passkeys.Lifetime.Milliseconds(), UserVerification: "required"}
	for _, row := range rows {
		if row.State != PasskeyBound || vouching && !row.Vouches {
			continue
		}
		b, err := d.bound(r, row)
		if err != nil {
			return nil, err
		}
		if b.Binding.RPID == o.RPID {
			o.AllowCredentials = append(o.AllowCredentials, credentialDescriptor{b.Binding.CredentialID, "public-key"})
		}
	}
	if len(o.AllowCredentials) == 0 {
		return nil, nil
	}
	return jcs.Marshal(o)
}

// SigningOptions is [Directory.PasskeyOptions] for the challenge of a statement.
func (d *Directory) SigningOptions(ctx context.Context, signer string, challenge [32]byte) (options []byte, err error) {
	err = d.settled(ctx, func(r *ledger.Read) error {
		options, err = d.PasskeyOptions(r, signer, challenge, false)
		return err
	})
	return options, err
}

// VouchingOptions returns the options with which the caller can vouch for a passkey, and the challenge in them; nil: with none of theirs.
func (d *Directory) VouchingOptions(ctx context.Context, caller Caller, signer, id string) (options []byte, err error) {
	err = d.settled(ctx, func(r *ledger.Read) error {
		row, err := mustPasskey(r.View(projectionName), signer, id)
		if err != nil {
			return err
		}
		body, err := d.binding(r, row)
		if err != nil {
			return err
		}
		challenge, err := body.Binding.Challenge()
		if err != nil {
			return err
		}
		options, err = d.PasskeyOptions(r, caller.ID, challenge, caller.ID != signer)
		return err
	})
	return options, err
}

// PasskeySupport returns the entries that a verdict about a passkey's signature leans on: its binding, those of whatever vouches for it, and
// every revocation of these passkeys and of their signers.
func (d *Directory) PasskeySupport(r Reader, signer string, credentialID []byte) ([]uint64, error) {
	view := r.View(projectionName)
	var out []uint64
	seen := map[string]bool{}
	type link struct {
		signer     string
		credential []byte
	}
	for open := []link{{signer, credentialID}}; len(open) > 0; {
		next := open[0]
		open = open[1:]
		row, ok, err := passkeyOf(view, next.credential)
		if err != nil {
			return nil, err
		}
		if !ok || row.Signer != next.signer || row.Bound == 0 || seen[row.KeyID] {
			continue
		}
		seen[row.KeyID] = true
		out = append(out, row.Bound)
		if row.Revoked != 0 {
			out = append(out, row.Revoked)
		}
		if next.signer != signer && !seen[next.signer] {
			seen[next.signer] = true
			out = append(out, revocationsOf(view, next.signer)...)
		}
		b, err := d.bound(r, row)
		if err != nil {
			return nil, err
		}
		for _, v := range b.Vouchers {
			open = append(open, link{v.Signer, v.CredentialID})
		}
	}
	return out, nil
}

// Passkey returns a passkey.
func (d *Directory) Passkey(_ context.Context, signer, id string) (p Passkey, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		row, err := mustPasskey(r.View(projectionName), signer, id)
		if err == nil {
			p, err = d.shownPasskey(r, row)
		}
		return err
	})
	return p, err
}

// Passkeys returns up to limit passkeys of a signer after an index; those of everybody that wait to be vouched for, without a signer.
func (d *Directory) Passkeys(_ context.Context, signer string, after uint64, limit int) (out []Passkey, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		var rows []passkeyRow
		if signer != "" {
			if rows, err = passkeysOf(view, signer); err != nil {
				return err
			}
		} else if rows, err = pendingPasskeys(view, after, limit); err != nil {
			return err
		}
		for _, row := range rows {
			if row.Registered <= after || len(out) == limit {
				continue
			}
			p, err := d.shownPasskey(r, row)
			if err != nil {
				return err
			}
			out = append(out, p)
		}
		return nil
	})
	return out, err
}

// shownPasskey is for people to see: nothing is decided by it.
func (d *Directory) shownPasskey(r *ledger.Read, row passkeyRow) (Passkey, error) {
	body, err := d.binding(unproved{r}, row)
	if err != nil {
		return Passkey{}, err
	}
	p := Passkey{
		ID: row.ID, Signer: row.Signer, Label: body.Label, State: row.State, Binding: body.Binding, Pinned: row.Pinned, Created: row.Created.Time(), Index: row.Registered,
	}
	if row.Bound != 0 {
		e, err := provedEntry(unproved{r}, row.Bound, chain.PasskeyBound)
		if err != nil {
			return p, err
		}
		b, err := passkey.ParseBound(e.Body)
		if err != nil {
			return p, err
		}
		for _, v := range b.Vouchers {
			p.Vouchers = append(p.Vouchers, v.Signer)
		}
		return p, nil
	}
	for _, v := range row.Vouched {
		p.Vouchers = append(p.Vouchers, v.Signer)
	}
	return p, nil
}

// PinnedPasskeys are those that the trust file must name: the first administrators'.
func (d *Directory) PinnedPasskeys(ctx context.Context) (out []manifest.TrustPasskey, err error) {
	err = d.settled(ctx, func(r *ledger.Read) error {
		out = nil
		view := r.View(projectionName)
		var rows []passkeyRow
		var failed error
		view.Ascend(bucketPasskeyRoots, nil, func(k, _ []byte) bool {
			row, err := mustPasskeyKey(view, k)
			if failed = err; err == nil {
				rows = append(rows, row)
			}
			return failed == nil
		})
		if failed != nil {
			return failed
		}
		slices.SortFunc(rows, func(a, b passkeyRow) int { return int(a.Registered) - int(b.Registered) })
		for _, row := range rows {
			b, err := d.bound(r, row)
			if err != nil {
				return err
			}
			out = append(out, manifest.TrustPasskey{
				CredentialID: manifest.Base64URL(b.Binding.CredentialID), Name: b.Binding.Name, Origins: b.Binding.Origins, RPID: b.Binding.RPID,
				Signer: b.Binding.Signer, SPKI: b.Binding.SPKI,
			})
		}
		return nil
	})
	return out, err
}

func credentialKey(credentialID []byte) []byte {
	sum := sha256.Sum256(credentialID)
	return []byte(hex.EncodeToString(sum[:]))
}

// The buckets of passkeys.
const (
	bucketPasskeys       = "passkeys"       // signer, "/", id → passkeyRow
	bucketPasskeyNames   = "passkeynames"   // "cred:" and the hex SHA-256 of the credential id, or "key:" and the key id → signer, "/", id; never removed
	bucketPasskeyQueue   = "passkeyqueue"   // index of passkey.registered → signer, "/", id, of those that wait
	bucketPasskeyVouches = "passkeyvouches" // signer, "/", id → nothing, of those that are bound and may vouch
	bucketPasskeyRoots   = "passkeyroots"   // signer, "/", id → nothing, of those that are bound by the trust file
)

func passkeyKey(signer, id string) []byte { return []byte(signer + "/" + id) }

func mustPasskey(s reader, signer, id string) (passkeyRow, error) {
	return mustPasskeyKey(s, passkeyKey(signer, id))
}

func mustPasskeyKey(s reader, key []byte) (row passkeyRow, err error) {
	ok, err := get(s, bucketPasskeys, key, &row)
	if err == nil && !ok {
		err = ErrPasskeyAbsent
	}
	return row, err
}

// passkeyOf finds a passkey by its credential id, whoever's it is.
func passkeyOf(s reader, credentialID []byte) (row passkeyRow, ok bool, err error) {
	key := s.Get(bucketPasskeyNames, append([]byte("cred:"), credentialKey(credentialID)...))
	if key == nil {
		return row, false, nil
	}
	row, err = mustPasskeyKey(s, key)
	return row, err == nil, err
}

// passkeysOf are those of a signer, in the order of their registration.
func passkeysOf(view *ledger.State, signer string) (rows []passkeyRow, err error) {
	view.Prefix(bucketPasskeys, []byte(signer+"/"), func(_, v []byte) bool {
		var row passkeyRow
		if err = decode(bucketPasskeys, v, &row); err == nil {
			rows = append(rows, row)
		}
		return err == nil
	})
	slices.SortFunc(rows, func(a, b passkeyRow) int { return int(a.Registered) - int(b.Registered) })
	return rows, err
}

func pendingPasskeys(view *ledger.State, after uint64, limit int) (rows []passkeyRow, err error) {
	view.Ascend(bucketPasskeyQueue, indexKey(after+1), func(_, key []byte) bool {
		var row passkeyRow
		if row, err = mustPasskeyKey(view, key); err == nil {
			rows = append(rows, row)
		}
		return err == nil && len(rows) < limit
	})
	return rows, err
}

func putPasskey(s *ledger.State, row passkeyRow) error {
	key := passkeyKey(row.Signer, row.ID)
	if row.State == PasskeyPending {
		s.Put(bucketPasskeyQueue, indexKey(row.Registered), key)
	} else {
		s.Delete(bucketPasskeyQueue, indexKey(row.Registered))
	}
	for _, x := range []struct {
		bucket string
		in     bool
	}{{bucketPasskeyVouches, row.Vouches}, {bucketPasskeyRoots, row.Pinned}} {
		if x.in && row.State == PasskeyBound {
			s.Put(x.bucket, key, []byte{1})
		} else {
			s.Delete(x.bucket, key)
		}
	}
	b, err := json.Marshal(row, json.Deterministic(true))
	if err != nil {
		return err
	}
	s.Put(bucketPasskeys, key, b)
	return nil
}

// applyPasskey is the part of the projection that knows passkeys.
func applyPasskey(s *ledger.State, e chain.Entry) error {
	switch e.Type {
	case chain.PasskeyRegistered:
		body, err := readBody[passkeyRegistered](e)
		if err != nil {
			return err
		}
		b := body.Binding
		if _, err := mustSigner(s, e, b.Signer); err != nil {
			return err
		}
		row := passkeyRow{
			ID: b.Nonce, Signer: b.Signer, State: PasskeyPending, Created: e.Time, Registered: e.Index, Credential: string(credentialKey(b.CredentialID)),
			KeyID: b.Key().ID(), Vouches: b.Vouches,
		}
		key := passkeyKey(row.Signer, row.ID)
		s.Put(bucketPasskeyNames, []byte("cred:"+row.Credential), key)
		s.Put(bucketPasskeyNames, []byte("key:"+row.KeyID), key)
		return putPasskey(s, row)
	case chain.PasskeyVouched:
		body, err := readBody[passkeyVouched](e)
		if err != nil {
			return err
		}
		row, err := mustPasskey(s, body.Signer, body.Nonce)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		row.Vouched = slices.DeleteFunc(slices.Clone(row.Vouched), func(v vouchedRow) bool { return v.Signer == body.Voucher.Signer })
		row.Vouched = append(row.Vouched, vouchedRow{body.Voucher.Signer, e.Index})
		return putPasskey(s, row)
	case chain.PasskeyBound:
		body, err := passkey.ParseBound(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		row, err := mustPasskey(s, body.Binding.Signer, body.Binding.Nonce)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		row.State, row.Bound, row.Pinned, row.Vouched = PasskeyBound, e.Index, len(body.Vouchers) == 0, nil
		return putPasskey(s, row)
	case chain.PasskeyRevoked:
		body, err := passkey.ParseRevoked(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		row, err := mustPasskey(s, body.Signer, body.Nonce)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		row.State, row.Revoked = PasskeyRevoked, e.Index
		return putPasskey(s, row)
	}
	return nil
}
