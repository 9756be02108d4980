package server

import (
	"encoding/binary"
	"encoding/json/v2"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// keysProjection knows every key, and the newest key and certificate of each role.
type keysProjection struct{}

const (
	keysProjectionName = "keys"
	bucketKeys         = "keys"         // role → keyState of its newest key
	bucketCertificates = "certificates" // role → DER of its newest certificate
	bucketRoots        = "roots"        // index of certificate.issued → DER of a CA's certificate
	bucketAll          = "all"          // key id → keyRow
	bucketLabels       = "labels"       // label in the HSM → key id
	bucketOrder        = "order"        // index of key.created → key id
	bucketOwners       = "owners"       // id of a signer → id of their newest key
	bucketDestroying   = "destroying"   // key id → nothing: the HSM has still to destroy it
)

// keyRow is what the projection knows of a key.
type keyRow struct {
	ID          string          `json:"id"` // label in the HSM
	Algorithm   string          `json:"algorithm"`
	KeyID       string          `json:"keyId"`
	Role        string          `json:"role"`
	Signer      string          `json:"signer"` // whose it is; empty: the service's own
	Index       uint64          `json:"index"`  // of key.created
	Created     chain.Time      `json:"created"`
	Certified   uint64          `json:"certified"` // index of the entry whose first attachment is the newest certificate; 0: none
	State       string          `json:"state"`     // identity.KeyActive, …
	Changed     uint64          `json:"changed"`   // index of the entry that gave the state
	Predecessor string          `json:"predecessor"`
	Successor   string          `json:"successor"`
	Destruction *destructionRow `json:"destruction,omitzero"` // from the request on; nil without one, and after a withdrawal
}

// destructionRow is a destruction. The request lapses by itself when its time has come.
type destructionRow struct {
	ID            string     `json:"id"`
	Requested     uint64     `json:"requested"` // index
	Requester     string     `json:"requester"`
	Reason        string     `json:"reason"`
	RequestTime   chain.Time `json:"requestTime"`
	Expires       chain.Time `json:"expires"`
	Confirmed     uint64     `json:"confirmed"` // index; 0: not confirmed
	Confirmer     string     `json:"confirmer"`
	ConfirmReason string     `json:"confirmReason"`
	ConfirmTime   chain.Time `json:"confirmTime"`
	DestroyTime   chain.Time `json:"destroyTime"`
}

func (keysProjection) Name() string { return keysProjectionName }
func (keysProjection) Version() int { return 2 }

func (keysProjection) Apply(s *ledger.State, e chain.Entry, _ []byte, attachments [][]byte) error {
	switch e.Type {
	case chain.KeyCreated:
		return applyKeyCreated(s, e, attachments)
	case chain.CertificateIssued:
		return applyCertificate(s, e, attachments)
	case chain.SignerEnrolled, chain.SignerRenewed:
		body, err := manifest.ParseSignerEnrolled(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return applyOwner(s, e, body.ID, body.KeyID)
	case chain.ServiceEnrolled, chain.ServiceRenewed:
		body, err := manifest.ParseServiceEnrolled(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return applyOwner(s, e, body.ID, body.KeyID)
	case chain.SignerRevoked, chain.ServiceRevoked:
		body, err := manifest.ParseSignerRevoked(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return applyOwnerRevoked(s, e, body)
	case chain.KeyRotated:
		return applyRotated(s, e)
	case chain.KeyDisabled, chain.KeyEnabled:
		var body keyChanged
		if err := readBody(e, &body); err != nil {
			return err
		}
		return changeKeyRow(s, e, body.KeyID, func(row *keyRow) { row.State, row.Changed = body.To, e.Index })
	case chain.KeyDestructionRequested, chain.KeyDestructionWithdrawn, chain.KeyDestructionConfirmed, chain.KeyDestroyed:
		return applyDestruction(s, e)
	}
	return nil
}

func applyKeyCreated(s *ledger.State, e chain.Entry, attachments [][]byte) error {
	var body keyCreated
	if err := readBody(e, &body); err != nil {
		return err
	}
	if len(attachments) != 1 {
		return fmt.Errorf("entry %d: %d attachments, want the public key alone", e.Index, len(attachments))
	}
	s.Put(bucketLabels, []byte(body.ID), []byte(body.KeyID))
	s.Put(bucketOrder, placeKey(e.Index), []byte(body.KeyID))
	err := putRow(s, bucketAll, body.KeyID, keyRow{
		ID: body.ID, Algorithm: body.Algorithm, KeyID: body.KeyID, Role: body.Role, Index: e.Index, Created: e.Time, State: identity.KeyActive, Changed: e.Index,
	})
	if err != nil || !own(body.Role) {
		return err
	}
	return putRow(s, bucketKeys, body.Role, keyState{ID: body.ID, Algorithm: body.Algorithm, KeyID: body.KeyID, SPKI: attachments[0], Index: e.Index})
}

func applyCertificate(s *ledger.State, e chain.Entry, attachments [][]byte) error {
	var body certificateIssued
	if err := readBody(e, &body); err != nil {
		return err
	}
	if len(attachments) != 1 {
		return fmt.Errorf("entry %d: %d attachments, want the certificate alone", e.Index, len(attachments))
	}
	s.Put(bucketCertificates, []byte(body.Role), attachments[0])
	if body.Role == keyCA {
		s.Put(bucketRoots, placeKey(e.Index), attachments[0])
	}
	return changeKeyRow(s, e, body.KeyID, func(row *keyRow) { row.Certified = e.Index })
}

// applyOwner binds a key to a signer. The one that they had before is retired.
func applyOwner(s *ledger.State, e chain.Entry, signer, keyID string) error {
	if keyID == "" {
		return nil
	}
	before := string(s.Get(bucketOwners, []byte(signer)))
	if before != "" && before != keyID {
		if err := retire(s, e, before, keyID); err != nil {
			return err
		}
	}
	s.Put(bucketOwners, []byte(signer), []byte(keyID))
	return changeKeyRow(s, e, keyID, func(row *keyRow) {
		row.Signer, row.Certified = signer, e.Index
		if before != keyID {
			row.Predecessor = before
		}
	})
}

// retire lets another key take the place of one.
func retire(s *ledger.State, e chain.Entry, keyID, successor string) error {
	return changeKeyRow(s, e, keyID, func(row *keyRow) {
		row.Successor = successor
		if row.State == identity.KeyActive || row.State == identity.KeyDisabled {
			row.State, row.Changed = identity.KeyRetired, e.Index
		}
	})
}

func applyOwnerRevoked(s *ledger.State, e chain.Entry, body manifest.SignerRevoked) error {
	keyID := body.KeyID
	if keyID == "" {
		keyID = string(s.Get(bucketOwners, []byte(body.ID)))
	}
	if keyID == "" {
		return nil // somebody without a key
	}
	return changeKeyRow(s, e, keyID, func(row *keyRow) {
		if row.State == identity.KeyActive || row.State == identity.KeyDisabled {
			row.State, row.Changed = identity.KeyRevoked, e.Index
		}
	})
}

func applyRotated(s *ledger.State, e chain.Entry) error {
	var body keyRotated
	if err := readBody(e, &body); err != nil {
		return err
	}
	if err := retire(s, e, body.KeyID, body.Successor); err != nil {
		return err
	}
	return changeKeyRow(s, e, body.Successor, func(row *keyRow) { row.Predecessor = body.KeyID })
}

func applyDestruction(s *ledger.State, e chain.Entry) error {
	switch e.Type {
	case chain.KeyDestructionRequested:
		var body destructionRequested
		if err := readBody(e, &body); err != nil {
			return err
		}
		return changeKeyRow(s, e, body.KeyID, func(row *keyRow) {
			row.Destruction = &destructionRow{
				ID: body.Destruction, Requested: e.Index, Requester: e.Actor.ID, Reason: body.Reason, RequestTime: e.Time, Expires: body.Expires,
			}
		})
	case chain.KeyDestructionWithdrawn:
		var body destructionWithdrawn
		if err := readBody(e, &body); err != nil {
			return err
		}
		return changeKeyRow(s, e, body.KeyID, func(row *keyRow) { row.Destruction = nil })
	case chain.KeyDestructionConfirmed:
		var body destructionConfirmed
		if err := readBody(e, &body); err != nil {
			return err
		}
		s.Put(bucketDestroying, []byte(body.KeyID), nil)
		return changeDestruction(s, e, body.KeyID, body.Destruction, func(row *keyRow) {
			row.State, row.Changed = body.To, e.Index
			d := row.Destruction
			d.Confirmed, d.Confirmer, d.ConfirmReason, d.ConfirmTime = e.Index, e.Actor.ID, body.Reason, e.Time
		})
	}
	var body keyDestroyed
	if err := readBody(e, &body); err != nil {
		return err
	}
	s.Delete(bucketDestroying, []byte(body.KeyID))
	return changeDestruction(s, e, body.KeyID, body.Destruction, func(row *keyRow) {
		row.State, row.Changed, row.Destruction.DestroyTime = body.To, e.Index, e.Time
	})
}

// changeDestruction is for entries about a destruction that an earlier entry has begun.
func changeDestruction(s *ledger.State, e chain.Entry, keyID, id string, change func(*keyRow)) error {
	missing := false
	err := changeKeyRow(s, e, keyID, func(row *keyRow) {
		if missing = row.Destruction == nil || row.Destruction.ID != id; !missing {
			change(row)
		}
	})
	if err == nil && missing {
		err = fmt.Errorf("entry %d names the destruction %.80q, which no entry before it has asked for", e.Index, id)
	}
	return err
}

// changeKeyRow changes the row of a key that an earlier entry has created.
func changeKeyRow(s *ledger.State, e chain.Entry, keyID string, change func(*keyRow)) error {
	row, ok, err := getKey(s, keyID)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("entry %d names the key %.80q, which no entry before it has created", e.Index, keyID)
	}
	change(&row)
	return putRow(s, bucketAll, keyID, row)
}

// getKey reads the row of a key.
func getKey(s *ledger.State, keyID string) (row keyRow, ok bool, err error) {
	b := s.Get(bucketAll, []byte(keyID))
	if b == nil {
		return row, false, nil
	}
	if err := json.Unmarshal(b, &row); err != nil {
		return row, false, fmt.Errorf("%w: projection %s/%s: %w; run `signetd ledger check`", ledger.ErrCorrupt, keysProjectionName, bucketAll, err)
	}
	return row, true, nil
}

func putRow(s *ledger.State, bucket, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.Put(bucket, []byte(key), b)
	return nil
}

func readBody(e chain.Entry, body any) error {
	if err := json.Unmarshal(e.Body, body, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	return nil
}

func placeKey(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }
