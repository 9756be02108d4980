package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// keyPair is a client certificate with its key, signed by itself, or by a parent.
func keyPair(t testing.TB, change func(*x509.Certificate), parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "a service"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	by, signer := template, any(key)
	if parent != nil {
		by, signer = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// enrol enrols a service with rights.
func (s *scene) enrol(name string, c tls.Certificate, rights *signetv1.ServiceRights) *signetv1.Signer {
	s.t.Helper()
	r, err := s.signers.EnrollSigner(s.Login(servertest.Administrator), &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Service{
		Service: &signetv1.EnrollService{ServiceName: name, ClientCertificate: c.Certificate[0], Rights: rights},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.GetSigner()
}

func (s *scene) change(id string, rights *signetv1.ServiceRights) {
	s.t.Helper()
	_, err := s.signers.ChangeService(s.Login(servertest.Administrator), &signetv1.ChangeServiceRequest{Name: id, Rights: rights, Reason: "a test"})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) sealAs(c grpc.ClientConnInterface) error {
	_, err := signetv1.NewSigningServiceClient(c).Seal(s.t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"})
	return err
}

func whoAmI(t testing.TB, c grpc.ClientConnInterface) error {
	t.Helper()
	_, err := signetv1.NewSessionServiceClient(c).WhoAmI(t.Context(), &signetv1.WhoAmIRequest{})
	return err
}

// denied are the bodies of access.denied, from an entry on.
func (s *scene) denied(from uint64) (out []map[string]any) {
	s.t.Helper()
	auditor := s.Login(servertest.Administrator)
	stream, err := s.ledger.ListEntries(auditor, &signetv1.ListEntriesRequest{StartIndex: from, Types: []string{string(chain.AccessDenied)}})
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			s.t.Fatal(err)
		}
		parsed, err := chain.ParseEntry(e.GetEntry().GetContent())
		if err != nil {
			s.t.Fatal(err)
		}
		body := map[string]any{}
		if err := json.Unmarshal(parsed.Body, &body); err != nil {
			s.t.Fatal(err)
		}
		body["actor"], body["source"] = parsed.Actor.ID, parsed.Actor.Source
		out = append(out, body)
	}
}

// TestServiceRights: what a service may call and seal, from where and how often, is asked before the call and again at the commit.
func TestServiceRights(t *testing.T) {
	s := start(t)
	own := keyPair(t, nil, nil)
	c := s.Dial(own)
	seal, who := signetv1.SigningService_Seal_FullMethodName, signetv1.SessionService_WhoAmI_FullMethodName
	svc := s.enrol("ci", own, &signetv1.ServiceRights{Methods: []string{seal}, RecordTypes: []string{"release"}})
	id := strings.TrimPrefix(svc.GetName(), "signers/")
	t.Run("methods", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		if err := s.sealAs(c); err != nil {
			t.Fatal(err)
		}
		from := s.size()
		for range 20 {
			wantError(t, whoAmI(t, c), codes.PermissionDenied, "DENIED")
		}
		list := s.denied(from)
		if len(list) != 1 || list[0]["actor"] != id || list[0]["method"] != who || list[0]["reason"] != "rights" {
			t.Errorf("entries %v, want one for the first of twenty", list)
		}
	})
	t.Run("record types", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		s.change(svc.GetName(), &signetv1.ServiceRights{RecordTypes: []string{"document"}})
		before := s.signatures()
		wantError(t, s.sealAs(c), codes.PermissionDenied, "DENIED")
		if s.signatures() != before {
			t.Error("a key was used")
		}
	})
	t.Run("taken away while the key signs", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		for what, take := range map[string]func(){
			"the record type": func() { s.change(svc.GetName(), &signetv1.ServiceRights{RecordTypes: []string{"document"}}) },
			"the method":      func() { s.change(svc.GetName(), &signetv1.ServiceRights{Methods: []string{who}}) },
		} {
			s.change(svc.GetName(), &signetv1.ServiceRights{})
			before := s.signatures()
			var once sync.Once
			s.SetFault(func(key keystore.ID, signature []byte) ([]byte, error) {
				if strings.HasPrefix(string(key), "signer-") || strings.HasPrefix(string(key), "service-") || strings.Contains(string(key), "svc") {
					once.Do(take)
				}
				return signature, nil
			})
			err := s.sealAs(c)
			s.SetFault(nil)
			once.Do(func() { t.Errorf("%s: no key of the service has signed", what) })
			wantError(t, err, codes.PermissionDenied, "DENIED")
			if s.signatures() != before {
				t.Errorf("%s: the seal is in the ledger", what)
			}
		}
	})
	t.Run("networks", func(t *testing.T) {
		t.Attr("requirement", "11.10(h)")
		s.change(svc.GetName(), &signetv1.ServiceRights{Networks: []string{"192.0.2.0/24"}})
		from := s.size()
		wantError(t, whoAmI(t, c), codes.PermissionDenied, "NETWORK_DENIED")
		if list := s.denied(from); len(list) != 1 || list[0]["reason"] != "network" || list[0]["source"] == "" {
			t.Errorf("%v", list)
		}
		s.change(svc.GetName(), &signetv1.ServiceRights{Networks: []string{"127.0.0.0/8"}})
		if err := whoAmI(t, c); err != nil {
			t.Error(err)
		}
	})
	t.Run("a rate", func(t *testing.T) {
		s.change(svc.GetName(), &signetv1.ServiceRights{CallsPerSecond: 0.1, Burst: 3})
		for range 3 {
			if err := whoAmI(t, c); err != nil {
				t.Fatal(err)
			}
		}
		from := s.size()
		for range 50 {
			err := whoAmI(t, c)
			wantError(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			if d := retryDelay(err); d <= 0 || d > 10*time.Second {
				t.Fatalf("retry after %v", d)
			}
		}
		if s.size() != from {
			t.Error("what is refused for its rate leaves entries")
		}
		if err := whoAmI(t, s.DialSealing()); err != nil {
			t.Errorf("another service: %v", err)
		}
		s.Clock.Advance(11 * time.Second)
		if err := whoAmI(t, c); err != nil {
			t.Errorf("eleven seconds later: %v", err)
		}
	})
	t.Run("shown", func(t *testing.T) {
		s.change(svc.GetName(), &signetv1.ServiceRights{Networks: []string{"127.0.0.1"}, CallsPerSecond: 1.5, Burst: 4})
		r, err := s.signers.GetSigner(s.Login(servertest.Administrator), &signetv1.GetSignerRequest{Name: svc.GetName()})
		sum := sha256.Sum256(own.Certificate[0])
		if err != nil || !slices.Equal(r.GetSigner().GetServiceRights().GetNetworks(), []string{"127.0.0.1/32"}) || r.GetSigner().GetServiceRights().GetCallsPerSecond() != 1.5 ||
			!slices.Equal(r.GetSigner().GetClientCertificates(), []string{hex.EncodeToString(sum[:])}) {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// signatures counts those of the record.
func (s *scene) signatures() int {
	s.t.Helper()
	r, err := s.signing.ListSignatures(s.ada, &signetv1.ListSignaturesRequest{Parent: s.record.GetName()})
	if err != nil {
		s.t.Fatal(err)
	}
	return len(r.GetSignatures())
}

func retryDelay(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// TestRotationWithoutDowntime: a service that calls all the time changes its certificate, and no call is refused.
func TestRotationWithoutDowntime(t *testing.T) {
	s := start(t)
	old, fresh := keyPair(t, nil, nil), keyPair(t, nil, nil)
	svc := s.enrol("ci", old, nil)
	admin := s.Login(servertest.Administrator)
	var current atomic.Pointer[grpc.ClientConn]
	before := s.Dial(old)
	current.Store(before)
	stop := make(chan struct{})
	var calls sync.WaitGroup
	var made, failed atomic.Int64
	for range 4 {
		calls.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := signetv1.NewSessionServiceClient(current.Load()).WhoAmI(t.Context(), &signetv1.WhoAmIRequest{}); err != nil {
					failed.Add(1)
					t.Errorf("call %d: %v", made.Load(), err)
					return
				}
				made.Add(1)
			}
		})
	}
	enough := func(n int64) {
		for want := made.Load() + n; made.Load() < want && failed.Load() == 0; {
			if err := whoAmI(t, s.DialSealing()); err != nil { // something to wait on
				t.Fatal(err)
			}
		}
	}
	enough(20)
	if _, err := s.signers.AddServiceCertificate(admin, &signetv1.AddServiceCertificateRequest{Name: svc.GetName(), ClientCertificate: fresh.Certificate[0], Reason: "the old one lapses"}); err != nil {
		t.Fatal(err)
	}
	enough(20)
	current.Store(s.Dial(fresh))
	enough(20)
	// Calls in progress over the old connection are over: a call of each worker over the new one came after them.
	close(stop)
	calls.Wait()
	sum := sha256.Sum256(old.Certificate[0])
	if _, err := s.signers.RemoveServiceCertificate(admin, &signetv1.RemoveServiceCertificateRequest{Name: svc.GetName(), CertificateSha256: hex.EncodeToString(sum[:]), Reason: "replaced"}); err != nil {
		t.Fatal(err)
	}
	if err := whoAmI(t, current.Load()); err != nil {
		t.Errorf("the new one: %v", err)
	}
	wantError(t, whoAmI(t, before), codes.Unauthenticated, "SESSION_ENDED") // over a connection that is open
	wantError(t, whoAmI(t, s.Dial(old)), codes.Unauthenticated, "SESSION_ENDED")
}

// TestOrganisationsCA: services with certificates of the organisation's CA, over TLS, with an issuing CA between.
func TestOrganisationsCA(t *testing.T) {
	t.Attr("requirement", "11.10(h)")
	asCA := func(name string) func(c *x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject.CommonName, c.IsCA, c.KeyUsage, c.ExtKeyUsage = name, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
		}
	}
	root := keyPair(t, asCA("Example Root"), nil)
	issuing := keyPair(t, asCA("Example Issuing CA"), &root)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	named := func(path string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: path}} }
	}
	s := start(t, func(c *server.Config) { c.Services.ClientAuthorities = []string{file} })
	_, err := s.signers.EnrollSigner(s.Login(servertest.Administrator), &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Service{
		Service: &signetv1.EnrollService{ServiceName: "ci", ClientUri: "spiffe://example.com/ci"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		leaf := keyPair(t, named("/ci"), &issuing)
		leaf.Certificate = append(leaf.Certificate, issuing.Certificate[0])
		if err := s.sealAs(s.Dial(leaf)); err != nil {
			t.Error(err)
		}
	}
	wantError(t, whoAmI(t, s.Dial(keyPair(t, named("/other"), &root))), codes.Unauthenticated, "SESSION_ENDED")
	wantError(t, whoAmI(t, s.Dial(keyPair(t, named("/ci"), nil))), codes.Unauthenticated, "SESSION_ENDED")
}

// TestAllowedNetworks: people and services call from where they may; what is refused is recorded.
func TestAllowedNetworks(t *testing.T) {
	t.Attr("requirement", "11.10(h)")
	t.Run("people elsewhere", func(t *testing.T) {
		s := start(t)
		s.Config.Network.Allow.People = []string{"192.0.2.0/24"}
		s.Restart()
		s.connect()
		_, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password})
		wantError(t, err, codes.PermissionDenied, "NETWORK_DENIED")
		if err := s.sealAs(s.DialSealing()); err != nil {
			t.Errorf("a service: %v", err)
		}
		h, err := grpc_health_v1.NewHealthClient(s.Dial()).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("whoever balances the load: %v, %v", h, err)
		}
		s.Config.Network.Allow.People = []string{"127.0.0.0/8"}
		s.Restart()
		s.connect()
		list := s.denied(0)
		if len(list) != 1 || list[0]["method"] != signetv1.SessionService_OpenSession_FullMethodName || list[0]["reason"] != "network" {
			t.Fatalf("%v", list)
		}
		src, err := s.ledger.GetSource(s.Login(servertest.Administrator), &signetv1.GetSourceRequest{Source: list[0]["source"].(string)})
		if err != nil || src.GetAddress() != "127.0.0.1" {
			t.Errorf("%v, %v", src, err)
		}
	})
	t.Run("services elsewhere", func(t *testing.T) {
		s := start(t, func(c *server.Config) { c.Network.Allow.Services = []string{"192.0.2.0/24"} })
		wantError(t, whoAmI(t, s.DialSealing()), codes.PermissionDenied, "NETWORK_DENIED")
	})
	t.Run("nobody from here", func(t *testing.T) {
		s := start(t, func(c *server.Config) { c.Metrics.Address = "127.0.0.1:0" })
		s.Config.Network.Allow = server.AllowConfig{People: []string{"192.0.2.0/24"}, Services: []string{"192.0.2.0/24"}}
		s.Restart()
		for range 10 {
			conn, err := net.Dial("tcp", s.Address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("it was answered")
			}
			conn.Close()
		}
		refused := scrape(t, s.Server)
		s.Config.Network.Allow = server.AllowConfig{}
		s.Restart() // what was counted is written when the server stops
		s.connect()
		if !strings.Contains(refused, "signet_connections_refused_total 10\n") {
			t.Error("the connections are not among the figures")
		}
		total := 0.0
		list := s.denied(0)
		for _, d := range list {
			if d["method"] == "connect grpc" && d["reason"] == "network" {
				total += d["count"].(float64)
			}
		}
		if total != 10 || len(list) > 2 {
			t.Errorf("%v", list)
		}
	})
}

