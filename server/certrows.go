package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// certificatesProjection knows every certificate that the CA has issued, which of them were revoked and why, the newest revocation list of each CA,
// and when the certificates in use lapse.
type certificatesProjection struct{}

const (
	certificatesProjectionName = "certificates"
	bucketKeyRoles             = "roles"       // key id → role
	bucketIssued               = "issued"      // key id, "/", index of the entry → issuedRow
	bucketInUse                = "inuse"       // owner → certificatePlace of their newest certificate; an owner is "own/" and a role, or the id of a signer
	bucketEnds                 = "ends"        // role, "/", milliseconds of the end, key id → owner; certificates in use alone
	bucketRevoked              = "revoked"     // key id → revokedRow
	bucketCauses               = "causes"      // id of a signer → cause of their revocation, which an entry before it gives
	bucketAuthorities          = "authorities" // index of certificate.issued → authorityRow
	bucketLists                = "lists"       // key id of a CA → listRow of its newest revocation list
	bucketTold                 = "told"        // key id, "/", index → time at which the security unit was told of the certificate last
	bucketRevocations          = "last"        // "revocation" → index of the entry that has last changed what is revoked
)

var lastRevocationKey = []byte("revocation")

// issuedRow is a certificate.
type issuedRow struct {
	Authority string     `json:"authority"` // subject key identifier of the CA, hex
	NotAfter  chain.Time `json:"notAfter"`
	NotBefore chain.Time `json:"notBefore"`
	Serial    string     `json:"serial"` // hex
}

// certificatePlace names a certificate.
type certificatePlace struct {
	Index    uint64     `json:"index"` // of the entry that holds it
	KeyID    string     `json:"keyId"`
	NotAfter chain.Time `json:"notAfter"`
	Role     string     `json:"role"`
}

// revokedRow is a key whose certificates are revoked.
type revokedRow struct {
	Index  uint64     `json:"index"`
	Reason int        `json:"reason"` // RFC 5280, 5.3.1
	Time   chain.Time `json:"time"`
}

// authorityRow is a CA.
type authorityRow struct {
	Index   uint64 `json:"index"` // of certificate.issued
	KeyID   string `json:"keyId"`
	Subject string `json:"subject"` // subject key identifier, hex
}

// listRow is a revocation list.
type listRow struct {
	Entries    int        `json:"entries"`
	Index      uint64     `json:"index"` // of crl.issued
	NextUpdate chain.Time `json:"nextUpdate"`
	Number     uint64     `json:"number"`
	Size       uint64     `json:"size"` // what was revoked by the entries below it is on the list
	ThisUpdate chain.Time `json:"thisUpdate"`
}

// Reasons of RFC 5280, section 5.3.1.
const (
	reasonUnspecified          = 0
	reasonKeyCompromise        = 1
	reasonAffiliationChanged   = 3
	reasonSuperseded           = 4
	reasonCessationOfOperation = 5
	reasonCertificateHold      = 6
)

// reasonOf is the reason of a signer's revocation. Where a credential is lost or was misused, somebody else may have used the key.
func reasonOf(cause string) int {
	switch identity.RevocationCause(cause) {
	case identity.CauseLost, identity.CauseMisused:
		return reasonKeyCompromise
	case identity.CauseLeft:
		return reasonAffiliationChanged
	}
	return reasonUnspecified
}

func (certificatesProjection) Name() string { return certificatesProjectionName }
func (certificatesProjection) Version() int { return 2 }

