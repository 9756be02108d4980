package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	validateinterceptor "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/protovalidate"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/identity"
)

// gate stands before every method: it knows the caller, and lets in who the table lets in.
type gate struct {
	server     *Server
	identities *identity.Directory
	calls      *callMeters
	log        *slog.Logger
	unary      grpc.UnaryServerInterceptor // validation of messages
	stream     grpc.StreamServerInterceptor
	recovered  recovery.Option
}

func newGate(s *Server) (*gate, error) {
	log := s.log
	v, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("rules of the messages: %w", err)
	}
	return &gate{
		server: s, identities: s.identities, calls: s.calls, log: log,
		unary:  validateinterceptor.UnaryServerInterceptor(v),
		stream: validateinterceptor.StreamServerInterceptor(v),
		recovered: recovery.WithRecoveryHandlerContext(func(ctx context.Context, p any) error {
			log.ErrorContext(ctx, "panic", "value", fmt.Sprint(p), "stack", string(debug.Stack()))
			return errPanic
		}),
	}, nil
}

var errPanic = errors.New("panic")

// options are the interceptors in their order: log and map errors, recover, know the caller, validate.
func (g *gate) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(g.unaryChain()...),
		grpc.ChainStreamInterceptor(g.streamChain()...),
	}
}

// unaryChain is what every call passes, also one that a signing page makes.
func (g *gate) unaryChain() []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{g.reportUnary, recovery.UnaryServerInterceptor(g.recovered), g.admitUnary, g.unary}
}

func (g *gate) streamChain() []grpc.StreamServerInterceptor {
	return []grpc.StreamServerInterceptor{g.reportStream, recovery.StreamServerInterceptor(g.recovered), g.admitStream, g.stream}
}

func (g *gate) reportUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	reply, err := next(ctx, req)
	err = toStatus(ctx, g.log, info.FullMethod, err)
	g.record(ctx, info.FullMethod, start, err)
	return reply, err
}

func (g *gate) reportStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	start := time.Now()
	err := toStatus(ss.Context(), g.log, info.FullMethod, next(srv, ss))
	g.record(ss.Context(), info.FullMethod, start, err)
	return err
}

// record counts the call, and logs it without its content.
func (g *gate) record(ctx context.Context, method string, start time.Time, err error) {
	g.calls.add(method, status.Code(err), time.Since(start))
	if !g.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	g.log.DebugContext(ctx, "call", "method", method, "code", status.Code(err).String(), "duration", time.Since(start), "peer", source(ctx).Address)
}

// callLimit ends a call whose caller has set no deadline: an HSM that hangs would hold it for ever.
const callLimit = 2 * time.Minute

func (g *gate) admitUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	return next(ctx, req)
}

func (g *gate) admitStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := g.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &admittedStream{ss, ctx})
}

type admittedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *admittedStream) Context() context.Context { return s.ctx }

// admit knows the caller and holds them against the table: who may call what, from where, how often. A refusal of a known caller is an
// entry in the ledger.
func (g *gate) admit(ctx context.Context, method string) (context.Context, error) {
	rule, ok := accessTable[method]
	if strings.HasPrefix(method, healthMethods) { // asked by whoever balances the load
		return ctx, nil
	}
	if err := g.server.rates.takeAny(); err != nil {
		return nil, err
	}
	src := source(ctx)
	if ok && rule.public {
		return ctx, g.fromPeople(ctx, method, src)
	}
	token, err := bearer(ctx)
	if err != nil {
		return nil, err
	}
	certificate, above := clientCertificate(ctx)
	if token == "" && certificate == nil {
		return nil, errNotAuthenticated
	}
	caller, err := g.identities.Authenticate(ctx, token, certificate, src, above...)
	if errors.Is(err, identity.ErrNetwork) {
		return nil, errors.Join(err, g.server.refuse(ctx, caller, src, method, refusedNetwork))
	}
	if err != nil {
		return nil, err
	}
	if caller.Kind == chain.Service {
		err = g.fromService(ctx, caller, method, src)
	} else {
		err = g.fromPeople(ctx, method, src)
	}
	if err != nil {
		return nil, err
	}
	if !ok || !rule.allows(caller) {
		if err := g.denied(ctx, caller, src, method, "role"); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", errDenied, needed(rule))
	}
	if err := passwordHolds(caller, method); err != nil {
		return nil, err
	}
	return context.WithValue(ctx, callerKey{}, caller), nil
}

const healthMethods = "/grpc.health.v1.Health/"

// denied records a refused call: of a person each one, of a service within bounds.
func (g *gate) denied(ctx context.Context, c identity.Caller, src identity.Source, method, why string) error {
	if c.Kind == chain.Service {
		return g.server.refuse(ctx, c, src, method, why)
	}
	return g.identities.Denied(ctx, c, method, why)
}

// fromPeople refuses who calls from a network that people may not call from.
func (g *gate) fromPeople(ctx context.Context, method string, src identity.Source) error {
	if identity.Within(g.server.network.people, src.Address) {
		return nil
	}
	return errors.Join(identity.ErrNetwork, g.server.refuse(ctx, identity.Caller{}, src, method, refusedNetwork))
}

// fromService holds a service against its rights.
func (g *gate) fromService(ctx context.Context, c identity.Caller, method string, src identity.Source) error {
	if err := g.server.rates.takeService(c); err != nil {
		return err
	}
	if !identity.Within(g.server.network.services, src.Address) {
		return errors.Join(identity.ErrNetwork, g.server.refuse(ctx, c, src, method, refusedNetwork))
	}
	if !c.Terms.Calls(method) {
		if err := g.server.refuse(ctx, c, src, method, "rights"); err != nil {
			return err
		}
		return fmt.Errorf("%w: it may not call %s", identity.ErrServiceDenied, method)
	}
	return nil
}

func needed(rule access) string {
	if len(rule.roles) == 0 {
		return "nobody may"
	}
	names := make([]string, len(rule.roles))
	for i, r := range rule.roles {
		names[i] = string(r)
	}
	return "it needs the role " + strings.Join(names, " or ")
}

type callerKey struct{}

// caller is who was admitted. A method that is not public has one.
func caller(ctx context.Context) identity.Caller {
	c, _ := ctx.Value(callerKey{}).(identity.Caller)
	return c
}

// bearer returns the session token of a call; empty without one.
func bearer(ctx context.Context) (identity.Secret, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return "", nil
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", fmt.Errorf("%w: send one `authorization: Bearer …`", errNotAuthenticated)
	}
	return identity.Secret(token), nil
}

// clientCertificate is the certificate of who calls, whose key they have proved to have, and what they sent above it.
func clientCertificate(ctx context.Context) (certificate *x509.Certificate, above []*x509.Certificate) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil, nil
	}
	return info.State.PeerCertificates[0], info.State.PeerCertificates[1:]
}

// source is where a call comes from, as the transport says.
func source(ctx context.Context) identity.Source {
	var s identity.Source
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		s.Address = p.Addr.String()
		if host, _, err := net.SplitHostPort(s.Address); err == nil {
			s.Address = host
		}
	}
	if agent := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(agent) > 0 {
		s.Device = agent[0]
	}
	return s
}
