package signet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// MaxManifest is how large a manifest file may be, in bytes (formats.md, bounds).
const MaxManifest = manifest.MaxManifest

// maxMessage is how large one answer may be: a page of signatures with their proofs fits several times.
const maxMessage = 16 << 20

// Options say how to reach a server and as whom. The zero value trusts the system's CAs and calls as nobody.
type Options struct {
	// CA holds the PEM certificates of the CAs that may vouch for the server. Empty: Roots.
	CA []byte
	// Roots are the CAs that may vouch for the server. Nil, and no CA: the system's.
	Roots *x509.CertPool
	// ServerName is the name to look for in the server's certificate. Empty: that of the target.
	ServerName string
	// Certificate authenticates a service (mutual TLS). Nil: no client certificate.
	Certificate *tls.Certificate
	// Token gives the session's bearer token for each call. Nil, or an empty token: calls carry none.
	Token TokenSource
	// UserAgent names the program, for example "signet/v0.1.0".
	UserAgent string
	// Trust, where given, has Sign and Seal prove each signature to pinned anchors. Nil: what needs no anchor is proved.
	Trust *manifest.Trust
	// Timeout bounds each call that has no deadline of its own, its repetitions included. 0: no bound. The stream of
	// [Client.Entries] is not bounded.
	Timeout time.Duration
	// Retry bounds how often and how fast a safe call is repeated. The zero value means [DefaultRetry].
	Retry Retry
	// Dialer opens the connection below TLS, for tests and for proxies. Nil: TCP.
	Dialer func(ctx context.Context, address string) (net.Conn, error)
}

// TokenSource gives the bearer token of the session. It is asked for each call, so that a renewed session is used at once.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken is a source that always gives the same token.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// Retry bounds the repetition of safe calls.
type Retry struct {
	// Attempts is how often a call is made at the most, the first included. 1: never repeated.
	Attempts int
	// First is the wait after the first failure; it doubles with each further one. A random part of up to half is taken off.
	First time.Duration
	// Max is the longest wait. A server that asks for more is not waited for.
	Max time.Duration
}

// DefaultRetry repeats for about three seconds: long enough for a restart behind a load balancer, too short to be noticed as a hang.
var DefaultRetry = Retry{Attempts: 5, First: 200 * time.Millisecond, Max: 2 * time.Second}

// Client is a connection to one server. Close it when done.
type Client struct {
	conn    *grpc.ClientConn
	retry   Retry
	timeout time.Duration
	trust   *manifest.Trust
	target  string

	sessions  signetv1.SessionServiceClient
	signers   signetv1.SignerServiceClient
	proposals signetv1.ProposalServiceClient
	keys      signetv1.KeyServiceClient
	records   signetv1.RecordServiceClient
	signing   signetv1.SigningServiceClient
	ledger    signetv1.LedgerServiceClient
	stamps    signetv1.TimestampServiceClient
	own       signetv1.CredentialServiceClient
}

// ErrTarget is wrapped by errors about an address that can't be dialled.
var ErrTarget = errors.New("server address is not usable")

// Dial makes a client for a server at target, `host:port`. It does not connect yet: the first call does, so a server that is not there is
// reported by that call, as [Unreachable].
func Dial(target string, o Options) (*Client, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil || host == "" || port == "" || strings.ContainsAny(target, "/ \t") {
		return nil, fmt.Errorf("%w: %q; give it as host:port, for example sign.example:7443", ErrTarget, target)
	}
	config, err := o.tls(host)
	if err != nil {
		return nil, err
	}
	c := &Client{retry: o.Retry.orDefault(), timeout: o.Timeout, trust: o.Trust, target: target}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithChainUnaryInterceptor(c.unary, restoreUnary),
		grpc.WithChainStreamInterceptor(restoreStream),
		grpc.WithDisableServiceConfig(),
	}
	if o.UserAgent != "" {
		options = append(options, grpc.WithUserAgent(o.UserAgent))
	}
	if o.Token != nil {
		options = append(options, grpc.WithPerRPCCredentials(bearer{o.Token}))
	}
	scheme := "dns:///"
	if o.Dialer != nil {
		scheme = "passthrough:///"
		options = append(options, grpc.WithContextDialer(o.Dialer))
	}
	c.conn, err = grpc.NewClient(scheme+target, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	c.sessions = signetv1.NewSessionServiceClient(c.conn)
	c.signers = signetv1.NewSignerServiceClient(c.conn)
	c.proposals = signetv1.NewProposalServiceClient(c.conn)
	c.records = signetv1.NewRecordServiceClient(c.conn)
	c.signing = signetv1.NewSigningServiceClient(c.conn)
	c.keys = signetv1.NewKeyServiceClient(c.conn)
	c.ledger = signetv1.NewLedgerServiceClient(c.conn)
	c.stamps = signetv1.NewTimestampServiceClient(c.conn)
	c.own = signetv1.NewCredentialServiceClient(c.conn)
	return c, nil
}

// Close ends the connection. Calls that are under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Target is the address that was dialled.
func (c *Client) Target() string { return c.target }

// Conn is the connection itself, for generated stubs: they get the same typed errors and retries.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// tls is the configuration of the connection: TLS 1.3 and nothing older.
func (o Options) tls(host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: o.Roots, ServerName: o.ServerName}
	if config.ServerName == "" {
		config.ServerName = host
	}
	if len(o.CA) > 0 {
		if o.Roots != nil {
			return nil, errors.New("give either CA or Roots, not both")
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("the CA file holds no PEM certificate")
		}
	}
	if o.Certificate != nil {
		config.Certificates = []tls.Certificate{*o.Certificate}
	}
	return config, nil
}

// withoutSession are the calls that never carry a token: they are how one comes by it.
var withoutSession = map[string]bool{
	signetv1.SessionService_OpenSession_FullMethodName:     true,
	signetv1.SignerService_RedeemEnrollment_FullMethodName: true,
}

// bearer puts the session's token on each call.
type bearer struct{ source TokenSource }

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if info, ok := credentials.RequestInfoFromContext(ctx); ok && withoutSession[info.Method] {
		return nil, nil
	}
	token, err := b.source(ctx)
	if err != nil || token == "" {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity keeps the token off connections without TLS.
func (bearer) RequireTransportSecurity() bool { return true }
