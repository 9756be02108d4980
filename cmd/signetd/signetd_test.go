package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// TestMain lets the test binary be signetd itself.
func TestMain(m *testing.M) {
	if os.Getenv("SIGNETD_TEST_BE_SIGNETD") == "1" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func signetd(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), "SIGNETD_TEST_BE_SIGNETD=1")
	return c
}

// run runs signetd to its end.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := signetd(t.Context(), args...)
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	if e := c.Run(); e != nil {
		var exit *exec.ExitError
		if !errors.As(e, &exit) {
			t.Fatal(e)
		}
		code = exit.ExitCode()
	}
	return out.String(), err.String(), code
}

// service is a service that init has made.
type service struct {
	t       *testing.T
	data    string
	address string
}

func (s service) config() string { return filepath.Join(s.data, "signetd.yaml") }

func initService(t *testing.T, more ...string) service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := service{t: t, data: filepath.Join(t.TempDir(), "var"), address: l.Addr().String()}
	l.Close()
	_, stderr, code := run(t, append([]string{"init", "--data", s.data, "--environment", "demo", "--listen", s.address, "--admin-user", "grace", "--admin-name", "Grace Hopper"}, more...)...)
	if code != 0 {
		t.Fatalf("init ended with %d: %s", code, stderr)
	}
	return s
}

// serve starts the service and waits until the health service says that it serves.
func (s service) serve() *exec.Cmd {
	s.t.Helper()
	c := signetd(context.WithoutCancel(s.t.Context()), "serve", "--config", s.config())
	c.Stderr = s.t.Output()
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	stream, err := grpc_health_v1.NewHealthClient(s.dial()).Watch(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	for err == nil {
		var r *grpc_health_v1.HealthCheckResponse
		if r, err = stream.Recv(); r.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return c
		}
	}
	s.t.Fatalf("not ready: %v", err)
	return nil
}

