package manifest

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

const (
	// StatementType is the in-toto type of a [Statement].
	StatementType = "https://in-toto.io/Statement/v1"
	// PredicateType is the type of its predicate.
	PredicateType = "https://github.com/signetd/signet/signature/v1"
	// PayloadType is the DSSE payload type of its canonical bytes.
	PayloadType = "application/vnd.in-toto+json"
	// MaxStatement is the size of the largest statement in bytes.
	MaxStatement = 1 << 20
)

// The decisions. The list is append-only.
const (
	Approve  = "approve"
	Reject   = "reject"
	Abstain  = "abstain"
	Review   = "review"
	Author   = "author"
	Withdraw = "withdraw"
	Seal     = "seal" // a service's own signature; never counted as a person's
)

// What is reserved for closing seals.
const (
	ClosingMeaning = "closing"     // the meaning's id
	ClosingService = "svc_closing" // the signer
)

// The inputs of a closing seal, and the outcome that satisfies a policy.
const (
	InputOutcome    = "outcome"
	InputStatements = "statements"
	OutcomeApproved = "approved"
)

const (
	maxReason = 16000 // bytes: 4,000 characters of the longest kind
	maxText   = 64 << 10
)

// Statement is what a signer signs: an in-toto Statement v1 in canonical JSON.
type Statement struct {
	Type          string    `json:"_type"` // StatementType
	Predicate     Predicate `json:"predicate"`
	PredicateType string    `json:"predicateType"` // PredicateType
	Subject       []Subject `json:"subject"`       // the bundle, if there is one, then the record
}

// Subject names something by its digest.
type Subject struct {
	Digest DigestSet `json:"digest"`
	Name   string    `json:"name"`
}

// Predicate is what the signer says about the subjects.
type Predicate struct {
	Activity    Activity          `json:"activity"`
	Decision    string            `json:"decision"`
	Event       string            `json:"event"`   // of the record
	Expires     Time              `json:"expires"` // when the preparation lapses
	Inputs      []Input           `json:"inputs"`
	Ledger      Head              `json:"ledger"` // the ledger's head when it was prepared
	Meaning     Meaning           `json:"meaning"`
	Preparation string            `json:"preparation"` // so that no two statements are alike
	PreparedAt  Time              `json:"preparedAt"`
	Previous    string            `json:"previous"` // SHA-256 (hex) of the newest statement below ledger.size, or empty
	Reason      string            `json:"reason"`   // the signer's words
	Requires    AuthorizationKind `json:"requires"` // the components that were demanded
	Signer      Signer            `json:"signer"`
	Statement   string            `json:"statement"` // the attestation as shown
	Zone        Zone              `json:"zone"`      // the signer's
}

// Activity is the part of an event that is decided; empty and "0" for the record as a whole.
type Activity struct {
	Attempt string `json:"attempt"` // a decimal
	ID      string `json:"id"`
}

// Input is a value that the activity asked for.
type Input struct {
	Name  string         `json:"name"`
	Value jsontext.Value `json:"value"` // any JSON but null
}

// Head is the head of a ledger.
type Head struct {
	Origin string     `json:"origin"`
	Root   chain.Hash `json:"root"`
	Size   uint64     `json:"size,string"`
}

// Meaning is what the signature means (21 CFR 11.50(a)(3)).
type Meaning struct {
	ID      string `json:"id"`
	Text    string `json:"text"`
	Version int    `json:"version"`
}

// Signer is who signs, as printed when they signed. A later change of name changes no statement.
type Signer struct {
	Enrolment    chain.Hash `json:"enrolment"` // leaf hash of the entry that last bound name and key to the id
	ID           string     `json:"id"`        // sgn_… a person, svc_… a service
	Name         string     `json:"name"`
	Organisation string     `json:"organisation"`
	Roles        []string   `json:"roles"`
	Title        string     `json:"title"`
}

// Person reports whether the signer is a human being.
func (s Signer) Person() bool { return strings.HasPrefix(s.ID, "sgn_") }

// Zone is the time zone of a signer.
type Zone struct {
	Name   string `json:"name"`   // IANA
	Offset string `json:"offset"` // ±hh:mm at the time of preparation
}

// Closing reports whether the statement is that of a closing seal.
func (s Statement) Closing() bool {
	p := s.Predicate
	return p.Decision == Seal && p.Meaning.ID == ClosingMeaning && p.Signer.ID == ClosingService
}

// NewStatement returns a statement about a record.
func NewStatement(r Record, p Predicate) (Statement, error) {
	about, err := Subjects(r)
	if err != nil {
		return Statement{}, err
	}
	s := Statement{Type: StatementType, Predicate: p, PredicateType: PredicateType, Subject: about}
	return s, s.Validate()
}

// Subjects are what every statement about a record is about: the bundle, if there is one, then the record.
func Subjects(r Record) ([]Subject, error) {
	d, err := r.Digest()
	if err != nil {
		return nil, err
	}
	return subjects(r, d), nil
}

