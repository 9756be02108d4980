package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest/inbox"
)

// The runbook as it stands: secrets are made, the configuration of the runbook is taken, a test alert arrives by mail and webhook, and the
// secret of the webhook is changed without a gap.
func TestAlerts(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	const runbook = "alerts.md"
	m := newMachine(t)
	mail, hook := inbox.StartMail(t), inbox.StartHook(t)
	secrets := filepath.Join(m.folder, "secrets")
	if err := os.WriteFile(filepath.Join(m.folder, "given"), []byte(inbox.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "SECRETS="+secrets, "MAILPASSWORD="+m.folder+"/given", "OFFICER=grace")
	m.carryOut(t, runbook, "Set this first", "Make the secrets")
	secret := func() []string {
		b, err := os.ReadFile(filepath.Join(secrets, "siem.secret"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(b))
	}
	hook.SetSecret(secret()[0])

	// The configuration of the runbook, with this test's addresses.
	text, err := os.ReadFile(filepath.Join("runbooks", runbook))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	config := filepath.Join(m.folder, "data/signetd.yaml")
	c, err := server.ReadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	data := c.DataDir
	if err := yaml.UnmarshalStrict(block[1], &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("the configuration of the runbook: %v", err)
	}
	c.DataDir = data
	c.Alerts.Mail.Server, c.Alerts.Mail.Roots, c.Alerts.Mail.PasswordFile = mail.Address, mail.Roots, filepath.Join(secrets, "mail.password")
	c.Alerts.Webhooks[0].URL, c.Alerts.Webhooks[0].Roots, c.Alerts.Webhooks[0].SecretFile = hook.URL, hook.Roots, filepath.Join(secrets, "siem.secret")
	if err := os.WriteFile(config, c.YAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := m.carryOut(t, runbook, "Set this first", "Configure"); !strings.Contains(out, "active") {
		t.Errorf("it says\n%s", out)
	}
	login := `signet login --profile grace --server "$ADDRESS" --ca "$DATA/tls/server.pem" --user grace --password-file "$ROOT/grace.password"`
	m.must(t, login)
	out := m.carryOut(t, runbook, "Set this first", "Test it", "When an alert has come")
	for _, want := range []string{"accepted by " + mail.Address, "HTTP 200", "acknowledged", "Monthly test"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	to := ""
	for _, l := range mail.Letters() {
		to += l.To + " "
	}
	if !strings.Contains(to, "security@example.com") || !strings.Contains(to, "management@example.com") {
		t.Errorf("letters to %s", to)
	}

	// Two secrets, then the new one alone.
	change := blocks(t, runbook)
	var steps []string
	for _, b := range change {
		if b.heading == "Change the webhook's secret" {
			steps = append(steps, b.text)
		}
	}
	old := secret()[0]
	for i, step := range steps {
		m.must(t, change[0].text+"\n"+step)
		if i == 1 {
			hook.SetSecret(secret()[0])
		}
		m.carryOut(t, runbook, "Set this first", "Test it")
	}
	if posts, wrong := hook.Posts(); len(posts) != 3 || len(wrong) != 0 || len(secret()) != 1 || secret()[0] == old {
		t.Errorf("%d posts, refused %v, %d secrets", len(posts), wrong, len(secret()))
	}
	if info, err := os.Stat(filepath.Join(secrets, "siem.secret")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// A wrong password: what waits is told, and arrives once the file has the right one again.
	m.must(t, `echo another >"$SECRETS/mail.password"`)
	alert := m.must(t, `signet alert test --profile grace --json | jq --raw-output .id`)
	m.env = append(m.env, "ALERT="+strings.TrimSpace(alert))
	m.must(t, `for _ in $(seq 50); do signet alert deliveries "$ALERT" --profile grace | grep "it refused the user and password" && exit; sleep 0.2; done; exit 1`)
	if out := m.carryOut(t, runbook, "Set this first", "When nothing arrives"); !strings.Contains(out, "the channel mail is down") || !strings.Contains(out, "alerts cannot be delivered") {
		t.Errorf("it says\n%s", out)
	}
	n := len(mail.Letters())
	m.must(t, `cat "$MAILPASSWORD" >"$SECRETS/mail.password"`)
	mail.Wait(t, n+2)
	m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`)
}
