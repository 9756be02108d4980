package server

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/signetd/signet/server/internal/identity"
)

// door is a listener that lets in who may come: from the networks that are allowed, no more than there is room for. What it refuses is
// closed before a byte is answered, and recorded. Behind trusted proxies it knows the callers' addresses by the PROXY protocol.
type door struct {
	net.Listener
	name    string
	allowed func(netip.Addr) bool
	proxies []netip.Prefix
	proxied bool // they speak the PROXY protocol
	limits  NetworkConfig
	refuse  func(address, listener, why string)

	start  sync.Once
	stop   sync.Once
	open   chan arrival
	closed chan struct{}

	mu        sync.Mutex
	total     crowd
	addresses map[netip.Prefix]crowd
}

// crowd is how many connections are open, and how many of them have not finished their handshake.
type crowd struct{ open, young int }

type arrival struct {
	conn net.Conn
	err  error
}

// Why a connection is refused.
const (
	refusedNetwork    = "network"
	refusedRoom       = "too many connections"
	refusedAddress    = "too many connections from one address"
	refusedHandshakes = "too many handshakes"
	refusedProxy      = "no PROXY protocol header"
)

const (
	proxyTimeout = 5 * time.Second // for a proxy's header
	maxProxyTail = 2048            // bytes of a header after its first 16
)

// door puts a door before a listener. An address may come in if it lies in one of the lists, or if one of them is empty.
func (s *Server) door(l net.Listener, name string, lists ...[]netip.Prefix) *door {
	return &door{
		Listener: l, name: name, proxies: s.network.proxies, proxied: s.config.Network.ProxyProtocol, limits: s.config.Network, refuse: s.refuseConnection,
		allowed: func(a netip.Addr) bool {
			return slices.ContainsFunc(lists, func(list []netip.Prefix) bool { return len(list) == 0 || contains(list, a) })
		},
		open: make(chan arrival), closed: make(chan struct{}), addresses: map[netip.Prefix]crowd{},
	}
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	d.start.Do(func() { go d.accept() })
	select {
	case a := <-d.open:
		return a.conn, a.err
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *door) Close() error {
	d.stop.Do(func() { close(d.closed) })
	return d.Listener.Close()
}

func (d *door) accept() {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			select {
			case d.open <- arrival{nil, err}:
			case <-d.closed:
				return
			}
			var temporary interface{ Temporary() bool }
			if !errors.As(err, &temporary) || !temporary.Temporary() {
				return
			}
			continue
		}
		from := addressOf(conn.RemoteAddr())
		proxy := contains(d.proxies, from)
		c := &doorConn{Conn: conn, door: d, remote: conn.RemoteAddr(), from: from, exempt: proxy}
		if why := d.enter(c); why != "" {
			d.turnAway(c, why)
			continue
		}
		if proxy && d.proxied { // its header is waited for aside
			go d.behindProxy(c)
			continue
		}
		if !proxy && !d.allowed(from) {
			d.turnAway(c, refusedNetwork)
			continue
		}
		d.hand(c)
	}
}

// behindProxy reads what a trusted proxy says of a connection.
func (d *door) behindProxy(c *doorConn) {
	_ = c.SetReadDeadline(time.Now().Add(proxyTimeout))
	real, err := readProxyHeader(c.Conn)
	_ = c.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		d.turnAway(c, refusedProxy)
		return
	case !real.IsValid(): // the proxy itself: it asks whether the server is well
		d.hand(c)
		return
	}
	d.leave(c)
	c.remote, c.from, c.exempt, c.left = net.TCPAddrFromAddrPort(real), real.Addr(), false, false
	if why := d.enter(c); why != "" {
		d.turnAway(c, why)
		return
	}
	if !d.allowed(c.from) {
		d.turnAway(c, refusedNetwork)
		return
	}
	d.hand(c)
}

func (d *door) hand(c *doorConn) {
	select {
	case d.open <- arrival{c, nil}:
	case <-d.closed:
		_ = c.Close()
	}
}

func (d *door) turnAway(c *doorConn, why string) {
	_ = c.Close()
	d.refuse(c.from.String(), d.name, why)
}

