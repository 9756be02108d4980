package servertest

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// DialFrom connects from an address of the loopback network, such as 127.0.0.7: to the server it is another network.
func (s *Server) DialFrom(address string) *grpc.ClientConn {
	s.t.Helper()
	host, _, _ := net.SplitHostPort(s.Address)
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := grpc.NewClient("passthrough:///"+s.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: s.roots, ServerName: host,
	})), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return from.DialContext(ctx, "tcp4", address)
	}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}
