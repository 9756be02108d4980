package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/server/internal/identity"
)

// proxyHeader is a header of the PROXY protocol, version 2, with something after it.
func proxyHeader(command, family byte, source netip.AddrPort, more ...byte) []byte {
	body := []byte{}
	if a := source.Addr(); a.IsValid() {
		body = append(body, a.AsSlice()...)
		body = append(body, make([]byte, a.BitLen()/8)...) // the destination
		body = binary.BigEndian.AppendUint16(body, source.Port())
		body = binary.BigEndian.AppendUint16(body, 443)
	}
	body = append(body, more...)
	out := append([]byte(proxySignature), command, family)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(body))), body...)
}

func TestProxyHeader(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("[2001:db8::7]:1234")
	for what, c := range map[string]struct {
		header []byte
		want   string // empty: the proxy itself; "error"
	}{
		"IPv4":             {proxyHeader(0x21, 0x11, v4), "192.0.2.7:1234"},
		"IPv6":             {proxyHeader(0x21, 0x21, v6), "[2001:db8::7]:1234"},
		"with TLVs":        {proxyHeader(0x21, 0x11, v4, 3, 0, 4, 1, 2, 3, 4), "192.0.2.7:1234"},
		"mapped":           {proxyHeader(0x21, 0x21, netip.AddrPortFrom(netip.AddrFrom16(v4.Addr().As16()), 1234)), "192.0.2.7:1234"},
		"local":            {proxyHeader(0x20, 0, netip.AddrPort{}), ""},
		"version 1":        {[]byte("PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n"), "error"},
		"another command":  {proxyHeader(0x22, 0x11, v4), "error"},
		"another version":  {proxyHeader(0x31, 0x11, v4), "error"},
		"UDP":              {proxyHeader(0x21, 0x12, v4), "error"},
		"a socket":         {proxyHeader(0x21, 0x31, netip.AddrPort{}, make([]byte, 216)...), "error"},
		"IPv6 too short":   {proxyHeader(0x21, 0x21, v4), "error"},
		"too long":         {append([]byte(proxySignature), 0x21, 0x11, 0xff, 0xff), "error"},
		"cut off":          {proxyHeader(0x21, 0x11, v4)[:20], "error"},
		"nothing":          {nil, "error"},
		"a TLS client":     {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on"), "error"},
		"another protocol": {bytes.Repeat([]byte{'\r', '\n'}, 20), "error"},
	} {
		r := bytes.NewReader(append(slices.Clone(c.header), "the rest"...))
		if what == "cut off" || what == "nothing" {
			r = bytes.NewReader(c.header)
		}
		got, err := readProxyHeader(r)
		switch {
		case c.want == "error":
			if !errors.Is(err, errProxyHeader) {
				t.Errorf("%s: %v, %v", what, got, err)
			}
			continue
		case err != nil || c.want == "" && got.IsValid() || c.want != "" && got.String() != c.want:
			t.Errorf("%s: %v, %v; want %s", what, got, err, c.want)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "the rest" {
			t.Errorf("%s: %q is left", what, rest)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add(proxyHeader(0x21, 0x11, netip.MustParseAddrPort("192.0.2.7:1234")))
	f.Add(proxyHeader(0x21, 0x21, netip.MustParseAddrPort("[2001:db8::7]:1234"), 1, 2, 3))
	f.Add(proxyHeader(0x20, 0, netip.AddrPort{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := readProxyHeader(r)
		if err == nil && len(b)-r.Len() > 16+maxProxyTail {
			t.Errorf("%d bytes were read", len(b)-r.Len())
		}
		if err != nil && a.IsValid() {
			t.Errorf("%v beside %v", a, err)
		}
	})
}

// TestForwarded: X-Forwarded-For is believed from trusted proxies alone, and from the right.
func TestForwarded(t *testing.T) {
	t.Attr("requirement", "C-104")
	n, err := newNetwork(NetworkConfig{TrustedProxies: []string{"10.0.0.0/8", "2001:db8:1::/48"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		peer   string
		header []string
		want   string // "error"
	}{
		{"192.0.2.7:1234", nil, "192.0.2.7"},
		{"192.0.2.7:1234", []string{"198.51.100.1"}, "192.0.2.7"}, // nobody's word but a trusted proxy's
		{"10.0.0.1:1234", nil, "10.0.0.1"},
		{"10.0.0.1:1234", []string{"192.0.2.7"}, "192.0.2.7"},
		{"10.0.0.1:1234", []string{"198.51.100.1, 192.0.2.7"}, "192.0.2.7"}, // what the client wrote itself stands on the left
		{"10.0.0.1:1234", []string{"198.51.100.1", "192.0.2.7, 10.0.0.2"}, "192.0.2.7"},
		{"10.0.0.1:1234", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"[2001:db8:1::1]:1234", []string{"2001:db8:2::7"}, "2001:db8:2::7"},
		{"[::ffff:10.0.0.1]:1234", []string{"::ffff:192.0.2.7"}, "192.0.2.7"},
		{"10.0.0.1:1234", []string{"198.51.100.1, 192.0.2.7:80"}, "error"},
		{"10.0.0.1:1234", []string{"unknown"}, "error"},
		{"10.0.0.1:1234", []string{""}, "error"},
		{"10.0.0.1:1234", []string{"rubbish, 192.0.2.7"}, "192.0.2.7"}, // further left than anybody whom we believe
		{"10.0.0.1:1234", []string{strings.Repeat("198.51.100.1, ", 500) + "192.0.2.7"}, "192.0.2.7"},
	} {
		got, err := n.forwarded(c.peer, c.header)
		if c.want == "error" && !errors.Is(err, errForwarded) || c.want != "error" && (err != nil || got != c.want) {
			t.Errorf("%s %.60q: %s, %v; want %s", c.peer, c.header, got, err, c.want)
		}
	}
}

// memory is a listener whose connections come from any address.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

type memoryConn struct {
	net.Conn
	remote net.Addr
}

func (c memoryConn) RemoteAddr() net.Addr { return c.remote }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// doorstep is a door with a listener in memory before it.
type doorstep struct {
	*door
	t       *testing.T
	conns   chan net.Conn
	refused chan [2]string
}

func newDoorstep(t *testing.T, c NetworkConfig, lists ...[]netip.Prefix) *doorstep {
	t.Helper()
	n, err := newNetwork(c)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
	d := &doorstep{t: t, conns: m.conns, refused: make(chan [2]string, 64)}
	s := &Server{config: Config{Network: c}, network: n}
	d.door = s.door(m, "grpc", lists...)
	d.refuse = func(address, _, why string) { d.refused <- [2]string{address, why} }
	t.Cleanup(func() { d.Close() })
	return d
}

// arrive connects from an address, and returns the far end and what came of it.
func (d *doorstep) arrive(from string, first []byte) (far net.Conn, near *doorConn, why string) {
	d.t.Helper()
	far, c := net.Pipe()
	d.t.Cleanup(func() { far.Close() })
	d.start.Do(func() { go d.accept() })
	d.conns <- memoryConn{c, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	if len(first) > 0 {
		_, _ = far.Write(first)
	}
	select {
	case a := <-d.open:
		return far, a.conn.(*doorConn), ""
	case r := <-d.refused:
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			d.t.Errorf("a refused connection is open: %v", err)
		}
		return far, nil, r[1]
	}
}

func roomy() NetworkConfig { return defaultNetwork() }

// TestDoor: connections are admitted by network, and no more of them than there is room for.
func TestDoor(t *testing.T) {
	t.Run("networks", func(t *testing.T) {
		t.Attr("requirement", "11.10(h)")
		people, services := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
		d := newDoorstep(t, roomy(), people, services)
		for from, want := range map[string]string{
			"192.0.2.7:1": "", "[2001:db8::7]:1": "", "[::ffff:192.0.2.7]:1": "", "198.51.100.1:1": refusedNetwork, "[2001:db9::7]:1": refusedNetwork,
		} {
			if _, _, why := d.arrive(from, nil); why != want {
				t.Errorf("%s: %q, want %q", from, why, want)
			}
		}
		if _, _, why := newDoorstep(t, roomy(), people, nil).arrive("198.51.100.1:1", nil); why != "" {
			t.Errorf("services may come from everywhere: %s", why)
		}
	})
	t.Run("behind a proxy", func(t *testing.T) {
		t.Attr("requirement", "11.10(h)")
		c := roomy()
		c.TrustedProxies, c.ProxyProtocol = []string{"10.0.0.1"}, true
		d := newDoorstep(t, c, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
		header := func(from string) []byte { return proxyHeader(0x21, 0x11, netip.MustParseAddrPort(from)) }
		far, near, why := d.arrive("10.0.0.1:1", header("192.0.2.7:1234"))
		if why != "" || near.RemoteAddr().String() != "192.0.2.7:1234" {
			t.Fatalf("%s", why)
		}
		go func() { _, _ = far.Write([]byte("hello")) }()
		b := make([]byte, 5)
		if _, err := io.ReadFull(near, b); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
		if _, _, why := d.arrive("10.0.0.1:1", header("198.51.100.1:1234")); why != refusedNetwork {
			t.Errorf("somebody else behind it: %q", why)
		}
		if _, _, why := d.arrive("10.0.0.1:1", bytes.Repeat([]byte("x"), 16)); why != refusedProxy {
			t.Errorf("without a header: %q", why)
		}
		from := func(a string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a)) }
		own, err := c.Header(from("10.0.0.1:1"))
		if err != nil || !bytes.Equal(own, proxyHeader(0x20, 0, netip.AddrPort{})) {
			t.Errorf("the header of the proxy itself: %q, %v", own, err)
		}
		if _, near, why := d.arrive("10.0.0.1:1", own); why != "" || near.RemoteAddr().String() != "10.0.0.1:1" {
			t.Errorf("the proxy itself: %q", why)
		}
		if none, err := c.Header(from("192.0.2.9:1")); err != nil || none != nil {
			t.Errorf("the header of who is no proxy: %q, %v", none, err)
		}
		plain := c
		plain.ProxyProtocol = false
		if none, err := plain.Header(from("10.0.0.1:1")); err != nil || none != nil {
			t.Errorf("the header of a proxy that speaks HTTPS alone: %q, %v", none, err)
		}
		// Nobody else is believed: what they send is the beginning of a TLS handshake, or nothing.
		if _, near, why := d.arrive("192.0.2.9:1", nil); why != "" || near.RemoteAddr().String() != "192.0.2.9:1" {
			t.Errorf("beside the proxy: %q", why)
		}
	})
	t.Run("room", func(t *testing.T) {
		c := roomy()
		c.Connections, c.PerAddress, c.Handshakes, c.HandshakesPerAddress = 6, 3, 5, 2
		d := newDoorstep(t, c, []netip.Prefix{})
		_, a1, _ := d.arrive("192.0.2.1:1", nil)
		_, a2, _ := d.arrive("192.0.2.1:2", nil)
		if _, _, why := d.arrive("192.0.2.1:3", nil); why != refusedHandshakes {
			t.Errorf("a third handshake: %q", why)
		}
		d.grown(a1)
		d.grown(a1) // once
		_, a3, why := d.arrive("192.0.2.1:3", nil)
		if why != "" {
			t.Fatal(why)
		}
		d.grown(a2)
		d.grown(a3)
		if _, _, why := d.arrive("192.0.2.1:4", nil); why != refusedAddress {
			t.Errorf("a fourth connection: %q", why)
		}
		_, v6, _ := d.arrive("[2001:db8::1]:1", nil)
		d.grown(v6)
		d.arrive("[2001:db8::2]:1", nil)
		d.arrive("[2001:db8::3]:1", nil)
		if _, _, why := d.arrive("[2001:db8::4]:1", nil); why != refusedRoom {
			t.Errorf("a seventh connection: %q", why)
		}
		a1.Close()
		a1.Close() // once
		if _, _, why := d.arrive("[2001:db8::4]:1", nil); why != refusedAddress {
			t.Errorf("a /64 is one address: %q", why)
		}
		if _, _, why := d.arrive("192.0.2.2:1", nil); why != "" {
			t.Errorf("somebody else: %q", why)
		}
		a2.Close()
		a3.Close()
		v6.Close()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.total != (crowd{3, 3}) || len(d.addresses) != 2 {
			t.Errorf("%+v %+v", d.total, d.addresses)
		}
	})
}

func TestBucket(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	b := newBucket(2, 3, now)
	for i := range 3 {
		if wait := b.take(now); wait != 0 {
			t.Fatalf("%d: %v", i, wait)
		}
	}
	if wait := b.take(now); wait != 500*time.Millisecond {
		t.Errorf("empty: %v", wait)
	}
	if wait := b.take(now.Add(-time.Hour)); wait <= 0 {
		t.Error("a clock that went back fills it")
	}
	if wait := b.take(now.Add(500 * time.Millisecond)); wait != 0 {
		t.Errorf("half a second later: %v", wait)
	}
	now = now.Add(time.Hour)
	for i := range 3 {
		if wait := b.take(now); wait != 0 {
			t.Fatalf("%d: %v", i, wait)
		}
	}
	if b.take(now) == 0 {
		t.Error("it holds more than its burst")
	}
	if b := newBucket(0.5, 0, now); b.take(now) != 0 || b.take(now) != 2*time.Second {
		t.Error("one call in two seconds")
	}
}

// TestRefusals: the first of a kind is recorded at once, those after it are counted, and nobody fills the ledger.
func TestRefusals(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	r := newRefusals(func() time.Time { return now })
	k := refusal{caller: "svc_x", method: "m", why: "rights"}
	if _, n := r.add(k, identity.Caller{ID: "svc_x"}); n != 1 {
		t.Fatalf("the first: %d", n)
	}
	for range 1000 {
		if _, n := r.add(k, identity.Caller{ID: "svc_x"}); n != 0 {
			t.Fatal("recorded again at once")
		}
	}
	now = now.Add(refusedAgain)
	if due := r.sweep(false); due[k] != 1000 || len(due) != 1 || r.actor(k).ID != "svc_x" {
		t.Errorf("%v", due)
	}
	r.giveBack(k, 1000)
	if due := r.sweep(false); due[k] != 1000 {
		t.Errorf("what could not be recorded is lost: %v", due)
	}
	now = now.Add(2 * refusedAgain)
	if due := r.sweep(false); len(due) != 0 || len(r.rows) != 0 {
		t.Errorf("over, and not forgotten: %v %v", due, r.rows)
	}
	entries := 0
	for i := range 100_000 {
		k := refusal{source: identity.Source{Address: netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}).String()}, method: "m", why: "network"}
		if _, n := r.add(k, identity.Caller{}); n > 0 {
			entries++
		}
	}
	if entries > refusalsAtOnce || len(r.rows) > refusalKinds+1 {
		t.Errorf("%d entries and %d kinds of 100,000 addresses", entries, len(r.rows))
	}
	total := 0
	for range 200 {
		now = now.Add(refusedAgain)
		for _, n := range r.sweep(false) {
			total += n
		}
	}
	if total+entries != 100_000 {
		t.Errorf("%d of 100,000 were counted", total+entries)
	}
}

func TestNetworkConfig(t *testing.T) {
	for text, key := range map[string]string{
		"network:\n  allow:\n    people: [10.0.0.1/8]\n": "network.allow.people",
		"network:\n  allow:\n    services: [nowhere]\n":  "network.allow.services",
		"network:\n  allow:\n    web: [\"\"]\n":          "network.allow.web",
		"network:\n  trustedProxies: [10.0.0.0/99]\n":    "network.trustedProxies",
		"network:\n  proxyProtocol: true\n":              "network.proxyProtocol",
		"network:\n  connections: 0\n":                   "network.connections",
		"network:\n  callsPerSecond: -1\n":               "network.callsPerSecond",
		"services:\n  callsPerSecond: -1\n":              "services.callsPerSecond",
		"services:\n  revocationLists: [ca.crl]\n":       "services.revocationLists",
		"identity:\n  sources: everything\n":             "identity.sources",
		"environment: production\nsystemAccess: closed\nhsm:\n  pinFile: credential:pin\npages:\n  publicURL: https://sign.example\nidentity:\n  sources: commitment-only\n": "identity.sources",
		"network:\n  allow:\n    anybody: [10.0.0.0/8]\n": "anybody",
		"network:\n  handshakesPerAddress: 0\n":           "network.handshakesPerAddress",
	} {
		if !strings.HasPrefix(text, "environment") {
			text = "environment: demo\n" + text
		}
		if _, err := LoadConfig(writeConfig(t, text)); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v, want an error about %s", text, err, key)
		}
	}
	if _, err := LoadConfig(writeConfig(t, "environment: demo\nidentity:\n  sources: commitment-only\nnetwork:\n  allow:\n    people: [10.0.0.0/8, 2001:db8::7]\n")); err != nil {
		t.Error(err)
	}
}
