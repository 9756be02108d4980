package manifest_test

import (
	"bytes"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

// What is read is what would be written: one encoding for each body.
func FuzzParseRights(f *testing.F) {
	for _, seed := range []string{
		`{"end":"1970-01-01T00:00:00.000Z","id":"ras_1","reason":"r","role":"auditor","start":"2026-11-21T09:30:00.000Z","subject":"group:qa"}`,
		`{"id":"","reason":"r","role":"signer","subject":"sgn_ada"}`,
		`{"added":[{"signer":"sgn_a"}],"displayName":"QA","id":"group:qa","members":["sgn_a","sgn_b"],"reason":"r","removed":[{"signer":"sgn_c"}],"was":""}`,
		`{"added":null,"displayName":"","id":"group:qa","members":[],"reason":"","removed":[],"was":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(v any, err error) {
			if err != nil {
				return
			}
			again, err := chain.MarshalBody(v)
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("%q was read, and is written as %q, %v", b, again, err)
			}
		}
		assigned, err := manifest.ParseRoleAssigned(b)
		same(assigned, err)
		withdrawn, err := manifest.ParseRoleWithdrawn(b)
		same(withdrawn, err)
		group, err := manifest.ParseGroupChanged(b)
		same(group, err)
	})
}
