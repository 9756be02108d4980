package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/servertest"
)

// TestTwoAdministrators runs the scripts in which there is a second administrator, each on a real server of its own: from then on it takes two
// of them. The people are linus (signer) and max (release manager and auditor).
func TestTwoAdministrators(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(servertest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runScripts(t, filepath.Join("testdata", "administrators"), func(env *testscript.Env) error {
		server := servertest.Start(t)
		server.Enroll("linus", "Linus Example", signetv1.Role_ROLE_SIGNER)
		server.Enroll("max", "Max Miller", signetv1.Role_ROLE_RELEASE_MANAGER, signetv1.Role_ROLE_AUDITOR)
		env.Setenv("SERVER", server.Address)
		env.Setenv("CA", server.Created.ServerCertificate)
		env.Setenv("TRUST", server.Created.TrustFile)
		env.Setenv("PASSWORD", password)
		return nil
	})
}
