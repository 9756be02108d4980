package signing

import (
	"slices"

	"github.com/signetd/signet/api/manifest"
)

const (
	decisionApprove  = "approve"
	decisionReject   = "reject"
	decisionWithdraw = "withdraw"
	decisionSeal     = "seal"
)

// tally is what the counted decisions come to.
type tally struct {
	decisions map[string]string // approver → newest decision that counts
	approvals int
	rejects   int
	outcome   string // statusApproved, statusRejected, or statusOpen while undecided
}

// count evaluates a policy over the signatures of a record in the order of the ledger: of each approver the newest decision
// counts, a withdrawal takes the earlier ones back, a service never counts, and neither does an excluded signer.
func count(p manifest.Policy, rows []row) tally {
	r := p.Resolved
	t := tally{decisions: map[string]string{}}
	for _, s := range rows {
		switch {
		case s.Decision == decisionSeal || !designated(r, s.Signer) || slices.Contains(r.ExcludedSigners, s.Signer) || !manifest.AuthorizationKind(s.Authorization).Covers(r.Requires):
		case s.Decision == decisionWithdraw:
			delete(t.decisions, s.Signer)
		default:
			t.decisions[s.Signer] = s.Decision
		}
	}
	for _, d := range t.decisions {
		switch d {
		case decisionApprove:
			t.approvals++
		case decisionReject:
			t.rejects++
		}
	}
	eligible := 0
	for _, a := range r.Approvers {
		if !slices.Contains(r.ExcludedSigners, a.ID) {
			eligible++
		}
	}
	switch {
	case r.AnyRejectionVetoes && t.rejects > 0, !r.Open() && eligible-t.rejects < r.K:
		t.outcome = statusRejected
	case t.approvals >= r.K:
		t.outcome = statusApproved
	default:
		t.outcome = statusOpen
	}
	return t
}

// designated reports whether a signer is an approver, or may stand for one. Whether they did when they signed was looked at then, in the
// transaction of their signature ([Ceremony.entitled]).
func designated(r manifest.ResolvedPolicy, signer string) bool {
	return r.Open() || slices.ContainsFunc(r.Approvers, func(a manifest.Approver) bool { return a.ID == signer })
}

// standIns are those who have decided for a group or a role, sorted.
func (t tally) standIns(p manifest.Policy) []string {
	var out []string
	for id := range t.decisions {
		if !slices.ContainsFunc(p.Resolved.Approvers, func(a manifest.Approver) bool { return a.ID == id }) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}
