package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/server"
)

// What is wrong with the configuration of alerts is refused before anything starts, and the error names the key.
func TestAlertsConfig(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	good := func() server.Config {
		c := server.DefaultConfig()
		c.HSM.PINFile, c.SystemAccess = "credential:pin", "closed"
		c.Alerts.Mail.Server, c.Alerts.Mail.From, c.Alerts.Mail.Security = "mail.example:587", "signet@example.com", []string{"security@example.com"}
		c.Alerts.Webhooks = []server.WebhookConfig{{Name: "siem", URL: "https://siem.example/hook", SecretFile: "credential:siem"}}
		return c
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(c *server.AlertsConfig){
		"alerts.repeat":                  func(c *server.AlertsConfig) { c.Repeat = server.Duration(1) },
		"alerts.escalateAfter":           func(c *server.AlertsConfig) { c.EscalateAfter = 0 },
		"alerts.zone":                    func(c *server.AlertsConfig) { c.Zone = "Mars/Olympus" },
		"alerts.mail.server":             func(c *server.AlertsConfig) { c.Mail.Server = "" },
		"alerts.mail.passwordFile":       func(c *server.AlertsConfig) { c.Mail.User = "signet" },
		"alerts.mail.timeout":            func(c *server.AlertsConfig) { c.Mail.Timeout = 0 },
		"alerts: mail: server":           func(c *server.AlertsConfig) { c.Mail.Server = "mail.example" },
		"alerts: mail: tls":              func(c *server.AlertsConfig) { c.Mail.TLS = "none" },
		"alerts: mail: \"security\"":     func(c *server.AlertsConfig) { c.Mail.Security = []string{"security"} },
		"alerts.webhooks[0].name":        func(c *server.AlertsConfig) { c.Webhooks[0].Name = "a b" },
		"alerts.webhooks[0].url":         func(c *server.AlertsConfig) { c.Webhooks[0].URL = "http://siem.example/" },
		"alerts.webhooks[0].secretFile":  func(c *server.AlertsConfig) { c.Webhooks[0].SecretFile = "" },
		"alerts.webhooks[0].audiences":   func(c *server.AlertsConfig) { c.Webhooks[0].Audiences = []string{"everybody"} },
		"alerts.webhooks[0].timeout":     func(c *server.AlertsConfig) { c.Webhooks[0].Timeout = -1 },
		"alerts.webhooks[1].name":        func(c *server.AlertsConfig) { c.Webhooks = append(c.Webhooks, c.Webhooks[0]) },
		"alerts.webhooks: 9; at most 8":  func(c *server.AlertsConfig) { c.Webhooks = make([]server.WebhookConfig, 9) },
		"alerts.mail: more than 20 addr": func(c *server.AlertsConfig) { c.Mail.Security = make([]string, 21) },
	} {
		c := good()
		change(&c.Alerts)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	t.Run("a file written and read again is the same", func(t *testing.T) {
		c := good()
		path := filepath.Join(t.TempDir(), "signetd.yaml")
		if err := os.WriteFile(path, c.YAML(), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := server.LoadConfig(path)
		if err != nil || again.Alerts.Webhooks[0].URL != c.Alerts.Webhooks[0].URL || again.Alerts.Mail.Security[0] != "security@example.com" {
			t.Errorf("%+v, %v", again.Alerts, err)
		}
	})
}
