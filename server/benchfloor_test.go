package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/servertest"
)

// A floor is a server that does nothing but what no server can do without: it makes the signatures, each verified, and answers with as
// many bytes as the real one. What stands between its rate and that of the real server is ours.
type floor struct {
	signetv1.UnimplementedSigningServiceServer

	keys   *keystore.Store
	key    keystore.Key
	answer atomic.Pointer[signetv1.SealResponse]
	token  []byte
}

func (f *floor) sign(ctx context.Context) error {
	message := make([]byte, 64)
	rand.Read(message)
	_, err := f.keys.Sign(ctx, f.key.ID, f.key.Public, message)
	return err
}

// Seal signs twice, like a seal and its time-stamp.
func (f *floor) Seal(ctx context.Context, _ *signetv1.SealRequest) (*signetv1.SealResponse, error) {
	for range 2 {
		if err := f.sign(ctx); err != nil {
			return nil, err
		}
	}
	return f.answer.Load(), nil
}

// ServeHTTP signs once, like a time-stamp.
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := f.sign(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(f.token)
}

func floorListener(b *testing.B, s *servertest.Server) (net.Listener, tls.Certificate) {
	b.Helper()
	pair, err := tls.LoadX509KeyPair(s.Config.Path(s.Config.Listen.Certificate), s.Config.Path(s.Config.Listen.Key))
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l, pair
}

// sealFloor starts the floor of a seal, and returns its address.
func (f *floor) sealFloor(b *testing.B, s *servertest.Server) string {
	l, pair := floorListener(b, s)
	g := grpc.NewServer(grpc.NumStreamWorkers(64), grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert,
	})))
	signetv1.RegisterSigningServiceServer(g, f)
	grpc_health_v1.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(l) }()
	b.Cleanup(g.Stop)
	return l.Addr().String()
}

// tokenFloor starts the floor of a time-stamp, and returns its address.
func (f *floor) tokenFloor(b *testing.B, s *servertest.Server) string {
	l, pair := floorListener(b, s)
	h := &http.Server{Handler: f}
	go func() {
		_ = h.Serve(tls.NewListener(l, &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"},
		}))
	}()
	b.Cleanup(func() { _ = h.Close() })
	return "https://" + l.Addr().String()
}

// sealOnce makes one seal of the real server: the floor answers with it.
func (f *floor) sealOnce(b *testing.B, conn grpc.ClientConnInterface, record string) {
	b.Helper()
	answer, err := signetv1.NewSigningServiceClient(conn).Seal(b.Context(), &signetv1.SealRequest{Record: record, Meaning: "evidence-seal"})
	if err != nil {
		b.Fatal(err)
	}
	f.answer.Store(answer)
}

// stampOnce takes one time-stamp from the real server: the floor answers with it.
func (f *floor) stampOnce(b *testing.B, s *servertest.Server) {
	b.Helper()
	pem, err := os.ReadFile(s.Config.Path(s.Config.Listen.Certificate))
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
	defer transport.CloseIdleConnections()
	query, err := benchQuery()
	if err != nil {
		b.Fatal(err)
	}
	reply, err := (&http.Client{Transport: transport}).Post("https://"+s.WebAddress()+"/tsa", "application/timestamp-query", bytes.NewReader(query))
	if err != nil {
		b.Fatal(err)
	}
	defer reply.Body.Close()
	if f.token, err = io.ReadAll(reply.Body); err != nil {
		b.Fatal(err)
	}
}
