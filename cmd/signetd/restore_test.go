package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// stop ends a service as an operator does.
func (s service) stop(c *exec.Cmd) {
	s.t.Helper()
	if err := c.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		s.t.Fatalf("stopping: %v", err)
	}
}

func (s service) login(c *grpc.ClientConn, user string) context.Context {
	s.t.Helper()
	r, err := signetv1.NewSessionServiceClient(c).OpenSession(s.t.Context(), &signetv1.OpenSessionRequest{UserName: user, Password: password}, grpc.WaitForReady(true))
	if err != nil {
		s.t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(context.WithoutCancel(s.t.Context()), "authorization", "Bearer "+r.GetToken())
}

// secondAdministrator enrols eve.
func (s service) secondAdministrator() {
	s.t.Helper()
	c := s.dial()
	signers := signetv1.NewSignerServiceClient(c)
	r, err := signers.EnrollSigner(s.login(c, "grace"), &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
		UserName: "eve", PrintedName: "Eve Security", TimeZone: "UTC", Roles: []signetv1.Role{signetv1.Role_ROLE_ADMINISTRATOR},
		Proofing: &signetv1.IdentityProofing{Method: "passport seen", Reference: "2"},
	}}})
	if err == nil {
		_, err = signers.RedeemEnrollment(s.t.Context(), &signetv1.RedeemEnrollmentRequest{
			EnrollmentCode: r.GetEnrollmentCode(), UserName: "eve", Password: password, AccountabilityAcknowledged: true,
		}, grpc.WaitForReady(true))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestLedgerRestore: yesterday's ledger, put back, ends serve with 5 and a sentence that says what is missing and what to do; two
// administrators go on.
func TestLedgerRestore(t *testing.T) {
	s := initService(t)
	c := s.serve()
	s.enrol()
	s.secondAdministrator()
	s.stop(c)
	path := filepath.Join(s.data, "ledger.db")
	yesterday, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c = s.serve()
	s.login(s.dial(), "ada")
	s.stop(c)
	if err := os.WriteFile(path, yesterday, 0o600); err != nil {
		t.Fatal(err)
	}
	secret := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	grace, eve := secret("grace", password+"\n", 0o600), secret("eve", password, 0o640)
	restore := func(args ...string) (string, string, int) {
		return run(t, append([]string{"ledger", "restore", "--config", s.config()}, args...)...)
	}
	by := func(user, file, reason string) []string {
		return []string{"--administrator", user, "--password-file", file, "--reason", reason}
	}
	accept := func(first, second []string) (string, string, int) {
		return restore(append(append([]string{"--accept-loss"}, first...), second...)...)
	}

	t.Run("serve refuses and says what to do", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		_, stderr, code := run(t, "serve", "--config", s.config())
		for _, want := range []string{"ledger.checkpoint has seen", "are missing", "signetd ledger restore --accept-loss --config " + s.config()} {
			if code != 5 || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, and %q is not said: %s", code, want, stderr)
			}
		}
	})
	t.Run("check names it", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		if stdout, stderr, code := run(t, "ledger", "check", "--config", s.config()); code != 3 || !strings.Contains(stdout, "older copy") {
			t.Errorf("%d: %s%s", code, stdout, stderr)
		}
	})
	t.Run("without --accept-loss it only tells", func(t *testing.T) {
		stdout, stderr, code := restore()
		if code != 5 || !strings.Contains(stdout, "Missing: ") || !strings.Contains(stderr, "nothing was changed") {
			t.Errorf("%d: %s%s", code, stdout, stderr)
		}
	})
	for what, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no terminal to ask at":       {[]string{"--accept-loss"}, 2, "no terminal"},
		"administrators without it":   {by("grace", grace, "the disk is lost"), 2, "--accept-loss"},
		"one administrator":           {append([]string{"--accept-loss"}, by("grace", grace, "the disk is lost")...), 2, "two administrators"},
		"a reason too few":            {append([]string{"--accept-loss", "--administrator", "eve", "--password-file", eve}, by("grace", grace, "the disk is lost")...), 2, "once for each"},
		"a password on the line":      {[]string{"--accept-loss", "--password", password}, 2, "unknown flag"},
		"a password file of no lines": {append([]string{"--accept-loss"}, append(by("grace", os.DevNull, "the disk is lost"), by("eve", eve, "so it is")...)...), 2, "no password"},
	} {
		t.Run(what, func(t *testing.T) {
			if stdout, stderr, code := restore(c.args...); code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("%d: %s%s", code, stdout, stderr)
			}
		})
	}
	t.Run("who is no administrator, and the same one twice", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		if _, stderr, code := accept(by("grace", grace, "the disk is lost"), by("ada", grace, "so it is")); code != 1 || !strings.Contains(stderr, "ada: ") {
			t.Errorf("%d: %s", code, stderr)
		}
		if _, stderr, code := accept(by("grace", grace, "the disk is lost"), by("grace", grace, "so it is")); code != 1 || !strings.Contains(stderr, "another one") {
			t.Errorf("%d: %s", code, stderr)
		}
		if _, _, code := run(t, "serve", "--config", s.config()); code != 5 {
			t.Errorf("serve ends with %d", code)
		}
	})
	t.Run("two administrators", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		stdout, stderr, code := accept(by("grace", grace, "the disk is lost"), by("eve", eve, "no newer backup is readable"))
		if code != 0 || !strings.Contains(stdout, "The loss is accepted: entry ") || !strings.Contains(stderr, "chmod 600") {
			t.Fatalf("%d: %s%s", code, stdout, stderr)
		}
		if stdout, stderr, code := run(t, "ledger", "check", "--config", s.config()); code != 0 {
			t.Errorf("%d: %s%s", code, stdout, stderr)
		}
		if stdout, stderr, code := restore("--accept-loss"); code != 0 || !strings.Contains(stdout, "nothing speaks against the ledger") {
			t.Errorf("again: %d: %s%s", code, stdout, stderr)
		}
		c := s.serve()
		s.login(s.dial(), "ada")
		s.stop(c)
	})
}
