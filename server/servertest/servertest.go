// Package servertest starts a real server for a test: a real token in SoftHSM2, a real ledger, real TLS on the loopback
// address. When the test ends the server stops and its whole ledger is verified: every entry replayed, every projection compared.
package servertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/server"
)

// Server is a running server.
type Server struct {
	Config  server.Config
	Address string         // host:port
	Created server.Created // what init made
	Token   *pkcs11.Token  // that Start made
	Keys    *keystore.Store
	Clock   *Clock

	t            testing.TB
	fault        atomic.Pointer[Fault]
	destroyFault atomic.Pointer[DestroyFault]
	keyFault     atomic.Pointer[KeyFault]
	epochs       atomic.Uint64 // that tests have begun
	recorded     *server.Recorded
	server       *server.Server
	roots        *x509.CertPool
	running      bool
	admins       []string // user names of the administrators that Enroll has enrolled
}

// Clock is the server's one clock: the machine's, moved by what the test has added.
type Clock struct {
	mu       sync.Mutex
	ahead    time.Duration
	settable bool
	set      time.Duration
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead + c.set)
}

// Settable makes a server that is opened from now on have a monotonic clock of its own, against which [Clock.Set] moves this one. Until then
// [Clock.Advance] can be called at any time: afterwards only while the server reads no time.
func (c *Clock) Settable() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settable = true
}

// Set sets the clock ahead or back while no time goes by, as somebody does who sets the machine's.
func (c *Clock) Set(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.settable {
		panic("the clock was not made settable before the server was opened")
	}
	c.set += d
}

// monotonic is the clock that Set does not move; nil if there is none.
func (c *Clock) monotonic() func() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.settable {
		return nil
	}
	began := time.Now()
	return func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Since(began) + c.ahead
	}
}

// Advance lets time go by.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// Fault is what happens to a signature on its way out of the token: it gets the key's id and the signature, and returns what is
// handed on, or an error.
type Fault func(id keystore.ID, signature []byte) ([]byte, error)

// SetFault lets a fault happen from now on; nil ends it.
func (s *Server) SetFault(f Fault) {
	if f == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&f)
}

// DestroyFault stands in for the destruction of a key in the token: it may call destroy, before or after it reports a failure.
type DestroyFault func(id keystore.ID, destroy func() error) error

// SetDestroyFault lets a fault happen from now on; nil ends it.
func (s *Server) SetDestroyFault(f DestroyFault) {
	if f == nil {
		s.destroyFault.Store(nil)
		return
	}
	s.destroyFault.Store(&f)
}

// KeyFault changes what the token says of a key when it is read.
type KeyFault func(key keystore.Key) keystore.Key

// SetKeyFault lets a fault happen from now on; nil ends it. The token begins an epoch, so that each key is read anew.
func (s *Server) SetKeyFault(f KeyFault) {
	s.keyFault.Store(nil)
	if f != nil {
		s.keyFault.Store(&f)
	}
	s.epochs.Add(1)
}

// faultyToken is the real token with the fault of the moment.
type faultyToken struct {
	keystore.Token
	server *Server
}

func (t *faultyToken) Sign(ctx context.Context, id keystore.ID, a keystore.Algorithm, input []byte) ([]byte, error) {
	signature, err := t.Token.Sign(ctx, id, a, input)
	if f := t.server.fault.Load(); f != nil && err == nil {
		return (*f)(id, signature)
	}
	return signature, err
}

// SignChecked lets the token check its signatures itself, as it does in a service, unless a fault is to change them first.
func (t *faultyToken) SignChecked(ctx context.Context, id keystore.ID, a keystore.Algorithm, input []byte,
	check func(input, signature []byte) error) ([]byte, error) {
	c, ok := t.Token.(keystore.CheckingSigner)
	if ok && t.server.fault.Load() == nil {
		return c.SignChecked(ctx, id, a, input, check)
	}
	signature, err := t.Sign(ctx, id, a, input)
	if err == nil {
		err = check(input, signature)
	}
	if err != nil {
		return nil, err
	}
	return signature, nil
}

func (t *faultyToken) Find(ctx context.Context, id keystore.ID) (keystore.Key, error) {
	key, err := t.Token.Find(ctx, id)
	if f := t.server.keyFault.Load(); f != nil && err == nil {
		key.Attributes = maps.Clone(key.Attributes)
		key = (*f)(key)
	}
	return key, err
}

// macer is the real token, which has MAC keys.
func (t *faultyToken) macer() keystore.MACer {
	m, ok := t.Token.(keystore.MACer)
	if !ok {
		panic("the token has no MAC keys")
	}
	return m
}

func (t *faultyToken) GenerateMAC(ctx context.Context, id keystore.ID) (map[string]string, error) {
	return t.macer().GenerateMAC(ctx, id)
}