// subjects are what every statement about a record of that digest is about.
func subjects(r Record, d Digest) []Subject {
	name := r.Name + "-" + r.Version
	record := Subject{Digest: DigestSet{SHA256: d}, Name: name + "#record"}
	if r.Bundle.IsZero() {
		return []Subject{record}
	}
	return []Subject{{Digest: r.Bundle.Digest, Name: name}, record}
}

// About reports whether the statement is about exactly this record, its bundle and its event.
func (s Statement) About(r Record) error {
	d, err := r.Digest()
	if err != nil {
		return err
	}
	return s.AboutDigest(r, d)
}

// AboutDigest is [Statement.About] for who has the record's digest already.
func (s Statement) AboutDigest(r Record, d Digest) error {
	want := subjects(r, d)
	if len(s.Subject) != len(want) {
		return fmt.Errorf("the statement has %d subjects, and the record asks for %d", len(s.Subject), len(want))
	}
	for i, w := range want {
		if got := s.Subject[i]; got != w {
			return fmt.Errorf("the statement is about %q with SHA-256 %s, not about %q with SHA-256 %s", got.Name,
				got.Digest.SHA256, w.Name, w.Digest.SHA256)
		}
	}
	if s.Predicate.Event != r.Event.ID {
		return fmt.Errorf("the statement is about the event %s, and the record about %s", s.Predicate.Event, r.Event.ID)
	}
	return nil
}

// Canonical returns the canonical bytes: those that are signed, in [PAE].
func (s Statement) Canonical() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b, err := canonical("statement", s)
	if err == nil && len(b) > MaxStatement {
		return nil, malformed("statement: %d bytes; the limit is %d", len(b), MaxStatement)
	}
	return b, err
}

// Digest returns the SHA-256 of the canonical bytes.
func (s Statement) Digest() (Digest, error) {
	b, err := s.Canonical()
	if err != nil {
		return Digest{}, err
	}
	return digest(b), nil
}

// ParseStatement reads a statement in canonical form.
func ParseStatement(b []byte) (Statement, error) {
	var s Statement
	if len(b) > MaxStatement {
		return s, malformed("statement: %d bytes; the limit is %d", len(b), MaxStatement)
	}
	if err := jcs.UnmarshalCanonical(b, &s); err != nil {
		return Statement{}, parsing("statement", err)
	}
	if err := s.Validate(); err != nil {
		return Statement{}, err
	}
	return s, nil
}

// PAE returns the DSSE pre-authentication encoding of a canonical statement: the bytes that the signature covers.
func PAE(canonical []byte) []byte {
	const head = "DSSEv1 28 " + PayloadType + " "
	b := make([]byte, 0, len(head)+20+len(canonical))
	b = append(b, head...)
	b = strconv.AppendInt(b, int64(len(canonical)), 10)
	b = append(b, ' ')
	return append(b, canonical...)
}

// Validate checks all values.
func (s Statement) Validate() error {
	if s.Type != StatementType || s.PredicateType != PredicateType {
		return malformed("statement: type %.80q, predicate type %.80q; this program reads %s and %s", s.Type,
			s.PredicateType, StatementType, PredicateType)
	}
	if err := checkSubjects(s.Subject); err != nil {
		return err
	}
	return s.Predicate.validate()
}

func checkSubjects(subject []Subject) error {
	if len(subject) < 1 || len(subject) > 2 {
		return malformed("statement: %d subjects; want the bundle and the record, or the record alone", len(subject))
	}
	name, ok := strings.CutSuffix(subject[len(subject)-1].Name, "#record")
	if !ok || name == "" || len(subject) == 2 && subject[0].Name != name {
		return malformed("statement: the subjects are not the bundle and the record")
	}
	return checkLine("statement: subject", name, 2*maxName)
}

func (p Predicate) validate() error {
	switch p.Decision {
	case Approve, Reject, Abstain, Review, Author, Withdraw, Seal:
	default:
		return malformed("statement: unknown decision %.80q", p.Decision)
	}
	if !p.Requires.Known() {
		return malformed("statement: requires %.80q, which is no authorization", p.Requires)
	}
	service := !p.Signer.Person()
	if service != (p.Decision == Seal) || service != (p.Requires == AuthorizationService) {
		return malformed("statement: a seal is a service's (%s), and a service does nothing else", p.Signer.ID)
	}
	if (p.Meaning.ID == ClosingMeaning) != (p.Signer.ID == ClosingService) {
		return malformed("statement: the meaning %s and the signer %s are reserved for each other", ClosingMeaning,
			ClosingService)
	}
	if !service && strings.TrimSpace(p.Reason) == "" {
		return malformed("statement: no reason; it is the signer's words and has no default")
	}
	if p.Meaning.Version < 1 || p.Meaning.Text == "" {
		return malformed("statement: a meaning needs its text, and a version from 1")
	}
	if p.Statement == "" {
		return malformed("statement: no attestation text")
	}
	if !p.PreparedAt.Before(p.Expires) {
		return malformed("statement: it expires (%s) before it is prepared (%s)", p.Expires, p.PreparedAt)
	}
	return first(
		p.Activity.validate(),
		checkEvent("statement: event", p.Event),
		checkInputs(p.Inputs),
		p.Ledger.validate(),
		checkToken("statement: meaning.id", p.Meaning.ID, 64),
		checkText("statement: meaning.text", p.Meaning.Text, maxText),
		checkID("statement: preparation", "prp_", p.Preparation),
		checkHex("statement: previous", p.Previous, true),
		checkText("statement: reason", p.Reason, maxReason),
		checkText("statement: statement", p.Statement, maxText),
		p.Signer.validate(),
		p.Zone.validate(),
	)
}

