package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Roles, a group, a designation, training and the review, as the runbook says; afterwards the designated signer signs a release.
func TestRightsAndReview(t *testing.T) {
	t.Attr("requirement", "11.10(g)")
	t.Attr("requirement", "11.10(i)")
	t.Attr("requirement", "11.300(b)")
	const runbook = "rights-and-review.md"
	m := newMachine(t)
	m.env = append(m.env, "REVIEWER_PASSWORD="+m.folder+"/ada.password", "REVIEW="+m.folder+"/review")
	out := m.carryOut(t, runbook, "Set this first", "Give a role for a while, and take it away", "Make a group", "Designate, and attest training")
	for _, want := range []string{"In force    yes", "Withdrawn: ras_", "Quality assurance", "release\tgroup:qa\tgxp-basics", "LMS-4711"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	m.signs(t, "v1.0.0")
	out = m.carryOut(t, runbook, "Set this first", "Review")
	for _, want := range []string{"Ada Lovelace (ada)", "Last review   none yet", "is approved", "Verdict", "records/"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(m.folder, "review", "rights.json")); err != nil {
		t.Error(err)
	}
	m.must(t, `
connect="--server $ADDRESS --ca $DATA/tls/server.pem"
head -c 18 /dev/urandom | base64 >"$ROOT/olga.password"
chmod 600 "$ROOT/olga.password"
signet signer enroll --profile grace --user olga --name "Olga Second" --title "Security" --zone UTC --role administrator \
	--proofing-method passport --proofing-reference 3 --code-out "$ROOT/olga.code"
signet signer redeem $connect --user olga --code-file "$ROOT/olga.code" --password-file "$ROOT/olga.password" --accept-accountability
signet login --profile olga $connect --user olga --password-file "$ROOT/olga.password"
`)
	m.env = append(m.env, "OTHER_PASSWORD="+m.folder+"/olga.password")
	out = m.carryOut(t, runbook, "Set this first", "Where it takes two")
	for _, want := range []string{"Give the role security_officer to Ada Lovelace", "\tsecurity_officer\t"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	m.must(t, `signet group put qa --profile grace --remove ada --reason moved`)
	if out, err := m.bash(t.Context(), m.signing("v1.1.0")); err == nil || !strings.Contains(out, "APPROVER_UNKNOWN") {
		t.Errorf("who has left the group: %v\n%s", err, out)
	}
	m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`)
}
