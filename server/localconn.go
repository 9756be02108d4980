package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// localConn is a connection to the server's own services: what the signing pages call. A call passes the same chain as one that came over
// gRPC, from the access table to the rules of the messages, so the pages can do nothing that a client cannot. It offers unary calls and
// server streams.
type localConn struct {
	unary   map[string]localMethod
	streams map[string]localStream
	calls   []grpc.UnaryServerInterceptor
	flows   []grpc.StreamServerInterceptor
}

type localMethod struct {
	service any
	handler grpc.MethodHandler
}

type localStream struct {
	service any
	desc    grpc.StreamDesc
}

func newLocalConn(g *gate) *localConn {
	return &localConn{unary: map[string]localMethod{}, streams: map[string]localStream{}, calls: g.unaryChain(), flows: g.streamChain()}
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *localConn) RegisterService(desc *grpc.ServiceDesc, service any) {
	for _, m := range desc.Methods {
		c.unary["/"+desc.ServiceName+"/"+m.MethodName] = localMethod{service, m.Handler}
	}
	for _, s := range desc.Streams {
		if s.ServerStreams && !s.ClientStreams {
			c.streams["/"+desc.ServiceName+"/"+s.StreamName] = localStream{service, s}
		}
	}
}

// Invoke implements grpc.ClientConnInterface. The context says who calls, as an incoming one does.
func (c *localConn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := c.unary[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "%s cannot be called from a page", method)
	}
	out, err := m.handler(m.service, ctx, func(in any) error { return copyMessage(in, args) }, c.intercept)
	if err != nil {
		return err
	}
	return copyMessage(reply, out)
}

// intercept runs the chain, the first interceptor outermost.
func (c *localConn) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	for i := len(c.calls) - 1; i >= 0; i-- {
		inner, interceptor := handler, c.calls[i]
		handler = func(ctx context.Context, req any) (any, error) { return interceptor(ctx, req, info, inner) }
	}
	return handler(ctx, req)
}

func copyMessage(to, from any) error {
	t, ok := to.(proto.Message)
	f, also := from.(proto.Message)
	if !ok || !also || t.ProtoReflect().Descriptor() != f.ProtoReflect().Descriptor() {
		return status.Errorf(codes.Internal, "%T is not %T", from, to)
	}
	proto.Reset(t)
	proto.Merge(t, f)
	return nil
}

// NewStream implements grpc.ClientConnInterface for server streams.
func (c *localConn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	s, ok := c.streams[method]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "%s cannot be called from a page", method)
	}
	return &localFlow{ctx: ctx, conn: c, method: method, stream: s, replies: make(chan proto.Message), failed: make(chan error, 1)}, nil
}

// localFlow is one server stream, seen from the side that reads.
type localFlow struct {
	ctx     context.Context
	conn    *localConn
	method  string
	stream  localStream
	request proto.Message
	replies chan proto.Message
	failed  chan error
}

var errLocalFlow = errors.New("a server stream takes one message")

// SendMsg takes the request.
func (f *localFlow) SendMsg(m any) error {
	in, ok := m.(proto.Message)
	if !ok || f.request != nil {
		return errLocalFlow
	}
	f.request = proto.Clone(in)
	return nil
}

// CloseSend runs the method. It ends with the context of the call at the latest: nobody reads for longer.
func (f *localFlow) CloseSend() error {
	if f.request == nil {
		return errLocalFlow
	}
	info := &grpc.StreamServerInfo{FullMethod: f.method, IsServerStream: true}
	handler := f.stream.desc.Handler
	for i := len(f.conn.flows) - 1; i >= 0; i-- {
		inner, interceptor := handler, f.conn.flows[i]
		handler = func(srv any, ss grpc.ServerStream) error { return interceptor(srv, ss, info, inner) }
	}
	go func() {
		defer close(f.replies)
		f.failed <- handler(f.stream.service, &localSender{f, f.ctx})
	}()
	return nil
}

// RecvMsg reads the next reply; io.EOF after the last.
func (f *localFlow) RecvMsg(m any) error {
	if reply, ok := <-f.replies; ok {
		return copyMessage(m, reply)
	}
	select {
	case err := <-f.failed:
		if err != nil {
			return err
		}
	default:
	}
	return io.EOF
}

// Header, Trailer and Context complete grpc.ClientStream.
func (f *localFlow) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (f *localFlow) Trailer() metadata.MD         { return metadata.MD{} }
func (f *localFlow) Context() context.Context     { return f.ctx }

// localSender is the same stream, seen from the method.
type localSender struct {
	flow *localFlow
	ctx  context.Context
}

func (s *localSender) Context() context.Context     { return s.ctx }
func (s *localSender) SetHeader(metadata.MD) error  { return nil }
func (s *localSender) SendHeader(metadata.MD) error { return nil }
func (s *localSender) SetTrailer(metadata.MD)       {}

func (s *localSender) RecvMsg(m any) error { return copyMessage(m, s.flow.request) }

func (s *localSender) SendMsg(m any) error {
	reply, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", m)
	}
	select {
	case s.flow.replies <- proto.Clone(reply):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
