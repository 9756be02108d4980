package verify_test

import (
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// act is one signature of a story.
type act struct {
	who, decision string
	activity      manifest.Activity
	by            manifest.AuthorizationKind
}

// play makes the record, lets people act, and closes it with the outcome (empty: not at all).
func play(t *testing.T, k int, approvers []string, change func(*manifest.Record), outcome string, story ...act) *world {
	t.Helper()
	w := newWorld(t)
	people := map[string]*signer{"bot": w.enrolService("svc_ci", "CI")}
	for id, name := range map[string]string{"ada": "Ada Lovelace", "grace": "Grace Hopper", "mary": "Mary Shaw", "eve": "Eve"} {
		people[id] = w.enrol("sgn_"+id, name)
	}
	var designated []*signer
	for _, a := range approvers {
		designated = append(designated, people[a])
	}
	if change == nil {
		change = func(*manifest.Record) {}
	}
	w.newRecord(k, designated, change)
	for _, a := range story {
		w.sign(people[a.who], a.decision, forge{predicate: func(p *manifest.Predicate) {
			if a.activity.ID != "" {
				p.Activity = a.activity
			}
			if a.by != "" {
				p.Requires = a.by
			}
		}})
	}
	if outcome != "" {
		w.close(outcome)
	}
	return w
}

func TestPolicy(t *testing.T) {
	const approve, reject, withdraw = manifest.Approve, manifest.Reject, manifest.Withdraw
	all := []string{"ada", "grace", "mary"}
	activity := func(attempt string) manifest.Activity {
		return manifest.Activity{ID: "penetration-test", Attempt: attempt}
	}
	exclude := func(id string) func(*manifest.Record) {
		return func(r *manifest.Record) { r.Policy.Resolved.ExcludedSigners = []string{id} }
	}
	lenient := func(r *manifest.Record) { r.Policy.Resolved.AnyRejectionVetoes = false }
	strong := func(r *manifest.Record) { r.Policy.Resolved.Requires = manifest.AuthorizationPasswordTOTP }
	for name, x := range map[string]struct {
		k         int
		approvers []string
		change    func(*manifest.Record)
		outcome   string
		story     []act
		code      verify.Code
		says      string
	}{
		"one of one":                            {1, all[:1], nil, "approved", []act{{who: "ada", decision: approve}}, verify.OK, ""},
		"two of three":                          {2, all, nil, "approved", []act{{who: "mary", decision: approve}, {who: "ada", decision: approve}}, verify.OK, ""},
		"one of two needed":                     {2, all, nil, "approved", []act{{who: "mary", decision: approve}}, verify.Policy, "1 of 2"},
		"one person twice":                      {2, all, nil, "approved", []act{{who: "ada", decision: approve}, {who: "ada", decision: approve}}, verify.Policy, "1 of 2"},
		"a stranger":                            {1, all, nil, "approved", []act{{who: "eve", decision: approve}}, verify.Policy, "0 of 1"},
		"an excluded approver":                  {1, all, exclude("sgn_ada"), "approved", []act{{who: "ada", decision: approve}}, verify.Policy, "0 of 1"},
		"another is excluded":                   {1, all, exclude("sgn_ada"), "approved", []act{{who: "mary", decision: approve}}, verify.OK, ""},
		"rejected":                              {1, all, nil, "rejected", []act{{who: "ada", decision: reject}}, verify.Policy, "rejected by 1"},
		"one rejection vetoes":                  {1, all, nil, "approved", []act{{who: "ada", decision: reject}, {who: "mary", decision: approve}}, verify.Policy, "rejected by 1"},
		"no veto":                               {1, all, lenient, "approved", []act{{who: "ada", decision: reject}, {who: "mary", decision: approve}}, verify.OK, ""},
		"a stranger's rejection does not count": {1, all, nil, "approved", []act{{who: "eve", decision: reject}, {who: "ada", decision: approve}}, verify.OK, ""},
		"changed their mind":                    {1, all, nil, "approved", []act{{who: "ada", decision: reject}, {who: "ada", decision: approve}}, verify.OK, ""},
		"changed it back":                       {1, all, nil, "rejected", []act{{who: "ada", decision: approve}, {who: "ada", decision: reject}}, verify.Policy, "0 of 1"},
		"withdrawn":                             {1, all, nil, "approved", []act{{who: "ada", decision: approve}, {who: "ada", decision: withdraw}}, verify.Policy, "has withdrawn"},
		"withdrawn and renewed":                 {1, all, nil, "approved", []act{{who: "ada", decision: approve}, {who: "ada", decision: withdraw}, {who: "ada", decision: approve}}, verify.OK, ""},
		"a rejection withdrawn":                 {1, all, nil, "approved", []act{{who: "ada", decision: reject}, {who: "ada", decision: withdraw}, {who: "mary", decision: approve}}, verify.OK, ""},
		"nobody withdraws for another":          {1, all, nil, "approved", []act{{who: "ada", decision: approve}, {who: "eve", decision: withdraw}}, verify.OK, ""},
		"a review is no approval":               {1, all, nil, "approved", []act{{who: "ada", decision: manifest.Review}}, verify.Policy, "0 of 1"},
		"an abstention is none":                 {1, all, nil, "approved", []act{{who: "ada", decision: manifest.Abstain}}, verify.Policy, "0 of 1"},
		"authorship is none":                    {1, all, nil, "approved", []act{{who: "ada", decision: manifest.Author}}, verify.Policy, "0 of 1"},
		"a seal is none":                        {1, all, nil, "approved", []act{{who: "bot", decision: manifest.Seal}}, verify.Policy, "0 of 1"},
		"too weakly authorised":                 {1, all, strong, "approved", []act{{who: "ada", decision: approve}}, verify.Policy, "0 of 1"},
		"strongly enough":                       {1, all, strong, "approved", []act{{who: "ada", decision: approve, by: manifest.AuthorizationPasswordTOTP}}, verify.OK, ""},
		"an activity is not the record":         {1, all, nil, "approved", []act{{who: "ada", decision: approve, activity: activity("1")}}, verify.Policy, "0 of 1"},
		"an activity rejected": {1, all, nil, "approved", []act{{who: "ada", decision: approve}, {who: "ada", decision: reject, activity: activity("1")}},
			verify.Policy, "rejected by 1"},
		"rejected, then passed in a later attempt": {1, all, nil, "approved",
			[]act{{who: "ada", decision: reject, activity: activity("1")}, {who: "mary", decision: approve, activity: activity("2")}, {who: "ada", decision: approve}}, verify.OK, ""},
		"an earlier attempt does not overrule": {1, all, nil, "approved",
			[]act{{who: "ada", decision: reject, activity: activity("2")}, {who: "ada", decision: approve, activity: activity("1")}, {who: "mary", decision: approve}},
			verify.Policy, "rejected by 1"},
		"no closing seal":     {1, all, nil, "", []act{{who: "ada", decision: approve}}, verify.Policy, "no closing seal"},
		"closed as rejected":  {1, all, nil, "rejected", []act{{who: "ada", decision: approve}}, verify.Policy, `closed as "rejected"`},
		"closed as withdrawn": {1, all, nil, "withdrawn", []act{{who: "ada", decision: approve}}, verify.Policy, `closed as "withdrawn"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := play(t, x.k, x.approvers, x.change, x.outcome, x.story...)
			r := w.verify(w.manifest())
			want(t, r, x.code, x.says)
			if r.Policy.Satisfied != (x.code == verify.OK) {
				t.Errorf("satisfied: %v", r.Policy.Satisfied)
			}
			for i, s := range r.Signatures {
				if s.Counted == (s.Why != "") {
					t.Errorf("signature %d counted %v, why %q", i, s.Counted, s.Why)
				}
			}
		})
	}
	t.Run("a signature that does not hold does not count", func(t *testing.T) {
		w, _ := one(t)
		m := w.manifest()
		m.Signatures[0].Signature.Value = signWith(t, w.key(manifest.ECDSAP256), []byte("x"))
		r := w.verify(m)
		want(t, r, verify.Signature, "")
		if r.Policy.Approvals != 0 || r.Policy.Satisfied || r.Signatures[0].Counted || r.Signatures[0].Holds {
			t.Errorf("%+v, %+v", r.Policy, r.Signatures[0])
		}
	})
	t.Run("each uncounted signature says why", func(t *testing.T) {
		w := play(t, 1, []string{"ada"}, nil, "approved", act{who: "bot", decision: manifest.Seal}, act{who: "eve", decision: approve}, act{who: "ada", decision: approve})
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		for i, why := range []string{"a service's seal never counts as a person's", "the signer is not a designated approver", "", "it closes the record"} {
			if r.Signatures[i].Why != why {
				t.Errorf("signature %d: %q, want %q", i, r.Signatures[i].Why, why)
			}
		}
	})
	t.Run("one key under two ids counts once", func(t *testing.T) {
		w := newWorld(t)
		ada, eve := w.enrol("sgn_ada", "Ada Lovelace"), w.enrol("sgn_eve", "Eve")
		eve.key = ada.key
		eve.certs = [][]byte{w.issue(w.ca, signerTemplate("signers", eve.id, eve.name, eve.organisation), eve.key.Public()), w.ca.cert.Raw}
		w.bind(eve, chain.SignerRenewed)
		w.newRecord(2, []*signer{ada, eve})
		w.sign(ada, manifest.Approve)
		w.sign(eve, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Untrusted, "the same key")
	})
}

func TestClosing(t *testing.T) {
	statements := func(w *world, list ...string) func(*manifest.Predicate) {
		return func(p *manifest.Predicate) { p.Inputs[1].Value = value(w.tb, list) }
	}
	for name, x := range map[string]struct {
		change func(*world) func(*manifest.Predicate)
		says   string
	}{
		"over nothing":           {func(w *world) func(*manifest.Predicate) { return statements(w) }, "covers 0 statements"},
		"over another statement": {func(w *world) func(*manifest.Predicate) { return statements(w, hexSum(nil)) }, "stands there"},
		"over too many":          {func(w *world) func(*manifest.Predicate) { return statements(w, hexSum(nil), hexSum(nil)) }, "covers 2 statements"},
		"over no list": {func(w *world) func(*manifest.Predicate) {
			return func(p *manifest.Predicate) { p.Inputs[1].Value = value(w.tb, "all") }
		}, "not a text and a list"},
		"without the list": {func(*world) func(*manifest.Predicate) {
			return func(p *manifest.Predicate) { p.Inputs = p.Inputs[:1] }
		}, "inputs are not"},
		"with a further input": {func(w *world) func(*manifest.Predicate) {
			return func(p *manifest.Predicate) {
				p.Inputs = append(p.Inputs, manifest.Input{Name: "x", Value: value(w.tb, 1)})
			}
		}, "inputs are not"},
		"with a reason": {func(*world) func(*manifest.Predicate) { return func(p *manifest.Predicate) { p.Reason = "because" } }, "has a reason"},
		"in another zone": {func(*world) func(*manifest.Predicate) {
			return func(p *manifest.Predicate) { p.Zone.Name = "Europe/Berlin" }
		}, "zone"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ada := w.enrol("sgn_ada", "Ada Lovelace")
			w.newRecord(1, []*signer{ada})
			w.sign(ada, manifest.Approve)
			w.close(manifest.OutcomeApproved, forge{predicate: x.change(w)})
			r := w.verify(w.manifest())
			want(t, r, verify.Policy, x.says)
			if r.Complete != nil {
				t.Errorf("complete as of %+v", r.Complete)
			}
		})
	}
	t.Run("by another service", func(t *testing.T) {
		w := newWorld(t)
		ada, bot := w.enrol("sgn_ada", "Ada Lovelace"), w.enrolService("svc_ci", "CI")
		w.newRecord(1, []*signer{ada})
		w.sign(ada, manifest.Approve)
		d, err := w.sigs[0].Statement.Digest()
		w.check(err)
		w.sign(bot, manifest.Seal, forge{predicate: func(p *manifest.Predicate) {
			p.Inputs = []manifest.Input{{Name: "outcome", Value: value(t, "approved")}, {Name: "statements", Value: value(t, []string{d.String()})}}
		}})
		want(t, w.verify(w.manifest()), verify.Policy, "no closing seal")
	})
	t.Run("a later rejection cannot be stripped without leaving the older closing", func(t *testing.T) {
		w, ada := one(t)
		closed := w.verify(w.manifest()).Complete
		w.sign(ada, manifest.Withdraw)
		w.close("withdrawn")
		want(t, w.verify(w.manifest()), verify.Policy, "")
		m := w.manifest()
		m.Signatures = m.Signatures[:2] // stripped
		r := w.verify(m)
		want(t, r, verify.OK, "")
		if *r.Complete != *closed {
			t.Errorf("complete as of %+v, the record was first closed at %+v", r.Complete, closed)
		}
		m = w.manifest()
		m.Signatures = append(m.Signatures[:2:2], m.Signatures[3]) // the withdrawal alone
		want(t, w.verify(m), verify.Ledger, "a signature is missing")
	})
}

func TestSuperseded(t *testing.T) {
	supersede := func(w *world) {
		d, err := w.record.Digest()
		w.check(err)
		w.support = append(w.support, w.append(chain.RecordSuperseded, manifest.RecordSuperseded{
			By: "0193c1f0-0000-7000-8000-000000000000", Event: w.record.Event.ID, Record: d.String(),
		}))
	}
	t.Run("before it was decided", func(t *testing.T) {
		w, _ := one(t)
		w.sigs = w.sigs[:1]
		supersede(w)
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Policy, "superseded")
	})
	t.Run("by a later version", func(t *testing.T) {
		w, _ := one(t)
		supersede(w)
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		if len(r.Notes) != 4 {
			t.Errorf("notes %q", r.Notes)
		}
	})
}

func TestTrustedPolicies(t *testing.T) {
	w, _ := one(t)
	template := w.record.Policy.Template.Digest.SHA256
	for name, x := range map[string]struct {
		policies []manifest.TrustPolicy
		code     verify.Code
	}{
		"any":              {nil, verify.OK},
		"this one":         {[]manifest.TrustPolicy{{Digest: template, Requires: manifest.AuthorizationPassword}}, verify.OK},
		"another one":      {[]manifest.TrustPolicy{{Requires: manifest.AuthorizationPassword}}, verify.Policy},
		"with more needed": {[]manifest.TrustPolicy{{Digest: template, Requires: manifest.AuthorizationPasswordTOTP}}, verify.Policy},
	} {
		t.Run(name, func(t *testing.T) {
			w.trust.Policies = x.policies
			want(t, w.verify(w.manifest()), x.code, "")
		})
	}
}