func (t *faultyToken) MACAttributes(ctx context.Context, id keystore.ID) (map[string]string, error) {
	return t.macer().MACAttributes(ctx, id)
}

// MAC fails where a signature would.
func (t *faultyToken) MAC(ctx context.Context, id keystore.ID, input []byte) ([]byte, error) {
	mac, err := t.macer().MAC(ctx, id, input)
	if f := t.server.fault.Load(); f != nil && err == nil {
		return (*f)(id, mac)
	}
	return mac, err
}

func (t *faultyToken) DestroyMAC(ctx context.Context, id keystore.ID) error {
	return t.macer().DestroyMAC(ctx, id)
}

func (t *faultyToken) Epoch() uint64 { return t.Token.Epoch() + t.server.epochs.Load() }

func (t *faultyToken) Destroy(ctx context.Context, id keystore.ID) error {
	destroy := func() error { return t.Token.Destroy(ctx, id) }
	if f := t.server.destroyFault.Load(); f != nil {
		return (*f)(id, destroy)
	}
	return destroy()
}

// Option changes the configuration before init.
type Option func(*server.Config)

// Administrator is the user name of the first administrator, and Password the password of everybody that [Server.Enroll] enrols.
const (
	Administrator = "admin"
	Password      = "correct otter battery umbrella"
)

// Start makes a service in a folder of the test's own and starts it.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	hsm := keystoretest.Config(t)
	hsm.SessionCopies = true
	s := &Server{Token: keystoretest.Open(t, hsm)}
	s.start(t, &faultyToken{s.Token, s}, options)
	return s
}

// StartOn is Start on a token of the test's, or on what it made of several. Faults are the token's own business then. It is closed when
// the test ends.
func StartOn(t testing.TB, token keystore.Token, options ...Option) *Server {
	t.Helper()
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &Server{}
	s.start(t, token, options)
	return s
}

func (s *Server) start(t testing.TB, token keystore.Token, options []Option) {
	t.Helper()
	c := server.DefaultConfig()
	c.Environment, c.DataDir, c.Listen.Address = server.Demo, filepath.Join(t.TempDir(), "var"), "127.0.0.1:0"
	c.Identity.PasswordMemory, c.Identity.PasswordPasses = 8, 1 // the cost is identity's to test
	c.Ledger.Scrub.Every = 0                                    // entries come when a test makes them
	for _, o := range options {
		o(&c)
	}
	s.Config, s.Clock, s.t, s.recorded = c, &Clock{}, t, &server.Recorded{}
	s.Keys = keystore.New(token, c.HSM.StoreOptions(s.recorded))
	var err error
	s.Created, err = server.Init(t.Context(), s.Options(), server.Administrator{
		UserName: Administrator, Name: "First Administrator", Title: "Security Administrator", Zone: "UTC", ProofingMethod: "test", ProofingReference: "test",
	}, func(string) {})
	if err != nil {
		t.Fatalf("init: %v", err)
	}
	pem, err := os.ReadFile(s.Created.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(pem)
	s.Restart()
	t.Cleanup(func() {
		s.SetFault(nil)
		s.SetDestroyFault(nil)
		s.SetKeyFault(nil)
		s.Stop()
		s.Check()
	})
	s.redeem(s.Created.Code.Reveal(), Administrator)
}

// MetricsAddress is where the running server's metrics are read.
func (s *Server) MetricsAddress() string { return s.server.MetricsAddress() }

// PagesAddress is where the running server's pages are.
func (s *Server) PagesAddress() string { return s.server.PagesAddress() }

// WebAddress is where the running server answers HTTPS.
func (s *Server) WebAddress() string { return s.server.WebAddress() }

// Running is the running server itself.
func (s *Server) Running() *server.Server { return s.server }

// HSM is what the running server says of its tokens.
func (s *Server) HSM() server.HSMStatus { return s.server.HSM() }

// Options are what the server is opened with.
func (s *Server) Options() server.Options {
	return server.Options{Config: s.Config, Keys: s.Keys, Recorded: s.recorded, Version: "v0.0.0-test", Clock: s.Clock.Now, Monotonic: s.Clock.monotonic(), Log: slog.New(slog.NewTextHandler(s.t.Output(), nil))}
}

// Restart starts the server, after stopping it where it runs.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	opened, err := server.Open(context.WithoutCancel(s.t.Context()), s.Options())
	if err != nil {
		s.t.Fatalf("open: %v", err)
	}
	l, err := opened.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	s.server, s.Address, s.running = opened, l.Addr().String(), true
	go func() { _ = opened.Serve(l) }()
}

// Stop stops the server gracefully.
func (s *Server) Stop() {
	s.t.Helper()
	if !s.running {
		return
	}
	s.running = false
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.server.Stop(ctx); err != nil {
		s.t.Errorf("stop: %v", err)
	}
}

