package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/signetd/signet/server/internal/identity"
)

// passing is an error of a listener that goes on afterwards, such as too many open files.
type passing struct{ error }

func (passing) Temporary() bool { return true }

// erring is a listener that fails before each connection.
type erring struct {
	net.Listener
	errs chan error
}

func (l *erring) Accept() (net.Conn, error) {
	if err, ok := <-l.errs; ok {
		return nil, err
	}
	return l.Listener.Accept()
}

// TestDoorGoesOn: a listener that fails for a moment is listened to again; one that is closed is not, and says so to all who wait.
func TestDoorGoesOn(t *testing.T) {
	d := newDoorstep(t, roomy(), nil)
	errs := make(chan error, 2)
	errs <- passing{errors.New("too many open files")}
	errs <- passing{errors.New("too many open files")}
	close(errs)
	d.Listener = &erring{d.Listener, errs}
	for range 2 {
		if _, err := d.Accept(); err == nil || errors.Is(err, net.ErrClosed) {
			t.Fatalf("got %v", err)
		}
	}
	if _, near, why := d.arrive("192.0.2.1:1", nil); near == nil {
		t.Fatalf("nobody is let in any more: %q", why)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDoorstep(t, roomy(), nil)
		errs := make(chan error, 2)
		errs <- errors.New("broken") // for good: it is not asked again and again
		errs <- errors.New("again")
		d.Listener = &erring{d.Listener, errs}
		if _, err := d.Accept(); err == nil || err.Error() != "broken" {
			t.Errorf("broken: %v", err)
		}
		if synctest.Wait(); len(errs) != 1 {
			t.Error("it was asked again")
		}
	})
}

// timedConn notes its deadlines.
type timedConn struct {
	net.Conn
	deadlines chan time.Time
}

func (c timedConn) SetReadDeadline(at time.Time) error {
	c.deadlines <- at
	return c.Conn.SetReadDeadline(at)
}

