//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/servertest"
)

// TestEndToEnd runs the scripts of testdata/script against a real server: a real token, a real ledger, real TLS. When they are
// done the whole ledger is verified. Each script finds
//
//	$SERVER $CA $TRUST   where the server is, and what belongs to it
//	$PASSWORD            a file with everybody's password
//
// and the people admin (administrator), ada, grace, linus (signers), max (release manager and auditor).
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	server := servertest.Start(t)
	server.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	server.Enroll("grace", "Grace Hopper", signetv1.Role_ROLE_SIGNER)
	server.Enroll("linus", "Linus Example", signetv1.Role_ROLE_SIGNER)
	server.Enroll("max", "Max Miller", signetv1.Role_ROLE_RELEASE_MANAGER, signetv1.Role_ROLE_AUDITOR)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(servertest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runScripts(t, filepath.Join("testdata", "script"), func(env *testscript.Env) error {
		env.Setenv("SERVER", server.Address)
		env.Setenv("CA", server.Created.ServerCertificate)
		env.Setenv("TRUST", server.Created.TrustFile)
		env.Setenv("PASSWORD", password)
		return nil
	})
}
