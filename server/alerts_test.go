package server_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
	"github.com/signetd/signet/server/servertest/inbox"
)

// alertScene is a scene with a security officer, a mail server and a receiver of webhooks.
type alertScene struct {
	*scene
	mail           *inbox.Mail
	hook           *inbox.Hook
	admin, officer context.Context
	officerID      string
	alerts         signetv1.AlertServiceClient
}

func startAlerts(t *testing.T) *alertScene {
	t.Helper()
	s := &alertScene{mail: inbox.StartMail(t), hook: inbox.StartHook(t)}
	secrets := t.TempDir()
	for name, text := range map[string]string{"mail": inbox.Password, "hook": s.hook.Secret} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.scene = start(t, func(c *server.Config) {
		c.Alerts.Repeat, c.Metrics.Address = server.Duration(10*time.Minute), "127.0.0.1:0"
		c.Alerts.Mail = server.MailConfig{
			Server: s.mail.Address, TLS: "starttls", Roots: s.mail.Roots, User: inbox.User, PasswordFile: filepath.Join(secrets, "mail"), From: "signet@sign.example",
			Security: []string{"security@example.com"}, Management: []string{"management@example.com"}, Timeout: server.Duration(10 * time.Second),
		}
		c.Alerts.Webhooks = []server.WebhookConfig{{Name: "siem", URL: s.hook.URL, SecretFile: filepath.Join(secrets, "hook"), Audiences: []string{}, Roots: s.hook.Roots}}
	})
	s.officerID = s.Enroll("olga", "Olga Officer", signetv1.Role_ROLE_SECURITY_OFFICER).GetName()
	s.alerts = signetv1.NewAlertServiceClient(s.Dial())
	s.admin, s.officer = s.Login(servertest.Administrator), s.Login("olga")
	return s
}

