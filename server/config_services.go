package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/signetd/signet/server/internal/identity"
)

// ServicesConfig says how services prove themselves and how much they may ask for.
type ServicesConfig struct {
	ClientAuthorities []string `json:"clientAuthorities" doc:"files (PEM) of the organisation's own CAs, whose client certificates services may show instead of pinned ones; a service is known by the one URI in its certificate. Read again when they change"`
	RevocationLists   []string `json:"revocationLists" doc:"files (PEM or DER) of those CAs' revocation lists; if there is one, each CA that issues needs one that holds now, or its certificates let nobody in. Read again when they change"`
	CallsPerSecond    int      `json:"callsPerSecond" doc:"calls a second that a service may make where its own rights say nothing; 0: not bounded"`
	Burst             int      `json:"burst" doc:"calls that it may make at once, beyond that; 0: as many as in one second"`
}

// NetworkConfig says from where the server is called, and how much of it.
type NetworkConfig struct {
	Allow                AllowConfig `json:"allow" doc:"networks (CIDR) from which callers are admitted (21 CFR 11.10(h)); an empty list admits all"`
	TrustedProxies       []string    `json:"trustedProxies" doc:"networks (CIDR) of the proxies that are believed when they say where a call comes from; nobody else is"`
	ProxyProtocol        bool        `json:"proxyProtocol" doc:"whether the trusted proxies begin each connection with a PROXY protocol header, version 2: then one without it is refused. Else they are believed in X-Forwarded-For over HTTPS alone"`
	CallsPerSecond       int         `json:"callsPerSecond" doc:"calls a second of all callers together, health checks aside; 0: not bounded"`
	Burst                int         `json:"burst" doc:"calls at once, beyond that; 0: as many as in one second"`
	Connections          int         `json:"connections" doc:"open connections to one listener; more are refused"`
	PerAddress           int         `json:"perAddress" doc:"open connections from one address (IPv6: one /64); those of trusted proxies are not counted"`
	Handshakes           int         `json:"handshakes" doc:"connections to one listener that have not finished their TLS handshake"`
	HandshakesPerAddress int         `json:"handshakesPerAddress" doc:"and from one address"`
}

// AllowConfig lists networks by listener.
type AllowConfig struct {
	People   []string `json:"people" doc:"people, who log in or redeem a code: over gRPC and on the signing pages"`
	Services []string `json:"services" doc:"services; each can be narrowed further by its own rights"`
	Web      []string `json:"web" doc:"web.address and pages.address: everybody"`
}

func defaultServices() ServicesConfig {
	return ServicesConfig{ClientAuthorities: []string{}, RevocationLists: []string{}, CallsPerSecond: 10000, Burst: 20000}
}

func defaultNetwork() NetworkConfig {
	return NetworkConfig{
		Allow:          AllowConfig{People: []string{}, Services: []string{}, Web: []string{}},
		TrustedProxies: []string{}, Connections: 8192, PerAddress: 1024, Handshakes: 1024, HandshakesPerAddress: 256,
	}
}

func (c ServicesConfig) validate(bad func(key, format string, args ...any) error) error {
	if len(c.RevocationLists) > 0 && len(c.ClientAuthorities) == 0 {
		return bad("services.revocationLists", "there are no services.clientAuthorities that they could be of")
	}
	if c.CallsPerSecond < 0 || c.Burst < 0 || c.CallsPerSecond > 1e6 || c.Burst > 1e6 {
		return bad("services.callsPerSecond", "%d, burst %d; use 0 to 1000000", c.CallsPerSecond, c.Burst)
	}
	return nil
}

func (c NetworkConfig) validate(bad func(key, format string, args ...any) error) error {
	for _, l := range []struct {
		key  string
		list []string
	}{
		{"network.allow.people", c.Allow.People}, {"network.allow.services", c.Allow.Services}, {"network.allow.web", c.Allow.Web},
		{"network.trustedProxies", c.TrustedProxies},
	} {
		if _, err := networks(l.list); err != nil {
			return bad(l.key, "%w", err)
		}
	}
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		return bad("network.proxyProtocol", "there are no network.trustedProxies that could speak it")
	}
	if c.CallsPerSecond < 0 || c.Burst < 0 || c.CallsPerSecond > 1e6 || c.Burst > 1e6 {
		return bad("network.callsPerSecond", "%d, burst %d; use 0 to 1000000", c.CallsPerSecond, c.Burst)
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"network.connections", c.Connections}, {"network.perAddress", c.PerAddress}, {"network.handshakes", c.Handshakes},
		{"network.handshakesPerAddress", c.HandshakesPerAddress},
	} {
		if n.value <= 0 {
			return bad(n.key, "%d; use a number above zero", n.value)
		}
	}
	return nil
}

// networks reads a list of networks.
func networks(list []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := identity.ParseNetwork(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// clientAuthorities reads the organisation's CAs.
func (c Config) clientAuthorities(clock func() time.Time, log *slog.Logger) (*identity.ClientAuthorities, error) {
	paths := func(list []string) (out []string) {
		for _, p := range list {
			out = append(out, c.Path(p))
		}
		return out
	}
	a, err := identity.NewClientAuthorities(paths(c.Services.ClientAuthorities), paths(c.Services.RevocationLists), clock, log)
	if err != nil {
		return nil, fmt.Errorf("%w: services: %w", ErrConfig, err)
	}
	return a, nil
}

// Header is what a connection to a listener begins with that comes from an address: where that is a trusted proxy's, and those speak the PROXY
// protocol, the header of a proxy that speaks for itself (LOCAL), as a check of the service from the same machine does. Else nothing.
func (c NetworkConfig) Header(from net.Addr) ([]byte, error) {
	if !c.ProxyProtocol {
		return nil, nil
	}
	n, err := newNetwork(c)
	if err != nil || !contains(n.proxies, addressOf(from)) {
		return nil, err
	}
	return append([]byte(proxySignature), proxyLocal, 0, 0, 0), nil
}
