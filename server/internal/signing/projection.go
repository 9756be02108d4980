package signing

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"uuid"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// The buckets of the projection. All keys that hold an index hold it in 8 bytes, big-endian, so that they sort.
const (
	projectionName = "signing"

	bucketRecords      = "records"      // event (16 bytes) → recordState
	bucketOrder        = "order"        // inverted index → event: newest first
	bucketDigests      = "digests"      // record digest → event
	bucketCounts       = "counts"       // event → how many signatures, in 8 bytes: apart from the record, which each would write anew
	bucketSignatures   = "signatures"   // event, index → signatureState
	bucketPreparations = "preparations" // preparation id → preparationState
	bucketAttempts     = "attempts"     // preparation id → attemptState, while a signature is being made
	bucketClosings     = "closings"     // event → closingState, while a closing seal is missing
	bucketOwn          = "own"          // signer, inverted index of a signature → event: newest first
	bucketAwaiting     = "awaiting"     // approver, inverted index of an open record → event: newest first
	bucketCertificates = "certificates" // SHA-256 of a DER → index of the entry that it is attached to, and its place there
)

// States of a record.
const (
	statusOpen       = "open"
	statusApproved   = "approved"
	statusRejected   = "rejected"
	statusWithdrawn  = "withdrawn"
	statusSuperseded = "superseded"
)

// recordState is what the projection knows of a record.
type recordState struct {
	Index      uint64          `json:"index"`
	Digest     string          `json:"digest"`
	Bundle     string          `json:"bundle"`
	Type       string          `json:"type"`
	Name       string          `json:"name"`
	Version    string          `json:"version"`
	Title      string          `json:"title"`
	Created    chain.Time      `json:"created"`
	Files      int             `json:"files"`
	Bytes      int64           `json:"bytes"`
	Policy     manifest.Policy `json:"policy"`
	Status     string          `json:"status"`
	Superseded uint64          `json:"superseded"` // index of record.superseded; 0: none
	Decided    uint64          `json:"decided"`    // index of the newest record.decided; 0: none
	Closing    uint64          `json:"closing"`    // index of the newest closing seal; 0: none
}

// signatureState is one row of the record's signatures.
type signatureState struct {
	Statement     string `json:"statement"`
	Preparation   string `json:"preparation"`
	Signer        string `json:"signer"`
	Decision      string `json:"decision"`
	Meaning       string `json:"meaning"`
	Authorization string `json:"authorization"`
}

// preparationState is a prepared statement.
type preparationState struct {
	Index     uint64     `json:"index"`
	Event     string     `json:"event"`
	Signer    string     `json:"signer"`
	Statement string     `json:"statement"`
	Expires   chain.Time `json:"expires"`
	State     string     `json:"state"`     // prepared, attempted, signed, abandoned
	Signature uint64     `json:"signature"` // index of the signature's entry, once signed
}

const (
	prepared  = "prepared"
	attempted = "attempted"
	signed    = "signed"
	abandoned = "abandoned"
)

// attemptState is a signature that is being made.
type attemptState struct {
	Index uint64     `json:"index"`
	Event string     `json:"event"`
	Lease chain.Time `json:"lease"`
}

// closingState is a decided record that waits for its closing seal.
type closingState struct {
	Decided uint64 `json:"decided"`
}

// Bodies of the entries.

type recordCreated struct {
	// Approvers are those that were named: ids of signers, `group:` and a name, `role:` and a role. What they stood for then is in the record.
	Approvers []string `json:"approvers"`
	// Duties say who had which part in what is signed.
	Duties     []duty `json:"duties"`
	Bundle     string `json:"bundle"`
	Event      string `json:"event"`
	Name       string `json:"name"`
	Record     string `json:"record"`
	Supersedes string `json:"supersedes"`
	Type       string `json:"type"`
	Version    string `json:"version"`
}

// recordDecided names every statement about the record, in order, and what they come to.
type recordDecided struct {
	Event      string   `json:"event"`
	Outcome    string   `json:"outcome"`
	Statements []string `json:"statements"`
}

type signaturePrepared struct {
	Event       string     `json:"event"`
	Expires     chain.Time `json:"expires"`
	Preparation string     `json:"preparation"`
	Requires    string     `json:"requires"`
	Signer      string     `json:"signer"`
	Statement   string     `json:"statement"`
}

// signatureAttempted is the intent: the signer has proved themselves, the HSM is about to sign.
type signatureAttempted struct {
	Components  []string   `json:"components"`
	Event       string     `json:"event"`
	Instance    string     `json:"instance"`
	Lease       chain.Time `json:"lease"`
	Preparation string     `json:"preparation"`
	Statement   string     `json:"statement"`
}

