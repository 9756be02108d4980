package identity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/server/internal/ledger"
)

// NewPasskeyAuditor returns an auditor that walks the chain of bindings through the whole ledger, as a verifier does through a manifest: each
// binding must hold when it is entered, and each signature that names a passkey must be that passkey's over this very statement. An
// administrator's binding without vouchers holds here: whether it is pinned, the trust file says.
func NewPasskeyAuditor() ledger.AttachmentAuditor {
	return &passkeyAuditor{held: map[string]passkey.Holder{}, signers: map[string]string{}, registered: map[string][]byte{}, ended: map[string]bool{}}
}

type passkeyAuditor struct {
	held       map[string]passkey.Holder // by credential id: those that count
	signers    map[string]string         // credential id → whose it is
	registered map[string][]byte         // nonce → the canonical binding, which must be bound as it was registered
	ended      map[string]bool           // signers who are suspended or revoked
}

// Entry implements ledger.Auditor.
func (a *passkeyAuditor) Entry(e chain.Entry, _ []byte) error {
	switch e.Type {
	case chain.PasskeyRegistered:
		body, err := readBody[passkeyRegistered](e)
		if err != nil {
			return err
		}
		if a.registered[body.Binding.Nonce] != nil {
			return fmt.Errorf("a passkey with the nonce %s was registered before", body.Binding.Nonce)
		}
		a.registered[body.Binding.Nonce], err = body.Binding.Canonical()
		return err
	case chain.PasskeyBound:
		return a.bind(e)
	case chain.PasskeyRevoked:
		body, err := passkey.ParseRevoked(e.Body)
		if err != nil {
			return err
		}
		for id, h := range a.held {
			if h.ID() == body.KeyID && a.signers[id] == body.Signer {
				delete(a.held, id)
			}
		}
	case chain.SignerSuspended, chain.SignerReinstated:
		body, err := readBody[signerChanged](e)
		if err != nil {
			return err
		}
		a.ended[body.ID] = e.Type == chain.SignerSuspended
	case chain.SignerRevoked:
		body, err := manifest.ParseSignerRevoked(e.Body)
		if err != nil {
			return err
		}
		a.ended[body.ID] = true
	}
	return nil
}

func (a *passkeyAuditor) bind(e chain.Entry) error {
	b, err := passkey.ParseBound(e.Body)
	if err != nil {
		return err
	}
	canonical, err := b.Binding.Canonical()
	if err != nil {
		return err
	}
	if !bytes.Equal(a.registered[b.Binding.Nonce], canonical) {
		return fmt.Errorf("a passkey of %s is bound as nobody has registered it", b.Binding.Signer)
	}
	id := string(b.Binding.CredentialID)
	if _, ok := a.signers[id]; ok {
		return fmt.Errorf("a passkey of %s is bound a second time", b.Binding.Signer)
	}
	if len(b.Vouchers) == 0 {
		if !b.Binding.Vouches {
			return fmt.Errorf("nobody vouches for a passkey of %s, who was no administrator", b.Binding.Signer)
		}
	} else if err := b.Check(a.holder); err != nil {
		return err
	}
	a.held[id], a.signers[id] = passkey.Holder{Key: b.Binding.Key(), Name: b.Binding.Name, Vouches: b.Binding.Vouches}, b.Binding.Signer
	return nil
}

func (a *passkeyAuditor) holder(signer string, credentialID []byte) (passkey.Holder, error) {
	h, ok := a.held[string(credentialID)]
	switch {
	case !ok || a.signers[string(credentialID)] != signer:
		return h, fmt.Errorf("%s has no such passkey that counts", signer)
	case a.ended[signer]:
		return h, fmt.Errorf("%s is suspended or revoked", signer)
	}
	return h, nil
}

// Attachments implements ledger.AttachmentAuditor.
func (a *passkeyAuditor) Attachments(e chain.Entry, attachments [][]byte) error {
	if e.Type != chain.SignatureCreated {
		return nil
	}
	if len(attachments) < 3 {
		return errors.New("the statement, the signature and the authorization are not all there")
	}
	statement, authorization := attachments[0], attachments[2]
	proof, err := manifest.ParseAuthorization(authorization)
	if err != nil || !proof.Kind.Passkey() {
		return err
	}
	st, err := manifest.ParseStatement(statement)
	if err != nil {
		return err
	}
	signer := st.Predicate.Signer
	h, err := a.holder(signer.ID, proof.CredentialID)
	if err != nil {
		return err
	}
	if h.Name != signer.Name {
		return fmt.Errorf("the passkey is bound to %s under the name %q, and signs as %q", signer.ID, h.Name, signer.Name)
	}
	return passkey.Verify(h.Key, sha256.Sum256(manifest.PAE(statement)), passkey.Assertion{
		CredentialID: proof.CredentialID, AuthenticatorData: proof.AuthenticatorData, ClientDataJSON: proof.ClientDataJSON, Signature: proof.Signature,
	})
}