func (s service) dial(certificates ...tls.Certificate) *grpc.ClientConn {
	s.t.Helper()
	pem, err := os.ReadFile(filepath.Join(s.data, "tls", "server.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "localhost", Certificates: certificates,
	})))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func TestInitMakesAService(t *testing.T) {
	s := initService(t)
	t.Run("secrets are their owner's alone", func(t *testing.T) {
		for _, name := range []string{"token/user.pin", "token/so.pin", "token/softhsm2.conf", "administrator.code", "signetd.yaml", "ledger.db", "tls/server-key.pem", "tls/sealing-key.pem"} {
			info, err := os.Stat(filepath.Join(s.data, name))
			if err != nil {
				t.Error(err)
			} else if mode := info.Mode().Perm(); mode != 0o600 {
				t.Errorf("%s has mode %04o", name, mode)
			}
		}
		if info, err := os.Stat(s.data); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info, err)
		}
	})
	t.Run("not over another one", func(t *testing.T) {
		before, err := os.ReadFile(s.config())
		if err != nil {
			t.Fatal(err)
		}
		_, stderr, code := run(t, "init", "--data", s.data, "--environment", "demo")
		if code == 0 || !strings.Contains(stderr, "already initialised") {
			t.Fatalf("%d: %s", code, stderr)
		}
		if after, err := os.ReadFile(s.config()); err != nil || !bytes.Equal(before, after) {
			t.Fatal("the configuration was changed")
		}
	})
	t.Run("not over one that was not finished", func(t *testing.T) {
		if err := os.Rename(s.config(), s.config()+".away"); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := run(t, "init", "--data", s.data, "--environment", "demo")
		if code == 0 || !strings.Contains(stderr, "did not finish") {
			t.Fatalf("%d: %s", code, stderr)
		}
		if err := os.Rename(s.config()+".away", s.config()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("whose ledger checks", func(t *testing.T) {
		stdout, stderr, code := run(t, "ledger", "check", "--config", s.config())
		if code != 0 || !strings.Contains(stdout, "the ledger checks") {
			t.Fatalf("%d: %s%s", code, stdout, stderr)
		}
	})
	t.Run("whose ledger does not check once a byte is changed", func(t *testing.T) {
		t.Attr("requirement", "A-05")
		t.Attr("requirement", "11.10(a)")
		file := filepath.Join(s.data, "ledger.db")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		i := bytes.Index(b, []byte(`"userName":"grace"`))
		if i < 0 {
			t.Fatal("the invitation is not in the file")
		}
		changed := bytes.Clone(b)
		changed[i+len(`"userName":"`)] = 'G'
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := run(t, "ledger", "check", "--config", s.config())
		if code != 3 {
			t.Fatalf("%d: %s%s", code, stdout, stderr)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

func TestConfigurationIsStrict(t *testing.T) {
	s := initService(t)
	stdout, stderr, code := run(t, "config", "print", "--config", s.config())
	if code != 0 || !strings.Contains(stdout, "environment: demo") || !strings.Contains(stdout, "# ") {
		t.Fatalf("%d: %s%s", code, stdout, stderr)
	}
	for name, text := range map[string]string{
		"unknown key": "colour: red\n", "PIN in the data folder of production": "environment: production\nsystemAccess: closed\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(s.data, "other.yaml")
			if err := os.WriteFile(path, []byte("dataDir: .\n"+text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, command := range [][]string{{"serve"}, {"ledger", "check"}, {"config", "print"}} {
				if _, stderr, code := run(t, append(command, "--config", path)...); code != 2 || stderr == "" {
					t.Errorf("%v: %d: %s", command, code, stderr)
				}
			}
		})
	}
	for _, args := range [][]string{{"serve", "now"}, {"serve", "--unknown"}, {"init", "--data"}} {
		if _, stderr, code := run(t, args...); code != 2 || !strings.Contains(stderr, "--help") {
			t.Errorf("%v: %d: %s", args, code, stderr)
		}
	}
}

// enrolled is a service with people and a record, ready to be signed.
type enrolled struct {
	ada     context.Context
	signing signetv1.SigningServiceClient
	sealing signetv1.SigningServiceClient
	record  string
}

const password = "correct otter battery umbrella"

func (s service) enrol() enrolled {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	c := s.dial()
	sessions, signers := signetv1.NewSessionServiceClient(c), signetv1.NewSignerServiceClient(c)
	redeem := func(user, code string) {
		_, err := signers.RedeemEnrollment(s.t.Context(), &signetv1.RedeemEnrollmentRequest{
			EnrollmentCode: code, UserName: user, Password: password, AccountabilityAcknowledged: true,
		})
		must(err)
	}
	login := func(user string) context.Context {
		r, err := sessions.OpenSession(s.t.Context(), &signetv1.OpenSessionRequest{UserName: user, Password: password})
		must(err)
		return metadata.AppendToOutgoingContext(context.WithoutCancel(s.t.Context()), "authorization", "Bearer "+r.GetToken())
	}
	code, err := os.ReadFile(filepath.Join(s.data, "administrator.code"))
	must(err)
	redeem("grace", strings.TrimSpace(string(code)))
	grace := login("grace")
	for user, role := range map[string]signetv1.Role{"ada": signetv1.Role_ROLE_SIGNER, "rita": signetv1.Role_ROLE_RELEASE_MANAGER} {
		r, err := signers.EnrollSigner(grace, &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
			UserName: user, PrintedName: "Some " + user, TimeZone: "UTC", Roles: []signetv1.Role{role},
			Proofing: &signetv1.IdentityProofing{Method: "passport seen", Reference: "1"},
		}}})
		must(err)
		redeem(user, r.GetEnrollmentCode())
	}
	stream, err := signetv1.NewRecordServiceClient(c).CreateRecord(login("rita"))
	must(err)
	must(stream.Send(&signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_Header{Header: &signetv1.RecordHeader{
		Type: "release", Product: "p", Version: "v1.0.0", Source: &signetv1.Source{Commit: strings.Repeat("a", 40)}, Policy: &signetv1.ApprovalPolicy{Template: "single-approver", Approvers: []string{"ada"}},
	}}}))
	document := `{"excluded":[],"files":[{"path":"a","sha256":"` + strings.Repeat("0", 64) + `","size":1}],"format":"signet-bundle/v1"}`
	must(stream.Send(&signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_BundleChunk{BundleChunk: []byte(document)}}))
	r, err := stream.CloseAndRecv()
	must(err)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(s.data, "tls", "sealing.pem"), filepath.Join(s.data, "tls", "sealing-key.pem"))
	must(err)
	return enrolled{
		ada: login("ada"), signing: signetv1.NewSigningServiceClient(c), sealing: signetv1.NewSigningServiceClient(s.dial(certificate)), record: r.GetRecord().GetName(),
	}
}