type signatureAbandoned struct {
	Cause       string `json:"cause"`
	Event       string `json:"event"`
	Preparation string `json:"preparation"`
}

// Projection returns the state of records and signatures as a function of the ledger's entries.
func Projection() ledger.Projection { return projection{} }

type projection struct{}

func (projection) Name() string { return projectionName }
func (projection) Version() int { return 2 }

// Apply takes one entry.
func (projection) Apply(s *ledger.State, e chain.Entry, _ []byte, attachments [][]byte) error {
	switch e.Type {
	case chain.RecordCreated:
		return applyRecordCreated(s, e, attachments)
	case chain.RecordSuperseded:
		return applyRecordSuperseded(s, e)
	case chain.RecordDecided:
		return applyRecordDecided(s, e)
	case chain.SignaturePrepared:
		return applyPrepared(s, e)
	case chain.SignatureAttempted:
		return applyAttempted(s, e)
	case chain.SignatureAbandoned:
		return applyAbandoned(s, e)
	case chain.SignatureCreated:
		return applySignatureCreated(s, e, attachments)
	case chain.CertificateIssued, chain.SignerEnrolled, chain.SignerRenewed, chain.ServiceEnrolled, chain.ServiceRenewed:
		for i, der := range attachments {
			digest := sha256.Sum256(der)
			s.Put(bucketCertificates, digest[:], append(indexKey(e.Index), byte(i)))
		}
	}
	return nil
}

func applyRecordCreated(s *ledger.State, e chain.Entry, attachments [][]byte) error {
	var body recordCreated
	if err := readBody(e, &body); err != nil {
		return err
	}
	if len(attachments) != 1 {
		return fmt.Errorf("entry %d: record.created has %d attachments, want the record alone", e.Index, len(attachments))
	}
	r, err := manifest.ParseRecord(attachments[0])
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	key, err := eventKey(body.Event)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	state := recordState{
		Index: e.Index, Digest: body.Record, Bundle: body.Bundle, Type: body.Type, Name: r.Name, Version: r.Version, Title: r.Title,
		Created: e.Time, Files: r.Bundle.Files, Bytes: r.Bundle.Bytes, Policy: r.Policy, Status: statusOpen,
	}
	s.Put(bucketOrder, indexKey(^e.Index), key)
	s.Put(bucketDigests, []byte(body.Record), key)
	s.Put(bucketCounts, key, indexKey(0))
	await(s, key, state)
	return put(s, bucketRecords, key, state)
}

func applyRecordSuperseded(s *ledger.State, e chain.Entry) error {
	var body manifest.RecordSuperseded
	if err := readBody(e, &body); err != nil {
		return err
	}
	return changeRecord(s, e, body.Event, func(r *recordState) {
		r.Superseded = e.Index
		settled(s, *r)
	})
}

func applyRecordDecided(s *ledger.State, e chain.Entry) error {
	var body recordDecided
	if err := readBody(e, &body); err != nil {
		return err
	}
	err := changeRecord(s, e, body.Event, func(r *recordState) {
		r.Decided = e.Index
		settled(s, *r)
		switch {
		case body.Outcome == statusApproved:
			r.Status = statusApproved
		case r.Status == statusApproved, r.Status == statusWithdrawn: // or another approver takes theirs back, too
			r.Status = statusWithdrawn
		default:
			r.Status = statusRejected
		}
	})
	if err != nil {
		return err
	}
	key, err := eventKey(body.Event)
	if err != nil {
		return err
	}
	return put(s, bucketClosings, key, closingState{Decided: e.Index})
}

func applyPrepared(s *ledger.State, e chain.Entry) error {
	var body signaturePrepared
	if err := readBody(e, &body); err != nil {
		return err
	}
	return put(s, bucketPreparations, []byte(body.Preparation), preparationState{
		Index: e.Index, Event: body.Event, Signer: body.Signer, Statement: body.Statement, Expires: body.Expires, State: prepared,
	})
}

func applyAttempted(s *ledger.State, e chain.Entry) error {
	var body signatureAttempted
	if err := readBody(e, &body); err != nil {
		return err
	}
	if err := changePreparation(s, e, body.Preparation, func(p *preparationState) { p.State = attempted }); err != nil {
		return err
	}
	return put(s, bucketAttempts, []byte(body.Preparation), attemptState{Index: e.Index, Event: body.Event, Lease: body.Lease})
}

