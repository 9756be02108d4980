//go:build cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/signetd/signet/api/bundle"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
	service "github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// TestEndToEnd runs the scripts of testdata/script against a real server: a real token, a real ledger, real TLS. When they are
// done the whole ledger is verified. Each script finds
//
//	$SERVER $CA $TRUST   where the server is, and what belongs to it
//	$PASSWORD            a file with everybody's password
//	$SEALING             the files of the first service's client certificate ($SEALING.pem) and key ($SEALING-key.pem)
//	$SIGNED              a folder with dist/ and signatures/release-v9.0.0.json, approved by ada
//	$HALF                the same, but two must approve, and only ada has
//
// and the people admin (administrator), ada, grace, linus, katherine (signers), max (release manager and auditor).
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	server := servertest.Start(t, func(c *service.Config) {
		c.Ledger.Index.Every, c.Ledger.Brackets.Every = 5, 5 // so that exports have some of each
		c.Identity.Lockout.Delay = service.Duration(time.Millisecond)
	})
	server.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	server.Enroll("grace", "Grace Hopper", signetv1.Role_ROLE_SIGNER)
	server.Enroll("linus", "Linus Example", signetv1.Role_ROLE_SIGNER)
	server.Enroll("katherine", "Katherine Johnson", signetv1.Role_ROLE_SIGNER) // who is locked
	server.Enroll("max", "Max Miller", signetv1.Role_ROLE_RELEASE_MANAGER, signetv1.Role_ROLE_AUDITOR)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(servertest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	signed := release(t, server, "v9.0.0", &signetv1.ApprovalPolicy{Template: "single-approver", Approvers: []string{"ada"}})
	t.Run("an older manifest never replaces a newer one", func(t *testing.T) {
		t.Attr("requirement", "B-42")
		neverShortened(t, server)
	})
	half := release(t, server, "v9.1.0", &signetv1.ApprovalPolicy{Template: "k-of-n", Threshold: 2, Approvers: []string{"ada", "grace"}})
	runScripts(t, filepath.Join("testdata", "script"), func(env *testscript.Env) error {
		env.Setenv("SERVER", server.Address)
		env.Setenv("CA", server.Created.ServerCertificate)
		env.Setenv("TRUST", server.Created.TrustFile)
		env.Setenv("PASSWORD", password)
		env.Setenv("SEALING", strings.TrimSuffix(server.Created.SealingClient, ".pem"))
		env.Setenv("SIGNED", signed)
		env.Setenv("HALF", half)
		return nil
	})
}

// as dials the server with a session of its own.
func as(t *testing.T, server *servertest.Server, user string) *signet.Client {
	t.Helper()
	ca, err := os.ReadFile(server.Created.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	anonymous, err := signet.Dial(server.Address, signet.Options{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(anonymous)
	session, err := anonymous.OpenSession(t.Context(), signet.Password{UserName: user, Password: servertest.Password})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := readTrust(server.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := signet.Dial(server.Address, signet.Options{CA: ca, Token: signet.StaticToken(session.GetToken()), Trust: &trust.trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(c) })
	return c
}

// release records a bundle of two files, has ada approve it, and returns the folder that holds it and its manifest.
func release(t *testing.T, server *servertest.Server, version string, policy *signetv1.ApprovalPolicy) string {
	t.Helper()
	dir := t.TempDir()
	dist := filepath.Join(dir, "dist")
	if err := os.MkdirAll(filepath.Join(dist, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"bin/app": "the program", "index.json": "{}"} {
		if err := os.WriteFile(filepath.Join(dist, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := bundle.Read(t.Context(), dist, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	record, err := as(t, server, "max").CreateRecord(t.Context(), &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: version, Policy: policy, Source: &signetv1.Source{Commit: fmt.Sprintf("%040x", 1)},
		Roles: map[string]string{"bin/app": "installer"},
	}, &doc)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := placeManifest(dir, approve(t, server, "ada", record)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// approve has somebody approve a record, and returns the manifest after it.
func approve(t *testing.T, server *servertest.Server, user string, record *signet.Record) *signet.ManifestFile {
	t.Helper()
	c := as(t, server, user)
	prepared, err := c.Prepare(t.Context(), signet.Intent{
		Record: record.Name(), Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All gates green, risk file reviewed.",
	})
	if err != nil {
		t.Fatal(err)
	}
	signature, err := c.Sign(t.Context(), prepared, signet.Password{UserName: user, Password: servertest.Password})
	if err != nil {
		t.Fatal(err)
	}
	if !signature.Trusted {
		t.Fatal("the signature does not lead to the pinned anchors")
	}
	m, err := c.GetManifest(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// neverShortened writes the manifests of two signatures, the newer one first, then in their order.
func neverShortened(t *testing.T, server *servertest.Server) {
	doc := bundle.Document{Excluded: []string{}, Files: []bundle.File{{Path: "app"}}, Format: bundle.Format}
	record, err := as(t, server, "max").CreateRecord(t.Context(), &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: "v9.2.0", Source: &signetv1.Source{Commit: fmt.Sprintf("%040x", 1)},
		Policy: &signetv1.ApprovalPolicy{Template: "k-of-n", Threshold: 2, Approvers: []string{"ada", "grace"}},
	}, &doc)
	if err != nil {
		t.Fatal(err)
	}
	older := approve(t, server, "ada", record)
	newer := approve(t, server, "grace", record)

	dir := t.TempDir()
	path, written, err := placeManifest(dir, newer)
	if err != nil || !written || path != filepath.Join(dir, "signatures", "release-v9.2.0.json") {
		t.Fatalf("%s, written %v: %v", path, written, err)
	}
	if _, _, err := placeManifest(dir, older); !errors.Is(err, errDiffers) {
		t.Errorf("the older one over the newer one: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, newer.Bytes) {
		t.Errorf("the newer one was not kept: %v", err)
	}
	if _, written, err := placeManifest(dir, newer); err != nil || written {
		t.Errorf("the same again: written %v, %v", written, err)
	}

	dir = t.TempDir()
	for _, m := range []*signet.ManifestFile{older, newer} {
		if _, written, err := placeManifest(dir, m); err != nil || !written {
			t.Errorf("in their order: written %v, %v", written, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "signatures"))
	if err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
