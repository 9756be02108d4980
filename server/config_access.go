package server

import (
	"cmp"
	"fmt"
	"net"
	"net/url"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/notify"
)

// Access is what the system declares itself to be; a demo that does not say is closed.
func (c Config) Access() string { return cmp.Or(c.SystemAccess, manifest.Closed) }

// validateAccess holds the system to what it declares itself to be (21 CFR 11.3). An open one sends nothing over a network without
// encryption (21 CFR 11.30); what it listens on speaks TLS 1.3 whatever it is.
func (c Config) validateAccess(bad func(key, format string, args ...any) error) error {
	switch c.SystemAccess {
	case manifest.Closed:
		return nil
	case manifest.Open:
	case "":
		if c.Environment != Demo {
			return bad("systemAccess", "is not declared; say closed if those who answer for the records control who has access to this system, and open otherwise (21 CFR 11.3)")
		}
		return nil
	default:
		return bad("systemAccess", "%q; use closed or open (21 CFR 11.3)", c.SystemAccess)
	}
	if host, _, err := net.SplitHostPort(c.Metrics.Address); err == nil && !notify.Loopback(host) {
		return bad("metrics.address", "%q: an open system tells its figures, which are not encrypted, to the same machine alone; use 127.0.0.1", c.Metrics.Address)
	}
	if inClear(c.Web.PublicURL) {
		return bad("web.publicURL", "%q: an open system sends nothing without encryption; use an https URL", c.Web.PublicURL)
	}
	for i, e := range c.Timestamp.External {
		if inClear(e.URL) {
			return bad(fmt.Sprintf("timestamp.external[%d].url", i), "%q: an open system sends nothing without encryption; use an https URL", e.URL)
		}
	}
	return nil
}

// inClear tells whether what goes to a URL can be read on a network.
func inClear(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "http" && !notify.Loopback(u.Hostname())
}
