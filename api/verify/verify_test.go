package verify_test

import (
	"strings"
	"testing"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

func TestOneSignature(t *testing.T) {
	w, _ := one(t)
	r := w.verify(w.manifest())
	want(t, r, verify.OK, "")
	t.Log("\n" + r.Text())
	if !strings.Contains(r.Text(), "VERIFIED") {
		t.Error("the text does not say so")
	}
}

func TestWithdrawalAfterClosing(t *testing.T) {
	w, ada := one(t)
	w.sign(ada, manifest.Withdraw)
	want(t, w.verify(w.manifest()), verify.Policy, "does not cover the signatures after it")
	w.close("withdrawn")
	r := w.verify(w.manifest())
	want(t, r, verify.Policy, "an approver has withdrawn")
	if r.Complete == nil || r.Complete.Outcome != "withdrawn" || r.Complete.Index != uint64(len(w.entries)-1) {
		t.Errorf("complete as of %+v", r.Complete)
	}
}
