package verify

import (
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

// witnessed holds a checkpoint against the witness policy of its ledger.
func (j *judge) witnessed(l manifest.TrustLedger, signed []byte) error {
	if l.WitnessPolicy == "" {
		j.report.Unwitnessed = true
		j.note("the ledger %q is unwitnessed: nobody but its operator vouches that it shows everybody the same entries",
			l.Origin)
		return nil
	}
	policy, err := chain.ParsePolicy(l.WitnessPolicy)
	if err != nil {
		return fmt.Errorf("the pinned witness policy cannot be read: %w", err)
	}
	if !policy.About(l.VKey) {
		return fmt.Errorf("the pinned witness policy is not about the key of the ledger %q", l.Origin)
	}
	return policy.Check(signed)
}
