package verify_test

import (
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// rotate gives a signer another key and certificate, and enters what binds them.
func (w *world) rotate(s *signer) {
	w.tb.Helper()
	kind := "signers"
	if s.id[:4] == "svc_" {
		kind = "services"
	}
	s.key = w.key(manifest.ECDSAP256)
	s.certs = [][]byte{w.issue(w.ca, signerTemplate(kind, s.id, s.name, s.organisation), s.key.Public()), w.ca.cert.Raw}
	if kind == "services" {
		w.bindService(s, chain.ServiceRenewed)
	} else {
		w.bind(s, chain.SignerRenewed)
	}
}

// TestKeysThatWereRotated: what was signed before verifies, what is signed after it must be by the new key.
func TestKeysThatWereRotated(t *testing.T) {
	type scene struct {
		*world
		ada, bot *signer
	}
	for name, x := range map[string]struct {
		code verify.Code
		says string
		sign func(s scene)
	}{
		"between the signatures of one record": {verify.OK, "", func(s scene) {
			s.sign(s.bot, manifest.Seal)
			s.rotate(s.bot)
			s.sign(s.bot, manifest.Seal)
			s.rotate(s.ada)
			s.sign(s.ada, manifest.Approve)
			s.rotate(s.closer)
			s.close(manifest.OutcomeApproved)
		}},
		"after all signatures": {verify.OK, "", func(s scene) {
			s.sign(s.ada, manifest.Approve)
			s.close(manifest.OutcomeApproved)
			s.rotate(s.ada)
			s.rotate(s.closer)
		}},
		"a service that seals with its old key": {verify.Untrusted, "had replaced the enrolment", func(s scene) {
			old := *s.bot
			s.rotate(s.bot)
			s.sign(&old, manifest.Seal)
			s.sign(s.ada, manifest.Approve)
			s.close(manifest.OutcomeApproved)
		}},
		"a closing seal by the old key": {verify.Untrusted, "had replaced the enrolment", func(s scene) {
			old := *s.closer
			s.rotate(s.closer)
			s.closer = &old
			s.sign(s.ada, manifest.Approve)
			s.close(manifest.OutcomeApproved)
		}},
		"the old key under the new enrolment": {verify.Untrusted, "binds the key", func(s scene) {
			old := *s.ada
			s.rotate(s.ada)
			old.enrolment, old.index = s.ada.enrolment, s.ada.index
			s.sign(&old, manifest.Approve)
			s.close(manifest.OutcomeApproved)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-31")
			w := newWorld(t)
			s := scene{w, w.enrol("sgn_ada", "Ada Lovelace"), w.enrolService("svc_ci", "CI")}
			w.newRecord(1, []*signer{s.ada})
			x.sign(s)
			want(t, w.verify(w.manifest()), x.code, x.says)
		})
	}
}
