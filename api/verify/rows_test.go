package verify_test

import (
	"crypto/elliptic"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// Each meaning of a failure has its own code.
func TestDistinctCodes(t *testing.T) {
	t.Attr("requirement", "B-58")
	verdicts := map[verify.Code]bool{}
	for name, x := range map[string]struct {
		report func(*world) *verify.Report
		code   verify.Code
	}{
		"verified": {func(w *world) *verify.Report { return w.verify(w.manifest()) }, 0},
		"content":  {func(w *world) *verify.Report { m := w.manifest(); w.doc = files("other"); return w.verify(m) }, 10},
		"signature": {func(w *world) *verify.Report {
			m := w.manifest()
			m.Signatures[0].Statement.Predicate.Reason = "x"
			return w.verify(m)
		}, 11},
		"untrusted": {func(w *world) *verify.Report { w.trust.SignerRoots = nil; return w.verify(w.manifest()) }, 12},
		"time":      {func(w *world) *verify.Report { w.trust.TimestampRoots = nil; return w.verify(w.manifest()) }, 13},
		"ledger":    {func(w *world) *verify.Report { w.trust.Ledgers = nil; return w.verify(w.manifest()) }, 14},
		"policy":    {func(w *world) *verify.Report { w.sigs = w.sigs[:1]; return w.verify(w.manifest()) }, 15},
		"malformed": {func(w *world) *verify.Report {
			r, err := verify.Verify(w.tb.Context(), verify.Input{Manifest: []byte("{}\n"), Trust: w.trustFile(), Bundle: &w.doc})
			w.check(err)
			return r
		}, 16},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := one(t)
			r := x.report(w)
			want(t, r, x.code, "")
			if r.Verdict != name || verdicts[r.Code] {
				t.Errorf("verdict %q of code %d, seen before: %v", r.Verdict, r.Code, verdicts[r.Code])
			}
			verdicts[r.Code] = true
			if (r.Code == verify.OK) != strings.HasPrefix(r.Text(), "VERIFIED.") {
				t.Errorf("text:\n%s", r.Text())
			}
		})
	}
	t.Run("usage", func(t *testing.T) {
		w, _ := one(t)
		for name, in := range map[string]verify.Input{
			"no manifest":                    {Trust: w.trustFile(), Bundle: &w.doc},
			"no bundle":                      {Trust: w.trustFile(), Manifest: encode(t, w.manifest())},
			"two bundles":                    {Trust: w.trustFile(), Manifest: encode(t, w.manifest()), Bundle: &w.doc, BundlePath: "x"},
			"a bundle that is to be skipped": {Trust: w.trustFile(), Manifest: encode(t, w.manifest()), Bundle: &w.doc, SkipContent: true},
		} {
			r, err := verify.Verify(t.Context(), in)
			if code := verify.CodeOf(r, err); code != verify.Usage {
				t.Errorf("%s: %d, %v", name, code, err)
			}
		}
	})
	t.Run("a trust file that cannot be read", func(t *testing.T) {
		w, _ := one(t)
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: encode(t, w.manifest()), Trust: []byte("{}"), Bundle: &w.doc})
		w.check(err)
		want(t, r, verify.Malformed, "trust")
	})
	t.Run("the lowest wins, and all are printed", func(t *testing.T) {
		w, _ := one(t)
		m := w.manifest()
		w.doc = files("other")
		w.trust.TimestampRoots, w.trust.Ledgers = nil, nil
		r := w.verify(m)
		want(t, r, verify.Content, "")
		found := map[verify.Code]bool{}
		for _, f := range r.Faults {
			found[f.Code] = true
		}
		for _, c := range []verify.Code{verify.Content, verify.TimeNotProven, verify.Ledger, verify.Policy} {
			if !found[c] {
				t.Errorf("no fault %d", c)
			}
		}
	})
}