// TestCallsOfAll: all callers together are bounded, whoever asks whether the server is well is not.
func TestCallsOfAll(t *testing.T) {
	s := start(t)
	s.Config.Network.CallsPerSecond, s.Config.Network.Burst = 1, 2
	s.Restart()
	c := s.DialSealing()
	limited := 0
	for range 20 {
		if err := whoAmI(t, c); err != nil {
			wantError(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			limited++
		}
	}
	if limited == 0 {
		t.Error("twenty calls at once, with two allowed")
	}
	for range 20 {
		if _, err := grpc_health_v1.NewHealthClient(c).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
	}
}

// behind dials a server as a proxy that says where its caller is.
func (s *scene) behind(header func() []byte, certificates ...tls.Certificate) *grpc.ClientConn {
	s.t.Helper()
	ca, err := os.ReadFile(s.Created.ServerCertificate)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c, err := grpc.NewClient("passthrough:///"+s.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1", Certificates: certificates,
	})), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_, err = conn.Write(header())
		}
		return conn, err
	}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// proxied is a header of the PROXY protocol, version 2.
func proxied(from string) func() []byte {
	return func() []byte {
		ip := net.ParseIP(from).To4()
		return slices.Concat([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), ip, []byte{127, 0, 0, 1, 0x30, 0x39, 1, 0xbb})
	}
}

