package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"uuid"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/jcs"
)

// RecordFormat is the format of a [Record].
const RecordFormat = "signet-record/v1"

// Release is the record type whose manifests are named after their version.
const Release = "release"

const (
	maxRecord = 32 << 20 // bytes of a record's canonical form
	maxName   = 256      // bytes of a name
	maxLine   = 1024     // bytes of a line
	maxList   = 1000     // elements of a list
)

// Record is what a signature is about: one event, never two.
type Record struct {
	Bundle     BundleRef `json:"bundle"` // zero ({}) where the record type allows a record without a bundle
	Event      Event     `json:"event"`
	Format     string    `json:"format"` // RecordFormat
	Name       string    `json:"name"`   // of the product or the document
	Policy     Policy    `json:"policy"`
	Readiness  Readiness `json:"readiness"`
	Source     Source    `json:"source"`
	Supersedes string    `json:"supersedes"` // record digest of the version before, or empty
	System     System    `json:"system"`
	Title      string    `json:"title"`
	Version    string    `json:"version"` // vX.Y.Z or vX.Y.Z-pre for a release
}

// Event is what happened once: its id never stands for anything else.
type Event struct {
	ID   string `json:"id"`   // UUIDv7
	Type string `json:"type"` // out of the registry of record types
}

// BundleRef names a bundle and says how large it is.
type BundleRef struct {
	Bytes  int64             `json:"bytes"`
	Digest DigestSet         `json:"digest"`
	Files  int               `json:"files"`
	Format string            `json:"format"`
	Roles  map[string]string `json:"roles"` // path → role
}

// IsZero reports whether there is no bundle.
func (b BundleRef) IsZero() bool {
	return b.Bytes == 0 && b.Digest == DigestSet{} && b.Files == 0 && b.Format == "" && len(b.Roles) == 0
}

// MarshalJSON writes {} where there is no bundle.
func (b BundleRef) MarshalJSON() ([]byte, error) {
	if b.IsZero() {
		return []byte("{}"), nil
	}
	type plain BundleRef
	return jcs.Marshal(plain(b))
}

// Source says where the software comes from.
type Source struct {
	Branch string            `json:"branch"`
	Commit string            `json:"commit"` // 40 or 64 lower-case hex digits: full, never abbreviated
	Repo   string            `json:"repo"`
	Tag    string            `json:"tag"`
	Trees  map[string]string `json:"trees"` // digests of regulated trees and of the auto-stamp set; never a signature
}

// Readiness is what stood open when the record was made.
type Readiness struct {
	Blockers []Blocker `json:"blockers"`
	Gates    []Gate    `json:"gates"`
}

// Gate is one evaluated condition.
type Gate struct {
	Evaluator Evaluator   `json:"evaluator"`
	ID        string      `json:"id"`
	Inputs    []GateInput `json:"inputs"`
	Result    string      `json:"result"` // an id, such as "passed", "failed", "not_required"
}

// Evaluator is the program that judged a gate.
type Evaluator struct {
	ID      string `json:"id"`
	Version string `json:"version"`
}

// GateInput names what a gate was judged on.
type GateInput struct {
	Digest DigestSet `json:"digest"`
	Name   string    `json:"name"`
}

// Blocker is something that stood in the way, and who cleared it.
type Blocker struct {
	Cleared Clearance `json:"cleared"`
	ID      string    `json:"id"`
	Title   string    `json:"title"`
}

// Clearance says who cleared a blocker, when and why; all empty: nobody has.
type Clearance struct {
	At     string `json:"at"` // the text of a Time
	By     string `json:"by"`
	Reason string `json:"reason"`
}

// Policy is the approval policy: the template and what it resolved to for this record.
type Policy struct {
	Resolved ResolvedPolicy `json:"resolved"`
	Template TemplateRef    `json:"template"`
}

// ResolvedPolicy says whose decisions count and how many are needed.
type ResolvedPolicy struct {
	AnyRejectionVetoes bool              `json:"anyRejectionVetoes"`
	Approvers          []Approver        `json:"approvers"`
	ExcludedSigners    []string          `json:"excludedSigners"` // separation of duties
	Exclusions         []string          `json:"exclusions"`      // what the bundle may leave out
	K                  int               `json:"k"`
	Requires           AuthorizationKind `json:"requires"`
}

// Approver is whose decision counts: a person, each member of a group, or whoever holds a role. Who belongs to a group or holds a role is
// looked at when they sign.
type Approver struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// RolePrefix begins an approver that is a role.
const RolePrefix = "role:"

