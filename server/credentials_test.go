package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// app is somebody's authenticator, which goes by the server's clock.
type app struct {
	s      *scene
	secret string
}

func (a *app) code() string {
	a.s.t.Helper()
	code, err := totp.GenerateCode(a.secret, a.s.Clock.Now())
	if err != nil {
		a.s.t.Fatal(err)
	}
	return code
}

// next is the code of a step that was not there yet.
func (a *app) next() string {
	a.s.Clock.Advance(30 * time.Second)
	return a.code()
}

func own(user string) *signetv1.PasswordCredentials {
	return &signetv1.PasswordCredentials{UserName: user, Password: servertest.Password}
}

// totp sets up one-time passwords.
func (s *scene) totp(ctx context.Context, user string) *app {
	s.t.Helper()
	credentials := signetv1.NewCredentialServiceClient(s.Dial())
	started, err := credentials.StartTotp(ctx, &signetv1.StartTotpRequest{Password: own(user)})
	if err != nil {
		s.t.Fatal(err)
	}
	a := &app{s, started.GetSecret()}
	if _, err := credentials.ConfirmTotp(ctx, &signetv1.ConfirmTotpRequest{Code: a.code()}); err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *scene) open(in *signetv1.OpenSessionRequest) (context.Context, error) {
	opened, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(s.t.Context(), in)
	return metadata.AppendToOutgoingContext(s.t.Context(), "authorization", "Bearer "+opened.GetToken()), err
}

// TestTwoFactors: who has set up one-time passwords signs with them; the manifest says so, and verifies.
func TestTwoFactors(t *testing.T) {
	t.Attr("requirement", "A-15")
	t.Attr("requirement", "11.200(a)(1)")
	s := start(t)
	if got := s.prepare(s.ada).GetRequires(); got != "password" {
		t.Errorf("before: %q", got)
	}
	a := s.totp(s.ada, "ada")
	p := s.prepare(s.ada)
	if p.GetRequires() != "password+totp" || !strings.Contains(string(p.GetStatement()), `"requires":"password+totp"`) {
		t.Errorf("the statement demands %q", p.GetRequires())
	}
	in := signRequest(p, "ada")
	from := s.size()
	_, err := s.signing.Sign(s.ada, in)
	wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
	for _, e := range s.entries(from) {
		switch e.Type {
		case chain.AuthenticationFailed, chain.CredentialUsed, chain.SignatureAttempted, chain.SignatureCreated, chain.SignerLocked:
			t.Errorf("it has left an entry: %s", e.Type)
		}
	}
	in.Password.Totp = "000000"
	_, err = s.signing.Sign(s.ada, in)
	wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
	in.Password.Totp = a.next()
	made, err := s.signing.Sign(s.ada, in)
	if err != nil {
		t.Fatal(err)
	}
	authorization, err := (manifest.Authorization{Kind: manifest.AuthorizationPasswordTOTP}).Canonical()
	if err != nil || string(made.GetSignature().GetAuthorization()) != string(authorization) {
		t.Errorf("authorization %s, %v", made.GetSignature().GetAuthorization(), err)
	}
	s.wantVerdict(s.manifest(), verify.OK)
	attempted := s.find(from, chain.SignatureAttempted)
	if len(attempted) != 1 || !strings.Contains(string(attempted[0].Body), `["user name","password","one-time password"]`) {
		t.Errorf("%v", attempted)
	}
	if used := s.find(from, chain.CredentialUsed); len(used) != 1 || used[0].Index > attempted[0].Index {
		t.Errorf("the step is spent by %v, the attempt is entry %d", used, attempted[0].Index)
	}

	_, err = s.open(&signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password})
	wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
	_, err = s.open(&signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password, Totp: in.Password.Totp})
	wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
	_, err = s.open(&signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password, Totp: "12345"})
	if err == nil {
		t.Error("five digits")
	}
	ada, err := s.open(&signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password, Totp: a.next()})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := signetv1.NewSessionServiceClient(s.Dial()).ListSessions(ada, &signetv1.ListSessionsRequest{})
	if err != nil || len(sessions.GetSessions()) != 2 || sessions.GetSessions()[0].GetMethod() != "password+totp" || !sessions.GetSessions()[0].GetCurrent() ||
		sessions.GetSessions()[0].GetAddress() == "" {
		t.Errorf("%v, %v", sessions, err)
	}
	credentials := signetv1.NewCredentialServiceClient(s.Dial())
	_, err = credentials.StartTotp(ada, &signetv1.StartTotpRequest{Password: own("ada")})
	wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
	_, err = credentials.RemoveTotp(s.bob, &signetv1.RemoveTotpRequest{Name: s.adaID, Password: own("bob"), Reason: "mischief"})
	wantError(t, err, codes.PermissionDenied, "DENIED")
	_, err = credentials.RemoveTotp(s.Login(servertest.Administrator), &signetv1.RemoveTotpRequest{
		Name: s.adaID, Password: own(servertest.Administrator), Reason: "device lost, seen in person",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(&signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password}); err != nil {
		t.Errorf("without a second factor again: %v", err)
	}
}