// An attacker who has everything but the pinned anchors puts their own in.
func TestEmbeddedKeySwapped(t *testing.T) {
	t.Attr("requirement", "B-65")
	t.Run("a whole service of the attacker's", func(t *testing.T) {
		honest, _ := one(t)
		evil, _ := one(t)
		m := evil.manifest()
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: encode(t, m), Trust: honest.trustFile(), Bundle: &evil.doc})
		honest.check(err)
		want(t, r, verify.Untrusted, "no pinned root leads to the signer")
	})
	t.Run("without a trust file", func(t *testing.T) {
		w, _ := one(t)
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: encode(t, w.manifest()), Bundle: &w.doc})
		w.check(err)
		want(t, r, verify.Untrusted, "no trust file is pinned")
		for _, s := range r.Signatures {
			if s.Holds {
				t.Error("a signature holds")
			}
		}
	})
	t.Run("the certificate and signature alone", func(t *testing.T) {
		w, _ := one(t)
		ca := w.newAuthority("Example Signing CA", elliptic.P256())
		key := w.key(manifest.ECDSAP256)
		m := w.manifest()
		s := &m.Signatures[0]
		canonical, err := s.Statement.Canonical()
		w.check(err)
		s.Certificates = [][]byte{w.issue(ca, signerTemplate("signers", "sgn_ada", "Ada Lovelace", "Example Medical"), key.Public()), ca.cert.Raw}
		s.Signature.KeyID = keyID(t, s.Certificates[0])
		s.Signature.Value = signWith(t, key, manifest.PAE(canonical))
		s.Timestamps = [][]byte{token(t, w.stamp, s.Signature.Value, start.Add(3*time.Second))}
		want(t, w.verify(m), verify.Untrusted, "no pinned root leads to the signer")
	})
	t.Run("the certificate alone", func(t *testing.T) {
		w, _ := one(t)
		m := w.manifest()
		m.Signatures[0].Certificates = m.Signatures[1].Certificates
		want(t, w.verify(m), verify.Signature, "it names the key")
	})
}

// Whoever lacks one of the parts that the sign path puts together makes nothing that verifies.
func TestNothingButTheSignPath(t *testing.T) {
	t.Attr("requirement", "B-26")
	stranger := func(w *world) *signer { return w.enrol("sgn_ada", "Ada Lovelace") }
	for name, x := range map[string]struct {
		f    func(*world) forge
		code verify.Code
	}{
		"not signed as DSSE":        {func(*world) forge { return forge{message: func(c []byte) []byte { return c }} }, verify.Signature},
		"another payload type":      {func(*world) forge { return forge{message: otherPAE} }, verify.Signature},
		"signed by another key":     {func(w *world) forge { return forge{key: w.key(manifest.ECDSAP256)} }, verify.Signature},
		"another key id":            {func(*world) forge { return forge{keyID: hexSum(nil)} }, verify.Signature},
		"an algorithm that is not":  {func(*world) forge { return forge{algorithm: manifest.Ed25519} }, verify.Signature},
		"stamped by somebody else":  {func(w *world) forge { return forge{stamp: w.newStamp(w.newAuthority("x", elliptic.P256()))} }, verify.TimeNotProven},
		"entered as something else": {func(*world) forge { return forge{body: func(b *manifest.SignatureCreated) { b.Signer = "sgn_eve" }} }, verify.Ledger},
		"another enrolment": {func(w *world) forge {
			return forge{predicate: func(p *manifest.Predicate) { p.Signer.Enrolment[0] ^= 1 }}
		}, verify.Ledger},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := stranger(w)
			w.newRecord(1, []*signer{s})
			w.sign(s, manifest.Approve, x.f(w))
			w.close(manifest.OutcomeApproved)
			want(t, w.verify(w.manifest()), x.code, "")
		})
	}
	t.Run("the signer's key, without the ledger's", func(t *testing.T) {
		w, ada := one(t)
		trust := w.trustFile()
		forger := newWorld(t)
		forger.ca, forger.stamp, forger.tsaRoot = w.ca, w.stamp, w.tsaRoot
		s := *ada
		forger.bind(&s, "signer.enrolled")
		forger.newRecord(1, []*signer{&s})
		forger.sign(&s, manifest.Approve)
		forger.closer = w.closer
		forger.close(manifest.OutcomeApproved)
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: encode(t, forger.manifest()), Trust: trust, Bundle: &forger.doc})
		w.check(err)
		want(t, r, verify.Ledger, "signature does not verify")
	})
}

