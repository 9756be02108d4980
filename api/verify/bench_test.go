package verify_test

import (
	"bytes"
	"testing"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

func BenchmarkVerify(b *testing.B) {
	w, _ := one(b)
	raw, trust, doc := encode(b, w.manifest()), w.trustFile(), w.doc
	bad := bytes.Replace(raw, []byte(`"approve"`), []byte(`"approvf"`), 1)
	b.Run("one signature and its closing", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if r, err := verify.Verify(b.Context(), verify.Input{Manifest: raw, Trust: trust, Bundle: &doc}); verify.CodeOf(r, err) != verify.OK {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("900 signatures", func(b *testing.B) {
		w := newWorld(b)
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada})
		for range 899 {
			w.sign(ada, manifest.Approve)
		}
		w.close(manifest.OutcomeApproved)
		raw, trust, doc := encode(b, w.manifest()), w.trustFile(), w.doc
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if r, err := verify.Verify(b.Context(), verify.Input{Manifest: raw, Trust: trust, Bundle: &doc}); verify.CodeOf(r, err) != verify.OK {
				b.Fatal(r.Faults, err)
			}
		}
	})
	b.Run("malformed", func(b *testing.B) {
		for b.Loop() {
			if r, err := verify.Verify(b.Context(), verify.Input{Manifest: bad, Trust: trust, Bundle: &doc}); verify.CodeOf(r, err) != verify.Malformed {
				b.Fatal(r, err)
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, err := manifest.Parse(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