func (certificatesProjection) Apply(s *ledger.State, e chain.Entry, _ []byte, attachments [][]byte) error {
	switch e.Type {
	case chain.KeyCreated:
		var body keyCreated
		if err := readBody(e, &body); err != nil {
			return err
		}
		s.Put(bucketKeyRoles, []byte(body.KeyID), []byte(body.Role))
	case chain.CertificateIssued:
		var body certificateIssued
		if err := readBody(e, &body); err != nil {
			return err
		}
		return applyOwnCertificate(s, e, body, attachments)
	case chain.SignerEnrolled, chain.SignerRenewed:
		body, err := manifest.ParseSignerEnrolled(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return applyIssued(s, e, body.ID, body.KeyID, body.Certificate, attachments)
	case chain.ServiceEnrolled, chain.ServiceRenewed:
		body, err := manifest.ParseServiceEnrolled(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return applyIssued(s, e, body.ID, body.KeyID, body.Certificate, attachments)
	case chain.SignerChanged:
		var body struct { // of whatever changes signers
			Cause string `json:"cause"`
			ID    string `json:"id"`
		}
		if json.Unmarshal(e.Body, &body) == nil && body.Cause != "" {
			s.Put(bucketCauses, []byte(body.ID), []byte(body.Cause))
		}
	case chain.SignerRevoked, chain.ServiceRevoked:
		return applySignerRevocation(s, e)
	case chain.KeyDisabled, chain.KeyEnabled, chain.KeyRotated, chain.KeyDestructionConfirmed:
		return applyKeyRevocation(s, e)
	case chain.LedgerRestored: // newer lists, and what they were about, may be lost
		s.Put(bucketRevocations, lastRevocationKey, placeKey(e.Index))
	case chain.RevocationListIssued:
		var body listIssued
		if err := readBody(e, &body); err != nil {
			return err
		}
		return putRow(s, bucketLists, body.KeyID, listRow{Entries: body.Entries, Index: e.Index, NextUpdate: body.NextUpdate, Number: body.Number, Size: body.Size, ThisUpdate: body.ThisUpdate})
	case chain.CertificateLapsing:
		var body certificatesLapsing
		if err := readBody(e, &body); err != nil {
			return err
		}
		for _, c := range body.Certificates {
			if err := putRow(s, bucketTold, string(issuedKey(c.KeyID, c.Entry)), e.Time); err != nil {
				return err
			}
		}
	}
	return nil
}

func applyOwnCertificate(s *ledger.State, e chain.Entry, body certificateIssued, attachments [][]byte) error {
	if err := applyIssued(s, e, "own/"+body.Role, body.KeyID, body.Certificate, attachments); err != nil || body.Role != keyCA {
		return err
	}
	facts, ok := factsOf(attachments[0])
	if !ok {
		return fmt.Errorf("entry %d: the CA's certificate cannot be read", e.Index)
	}
	return putRow(s, bucketAuthorities, string(placeKey(e.Index)), authorityRow{Index: e.Index, KeyID: body.KeyID, Subject: facts.Subject})
}

// applyIssued takes the certificate of somebody. Who has no key has none.
func applyIssued(s *ledger.State, e chain.Entry, owner, keyID, digest string, attachments [][]byte) error {
	if keyID == "" {
		return nil
	}
	if len(attachments) == 0 {
		return fmt.Errorf("entry %d: the certificate is missing", e.Index)
	}
	if sum := sha256.Sum256(attachments[0]); hex.EncodeToString(sum[:]) != digest {
		return fmt.Errorf("entry %d: the certificate is not the one that it names", e.Index)
	}
	facts, ok := factsOf(attachments[0])
	if !ok {
		return fmt.Errorf("entry %d: the certificate cannot be read", e.Index)
	}
	err := putRow(s, bucketIssued, string(issuedKey(keyID, e.Index)), issuedRow{
		Authority: facts.Authority, NotAfter: facts.NotAfter, NotBefore: facts.NotBefore, Serial: facts.Serial,
	})
	if err != nil {
		return err
	}
	if err := dropInUse(s, owner, ""); err != nil {
		return err
	}
	place := certificatePlace{Index: e.Index, KeyID: keyID, NotAfter: facts.NotAfter, Role: string(s.Get(bucketKeyRoles, []byte(keyID)))}
	s.Put(bucketEnds, place.end(), []byte(owner))
	return putRow(s, bucketInUse, owner, place)
}

// end is the key of a certificate in the order in which those of its role lapse.
func (p certificatePlace) end() []byte {
	return append(append([]byte(p.Role+"/"), placeKey(uint64(max(0, p.NotAfter.UnixMilli())))...), p.KeyID...)
}

// dropInUse ends the use of an owner's certificate; with a key id, only if it is for that key.
func dropInUse(s *ledger.State, owner, keyID string) error {
	place, ok, err := inUse(s, owner)
	if err != nil || !ok || keyID != "" && place.KeyID != keyID {
		return err
	}
	s.Delete(bucketEnds, place.end())
	s.Delete(bucketInUse, []byte(owner))
	return nil
}

// inUse is the newest certificate of an owner.
func inUse(s *ledger.State, owner string) (p certificatePlace, ok bool, err error) {
	ok, err = readRow(s, bucketInUse, []byte(owner), &p)
	return p, ok, err
}

func issuedKey(keyID string, index uint64) []byte {
	return append([]byte(keyID+"/"), placeKey(index)...)
}

func applySignerRevocation(s *ledger.State, e chain.Entry) error {
	body, err := manifest.ParseSignerRevoked(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	place, ok, err := inUse(s, body.ID)
	if err != nil {
		return err
	}
	keyID := body.KeyID
	if keyID == "" && ok {
		keyID = place.KeyID
	}
	if err := dropInUse(s, body.ID, ""); err != nil || keyID == "" {
		return err
	}
	return revoke(s, e, keyID, reasonOf(string(s.Get(bucketCauses, []byte(body.ID)))))
}

// applyKeyRevocation takes what administrators do to keys: a key that is disabled holds for now, one whose place was taken because it was
// compromised, or that is destroyed, never again. One whose place was taken in the ordinary way needs no revocation: nothing signs with it.
func applyKeyRevocation(s *ledger.State, e chain.Entry) error {
	var body struct {
		Compromised bool   `json:"compromised"`
		KeyID       string `json:"keyId"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	var row revokedRow
	held, err := readRow(s, bucketRevoked, []byte(body.KeyID), &row)
	if err != nil {
		return err
	}
	held = held && row.Reason == reasonCertificateHold
	switch {
	case e.Type == chain.KeyDisabled:
		return revoke(s, e, body.KeyID, reasonCertificateHold)
	case e.Type == chain.KeyEnabled && held:
		s.Delete(bucketRevoked, []byte(body.KeyID))
		s.Put(bucketRevocations, lastRevocationKey, placeKey(e.Index))
	case e.Type == chain.KeyRotated && body.Compromised:
		return revoke(s, e, body.KeyID, reasonKeyCompromise)
	case e.Type == chain.KeyRotated && held: // it is never enabled again
		row.Reason = reasonSuperseded
		s.Put(bucketRevocations, lastRevocationKey, placeKey(e.Index))
		return putRow(s, bucketRevoked, body.KeyID, row)
	case e.Type == chain.KeyDestructionConfirmed:
		return revoke(s, e, body.KeyID, reasonCessationOfOperation)
	}
	return nil
}

// revoke revokes the certificates of a key. The first time stays; what held for now alone becomes final.
func revoke(s *ledger.State, e chain.Entry, keyID string, reason int) error {
	row := revokedRow{Index: e.Index, Reason: reason, Time: e.Time}
	var before revokedRow
	ok, err := readRow(s, bucketRevoked, []byte(keyID), &before)
	switch {
	case err != nil:
		return err
	case ok && before.Reason != reasonCertificateHold:
		return nil
	case ok && reason == reasonCertificateHold:
		return nil
	case ok:
		row.Time = before.Time
	}
	s.Put(bucketRevocations, lastRevocationKey, placeKey(e.Index))
	return putRow(s, bucketRevoked, keyID, row)
}

// revokedCertificate is a line of a revocation list.
type revokedCertificate struct {
	Serial []byte
	Time   chain.Time
	Reason int
}

// revokedBelow returns what was revoked of a CA, the oldest first.
func revokedBelow(s *ledger.State, authority string) (out []revokedCertificate, err error) {
	var keys []string
	rows := map[string]revokedRow{}
	s.Ascend(bucketRevoked, nil, func(k, v []byte) bool {
		var row revokedRow
		if err = decodeRow(bucketRevoked, v, &row); err != nil {
			return false
		}
		keys, rows[string(k)] = append(keys, string(k)), row
		return true
	})
	for _, keyID := range keys {
		if err != nil {
			break
		}
		s.Prefix(bucketIssued, []byte(keyID+"/"), func(_, v []byte) bool {
			var row issuedRow
			if err = decodeRow(bucketIssued, v, &row); err != nil {
				return false
			}
			serial, wrong := hex.DecodeString(row.Serial)
			if err = wrong; err == nil && row.Authority == authority {
				out = append(out, revokedCertificate{Serial: serial, Time: rows[keyID].Time, Reason: rows[keyID].Reason})
			}
			return err == nil
		})
	}
	slices.SortFunc(out, func(a, b revokedCertificate) int {
		if c := a.Time.Time().Compare(b.Time.Time()); c != 0 {
			return c
		}
		return bytes.Compare(a.Serial, b.Serial)
	})
	return out, err
}

// lastRevocation is the index of the entry that has last changed what is revoked, or has gone on after such entries may have been lost; 0: none ever
// has.
func lastRevocation(s *ledger.State) uint64 {
	return place(s.Get(bucketRevocations, lastRevocationKey))
}

// newestList is the newest revocation list of a CA.
func newestList(s *ledger.State, keyID string) (row listRow, ok bool, err error) {
	ok, err = readRow(s, bucketLists, []byte(keyID), &row)
	return row, ok, err
}

// authoritiesOf returns the CAs, the newest first.
func authoritiesOf(s *ledger.State) (out []authorityRow, err error) {
	s.Descend(bucketAuthorities, nil, func(_, v []byte) bool {
		var row authorityRow
		if err = decodeRow(bucketAuthorities, v, &row); err == nil {
			out = append(out, row)
		}
		return err == nil
	})
	return out, err
}

// firstToLapse is the certificate in use of a role that lapses first.
func firstToLapse(s *ledger.State, role string) (p certificatePlace, owner string, ok bool, err error) {
	s.Prefix(bucketEnds, []byte(role+"/"), func(_, v []byte) bool {
		owner = string(v)
		p, ok, err = inUse(s, owner)
		return false
	})
	return p, owner, ok, err
}

// signerOf is the id of the signer that an owner is; empty: the service itself.
func signerOf(owner string) string {
	if strings.HasPrefix(owner, "own/") {
		return ""
	}
	return owner
}

func readRow(s *ledger.State, bucket string, key []byte, v any) (bool, error) {
	b := s.Get(bucket, key)
	if b == nil {
		return false, nil
	}
	return true, decodeRow(bucket, b, v)
}

func decodeRow(bucket string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: projection %s/%s: %w; run `signetd ledger check`", ledger.ErrCorrupt, certificatesProjectionName, bucket, err)
	}
	return nil
}
