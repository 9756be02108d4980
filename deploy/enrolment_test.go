package deploy_test

import (
	"strings"
	"testing"
)

// Somebody is enrolled by two administrators, suspended, reinstated, and leaves, as the runbook says.
func TestEnrolment(t *testing.T) {
	for _, row := range []string{"11.100", "11.200(a)(3)", "11.300(c)"} {
		t.Attr("requirement", row)
	}
	const runbook = "enrolment.md"
	m := newMachine(t)
	m.must(t, secondAdministrator)
	m.env = append(m.env, "SECOND_PASSWORD="+m.folder+"/olga.password", "HALVES="+m.folder)
	out := m.carryOut(t, runbook, "Set this first", "Enrol somebody")
	for _, want := range []string{"Printed name: Bea Lindqvist", "The first half of the one-time code is in", "The second half of the one-time code is in"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out = m.must(t, `connect="--server $ADDRESS --ca $DATA/tls/server.pem"
printf '%s-%s\n' "$(cat "$HALVES/first")" "$(cat "$HALVES/second")" >"$ROOT/bea.code"
signet signer redeem $connect --user bea --code-file "$ROOT/bea.code" --password-file "$ROOT/max.password" --accept-accountability`)
	if !strings.Contains(out, "Accountability") {
		t.Errorf("%s", out)
	}
	out = m.carryOut(t, runbook, "Set this first", "Renew: a lost password, a lapsing certificate, a new name", "Suspend, and reinstate", "Somebody leaves")
	for _, want := range []string{"New printed name: Bea Holm", "State           withdrawn", "suspended", "State           confirmed", "revoked"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`)
}