// TestTrustedProxies: the source of a call is what a trusted proxy says, and nobody else's word.
func TestTrustedProxies(t *testing.T) {
	t.Attr("requirement", "C-104")
	t.Run("PROXY protocol", func(t *testing.T) {
		s := start(t)
		s.Config.Network.TrustedProxies, s.Config.Network.ProxyProtocol = []string{"127.0.0.0/8"}, true
		s.Config.Network.Allow.People = []string{"198.51.100.0/24"}
		s.Restart()
		login := func(from string) (*signetv1.OpenSessionResponse, error) {
			return signetv1.NewSessionServiceClient(s.behind(proxied(from))).OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: servertest.Administrator, Password: servertest.Password})
		}
		r, err := login("198.51.100.7")
		if err != nil {
			t.Fatal(err)
		}
		_, err = login("192.0.2.7") // another network
		wantError(t, err, codes.PermissionDenied, "NETWORK_DENIED")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(ctx, &signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password}); status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a proxy that says nothing: %v", err)
		}
		token := func(c *grpc.ClientConn) (*signetv1.Entry, error) {
			ctx := bearer(t, r.GetToken())
			stream, err := signetv1.NewLedgerServiceClient(c).ListEntries(ctx, &signetv1.ListEntriesRequest{Types: []string{string(chain.SessionOpened)}, Descending: true, Limit: 1})
			if err != nil {
				return nil, err
			}
			e, err := stream.Recv()
			return e.GetEntry(), err
		}
		c := s.behind(proxied("198.51.100.7"))
		e, err := token(c)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := chain.ParseEntry(e.GetContent())
		if err != nil {
			t.Fatal(err)
		}
		src, err := signetv1.NewLedgerServiceClient(c).GetSource(bearer(t, r.GetToken()), &signetv1.GetSourceRequest{Source: parsed.Actor.Source})
		if err != nil || src.GetAddress() != "198.51.100.7" || !strings.Contains(src.GetDevice(), "grpc-go") {
			t.Errorf("%v, %v", src, err)
		}
		_, err = token(s.behind(proxied("198.51.100.8"))) // the session moves
		wantError(t, err, codes.Unauthenticated, "SESSION_ENDED")
	})
	t.Run("whoever is none is not believed", func(t *testing.T) {
		s := start(t)
		s.Config.Network.TrustedProxies, s.Config.Network.ProxyProtocol = []string{"192.0.2.1"}, true
		s.Restart()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := signetv1.NewSessionServiceClient(s.behind(proxied("198.51.100.7"))).OpenSession(ctx, &signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password})
		if status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%v", err)
		}
	})
	t.Run("X-Forwarded-For", func(t *testing.T) {
		s := start(t, func(c *server.Config) {
			c.Web.Address, c.Timestamp.Web = "127.0.0.1:0", true
			c.Network.TrustedProxies, c.Network.Allow.Web = []string{"127.0.0.0/8"}, []string{"198.51.100.0/24"}
		})
		web := newWeb(t, s.Server)
		for forwarded, want := range map[string]int{
			"198.51.100.7": http.StatusOK, "192.0.2.7, 198.51.100.7": http.StatusOK, "198.51.100.7, 192.0.2.7": http.StatusForbidden, "": http.StatusForbidden,
			"unknown": http.StatusBadRequest,
		} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.root+"/ledger/checkpoint", nil)
			if err != nil {
				t.Fatal(err)
			}
			if forwarded != "" {
				r.Header.Set("X-Forwarded-For", forwarded)
			}
			reply, err := web.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			reply.Body.Close()
			if reply.StatusCode != want {
				t.Errorf("%q: %s, want %d", forwarded, reply.Status, want)
			}
		}
	})
}

