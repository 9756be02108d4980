package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// within is how long things may take here that take a moment.
const within = 30 * time.Second

// health waits until the health service says that of a service.
func (s *scene) health(service string, want grpc_health_v1.HealthCheckResponse_ServingStatus) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	stream, err := grpc_health_v1.NewHealthClient(s.Dial()).Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	for err == nil {
		var r *grpc_health_v1.HealthCheckResponse
		if r, err = stream.Recv(); r.GetStatus() == want {
			return
		}
	}
	s.t.Fatalf("%q is not %s: %v; the tokens: %+v", service, want, err, s.HSM().Tokens)
}

const (
	serving    = grpc_health_v1.HealthCheckResponse_SERVING
	notServing = grpc_health_v1.HealthCheckResponse_NOT_SERVING
)

// wantAway wants an error that says that the HSM is away, and when to come back.
func wantAway(t *testing.T, err error) {
	t.Helper()
	wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
	st, _ := status.FromError(err)
	for _, d := range st.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok && r.GetRetryDelay().AsDuration() > 0 {
			return
		}
	}
	t.Errorf("no RetryInfo: %v", err)
}

func (s *scene) seal(id string) (*signetv1.SealResponse, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	return s.sealWithin(ctx, id)
}

func (s *scene) sealWithin(ctx context.Context, id string) (*signetv1.SealResponse, error) {
	return signetv1.NewSigningServiceClient(s.DialSealing()).Seal(ctx, &signetv1.SealRequest{
		Record: s.record.GetName(), Meaning: "evidence-seal", RequestId: "0193c1f0-0000-4000-8000-0000000000" + id,
	})
}

// The whole service while the token is lost, and after it is back, without a restart.
func TestTheHSMIsLostAndComesBack(t *testing.T) {
	for name, how := range map[string]faulty.Loss{"pulled out": faulty.Removed, "silently": faulty.Silently} {
		t.Run(name, func(t *testing.T) {
			module := faulty.New(t)
			token, err := pkcs11.Open(t.Context(), module.Config(t))
			if err != nil {
				t.Fatal(err)
			}
			s := people(t, servertest.StartOn(t, token))
			s.health("", serving)
			if _, err := s.seal("01"); err != nil {
				t.Fatal(err)
			}
			p, again := s.prepare(s.ada), s.prepare(s.ada)
			before := s.size()

			module.Lose(how)
			_, err = s.seal("02")
			wantAway(t, err)
			s.health("", notServing)
			_, err = s.signing.Sign(s.ada, signRequest(p, "ada"))
			wantAway(t, err)
			s.health("signet.v1.SigningService", notServing)
			if h := s.HSM(); h.Ready || h.Reason == "" || len(h.Tokens) != 1 || h.Tokens[0].State == keystore.Working || h.Tokens[0].Reason == "" {
				t.Errorf("the status says %+v", h)
			}

			module.Restore()
			s.health("", serving)
			s.health("signet.v1.SigningService", serving)
			if made := s.find(before, chain.SignatureCreated); len(made) != 0 {
				t.Errorf("%d signatures while the token was away", len(made))
			}
			if _, err := s.seal("03"); err != nil {
				t.Fatalf("seal: %v", err)
			}
			s.sign(s.ada, "ada", again)
			s.wantVerdict(s.manifest(), verify.OK)
			h := s.HSM()
			if !h.Ready || h.Reason != "" || len(h.Services) != 0 || h.Tokens[0].State != keystore.Working || h.Tokens[0].Recoveries == 0 ||
				h.Tokens[0].Proved.IsZero() || h.Tokens[0].Tested.IsZero() {
				t.Errorf("the status says %+v", h)
			}
		})
	}
}

// Calls to the HSM that do not return: who waits keeps their deadline, who comes is sent away at once, and it is over by itself.
func TestTheHSMHangs(t *testing.T) {
	module := faulty.New(t)
	c := module.Config(t)
	c.Hang, c.Sessions = 2*time.Second, 2 // the enrolments before it make keys, which takes a while on a busy machine
	token, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := people(t, servertest.StartOn(t, token))
	s.health("", serving)
	before := s.size()
	hang := module.Hang(faulty.Sign, faulty.Always, 0)
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.sealWithin(short, "01"); status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Unavailable {
		t.Errorf("a seal as it begins to hang: %v", err)
	}
	s.health("", notServing)
	start := time.Now()
	_, err = s.seal("02")
	wantAway(t, err)
	if took := time.Since(start); took > within/10 {
		t.Errorf("a call waited for %v", took)
	}
	if h := s.HSM().Tokens[0]; h.State != keystore.Hanging || h.Stuck == 0 {
		t.Errorf("the status says %+v", h)
	}
	hang.Heal()
	s.health("", serving)
	if _, err := s.seal("03"); err != nil {
		t.Errorf("it is over: %v", err)
	}
	if made := s.find(before, chain.SignatureCreated); len(made) != 1 {
		t.Errorf("%d signatures, want the one after it", len(made))
	}
}

