package verify_test

import (
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// Where a group or a role is an approver, each who belongs to it or has it when they sign counts once, and nobody else does, whatever the
// members were when the record was made. Both verifiers agree.
func TestApproversByGroupAndRole(t *testing.T) {
	for _, row := range []string{"C-63", "C-64", "C-65"} {
		t.Attr("requirement", row)
	}
	const approve, reject, withdraw = manifest.Approve, manifest.Reject, manifest.Withdraw
	group := func(members ...string) func(*world) { return func(w *world) { w.group(members...) } }
	sign := func(who, decision string, roles ...string) func(*world) {
		return func(w *world) {
			w.tick(time.Second)
			w.sign(w.people[who], decision, forge{predicate: func(p *manifest.Predicate) {
				if roles != nil {
					p.Signer.Roles = roles
				}
			}})
		}
	}
	auditor := func(w *world) {
		w.support = append(w.support, w.append(chain.RoleAssigned, manifest.RoleAssigned{ID: "ras_1", Reason: "r", Role: "auditor", Subject: "sgn_ada"}))
	}
	closed := func(w *world) { w.close(manifest.OutcomeApproved) }
	unproved := func(w *world) { w.support = w.support[:len(w.support)-1] }
	for name, x := range map[string]struct {
		approvers []string
		k         int
		exclude   string
		before    []func(*world) // the record is made
		story     []func(*world)
		want      verify.Code
	}{
		"a member":                                    {before: []func(*world){group("sgn_ada")}, story: []func(*world){sign("ada", approve), closed}},
		"who joined after the record was made":        {before: []func(*world){group("sgn_grace")}, story: []func(*world){group("sgn_ada", "sgn_grace"), sign("ada", approve), closed}},
		"nobody's member":                             {before: []func(*world){group("sgn_grace")}, story: []func(*world){sign("ada", approve), closed}, want: verify.Policy},
		"a member, and no entry shows it":             {before: []func(*world){group("sgn_ada"), unproved}, story: []func(*world){sign("ada", approve), closed}, want: verify.Policy},
		"who left before":                             {before: []func(*world){group("sgn_ada", "sgn_grace")}, story: []func(*world){group("sgn_grace"), sign("ada", approve), closed}, want: verify.Policy},
		"who left afterwards":                         {before: []func(*world){group("sgn_ada", "sgn_grace")}, story: []func(*world){sign("ada", approve), group("sgn_grace"), closed}},
		"who joined afterwards":                       {before: []func(*world){group("sgn_grace")}, story: []func(*world){sign("ada", approve), group("sgn_ada", "sgn_grace"), closed}, want: verify.Policy},
		"two members, where two are needed":           {k: 2, before: []func(*world){group("sgn_ada", "sgn_grace")}, story: []func(*world){sign("ada", approve), sign("grace", approve), closed}},
		"one member twice, where two are needed":      {k: 2, before: []func(*world){group("sgn_ada", "sgn_grace")}, story: []func(*world){sign("ada", approve), sign("ada", approve), closed}, want: verify.Policy},
		"a member who is excluded":                    {exclude: "sgn_ada", before: []func(*world){group("sgn_ada")}, story: []func(*world){sign("ada", approve), closed}, want: verify.Policy},
		"a member rejects":                            {before: []func(*world){group("sgn_ada", "sgn_grace")}, story: []func(*world){sign("ada", approve), sign("grace", reject), closed}, want: verify.Policy},
		"who left takes their approval back":          {before: []func(*world){group("sgn_ada", "sgn_grace")}, story: []func(*world){sign("ada", approve), group("sgn_grace"), sign("ada", withdraw), closed}, want: verify.Policy},
		"who never belonged to it takes nothing back": {before: []func(*world){group("sgn_ada")}, story: []func(*world){sign("ada", approve), sign("grace", withdraw), closed}},
		"who has the role by enrolment":               {approvers: []string{"role:signer"}, story: []func(*world){sign("ada", approve), closed}},
		"who has another role":                        {approvers: []string{"role:auditor"}, story: []func(*world){sign("ada", approve), closed}, want: verify.Policy},
		"who was given the role after the record":     {approvers: []string{"role:auditor"}, story: []func(*world){auditor, sign("ada", approve, "auditor", "signer"), closed}},
		"who says to have a role that nothing gave":   {approvers: []string{"role:auditor"}, story: []func(*world){sign("ada", approve, "auditor", "signer"), closed}, want: verify.Untrusted},
		"a person beside a group":                     {approvers: []string{"sgn_ada", "group:qa"}, k: 2, before: []func(*world){group("sgn_ada", "sgn_grace")}, story: []func(*world){sign("ada", approve), sign("grace", approve), closed}},
		"a person who is a member, too, counts once":  {approvers: []string{"sgn_ada", "group:qa"}, k: 2, before: []func(*world){group("sgn_ada")}, story: []func(*world){sign("ada", approve), closed}, want: verify.Policy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.people = map[string]*signer{"ada": w.enrol("sgn_ada", "Ada Lovelace"), "grace": w.enrol("sgn_grace", "Grace Hopper")}
			for _, act := range x.before {
				act(w)
			}
			if x.approvers == nil {
				x.approvers = []string{"group:qa"}
			}
			w.newRecord(max(x.k, 1), nil, func(r *manifest.Record) {
				r.Bundle = manifest.BundleRef{}
				r.Policy.Resolved.Approvers = nil
				for _, a := range x.approvers {
					r.Policy.Resolved.Approvers = append(r.Policy.Resolved.Approvers, manifest.Approver{ID: a, Name: a})
				}
				if x.exclude != "" {
					r.Policy.Resolved.ExcludedSigners = []string{x.exclude}
				}
			})
			for _, act := range x.story {
				act(w)
			}
			slices.Sort(w.support)
			r := w.bothSay(t, x.want)
			if x.want == verify.OK && x.approvers[0] == "group:qa" {
				last := r.Policy.Approvers[len(r.Policy.Approvers)-1]
				if last.As != "group:qa" || last.Decision != approve {
					t.Errorf("%+v", r.Policy.Approvers)
				}
			}
		})
	}
}
