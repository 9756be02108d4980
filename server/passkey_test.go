package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

const (
	pagesRPID   = "sign.example"
	pagesOrigin = "https://sign.example:8444"
)

// withPages gives the service a name for passkeys. No page is opened: the devices are in software.
func withPages(c *server.Config) { c.Pages.PublicURL, c.Identity.FourEyes = pagesOrigin, "off" }

// deviceOwners is a scene in which people have passkeys: two administrators, Ada and Bob.
type deviceOwners struct {
	*scene
	credentials           signetv1.CredentialServiceClient
	admin, eve            context.Context
	root1, root2          *passkeytest.Authenticator
	adasDevice, bobs      *passkeytest.Authenticator
	adasPasskey, bobsKeys *signetv1.Passkey
}

func startWithDevices(t *testing.T, options ...servertest.Option) *deviceOwners {
	t.Helper()
	s := &deviceOwners{scene: start(t, append([]servertest.Option{withPages}, options...)...)}
	s.Enroll("eve", "Eve Adams", signetv1.Role_ROLE_ADMINISTRATOR)
	s.credentials = signetv1.NewCredentialServiceClient(s.Dial())
	s.admin, s.eve = s.Login(servertest.Administrator), s.Login("eve")
	s.root1, _ = s.device(s.admin, servertest.Administrator, passkeytest.ES256)
	s.root2, _ = s.device(s.eve, "eve", passkeytest.EdDSA)
	s.adasDevice, s.adasPasskey = s.device(s.ada, "ada", passkeytest.ES256)
	s.bobs, s.bobsKeys = s.device(s.bob, "bob", passkeytest.ES256)
	for _, p := range []**signetv1.Passkey{&s.adasPasskey, &s.bobsKeys} {
		s.vouch(s.admin, *p, s.root1)
		*p = s.vouch(s.eve, *p, s.root2)
	}
	var err error
	if s.trust, err = os.ReadFile(s.Created.TrustFile); err != nil {
		t.Fatal(err)
	}
	return s
}

func login(user string) *signetv1.PasswordCredentials {
	return &signetv1.PasswordCredentials{UserName: user, Password: servertest.Password}
}

// device makes a device and registers it.
func (s *deviceOwners) device(ctx context.Context, user string, a passkeytest.Algorithm) (*passkeytest.Authenticator, *signetv1.Passkey) {
	s.t.Helper()
	d, err := passkeytest.New(a, pagesRPID, pagesOrigin)
	if err != nil {
		s.t.Fatal(err)
	}
	begun, err := s.credentials.StartPasskey(ctx, &signetv1.StartPasskeyRequest{Password: login(user), Label: "a device"})
	if err != nil {
		s.t.Fatalf("register the passkey of %s: %v", user, err)
	}
	response, err := d.Register(begun.GetOptions())
	if err != nil {
		s.t.Fatal(err)
	}
	done, err := s.credentials.FinishPasskey(ctx, &signetv1.FinishPasskeyRequest{Registration: begun.GetRegistration(), Response: response})
	if err != nil {
		s.t.Fatalf("register the passkey of %s: %v", user, err)
	}
	return d, done.GetPasskey()
}

func assertionOf(t testing.TB, d *passkeytest.Authenticator, challenge [32]byte) *signetv1.PasskeyAssertion {
	t.Helper()
	a, err := d.Assert(challenge)
	if err != nil {
		t.Fatal(err)
	}
	return wireAssertion(a)
}

func wireAssertion(a passkey.Assertion) *signetv1.PasskeyAssertion {
	return &signetv1.PasskeyAssertion{CredentialId: a.CredentialID, AuthenticatorData: a.AuthenticatorData, ClientDataJson: a.ClientDataJSON, Signature: a.Signature}
}

// bindingChallenge is what those who vouch for a passkey sign.
func bindingChallenge(p *signetv1.Passkey) [32]byte {
	return passkey.Challenge(passkey.PayloadType, p.GetBinding())
}

