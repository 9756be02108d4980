package notify_test

import (
	"testing"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
	"github.com/signetd/signet/server/internal/notify"
)

func TestRaise(t *testing.T) {
	l := ledgertest.New(t, notify.Projection())
	result, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
		notify.Raise(tx, notify.Alert{Kind: "signer.locked", Subject: "sgn_a", Summary: "line\none", Entry: tx.Size(), Audience: notify.Security})
		return nil
	})
	if err != nil || result.Count != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
}
