package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

func (w *world) verifyAt(m manifest.Manifest, at time.Time) *verify.Report {
	w.tb.Helper()
	doc := w.doc
	r, err := verify.Verify(w.tb.Context(), verify.Input{Manifest: encode(w.tb, m), Trust: w.trustFile(), Bundle: &doc, At: at})
	w.check(err)
	return r
}

// A record is approved, closed, taken back by its approver, and closed again: what did somebody find who verified in between?
func TestAt(t *testing.T) {
	t.Attr("requirement", "A-19")
	w := newWorld(t)
	ada := w.enrol("sgn_ada", "Ada Lovelace")
	w.newRecord(1, []*signer{ada})
	w.sign(ada, manifest.Approve)
	approved := w.now
	w.close(manifest.OutcomeApproved)
	closed := w.now
	w.tick(time.Hour)
	w.sign(ada, manifest.Withdraw)
	withdrawn := w.now
	w.close("withdrawn")
	w.tick(time.Hour)
	d, err := w.record.Digest()
	w.check(err)
	w.support = append(w.support, w.append(chain.RecordSuperseded, manifest.RecordSuperseded{By: w.record.Event.ID[:35] + "2", Event: w.record.Event.ID, Record: d.String()}))
	superseded := w.now
	m := w.manifest()
	for name, c := range map[string]struct {
		at     time.Time
		code   verify.Code
		says   string
		judged int // signatures
	}{
		"now":                              {time.Time{}, verify.Policy, "0 of 1 needed approvals; an approver has withdrawn", 4},
		"before anything was signed":       {approved.Add(-time.Minute), verify.Policy, "0 of 1 needed approvals", 0},
		"signed, and not closed yet":       {approved, verify.Policy, "no closing seal", 1},
		"a moment before it was closed":    {closed.Add(-time.Millisecond), verify.Policy, "no closing seal", 1},
		"closed":                           {closed, verify.OK, "", 2},
		"a moment before it was withdrawn": {withdrawn.Add(-time.Millisecond), verify.OK, "", 2},
		"finer than a millisecond":         {withdrawn.Add(-time.Nanosecond), verify.OK, "", 2},
		"in another zone":                  {closed.In(time.FixedZone("", 3600)), verify.OK, "", 2},
		"withdrawn":                        {withdrawn, verify.Policy, "an approver has withdrawn", 3},
		"later than everything":            {superseded.Add(time.Hour), verify.Policy, "closed as", 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.verifyAt(m, c.at)
			want(t, r, c.code, c.says)
			for i, s := range r.Signatures {
				if s.Later != (i >= c.judged) || s.Holds != !s.Later || s.Later && (s.Time != "" || s.Counted || !strings.HasPrefix(s.Why, "later: ")) {
					t.Errorf("signature %d of %d that are judged: %+v", i, c.judged, s)
				}
			}
			text := r.Text()
			if (r.At == "") != c.at.IsZero() || strings.Contains(text, "VERIFIED as of "+r.At) == c.at.IsZero() {
				t.Errorf("at %q:\n%s", r.At, text)
			}
			if strings.Contains(text, "takes the place of this one") != (c.at.IsZero() || !c.at.Before(superseded)) {
				t.Errorf("supersession:\n%s", text)
			}
			if strings.Contains(text, "is not in it") != c.at.After(superseded) {
				t.Errorf("how far the manifest reaches:\n%s", text)
			}
		})
	}
	t.Run("a later signature that would not hold", func(t *testing.T) {
		m := w.manifest()
		m.Signatures[3].Timestamps = m.Signatures[2].Timestamps
		want(t, w.verifyAt(m, closed), verify.OK, "")
		want(t, w.verifyAt(m, withdrawn.Add(time.Minute)), verify.TimeNotProven, "signatures[3]")
	})
	t.Run("a signature without a proof has no time", func(t *testing.T) {
		m := w.manifest()
		m.Signatures[3].Ledger.Proof = m.Signatures[2].Ledger.Proof
		want(t, w.verifyAt(m, closed), verify.Ledger, "signatures[3]")
	})
	t.Run("a later supporting entry without a proof", func(t *testing.T) {
		m := w.manifest()
		last := len(m.Support) - 1
		m.Support[last].Proof = m.Support[0].Proof
		want(t, w.verifyAt(m, closed), verify.Ledger, "support[")
	})
}

// What the trust file revokes from a later time on was not known at that time.
func TestRevokedAt(t *testing.T) {
	w := newWorld(t)
	ada := w.enrol("sgn_ada", "Ada Lovelace")
	w.newRecord(1, []*signer{ada})
	w.sign(ada, manifest.Approve)
	w.close(manifest.OutcomeApproved)
	m, closed := w.manifest(), w.now
	for name, c := range map[string]struct {
		from time.Time
		at   time.Time
		code verify.Code
	}{
		"before the signature":                  {start, closed, verify.Untrusted},
		"before the signature, asked for today": {start, time.Time{}, verify.Untrusted},
		"after it":                              {closed.Add(time.Hour), closed, verify.OK},
		"after it, asked for today":             {closed.Add(time.Hour), time.Time{}, verify.OK},
	} {
		t.Run(name, func(t *testing.T) {
			w.trust.Revoked = []manifest.Revoked{{KeyID: ada.keyID, From: manifest.NewTime(c.from)}}
			want(t, w.verifyAt(m, c.at), c.code, "")
		})
	}
	t.Run("within the accuracy of the time-stamp", func(t *testing.T) {
		w.trust.Revoked = []manifest.Revoked{{KeyID: w.closer.keyID, From: manifest.NewTime(closed.Add(50 * time.Millisecond))}}
		want(t, w.verifyAt(m, time.Time{}), verify.Untrusted, "no longer counts")
		want(t, w.verifyAt(m, closed), verify.OK, "")
	})
}
