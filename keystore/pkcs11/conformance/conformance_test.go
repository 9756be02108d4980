package conformance_test

import (
	"os"
	"testing"
	"time"

	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/conformance"
)

func TestTmp(t *testing.T) {
	c := keystoretest.Config(t)
	report, err := conformance.Run(t.Context(), conformance.Config{
		Module: c.Module, TokenLabel: c.TokenLabel, PIN: c.PIN, SoftHSMConf: c.SoftHSMConf, WrongPIN: true, Idle: time.Second, Duration: 200*time.Millisecond,
	}, func(e conformance.Event) {
		if e.Check == nil {
			t.Logf("%d/%d %s", e.Index, e.Steps, e.Step)
		}
	})
	if err != nil {
		t.Error(err)
	}
	report.Render(os.Stdout)
}
