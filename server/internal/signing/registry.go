package signing

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/server/internal/rights"
)

// RecordType is a kind of record that can be signed. One signing primitive serves all of them: a new type is a new row
// in [recordTypes], never a new path.
type RecordType struct {
	ID             string   `json:"id"`
	Description    string   `json:"description"`
	BundleRequired bool     `json:"bundleRequired"`
	Part11         bool     `json:"part11"` // a record that 21 CFR Part 11 applies to
	RequiredRoles  []string `json:"requiredRoles"`
	// Separation are the duties whose holders never decide about such a record.
	Separation []DutyKind `json:"separation"`
	Meanings   []Meaning  `json:"meanings"`
}

// Meaning is what a signature means (21 CFR 11.50(a)(3)): an id, the version of its text, the text itself, which is
// signed, and the decisions that it goes with. A text never changes; a better one is a new version.
type Meaning struct {
	ID        string   `json:"id"`
	Version   int      `json:"version"`
	Text      string   `json:"text"`
	Decisions []string `json:"decisions"`
}

// Template is an approval policy before it is resolved for one record.
type Template struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	// K is the threshold; 0: the record's creator gives it.
	K int `json:"k"`
	// AnyRejectionVetoes: one counted rejection fails the record.
	AnyRejectionVetoes bool `json:"anyRejectionVetoes"`
	// Requires is the least authorization of a decision that counts.
	Requires string `json:"requires"`
	// Exclusions are the bundle paths that may be left out.
	Exclusions []string `json:"exclusions"`
}

const (
	meaningWithdrawal = "withdrawal"
	meaningClosing    = "closing"
)

// Meanings that every record type has.
var commonMeanings = []Meaning{
	{ID: "authorship", Version: 1, Text: "I am the author of this record.", Decisions: []string{"author"}},
	{ID: "review", Version: 1, Text: "I have reviewed this record.", Decisions: []string{"review"}},
	{ID: "abstention", Version: 1, Text: "I have seen this record and abstain from deciding about it.", Decisions: []string{"abstain"}},
	{ID: meaningWithdrawal, Version: 1, Text: "I withdraw my earlier decision about this record.", Decisions: []string{"withdraw"}},
	{ID: "evidence-seal", Version: 1, Text: "A service has sealed this record as it stood.", Decisions: []string{"seal"}},
	{ID: meaningClosing, Version: 1, Text: "The signing service closes this record over the statements named here.", Decisions: []string{"seal"}},
}

var recordTypes = []RecordType{
	{
		ID: rights.RecordType, Description: "A periodic review of all credentials and rights, as the service wrote them down.", BundleRequired: true, Part11: true,
		Separation: everyDuty,
		Meanings: append([]Meaning{
			{ID: "review-approval", Version: 1, Text: "I have reviewed these credentials and rights. Each of them is needed, and is held by who should hold it.", Decisions: []string{"approve"}},
			{ID: "review-rejection", Version: 1, Text: "I have reviewed these credentials and rights. They must be corrected and reviewed again.", Decisions: []string{"reject"}},
		}, commonMeanings...),
	},
	{
		ID: "conformance", Description: "What a check of a live deployment did and saw, clause by clause (signetd conform).", BundleRequired: true, Part11: true,
		Separation: everyDuty,
		Meanings: append([]Meaning{
			{ID: "conformance-approval", Version: 1, Text: "I have read this report. The deployment that it names may be used as it says.", Decisions: []string{"approve"}},
			{ID: "conformance-rejection", Version: 1, Text: "I have read this report. The deployment that it names must not be used before it is corrected.", Decisions: []string{"reject"}},
		}, commonMeanings...),
	},
	{
		ID: "document", Description: "A controlled document.", BundleRequired: true, Part11: true, Separation: everyDuty,
		Meanings: append([]Meaning{
			{ID: "document-approval", Version: 1, Text: "I approve this document for use.", Decisions: []string{"approve"}},
			{ID: "document-rejection", Version: 1, Text: "I reject this document.", Decisions: []string{"reject"}},
		}, commonMeanings...),
	},
	{
		ID: "release", Description: "A software release, signed against its aggregated evidence bundle.", BundleRequired: true, Part11: true, Separation: everyDuty,
		Meanings: append([]Meaning{
			{ID: "release-approval", Version: 1, Text: "I approve this release for distribution.", Decisions: []string{"approve"}},
			{ID: "release-rejection", Version: 1, Text: "I reject this release: it must not be distributed.", Decisions: []string{"reject"}},
		}, commonMeanings...),
	},
	{
		ID: "verification", Description: "A formal verification record that belongs to no release.", BundleRequired: true, Part11: true, Separation: everyDuty,
		Meanings: append([]Meaning{
			{ID: "verification-approval", Version: 1, Text: "I confirm that this verification was carried out and that its results are as recorded.", Decisions: []string{"approve"}},
			{ID: "verification-rejection", Version: 1, Text: "I reject this verification record.", Decisions: []string{"reject"}},
		}, commonMeanings...),
	},
}