// TestCrowdBehindAProxy: who comes through a proxy counts under an address of their own, and the proxy under none.
func TestCrowdBehindAProxy(t *testing.T) {
	header := func(from string) []byte { return proxyHeader(0x21, 0x11, netip.MustParseAddrPort(from)) }
	c := roomy()
	c.TrustedProxies, c.ProxyProtocol, c.PerAddress, c.HandshakesPerAddress, c.Connections, c.Handshakes = []string{"10.0.0.1"}, true, 3, 2, 100, 6
	d := newDoorstep(t, c, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	var in []*doorConn
	for i, from := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2"} {
		_, near, why := d.arrive("10.0.0.1:1", header(from))
		if why != "" {
			t.Fatalf("%d: %q", i, why)
		}
		in = append(in, near)
	}
	if _, _, why := d.arrive("10.0.0.1:1", header("192.0.2.1:3")); why != refusedHandshakes {
		t.Errorf("a third handshake of one caller: %q", why)
	}
	d.grown(in[0])
	d.grown(in[1])
	if _, _, why := d.arrive("10.0.0.1:1", header("192.0.2.1:3")); why != "" {
		t.Errorf("when the two are done: %q", why)
	}
	if _, _, why := d.arrive("10.0.0.1:1", header("192.0.2.1:4")); why != refusedAddress {
		t.Errorf("a fourth connection of one caller: %q", why)
	}
	for i := range 3 { // beside the three that have not finished theirs
		if _, _, why := d.arrive("10.0.0.1:1", header("192.0.2.1"+strconv.Itoa(i)+":1")); why != "" {
			t.Errorf("%d: %q", i, why)
		}
	}
	if _, _, why := d.arrive("10.0.0.1:1", nil); why != refusedHandshakes {
		t.Errorf("a seventh handshake: %q", why)
	}
	in[2].Close() // before its handshake is done
	d.grown(in[2])
	d.mu.Lock()
	if d.total != (crowd{7, 5}) || d.addresses[neighbourhood(netip.MustParseAddr("10.0.0.1"))] != (crowd{}) || d.addresses[neighbourhood(netip.MustParseAddr("192.0.2.2"))] != (crowd{1, 1}) {
		t.Errorf("%+v %+v", d.total, d.addresses)
	}
	d.mu.Unlock()
	t.Run("itself", func(t *testing.T) {
		d := newDoorstep(t, c, nil)
		for i := range 4 { // more than one address may have
			if _, _, why := d.arrive("10.0.0.1:1", proxyHeader(0x20, 0, netip.AddrPort{})); why != "" {
				t.Errorf("%d: %q", i, why)
			}
		}
	})
	t.Run("that is slow", func(t *testing.T) {
		far, near := net.Pipe()
		defer far.Close()
		deadlines := make(chan time.Time, 2)
		d.start.Do(func() { go d.accept() })
		before := time.Now()
		d.conns <- timedConn{memoryConn{near, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:1"))}, deadlines}
		if at := <-deadlines; at.Before(before) || at.After(time.Now().Add(proxyTimeout)) {
			t.Errorf("its header is waited for until %v", at)
		}
		if _, err := far.Write(header("192.0.2.30:1")); err != nil {
			t.Fatal(err)
		}
		if at := <-deadlines; !at.IsZero() {
			t.Errorf("and then the connection ends at %v", at)
		}
		a := <-d.open
		a.conn.Close()
	})
}

// TestProxyHeaderBounds is about headers that are right but for one thing.
func TestProxyHeaderBounds(t *testing.T) {
	from := netip.MustParseAddrPort("192.0.2.7:1234")
	good := proxyHeader(0x21, 0x11, from, make([]byte, maxProxyTail-12)...)
	if a, err := readProxyHeader(bytes.NewReader(good)); err != nil || a != from {
		t.Errorf("the longest: %v, %v", a, err)
	}
	for what, b := range map[string][]byte{
		"a byte longer": proxyHeader(0x21, 0x11, from, make([]byte, maxProxyTail-11)...), "IPv4 too short": append([]byte(proxySignature), 0x21, 0x11, 0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
	} {
		if a, err := readProxyHeader(bytes.NewReader(b)); !errors.Is(err, errProxyHeader) {
			t.Errorf("%s: %v, %v", what, a, err)
		}
	}
	for i := range 12 {
		b := slices.Clone(good)
		b[i] ^= 1
		if a, err := readProxyHeader(bytes.NewReader(b)); !errors.Is(err, errProxyHeader) {
			t.Errorf("byte %d of the signature: %v, %v", i, a, err)
		}
	}
}

// TestForwardedBounds: no more than so many addresses are looked at, and where the peer is no address nobody is believed.
func TestForwardedBounds(t *testing.T) {
	n, err := newNetwork(NetworkConfig{TrustedProxies: []string{"10.0.0.0/8"}, Allow: AllowConfig{Web: []string{"192.0.2.0/24"}}})
	if err != nil {
		t.Fatal(err)
	}
	through := func(proxies int) []string { return []string{"192.0.2.7" + strings.Repeat(", 10.0.0.2", proxies)} }
	for _, tc := range []struct {
		peer   string
		header []string
		want   string
	}{
		{"10.0.0.1:1", through(maxForwarded - 1), "192.0.2.7"}, {"10.0.0.1:1", through(maxForwarded), "10.0.0.2"},
		{"10.0.0.1", through(0), "192.0.2.7"}, {"@", through(0), "@"},
	} {
		if got, err := n.forwarded(tc.peer, tc.header); err != nil || got != tc.want {
			t.Errorf("%s, %d bytes: %s, %v", tc.peer, len(tc.header[0]), got, err)
		}
	}
	s := &Server{network: n, log: slog.New(slog.DiscardHandler), refusals: newRefusals(time.Now)}
	for _, tc := range []struct {
		header  string
		code    int
		refused int
	}{{"192.0.2.7", 0, 0}, {"rubbish", http.StatusBadRequest, 0}, {"198.51.100.1", http.StatusForbidden, 1}} {
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		w.Code = 0
		r.RemoteAddr = "10.0.0.1:1"
		r.Header.Set("X-Forwarded-For", tc.header)
		before := s.refusedConnections.Load()
		got, ok := s.sourced(w, r)
		if ok != (tc.code == 0) || w.Code != tc.code || int(s.refusedConnections.Load()-before) != tc.refused {
			t.Errorf("%s: %v, %d %s", tc.header, ok, w.Code, w.Body)
		}
		if address, _ := got.Context().Value(sourceKey{}).(string); ok && address != tc.header {
			t.Errorf("%s: the request comes from %q", tc.header, address)
		}
	}
}

// handshake ends as it says.
type handshake struct {
	credentials.TransportCredentials
	err error
}

func (h handshake) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, nil, h.err
}

// TestDoorHearsOfHandshakes: a connection grows up when its handshake has succeeded, and not before.
func TestDoorHearsOfHandshakes(t *testing.T) {
	d := newDoorstep(t, roomy(), nil)
	young := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.total.young
	}
	arrive := func() *doorConn {
		_, c, why := d.arrive("192.0.2.1:1", nil)
		if why != "" {
			t.Fatal(why)
		}
		return c
	}
	failed := errors.New("no handshake")
	c := arrive()
	if _, _, err := (doorCredentials{handshake{err: failed}}).ServerHandshake(c); !errors.Is(err, failed) || young() != 1 {
		t.Errorf("a failed one: %v, %d", err, young())
	}
	if _, _, err := (doorCredentials{handshake{}}).ServerHandshake(c); err != nil || young() != 0 {
		t.Errorf("gRPC: %v, %d", err, young())
	}
	if _, _, err := (doorCredentials{handshake{}}).ServerHandshake(c.Conn); err != nil {
		t.Errorf("a connection through no door: %v", err)
	}
	c = arrive()
	over := tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS13})
	for _, state := range []http.ConnState{http.StateNew, http.StateIdle, http.StateClosed} {
		if doorState(over, state); young() != 1 {
			t.Errorf("HTTPS, %s: %d", state, young())
		}
	}
	if doorState(over, http.StateActive); young() != 0 {
		t.Errorf("HTTPS: %d", young())
	}
	doorState(c.Conn, http.StateActive) // one without TLS, or through no door
	doorState(tls.Server(c.Conn, &tls.Config{MinVersion: tls.VersionTLS13}), http.StateActive)
}