// TestComponentsAskedFor: a signer may ask for more than the policy demands, never for less, and for nothing that they do not have.
func TestComponentsAskedFor(t *testing.T) {
	t.Attr("requirement", "A-15")
	s := start(t)
	ask := func(requires string) (*signetv1.PrepareResponse, error) {
		in := s.prepareRequest()
		in.Requires = requires
		return s.signing.Prepare(s.ada, in)
	}
	for _, requires := range []string{"password+totp", "passkey"} {
		_, err := ask(requires)
		wantError(t, err, codes.InvalidArgument, "COMPONENTS_UNFIT")
	}
	if _, err := ask("nothing"); err == nil {
		t.Error("an unknown kind")
	}
	p, err := ask("password+passkey")
	if err != nil || p.GetPreparation().GetRequires() != "password+passkey" {
		t.Fatalf("%v, %v", p, err)
	}
	_, err = s.signing.Sign(s.ada, signRequest(p.GetPreparation(), "ada"))
	wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
	if p, err = ask("password"); err != nil {
		t.Fatal(err)
	}
	s.sign(s.ada, "ada", p.GetPreparation())
}

// TestConfiguredComponents: what the configuration demands of every signature.
func TestConfiguredComponents(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Identity.Requires = "password+totp" })
	_, err := s.signing.Prepare(s.ada, s.prepareRequest())
	wantError(t, err, codes.InvalidArgument, "COMPONENTS_UNFIT")
	a := s.totp(s.ada, "ada")
	in := signRequest(s.prepare(s.ada), "ada")
	in.Password.Totp = a.next()
	if _, err := s.signing.Sign(s.ada, in); err != nil {
		t.Fatal(err)
	}
	s.wantVerdict(s.manifest(), verify.OK)
}

// TestPasswordsWithoutTheHSM: a token that does not compute, or computes wrongly, lets nobody in, and nothing is counted against anybody.
func TestPasswordsWithoutTheHSM(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	s := start(t)
	p := s.prepare(s.ada)
	for what, fault := range map[string]servertest.Fault{
		"down":  func(keystore.ID, []byte) ([]byte, error) { return nil, keystore.ErrUnavailable },
		"wrong": func(_ keystore.ID, mac []byte) ([]byte, error) { return append([]byte{mac[0] ^ 1}, mac[1:]...), nil },
	} {
		t.Run(what, func(t *testing.T) {
			from := s.size()
			s.SetFault(func(id keystore.ID, made []byte) ([]byte, error) {
				if !strings.HasPrefix(string(id), "passwords-") {
					return made, nil
				}
				return fault(id, made)
			})
			defer s.SetFault(nil)
			for range s.Config.Identity.LockAfter + 1 {
				_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
				wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
				_, err = s.open(&signetv1.OpenSessionRequest{UserName: "ada", Password: "wrong password, quite long"})
				wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
			}
			s.SetFault(nil)
			for _, e := range s.entries(from) { // none of them is counted or tried
				switch e.Type {
				case chain.AuthenticationFailed, chain.CredentialUsed, chain.SignatureAttempted, chain.SignatureCreated, chain.SignerLocked:
					t.Errorf("entry %d: %s", e.Index, e.Type)
				}
			}
		})
	}
	s.sign(s.ada, "ada", p)
}

