package signet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// authority is a CA for the TLS of tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{c, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate for a name.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve starts a server on a socket of its own and returns its address and CA.
func serve(t *testing.T, change func(*tls.Config), register func(*grpc.Server)) (address string, ca *authority) {
	t.Helper()
	ca = newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "localhost")}}
	if change != nil {
		change(config)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	register(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	must(t, err)
	return "localhost:" + port, ca
}

// dial makes a client that trusts the CA and does not wait long between attempts.
func dial(t *testing.T, address string, ca *authority, change func(*Options)) *Client {
	t.Helper()
	o := Options{CA: ca.pem, Retry: Retry{Attempts: 3, First: time.Millisecond, Max: 2 * time.Millisecond}, Timeout: time.Minute}
	if change != nil {
		change(&o)
	}
	c, err := Dial(address, o)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// refusal is an error as the server makes it.
func refusal(code codes.Code, reason Reason, message string, after time.Duration) error {
	details := []protoadapt.MessageV1{}
	add := func(m protoadapt.MessageV1) { details = append(details, m) }
	if reason != "" {
		add(&errdetails.ErrorInfo{Reason: string(reason), Domain: Domain, Metadata: map[string]string{"key": "value"}})
	}
	if after != 0 {
		add(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	s, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return s.Err()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
