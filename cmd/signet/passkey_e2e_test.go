package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// TestPasskeys runs the scripts about passkeys. The devices are in software: they have been registered, and have signed, before.
func TestPasskeys(t *testing.T) {
	if _, err := built(); err != nil {
		t.Fatal(err)
	}
	const rpID, pages = "sign.example", "https://sign.example"
	s := servertest.Start(t, func(c *server.Config) { c.Pages.PublicURL, c.Identity.FourEyes = pages, "off" })
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	s.Enroll("rita", "Rita Levi", signetv1.Role_ROLE_RELEASE_MANAGER)
	s.Enroll("eve", "Eve Adams", signetv1.Role_ROLE_ADMINISTRATOR)
	credentials := signetv1.NewCredentialServiceClient(s.Dial())
	device := func(user string) (*passkeytest.Authenticator, *signetv1.Passkey) {
		t.Helper()
		d, err := passkeytest.New(passkeytest.ES256, rpID, pages)
		check(err)
		ctx := s.Login(user)
		begun, err := credentials.StartPasskey(ctx, &signetv1.StartPasskeyRequest{
			Password: &signetv1.PasswordCredentials{UserName: user, Password: servertest.Password}, Label: "a device",
		})
		check(err)
		response, err := d.Register(begun.GetOptions())
		check(err)
		done, err := credentials.FinishPasskey(ctx, &signetv1.FinishPasskeyRequest{Registration: begun.GetRegistration(), Response: response})
		check(err)
		return d, done.GetPasskey()
	}
	assertion := func(d *passkeytest.Authenticator, challenge [32]byte) *signetv1.PasskeyAssertion {
		t.Helper()
		a, err := d.Assert(challenge)
		check(err)
		return &signetv1.PasskeyAssertion{CredentialId: a.CredentialID, AuthenticatorData: a.AuthenticatorData, ClientDataJson: a.ClientDataJSON, Signature: a.Signature}
	}
	one, admin := device(servertest.Administrator)
	two, _ := device("eve")
	adas, p := device("ada")
	for user, d := range map[string]*passkeytest.Authenticator{servertest.Administrator: one, "eve": two} {
		_, err := credentials.VouchPasskey(s.Login(user), &signetv1.VouchPasskeyRequest{
			Name: p.GetName(), Assertion: assertion(d, passkey.Challenge(passkey.PayloadType, p.GetBinding())),
		})
		check(err)
	}

	// A release that Ada has approved with it.
	work := t.TempDir()
	dist, file, password := filepath.Join(work, "dist"), filepath.Join(work, "release.json"), filepath.Join(work, "password")
	check(errors.Join(os.Mkdir(dist, 0o755), os.WriteFile(filepath.Join(dist, "app"), []byte("the program"), 0o644), os.WriteFile(password, []byte(servertest.Password+"\n"), 0o600)))
	doc, err := bundle.Read(t.Context(), dist, bundle.Options{Excluded: []string{"signatures/"}})
	check(err)
	canonical, err := doc.Canonical()
	check(err)
	record, err := s.Record(s.Login("rita"), canonical, &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: "v0.1.0", Source: &signetv1.Source{Commit: strings.Repeat("a1", 20)},
		Policy: &signetv1.ApprovalPolicy{Template: "single-approver-password-passkey", Approvers: []string{"ada"}},
	})
	check(err)
	signing, ada := signetv1.NewSigningServiceClient(s.Dial()), s.Login("ada")
	prepared, err := signing.Prepare(ada, &signetv1.PrepareRequest{
		Record: record.GetName(), Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All gates green.",
	})
	check(err)
	statement := prepared.GetPreparation()
	shown := sha256.Sum256(statement.GetStatement())
	_, err = signing.Sign(ada, &signetv1.SignRequest{
		Preparation: statement.GetName(), StatementSha256: shown[:], Password: &signetv1.PasswordCredentials{UserName: "ada", Password: servertest.Password},
		Passkey: assertion(adas, [32]byte(statement.GetChallenge())),
	})
	check(err)
	stream, err := signing.GetManifest(ada, &signetv1.GetManifestRequest{Record: record.GetName()})
	check(err)
	var manifest bytes.Buffer
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		check(err)
		manifest.Write(r.GetChunk())
	}
	check(os.WriteFile(file, manifest.Bytes(), 0o644))

	runScripts(t, filepath.Join("testdata", "passkeys"), func(env *testscript.Env) error {
		env.Setenv("SERVER", s.Address)
		env.Setenv("CA", s.Created.ServerCertificate)
		env.Setenv("TRUST", s.Created.TrustFile)
		env.Setenv("PASSWORD", password)
		env.Setenv("MANIFEST", file)
		env.Setenv("BUNDLE", dist)
		signer, _, _ := strings.Cut(strings.TrimPrefix(admin.GetName(), "signers/"), "/")
		env.Setenv("ADMIN", signer)
		return nil
	})
}
