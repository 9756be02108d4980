package manifest

import (
	"encoding/hex"
	"encoding/json/jsontext"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// Bodies of the ledger entries that a verifier reads. Each is read strictly and has one encoding, that of
// [chain.MarshalBody].

// SignatureCreated is the body of signature.created. It names everything of a signature, so that nothing in a manifest
// can be swapped without leaving the tree.
type SignatureCreated struct {
	Authorization Digest   `json:"authorization"` // of its canonical form
	Bundle        string   `json:"bundle"`        // the bundle digest in hex, or empty
	Certificates  []Digest `json:"certificates"`  // of each DER
	Event         string   `json:"event"`
	KeyID         string   `json:"keyId"`
	Record        Digest   `json:"record"`
	Signature     Digest   `json:"signature"` // of its raw bytes
	Signer        string   `json:"signer"`
	Statement     Digest   `json:"statement"`  // of its canonical form
	Timestamps    []Digest `json:"timestamps"` // of each DER
}

// SignerEnrolled is the body of signer.enrolled and signer.renewed: it binds a name, a key and rights to an id. The
// newest one of a person is what their statements name as enrolment.
type SignerEnrolled struct {
	Accountability string   `json:"accountability"` // version of the accountability statement that the person accepted
	Certificate    string   `json:"certificate"`    // SHA-256 of the DER in hex; empty for somebody without the role signer
	Credential     string   `json:"credential"`     // commitment to the credentials in hex
	ID             string   `json:"id"`             // sgn_…
	KeyID          string   `json:"keyId"`          // SHA-256 of the SPKI in hex; empty for somebody without the role signer
	Name           string   `json:"name"`
	Organisation   string   `json:"organisation"`
	Proofing       string   `json:"proofing"` // SHA-256 of the identity-proofing record in hex
	Roles          []string `json:"roles"`
	Title          string   `json:"title"`
	UserName       string   `json:"userName"`
	Zone           string   `json:"zone"` // IANA
}

// ServiceEnrolled is the body of service.enrolled and service.renewed: it binds a name, a sealing key and client certificates to an id.
type ServiceEnrolled struct {
	Certificate  string   `json:"certificate"` // SHA-256 of the DER in hex; empty for a service that never seals
	Clients      []string `json:"clients"`     // SHA-256 of each client certificate that it may connect with
	ID           string   `json:"id"`          // svc_…
	KeyID        string   `json:"keyId"`       // SHA-256 of the SPKI in hex; empty for a service that never seals
	Name         string   `json:"name"`
	Organisation string   `json:"organisation"`
	Roles        []string `json:"roles"`
}

// SignerRevoked is the body of signer.revoked and service.revoked: from this entry on, nothing that the key signs counts.
type SignerRevoked struct {
	By     string `json:"by"`    // who revoked
	ID     string `json:"id"`    // whose key
	KeyID  string `json:"keyId"` // which key, SHA-256 of the SPKI in hex; empty: every key of the id
	Reason string `json:"reason"`
}

// RecordSuperseded is the body of record.superseded.
type RecordSuperseded struct {
	By     string `json:"by"`     // event of the record that takes its place
	Event  string `json:"event"`  // of the superseded record
	Record string `json:"record"` // its digest in hex
}

// parseBody reads a body strictly.
func parseBody[T interface{ Validate() error }](what string, body jsontext.Value) (T, error) {
	var v, zero T
	if len(body) > chain.MaxEntry {
		return zero, malformed("%s: %d bytes", what, len(body))
	}
	if err := jcs.UnmarshalCanonical(body, &v); err != nil {
		return zero, parsing(what, err)
	}
	if err := v.Validate(); err != nil {
		return zero, err
	}
	return v, nil
}

// ParseSignatureCreated reads the body of an entry.
func ParseSignatureCreated(body jsontext.Value) (SignatureCreated, error) {
	return parseBody[SignatureCreated]("signature.created", body)
}

// ParseSignerEnrolled reads the body of an entry.
func ParseSignerEnrolled(body jsontext.Value) (SignerEnrolled, error) {
	return parseBody[SignerEnrolled]("signer.enrolled", body)
}

// ParseServiceEnrolled reads the body of an entry.
func ParseServiceEnrolled(body jsontext.Value) (ServiceEnrolled, error) {
	return parseBody[ServiceEnrolled]("service.enrolled", body)
}

// ParseSignerRevoked reads the body of an entry.
func ParseSignerRevoked(body jsontext.Value) (SignerRevoked, error) {
	return parseBody[SignerRevoked]("signer.revoked", body)
}

// ParseRecordSuperseded reads the body of an entry.
func ParseRecordSuperseded(body jsontext.Value) (RecordSuperseded, error) {
	return parseBody[RecordSuperseded]("record.superseded", body)
}

// Validate checks all values.
func (s SignatureCreated) Validate() error {
	const what = "signature.created: "
	if len(s.Certificates) < 1 || len(s.Certificates) > MaxCertificates || len(s.Timestamps) < 1 ||
		len(s.Timestamps) > MaxTimestamps {
		return malformed(what+"%d certificates, %d time-stamps", len(s.Certificates), len(s.Timestamps))
	}
	return first(
		checkHex(what+"bundle", s.Bundle, true),
		checkEvent(what+"event", s.Event),
		checkHex(what+"keyId", s.KeyID, false),
		checkActor(what+"signer", s.Signer),
	)
}

// Validate checks all values.
func (s SignerEnrolled) Validate() error {
	const what = "signer.enrolled: "
	if s.Name == "" || s.UserName == "" {
		return malformed(what + "no name or no user name")
	}
	if (s.Certificate == "") != (s.KeyID == "") {
		return malformed(what + "a certificate and a key belong together")
	}
	return first(
		checkLine(what+"accountability", s.Accountability, maxName),
		checkHex(what+"certificate", s.Certificate, true),
		checkHex(what+"credential", s.Credential, true),
		checkID(what+"id", "sgn_", s.ID),
		checkHex(what+"keyId", s.KeyID, true),
		checkName(what+"name", s.Name, maxName),
		checkName(what+"organisation", s.Organisation, maxName),
		checkHex(what+"proofing", s.Proofing, true),
		checkRoles(what+"roles", s.Roles),
		checkName(what+"title", s.Title, maxName),
		checkLine(what+"userName", s.UserName, maxName),
		Zone{Name: s.Zone, Offset: "+00:00"}.validate(),
	)
}

// Validate checks all values.
func (s ServiceEnrolled) Validate() error {
	const what = "service.enrolled: "
	if s.Name == "" {
		return malformed(what + "no name")
	}
	if (s.Certificate == "") != (s.KeyID == "") {
		return malformed(what + "a certificate and a key belong together")
	}
	if len(s.Clients) > 100 {
		return malformed(what+"%d client certificates; the limit is 100", len(s.Clients))
	}
	seen := map[string]bool{}
	for _, c := range s.Clients {
		if seen[c] {
			return malformed(what+"client certificate %s is there twice", c)
		}
		seen[c] = true
		if err := checkHex(what+"clients", c, false); err != nil {
			return err
		}
	}
	return first(
		checkHex(what+"certificate", s.Certificate, true),
		checkID(what+"id", "svc_", s.ID),
		checkHex(what+"keyId", s.KeyID, true),
		checkName(what+"name", s.Name, maxName),
		checkName(what+"organisation", s.Organisation, maxName),
		checkRoles(what+"roles", s.Roles),
	)
}

// Validate checks all values.
func (s SignerRevoked) Validate() error {
	const what = "signer.revoked: "
	if s.By == "" {
		return malformed(what + "nobody revoked it")
	}
	return first(
		checkToken(what+"by", s.By, 128),
		checkActor(what+"id", s.ID),
		checkHex(what+"keyId", s.KeyID, true),
		checkText(what+"reason", s.Reason, maxReason),
	)
}

// Validate checks all values.
func (s RecordSuperseded) Validate() error {
	const what = "record.superseded: "
	return first(checkEvent(what+"by", s.By), checkEvent(what+"event", s.Event), checkHex(what+"record", s.Record, false))
}

// BodyOf returns what the entry of a signature must say.
func BodyOf(sig Signature) (SignatureCreated, error) {
	statement, err := sig.Statement.Canonical()
	if err != nil {
		return SignatureCreated{}, err
	}
	return BodyAround(sig, statement)
}

// BodyAround is [BodyOf] for a caller that has the canonical bytes of the statement already.
func BodyAround(sig Signature, statement []byte) (SignatureCreated, error) {
	authorization, err := sig.Authorization.Canonical()
	if err != nil {
		return SignatureCreated{}, err
	}
	subject := sig.Statement.Subject
	b := SignatureCreated{
		Authorization: digest(authorization), Certificates: digests(sig.Certificates), Event: sig.Statement.Predicate.Event,
		KeyID: sig.Signature.KeyID, Record: subject[len(subject)-1].Digest.SHA256, Signature: digest(sig.Signature.Value),
		Signer: sig.Statement.Predicate.Signer.ID, Statement: digest(statement), Timestamps: digests(sig.Timestamps),
	}
	if len(subject) == 2 {
		b.Bundle = subject[0].Digest.SHA256.String()
	}
	return b, nil
}

func digests(list [][]byte) []Digest {
	out := make([]Digest, len(list))
	for i, b := range list {
		out[i] = digest(b)
	}
	return out
}

// KeyID returns the id of a public key, given as SubjectPublicKeyInfo in DER: its SHA-256 in hex.
func KeyID(spki []byte) string {
	d := digest(spki)
	return hex.EncodeToString(d[:])
}
