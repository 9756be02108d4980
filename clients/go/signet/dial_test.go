package signet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// sessions is a session service that remembers what came with each call.
type sessions struct {
	signetv1.UnimplementedSessionServiceServer
	tokens, agents []string
	certificates   []*x509.Certificate
}

func (s *sessions) seen(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.tokens = append(s.tokens, append(md.Get("authorization"), "")[0])
	s.agents = append(s.agents, md.Get("user-agent")[0])
	if p, ok := peer.FromContext(ctx); ok {
		s.certificates = p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates
	}
}

func (s *sessions) OpenSession(ctx context.Context, r *signetv1.OpenSessionRequest) (*signetv1.OpenSessionResponse, error) {
	s.seen(ctx)
	if r.GetUserName() != "ada" || r.GetPassword() != "secret" {
		return nil, refusal(codes.Unauthenticated, BadCredentials, "user name or password is wrong", 0)
	}
	return &signetv1.OpenSessionResponse{Token: "tok"}, nil
}

func (s *sessions) WhoAmI(ctx context.Context, _ *signetv1.WhoAmIRequest) (*signetv1.WhoAmIResponse, error) {
	s.seen(ctx)
	return &signetv1.WhoAmIResponse{Environment: "demo"}, nil
}

func TestDial(t *testing.T) {
	service := &sessions{}
	address, ca := serve(t, func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }, func(s *grpc.Server) { signetv1.RegisterSessionServiceServer(s, service) })
	certificate := ca.issue(t, "ci")
	c := dial(t, address, ca, func(o *Options) {
		o.Token, o.UserAgent, o.Certificate = StaticToken("tok"), "test/1", &certificate
	})
	opened, err := c.OpenSession(t.Context(), Password{UserName: "ada", Password: "secret"})
	must(t, err)
	if opened.GetToken() != "tok" {
		t.Errorf("token %q", opened.GetToken())
	}
	me, err := c.WhoAmI(t.Context())
	must(t, err)
	if me.GetEnvironment() != "demo" {
		t.Errorf("environment %q", me.GetEnvironment())
	}
	if service.tokens[0] != "" || service.tokens[1] != "Bearer tok" {
		t.Errorf("tokens %q: none belongs on OpenSession, and the session's on WhoAmI", service.tokens)
	}
	if !contains(service.agents[0], "test/1") {
		t.Errorf("user agent %q", service.agents[0])
	}
	if len(service.certificates) != 1 || service.certificates[0].Subject.CommonName != "ci" {
		t.Errorf("client certificates %v", service.certificates)
	}
	if _, err := c.OpenSession(t.Context(), Password{UserName: "ada", Password: "wrong"}); !errors.Is(err, BadCredentials) {
		t.Errorf("a wrong password gives %v", err)
	}
}

func TestDialRefuses(t *testing.T) {
	register := func(s *grpc.Server) { signetv1.RegisterSessionServiceServer(s, &sessions{}) }
	who := func(t *testing.T, address string, ca *authority, change func(*Options)) error {
		_, err := dial(t, address, ca, change).WhoAmI(t.Context())
		return err
	}
	t.Run("TLS 1.2", func(t *testing.T) {
		address, ca := serve(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, register)
		if err := who(t, address, ca, nil); !errors.Is(err, HandshakeFailed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another CA", func(t *testing.T) {
		address, _ := serve(t, nil, register)
		if err := who(t, address, newAuthority(t), nil); !errors.Is(err, HandshakeFailed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another name", func(t *testing.T) {
		address, ca := serve(t, nil, register)
		if err := who(t, address, ca, func(o *Options) { o.ServerName = "other.example" }); !errors.Is(err, HandshakeFailed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		address := l.Addr().String()
		must(t, l.Close())
		if err := who(t, address, newAuthority(t), nil); !errors.Is(err, Unreachable) {
			t.Errorf("got %v", err)
		}
	})
	for _, target := range []string{"", "localhost", ":7443", "localhost:", "https://localhost:7443", "dns:///localhost:7443", "a b:1"} {
		if _, err := Dial(target, Options{}); !errors.Is(err, ErrTarget) {
			t.Errorf("target %q gives %v", target, err)
		}
	}
	if _, err := Dial("localhost:1", Options{CA: []byte("no PEM")}); err == nil {
		t.Error("a CA file without certificates is taken")
	}
	if _, err := Dial("localhost:1", Options{CA: newAuthority(t).pem, Roots: x509.NewCertPool()}); err == nil {
		t.Error("two sources of CAs are taken")
	}
}