func (a Activity) validate() error {
	if n, err := strconv.ParseUint(a.Attempt, 10, 32); err != nil || strconv.FormatUint(n, 10) != a.Attempt {
		return malformed("statement: activity.attempt %.80q is not a decimal", a.Attempt)
	}
	if a.ID == "" {
		if a.Attempt != "0" {
			return malformed("statement: activity.attempt %s without an activity", a.Attempt)
		}
		return nil
	}
	return checkToken("statement: activity.id", a.ID, 128)
}

// number returns the attempt; validate has checked it.
func (a Activity) number() uint64 {
	n, _ := strconv.ParseUint(a.Attempt, 10, 32)
	return n
}

// Attempts orders two attempts of one activity.
func (a Activity) Attempts(b Activity) int {
	switch x, y := a.number(), b.number(); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func checkInputs(inputs []Input) error {
	if len(inputs) > maxList {
		return malformed("statement: %d inputs; the limit is %d", len(inputs), maxList)
	}
	seen := map[string]bool{}
	for i, in := range inputs {
		field := fmt.Sprintf("statement: inputs[%d]", i)
		if seen[in.Name] {
			return malformed("%s: %q is there twice", field, in.Name)
		}
		seen[in.Name] = true
		if in.Name == "" {
			return malformed("%s: no name", field)
		}
		if err := checkLine(field, in.Name, maxName); err != nil {
			return err
		}
		if err := checkValue(field, in.Value); err != nil {
			return err
		}
	}
	return nil
}

// checkValue refuses null, and control characters that a reader of the rendering could be deceived with.
func checkValue(field string, v jsontext.Value) error {
	if len(v) == 0 {
		return malformed("%s: no value", field)
	}
	if err := jcs.Check(v); err != nil {
		return parsing(field, err)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(v))
	for {
		tok, err := dec.ReadToken()
		if err != nil {
			return nil // the end: Check has read it all
		}
		switch tok.Kind() {
		case 'n':
			return malformed("%s: null", field)
		case '"':
			if err := checkText(field, tok.String(), maxText); err != nil {
				return err
			}
		}
	}
}

func (h Head) validate() error {
	c := chain.Checkpoint{Origin: h.Origin, Size: h.Size, Root: h.Root}
	if err := c.Validate(); err != nil {
		return parsing("statement: ledger", err)
	}
	return nil
}

func (s Signer) validate() error {
	if s.Name == "" {
		return malformed("statement: the signer has no printed name")
	}
	return first(
		checkActor("statement: signer.id", s.ID),
		checkName("statement: signer.name", s.Name, maxName),
		checkName("statement: signer.organisation", s.Organisation, maxName),
		checkName("statement: signer.title", s.Title, maxName),
		checkRoles("statement: signer.roles", s.Roles),
	)
}

// checkActor holds the id of a person or a service.
func checkActor(field, id string) error {
	if strings.HasPrefix(id, "svc_") {
		return checkID(field, "svc_", id)
	}
	return checkID(field, "sgn_", id)
}

func checkRoles(field string, roles []string) error {
	if len(roles) > 32 {
		return malformed("%s: %d roles; the limit is 32", field, len(roles))
	}
	seen := map[string]bool{}
	for _, r := range roles {
		if seen[r] {
			return malformed("%s: %q is there twice", field, r)
		}
		seen[r] = true
		if err := checkToken(field, r, 64); err != nil {
			return err
		}
	}
	return nil
}

// seconds returns the offset.
func (z Zone) seconds() (time.Duration, bool) {
	if z.validate() != nil {
		return 0, false
	}
	hours, _ := strconv.Atoi(z.Offset[1:3])
	minutes, _ := strconv.Atoi(z.Offset[4:])
	d := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if z.Offset[0] == '-' {
		d = -d
	}
	return d, true
}

func (z Zone) validate() error {
	ok := z.Name != "" && len(z.Name) <= 64
	for i := 0; ok && i < len(z.Name); i++ {
		c := z.Name[i]
		ok = isAlphanumeric(c) || i > 0 && (c == '/' || c == '_' || c == '-' || c == '+')
	}
	if !ok {
		return malformed("statement: zone.name %.80q is not the name of a time zone", z.Name)
	}
	o := z.Offset
	digit := func(i int) bool { return o[i] >= '0' && o[i] <= '9' }
	if len(o) != 6 || o[0] != '+' && o[0] != '-' || o[3] != ':' || !digit(1) || !digit(2) || !digit(4) || !digit(5) ||
		o[1:3] > "18" || o[4:] > "59" || o == "-00:00" {
		return malformed("statement: zone.offset %.80q is not of the form +01:00", z.Offset)
	}
	return nil
}