// Check verifies the whole ledger of a server that is stopped.
func (s *Server) Check() server.LedgerReport {
	s.t.Helper()
	report, err := server.CheckLedger(context.Background(), s.Options(), nil)
	if err != nil {
		s.t.Errorf("ledger check: %v", err)
	}
	for _, f := range report.Faults {
		s.t.Errorf("ledger check: %s: %s", f.Where, f.What)
	}
	return report
}

// Dial connects, with a client certificate if there is one.
func (s *Server) Dial(certificates ...tls.Certificate) *grpc.ClientConn {
	s.t.Helper()
	host, _, _ := net.SplitHostPort(s.Address)
	c, err := grpc.NewClient(s.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: s.roots, ServerName: host, Certificates: certificates,
	})))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// DialSealing connects as the first service.
func (s *Server) DialSealing() *grpc.ClientConn {
	s.t.Helper()
	file := s.Created.SealingClient
	certificate, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".pem")+"-key.pem")
	if err != nil {
		s.t.Fatal(err)
	}
	return s.Dial(certificate)
}

// Login opens a session and returns a context that carries it.
func (s *Server) Login(user string) context.Context {
	s.t.Helper()
	r, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(s.t.Context(), &signetv1.OpenSessionRequest{UserName: user, Password: Password})
	if err != nil {
		s.t.Fatalf("log in as %s: %v", user, err)
	}
	return metadata.AppendToOutgoingContext(context.WithoutCancel(s.t.Context()), "authorization", "Bearer "+r.GetToken())
}

// Enroll enrols a person with the given roles, and redeems their code with [Password]. Where that takes two administrators, the last one
// that it has enrolled confirms it.
func (s *Server) Enroll(user, name string, roles ...signetv1.Role) *signetv1.Signer {
	s.t.Helper()
	r, err := signetv1.NewSignerServiceClient(s.Dial()).EnrollSigner(s.Login(Administrator), &signetv1.EnrollSignerRequest{
		Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
			UserName: user, PrintedName: name, Title: "QA Lead", TimeZone: "Europe/Berlin", Roles: roles,
			Proofing: &signetv1.IdentityProofing{Method: "passport seen in person", Reference: "case 1"},
		}},
	})
	if err != nil {
		s.t.Fatalf("enrol %s: %v", user, err)
	}
	code := r.GetEnrollmentCode()
	if p := r.GetProposal(); p != nil {
		code += "-" + s.Confirm(s.second(), p).GetEnrollmentCode()
	}
	if slices.Contains(roles, signetv1.Role_ROLE_ADMINISTRATOR) {
		s.admins = append(s.admins, user)
	}
	return s.redeem(code, user)
}

// second returns the newest administrator beside the first one who can log in.
func (s *Server) second() string {
	s.t.Helper()
	for _, user := range slices.Backward(s.admins) {
		_, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(s.t.Context(), &signetv1.OpenSessionRequest{UserName: user, Password: Password})
		if err == nil {
			return user
		}
	}
	s.t.Fatal("it takes a second administrator")
	return ""
}

// Confirm confirms a proposal as the administrator of that user name.
func (s *Server) Confirm(user string, p *signetv1.Proposal) *signetv1.ConfirmProposalResponse {
	s.t.Helper()
	r, err := signetv1.NewProposalServiceClient(s.Dial()).ConfirmProposal(s.Login(user), &signetv1.ConfirmProposalRequest{
		Name: p.GetName(), Digest: p.GetDigest(), Password: &signetv1.PasswordCredentials{UserName: user, Password: Password},
	})
	if err != nil {
		s.t.Fatalf("%s confirms %s: %v", user, p.GetKind(), err)
	}
	return r
}

func (s *Server) redeem(code, user string) *signetv1.Signer {
	s.t.Helper()
	r, err := signetv1.NewSignerServiceClient(s.Dial()).RedeemEnrollment(s.t.Context(), &signetv1.RedeemEnrollmentRequest{
		EnrollmentCode: code, UserName: user, Password: Password, AccountabilityAcknowledged: true,
	})
	if err != nil {
		s.t.Fatalf("redeem the code of %s: %v", user, err)
	}
	return r.GetSigner()
}

// Record creates a record about a bundle's document.
func (s *Server) Record(ctx context.Context, document []byte, header *signetv1.RecordHeader) (*signetv1.Record, error) {
	stream, err := signetv1.NewRecordServiceClient(s.Dial()).CreateRecord(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_Header{Header: header}}); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if len(document) > 0 {
		if err := stream.Send(&signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_BundleChunk{BundleChunk: document}}); err != nil {
			return nil, fmt.Errorf("document: %w", err)
		}
	}
	r, err := stream.CloseAndRecv()
	return r.GetRecord(), err
}
