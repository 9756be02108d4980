// Package rights knows who may do what beyond their enrolment: roles with a validity, groups, who is designated for a record type, who was
// trained and until when, and when all of it was last reviewed.
//
// # The problem
//
// People come and go, change their tasks and forget their training, and a right that nobody takes away stays. So a right has a beginning, an
// end, somebody who gave it and a reason; whoever may sign is looked up again when the signature is made; and a person looks at all rights at
// set intervals and signs what they saw (21 CFR 11.10(d), (g), (i), 11.300(b)).
//
// # How it is kept
//
// Every change is an entry, with who, why, the old and the new value: `role.assigned`, `role.withdrawn`, `group.changed`,
// `designation.changed`, `training.attested`, `training.withdrawn`, `rights.reviewed`. The state here ([Projection]) is a pure function of
// them. The bodies that verifiers read stand in api/manifest.
//
// A role is in force for a person if their enrolment gave it and nobody has withdrawn it, or if it is assigned to them or to a group that they
// belong to, and its time has come and not passed. A role of the enrolment that was withdrawn stays withdrawn, also when the person is
// renewed; it comes back by an assignment alone.
//
// # Proofs
//
// What gives a right is read from its entry, proved by inclusion under the last signed checkpoint, never from the projection alone: a row
// that somebody has written into the file gives nothing. That nothing has taken the right away since is the projection's word, which
// `signetd ledger check` holds against all entries.
package rights

import (
	"errors"
	"strings"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrGroupNotFound: there is no such group.
	ErrGroupNotFound = errors.New("there is no such group")
	// ErrAssignmentNotFound: no such assignment, or it was withdrawn, or the person does not have this role from their enrolment.
	ErrAssignmentNotFound = errors.New("there is no such assignment in force: `signet role list` shows them")
	// ErrTrainingNotFound: no such attestation, or it was withdrawn.
	ErrTrainingNotFound = errors.New("there is no such attestation in force: `signet training list` shows them")
	// ErrGroupChanged: somebody has changed the group since it was read.
	ErrGroupChanged = errors.New("the group has changed since you read it: read it again")
	// ErrDesignationChanged: somebody has changed the designation since it was read.
	ErrDesignationChanged = errors.New("the designation has changed since you read it: read it again")
	// ErrValidity: a role or an attestation would end before it begins, or before now.
	ErrValidity = errors.New("validity refused")
	// ErrInvalid: an argument cannot be: the message names it.
	ErrInvalid = errors.New("invalid")
	// ErrNotDesignated: the signer is not designated for this type of record.
	ErrNotDesignated = errors.New("not designated for this type of record")
	// ErrTraining: the signer lacks a training that their designation asks for, or it has lapsed.
	ErrTraining = errors.New("training is missing or has lapsed")
	// ErrLastAdministrator: nobody could administer any more.
	ErrLastAdministrator = errors.New("nobody could administer any more: give the role administrator to somebody else first")
	// ErrTampered: what the projection says is not what the ledger says.
	ErrTampered = errors.New("stored rights do not match their entries in the ledger; run `signetd ledger check`")
)

// A Holder has a right: a signer (their id) or a group ("group:" and its name).
type Holder string

// HolderOfGroup is a group as a holder.
func HolderOfGroup(name string) Holder { return Holder(manifest.GroupPrefix + name) }

// Group returns the name of the group, if the holder is one.
func (h Holder) Group() (name string, ok bool) {
	return strings.CutPrefix(string(h), manifest.GroupPrefix)
}

// Bodies of the entries that no verifier reads.

// DesignationChanged is the body of designation.changed: who may sign records of a type at all, and with which training.
type DesignationChanged struct {
	Now        designated `json:"now"`
	Reason     string     `json:"reason"`
	RecordType string     `json:"recordType"`
	Was        designated `json:"was"`
}

// designated is a [DesignationState] as the entry has it: each holder is a member of its own, by which the entry is found.
type designated struct {
	Courses []string  `json:"courses"`
	Holders []subject `json:"holders"`
}

type subject struct {
	Subject Holder `json:"subject"`
}

// NewDesignationChanged is the body of a change.
func NewDesignationChanged(recordType, reason string, was, now DesignationState) DesignationChanged {
	return DesignationChanged{Now: now.designated(), Reason: reason, RecordType: recordType, Was: was.designated()}
}

func (d DesignationState) designated() designated {
	out := designated{Courses: append([]string{}, d.Courses...), Holders: make([]subject, len(d.Holders))}
	for i, h := range d.Holders {
		out.Holders[i] = subject{h}
	}
	return out
}

func (d designated) holders() []Holder {
	out := make([]Holder, len(d.Holders))
	for i, h := range d.Holders {
		out[i] = h.Subject
	}
	return out
}

// DesignationState is a designation at a time.
type DesignationState struct {
	Courses []string `json:"courses"` // sorted; each holder needs an attestation of each
	Holders []Holder `json:"holders"` // sorted; none: every signer
}

// TrainingAttested is the body of training.attested.
type TrainingAttested struct {
	Course    string     `json:"course"`
	End       chain.Time `json:"end"`
	ID        string     `json:"id"`        // trn_…
	Reference string     `json:"reference"` // where the record of it is kept
	Signer    string     `json:"signer"`
}

// TrainingWithdrawn is the body of training.withdrawn.
type TrainingWithdrawn struct {
	Course string `json:"course"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
	Signer string `json:"signer"`
}

// Reviewed is the body of rights.reviewed: the record in which all credentials and rights stood was approved.
type Reviewed struct {
	Bundle string `json:"bundle"` // digest of what was reviewed
	Event  string `json:"event"`
	Record string `json:"record"` // its digest
}

// RecordType is the type of the records in which rights are reviewed.
const RecordType = "access-review"

// AlertOverdue is the kind of the alert that a review is overdue. Its subject is empty.
const AlertOverdue = "review.overdue"

// Reader is what a *ledger.Tx and a *ledger.Read have in common.
type Reader interface {
	View(projection string) *ledger.State
	ProvedEntry(index uint64) ([]byte, error)
}
