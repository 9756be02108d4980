package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/web"
)

// openPages opens the listener of the signing pages, where one is configured.
func (s *Server) openPages() error {
	c := s.config.Pages
	if c.Address == "" {
		return nil
	}
	certificate, key := c.Certificate, c.Key
	if certificate == "" {
		certificate, key = s.config.Listen.Certificate, s.config.Listen.Key
	}
	pair, err := tls.LoadX509KeyPair(s.config.Path(certificate), s.config.Path(key))
	if err != nil {
		return fmt.Errorf("%w: pages: %w", ErrConfig, err)
	}
	local := newLocalConn(s.gate)
	signetv1.RegisterSigningServiceServer(local, signingService{Server: s})
	signetv1.RegisterRecordServiceServer(local, recordService{Server: s})
	signetv1.RegisterSignerServiceServer(local, signerService{Server: s})
	signetv1.RegisterSessionServiceServer(local, sessionService{Server: s})
	signetv1.RegisterCredentialServiceServer(local, credentialService{Server: s})
	pages, err := web.New(web.Config{
		Conn: local, Context: pageContext, Origin: c.Origin(), RPID: c.RPID(), Organisation: s.config.Organisation, Environment: s.config.Environment,
		Version: s.version, Accountability: identity.AccountabilityText, Clock: s.clock, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	l, err := net.Listen("tcp", c.Address)
	if err != nil {
		return fmt.Errorf("pages: %w; is another server running? change pages.address", err)
	}
	s.pagesAddress = l.Addr().String()
	s.doors.listeners = append(s.doors.listeners, tls.NewListener(s.door(l, "pages", s.network.web), &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"},
	}))
	s.doors.servers = append(s.doors.servers, &http.Server{
		Handler: s.webHandler(pages, webTurns(callLimit)), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: callLimit + 10*time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ConnState: doorState, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	})
	s.log.Info("pages", "address", s.pagesAddress, "url", c.Origin())
	return nil
}

// PagesAddress is where the server answers browsers; empty where it does not.
func (s *Server) PagesAddress() string { return s.pagesAddress }

// pageContext is the context of the calls that a page makes for a browser's request: the browser's own address and device, and the
// session of its cookie.
func pageContext(r *http.Request, session string) context.Context {
	from := webSource(r)
	md := metadata.Pairs("user-agent", from.Device)
	if session != "" {
		md.Set("authorization", "Bearer "+session)
	}
	at := &net.TCPAddr{}
	if ip, err := netip.ParseAddr(from.Address); err == nil {
		at = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	}
	return peer.NewContext(metadata.NewIncomingContext(r.Context(), md), &peer.Peer{Addr: at})
}

// page is where a preparation is signed in a browser; empty where there are no pages.
func (c PagesConfig) page(preparation string) string {
	if c.Origin() == "" {
		return ""
	}
	return c.Origin() + "/preparations/" + preparation
}