// sealUntil seals until the server is gone, and returns the names of the seals that were acknowledged.
func (e enrolled) sealUntil(ctx context.Context, stop func(n int)) []string {
	var acknowledged []string
	for len(acknowledged) < 200 {
		r, err := e.sealing.Seal(ctx, &signetv1.SealRequest{Record: e.record, Meaning: "evidence-seal"})
		if err != nil {
			return acknowledged
		}
		acknowledged = append(acknowledged, r.GetSignature().GetName())
		stop(len(acknowledged))
	}
	return acknowledged
}

func (e enrolled) wantAll(t *testing.T, acknowledged []string) {
	t.Helper()
	stored := map[string]bool{}
	token := ""
	for {
		r, err := e.sealing.ListSignatures(t.Context(), &signetv1.ListSignaturesRequest{Parent: e.record, PageSize: 200, PageToken: token}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.GetSignatures() {
			if stored[s.GetName()] {
				t.Errorf("%s is there twice", s.GetName())
			}
			stored[s.GetName()] = true
		}
		if token = r.GetNextPageToken(); token == "" {
			break
		}
	}
	for _, name := range acknowledged {
		if !stored[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

func TestNothingAcknowledgedIsLost(t *testing.T) {
	for name, how := range map[string]struct {
		signal syscall.Signal
		code   int
	}{"SIGTERM": {syscall.SIGTERM, 0}, "SIGKILL": {syscall.SIGKILL, -1}} {
		t.Run(name, func(t *testing.T) {
			s := initService(t)
			c := s.serve()
			e := s.enrol()
			p, err := e.signing.Prepare(e.ada, &signetv1.PrepareRequest{
				Record: e.record, Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All green.",
			})
			if err != nil {
				t.Fatal(err)
			}
			acknowledged := e.sealUntil(t.Context(), func(n int) {
				if n == 50 {
					if err := c.Process.Signal(how.signal); err != nil {
						t.Error(err)
					}
				}
			})
			_ = c.Wait()
			if code := c.ProcessState.ExitCode(); code != how.code {
				t.Fatalf("ended with %d, want %d", code, how.code)
			}
			if len(acknowledged) < 50 {
				t.Fatalf("%d seals", len(acknowledged))
			}
			if stdout, stderr, code := run(t, "ledger", "check", "--config", s.config()); code != 0 {
				t.Fatalf("the ledger does not check: %d: %s%s", code, stdout, stderr)
			}
			s.serve()
			e.wantAll(t, acknowledged)
			// A preparation that waited for its signer is still there, but the session is not: the signer logs in again.
			shown := sha256.Sum256(p.GetPreparation().GetStatement())
			in := &signetv1.SignRequest{
				Preparation: p.GetPreparation().GetName(), StatementSha256: shown[:], Password: &signetv1.PasswordCredentials{UserName: "ada", Password: password},
			}
			if _, err := e.signing.Sign(e.ada, in, grpc.WaitForReady(true)); status.Code(err) != codes.Unauthenticated {
				t.Fatalf("an old session after a restart: %v", err)
			}
			r, err := signetv1.NewSessionServiceClient(s.dial()).OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: "ada", Password: password})
			if err != nil {
				t.Fatal(err)
			}
			ada := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+r.GetToken())
			if r, err := e.signing.Sign(ada, in); err != nil || r.GetRecordState() != signetv1.RecordState_RECORD_STATE_APPROVED {
				t.Fatalf("%v, %v", r, err)
			}
		})
	}
}

func TestOneServerAtATime(t *testing.T) {
	s := initService(t)
	s.serve()
	_, stderr, code := run(t, "serve", "--config", s.config())
	if code != 1 || !strings.Contains(stderr, "in use by another process") {
		t.Fatalf("%d: %s", code, stderr)
	}
	_, stderr, code = run(t, "ledger", "check", "--config", s.config())
	if code != 1 || !strings.Contains(stderr, "in use by another process") {
		t.Fatalf("%d: %s", code, stderr)
	}
}
