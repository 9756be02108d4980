package verify

import (
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"

	"github.com/signetd/signet/api/manifest"
)

// supersession is a proved entry by which a newer record takes the record's place.
type supersession struct {
	index uint64
	by    string
}

// vote is a decision that counts, until a newer one of the same person about the same activity takes its place.
type vote struct {
	s       *signature
	attempt manifest.Activity
}

// policy evaluates the approval policy over all signatures that hold.
func (j *judge) policy() {
	p := &j.report.Policy
	resolved := j.m.Record.Policy.Resolved
	j.admitted()
	j.oneKeyEach()
	votes := j.votes(resolved)
	j.standIns(votes, resolved)
	for i, a := range p.Approvers {
		newest, rejected := vote{}, false
		for _, v := range votes[a.ID] {
			v.s.report.Counted = true
			rejected = rejected || v.s.Statement.Predicate.Decision == manifest.Reject
			if v.attempt.ID == "" {
				newest = v
			}
		}
		if newest.s != nil {
			p.Approvers[i].Decision = newest.s.Statement.Predicate.Decision
		}
		if rejected {
			p.Approvers[i].Decision = manifest.Reject
			p.Rejections++
		} else if p.Approvers[i].Decision == manifest.Approve {
			p.Approvals++
		}
	}
	satisfied := true
	unmet := func(format string, args ...any) {
		satisfied = false
		j.fault(Policy, "policy", format, args...)
	}
	if p.Approvals < resolved.K {
		unmet("%d of %d needed approvals%s", p.Approvals, resolved.K, j.withdrawn())
	}
	if resolved.AnyRejectionVetoes && p.Rejections > 0 {
		unmet("rejected by %d of the approvers; one rejection is enough", p.Rejections)
	}
	j.closings(unmet)
	p.Satisfied = satisfied
}

// standIns adds those to the approvers of the report who have decided for a group or a role, in the order in which they first did.
func (j *judge) standIns(votes map[string]map[string]vote, resolved manifest.ResolvedPolicy) {
	p := &j.report.Policy
	for _, s := range j.signatures {
		signer := s.Statement.Predicate.Signer
		if len(votes[signer.ID]) == 0 || slices.ContainsFunc(p.Approvers, func(a ApproverReport) bool { return a.ID == signer.ID }) {
			continue
		}
		if as := j.approver(s, resolved); as != "" {
			p.Approvers = append(p.Approvers, ApproverReport{ID: signer.ID, Name: signer.Name, As: as})
		}
	}
}

// approver returns the approver whom the signer is or stands for; empty: none. Of groups the newest state before the signature counts, of
// roles those that the statement names, for which proved entries account.
func (j *judge) approver(s *signature, resolved manifest.ResolvedPolicy) string {
	signer := s.Statement.Predicate.Signer
	return resolved.Approver(signer.ID, signer.Roles, func(group string) bool { return j.member(s, group, signer.ID) })
}

// admitted holds the policy itself against the trust file.
func (j *judge) admitted() {
	if len(j.trust.Policies) == 0 {
		return
	}
	p := j.m.Record.Policy
	for _, t := range j.trust.Policies {
		if t.Digest == p.Template.Digest.SHA256 && p.Resolved.Requires.Covers(t.Requires) {
			return
		}
	}
	j.fault(Policy, "policy", "the trust file does not admit the template %s with SHA-256 %s and the requirement %s",
		p.Template.ID, p.Template.Digest.SHA256, p.Resolved.Requires)
}

// oneKeyEach refuses one key, or one passkey, under two ids: it would count one person twice.
func (j *judge) oneKeyEach() {
	owner := map[string]string{}
	for _, s := range j.signatures {
		id, keys := s.Statement.Predicate.Signer.ID, []string{s.Signature.Signature.KeyID}
		if s.report.Passkey != nil {
			keys = append(keys, s.report.Passkey.KeyID)
		}
		for _, key := range keys {
			if other, ok := owner[key]; ok && other != id {
				s.report.Holds, s.bad, s.report.Checks.Identity = false, true, false
				j.fault(Untrusted, s.where, "%s and %s sign with the same key: one person would count twice", other, id)
				continue
			}
			owner[key] = id
		}
	}
}

const notDesignated = "the signer is not a designated approver"