// TestExpiredPassword: nothing but another password.
func TestExpiredPassword(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	s := start(t, func(c *server.Config) { c.Identity.PasswordAge = server.Duration(24 * time.Hour) })
	s.Clock.Advance(25 * time.Hour)
	ada := s.Login("ada")
	_, err := s.signing.Prepare(ada, s.prepareRequest())
	wantError(t, err, codes.FailedPrecondition, "PASSWORD_EXPIRED")
	_, err = s.records.ListRecords(ada, &signetv1.ListRecordsRequest{})
	wantError(t, err, codes.FailedPrecondition, "PASSWORD_EXPIRED")
	if _, err := signetv1.NewSessionServiceClient(s.Dial()).WhoAmI(ada, &signetv1.WhoAmIRequest{}); err != nil {
		t.Error(err)
	}
	credentials := signetv1.NewCredentialServiceClient(s.Dial())
	_, err = credentials.ChangePassword(ada, &signetv1.ChangePasswordRequest{Password: own("ada"), NewPassword: servertest.Password})
	wantError(t, err, codes.InvalidArgument, "PASSWORD_WEAK")
	_, err = credentials.ChangePassword(ada, &signetv1.ChangePasswordRequest{Password: own("ada"), NewPassword: "velvet harbour compass sundial"})
	if err != nil {
		t.Fatal(err)
	}
	in := signRequest(s.prepare(ada), "ada")
	in.Password.Password = "velvet harbour compass sundial"
	if _, err := s.signing.Sign(ada, in); err != nil {
		t.Fatal(err)
	}
}

// TestContinuousSession: where it is on, the signings that follow take the password alone; the user name comes from the session.
func TestContinuousSession(t *testing.T) {
	t.Attr("requirement", "11.200(a)(1)(i)")
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprintf("enabled: %t", on), func(t *testing.T) {
			s := start(t, func(c *server.Config) { c.Identity.ContinuousSigning.Enabled = on })
			record := func(version string) {
				h := header("ada")
				h.Version = version
				s.record = s.create(h)
			}
			record("v0.2.0")
			short := func() *signetv1.SignRequest {
				in := signRequest(s.prepare(s.ada), "ada")
				in.Password.UserName = ""
				return in
			}
			_, err := s.signing.Sign(s.ada, short())
			wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
			s.sign(s.ada, "ada", s.prepare(s.ada))
			record("v0.3.0")
			from := s.size()
			_, err = s.signing.Sign(s.ada, short())
			if !on {
				wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s.wantVerdict(s.manifest(), verify.OK)
			if a := s.find(from, chain.SignatureAttempted); len(a) != 1 || !strings.Contains(string(a[0].Body), `"components":["password"]`) {
				t.Errorf("%v", a)
			}
			record("v0.4.0")
			s.Clock.Advance(time.Duration(s.Config.Identity.ContinuousSigning.Idle))
			_, err = s.signing.Sign(s.ada, short())
			wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
			s.sign(s.ada, "ada", s.prepare(s.ada))
		})
	}
}

// TestPasswordKey: it is listed like any other key, without a public half, and nobody takes it away.
func TestPasswordKey(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	s := startKeys(t)
	list, err := s.keys.ListKeys(s.admin, &signetv1.ListKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var key *signetv1.Key
	for _, k := range list.GetKeys() {
		if k.GetRole() == signetv1.KeyRole_KEY_ROLE_PASSWORDS {
			key = k
		}
	}
	if key.GetAlgorithm() != keystore.HMACSHA256 || len(key.GetPublicKey()) != 0 || key.GetAttributes()["CKA_EXTRACTABLE"] != "false" ||
		key.GetAttributes()["CKA_NEVER_EXTRACTABLE"] != "true" || key.GetState() != signetv1.KeyState_KEY_STATE_ACTIVE {
		t.Fatalf("%v", key)
	}
	wantError(t, s.disable(key.GetName()), codes.FailedPrecondition, "KEY_IN_USE")
	_, err = s.request(key.GetName())
	wantError(t, err, codes.FailedPrecondition, "KEY_IN_USE")
	_, err = s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: key.GetName(), Reason: "routine", Password: proofOf(servertest.Administrator)})
	wantError(t, err, codes.FailedPrecondition, "KEY_NOT_ROTATABLE")
}
