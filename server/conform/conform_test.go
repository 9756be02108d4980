package conform_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/passkey/passkeytest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/conform"
	"github.com/signetd/signet/server/servertest"
	"github.com/signetd/signet/server/servertest/inbox"
)

func options(t *testing.T, s *servertest.Server) conform.Options {
	t.Helper()
	trust, err := os.ReadFile(s.Config.Path(server.TrustFile))
	if err != nil {
		t.Fatal(err)
	}
	conn := s.Dial()
	return conform.Options{
		Config: s.Config, Trust: trust, Folder: t.TempDir(),
		Dial:        func() (grpc.ClientConnInterface, error) { return conn, nil },
		Credentials: &signetv1.PasswordCredentials{UserName: servertest.Administrator, Password: servertest.Password},
		Listeners:   []string{s.Address},
		OldTLS: func(_ context.Context, address string) error {
			c, err := tls.Dial("tcp", address, &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}) // what it speaks is asked, not who it is
			if err == nil {
				c.Close()
			}
			return err
		},
		Backup: func(ctx context.Context, to string) error {
			b, err := server.AskBackup(ctx, s.Config)
			if err != nil {
				return err
			}
			defer b.Close()
			_, err = b.Save(to, nil)
			return err
		},
	}
}

// signed has a record approved.
func signed(t *testing.T, s *servertest.Server) {
	t.Helper()
	s.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	s.Enroll("rita", "Rita Release", signetv1.Role_ROLE_RELEASE_MANAGER)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "app.bin"), []byte("the program"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := bundle.Read(t.Context(), folder, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	document, err := d.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Record(s.Login("rita"), document, &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: "v0.1.0", Source: &signetv1.Source{Commit: strings.Repeat("a1", 20)},
		Policy: &signetv1.ApprovalPolicy{Template: "single-approver", Approvers: []string{"ada"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ada, signing := s.Login("ada"), signetv1.NewSigningServiceClient(s.Dial())
	p, err := signing.Prepare(ada, &signetv1.PrepareRequest{
		Record: r.GetName(), Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All gates are green.",
	})
	if err != nil {
		t.Fatal(err)
	}
	shown := sha256.Sum256(p.GetPreparation().GetStatement())
	if _, err := signing.Sign(ada, &signetv1.SignRequest{
		Preparation: p.GetPreparation().GetName(), StatementSha256: shown[:], Password: &signetv1.PasswordCredentials{UserName: "ada", Password: servertest.Password},
	}); err != nil {
		t.Fatal(err)
	}
}

// part11 are the clauses of 21 CFR Part 11 that ask something of a system or of who runs it.
var part11 = []string{
	"11.1", "11.2", "11.3", "11.10(a)", "11.10(b)", "11.10(c)", "11.10(d)", "11.10(e)", "11.10(f)", "11.10(g)", "11.10(h)", "11.10(i)", "11.10(j)", "11.10(k)", "11.30",
	"11.50", "11.70", "11.100(a)", "11.100(b)", "11.100(c)", "11.200(a)(1)", "11.200(a)(1)(i)", "11.200(a)(1)(ii)", "11.200(a)(2)", "11.200(a)(3)", "11.200(b)",
	"11.300(a)", "11.300(b)", "11.300(c)", "11.300(d)", "11.300(e)",
}

// people has a second administrator, what the two did together, a passkey, and somebody who has left.
func people(t *testing.T, s *servertest.Server) {
	t.Helper()
	device, err := passkeytest.New(passkeytest.ES256, "sign.example", "https://sign.example:8444")
	if err != nil {
		t.Fatal(err)
	}
	admin, credentials := s.Login(servertest.Administrator), signetv1.NewCredentialServiceClient(s.Dial())
	begun, err := credentials.StartPasskey(admin, &signetv1.StartPasskeyRequest{
		Password: &signetv1.PasswordCredentials{UserName: servertest.Administrator, Password: servertest.Password}, Label: "a device",
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := device.Register(begun.GetOptions())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := credentials.FinishPasskey(admin, &signetv1.FinishPasskeyRequest{Registration: begun.GetRegistration(), Response: response}); err != nil {
		t.Fatal(err)
	}
	if _, err := signetv1.NewRightsServiceClient(s.Dial()).SetDesignation(admin, &signetv1.SetDesignationRequest{
		Designation: &signetv1.Designation{RecordType: "release", Courses: []string{"gxp"}}, Reason: "all are trained",
	}); err != nil {
		t.Fatal(err)
	}
	s.Enroll("olga", "Olga Officer", signetv1.Role_ROLE_ADMINISTRATOR)
	gone := s.Enroll("max", "Max Former", signetv1.Role_ROLE_SIGNER) // proposed by the one, confirmed by the other
	if _, err := signetv1.NewSignerServiceClient(s.Dial()).RevokeSigner(admin, &signetv1.RevokeSignerRequest{Name: gone.GetName(), Reason: "has left"}); err != nil {
		t.Fatal(err)
	}
}

// TestConform runs all checks against a live service that is set up as it should be.
func TestConform(t *testing.T) {
	for _, row := range []string{"11.1", "11.2", "11.3", "11.10(a)", "11.10(c)", "11.100", "11.200(a)(2)", "11.200(b)", "11.300(c)", "11.300(d)", "X-21"} {
		t.Attr("requirement", row)
	}
	hook := inbox.StartHook(t)
	secret := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(secret, []byte(hook.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, func(c *server.Config) {
		c.Alerts.Webhooks = []server.WebhookConfig{{Name: "siem", URL: hook.URL, SecretFile: secret, Audiences: []string{}, Roots: hook.Roots}}
		c.Identity.LetterReference, c.Pages.PublicURL, c.SystemAccess = "FDA letter of 2026-11-01", "https://sign.example:8444", "closed"
	})
	signed(t, s)
	people(t, s)
	var seen []string
	o := options(t, s)
	o.Progress = func(c conform.Check) { seen = append(seen, c.ID) }
	report, err := conform.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Checks {
		switch {
		case c.Verdict == conform.Failed:
			t.Errorf("%s: %s\n  %s", c.ID, c.Title, strings.Join(c.Seen, "\n  "))
		case c.Verdict == conform.NotExercised && c.ID != "reviews":
			t.Errorf("%s was not exercised: %v", c.ID, c.Seen)
		}
		if len(c.Done) == 0 || len(c.Seen) == 0 {
			t.Errorf("%s does not say what was done and seen", c.ID)
		}
	}
	if len(seen) != len(report.Checks) || !report.Passed() {
		t.Errorf("%d checks were told of, and %d are in the report", len(seen), len(report.Checks))
	}
	for _, clause := range part11 {
		if !slices.ContainsFunc(report.Clauses, func(c conform.ClauseReport) bool { return c.Clause == clause }) {
			t.Errorf("the report says nothing of %s", clause)
		}
	}
	for _, c := range report.Clauses {
		if len(c.Checks) == 0 {
			t.Errorf("no check bears on %s", c.Clause)
		}
	}
	files, err := report.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if !strings.Contains(string(b), "11.300(d)") || strings.Contains(string(b), servertest.Password) {
			t.Errorf("%s: %.300s", name, b)
		}
	}
	t.Run("for longer than a session may idle", func(t *testing.T) { stays(t, s, options(t, s)) })
	t.Run("a service that does otherwise", func(t *testing.T) { lies(t, s, options(t, s)) })
	if folder := os.Getenv("SIGNET_CONFORM_OUT"); folder != "" {
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestConformFinds runs it against a service on which nothing was set up yet, with the trust file of another one.
func TestConformFinds(t *testing.T) {
	other, err := os.ReadFile(servertest.Start(t).Config.Path(server.TrustFile))
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t)
	o := options(t, s)
	o.Trust = other
	report, err := conform.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if report.Passed() {
		t.Error("the report passed")
	}
	for id, want := range map[string]conform.Verdict{
		"copies": conform.Failed, "altered-ledger": conform.NotExercised, // of a copy that verifies nowhere no alteration is found
		"backup": conform.Failed, "altered-backup": conform.NotExercised,
		"alerts":   conform.Failed, // nobody is told
		"manifest": conform.NotExercised, "audit-trail": conform.Failed, "lockout": conform.Passed,
	} {
		i := slices.IndexFunc(report.Checks, func(c conform.Check) bool { return c.ID == id })
		if i < 0 || report.Checks[i].Verdict != want {
			t.Errorf("%s: %+v", id, report.Checks[i])
		}
	}
	for clause, want := range map[string]conform.Verdict{"11.10(b)": conform.Failed, "11.10(d)": conform.Passed, "11.10(e)": conform.Failed, "11.50": conform.NotExercised, "11.300(d)": conform.Failed} {
		i := slices.IndexFunc(report.Clauses, func(c conform.ClauseReport) bool { return c.Clause == clause })
		if i < 0 || report.Clauses[i].Verdict != want {
			t.Errorf("%s: %+v", clause, report.Clauses[i])
		}
	}
	t.Run("somebody who is no administrator", func(t *testing.T) {
		s := servertest.Start(t)
		s.Enroll("olga", "Olga Auditor", signetv1.Role_ROLE_AUDITOR)
		o := options(t, s)
		o.Credentials.UserName = "olga"
		if _, err := conform.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no administrator") {
			t.Error(err)
		}
	})
}
