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

// What other keys are for. They belong to who is enrolled with them.
const (
	keySigner    = "signer"
	keyOfService = "service"
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

// What an administrator proves for each change of a key.
var keyComponents = []string{"user name", "password"}

// keyChanged is the body of key.disabled and key.enabled.
type keyChanged struct {
	Components []string `json:"components"`
	From       string   `json:"from"` // state before: identity.KeyActive, …
	ID         string   `json:"id"`   // label in the HSM
	KeyID      string   `json:"keyId"`
	Reason     string   `json:"reason"`
	Role       string   `json:"role"`
	Signer     string   `json:"signer"` // whose it is; empty: the service's own
	To         string   `json:"to"`     // state after
}

// keyRotated is the body of key.rotated.
type keyRotated struct {
	Components  []string `json:"components"`  // none: the service has renewed its own
	Compromised bool     `json:"compromised"` // its certificates go on the revocation list; entries of earlier versions do not say
	From        string   `json:"from"`
	ID          string   `json:"id"`
	KeyID       string   `json:"keyId"` // of the key whose place is taken
	Reason      string   `json:"reason"`
	Role        string   `json:"role"`
	Signer      string   `json:"signer"`
	Successor   string   `json:"successor"` // key id of the key that takes it
	To          string   `json:"to"`
}

// destructionRequested is the body of key.destruction.requested.
type destructionRequested struct {
	Components  []string   `json:"components"`
	Destruction string     `json:"destruction"` // random id of the request
	Expires     chain.Time `json:"expires"`
	ID          string     `json:"id"`
	KeyID       string     `json:"keyId"`
	Reason      string     `json:"reason"`
	Role        string     `json:"role"`
	Signer      string     `json:"signer"`
	State       string     `json:"state"` // of the key; the request changes nothing yet
}

// destructionWithdrawn is the body of key.destruction.withdrawn.
type destructionWithdrawn struct {
	Components  []string `json:"components"`
	Destruction string   `json:"destruction"`
	ID          string   `json:"id"`
	KeyID       string   `json:"keyId"`
	Reason      string   `json:"reason"`
}

// destructionConfirmed is the body of key.destruction.confirmed: from this entry on the key is gone for everybody, and the HSM is told.
type destructionConfirmed struct {
	Components  []string `json:"components"`
	Destruction string   `json:"destruction"`
	From        string   `json:"from"`
	ID          string   `json:"id"`
	KeyID       string   `json:"keyId"`
	Reason      string   `json:"reason"`
	Requested   uint64   `json:"requested,string"` // index of the request's entry
	Requester   string   `json:"requester"`
	Role        string   `json:"role"`
	Signer      string   `json:"signer"`
	To          string   `json:"to"`
}

// keyDestroyed is the body of key.destroyed: the HSM was asked for the key and no longer has it. The SPKI stays with key.created, the
// certificate with the entry that issued it.
type keyDestroyed struct {
	Confirmed   uint64 `json:"confirmed,string"` // index of the confirmation's entry
	Destruction string `json:"destruction"`
	From        string `json:"from"`
	ID          string `json:"id"`
	KeyID       string `json:"keyId"`
	To          string `json:"to"`
}

// keyState is the newest key of a role.
type keyState struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	KeyID     string `json:"keyId"`
	SPKI      []byte `json:"spki"`
	Index     uint64 `json:"index"`
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

// errKeyRow: the projection does not agree with a proved entry.
func errKeyRow(index uint64) error {
	return fmt.Errorf("%w: the projection does not agree with entry %d; run `signetd ledger check`", ledger.ErrCorrupt, index)
}

// readKey reads the newest key of a role from the ledger: the entry that created it, proved against the last checkpoint.
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
		body, err := provedKey(r, state.Index)
		if err != nil {
			return err
		}
		public, err := x509.ParsePKIXPublicKey(state.SPKI)
		if err != nil {
			return err
		}
		if body.Role != role || keystore.KeyID(public) != body.KeyID || body.KeyID != state.KeyID {
			return errKeyRow(state.Index)
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

// provedKey reads the entry that created a key, proved against the last checkpoint.
func provedKey(r *ledger.Read, index uint64) (keyCreated, error) {
	var body keyCreated
	err := provedBody(r, index, chain.KeyCreated, &body)
	return body, err
}

// createdKey reads the entry that created a key.
func createdKey(r *ledger.Read, index uint64) (keyCreated, error) {
	var body keyCreated
	b, err := r.Entry(index)
	if err != nil {
		return body, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return body, err
	}
	err = readBody(e, &body)
	return body, err
}

// provedBody reads the body of an entry of a type, proved against the last checkpoint.
func provedBody(r *ledger.Read, index uint64, typ chain.Type, body any) error {
	b, err := r.ProvedEntry(index)
	if err != nil {
		return err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return err
	}
	if e.Type != typ {
		return errKeyRow(index)
	}
	return readBody(e, body)
}

// readRoots reads the certificates of every CA that there was, the newest first.
func readRoots(l *ledger.Ledger) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	err := l.View(func(r *ledger.Read) error {
		var failed error
		r.View(keysProjectionName).Descend(bucketRoots, nil, func(_, der []byte) bool {
			var c *x509.Certificate
			if c, failed = x509.ParseCertificate(der); failed == nil {
				roots = append(roots, c)
			}
			return failed == nil
		})
		return failed
	})
	return roots, err
}