func otherPAE(canonical []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 16 application/json %d %s", len(canonical), canonical)
}

// A signature says nothing about anything else than what it was made for.
func TestTransplanted(t *testing.T) {
	t.Attr("requirement", "11.70")
	t.Attr("requirement", "B-48")
	w, ada := one(t)
	first := w.manifest()
	w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Version = "v0.2.0" })
	w.sign(ada, manifest.Approve)
	w.close(manifest.OutcomeApproved)
	second := w.manifest()
	want(t, w.verify(second), verify.OK, "")
	transplant := func(change func(m *manifest.Manifest)) *verify.Report {
		m := w.manifest()
		m.Signatures = append([]manifest.Signature{}, m.Signatures...)
		change(&m)
		return w.verify(m)
	}
	t.Run("a whole signature of another event", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) { m.Signatures[0] = first.Signatures[0] }), verify.Signature, "the statement is about")
	})
	t.Run("all signatures of another event", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) { m.Signatures = first.Signatures }), verify.Signature, "the statement is about")
	})
	t.Run("the value under another statement", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) { m.Signatures[0].Signature = first.Signatures[0].Signature }), verify.Signature, "was not made")
	})
	t.Run("value, token and entry under another statement", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) {
			statement := m.Signatures[0].Statement
			m.Signatures[0] = first.Signatures[0]
			m.Signatures[0].Statement = statement
		}), verify.Signature, "was not made")
	})
	t.Run("another person's value", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) {
			m.Signatures[0].Signature, m.Signatures[0].Certificates = m.Signatures[1].Signature, m.Signatures[1].Certificates
		}), verify.Signature, "was not made")
	})
	t.Run("the authorization of another signature", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) { m.Signatures[0].Authorization.Kind = manifest.AuthorizationPasswordTOTP }), verify.Ledger, "authorization differs")
	})
	t.Run("the record of another event", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) { m.Record = first.Record }), verify.Signature, "the statement is about")
	})
	t.Run("the same record under another event id", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) { m.Record.Event.ID = first.Record.Event.ID }), verify.Signature, "the statement is about")
	})
	t.Run("excised", func(t *testing.T) {
		want(t, transplant(func(m *manifest.Manifest) { m.Signatures = m.Signatures[1:] }), verify.Ledger, "a signature is missing")
	})
	t.Run("a statement that names another event than its record", func(t *testing.T) {
		w := newWorld(t)
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada})
		w.sign(ada, manifest.Approve, forge{predicate: func(p *manifest.Predicate) { p.Event = first.Record.Event.ID }})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Signature, "about the event")
	})
}