// Person reports whether the approver is one person.
func (a Approver) Person() bool { return strings.HasPrefix(a.ID, "sgn_") }

// Open reports whether groups or roles are among the approvers, so that their number is not known beforehand.
func (r ResolvedPolicy) Open() bool {
	return slices.ContainsFunc(r.Approvers, func(a Approver) bool { return !a.Person() })
}

// Needed says in words how many must approve: "2 of 3", or "2" where it is not known of how many.
func (r ResolvedPolicy) Needed() string {
	if r.Open() {
		return strconv.Itoa(r.K)
	}
	return fmt.Sprintf("%d of %d", r.K, len(r.Approvers))
}

// Each says in words who decides, where the approver is not a person; else empty.
func (a Approver) Each() string {
	switch {
	case strings.HasPrefix(a.ID, GroupPrefix):
		return "each of its members"
	case strings.HasPrefix(a.ID, RolePrefix):
		return "each who has the role"
	}
	return ""
}

// Approver returns the approver whom a signer with these roles is or stands for, a person before a group or a role; empty: none. belongs
// says whether the signer belongs to a group.
func (r ResolvedPolicy) Approver(signer string, roles []string, belongs func(group string) bool) string {
	as := ""
	for _, a := range r.Approvers {
		role, isRole := strings.CutPrefix(a.ID, RolePrefix)
		switch {
		case a.ID == signer:
			return a.ID
		case as != "":
		case isRole && slices.Contains(roles, role), strings.HasPrefix(a.ID, GroupPrefix) && belongs(a.ID):
			as = a.ID
		}
	}
	return as
}

func checkApprover(field, s string) error {
	if role, ok := strings.CutPrefix(s, RolePrefix); ok {
		return checkToken(field, role, 64)
	}
	return checkHolder(field, s)
}

// TemplateRef names a policy template.
type TemplateRef struct {
	Digest  DigestSet `json:"digest"`
	ID      string    `json:"id"`
	Version int       `json:"version"`
}

// System is the software that made the record.
type System struct {
	Access        string `json:"access,omitempty"` // closed or open, as 21 CFR 11.3 defines the two; absent: made before systems declared it
	Configuration string `json:"configuration"`    // SHA-256, hex
	Documents     string `json:"documents"`        // SHA-256 of the documentation set, hex
	Environment   string `json:"environment"`      // production, validation or demo
	Software      string `json:"software"`         // name and version
	Strategy      string `json:"strategy"`         // SHA-256 of the signature strategy, hex
}

// The environments.
const (
	Production = "production"
	Validation = "validation"
	Demo       = "demo"
)

// What a system declares itself to be (21 CFR 11.3): closed, if those who answer for its records control who has access to it.
const (
	Closed = "closed"
	Open   = "open"
)

// Canonical returns the canonical bytes.
func (r Record) Canonical() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	b, err := canonical("record", r)
	if err == nil && len(b) > maxRecord {
		return nil, malformed("record: %d bytes; the limit is %d", len(b), maxRecord)
	}
	return b, err
}

// Digest returns the record digest: the SHA-256 of the canonical bytes.
func (r Record) Digest() (Digest, error) {
	b, err := r.Canonical()
	if err != nil {
		return Digest{}, err
	}
	return digest(b), nil
}

// ParseRecord reads a record in canonical form.
func ParseRecord(b []byte) (Record, error) {
	var r Record
	if len(b) > maxRecord {
		return r, malformed("record: %d bytes; the limit is %d", len(b), maxRecord)
	}
	if err := jcs.UnmarshalCanonical(b, &r); err != nil {
		return Record{}, parsing("record", err)
	}
	if err := r.Validate(); err != nil {
		return Record{}, err
	}
	return r, nil
}

// Validate checks all values.
func (r Record) Validate() error {
	if r.Format != RecordFormat {
		return malformed("record: format %.80q; this program reads %s", r.Format, RecordFormat)
	}
	if r.Name == "" {
		return malformed("record: no name")
	}
	if r.Event.Type == Release && r.Source.Commit == "" {
		return malformed("record: a release needs the full id of its commit")
	}
	return first(
		checkEvent("record: event.id", r.Event.ID),
		checkToken("record: event.type", r.Event.Type, 64),
		checkName("record: name", r.Name, maxName),
		checkVersion(r.Event.Type, r.Version),
		checkLine("record: title", r.Title, maxLine),
		checkHex("record: supersedes", r.Supersedes, true),
		r.Bundle.validate(),
		r.Source.validate(),
		r.Readiness.validate(),
		r.Policy.validate(),
		r.System.validate(),
	)
}

