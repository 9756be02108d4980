package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// TestLastAdministrator: of two administrators one is revoked; the other one invites a third on the machine, and the service goes on.
func TestLastAdministrator(t *testing.T) {
	t.Attr("requirement", "11.200(a)(3)")
	s := initService(t)
	c := s.serve()
	s.enrol()
	s.secondAdministrator()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code := filepath.Join(t.TempDir(), "code")
	invite := func(args ...string) (string, string, int) {
		return run(t, append([]string{"administrator", "invite", "--config", s.config(), "--by", "grace", "--password-file", file, "--reason", "eve has left",
			"--name", "Ivan Security", "--proofing-method", "passport seen in person", "--proofing-reference", "HR-9", "--code-out", code}, args...)...)
	}
	if _, stderr, exit := invite("--user-name", "ivan"); exit == 0 || !strings.Contains(stderr, "in use") {
		t.Errorf("while the service runs: %d: %s", exit, stderr)
	}
	s.stop(c)
	if _, stderr, exit := invite("--user-name", "ivan"); exit != 1 || !strings.Contains(stderr, "another active administrator") {
		t.Errorf("while there are two: %d: %s", exit, stderr)
	}
	c = s.serve()
	conn := s.dial()
	signers := signetv1.NewSignerServiceClient(conn)
	grace := s.login(conn, "grace")
	list, err := signers.ListSigners(grace, &signetv1.ListSignersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range list.GetSigners() {
		if who.GetUserName() == "eve" {
			_, err := signers.RevokeSigner(grace, &signetv1.RevokeSignerRequest{Name: who.GetName(), Reason: "last day", Cause: signetv1.RevocationCause_REVOCATION_CAUSE_LEFT})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	s.stop(c)
	if _, stderr, exit := invite(); exit != 2 || !strings.Contains(stderr, "missing: --user-name") {
		t.Errorf("without a user name: %d: %s", exit, stderr)
	}
	if _, stderr, exit := invite("--user-name", "ivan", "--by", "ada"); exit != 1 {
		t.Errorf("by who is no administrator: %d: %s", exit, stderr)
	}
	stdout, stderr, exit := invite("--user-name", "ivan")
	if exit != 0 || !strings.Contains(stdout, "Ivan Security is invited") {
		t.Fatalf("%d: %s%s", exit, stdout, stderr)
	}
	secret, err := os.ReadFile(code)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(code); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if strings.Contains(stdout+stderr, strings.TrimSpace(string(secret))) {
		t.Error("the code was printed")
	}
	if _, stderr, exit := invite("--user-name", "ivan2"); exit != 1 || !strings.Contains(stderr, "name a new file") {
		t.Errorf("over a code: %d: %s", exit, stderr)
	}
	if stdout, stderr, exit := run(t, "ledger", "check", "--config", s.config()); exit != 0 {
		t.Errorf("ledger check: %d: %s%s", exit, stdout, stderr)
	}
	c = s.serve()
	conn = s.dial()
	_, err = signetv1.NewSignerServiceClient(conn).RedeemEnrollment(t.Context(), &signetv1.RedeemEnrollmentRequest{
		EnrollmentCode: strings.TrimSpace(string(secret)), UserName: "ivan", Password: password, AccountabilityAcknowledged: true,
	})
	if err != nil {
		t.Error(err)
	}
	s.login(conn, "ivan")
	s.stop(c)
}