func bearer(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// TestAuditOfASignature: from a signature an auditor comes to its session, how it was opened, and from where (C-106).
func TestAuditOfASignature(t *testing.T) {
	t.Attr("requirement", "C-105")
	t.Attr("requirement", "C-106")
	s := start(t)
	index := s.signed()
	admin := s.Login(servertest.Administrator)
	stream, err := s.ledger.TraceSignature(admin, &signetv1.TraceSignatureRequest{Index: index})
	if err != nil {
		t.Fatal(err)
	}
	relations := map[string]chain.Entry{}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, err := chain.ParseEntry(r.GetEntry().GetContent())
		if err != nil {
			t.Fatal(err)
		}
		relations[r.GetRelation()] = e
	}
	opened, signature := relations["session opened"], relations["signature"]
	if opened.Actor.Session == "" || opened.Actor.Session != signature.Actor.Session || opened.Actor.Method != "password" || !opened.Time.Before(signature.Time) {
		t.Fatalf("%+v, %+v", opened.Actor, signature.Actor)
	}
	for what, source := range map[string]string{"the session": opened.Actor.Source, "the signature": signature.Actor.Source} {
		src, err := s.ledger.GetSource(admin, &signetv1.GetSourceRequest{Source: source})
		if err != nil || src.GetAddress() != "127.0.0.1" || !strings.Contains(src.GetDevice(), "grpc-go") || src.GetErased() {
			t.Errorf("%s: %v, %v", what, src, err)
		}
	}
	_, err = s.ledger.GetSource(s.ada, &signetv1.GetSourceRequest{Source: opened.Actor.Source})
	wantError(t, err, codes.PermissionDenied, "DENIED")
}

