package server

import (
	"errors"
	"strings"
	"testing"
)

func TestPagesConfig(t *testing.T) {
	for text, want := range map[string][2]string{
		"pages:\n  address: 127.0.0.1:9443\n":                                         {"https://localhost:9443", "localhost"},
		"pages:\n  address: 127.0.0.1:443\n":                                          {"https://localhost", "localhost"},
		"pages:\n  address: 127.0.0.1:9443\n  publicURL: https://sign.example\n":      {"https://sign.example", "sign.example"},
		"pages:\n  address: 127.0.0.1:9443\n  publicURL: https://sign.example:9443\n": {"https://sign.example:9443", "sign.example"},
		"pages:\n  address: \"\"\n":                                                   {"", ""},
		"pages:\n  address: \"\"\n  publicURL: https://sign.example\n":                {"https://sign.example", "sign.example"},
	} {
		c, err := LoadConfig(writeConfig(t, "environment: demo\n"+text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := [2]string{c.Pages.Origin(), c.Pages.RPID()}; got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	for text, key := range map[string]string{
		"pages:\n  address: localhost\n":                   "pages.address",
		"pages:\n  certificate: a.pem\n":                   "pages.certificate",
		"pages:\n  publicURL: http://sign.example\n":       "pages.publicURL",
		"pages:\n  publicURL: https://192.0.2.1\n":         "pages.publicURL",
		"pages:\n  publicURL: https://[2001:db8::1]\n":     "pages.publicURL",
		"pages:\n  publicURL: https://sign.example/\n":     "pages.publicURL",
		"pages:\n  publicURL: https://sign.example/sign\n": "pages.publicURL",
		"pages:\n  publicURL: https://Sign.example\n":      "pages.publicURL",
		"pages:\n  publicURL: https://sign.example:443\n":  "pages.publicURL",
		"pages:\n  publicURL: https://ada@sign.example\n":  "pages.publicURL",
		"pages:\n  publicURL: https://sign.example?x\n":    "pages.publicURL",
		"pages:\n  publicURL: sign.example\n":              "pages.publicURL",
	} {
		if _, err := LoadConfig(writeConfig(t, "environment: demo\n"+text)); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v, want an error about %s", text, err, key)
		}
	}
	c := DefaultConfig()
	c.HSM.PINFile, c.Pages.Address = "credential:pin", "127.0.0.1:9443"
	if err := c.Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "pages.publicURL") {
		t.Errorf("production without a public URL: %v", err)
	}
}
