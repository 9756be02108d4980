package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/signetd/signet/server/servertest"
)

// TestServices runs the scripts about services, on a real server of their own: of administrators there is one alone.
func TestServices(t *testing.T) {
	if _, err := built(); err != nil {
		t.Fatal(err)
	}
	server := servertest.Start(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(servertest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runScripts(t, filepath.Join("testdata", "services"), func(env *testscript.Env) error {
		env.Setenv("SERVER", server.Address)
		env.Setenv("CA", server.Created.ServerCertificate)
		env.Setenv("PASSWORD", password)
		env.Setenv("SEALING", strings.TrimSuffix(server.Created.SealingClient, ".pem"))
		return nil
	})
}
