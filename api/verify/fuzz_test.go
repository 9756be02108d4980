package verify_test

import (
	"strings"
	"testing"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/verify"
)

// FuzzVerify mutates a manifest and the trust file that it is judged by. Only the manifest itself, and one to which
// signature lines that nobody knows were added, may verify.
func FuzzVerify(f *testing.F) {
	w, _ := one(f)
	raw, trust, doc := encode(f, w.manifest()), w.trustFile(), w.doc
	f.Add(raw, trust)
	f.Add(raw, []byte{})
	f.Add(encode(f, cosign(w.manifest(), newCosigner("witness.example/x"))), trust)
	f.Add([]byte("{}\n"), trust)
	f.Fuzz(func(t *testing.T, m, pinned []byte) {
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: m, Trust: pinned, Bundle: &doc})
		if err != nil {
			if len(m) > 0 && verify.CodeOf(r, err) != verify.Usage {
				t.Fatal(err)
			}
			return
		}
		if text := r.Text(); strings.HasPrefix(text, "VERIFIED.") != (r.Code == verify.OK) || (r.Code == verify.OK) != (len(r.Faults) == 0) {
			t.Fatalf("code %d, faults %v\n%s", r.Code, r.Faults, text)
		}
		if r.Code == verify.OK && string(m) != string(raw) && !strings.Contains(string(m), `\n— `) {
			t.Fatalf("another manifest verifies:\n%s", m)
		}
	})
}

func FuzzWitnessPolicy(f *testing.F) {
	w, _ := one(f)
	x := newCosigner("witness.example/x")
	m := encode(f, cosign(w.manifest(), x))
	f.Add("witness X " + x.vkey() + "\ngroup G all X\nquorum G\n")
	f.Add("quorum none")
	f.Fuzz(func(t *testing.T, policy string) {
		w.trust.Ledgers[0].WitnessPolicy = policy
		trust, err := w.trust.Encode()
		if err != nil {
			return
		}
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: m, Trust: trust, Bundle: &bundle.Document{Format: bundle.Format}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Code == verify.OK {
			t.Fatal("a bundle without its files verifies")
		}
	})
}