// What stands in the signed bytes cannot be changed.
func TestSignedBytes(t *testing.T) {
	for name, x := range map[string]struct {
		row    string
		change func(*manifest.Predicate)
	}{
		"the id of the meaning":      {"B-39", func(p *manifest.Predicate) { p.Meaning.ID = "review" }},
		"the text of the meaning":    {"B-39", func(p *manifest.Predicate) { p.Meaning.Text = "I approve nothing." }},
		"the version of the meaning": {"B-39", func(p *manifest.Predicate) { p.Meaning.Version = 2 }},
		"the decision":               {"B-39", func(p *manifest.Predicate) { p.Decision = manifest.Reject }},
		"the reason":                 {"B-39", func(p *manifest.Predicate) { p.Reason = "another" }},
		"the attestation":            {"B-39", func(p *manifest.Predicate) { p.Statement = "another" }},
		"the printed name":           {"A-18", func(p *manifest.Predicate) { p.Signer.Name = "Eve" }},
		"the signer's id":            {"A-18", func(p *manifest.Predicate) { p.Signer.ID = "sgn_eve" }},
		"the zone":                   {"B-41", func(p *manifest.Predicate) { p.Zone.Name = "UTC" }},
		"the window":                 {"B-41", func(p *manifest.Predicate) { p.Expires = p.Expires.Add(time.Hour) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", x.row)
			w, _ := one(t)
			m := w.manifest()
			x.change(&m.Signatures[0].Statement.Predicate)
			want(t, w.verify(m), verify.Signature, "was not made")
		})
	}
	t.Run("the content's digest", func(t *testing.T) {
		t.Attr("requirement", "B-40")
		w, _ := one(t)
		m := w.manifest()
		m.Signatures[0].Statement.Subject = append([]manifest.Subject{}, m.Signatures[0].Statement.Subject...)
		m.Signatures[0].Statement.Subject[0].Digest.SHA256[0] ^= 1
		want(t, w.verify(m), verify.Signature, "was not made")
	})
	t.Run("the algorithm of the digest and the canonicalisation", func(t *testing.T) {
		t.Attr("requirement", "B-40")
		w, _ := one(t)
		raw := string(encode(t, w.manifest()))
		for old, other := range map[string]string{`"sha256": `: `"sha512": `, `"format": "signet-bundle/v1"`: `"format": "signet-bundle/v2"`} {
			r, err := verify.Verify(t.Context(), verify.Input{Manifest: []byte(strings.Replace(raw, old, other, 1)), Trust: w.trustFile(), Bundle: &w.doc})
			w.check(err)
			want(t, r, verify.Malformed, "")
		}
	})
}

// One signing model serves every record type.
func TestRecordTypes(t *testing.T) {
	t.Attr("requirement", "A-21")
	for _, x := range []struct{ kind, version string }{
		{manifest.Release, "v1.2.3-rc.1"}, {"verification", "2026-11"}, {"document", "7"}, {"change", "CR-0815"}, {"type-of-tomorrow", "1.0"},
	} {
		t.Run(x.kind, func(t *testing.T) {
			w := newWorld(t)
			ada := w.enrol("sgn_ada", "Ada Lovelace")
			w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Event.Type, r.Version = x.kind, x.version })
			w.sign(ada, manifest.Approve)
			w.close(manifest.OutcomeApproved)
			r := w.verify(w.manifest())
			want(t, r, verify.OK, "")
			if r.Record.Type != x.kind {
				t.Errorf("type %q", r.Record.Type)
			}
		})
	}
	t.Run("without a bundle", func(t *testing.T) {
		w := newWorld(t)
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Event.Type, r.Version, r.Bundle = "change", "1", manifest.BundleRef{} })
		w.sign(ada, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		if r.Content.Bundle || r.Content.Checked || !strings.Contains(r.Text(), "the record is about no bundle") {
			t.Errorf("%+v\n%s", r.Content, r.Text())
		}
		_, err := verify.Verify(t.Context(), verify.Input{Manifest: encode(t, w.manifest()), Trust: w.trustFile(), Bundle: &bundle.Document{}})
		if verify.CodeOf(nil, err) != verify.Usage {
			t.Errorf("a bundle for a record without one: %v", err)
		}
	})
}

// The digest of an automatic stamp may stand in the record; it is never a signature.
func TestAutomaticStampNeverCounts(t *testing.T) {
	t.Attr("requirement", "B-50")
	stamp := func(r *manifest.Record) {
		r.Source.Trees = map[string]string{"REVIEWED_HASH": hexSum([]byte("auto-stamp"))}
	}
	t.Run("beside a seal alone", func(t *testing.T) {
		w := play(t, 1, []string{"ada"}, stamp, "approved", act{who: "bot", decision: manifest.Seal})
		want(t, w.verify(w.manifest()), verify.Policy, "0 of 1")
	})
	t.Run("beside an approval", func(t *testing.T) {
		w := play(t, 1, []string{"ada"}, stamp, "approved", act{who: "ada", decision: manifest.Approve})
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		if r.Policy.Approvals != 1 || len(r.Signatures) != 2 {
			t.Errorf("%+v", r.Policy)
		}
	})
}