// votes returns the newest decision of each person and activity, of the activity's last attempt, and says why others do
// not count.
func (j *judge) votes(resolved manifest.ResolvedPolicy) map[string]map[string]vote {
	votes := map[string]map[string]vote{}
	last := map[string]manifest.Activity{}
	drop := func(v vote, why string) { v.s.report.Why = why }
	for _, s := range j.signatures {
		p := s.Statement.Predicate
		if why := j.uncounted(s, resolved); why != "" {
			s.report.Why = why
			continue
		}
		if p.Decision == manifest.Withdraw && len(votes[p.Signer.ID]) == 0 && j.approver(s, resolved) == "" {
			s.report.Why = notDesignated
			continue
		}
		if p.Decision == manifest.Withdraw { // also of who no longer belongs to the approvers
			for _, v := range votes[p.Signer.ID] {
				drop(v, fmt.Sprintf("withdrawn by the entry %d", s.report.Index))
			}
			delete(votes, p.Signer.ID)
			s.report.Why = "it takes the signer's earlier decisions back"
			continue
		}
		if a, ok := last[p.Activity.ID]; !ok || a.Attempts(p.Activity) < 0 {
			last[p.Activity.ID] = p.Activity
		}
		if votes[p.Signer.ID] == nil {
			votes[p.Signer.ID] = map[string]vote{}
		}
		old, ok := votes[p.Signer.ID][p.Activity.ID]
		if ok && old.attempt.Attempts(p.Activity) > 0 {
			s.report.Why = "of an earlier attempt"
			continue
		}
		if ok {
			drop(old, fmt.Sprintf("replaced by the entry %d", s.report.Index))
		}
		votes[p.Signer.ID][p.Activity.ID] = vote{s, p.Activity}
	}
	for _, of := range votes {
		for activity, v := range of {
			if v.attempt.Attempts(last[activity]) < 0 {
				drop(v, "of an earlier attempt")
				delete(of, activity)
			}
		}
	}
	return votes
}

// uncounted says why a signature is no decision of the policy's; empty: it is one.
func (j *judge) uncounted(s *signature, resolved manifest.ResolvedPolicy) string {
	p := s.Statement.Predicate
	switch {
	case s.bad:
		return "it does not hold"
	case s.closing():
		return "it closes the record"
	case !p.Signer.Person() || p.Decision == manifest.Seal:
		return "a service's seal never counts as a person's"
	case slices.Contains(resolved.ExcludedSigners, p.Signer.ID):
		return "the signer is excluded: separation of duties"
	case p.Decision != manifest.Withdraw && j.approver(s, resolved) == "":
		return notDesignated
	case !s.Authorization.Kind.Covers(resolved.Requires):
		return fmt.Sprintf("the policy requires %s", resolved.Requires)
	}
	return ""
}

// withdrawn says that approvals were taken back, where that is why they are missing.
func (j *judge) withdrawn() string {
	for _, s := range j.signatures {
		if !s.bad && s.Statement.Predicate.Decision == manifest.Withdraw {
			return "; an approver has withdrawn"
		}
	}
	return ""
}

// closings holds each closing seal against the statements before it. The last signature must be one.
func (j *judge) closings(unmet func(string, ...any)) {
	var newest *signature
	var outcome string
	for i, s := range j.signatures {
		if !s.closing() {
			continue
		}
		decided, err := closes(s, j.signatures[:i])
		if err != nil {
			s.bad, s.report.Holds = true, false
			j.fault(Policy, s.where, "the closing seal does not close what stands before it: %v", err)
			continue
		}
		if s.bad {
			continue
		}
		newest, outcome = s, decided
		j.report.Complete = &CompleteReport{Index: s.report.Index, Time: s.report.Time, Outcome: outcome}
	}
	if newest == nil {
		unmet("no closing seal that holds: it is not shown that these are all signatures")
		return
	}
	if newest != j.signatures[len(j.signatures)-1] {
		unmet("the newest closing seal (entry %d) does not cover the signatures after it", newest.report.Index)
	}
	if outcome != manifest.OutcomeApproved {
		unmet("the record was closed as %q", outcome)
	}
	for _, x := range j.superseded {
		if x.index < newest.report.Index {
			unmet("the entry %d superseded the record by %s before it was decided", x.index, x.by)
		} else {
			j.note("the entry %d says that the record %s takes the place of this one", x.index, x.by)
		}
	}
}

// closes returns the outcome of a closing seal over exactly the statements before it.
func closes(s *signature, before []*signature) (string, error) {
	p := s.Statement.Predicate
	if p.Reason != "" || p.Zone != (manifest.Zone{Name: "UTC", Offset: "+00:00"}) {
		return "", errors.New("it has a reason, or a zone other than UTC")
	}
	if len(p.Inputs) != 2 || p.Inputs[0].Name != manifest.InputOutcome || p.Inputs[1].Name != manifest.InputStatements {
		return "", errors.New("its inputs are not outcome and statements")
	}
	var outcome string
	var statements []string
	if json.Unmarshal(p.Inputs[0].Value, &outcome) != nil || json.Unmarshal(p.Inputs[1].Value, &statements) != nil {
		return "", errors.New("its inputs are not a text and a list of digests")
	}
	if len(statements) != len(before) {
		return "", fmt.Errorf("it covers %d statements, and %d stand before it", len(statements), len(before))
	}
	for i, b := range before {
		if hex.EncodeToString(b.digest[:]) != statements[i] {
			return "", fmt.Errorf("its statement %d is %.80q, and %s stands there", i, statements[i], b.digest)
		}
	}
	return outcome, nil
}
