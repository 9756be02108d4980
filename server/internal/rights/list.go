package rights

import (
	"slices"
	"strconv"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Assignment is a role that somebody has, or had.
type Assignment struct {
	ID       string // empty: it comes with the enrolment
	Index    uint64 // of its entry: the place in a list
	Holder   Holder
	Role     string
	Start    time.Time // zero: at once
	End      time.Time // zero: until it is withdrawn
	InForce  bool
	By       string
	Reason   string
	Withdrew bool
}

func (row assignmentRow) assignment(at chain.Time) Assignment {
	return Assignment{
		ID: row.ID, Index: row.Index, Holder: row.Holder, Role: row.Role, Start: open(row.Start), End: open(row.End), By: row.By, Reason: row.Reason,
		InForce: row.Withdrawn == 0 && within(row.Start, row.End, at), Withdrew: row.Withdrawn != 0,
	}
}

func open(t chain.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.Time()
}

// GetAssignment returns one assignment that was not withdrawn.
func GetAssignment(r Reader, id string, now time.Time) (Assignment, error) {
	var row assignmentRow
	ok, err := get(r.View(projectionName), bucketAssignments, []byte(id), &row)
	if err == nil && (!ok || row.Withdrawn != 0) {
		err = ErrAssignmentNotFound
	}
	return row.assignment(chain.NewTime(now)), err
}

// Assignments returns up to limit assignments that were not withdrawn, in the order in which they were given, from after the index that is
// given.
func Assignments(r Reader, after uint64, limit int, now time.Time) ([]Assignment, error) {
	view := r.View(projectionName)
	var out []Assignment
	var failed error
	view.Ascend(bucketOrder, indexKey(after+1), func(_, id []byte) bool {
		var row assignmentRow
		ok, err := get(view, bucketAssignments, id, &row)
		if failed = lostUnless(ok, bucketAssignments, id, err); failed != nil {
			return false
		}
		if row.Withdrawn == 0 {
			out = append(out, row.assignment(chain.NewTime(now)))
		}
		return len(out) < limit
	})
	return out, failed
}

// AssignmentsOf returns what a signer has, directly or through groups, and was not withdrawn.
func AssignmentsOf(r Reader, signer string, now time.Time) ([]Assignment, error) {
	view := r.View(projectionName)
	var out []Assignment
	holders := []Holder{Holder(signer)}
	for _, g := range tails(view, bucketMember, signer) {
		holders = append(holders, HolderOfGroup(g))
	}
	for _, h := range holders {
		rows, err := held(view, h)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			out = append(out, row.assignment(chain.NewTime(now)))
		}
	}
	slices.SortFunc(out, func(a, b Assignment) int { return int(int64(a.Index) - int64(b.Index)) })
	return out, nil
}

// LostRole reports whether a role of a signer's enrolment was withdrawn.
func LostRole(r Reader, signer, role string) bool {
	return r.View(projectionName).Get(bucketLost, under(signer, role)) != nil
}

func lostUnless(ok bool, bucket string, key []byte, err error) error {
	if ok && err == nil {
		return nil
	}
	return lost(bucket, string(key), err)
}

// Group is a group as it stands.
type Group struct {
	Name        string
	DisplayName string
	Members     []string
	ETag        string
}

// GetGroup returns one group.
func GetGroup(r Reader, name string) (Group, error) {
	var row groupRow
	ok, err := get(r.View(projectionName), bucketGroups, []byte(name), &row)
	if err == nil && !ok {
		err = ErrGroupNotFound
	}
	return row.group(name), err
}

func (row groupRow) group(name string) Group {
	return Group{Name: name, DisplayName: row.DisplayName, Members: row.Members, ETag: etag(row.Index)}
}

// etag changes with every change: it is the index of the newest one.
func etag(index uint64) string {
	if index == 0 {
		return ""
	}
	return strconv.FormatUint(index, 10)
}

// Groups returns up to limit groups by name, from after the name that is given.
func Groups(r Reader, after string, limit int) ([]Group, error) {
	view := r.View(projectionName)
	var out []Group
	var failed error
	view.Ascend(bucketGroups, append([]byte(after), 0), func(k, _ []byte) bool {
		var g Group
		g, failed = GetGroup(r, string(k))
		out = append(out, g)
		return failed == nil && len(out) < limit
	})
	return out, failed
}