// TestEraseSources: those of a signer, before a time; an auditor sees who has erased them and why.
func TestEraseSources(t *testing.T) {
	s := start(t)
	admin := s.Login(servertest.Administrator)
	places := []string{"one", "two", "three"}
	var sources []string
	for _, p := range places { // three devices
		r, err := signetv1.NewSessionServiceClient(s.dialAs(p)).OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: "bob", Password: servertest.Password})
		if err != nil {
			t.Fatal(err)
		}
		s.Clock.Advance(time.Hour)
		sources = append(sources, s.sourceOf(admin, r.GetSigner().GetName()))
	}
	before := s.Clock.Now().Add(-90 * time.Minute) // the third is younger
	_, err := s.ledger.EraseSources(s.Login(servertest.Administrator), &signetv1.EraseSourcesRequest{Reason: "x"})
	wantError(t, err, codes.InvalidArgument, "REQUEST_INVALID")
	admin = s.Login(servertest.Administrator)
	out, err := s.ledger.EraseSources(admin, &signetv1.EraseSourcesRequest{Signer: s.bobID, Before: timestamppb.New(before), Reason: "retention has ended"})
	if err != nil || len(out.GetSources()) < 2 || !slices.Contains(out.GetSources(), sources[0]) || !slices.Contains(out.GetSources(), sources[1]) || slices.Contains(out.GetSources(), sources[2]) {
		t.Fatalf("%v, %v; want those of %v but the last", out, err, sources)
	}
	for i, source := range sources {
		src, err := s.ledger.GetSource(admin, &signetv1.GetSourceRequest{Source: source})
		if err != nil || src.GetErased() != (i < 2) || src.GetErased() != (src.GetAddress() == "") || src.GetErased() != (src.GetEraseEntry() != 0) {
			t.Errorf("%d: %v, %v", i, src, err)
		}
	}
	again, err := s.ledger.EraseSources(admin, &signetv1.EraseSourcesRequest{Signer: s.bobID, Before: timestamppb.New(before), Reason: "again"})
	if err != nil || len(again.GetSources()) != 0 {
		t.Errorf("%v, %v", again, err)
	}
	_, err = s.ledger.EraseSources(s.Login("ada"), &signetv1.EraseSourcesRequest{Sources: sources[2:], Reason: "mine"})
	wantError(t, err, codes.PermissionDenied, "DENIED")
}

// dialAs dials as another device.
func (s *scene) dialAs(device string) *grpc.ClientConn {
	s.t.Helper()
	ca, err := os.ReadFile(s.Created.ServerCertificate)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c, err := grpc.NewClient(s.Address, grpc.WithUserAgent(device), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1",
	})))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// sourceOf is the source of the newest session of a signer.
func (s *scene) sourceOf(ctx context.Context, signer string) string {
	s.t.Helper()
	stream, err := s.ledger.ListEntries(s.Login(servertest.Administrator), &signetv1.ListEntriesRequest{
		Types: []string{string(chain.SessionOpened)}, Actor: signer, Descending: true, Limit: 1,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := chain.ParseEntry(r.GetEntry().GetContent())
	if err != nil {
		s.t.Fatal(fmt.Errorf("entry: %w", err))
	}
	return e.Actor.Source
}
