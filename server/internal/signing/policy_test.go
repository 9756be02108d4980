package signing

import (
	"errors"
	"testing"

	"github.com/signetd/signet/api/manifest"
)

func TestCount(t *testing.T) {
	const a, b, c = "sgn_a", "sgn_b", "sgn_c"
	by := func(signer, decision string) row {
		r := row{signatureState: signatureState{Signer: signer, Decision: decision, Authorization: "password"}}
		if decision == decisionSeal {
			r.Authorization = "service"
		}
		return r
	}
	weak := by(a, "approve")
	weak.Authorization = "service"
	for _, tc := range []struct {
		name     string
		k        int
		veto     bool
		excluded []string
		rows     []row
		want     string
	}{
		{"nobody yet", 1, true, nil, nil, statusOpen},
		{"one of one", 1, true, nil, []row{by(a, "approve")}, statusApproved},
		{"one of two", 2, true, nil, []row{by(a, "approve")}, statusOpen},
		{"the same person twice", 2, true, nil, []row{by(a, "approve"), by(a, "approve")}, statusOpen},
		{"two of two", 2, true, nil, []row{by(a, "approve"), by(b, "approve")}, statusApproved},
		{"somebody who is not designated", 1, true, nil, []row{by("sgn_x", "approve")}, statusOpen},
		{"somebody who is excluded", 1, true, []string{a}, []row{by(a, "approve")}, statusOpen},
		{"a service", 1, true, nil, []row{by("svc_x", "seal"), by(a, "seal")}, statusOpen},
		{"too weak an authorization", 1, true, nil, []row{weak}, statusOpen},
		{"a veto", 1, true, nil, []row{by(a, "reject")}, statusRejected},
		{"a rejection that is no veto", 2, false, nil, []row{by(a, "reject")}, statusOpen},
		{"out of reach", 2, false, nil, []row{by(a, "reject"), by(b, "reject")}, statusRejected},
		{"out of reach by exclusion", 3, false, []string{c}, nil, statusRejected},
		{"the newest decision counts", 1, true, nil, []row{by(a, "reject"), by(a, "approve")}, statusApproved},
		{"an abstention takes the place of an approval", 1, true, nil, []row{by(a, "approve"), by(a, "abstain")}, statusOpen},
		{"a withdrawal takes all back", 1, true, nil, []row{by(a, "approve"), by(a, "withdraw")}, statusOpen},
		{"a withdrawal of somebody else", 1, true, nil, []row{by(a, "approve"), by(b, "withdraw")}, statusApproved},
		{"a review is no approval", 1, true, nil, []row{by(a, "review")}, statusOpen},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := manifest.Policy{Resolved: manifest.ResolvedPolicy{
				AnyRejectionVetoes: tc.veto, K: tc.k, ExcludedSigners: tc.excluded, Requires: manifest.AuthorizationPassword,
				Approvers: []manifest.Approver{{ID: a}, {ID: b}, {ID: c}},
			}}
			if got := count(p, tc.rows).outcome; got != tc.want {
				t.Fatalf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestAdmit: who may decide about a record as it stands.
func TestAdmit(t *testing.T) {
	t.Attr("requirement", "11.10(f)")
	const a, b, c = "sgn_a", "sgn_b", "sgn_c"
	by := func(signer, decision, authorization string) row {
		return row{signatureState: signatureState{Signer: signer, Decision: decision, Authorization: authorization}}
	}
	approved := []row{by(a, "approve", "password")}
	full := make([]row, MaxSignatures)
	for i := range full {
		full[i] = by(a, "review", "password")
	}
	for _, tc := range []struct {
		name             string
		state            recordState
		rows             []row
		signer, decision string
		want             error
	}{
		{"an approver", recordState{Status: statusOpen}, nil, a, "approve", nil},
		{"somebody else", recordState{Status: statusOpen}, nil, "sgn_x", "approve", ErrNotDesignated},
		{"an approver who is excluded", recordState{Status: statusOpen}, nil, c, "approve", ErrNotDesignated},
		{"after the decision", recordState{Status: statusApproved}, approved, b, "approve", ErrRecordClosed},
		{"a review after the decision", recordState{Status: statusRejected}, nil, b, "review", ErrRecordClosed},
		{"of a superseded record", recordState{Status: statusOpen, Superseded: 7}, nil, a, "approve", ErrRecordChanged},
		{"as many as one manifest can hold", recordState{Status: statusOpen}, full[1:], a, "approve", nil},
		{"one more", recordState{Status: statusOpen}, full, a, "approve", ErrTooMany},
		{"one's own approval, taken back", recordState{Status: statusApproved}, approved, a, "withdraw", nil},
		{"also of a superseded record", recordState{Status: statusApproved, Superseded: 7}, approved, a, "withdraw", nil},
		{"nothing to take back", recordState{Status: statusApproved}, approved, b, "withdraw", ErrNothingToWithdraw},
		{"taken back twice", recordState{Status: statusWithdrawn}, append(approved, by(a, "withdraw", "password")), a, "withdraw", ErrNothingToWithdraw},
		{"what did not count, before the decision", recordState{Status: statusOpen}, []row{by(b, "approve", "service")}, b, "withdraw", nil},
		{"what did not count, after it", recordState{Status: statusApproved}, append(approved, by(b, "approve", "service")), b, "withdraw", ErrRecordClosed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.state.Policy.Resolved = manifest.ResolvedPolicy{
				K: 1, ExcludedSigners: []string{c}, Requires: manifest.AuthorizationPassword, Approvers: []manifest.Approver{{ID: a}, {ID: b}, {ID: c}},
			}
			if err := admit(tc.state, tc.rows, tc.signer, tc.decision); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestMeaningsAreWellFormed(t *testing.T) {
	ids := map[string]bool{}
	for _, typ := range RecordTypes() {
		if ids[typ.ID] {
			t.Errorf("%s stands there twice", typ.ID)
		}
		ids[typ.ID] = true
		meanings := map[string]bool{}
		for _, m := range typ.Meanings {
			if meanings[m.ID] || m.ID == "" || m.Text == "" || m.Version < 1 || len(m.Decisions) == 0 {
				t.Errorf("%s: meaning %+v", typ.ID, m)
			}
			meanings[m.ID] = true
		}
		for _, d := range []string{"approve", "reject", "abstain", "review", "author", "withdraw", "seal"} {
			found := false
			for _, m := range typ.Meanings {
				for _, x := range m.Decisions {
					found = found || x == d
				}
			}
			if !found {
				t.Errorf("%s has no meaning for the decision %s", typ.ID, d)
			}
		}
	}
}
