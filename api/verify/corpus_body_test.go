package verify_test

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// bodyCases are proved entries, seals and certificates with something in them that only a reader who looks at every member sees.
func bodyCases() []kase {
	supported := func(t chain.Type, body any) func(*making) {
		return func(k *making) {
			k.support = append(k.support, k.append(t, body))
			k.approved()
		}
	}
	// enrolled is approved by somebody whose enrolment has a body of another shape.
	enrolled := func(change func(map[string]any)) func(*making) {
		return func(k *making) {
			s := *k.ada
			body := map[string]any{
				"accountability": "1", "certificate": hexSum(s.certs[0]), "credential": "", "id": s.id, "keyId": s.keyID, "name": s.name, "organisation": s.organisation,
				"proofing": "", "roles": s.roles, "title": s.title, "userName": "ada", "zone": "Europe/Berlin",
			}
			change(body)
			s.index = k.append(chain.SignerRenewed, body)
			s.enrolment = k.leaves[s.index]
			k.support = append(k.support, s.index)
			k.ada = &s
			k.approved()
		}
	}
	closed := func(change func(*making, *manifest.Predicate)) func(*making) {
		return func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved, forge{predicate: func(p *manifest.Predicate) { change(k, p) }})
			k.m = k.manifest()
		}
	}
	revoked := func(change func(map[string]any)) func(*making) {
		body := map[string]any{"by": "sgn_admin", "id": "sgn_ada", "keyId": "", "reason": "lost"}
		change(body)
		return supported(chain.SignerRevoked, body)
	}
	superseded := func(change func(map[string]any)) func(*making) {
		body := map[string]any{"by": event[:35] + "2", "event": event, "record": hexSum(nil)}
		change(body)
		return supported(chain.RecordSuperseded, body)
	}
	return []kase{
		{"sound with a renewed enrolment", verify.OK, enrolled(func(map[string]any) {}), nil},
		{"an enrolment without a user name", verify.Ledger, enrolled(func(b map[string]any) { b["userName"] = "" }), nil},
		{"an enrolment that says more", verify.Ledger, enrolled(func(b map[string]any) { b["comment"] = "" }), nil},
		{"an enrolment that misses something", verify.Ledger, enrolled(func(b map[string]any) { delete(b, "zone") }), nil},
		{"an enrolment whose roles are no list", verify.Ledger, enrolled(func(b map[string]any) { b["roles"] = map[string]any{"signer": 1} }), nil},
		{"a revocation of a key that is a number", verify.Ledger, revoked(func(b map[string]any) { b["keyId"] = 7 }), nil},
		{"a revocation of a key in capital letters", verify.Ledger, revoked(func(b map[string]any) { b["keyId"] = "AB" }), nil},
		{"a revocation of nobody", verify.Ledger, revoked(func(b map[string]any) { b["id"] = []string{} }), nil},
		{"a revocation by nobody", verify.Ledger, revoked(func(b map[string]any) { b["by"] = "" }), nil},
		{"a supersession of a record that is none", verify.Ledger, superseded(func(b map[string]any) { b["record"] = "" }), nil},
		{"a supersession by a record that is none", verify.Ledger, superseded(func(b map[string]any) { b["by"] = "" }), nil},
		{"a closing with its inputs in another order", verify.Policy, closed(func(_ *making, p *manifest.Predicate) { slices.Reverse(p.Inputs) }), nil},
		{"a closing with a further input", verify.Policy, closed(func(k *making, p *manifest.Predicate) {
			p.Inputs = append(p.Inputs, manifest.Input{Name: "more", Value: value(k.tb, "")})
		}), nil},
		{"a closing with a reason", verify.Policy, closed(func(_ *making, p *manifest.Predicate) { p.Reason = "because" }), nil},
		{"a closing in another zone", verify.Policy, closed(func(_ *making, p *manifest.Predicate) {
			p.Zone = manifest.Zone{Name: "Europe/Berlin", Offset: "+01:00"}
		}), nil},
		{"a certificate that lapsed within that second", verify.Untrusted, certified(func(c *x509.Certificate) { c.NotAfter = start.Add(3 * time.Second).Truncate(time.Second) }), nil},
		{"a certificate that held from the next second", verify.Untrusted, certified(func(c *x509.Certificate) { c.NotBefore = start.Add(4 * time.Second).Truncate(time.Second) }), nil},
	}
}