// neighbourhood is what counts as one address: whoever has an IPv6 address has its whole /64.
func neighbourhood(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// enter counts a connection in, or says why there is no room for it.
func (d *door) enter(c *doorConn) (why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	here := d.addresses[neighbourhood(c.from)]
	switch {
	case d.total.open >= d.limits.Connections:
		why = refusedRoom
	case d.total.young >= d.limits.Handshakes:
		why = refusedHandshakes
	case !c.exempt && here.open >= d.limits.PerAddress:
		why = refusedAddress
	case !c.exempt && here.young >= d.limits.HandshakesPerAddress:
		why = refusedHandshakes
	}
	if why != "" {
		c.left = true
		return why
	}
	c.young = true
	d.count(c, 1, 1)
	return ""
}

// count changes the numbers. The caller holds mu.
func (d *door) count(c *doorConn, open, young int) {
	d.total.open += open
	d.total.young += young
	key := neighbourhood(c.from)
	here := d.addresses[key]
	here.open += open
	here.young += young
	if here == (crowd{}) {
		delete(d.addresses, key)
	} else {
		d.addresses[key] = here
	}
}

// grown: the handshake is done.
func (d *door) grown(c *doorConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.young && !c.left {
		c.young = false
		d.count(c, 0, -1)
	}
}

// leave counts a connection out, once.
func (d *door) leave(c *doorConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.left {
		return
	}
	c.left = true
	young := 0
	if c.young {
		young = -1
	}
	d.count(c, -1, young)
}

// doorConn is a connection that was let in.
type doorConn struct {
	net.Conn
	door   *door
	remote net.Addr
	from   netip.Addr
	exempt bool // a trusted proxy: many callers share its address

	young, left bool // under the door's mu
}

// RemoteAddr is where the connection comes from, as a trusted proxy says, or the transport.
func (c *doorConn) RemoteAddr() net.Addr { return c.remote }

// Close implements net.Conn.
func (c *doorConn) Close() error {
	c.door.leave(c)
	return c.Conn.Close()
}

// addressOf is the address of a connection; the unspecified one where there is none.
func addressOf(a net.Addr) netip.Addr {
	if p, err := netip.ParseAddrPort(a.String()); err == nil {
		return p.Addr().Unmap().WithZone("")
	}
	return netip.IPv6Unspecified()
}

// doorCredentials tell the door when a handshake is done.
type doorCredentials struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (c doorCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if d, ok := raw.(*doorConn); ok && err == nil {
		d.door.grown(d)
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (c doorCredentials) Clone() credentials.TransportCredentials {
	return doorCredentials{c.TransportCredentials.Clone()}
}

// doorState tells the door when a handshake of an HTTPS connection is done: for http.Server.ConnState.
func doorState(c net.Conn, state http.ConnState) {
	t, ok := c.(*tls.Conn)
	if !ok || state != http.StateActive {
		return
	}
	if d, ok := t.NetConn().(*doorConn); ok {
		d.door.grown(d)
	}
}

// proxySignature begins a header of the PROXY protocol, version 2.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// The commands: the proxy speaks for itself, or for somebody.
const (
	proxyLocal   = 0x20
	proxyCommand = 0x21
)

var errProxyHeader = errors.New("no header of the PROXY protocol, version 2")

// readProxyHeader reads a header of the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt, section 2.2), and not a byte more. It
// returns the source; an invalid one where the proxy speaks for itself.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var none netip.AddrPort
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return none, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	if string(head[:12]) != proxySignature {
		return none, errProxyHeader
	}
	length := int(binary.BigEndian.Uint16(head[14:]))
	if length > maxProxyTail {
		return none, fmt.Errorf("%w: %d bytes", errProxyHeader, length)
	}
	tail := make([]byte, length)
	if _, err := io.ReadFull(r, tail); err != nil {
		return none, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	switch command, family := head[12], head[13]; {
	case command == proxyLocal:
		return none, nil
	case command != proxyCommand:
		return none, fmt.Errorf("%w: command %#x", errProxyHeader, command)
	case family == 0x11 && length >= 12: // TCP over IPv4: source, destination, ports
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(tail[:4])), binary.BigEndian.Uint16(tail[8:])), nil
	case family == 0x21 && length >= 36: // TCP over IPv6
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(tail[:16])).Unmap(), binary.BigEndian.Uint16(tail[32:])), nil
	default:
		return none, fmt.Errorf("%w: family %#x", errProxyHeader, family)
	}
}

// network is what the configuration says of networks, read.
type network struct {
	people, services, web, proxies []netip.Prefix
}

func newNetwork(c NetworkConfig) (n network, err error) {
	for _, l := range []struct {
		to   *[]netip.Prefix
		from []string
	}{{&n.people, c.Allow.People}, {&n.services, c.Allow.Services}, {&n.web, c.Allow.Web}, {&n.proxies, c.TrustedProxies}} {
		if *l.to, err = networks(l.from); err != nil {
			return n, fmt.Errorf("%w: network: %w", ErrConfig, err)
		}
	}
	return n, nil
}

// maxForwarded bounds the addresses of X-Forwarded-For that are looked at.
const maxForwarded = 32

var errForwarded = errors.New("X-Forwarded-For is not a list of addresses")

// forwarded is where a request comes from: the peer, or if that is a trusted proxy the last address in X-Forwarded-For that is none. What
// a proxy was told by somebody whom we do not trust stands further left, and is not looked at.
func (n network) forwarded(peer string, header []string) (string, error) {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		host = peer
	}
	at, err := netip.ParseAddr(host)
	if err != nil {
		return host, nil
	}
	at = at.Unmap().WithZone("")
	if len(header) == 0 || !contains(n.proxies, at) {
		return at.String(), nil
	}
	list := strings.Split(strings.Join(header, ","), ",")
	if len(list) > maxForwarded {
		list = list[len(list)-maxForwarded:]
	}
	for _, text := range slices.Backward(list) {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return "", fmt.Errorf("%w: the proxy at %s sent %s", errForwarded, at, strconv.Quote(clipped(text)))
		}
		if at = a.Unmap().WithZone(""); !contains(n.proxies, at) {
			break
		}
	}
	return at.String(), nil
}

func clipped(s string) string { return s[:min(len(s), 64)] }

type sourceKey struct{}

// withSource notes where a request comes from.
func withSource(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, sourceKey{}, address)
}

// sourced puts where a request comes from into its context, and refuses who may not come from there.
func (s *Server) sourced(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	from, err := s.network.forwarded(r.RemoteAddr, r.Header.Values("X-Forwarded-For"))
	if err != nil {
		s.log.WarnContext(r.Context(), "a request was refused", "error", err)
		http.Error(w, errForwarded.Error(), http.StatusBadRequest)
		return r, false
	}
	if !identity.Within(s.network.web, from) {
		s.refuseConnection(from, "https", refusedNetwork)
		http.Error(w, identity.ErrNetwork.Error(), http.StatusForbidden)
		return r, false
	}
	return r.WithContext(withSource(r.Context(), from)), true
}
