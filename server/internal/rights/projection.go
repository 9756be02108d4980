package rights

import (
	"encoding/binary"
	"encoding/json/v2"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// The buckets of the projection. Keys that hold an index hold it in 8 bytes, big-endian.
const (
	projectionName = "rights"

	bucketAssignments = "assignments"     // id → assignmentRow
	bucketOrder       = "assignmentorder" // index → id
	bucketHeld        = "held"            // holder, "/", id → nothing, of those that were not withdrawn
	bucketByRole      = "byrole"          // role, "/", id → holder, of those that were not withdrawn
	bucketEver        = "ever"            // holder, "/", index → nothing: every role.assigned
	bucketLost        = "lost"            // signer, "/", role → index of the entry that withdrew a role of the enrolment
	bucketGroups      = "groups"          // name → groupRow
	bucketGroupEver   = "groupever"       // name, "/", index → nothing: every group.changed
	bucketMember      = "member"          // signer, "/", group → nothing
	bucketWasMember   = "wasmember"       // signer, "/", group → nothing: now or once
	bucketDesignation = "designations"    // record type → designationRow
	bucketTraining    = "training"        // id → trainingRow
	bucketTrainOrder  = "trainingorder"   // index → id
	bucketTrained     = "trained"         // signer, "/", course, "/", id → nothing, of those that were not withdrawn
	bucketReviews     = "reviews"         // index → reviewRow, of those whose approval stands
	bucketReviewed    = "reviewed"        // event → index
	bucketMeta        = "meta"            // "begin" → time of the first entry, "alert" → alertRow
)

// assignmentRow is a role that was given.
type assignmentRow struct {
	ID        string     `json:"id"`
	Index     uint64     `json:"index"`
	Holder    Holder     `json:"holder"`
	Role      string     `json:"role"`
	Start     chain.Time `json:"start"`
	End       chain.Time `json:"end"`
	By        string     `json:"by"`
	Reason    string     `json:"reason"`
	Withdrawn uint64     `json:"withdrawn"` // index of role.withdrawn; 0: none
}

type groupRow struct {
	Index       uint64   `json:"index"` // of the newest change
	DisplayName string   `json:"displayName"`
	Members     []string `json:"members"`
}

type designationRow struct {
	Index   uint64   `json:"index"`
	Holders []Holder `json:"holders"`
	Courses []string `json:"courses"`
}

type trainingRow struct {
	ID        string     `json:"id"`
	Index     uint64     `json:"index"`
	Signer    string     `json:"signer"`
	Course    string     `json:"course"`
	Reference string     `json:"reference"`
	End       chain.Time `json:"end"`
	By        string     `json:"by"`
	Withdrawn uint64     `json:"withdrawn"`
}

type reviewRow struct {
	Event string     `json:"event"`
	Time  chain.Time `json:"time"`
}

// alertRow is the last alert that a review is overdue.
type alertRow struct {
	Time chain.Time `json:"time"`
}

// Projection returns the state of rights as a function of the ledger's entries.
func Projection() ledger.Projection { return projection{} }

type projection struct{}

// Name implements ledger.Projection.
func (projection) Name() string { return projectionName }

// Version implements ledger.Projection.
func (projection) Version() int { return 1 }

// Apply implements ledger.Projection.
func (projection) Apply(s *ledger.State, e chain.Entry, _ []byte, _ [][]byte) error {
	switch e.Type {
	case chain.LedgerCreated:
		return put(s, bucketMeta, []byte("begin"), e.Time)
	case chain.RoleAssigned:
		return applyAssigned(s, e)
	case chain.RoleWithdrawn:
		return applyWithdrawn(s, e)
	case chain.GroupChanged:
		return applyGroup(s, e)
	case chain.DesignationChanged:
		return applyDesignation(s, e)
	case chain.TrainingAttested:
		return applyTraining(s, e)
	case chain.TrainingWithdrawn:
		return applyTrainingWithdrawn(s, e)
	case chain.RightsReviewed:
		return applyReviewed(s, e)
	case chain.RecordDecided:
		return applyDecided(s, e)
	case chain.AlertRaised:
		return applyAlert(s, e)
	}
	return nil
}

func applyAssigned(s *ledger.State, e chain.Entry) error {
	b, err := manifest.ParseRoleAssigned(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	s.Put(bucketOrder, indexKey(e.Index), []byte(b.ID))
	s.Put(bucketHeld, under(b.Subject, b.ID), nil)
	s.Put(bucketByRole, under(b.Role, b.ID), []byte(b.Subject))
	s.Put(bucketEver, append(under(b.Subject, ""), indexKey(e.Index)...), nil)
	return put(s, bucketAssignments, []byte(b.ID), assignmentRow{
		ID: b.ID, Index: e.Index, Holder: Holder(b.Subject), Role: b.Role, Start: b.Start, End: b.End, By: e.Actor.ID, Reason: b.Reason,
	})
}

func applyWithdrawn(s *ledger.State, e chain.Entry) error {
	b, err := manifest.ParseRoleWithdrawn(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	if b.ID == "" {
		s.Put(bucketLost, under(b.Subject, b.Role), indexKey(e.Index))
		return nil
	}
	var row assignmentRow
	if ok, err := get(s, bucketAssignments, []byte(b.ID), &row); err != nil || !ok {
		return unnamed(e, b.ID, err)
	}
	row.Withdrawn = e.Index
	s.Delete(bucketHeld, under(string(row.Holder), row.ID))
	s.Delete(bucketByRole, under(row.Role, row.ID))
	return put(s, bucketAssignments, []byte(row.ID), row)
}

func applyGroup(s *ledger.State, e chain.Entry) error {
	b, err := manifest.ParseGroupChanged(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	var old groupRow
	if _, err := get(s, bucketGroups, []byte(b.Name()), &old); err != nil {
		return err
	}
	for _, m := range old.Members {
		s.Delete(bucketMember, under(m, b.Name()))
	}
	for _, m := range b.Members {
		s.Put(bucketMember, under(m, b.Name()), nil)
		s.Put(bucketWasMember, under(m, b.Name()), nil)
	}
	s.Put(bucketGroupEver, append(under(b.Name(), ""), indexKey(e.Index)...), nil)
	return put(s, bucketGroups, []byte(b.Name()), groupRow{Index: e.Index, DisplayName: b.DisplayName, Members: b.Members})
}

func applyDesignation(s *ledger.State, e chain.Entry) error {
	b, err := readBody[DesignationChanged](e)
	if err != nil {
		return err
	}
	return put(s, bucketDesignation, []byte(b.RecordType), designationRow{Index: e.Index, Holders: b.Now.holders(), Courses: b.Now.Courses})
}

func applyTraining(s *ledger.State, e chain.Entry) error {
	b, err := readBody[TrainingAttested](e)
	if err != nil {
		return err
	}
	s.Put(bucketTrainOrder, indexKey(e.Index), []byte(b.ID))
	s.Put(bucketTrained, under(b.Signer, b.Course+"/"+b.ID), nil)
	return put(s, bucketTraining, []byte(b.ID), trainingRow{
		ID: b.ID, Index: e.Index, Signer: b.Signer, Course: b.Course, Reference: b.Reference, End: b.End, By: e.Actor.ID,
	})
}

func applyTrainingWithdrawn(s *ledger.State, e chain.Entry) error {
	b, err := readBody[TrainingWithdrawn](e)
	if err != nil {
		return err
	}
	var row trainingRow
	if ok, err := get(s, bucketTraining, []byte(b.ID), &row); err != nil || !ok {
		return unnamed(e, b.ID, err)
	}
	row.Withdrawn = e.Index
	s.Delete(bucketTrained, under(row.Signer, row.Course+"/"+row.ID))
	return put(s, bucketTraining, []byte(row.ID), row)
}

func applyReviewed(s *ledger.State, e chain.Entry) error {
	b, err := readBody[Reviewed](e)
	if err != nil {
		return err
	}
	s.Put(bucketReviewed, []byte(b.Event), indexKey(e.Index))
	return put(s, bucketReviews, indexKey(e.Index), reviewRow{Event: b.Event, Time: e.Time})
}

// applyDecided takes a review back whose approval was withdrawn. Decisions are another package's: only what they came to is looked at.
func applyDecided(s *ledger.State, e chain.Entry) error {
	var b struct {
		Event   string `json:"event"`
		Outcome string `json:"outcome"`
	}
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	if index := s.Get(bucketReviewed, []byte(b.Event)); index != nil && b.Outcome != "approved" {
		s.Delete(bucketReviews, index)
		s.Delete(bucketReviewed, []byte(b.Event))
	}
	return nil
}

// applyAlert remembers when it was last said that a review is overdue. Alerts are another package's: only their kind is looked at.
func applyAlert(s *ledger.State, e chain.Entry) error {
	var b struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	if b.Kind != AlertOverdue {
		return nil
	}
	return put(s, bucketMeta, []byte("alert"), alertRow{Time: e.Time})
}

func unnamed(e chain.Entry, id string, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("entry %d names %.80q, which no entry before it has made", e.Index, id)
}

// readBody reads a body of this package.
func readBody[T any](e chain.Entry) (T, error) {
	var v T
	if err := json.Unmarshal(e.Body, &v, json.RejectUnknownMembers(true)); err != nil {
		return v, fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	return v, nil
}

func get(s *ledger.State, bucket string, key []byte, v any) (bool, error) {
	b := s.Get(bucket, key)
	if b == nil {
		return false, nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return true, fmt.Errorf("%w: projection %s/%s: %w; run `signetd ledger check`", ledger.ErrCorrupt, projectionName, bucket, err)
	}
	return true, nil
}

func put(s *ledger.State, bucket string, key []byte, v any) error {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return err
	}
	s.Put(bucket, key, b)
	return nil
}

func indexKey(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

// under is a key below another one. Neither ids nor names hold a slash.
func under(a, b string) []byte { return []byte(a + "/" + b) }