// checkEvent holds an id of an event.
func checkEvent(field, s string) error {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s || s[14] != '7' || !strings.ContainsRune("89ab", rune(s[19])) {
		return malformed("%s: %.80q is not a UUID of version 7 in lower case", field, s)
	}
	return nil
}

// checkVersion holds a version: of a release vX.Y.Z with an optional pre-release (semver), of everything else a name
// that is safe in a file name.
func checkVersion(recordType, s string) error {
	if recordType == Release {
		if !isSemver(s) {
			return malformed("record: version %.80q is not of the form vX.Y.Z or vX.Y.Z-pre.release", s)
		}
		return nil
	}
	ok := s != "" && len(s) <= 64
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = isAlphanumeric(c) || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return malformed("record: version %.80q is not 1 to 64 letters, digits, and . _ - inside", s)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isSemver reports whether s is "v" and a Semantic Version 2.0.0 without build metadata, which has no place in an order.
func isSemver(s string) bool {
	s, ok := strings.CutPrefix(s, "v")
	core, pre, hasPre := strings.Cut(s, "-")
	if !ok || len(s) > 64 {
		return false
	}
	number := func(s string) bool {
		if s == "" || s[0] == '0' && s != "0" {
			return false
		}
		return strings.Trim(s, "0123456789") == ""
	}
	parts := strings.Split(core, ".")
	for _, p := range parts {
		if !number(p) {
			return false
		}
	}
	if len(parts) != 3 || !hasPre {
		return len(parts) == 3
	}
	for p := range strings.SplitSeq(pre, ".") {
		digits := p != ""
		for i := range len(p) {
			if !isAlphanumeric(p[i]) && p[i] != '-' {
				return false
			}
			digits = digits && p[i] >= '0' && p[i] <= '9'
		}
		if p == "" || digits && !number(p) {
			return false
		}
	}
	return true
}

func (b BundleRef) validate() error {
	if b.IsZero() {
		return nil
	}
	if b.Format != bundle.Format {
		return malformed("record: bundle.format %.80q; this program reads %s", b.Format, bundle.Format)
	}
	if b.Bytes < 0 || b.Files < 0 || len(b.Roles) > b.Files {
		return malformed("record: bundle: %d bytes, %d files, %d roles", b.Bytes, b.Files, len(b.Roles))
	}
	for path, role := range b.Roles {
		if path == "" {
			return malformed("record: bundle.roles: an empty path")
		}
		const field = "record: bundle.roles"
		if err := first(checkLine(field, path, maxLine), checkToken(field, role, 64)); err != nil {
			return err
		}
	}
	return nil
}

func (s Source) validate() error {
	if s.Commit != "" && !isHex(s.Commit, 40) && !isHex(s.Commit, 64) {
		return malformed("record: source.commit %.80q is not a full commit id of 40 or 64 lower-case hex digits", s.Commit)
	}
	if len(s.Trees) > maxList {
		return malformed("record: source.trees: %d; the limit is %d", len(s.Trees), maxList)
	}
	for path, hash := range s.Trees {
		if !isHex(hash, 40) && !isHex(hash, 64) {
			return malformed("record: source.trees: %.80q is not a digest of 40 or 64 lower-case hex digits", hash)
		}
		if path == "" {
			return malformed("record: source.trees: an empty path")
		}
		if err := checkLine("record: source.trees", path, maxLine); err != nil {
			return err
		}
	}
	return first(
		checkLine("record: source.repo", s.Repo, maxLine),
		checkLine("record: source.branch", s.Branch, maxLine),
		checkLine("record: source.tag", s.Tag, maxLine),
	)
}

func (r Readiness) validate() error {
	if len(r.Gates) > maxList || len(r.Blockers) > maxList {
		return malformed("record: readiness: %d gates and %d blockers; the limit is %d each", len(r.Gates),
			len(r.Blockers), maxList)
	}
	gates, blockers := map[string]bool{}, map[string]bool{}
	for i, g := range r.Gates {
		field := fmt.Sprintf("record: readiness.gates[%d]", i)
		if gates[g.ID] {
			return malformed("%s: %q is there twice", field, g.ID)
		}
		gates[g.ID] = true
		if len(g.Inputs) > maxList {
			return malformed("%s: %d inputs; the limit is %d", field, len(g.Inputs), maxList)
		}
		for _, in := range g.Inputs {
			if err := checkLine(field+".inputs", in.Name, maxLine); err != nil {
				return err
			}
		}
		err := first(checkToken(field+".id", g.ID, 128), checkToken(field+".result", g.Result, 64),
			checkToken(field+".evaluator.id", g.Evaluator.ID, 128),
			checkLine(field+".evaluator.version", g.Evaluator.Version, 128))
		if err != nil {
			return err
		}
	}
	for i, b := range r.Blockers {
		field := fmt.Sprintf("record: readiness.blockers[%d]", i)
		if blockers[b.ID] {
			return malformed("%s: %q is there twice", field, b.ID)
		}
		blockers[b.ID] = true
		if err := first(checkToken(field+".id", b.ID, 128), checkLine(field+".title", b.Title, maxLine),
			b.Cleared.validate(field)); err != nil {
			return err
		}
	}
	return nil
}

func (c Clearance) validate(field string) error {
	if c == (Clearance{}) {
		return nil
	}
	if _, err := parseTime(c.At); err != nil {
		return parsing(field+".cleared.at", err)
	}
	if c.Reason == "" {
		return malformed("%s.cleared: no reason", field)
	}
	return first(checkActor(field+".cleared.by", c.By), checkText(field+".cleared.reason", c.Reason, maxReason))
}

func (p Policy) validate() error {
	r := p.Resolved
	if len(r.Approvers) > maxList || len(r.ExcludedSigners) > maxList || len(r.Exclusions) > maxList {
		return malformed("record: policy: more than %d approvers, excluded signers or exclusions", maxList)
	}
	if r.K < 1 || r.K > len(r.Approvers) && !r.Open() {
		return malformed("record: policy: %d approvals of %d approvers; the threshold lies between 1 and their number",
			r.K, len(r.Approvers))
	}
	if !r.Requires.Known() || r.Requires == AuthorizationService {
		return malformed("record: policy: requires %.80q; a person's authorization is needed", r.Requires)
	}
	if p.Template.Version < 1 {
		return malformed("record: policy.template.version %d; versions count from 1", p.Template.Version)
	}
	if err := checkToken("record: policy.template.id", p.Template.ID, 64); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, a := range r.Approvers {
		if seen[a.ID] {
			return malformed("record: policy: approver %q is there twice", a.ID)
		}
		seen[a.ID] = true
		if a.Name == "" {
			return malformed("record: policy: approver %q has no printed name", a.ID)
		}
		if err := first(checkApprover("record: policy: approver", a.ID),
			checkName("record: policy: approver's name", a.Name, maxName)); err != nil {
			return err
		}
	}
	excluded := map[string]bool{}
	for _, id := range r.ExcludedSigners {
		if excluded[id] {
			return malformed("record: policy: excluded signer %q is there twice", id)
		}
		excluded[id] = true
		if err := checkID("record: policy: excluded signer", "sgn_", id); err != nil {
			return err
		}
	}
	exclusions := map[string]bool{}
	for _, path := range r.Exclusions {
		if path == "" || exclusions[path] {
			return malformed("record: policy: exclusion %q is empty or there twice", path)
		}
		exclusions[path] = true
		if err := checkLine("record: policy: exclusion", path, maxLine); err != nil {
			return err
		}
	}
	return nil
}

func (s System) validate() error {
	switch s.Environment {
	case Production, Validation, Demo:
	default:
		return malformed("record: system.environment %.80q is not production, validation or demo", s.Environment)
	}
	if a := s.Access; a != "" && a != Closed && a != Open {
		return malformed("record: system.access %.80q is not closed or open", a)
	}
	return first(
		checkLine("record: system.software", s.Software, maxName),
		checkHex("record: system.configuration", s.Configuration, true),
		checkHex("record: system.documents", s.Documents, true),
		checkHex("record: system.strategy", s.Strategy, true),
	)
}

// FileName is where the manifest of a record belongs beside what it signs: "signatures/release-v0.1.0.json" for a
// release, and for every other type its type, version and event.
func FileName(r Record) string {
	if r.Event.Type == Release {
		return "signatures/release-" + r.Version + ".json"
	}
	return "signatures/" + r.Event.Type + "-" + r.Version + "-" + r.Event.ID + ".json"
}
