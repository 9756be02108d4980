package deploy_test

import (
	"strings"
	"testing"
)

// A service is enrolled, its certificate is changed, the organisation's CA vouches for another one, networks are admitted, addresses read
// and erased: as the runbook says.
func TestServicesAndNetworks(t *testing.T) {
	t.Attr("requirement", "11.10(d)")
	t.Attr("requirement", "11.10(h)")
	t.Attr("requirement", "C-104")
	const runbook = "services-and-networks.md"
	m := newMachine(t)
	m.env = append(m.env, "KEYS="+m.folder+"/keys", "CONNECT=--server "+m.address+" --ca "+m.folder+"/data/tls/server.pem",
		"PEOPLE=127.0.0.0/8", "SERVICES=127.0.0.0/8", "CLIENT_CA="+m.folder+"/client-ca.pem",
		"BEFORE=2100-01-01")
	out := m.carryOut(t, runbook, "Set this first", "Enrol a service")
	for _, want := range []string{"sha256 Fingerprint=", "/signet.v1.SigningService/Seal", "release\n", "50 a second, 100 at once", "mtls", "verification"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out = m.carryOut(t, runbook, "Set this first", "Change its certificate")
	if !strings.Contains(out, "SESSION_ENDED") {
		t.Errorf("it says\n%s", out)
	}
	out = m.carryOut(t, runbook, "Set this first", "A key may be known to somebody")
	if !strings.Contains(out, "suspended") || !strings.Contains(out, "session.opened") || !strings.Contains(out, "active") {
		t.Errorf("it says\n%s", out)
	}
	m.must(t, `
cd "$KEYS"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=Example CA" -addext basicConstraints=critical,CA:TRUE \
	-addext keyUsage=critical,keyCertSign,cRLSign -keyout "$ROOT/ca-key.pem" -out "$CLIENT_CA"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=nightly -keyout nightly-key.pem -out nightly.csr
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nsubjectAltName=URI:spiffe://example.com/nightly\n' >nightly.ext
openssl x509 -req -in nightly.csr -CA "$CLIENT_CA" -CAkey "$ROOT/ca-key.pem" -CAcreateserial -days 10 -extfile nightly.ext -out nightly.pem`)
	login := `signet login --profile grace --user grace --password-file "$ROOT/grace.password"`
	// The restart inside of the section ends the session, and the runbook says so: log in as the operator would.
	m.must(t, `cat >"$ROOT/bin/systemctl.login" <<'LOGIN'
#!/bin/sh
set -eu
"$ROOT/bin/systemctl.real" "$@"
[ "$1" != restart ] || `+login+` >/dev/null
LOGIN
mv "$ROOT/bin/systemctl" "$ROOT/bin/systemctl.real"
install -m 700 "$ROOT/bin/systemctl.login" "$ROOT/bin/systemctl"`)
	out = m.carryOut(t, runbook, "Set this first", "Let the organisation's CA vouch")
	if !strings.Contains(out, "spiffe://example.com/nightly") || !strings.Contains(out, "nightly") {
		t.Errorf("it says\n%s", out)
	}
	out = m.carryOut(t, runbook, "Set this first", "Admit networks", "See what was refused", "From where somebody called")
	if !strings.Contains(out, "access.denied") && !strings.Contains(out, "Grace Hopper") || !strings.Contains(out, "127.0.0.1") {
		t.Errorf("it says\n%s", out)
	}
	out = m.carryOut(t, runbook, "Set this first", "Erase addresses")
	if !strings.Contains(out, "1 erased.") {
		t.Errorf("it says\n%s", out)
	}
	m.must(t, `mv "$ROOT/bin/systemctl.real" "$ROOT/bin/systemctl"`)

	// From elsewhere nobody gets in, and it is seen.
	m.must(t, `sed -i -e "/^network:/,/^[a-z]/s|^    people:.*|    people: [192.0.2.0/24]|" "$CONFIG" && systemctl restart signetd`)
	if out, err := m.bash(t.Context(), login); err == nil || !strings.Contains(out, "NETWORK_DENIED") {
		t.Errorf("%v\n%s", err, out)
	}
	m.must(t, `sed -i -e "/^network:/,/^[a-z]/s|^    people:.*|    people: []|" "$CONFIG" && systemctl restart signetd && `+login)
	if out := m.must(t, `signet ledger search --profile grace --type access.denied --json`); !strings.Contains(out, `"reason":"network"`) {
		t.Errorf("it says\n%s", out)
	}
	m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`)
}