func applyAbandoned(s *ledger.State, e chain.Entry) error {
	var body signatureAbandoned
	if err := readBody(e, &body); err != nil {
		return err
	}
	if err := changePreparation(s, e, body.Preparation, func(p *preparationState) { p.State = abandoned }); err != nil {
		return err
	}
	s.Delete(bucketAttempts, []byte(body.Preparation))
	return nil
}

func applySignatureCreated(s *ledger.State, e chain.Entry, attachments [][]byte) error {
	var body struct { // the members that are needed; the ledger's checker and every verifier read the whole
		Event     string `json:"event"`
		Statement string `json:"statement"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	if len(attachments) < 3 {
		return fmt.Errorf("entry %d: signature.created has %d attachments, want statement, signature and authorization", e.Index, len(attachments))
	}
	var st statementRow
	if err := json.Unmarshal(attachments[attachedStatement], &st); err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	key, err := eventKey(body.Event)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	p := st.Predicate
	err = put(s, bucketSignatures, append(key, indexKey(e.Index)...), signatureState{
		Statement: body.Statement, Preparation: p.Preparation, Signer: p.Signer.ID, Decision: p.Decision, Meaning: p.Meaning.ID, Authorization: p.Requires,
	})
	if err != nil {
		return err
	}
	closing := p.Decision == decisionSeal && p.Meaning.ID == meaningClosing && p.Signer.ID == manifest.ClosingService
	if s.Get(bucketCounts, key) == nil {
		return fmt.Errorf("entry %d is a signature about the record %s, which no entry before it has created", e.Index, body.Event)
	}
	s.Put(bucketCounts, key, indexKey(uint64(signatureCount(s, key)+1)))
	if p.Decision != decisionSeal {
		s.Put(bucketOwn, ownKey(p.Signer.ID, e.Index), key)
	}
	if closing {
		s.Delete(bucketClosings, key)
		return changeRecord(s, e, body.Event, func(r *recordState) { r.Closing = e.Index })
	}
	if p.Decision == decisionSeal {
		return nil
	}
	err = changePreparation(s, e, p.Preparation, func(ps *preparationState) { ps.State, ps.Signature = signed, e.Index })
	if err != nil {
		return err
	}
	s.Delete(bucketAttempts, []byte(p.Preparation))
	return nil
}

// statementRow is the part of a statement that the projection keeps.
type statementRow struct {
	Predicate struct {
		Preparation string `json:"preparation"`
		Decision    string `json:"decision"`
		Requires    string `json:"requires"`
		Meaning     struct {
			ID string `json:"id"`
		} `json:"meaning"`
		Signer struct {
			ID string `json:"id"`
		} `json:"signer"`
	} `json:"predicate"`
}

// signatureCount is how many signatures a record has.
func signatureCount(s *ledger.State, key []byte) int {
	b := s.Get(bucketCounts, key)
	if len(b) != 8 {
		return 0
	}
	return int(binary.BigEndian.Uint64(b))
}

func changeRecord(s *ledger.State, e chain.Entry, event string, change func(*recordState)) error {
	key, err := eventKey(event)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	var r recordState
	ok, err := get(s, bucketRecords, key, &r)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("entry %d names the record %s, which no entry before it has created", e.Index, event)
	}
	change(&r)
	return put(s, bucketRecords, key, r)
}

func changePreparation(s *ledger.State, e chain.Entry, id string, change func(*preparationState)) error {
	var p preparationState
	ok, err := get(s, bucketPreparations, []byte(id), &p)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("entry %d names the preparation %s, which no entry before it has made", e.Index, id)
	}
	change(&p)
	return put(s, bucketPreparations, []byte(id), p)
}

func readBody(e chain.Entry, body any) error {
	if err := json.Unmarshal(e.Body, body, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	return nil
}

func get(s *ledger.State, bucket string, key []byte, v any) (bool, error) {
	b := s.Get(bucket, key)
	if b == nil {
		return false, nil
	}
	return true, decode(bucket, b, v)
}

// decode reads a row of the projection.
func decode(bucket string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: projection %s/%s: %w; run `signetd ledger check`", ledger.ErrCorrupt, projectionName, bucket, err)
	}
	return nil
}

func put(s *ledger.State, bucket string, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.Put(bucket, key, b)
	return nil
}

// eventKey is the key of a record: the 16 bytes of its UUID.
func eventKey(event string) ([]byte, error) {
	id, err := uuid.Parse(event)
	if err != nil || id.String() != event {
		return nil, fmt.Errorf("%w: %q is no event id", ErrRecordNotFound, event)
	}
	return id[:], nil
}

// eventOf is the event id of a record's key.
func eventOf(key []byte) string { return uuid.UUID(key[:16]).String() }

func indexKey(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

func hexOf(b []byte) string { return hex.EncodeToString(b) }
