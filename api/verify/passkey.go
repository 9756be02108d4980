package verify

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
)

// boundPasskey is a proved entry that binds a passkey to a signer.
type boundPasskey struct {
	passkey.Bound
	index uint64
	time  chain.Time
	err   error // why it does not hold
}

// revokedPasskey is a proved entry that ends a passkey.
type revokedPasskey struct {
	passkey.Revoked
	index uint64
	time  chain.Time
}

// takePasskey reads the body of a proved entry about a passkey.
func (j *judge) takePasskey(e chain.Entry) error {
	if e.Type == chain.PasskeyRevoked {
		r, err := passkey.ParseRevoked(e.Body)
		if err == nil {
			j.unbound = append(j.unbound, revokedPasskey{r, e.Index, e.Time})
		}
		return err
	}
	b, err := passkey.ParseBound(e.Body)
	if err == nil {
		j.bound = append(j.bound, boundPasskey{Bound: b, index: e.Index, time: e.Time})
	}
	return err
}

// passkeys walks the chain of bindings, from the pinned passkeys on, in the order of the ledger. Each leans on earlier ones alone, so there are
// no circles, and each is looked at once. One that does not hold is no fault by itself: whoever leans on it says so.
func (j *judge) passkeys() {
	slices.SortStableFunc(j.bound, func(a, b boundPasskey) int { return cmp.Compare(a.index, b.index) })
	for i := range j.bound {
		b := &j.bound[i]
		if b.Binding.Ledger != j.facts.origin {
			b.err = fmt.Errorf("the entry %d binds it in the ledger %q, and stands in %q", b.index, b.Binding.Ledger, j.facts.origin)
			continue
		}
		b.err = b.Check(func(signer string, credentialID []byte) (passkey.Holder, error) {
			for _, r := range j.revocations {
				if r.id == signer && r.index < b.index {
					return passkey.Holder{}, fmt.Errorf("%s was revoked by the entry %d, before that", signer, r.index)
				}
			}
			h, _, err := j.holder(signer, credentialID, b.index, b.time.Time())
			return h, err
		})
		if b.err != nil {
			b.err = fmt.Errorf("entry %d: %w", b.index, b.err)
		}
	}
}

// holder finds a signer's passkey as it stood before an entry, which was made at the time.
func (j *judge) holder(signer string, credentialID []byte, before uint64, at time.Time) (passkey.Holder, *PasskeyReport, error) {
	missing := fmt.Errorf("the trust file does not pin the passkey %s of %s, and no proved entry before the entry %d binds it", short(credentialID), signer, before)
	ended := func(keyID string) error {
		for _, r := range j.unbound {
			if r.Signer == signer && r.KeyID == keyID && r.index < before {
				return fmt.Errorf("the passkey %s of %s was revoked by the entry %d at %s", short(credentialID), signer, r.index, r.time)
			}
		}
		for _, r := range j.trust.Revoked {
			if r.KeyID == keyID && !at.Before(r.From.Time()) && !j.later(r.From.Time()) {
				return fmt.Errorf("the passkey %s of %s no longer counts from %s: the trust file says so", short(credentialID), signer, r.From)
			}
		}
		return nil
	}
	for _, p := range j.trust.Passkeys {
		if p.Signer != signer || !bytes.Equal(p.CredentialID, credentialID) {
			continue
		}
		key := passkey.Key{CredentialID: p.CredentialID, SPKI: p.SPKI, RPID: p.RPID, Origins: p.Origins}
		if missing = ended(key.ID()); missing == nil {
			return passkey.Holder{Key: key, Name: p.Name, Vouches: true}, &PasskeyReport{KeyID: key.ID(), RPID: key.RPID, Pinned: true}, nil
		}
	}
	for i := range j.bound {
		b := &j.bound[i]
		if b.index >= before {
			break
		}
		if b.Binding.Signer != signer || !bytes.Equal(b.Binding.CredentialID, credentialID) {
			continue
		}
		key := b.Binding.Key()
		if missing = b.err; missing == nil {
			missing = ended(key.ID())
		}
		if missing == nil {
			return passkey.Holder{Key: key, Name: b.Binding.Name, Vouches: b.Binding.Vouches},
				&PasskeyReport{KeyID: key.ID(), RPID: key.RPID, Entry: b.index, BackupEligible: b.Binding.BackupEligible}, nil
		}
	}
	return passkey.Holder{}, nil, missing
}

// short names a passkey in words.
func short(credentialID []byte) string { return fmt.Sprintf("%.16x", credentialID) }

// passkey shows that the signer's own device has signed this statement.
func (j *judge) passkey(s *signature) {
	bad := func(format string, args ...any) { j.signatureFault(s, Untrusted, ".authorization", format, args...) }
	a, signer := s.Authorization, s.Statement.Predicate.Signer
	before := uint64(chain.MaxSize)
	if s.entry != nil { // else the ledger's own faults say why
		before = s.entry.Index
	}
	at := s.genTime.Add(s.accuracy)
	if s.genTime.IsZero() {
		at = s.Statement.Predicate.Expires.Time() // no later time can be meant
	}
	h, found, err := j.holder(signer.ID, a.CredentialID, before, at)
	if err != nil {
		bad("%v", err)
		return
	}
	if h.Name != signer.Name {
		bad("the passkey is bound to %s under the name %q, and the printed name is %q", signer.ID, h.Name, signer.Name)
	}
	if err := passkey.Verify(h.Key, sha256.Sum256(manifest.PAE(s.canonical)), passkey.Assertion{
		CredentialID: a.CredentialID, AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, Signature: a.Signature,
	}); err != nil {
		bad("%v", err)
		return
	}
	s.report.Passkey = found
}