func (s *deviceOwners) vouch(ctx context.Context, p *signetv1.Passkey, d *passkeytest.Authenticator) *signetv1.Passkey {
	s.t.Helper()
	r, err := s.credentials.VouchPasskey(ctx, &signetv1.VouchPasskeyRequest{
		Name: p.GetName(), Assertion: assertionOf(s.t, d, bindingChallenge(p)),
	})
	if err != nil {
		s.t.Fatalf("vouch for %s: %v", p.GetName(), err)
	}
	return r.GetPasskey()
}

// passkeyHeader is a record that takes approvers' passkeys.
func passkeyHeader(approvers ...string) *signetv1.RecordHeader {
	h := header(approvers...)
	h.Policy.Template = "k-of-n-passkey"
	return h
}

// touch prepares a statement and signs it with password and device.
func (s *deviceOwners) touch(ctx context.Context, user string, d *passkeytest.Authenticator) *signetv1.SignResponse {
	s.t.Helper()
	p := s.prepare(ctx)
	a, err := d.Answer(p.GetPasskeyOptions())
	if err != nil {
		s.t.Fatal(err)
	}
	in := signRequest(p, user)
	in.Passkey = wireAssertion(a)
	r, err := s.signing.Sign(ctx, in)
	if err != nil {
		s.t.Fatalf("sign with a passkey: %v", err)
	}
	return r
}

// pinned is the trust file with the policy of the record: approvers' own devices must have signed.
func (s *deviceOwners) pinned(change ...func(*manifest.Trust)) []byte {
	s.t.Helper()
	t, err := manifest.ParseTrust(s.trust)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := manifest.Parse(s.manifest())
	if err != nil {
		s.t.Fatal(err)
	}
	t.Policies = []manifest.TrustPolicy{{Digest: m.Record.Policy.Template.Digest.SHA256, Requires: manifest.AuthorizationPasskey}}
	for _, f := range change {
		f(&t)
	}
	b, err := t.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func TestPasskeySigns(t *testing.T) {
	for _, row := range []string{"A-15", "11.70", "11.100", "11.200(a)(1)", "11.200(a)(2)", "11.200(a)(3)", "11.200(b)"} {
		t.Attr("requirement", row)
	}
	s := startWithDevices(t)
	if trust, err := manifest.ParseTrust(s.trust); err != nil || len(trust.Passkeys) != 2 || trust.Passkeys[0].Name != "First Administrator" || !bytes.Equal(trust.Passkeys[1].SPKI, s.root2.SPKI) {
		t.Fatalf("the trust file pins %+v (%v), not the first administrators'", trust.Passkeys, err)
	}
	s.record = s.create(passkeyHeader("ada"))

	p := s.prepare(s.ada)
	if p.GetRequires() != "password+passkey" {
		t.Errorf("it takes %q; want a password, too, under the preset part11", p.GetRequires())
	}
	if want := sha256.Sum256(manifest.PAE(p.GetStatement())); !bytes.Equal(p.GetChallenge(), want[:]) {
		t.Errorf("the challenge is not the SHA-256 of the statement's PAE")
	}
	sign := func(change func(*signetv1.SignRequest)) error {
		in := signRequest(p, "ada")
		in.Passkey = assertionOf(t, s.adasDevice, [32]byte(p.GetChallenge()))
		change(in)
		_, err := s.signing.Sign(s.ada, in)
		return err
	}
	for name, c := range map[string]struct {
		change func(*signetv1.SignRequest)
		reason string
	}{
		"without a passkey":           {func(in *signetv1.SignRequest) { in.Passkey = nil }, "CREDENTIALS_MISSING"},
		"without a password":          {func(in *signetv1.SignRequest) { in.Password = nil }, "CREDENTIALS_MISSING"},
		"with somebody else's device": {func(in *signetv1.SignRequest) { in.Passkey = assertionOf(t, s.bobs, [32]byte(p.GetChallenge())) }, "BAD_CREDENTIALS"},
		"over another statement": {func(in *signetv1.SignRequest) {
			in.Passkey = assertionOf(t, s.adasDevice, sha256.Sum256(manifest.PAE(s.prepare(s.ada).GetStatement())))
		}, "BAD_CREDENTIALS"},
		"with a wrong password": {func(in *signetv1.SignRequest) { in.Password.Password = "wrong horse battery staple" }, "BAD_CREDENTIALS"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, sign(c.change), codes.Unauthenticated, c.reason) })
		s.Clock.Advance(time.Minute) // past the delay after a failure
		p = s.prepare(s.ada)
	}

	if r := s.touch(s.ada, "ada", s.adasDevice); r.GetRecordState() != signetv1.RecordState_RECORD_STATE_APPROVED {
		t.Fatalf("state %s", r.GetRecordState())
	}
	file := s.manifest()
	s.trust = s.pinned()
	report := s.wantVerdict(file, verify.OK)
	if got := report.Signatures[0]; got.Authorization != "password+passkey" || got.Passkey == nil || got.Passkey.KeyID != s.adasDevice.Key().ID() || got.Passkey.Pinned {
		t.Errorf("the report says %+v", got)
	}
	t.Run("without what binds it", func(t *testing.T) {
		m, err := manifest.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		kept := m.Support[:0:0]
		for _, e := range m.Support {
			if entry, err := chain.ParseEntry(e.Entry); err == nil && entry.Type != chain.PasskeyBound {
				kept = append(kept, e)
			}
		}
		m.Support = kept
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s.wantVerdict(b, verify.Untrusted)
	})
	t.Run("a record with a password alone", func(t *testing.T) {
		s.record = s.create(header("ada"))
		s.sign(s.ada, "ada", s.prepare(s.ada))
		s.wantVerdict(s.manifest(), verify.Policy)
	})
	t.Run("of a device that was revoked", func(t *testing.T) {
		s.record = s.create(passkeyHeader("ada"))
		p := s.prepare(s.ada)
		if _, err := s.credentials.RevokePasskey(s.admin, &signetv1.RevokePasskeyRequest{Name: s.adasPasskey.GetName(), Reason: "stolen", Password: login(servertest.Administrator)}); err != nil {
			t.Fatal(err)
		}
		in := signRequest(p, "ada")
		in.Passkey = assertionOf(t, s.adasDevice, [32]byte(p.GetChallenge()))
		_, err := s.signing.Sign(s.ada, in)
		wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
		if again := s.prepare(s.ada); len(again.GetPasskeyOptions()) > 0 {
			t.Errorf("it is offered on: %s", again.GetPasskeyOptions())
		}
		s.wantVerdict(file, verify.OK) // what it signed before stands
	})
}