// Designation is who may sign records of a type.
type Designation struct {
	RecordType string
	Holders    []Holder
	Courses    []string
	ETag       string
}

// GetDesignation returns that of a type; without one, every signer.
func GetDesignation(r Reader, recordType string) (Designation, error) {
	var row designationRow
	_, err := get(r.View(projectionName), bucketDesignation, []byte(recordType), &row)
	return Designation{RecordType: recordType, Holders: row.Holders, Courses: row.Courses, ETag: etag(row.Index)}, err
}

// Designations returns all that were set, by record type.
func Designations(r Reader) ([]Designation, error) {
	var out []Designation
	var failed error
	r.View(projectionName).Ascend(bucketDesignation, nil, func(k, _ []byte) bool {
		var d Designation
		d, failed = GetDesignation(r, string(k))
		out = append(out, d)
		return failed == nil
	})
	return out, failed
}

// Training is an attestation.
type Training struct {
	ID        string
	Index     uint64
	Signer    string
	Course    string
	Reference string
	End       time.Time
	InForce   bool
	By        string
}

// GetTraining returns one attestation that was not withdrawn.
func GetTraining(r Reader, id string, now time.Time) (Training, error) {
	var row trainingRow
	ok, err := get(r.View(projectionName), bucketTraining, []byte(id), &row)
	if err == nil && (!ok || row.Withdrawn != 0) {
		err = ErrTrainingNotFound
	}
	return row.training(chain.NewTime(now)), err
}

func (row trainingRow) training(at chain.Time) Training {
	return Training{
		ID: row.ID, Index: row.Index, Signer: row.Signer, Course: row.Course, Reference: row.Reference, End: row.End.Time(), By: row.By,
		InForce: row.Withdrawn == 0 && at.Before(row.End),
	}
}

// Trainings returns up to limit attestations that were not withdrawn, those that have lapsed too, in the order in which they were given, from
// after the index that is given; of one signer alone, if one is named.
func Trainings(r Reader, signer string, after uint64, limit int, now time.Time) ([]Training, error) {
	view := r.View(projectionName)
	var out []Training
	var failed error
	view.Ascend(bucketTrainOrder, indexKey(after+1), func(_, id []byte) bool {
		var row trainingRow
		ok, err := get(view, bucketTraining, id, &row)
		if failed = lostUnless(ok, bucketTraining, id, err); failed != nil {
			return false
		}
		if row.Withdrawn == 0 && (signer == "" || row.Signer == signer) {
			out = append(out, row.training(chain.NewTime(now)))
		}
		return len(out) < limit
	})
	return out, failed
}

// Review is when rights were last reviewed, and when they are to be.
type Review struct {
	Event string    // of the record of the last approved review; empty: there was none
	Time  time.Time // when it was approved
	Due   time.Time
}

// GetReview says how the reviews stand, at an interval: the first one is due one interval after the ledger was begun.
func GetReview(r Reader, interval time.Duration) (Review, error) {
	view := r.View(projectionName)
	var row reviewRow
	var begin chain.Time
	var newest []byte
	view.Descend(bucketReviews, nil, func(k, _ []byte) bool {
		newest = k
		return false
	})
	if newest != nil {
		if _, err := get(view, bucketReviews, newest, &row); err != nil {
			return Review{}, err
		}
		return Review{Event: row.Event, Time: row.Time.Time(), Due: row.Time.Time().Add(interval)}, nil
	}
	if _, err := get(view, bucketMeta, []byte("begin"), &begin); err != nil {
		return Review{}, err
	}
	return Review{Due: begin.Time().Add(interval)}, nil
}

// LastAlert returns when it was last said that a review is overdue; zero: never.
func LastAlert(r *ledger.Tx) (time.Time, error) {
	var row alertRow
	ok, err := get(r.View(projectionName), bucketMeta, []byte("alert"), &row)
	if err != nil || !ok {
		return time.Time{}, err
	}
	return row.Time.Time(), nil
}

// Place is where a list of assignments goes on.
type Place struct {
	Assigned bool   // past the roles of enrolments
	After    uint64 // index of the entry
}
