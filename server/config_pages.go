package server

import (
	"net"
	"net/url"
	"strings"
)

// PagesConfig is where people sign in a browser: a listener of its own, which never asks for a client certificate.
type PagesConfig struct {
	Address     string `json:"address" doc:"host:port of the listener for the signing pages (HTTPS); empty: no pages"`
	PublicURL   string `json:"publicURL" doc:"their URL as browsers see it, https with a host name and nothing after it; passkeys are bound to this name for good, so it must never change; empty: https://localhost and the port of pages.address"`
	Certificate string `json:"certificate" doc:"their certificate chain, PEM; empty: that of listen"`
	Key         string `json:"key" doc:"its private key, PEM, mode 0600; empty: that of listen"`
}

func (c PagesConfig) validate(environment string, bad func(key, format string, args ...any) error) error {
	if (c.Certificate == "") != (c.Key == "") {
		return bad("pages.certificate", "certificate and key belong together; name both or neither")
	}
	if c.Address != "" {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			return bad("pages.address", "%q; use host:port, or leave it empty", c.Address)
		}
		if c.PublicURL == "" && environment == Production {
			return bad("pages.publicURL", "is empty; name the URL that browsers open, such as https://sign.example")
		}
	}
	if c.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" ||
		u.ForceQuery || u.String() != c.PublicURL || strings.ToLower(u.Host) != u.Host || strings.HasSuffix(u.Host, ":443") || strings.HasSuffix(u.Host, ":") {
		return bad("pages.publicURL", "%q; use an https URL in lower case, with nothing after the host name but a port other than 443", c.PublicURL)
	}
	if net.ParseIP(u.Hostname()) != nil {
		return bad("pages.publicURL", "%q; use a host name: browsers bind passkeys to names, not to addresses (localhost will do for a trial)", c.PublicURL)
	}
	return nil
}

// Origin is the origin of the signing pages, as a browser writes it; empty where there are none.
func (c PagesConfig) Origin() string {
	if c.PublicURL != "" || c.Address == "" {
		return c.PublicURL
	}
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil || port == "443" {
		return "https://localhost"
	}
	return "https://localhost:" + port
}

// RPID is the relying party that passkeys are bound to (WebAuthn Level 3): the host name of the origin; empty where there are no pages.
func (c PagesConfig) RPID() string {
	u, err := url.Parse(c.Origin())
	if err != nil {
		return ""
	}
	return u.Hostname()
}
