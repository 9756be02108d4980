package manifest

import (
	"encoding/json/jsontext"

	"github.com/signetd/signet/api/jcs"
)

// AccountabilityType is the predicate type of an [AccountabilityStatement].
const AccountabilityType = "https://github.com/signetd/signet/accountability/v1"

// AccountabilityStatement is what a person signs before anything else, with the key that they have just got: that they are accountable for
// what is signed with it (21 CFR 11.10(j)). It is an in-toto Statement v1 in canonical JSON, signed in [PAE] like any other; its one subject
// is the text, by its SHA-256.
type AccountabilityStatement struct {
	Type          string                  `json:"_type"` // StatementType
	Predicate     AccountabilityPredicate `json:"predicate"`
	PredicateType string                  `json:"predicateType"` // AccountabilityType
	Subject       []Subject               `json:"subject"`
}

// AccountabilityPredicate is who acknowledges what.
type AccountabilityPredicate struct {
	Certificate string               `json:"certificate"` // SHA-256 of the signer's certificate (DER) in hex
	KeyID       string               `json:"keyId"`       // SHA-256 of its SubjectPublicKeyInfo in hex
	Letter      string               `json:"letter"`      // reference of the organisation's letter to the agency (21 CFR 11.100(c)), or empty
	SignedAt    Time                 `json:"signedAt"`    // the time-stamp says when it was signed
	Signer      AccountabilitySigner `json:"signer"`
	Statement   string               `json:"statement"` // the text as shown
	Version     string               `json:"version"`   // of the text
	Zone        Zone                 `json:"zone"`      // the signer's
}

// AccountabilitySigner is the person as printed.
type AccountabilitySigner struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Organisation string   `json:"organisation"`
	Roles        []string `json:"roles"`
	Title        string   `json:"title"`
	UserName     string   `json:"userName"`
}

// NewAccountability returns the statement.
func NewAccountability(p AccountabilityPredicate) (AccountabilityStatement, error) {
	s := AccountabilityStatement{
		Type: StatementType, Predicate: p, PredicateType: AccountabilityType,
		Subject: []Subject{{Digest: DigestSet{SHA256: digest([]byte(p.Statement))}, Name: p.Version}},
	}
	return s, s.Validate()
}

// Canonical returns the canonical bytes: those that are signed, in [PAE].
func (s AccountabilityStatement) Canonical() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return canonical("accountability statement", s)
}

// ParseAccountability reads a statement in canonical form.
func ParseAccountability(b []byte) (AccountabilityStatement, error) {
	var s AccountabilityStatement
	if len(b) > MaxStatement {
		return s, malformed("accountability statement: %d bytes; the limit is %d", len(b), MaxStatement)
	}
	if err := jcs.UnmarshalCanonical(b, &s); err != nil {
		return AccountabilityStatement{}, parsing("accountability statement", err)
	}
	if err := s.Validate(); err != nil {
		return AccountabilityStatement{}, err
	}
	return s, nil
}

// Validate checks all values.
func (s AccountabilityStatement) Validate() error {
	const what = "accountability statement: "
	p := s.Predicate
	switch {
	case s.Type != StatementType || s.PredicateType != AccountabilityType:
		return malformed(what+"its types are %.80q and %.80q", s.Type, s.PredicateType)
	case p.Signer.Name == "" || p.Signer.UserName == "" || p.Version == "" || p.Statement == "":
		return malformed(what + "a name, the version or the text is missing")
	case p.SignedAt.IsZero():
		return malformed(what + "no time")
	case len(s.Subject) != 1 || s.Subject[0].Name != p.Version || s.Subject[0].Digest.SHA256 != digest([]byte(p.Statement)):
		return malformed(what + "its subject is not its text")
	}
	return first(
		checkHex(what+"certificate", p.Certificate, false),
		checkHex(what+"keyId", p.KeyID, false),
		checkLine(what+"letter", p.Letter, maxName*4),
		checkID(what+"signer.id", "sgn_", p.Signer.ID),
		checkName(what+"signer.name", p.Signer.Name, maxName),
		checkName(what+"signer.organisation", p.Signer.Organisation, maxName),
		checkRoles(what+"signer.roles", p.Signer.Roles),
		checkName(what+"signer.title", p.Signer.Title, maxName),
		checkLine(what+"signer.userName", p.Signer.UserName, maxName),
		checkText(what+"statement", p.Statement, maxText),
		checkLine(what+"version", p.Version, maxName),
		p.Zone.validate(),
	)
}

// AccountabilitySigned is the body of accountability.signed. Its attachments are the canonical statement, the raw signature and the
// time-stamp token.
type AccountabilitySigned struct {
	Certificate string `json:"certificate"` // SHA-256 of the DER in hex
	ID          string `json:"id"`          // sgn_…
	KeyID       string `json:"keyId"`
	Letter      string `json:"letter"`
	Signature   string `json:"signature"` // SHA-256 of its raw bytes in hex
	Statement   string `json:"statement"` // SHA-256 of its canonical form in hex
	Timestamp   string `json:"timestamp"` // SHA-256 of the token (DER) in hex
	Version     string `json:"version"`
}

// ParseAccountabilitySigned reads the body of an entry.
func ParseAccountabilitySigned(body jsontext.Value) (AccountabilitySigned, error) {
	return parseBody[AccountabilitySigned]("accountability.signed", body)
}

// Validate checks all values.
func (a AccountabilitySigned) Validate() error {
	const what = "accountability.signed: "
	if a.Version == "" {
		return malformed(what + "no version")
	}
	return first(
		checkHex(what+"certificate", a.Certificate, false),
		checkID(what+"id", "sgn_", a.ID),
		checkHex(what+"keyId", a.KeyID, false),
		checkLine(what+"letter", a.Letter, maxName*4),
		checkHex(what+"signature", a.Signature, false),
		checkHex(what+"statement", a.Statement, false),
		checkHex(what+"timestamp", a.Timestamp, false),
		checkLine(what+"version", a.Version, maxName),
	)
}