// open returns the alerts that wait.
func (s *alertScene) open(who context.Context) []*signetv1.Alert {
	s.t.Helper()
	r, err := s.alerts.ListAlerts(who, &signetv1.ListAlertsRequest{Open: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.GetAlerts()
}

// metrics reads the figures.
func (s *alertScene) metrics() string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.MetricsAddress()+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *alertScene) deliveries(alert string) []*signetv1.Delivery {
	s.t.Helper()
	r, err := s.alerts.ListDeliveries(s.officer, &signetv1.ListDeliveriesRequest{Parent: alert})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.GetDeliveries()
}

// guess types wrong passwords until a name is locked.
func (s *alertScene) guess(user string) {
	s.t.Helper()
	sessions := signetv1.NewSessionServiceClient(s.Dial())
	for range 40 {
		_, err := sessions.OpenSession(s.t.Context(), &signetv1.OpenSessionRequest{UserName: user, Password: "not the password of anybody"})
		switch reasonOf(err) {
		case "LOCKED":
			if len(s.find(0, chain.SignerLocked)) > 0 {
				return
			}
			s.Clock.Advance(2 * time.Minute) // a growing delay
		case "BAD_CREDENTIALS":
		default:
			s.t.Fatal(err)
		}
	}
	s.t.Fatal("it is not locked after 40 wrong passwords")
}

// A lock is in the security unit's mailbox and at its webhook within seconds, comes again until somebody has acknowledged it, and every try is
// an entry.
func TestAlertOfALock(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	s := startAlerts(t)
	s.guess("ada")
	began := time.Now()
	letters := s.mail.Wait(t, 1)
	took := time.Since(began)
	t.Logf("from the lock to the mailbox: %v", took)
	l := letters[0]
	if l.To != "security@example.com" || !strings.Contains(l.Subject, "signer.locked") || !l.TLS || took > 5*time.Second {
		t.Errorf("after %v: %+v", took, l)
	}
	if strings.Contains(l.Raw, "not the password") {
		t.Error("the message has what was typed")
	}
	list := s.open(s.officer)
	if len(list) != 1 || list[0].GetKind() != "signer.locked" || list[0].GetState() != signetv1.AlertState_ALERT_STATE_OPEN || !strings.Contains(l.Text, strings.TrimPrefix(list[0].GetName(), "alerts/")) {
		t.Fatalf("%v", list)
	}
	alert := list[0]
	if alert.GetSubject() != s.adaID {
		t.Errorf("about %q", alert.GetSubject())
	}
	s.until(func() bool { p, _ := s.hook.Posts(); return len(p) == 1 && len(s.deliveries(alert.GetName())) == 2 })
	if _, wrong := s.hook.Posts(); len(wrong) != 0 {
		t.Errorf("%v", wrong)
	}
	t.Run("it is repeated, also after a restart", func(t *testing.T) {
		s.Stop()
		s.Clock.Advance(11 * time.Minute)
		s.Restart()
		if got := s.mail.Wait(t, 2)[1]; got.To != "security@example.com" {
			t.Errorf("%+v", got)
		}
		s.connect()
		s.alerts = signetv1.NewAlertServiceClient(s.Dial())
		s.admin, s.officer = s.Login(servertest.Administrator), s.Login("olga")
	})
	t.Run("management hears of it", func(t *testing.T) {
		s.Clock.Advance(time.Hour)
		s.until(func() bool {
			return slices.ContainsFunc(s.mail.Letters(), func(l inbox.Letter) bool { return l.To == "management@example.com" })
		})
		if got := s.open(s.Login(servertest.Administrator)); len(got) != 1 || got[0].GetState() != signetv1.AlertState_ALERT_STATE_ESCALATED {
			t.Errorf("%v", got)
		}
	})
	t.Run("acknowledged", func(t *testing.T) {
		s.officer = s.Login("olga") // an hour has passed
		r, err := s.alerts.AcknowledgeAlert(s.officer, &signetv1.AcknowledgeAlertRequest{Name: alert.GetName(), Remark: "Called her."})
		if err != nil || r.GetAlert().GetAcknowledgedBy() != s.officerID || r.GetAlert().GetRemark() != "Called her." || r.GetAlert().GetState() != signetv1.AlertState_ALERT_STATE_ACKNOWLEDGED {
			t.Fatalf("%v, %v", r, err)
		}
		n := len(s.mail.Letters())
		s.Clock.Advance(12 * time.Minute)
		if len(s.open(s.Login("olga"))) != 0 || len(s.mail.Letters()) != n {
			t.Error("it goes on")
		}
		if _, err := s.alerts.AcknowledgeAlert(s.Login("olga"), &signetv1.AcknowledgeAlertRequest{Name: alert.GetName(), Remark: "Again."}); reasonOf(err) != "ALERT_STATE" {
			t.Errorf("%v", err)
		}
	})
	for _, typ := range []chain.Type{chain.AlertRaised, chain.AlertDelivered, chain.AlertEscalated, chain.AlertAcknowledged} {
		if len(s.find(0, typ)) == 0 {
			t.Errorf("no entry %s", typ)
		}
	}
	for _, e := range s.find(0, chain.AlertDelivered) {
		if strings.Contains(string(e.Body), "@") || strings.Contains(string(e.Body), "token=") {
			t.Errorf("entry %d has an address: %s", e.Index, e.Body)
		}
	}
}

// until waits for what happens by itself.
func (s *alertScene) until(done func() bool) {
	s.t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(limit) {
			s.t.Fatal("it does not happen")
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Who may do what with alerts, and how a test of them goes.
func TestAlertCalls(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	s := startAlerts(t)
	for _, who := range []context.Context{s.ada, s.rita} {
		if _, err := s.alerts.ListAlerts(who, &signetv1.ListAlertsRequest{}); reasonOf(err) != "DENIED" {
			t.Errorf("%v", err)
		}
		if _, err := s.alerts.TestAlerts(who, &signetv1.TestAlertsRequest{}); reasonOf(err) != "DENIED" {
			t.Errorf("%v", err)
		}
	}
	// Nothing of it needs the HSM.
	s.SetFault(func(keystore.ID, []byte) ([]byte, error) { return nil, keystore.ErrUnavailable })
	r, err := s.alerts.TestAlerts(s.officer, &signetv1.TestAlertsRequest{})
	if err != nil || r.GetAlert().GetKind() != "alert.test" {
		t.Fatalf("%v, %v", r, err)
	}
	letters := s.mail.Wait(t, 2)
	to := []string{letters[0].To, letters[1].To}
	if slices.Sort(to); !slices.Equal(to, []string{"management@example.com", "security@example.com"}) {
		t.Errorf("a test reaches %v", to)
	}
	name := r.GetAlert().GetName()
	s.until(func() bool {
		return strings.Contains(s.metrics(), `signet_alert_messages_total{channel="webhook/siem",delivered="yes"} 1`)
	})
	for _, want := range []string{
		"signet_alerts_open 1", "signet_alerts_escalated 0", `signet_alerts_undelivered{audience="security"} 0`, `signet_alert_channel_up{channel="mail"} 1`,
		`signet_alert_messages_total{channel="mail",delivered="yes"} 2`,
	} {
		if figures := s.metrics(); !strings.Contains(figures, want) {
			t.Errorf("the figures lack %q", want)
		}
	}
	s.until(func() bool { return len(s.deliveries(name)) == 3 })
	for _, d := range s.deliveries(name) {
		if !d.GetDelivered() || d.GetAttempt() != 1 || d.GetEntry() == 0 || d.GetTime() == nil {
			t.Errorf("%v", d)
		}
	}
	s.SetFault(nil)
	got, err := s.alerts.GetAlert(s.officer, &signetv1.GetAlertRequest{Name: name})
	if err != nil || got.GetAlert().GetName() != name {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := s.alerts.GetAlert(s.officer, &signetv1.GetAlertRequest{Name: name + "0"}); reasonOf(err) != "ALERT_NOT_FOUND" {
		t.Errorf("%v", err)
	}
	if _, err := s.alerts.AcknowledgeAlert(s.ada, &signetv1.AcknowledgeAlertRequest{Name: name, Remark: "x"}); reasonOf(err) != "DENIED" {
		t.Errorf("%v", err)
	}
	t.Run("nobody acknowledges an alert about themselves", func(t *testing.T) {
		s.guess("olga")
		alert := s.open(s.admin)[0]
		if alert.GetSubject() != s.officerID {
			t.Fatalf("%v", alert)
		}
		if _, err := s.alerts.AcknowledgeAlert(s.officer, &signetv1.AcknowledgeAlertRequest{Name: alert.GetName(), Remark: "It was me."}); reasonOf(err) != "SECOND_PERSON_NEEDED" {
			t.Errorf("%v", err)
		}
		if _, err := s.alerts.AcknowledgeAlert(s.Login(servertest.Administrator), &signetv1.AcknowledgeAlertRequest{Name: alert.GetName(), Remark: "Talked to her."}); err != nil {
			t.Error(err)
		}
	})
	t.Run("pages", func(t *testing.T) {
		admin := s.Login(servertest.Administrator)
		first, err := s.alerts.ListAlerts(admin, &signetv1.ListAlertsRequest{PageSize: 1})
		if err != nil || len(first.GetAlerts()) != 1 || first.GetNextPageToken() == "" {
			t.Fatalf("%v, %v", first, err)
		}
		second, err := s.alerts.ListAlerts(admin, &signetv1.ListAlertsRequest{PageSize: 1, PageToken: first.GetNextPageToken()})
		if err != nil || len(second.GetAlerts()) != 1 || second.GetAlerts()[0].GetEntry() >= first.GetAlerts()[0].GetEntry() {
			t.Errorf("%v, %v", second, err)
		}
	})
}

// TestContactTakesAProof: a session alone does not turn away the news of what is done with it.
func TestContactTakesAProof(t *testing.T) {
	for _, row := range []string{"11.200(a)(2)", "X-11"} {
		t.Attr("requirement", row)
	}
	s := start(t)
	before := s.size()
	for _, tc := range []struct {
		who         context.Context
		whose, user string
		password    string
		reason      string
	}{
		{s.ada, s.adaID, "ada", "a guess of the thief", "BAD_CREDENTIALS"},
		{s.ada, s.adaID, "bob", servertest.Password, "BAD_CREDENTIALS"},
		{s.ada, s.adaID, "ada", "", "CREDENTIALS_MISSING"},
		{s.ada, s.bobID, "ada", servertest.Password, "DENIED"},
		{s.Login(servertest.Administrator), s.adaID, servertest.Administrator, "a guess of the thief", "BAD_CREDENTIALS"},
	} {
		_, err := s.signers.SetContact(tc.who, &signetv1.SetContactRequest{
			Name: tc.whose, Email: "thief@example.org", Reason: "mine", Password: &signetv1.PasswordCredentials{UserName: tc.user, Password: tc.password},
		})
		if reasonOf(err) != tc.reason {
			t.Errorf("%s, %q: %v, want %s", tc.user, tc.password, err, tc.reason)
		}
	}
	if changed := s.find(before, chain.SignerChanged); len(changed) != 0 {
		t.Errorf("it was changed: %v", changed)
	}
	if denied := s.find(before, chain.AccessDenied); len(denied) != 1 {
		t.Errorf("%d refusals in the ledger, want that of somebody else's address", len(denied))
	}
}

// A signer hears of a signature at the address that they have set, and the address before hears of another one.
func TestSignatureIsTold(t *testing.T) {
	s := startAlerts(t)
	signers := signetv1.NewSignerServiceClient(s.Dial())
	set := func(who context.Context, user, id, email string) error {
		_, err := signers.SetContact(who, &signetv1.SetContactRequest{Name: id, Email: email, Reason: "asked for it", Password: &signetv1.PasswordCredentials{UserName: user, Password: servertest.Password}})
		return err
	}
	if _, err := signers.SetContact(s.ada, &signetv1.SetContactRequest{Name: s.adaID, Email: "ada@example.com", Reason: "x"}); reasonOf(err) != "CREDENTIALS_MISSING" {
		t.Errorf("a session alone: %v", err)
	}
	if err := set(s.ada, "ada", s.bobID, "ada@example.com"); reasonOf(err) != "DENIED" {
		t.Errorf("somebody else's: %v", err)
	}
	if err := set(s.ada, "ada", s.adaID, "no address"); reasonOf(err) != "CONTACT_INVALID" {
		t.Errorf("%v", err)
	}
	if err := set(s.ada, "ada", s.adaID, "ada@example.com"); err != nil {
		t.Fatal(err)
	}
	s.sign(s.ada, "ada", s.prepare(s.ada))
	l := s.mail.Wait(t, 1)[0]
	if l.To != "ada@example.com" || l.Subject != "[Signet demo] Your electronic signature was used" {
		t.Errorf("%+v", l)
	}
	for _, want := range []string{s.record.GetName(), "Decision  approve", "Meaning   ", "(Europe/Berlin)", "UTC", "Entry     "} {
		if !strings.Contains(l.Text, want) {
			t.Errorf("it lacks %q:\n%s", want, l.Text)
		}
	}
	if err := set(s.admin, servertest.Administrator, s.adaID, "mallory@example.com"); err != nil {
		t.Fatal(err)
	}
	if l := s.mail.Wait(t, 2)[1]; l.To != "ada@example.com" || !strings.Contains(l.Text, "was changed by an administrator") {
		t.Errorf("%+v", l)
	}
	t.Run("it is in the list", func(t *testing.T) {
		r, err := s.alerts.ListAlerts(s.officer, &signetv1.ListAlertsRequest{PageSize: 200})
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		for _, a := range r.GetAlerts() {
			kinds[a.GetKind()]++
		}
		if kinds["signature.used"] == 0 || kinds["contact.changed"] != 1 {
			t.Errorf("%v", kinds)
		}
	})
}
