package server

import (
	"crypto"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// The service's own keys, by the part they play. Each is made in the HSM at the key ceremony and recorded in the ledger.
const (
	keyCA      = "ca"      // P-384, signs certificates
	keyTSA     = "tsa"     // P-256, signs time-stamps
	keyLedger  = "ledger"  // Ed25519, signs checkpoints
	keyClosing = "closing" // P-256, closes records
	keySealing = "sealing" // P-256, seals for the first service
	keyCanary  = "canary"  // P-256, shows that the HSM signs, and nothing else
)

// ceremonyKeys are the keys in the order in which they are made.
var ceremonyKeys = []struct {
	role      string
	id        keystore.ID
	algorithm keystore.Algorithm
}{
	{keyCA, "ca-1", keystore.ECDSAP384},
	{keyTSA, "tsa-1", keystore.ECDSAP256},
	{keySealing, "sealing-1", keystore.ECDSAP256},
	{keyClosing, "closing-1", keystore.ECDSAP256},
	{keyLedger, ledgerKeyID, keystore.Ed25519},
	{keyCanary, keystore.CanaryID, keystore.ECDSAP256},
}

// own reports whether a role is one of the service's own keys.
func own(role string) bool {
	for _, k := range ceremonyKeys {
		if k.role == role {
			return true
		}
	}
	return false
}

// ledgerKeyID is the id of the ledger's key: the one key that is needed to open the ledger, which names all others.
const ledgerKeyID keystore.ID = "ledger-1"

// ledgerCreated is the body of the first entry.
type ledgerCreated struct {
	Environment string `json:"environment"`
	Format      string `json:"format"`
	Issuer      string `json:"issuer"`
	Key         string `json:"key"` // vkey of the ledger
	Origin      string `json:"origin"`
	Software    string `json:"software"`
}

// keyCreated is the body of key.created: what the HSM says of a key that it has just made. The SPKI is attached.
type keyCreated struct {
	Algorithm  string            `json:"algorithm"`
	Attributes map[string]string `json:"attributes"`
	ID         string            `json:"id"`
	KeyID      string            `json:"keyId"` // SHA-256 of the SPKI
	Role       string            `json:"role"`
}

// certificateIssued is the body of certificate.issued. The DER is attached.
type certificateIssued struct {
	Certificate string `json:"certificate"`
	KeyID       string `json:"keyId"`
	NotAfter    string `json:"notAfter"`
	Role        string `json:"role"`
}

// keysProjection knows the newest key and certificate of each role.
type keysProjection struct{}

const (
	keysProjectionName = "keys"
	bucketKeys         = "keys"         // role → keyState
	bucketCertificates = "certificates" // role → DER
)

type keyState struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	KeyID     string `json:"keyId"`
	SPKI      []byte `json:"spki"`
	Index     uint64 `json:"index"`
}

func (keysProjection) Name() string { return keysProjectionName }
func (keysProjection) Version() int { return 1 }

func (keysProjection) Apply(s *ledger.State, e chain.Entry, _ []byte, attachments [][]byte) error {
	switch e.Type {
	case chain.KeyCreated:
		var body keyCreated
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return err
		}
		if !own(body.Role) { // a signer's key is identity's
			return nil
		}
		if len(attachments) != 1 {
			return fmt.Errorf("%d attachments, want the public key alone", len(attachments))
		}
		b, err := json.Marshal(keyState{ID: body.ID, Algorithm: body.Algorithm, KeyID: body.KeyID, SPKI: attachments[0], Index: e.Index})
		if err != nil {
			return err
		}
		s.Put(bucketKeys, []byte(body.Role), b)
	case chain.CertificateIssued:
		var body certificateIssued
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return err
		}
		if len(attachments) != 1 {
			return fmt.Errorf("%d attachments, want the certificate alone", len(attachments))
		}
		s.Put(bucketCertificates, []byte(body.Role), attachments[0])
	}
	return nil
}

// ownKey is one of the service's own keys, as the ledger has it.
type ownKey struct {
	ID          keystore.ID
	Algorithm   keystore.Algorithm
	KeyID       string
	Public      crypto.PublicKey
	Certificate *x509.Certificate // nil without one
}

var errNoKey = errors.New("the ledger names no such key: it was not made by `signetd init`, or is another one's")

// readKey reads a key of the service from the ledger: the entry that created it, proved against the last checkpoint.
func readKey(l *ledger.Ledger, role string) (ownKey, error) {
	var k ownKey
	err := l.View(func(r *ledger.Read) error {
		view := r.View(keysProjectionName)
		b := view.Get(bucketKeys, []byte(role))
		if b == nil {
			return errNoKey
		}
		var state keyState
		if err := json.Unmarshal(b, &state); err != nil {
			return err
		}
		entry, err := r.ProvedEntry(state.Index)
		if err != nil {
			return err
		}
		e, err := chain.ParseEntry(entry)
		if err != nil {
			return err
		}
		var body keyCreated
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return err
		}
		public, err := x509.ParsePKIXPublicKey(state.SPKI)
		if err != nil {
			return err
		}
		if e.Type != chain.KeyCreated || body.Role != role || keystore.KeyID(public) != body.KeyID || body.KeyID != state.KeyID {
			return fmt.Errorf("%w: the projection does not agree with entry %d; run `signetd ledger check`", ledger.ErrCorrupt, state.Index)
		}
		k = ownKey{ID: keystore.ID(body.ID), Algorithm: keystore.Algorithm(body.Algorithm), KeyID: body.KeyID, Public: public}
		if der := view.Get(bucketCertificates, []byte(role)); der != nil {
			if k.Certificate, err = x509.ParseCertificate(der); err != nil {
				return err
			}
			if !keystore.SamePublic(k.Certificate.PublicKey, public) {
				return fmt.Errorf("%w: the certificate of the key %s is for another key", ledger.ErrCorrupt, role)
			}
		}
		return nil
	})
	if err != nil {
		return ownKey{}, fmt.Errorf("key %s: %w", role, err)
	}
	return k, nil
}