// TestRates: the bound of all callers, the one that services have who have none of their own, and their own.
func TestRates(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	refused := func(err error) bool {
		var wait *rateError
		return errors.As(err, &wait) && errors.Is(err, errRateLimited) && wait.RetryAfter() > 0
	}
	c := Config{Network: NetworkConfig{CallsPerSecond: 1, Burst: 2}, Services: ServicesConfig{CallsPerSecond: 1, Burst: 1}}
	r := newRates(c, clock)
	if a, b := r.takeAny(), r.takeAny(); a != nil || b != nil || !refused(r.takeAny()) {
		t.Errorf("all: %v, %v", a, b)
	}
	plain := identity.Caller{ID: "svc_a", Terms: &identity.Terms{}}
	if err := r.takeService(plain); err != nil || !refused(r.takeService(plain)) {
		t.Errorf("a service: %v", err)
	}
	other := identity.Caller{ID: "svc_b", Terms: &identity.Terms{}}
	if err := r.takeService(other); err != nil {
		t.Errorf("another one has a bound of its own: %v", err)
	}
	more := identity.Caller{ID: "svc_a", Terms: &identity.Terms{Rate: 1, Burst: 3}} // its terms were changed
	for i := range 3 {
		if err := r.takeService(more); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if !refused(r.takeService(more)) {
		t.Error("a service with terms of its own has no bound")
	}
	none := newRates(Config{}, clock)
	for range 100 {
		if a, b := none.takeAny(), none.takeService(plain); a != nil || b != nil {
			t.Fatalf("nothing is bounded: %v, %v", a, b)
		}
	}
	if len(none.services) != 0 {
		t.Errorf("%d buckets of services that are not bounded", len(none.services))
	}
	for i := range maxServiceBuckets + 5 {
		if err := r.takeService(identity.Caller{ID: "svc_" + strconv.Itoa(i), Terms: plain.Terms}); err != nil {
			t.Fatal(err)
		}
		if len(r.services) > maxServiceBuckets {
			t.Fatalf("%d buckets", len(r.services))
		}
	}
}

// TestBearer: one token, under the one scheme.
func TestBearer(t *testing.T) {
	for _, tc := range []struct {
		values []string
		want   string // "error"
	}{
		{nil, ""}, {[]string{"Bearer abc"}, "abc"}, {[]string{"bearer abc"}, "abc"}, {[]string{"Bearer "}, "error"}, {[]string{"Bearer"}, "error"},
		{[]string{"Basic abc"}, "error"}, {[]string{"Bearer abc", "Bearer abc"}, "error"}, {[]string{""}, "error"},
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.MD{"authorization": tc.values})
		token, err := bearer(ctx)
		if tc.want == "error" && !errors.Is(err, errNotAuthenticated) || tc.want != "error" && (err != nil || token.Reveal() != tc.want) {
			t.Errorf("%q: %v", tc.values, err)
		}
	}
	if c, above := clientCertificate(t.Context()); c != nil || above != nil {
		t.Error("a certificate of nobody's")
	}
	if s := source(t.Context()); s.Address != "" || s.Device != "" {
		t.Errorf("%+v", s)
	}
	ctx := peer.NewContext(metadata.NewIncomingContext(context.Background(), metadata.MD{"user-agent": {"signet/1"}}), &peer.Peer{Addr: &net.UnixAddr{Name: "@", Net: "unix"}})
	if s := source(ctx); s.Address != "@" || s.Device != "signet/1" {
		t.Errorf("%+v", s)
	}
	ctx = peer.NewContext(t.Context(), &peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.7:1"))})
	if s := source(ctx); s.Address != "192.0.2.7" || s.Device != "" {
		t.Errorf("%+v", s)
	}
}

// TestCallLimit: a call whose caller has set no deadline has one, and that of a caller stays.
func TestCallLimit(t *testing.T) {
	deadline := func(ctx context.Context) (at time.Time) {
		info := &grpc.UnaryServerInfo{FullMethod: healthMethods + "Check"} // which everybody may call
		if _, err := new(gate).admitUnary(ctx, nil, info, func(ctx context.Context, _ any) (any, error) {
			at, _ = ctx.Deadline()
			return nil, nil
		}); err != nil {
			t.Error(err)
		}
		return at
	}
	before := time.Now()
	if at := deadline(t.Context()); at.Before(before.Add(callLimit)) || at.After(time.Now().Add(callLimit)) {
		t.Errorf("a call without a deadline ends at %v", at)
	}
	want := before.Add(time.Hour)
	ctx, cancel := context.WithDeadline(t.Context(), want)
	defer cancel()
	if at := deadline(ctx); !at.Equal(want) {
		t.Errorf("its own deadline is %v, want %v", at, want)
	}
}
