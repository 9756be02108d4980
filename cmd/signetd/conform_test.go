package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json/v2"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/conform"
)

// TestConformCommand checks a running service that nobody has set up for alerts: the report is there, says so, and the exit code does.
func TestConformCommand(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := initService(t)
	c := s.serve()
	defer s.stop(c)
	s.enrol()
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "report")
	for _, wrong := range [][]string{{"conform", "--config", s.config()}, {"conform", "--config", s.config(), "--user", "grace", "--to", t.TempDir(), "--password-file", secret}} {
		if _, _, code := run(t, wrong...); code != 2 {
			t.Errorf("%v: %d", wrong, code)
		}
	}
	out, stderr, code := run(t, "conform", "--config", s.config(), "--user", "grace", "--password-file", secret, "--to", to)
	if code != 3 || !strings.Contains(out, "Report: ") || !strings.Contains(stderr, "does not do what it should") {
		t.Errorf("%d, %s%s", code, out, stderr)
	}
	b, err := os.ReadFile(filepath.Join(to, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report conform.Report
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	for _, k := range report.Checks {
		if (k.Verdict == conform.Failed) != (k.ID == "alerts") {
			t.Errorf("%s: %s, %v", k.ID, k.Verdict, k.Seen)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(to), ".signet-conform-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if page, err := os.ReadFile(filepath.Join(to, "index.html")); err != nil || strings.Contains(string(page), password) || !strings.Contains(string(page), "nobody is told") {
		t.Errorf("the page: %v", err)
	}
}

// TestConformUnderAnotherName: the certificate of a service that others reach under its public name need not know the machine's.
func TestConformUnderAnotherName(t *testing.T) {
	const proxied = "a name, behind a proxy on this machine"
	folder := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, template := range map[string]x509.Certificate{
		"a name":          {DNSNames: []string{"sign.example"}},
		"many names":      {DNSNames: []string{"*.sign.example"}},
		"another address": {IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}},
		proxied:           {DNSNames: []string{"sign.example"}},
		"its own":         {DNSNames: []string{"sign.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
			der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			c := server.DefaultConfig()
			c.Listen.Certificate = filepath.Join(folder, "server.pem")
			if err := os.WriteFile(c.Listen.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if name == proxied {
				c.Network.ProxyProtocol, c.Network.TrustedProxies = true, []string{"127.0.0.0/8"}
				l = insists{l, t}
			}
			g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})))
			grpc_health_v1.RegisterHealthServer(g, health.NewServer())
			go func() { _ = g.Serve(l) }()
			defer g.Stop()
			c.Listen.Address, c.Pages.Address = l.Addr().String(), "0.0.0.0:9443"
			var o conform.Options
			done, err := conformDial(c, &o)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			conn, err := o.Dial()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
				t.Error(err)
			}
			if err := o.OldTLS(t.Context(), l.Addr().String()); err == nil || !strings.Contains(err.Error(), "protocol version") {
				t.Errorf("TLS 1.2: %v", err)
			}
			if !slices.Equal(o.Listeners, []string{l.Addr().String(), "localhost:9443"}) {
				t.Errorf("listeners: %q", o.Listeners)
			}
		})
	}
}

// insists is a listener whose connections begin with the header of a proxy that speaks for itself.
type insists struct {
	net.Listener
	t *testing.T
}

func (l insists) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	header := make([]byte, 16)
	if _, err := io.ReadFull(conn, header); err != nil || string(header) != "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" {
		l.t.Errorf("the header %q: %v", header, err)
	}
	return conn, nil
}
