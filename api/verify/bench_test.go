package verify_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// BenchmarkVerify verifies manifests of one signature and of more, each with its closing seal (of 10 signatures, 9 are people's).
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
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verifications/s")
	})
	for _, signatures := range []int{10, 900} {
		b.Run(fmt.Sprintf("%d signatures", signatures), func(b *testing.B) {
			w := newWorld(b)
			var signers []*signer
			for i := range min(signatures-1, 9) {
				signers = append(signers, w.enrol(fmt.Sprintf("sgn_%d", i), fmt.Sprintf("Signer %d", i)))
			}
			w.newRecord(1, signers)
			for i := range signatures - 1 {
				w.sign(signers[i%len(signers)], manifest.Approve)
			}
			w.close(manifest.OutcomeApproved)
			raw, trust, doc := encode(b, w.manifest()), w.trustFile(), w.doc
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if r, err := verify.Verify(b.Context(), verify.Input{Manifest: raw, Trust: trust, Bundle: &doc}); verify.CodeOf(r, err) != verify.OK {
					b.Fatal(r.Faults, err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verifications/s")
		})
	}
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