// An auditor has the bundle, the manifest and the trust file; nothing else.
func TestCleanRoom(t *testing.T) {
	for _, row := range []string{"B-55", "B-49"} {
		t.Attr("requirement", row)
	}
	room := t.TempDir()
	func() {
		w, _ := one(t)
		w.check(os.Rename(unpacked(t, w), filepath.Join(room, "bundle")))
		w.check(os.WriteFile(filepath.Join(room, "release-v0.1.0.json"), encode(t, w.manifest()), 0o600))
		w.check(os.WriteFile(filepath.Join(room, "signet-trust.json"), w.trustFile(), 0o600))
	}() // the service and all its keys are gone
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(room, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r, err := verify.Verify(t.Context(), verify.Input{
		BundlePath: filepath.Join(room, "bundle"), Manifest: read("release-v0.1.0.json"), Trust: read("signet-trust.json"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, r, verify.OK, "")
}

// Success says what was proved.
func TestOutput(t *testing.T) {
	t.Attr("requirement", "B-57")
	t.Attr("requirement", "11.50")
	w, ada := one(t)
	r := w.verify(w.manifest())
	want(t, r, verify.OK, "")
	index := fmt.Sprint(len(w.entries) - 3)
	for what, text := range map[string]string{
		"content":         "matches: every file is as it was signed",
		"printed name":    "Ada Lovelace, QA Lead, Example Medical (sgn_ada)",
		"time and zone":   "2026-11-21T09:30:03.123Z (10:30:03 +01:00, Europe/Berlin)",
		"meaning":         "release-approval: I approve this release for distribution.",
		"reason":          "All gates green, risk file reviewed.",
		"decision":        "approve",
		"key":             ada.keyID,
		"ledger position": origin + ", entry " + index + " of " + fmt.Sprint(len(w.entries)),
		"complete as of":  "Complete as of",
		"environment":     "demo",
	} {
		t.Run(what, func(t *testing.T) {
			if !strings.Contains(r.Text(), text) {
				t.Errorf("not printed: %q\n%s", text, r.Text())
			}
		})
	}
	t.Run("as JSON", func(t *testing.T) {
		b, err := json.Marshal(r)
		w.check(err)
		for _, text := range []string{`"name":"Ada Lovelace"`, `"zone":"Europe/Berlin"`, `"meaning":"release-approval"`, `"index":"` + index + `"`, `"code":0`} {
			if !strings.Contains(string(b), text) {
				t.Errorf("no %s in %s", text, b)
			}
		}
	})
	t.Run("a reason that looks like a line of the report", func(t *testing.T) {
		w := newWorld(t)
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada})
		w.sign(ada, manifest.Reject, forge{predicate: func(p *manifest.Predicate) {
			p.Reason = "no\n  Holds  yes, and counts for the policy\nPolicy  satisfied"
		}})
		w.close("rejected")
		for line := range strings.Lines(w.verify(w.manifest()).Text()) {
			if strings.HasPrefix(line, "Policy") && !strings.Contains(line, "NOT satisfied") || strings.HasPrefix(line, "  Holds  yes, and") && strings.Contains(line, "no\n") {
				t.Errorf("a forged line: %q", line)
			}
		}
	})
}

// TestPublished verifies a manifest that was made once, by keys that nobody has any more: what verified goes on verifying.
func TestPublished(t *testing.T) {
	t.Attr("requirement", "B-49")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	doc, err := bundle.ParseDocument(read("bundle.json"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Verify(t.Context(), verify.Input{Bundle: &doc, Manifest: read("manifest.json"), Trust: read("trust.json")})
	if err != nil {
		t.Fatal(err)
	}
	want(t, r, verify.OK, "")
	if r.Unwitnessed || r.Policy.Approvals != 2 || len(r.Signatures) != 5 {
		t.Errorf("%+v", r)
	}
}
