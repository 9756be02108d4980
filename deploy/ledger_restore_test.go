package deploy_test

import (
	"strings"
	"testing"
)

// Yesterday's ledger put back: the runbook as it stands tells what is missing, keeps the evidence, and has two administrators go on.
func TestLedgerRestore(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	const runbook = "ledger-restore.md"
	m := newMachine(t)
	m.must(t, `
signet signer enroll --profile grace --user eve --name "Eve Security" --title "Security" --zone UTC --role administrator \
	--proofing-method passport --proofing-reference 3 --code-out "$ROOT/eve.code"
head -c 18 /dev/urandom | base64 >"$ROOT/eve.password"
chmod 600 "$ROOT/eve.password"
signet signer redeem --server $ADDRESS --ca $DATA/tls/server.pem --user eve --code-file "$ROOT/eve.code" --password-file "$ROOT/eve.password" --accept-accountability
`)
	m.signs(t, "v1.0.0")
	m.must(t, `systemctl stop signetd && cp "$DATA/ledger.db" "$ROOT/yesterday" && systemctl start signetd`)
	m.signs(t, "v1.1.0")
	m.must(t, `systemctl stop signetd && cp "$ROOT/yesterday" "$DATA/ledger.db"`)
	out, err := m.bash(t.Context(), "systemctl start signetd")
	if err == nil || !strings.Contains(out, "ledger.checkpoint has seen") || !strings.Contains(out, "are missing") {
		t.Fatalf("it starts, or does not say why not: %v\n%s", err, out)
	}
	m.env = append(m.env, "EVIDENCE="+m.folder+"/evidence")
	out = m.carryOut(t, runbook, "Set this first", "Look", "Keep what is there")
	if !strings.Contains(out, "Missing: ") || !strings.Contains(out, "ledger.checkpoint") {
		t.Errorf("it says\n%s", out)
	}
	m.env = append(m.env, "ANSWERS=--administrator grace --password-file "+m.folder+"/grace.password --reason disk-lost "+
		"--administrator eve --password-file "+m.folder+"/eve.password --reason no-newer-backup")
	out = m.carryOut(t, runbook, "Set this first", "Go on without what is missing")
	if !strings.Contains(out, "The loss is accepted: entry ") || !strings.Contains(out, "the ledger checks") || !strings.Contains(out, "active") {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.2.0")
	// The signature of the lost entries still verifies.
	m.must(t, `signet verify --profile ada --bundle "$ROOT/release-v1.1.0" --manifest "$ROOT/signatures/release-v1.1.0.json"`)
	m.must(t, `cd "$EVIDENCE" && sha256sum --check SHA256SUMS`)
}