var templates = []Template{
	{ID: "k-of-n", Version: 1, K: 0, AnyRejectionVetoes: true, Requires: "password", Exclusions: []string{"signatures/"}},
	{ID: "k-of-n-passkey", Version: 1, K: 0, AnyRejectionVetoes: true, Requires: "passkey", Exclusions: []string{"signatures/"}},
	{ID: "k-of-n-password-passkey", Version: 1, K: 0, AnyRejectionVetoes: true, Requires: "password+passkey", Exclusions: []string{"signatures/"}},
	{ID: "single-approver", Version: 1, K: 1, AnyRejectionVetoes: true, Requires: "password", Exclusions: []string{"signatures/"}},
	{ID: "single-approver-passkey", Version: 1, K: 1, AnyRejectionVetoes: true, Requires: "passkey", Exclusions: []string{"signatures/"}},
	{ID: "single-approver-password-passkey", Version: 1, K: 1, AnyRejectionVetoes: true, Requires: "password+passkey", Exclusions: []string{"signatures/"}},
}

func templateIDs() []string {
	ids := make([]string, len(templates))
	for i, t := range templates {
		ids[i] = t.ID
	}
	return ids
}

// RecordTypes returns the registry, ordered by id.
func RecordTypes() []RecordType { return slices.Clone(recordTypes) }

// Strategy is the digest of the whole registry: record types, meanings and templates. Each record names it, so that
// what a signature meant can be shown decades later.
func Strategy() (string, error) {
	b, err := jcs.Marshal(struct {
		RecordTypes []RecordType `json:"recordTypes"`
		Templates   []Template   `json:"templates"`
	}{recordTypes, templates})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

func recordType(id string) (RecordType, error) {
	for _, t := range recordTypes {
		if t.ID == id {
			return t, nil
		}
	}
	return RecordType{}, fmt.Errorf("%w: %q; `signet record types` lists them", ErrRecordType, id)
}

// meaning finds the meaning of a type for a decision.
func (t RecordType) meaning(id, decision string) (Meaning, error) {
	for _, m := range t.Meanings {
		if m.ID != id {
			continue
		}
		if !slices.Contains(m.Decisions, decision) {
			return Meaning{}, fmt.Errorf("%w: %q does not go with the decision %q", ErrMeaning, id, decision)
		}
		return m, nil
	}
	return Meaning{}, fmt.Errorf("%w: a %s has no meaning %q", ErrMeaning, t.ID, id)
}

func template(id string) (Template, error) {
	for _, t := range templates {
		if t.ID == id {
			return t, nil
		}
	}
	return Template{}, fmt.Errorf("%w: there is no policy template %q; there are %s", ErrRecordInvalid, id, strings.Join(templateIDs(), ", "))
}

// Digest is the SHA-256 of the template's canonical form.
func (t Template) Digest() ([sha256.Size]byte, error) {
	b, err := jcs.Marshal(t)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(b), nil
}