func TestPasskeyCalls(t *testing.T) {
	for _, row := range []string{"11.10(d)", "11.10(g)", "11.300(a)"} {
		t.Attr("requirement", row)
	}
	s := startWithDevices(t)
	list := func(ctx context.Context, parent string) ([]*signetv1.Passkey, error) {
		r, err := s.credentials.ListPasskeys(ctx, &signetv1.ListPasskeysRequest{Parent: parent, PageSize: 1})
		out := r.GetPasskeys()
		for err == nil && r.GetNextPageToken() != "" {
			if r, err = s.credentials.ListPasskeys(ctx, &signetv1.ListPasskeysRequest{Parent: parent, PageSize: 1, PageToken: r.GetNextPageToken()}); err == nil {
				out = append(out, r.GetPasskeys()...)
			}
		}
		return out, err
	}
	_, second := s.device(s.ada, "ada", passkeytest.EdDSA)
	if got, err := list(s.ada, ""); err != nil || len(got) != 2 || got[0].GetState() != signetv1.PasskeyState_PASSKEY_STATE_BOUND ||
		got[1].GetState() != signetv1.PasskeyState_PASSKEY_STATE_PENDING || len(got[0].GetVouchers()) != 2 || got[1].GetLabel() != "a device" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := list(s.admin, "signers/-"); err != nil || len(got) != 1 || got[0].GetName() != second.GetName() {
		t.Errorf("waiting: %v, %v", got, err)
	}
	if got, err := list(s.eve, s.adaID); err != nil || len(got) != 2 {
		t.Errorf("an administrator: %v, %v", got, err)
	}
	_, err := list(s.bob, s.adaID)
	wantError(t, err, codes.PermissionDenied, "DENIED")
	_, err = list(s.bob, "signers/-")
	wantError(t, err, codes.PermissionDenied, "DENIED")

	vouch := func(ctx context.Context, name string, d *passkeytest.Authenticator) error {
		_, err := s.credentials.VouchPasskey(ctx, &signetv1.VouchPasskeyRequest{
			Name: name, Assertion: assertionOf(t, d, passkey.Challenge(passkey.PayloadType, second.GetBinding())),
		})
		return err
	}
	wantError(t, vouch(s.bob, second.GetName(), s.bobs), codes.PermissionDenied, "DENIED")
	wantError(t, vouch(s.admin, s.adaID+"/passkeys/none", s.root1), codes.NotFound, "PASSKEY_NOT_FOUND")
	wantError(t, vouch(s.admin, s.adasPasskey.GetName(), s.root1), codes.FailedPrecondition, "PASSKEY_STATE")
	wantError(t, vouch(s.admin, second.GetName(), s.root2), codes.Unauthenticated, "BAD_CREDENTIALS")
	if err := vouch(s.admin, second.GetName(), s.root1); err != nil {
		t.Fatal(err)
	}
	wantError(t, vouch(s.admin, second.GetName(), s.root1), codes.PermissionDenied, "SECOND_PERSON_NEEDED")
	if err := vouch(s.ada, second.GetName(), s.adasDevice); err != nil { // her own earlier one is enough
		t.Fatal(err)
	}

	begun, err := s.credentials.StartPasskey(s.ada, &signetv1.StartPasskeyRequest{Password: login("ada"), Label: "again"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(begun.GetOptions()), "excludeCredentials") {
		t.Errorf("known devices are not excluded: %s", begun.GetOptions())
	}
	finish := func(registration string, response []byte) error {
		_, err := s.credentials.FinishPasskey(s.ada, &signetv1.FinishPasskeyRequest{Registration: registration, Response: response})
		return err
	}
	wantError(t, finish("none", []byte("{}")), codes.FailedPrecondition, "REGISTRATION_LAPSED")
	response, err := s.adasDevice.Register(begun.GetOptions())
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, finish(begun.GetRegistration(), response), codes.AlreadyExists, "PASSKEY_TAKEN")
	wantError(t, finish(begun.GetRegistration(), response), codes.FailedPrecondition, "REGISTRATION_LAPSED")
	_, err = s.credentials.StartPasskey(s.ada, &signetv1.StartPasskeyRequest{Label: "x"})
	wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
	_, err = s.credentials.RevokePasskey(s.bob, &signetv1.RevokePasskeyRequest{Name: second.GetName(), Reason: "spite", Password: login("bob")})
	wantError(t, err, codes.PermissionDenied, "DENIED")

	// What a stop may leave undone: the passkey is bound, and the trust file does not name it.
	s.Stop()
	trust, err := manifest.ParseTrust(s.trust)
	if err != nil {
		t.Fatal(err)
	}
	trust.Passkeys = trust.Passkeys[:1]
	b, err := trust.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Created.TrustFile, b, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if b, err = os.ReadFile(s.Created.TrustFile); err != nil || !bytes.Equal(b, s.trust) {
		t.Errorf("the start has not written the trust file (%v)", err)
	}
}

func TestNoPasskeysWithoutPages(t *testing.T) {
	s := start(t)
	c := signetv1.NewCredentialServiceClient(s.Dial())
	_, err := c.StartPasskey(s.ada, &signetv1.StartPasskeyRequest{Password: login("ada"), Label: "x"})
	wantError(t, err, codes.FailedPrecondition, "PASSKEYS_OFF")
}