// several opens tokens in devices of their own, by the names in the configuration.
func several(t *testing.T, h server.HSMConfig) (keystore.Token, map[string]*faulty.Module) {
	t.Helper()
	modules := make(map[string]*faulty.Module)
	for _, c := range h.All() {
		modules[c.Name] = faulty.New(t)
		modules[c.Name].Config(t) // makes the token
	}
	token, err := h.OpenTokens(t.Context(), func(ctx context.Context, c server.TokenConfig) (keystore.Token, error) {
		opened, err := pkcs11.Open(ctx, modules[c.Name].Config(t))
		if err != nil {
			return nil, err
		}
		return opened, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return token, modules
}

// A token that is away stops what its keys are for and nothing else. The CA's is plugged in when it is needed.
func TestOneTokenAwayStopsNoOther(t *testing.T) {
	hsm := server.HSMConfig{
		Tokens: []server.TokenConfig{{Name: "main", Token: "a", PINFile: "pin"}, {Name: "clock", Token: "b", PINFile: "pin"}, {Name: "root", Token: "c", PINFile: "pin", Offline: true}},
		Roles:  server.RolesConfig{CA: "root", TSA: "clock", Ledger: "main", Closing: "main", Sealing: "main", Signers: "main"},
	}
	token, modules := several(t, hsm)
	s := people(t, servertest.StartOn(t, token, func(c *server.Config) { c.HSM = hsm }))
	s.health("", serving)
	invited, err := s.signers.EnrollSigner(s.Login(servertest.Administrator), &signetv1.EnrollSignerRequest{
		Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
			UserName: "eve", PrintedName: "Eve Evans", Title: "QA Lead", TimeZone: "UTC", Roles: []signetv1.Role{signetv1.Role_ROLE_SIGNER},
			Proofing: &signetv1.IdentityProofing{Method: "passport seen in person", Reference: "case 2"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	redeem := func() error {
		_, err := s.signers.RedeemEnrollment(t.Context(), &signetv1.RedeemEnrollmentRequest{
			EnrollmentCode: invited.GetEnrollmentCode(), UserName: "eve", Password: servertest.Password, AccountabilityAcknowledged: true,
		})
		return err
	}

	t.Run("the CA", func(t *testing.T) {
		modules["root"].Lose(faulty.Removed)
		err := redeem()
		wantAway(t, err)
		if !strings.Contains(err.Error(), `plug in the token "root"`) {
			t.Errorf("it does not say what to do: %v", err)
		}
		s.health("", serving)
		if _, err := s.seal("01"); err != nil {
			t.Errorf("sealing stopped: %v", err)
		}
		if h := s.HSM(); !h.Ready || h.Tokens[2].Name != "root" || h.Tokens[2].State != keystore.Offline {
			t.Errorf("the status says %+v", h)
		}
		modules["root"].Restore()
		if err := redeem(); err != nil {
			t.Errorf("it is back: %v", err)
		}
	})
	t.Run("the time-stamps", func(t *testing.T) {
		modules["clock"].Lose(faulty.Removed)
		_, err := s.seal("02")
		wantAway(t, err)
		s.health("signet.v1.TimestampService", notServing)
		s.health("", notServing)
		s.health("signet.v1.RecordService", serving)
		s.create(header("bob"))
		modules["clock"].Restore()
		s.health("", serving)
		s.health("signet.v1.TimestampService", serving)
		s.sign(s.ada, "ada", s.prepare(s.ada))
		s.wantVerdict(s.manifest(), verify.OK)
	})
}

// The device's known answers are asked for at each start, and again and again. One that is wrong stops the service until it is right.
func TestKnownAnswersAreRepeated(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	module := faulty.New(t)
	opened, err := pkcs11.Open(t.Context(), module.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	s := people(t, servertest.StartOn(t, opened, func(c *server.Config) { c.HSM.SelfTestEvery = server.Duration(100 * time.Millisecond) }))
	first := s.HSM().Tokens[0].Tested
	if first.IsZero() {
		t.Fatal("it was not tested at the start")
	}
	s.health("", serving)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); !s.HSM().Tokens[0].Tested.After(first.Add(time.Second / 2)); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it was not tested again")
		}
	}
	const signatureInvalid = 0xc0
	fault := module.FailAfter(faulty.Verify, faulty.Always, signatureInvalid)
	s.health("", notServing)
	if token := s.HSM().Tokens[0]; token.State != keystore.Refusing || !strings.Contains(token.Reason, "self-test") {
		t.Errorf("the status says %+v", token)
	}
	_, err = s.seal("01")
	wantAway(t, err)
	fault.Heal()
	s.health("", serving)
	if _, err := s.seal("02"); err != nil {
		t.Error(err)
	}
}
