package server

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/server/internal/notify"
)

// AlertsConfig says who hears of attacks, and how (21 CFR 11.300(d)).
type AlertsConfig struct {
	Repeat        Duration        `json:"repeat" doc:"an alert that nobody has acknowledged is repeated after this long"`
	EscalateAfter Duration        `json:"escalateAfter" doc:"management hears of an alert that nobody has acknowledged after this long"`
	Zone          string          `json:"zone" doc:"IANA time zone of messages to the security unit and to management; times are always given in UTC, too"`
	Mail          MailConfig      `json:"mail" doc:"messages by mail; signers hear of the use of their signature by mail alone"`
	Webhooks      []WebhookConfig `json:"webhooks" doc:"addresses to which each alert is posted, signed as Standard Webhooks say"`
}

// MailConfig is the mail server that messages are handed to.
type MailConfig struct {
	Server       string   `json:"server" doc:"host:port of the mail server; empty: no mail"`
	TLS          string   `json:"tls" doc:"starttls, tls (from the first byte on), or none for a relay on the same machine"`
	Roots        string   `json:"roots" doc:"file with the root certificates of the mail server, PEM; empty: those of the machine"`
	User         string   `json:"user" doc:"user name at the mail server; empty: none"`
	PasswordFile string   `json:"passwordFile" doc:"file with the password, mode 0600, or credential:NAME for a systemd credential; read anew for each connection"`
	From         string   `json:"from" doc:"address of the sender"`
	Security     []string `json:"security" doc:"addresses of the security unit"`
	Management   []string `json:"management" doc:"addresses of those who hear what the security unit has not acknowledged"`
	Timeout      Duration `json:"timeout" doc:"how long a connection may take"`
}

// WebhookConfig is one receiver of webhooks.
type WebhookConfig struct {
	Name       string   `json:"name" doc:"what it is called in the ledger and in figures"`
	URL        string   `json:"url" doc:"where messages are posted: https, or http on the same machine"`
	SecretFile string   `json:"secretFile" doc:"file with its secret, whsec_ and base64, mode 0600, or credential:NAME; several lines: each signs, so that it can be changed without a gap. Read anew for each message"`
	Audiences  []string `json:"audiences" doc:"security, management or both; none: security"`
	Roots      string   `json:"roots" doc:"file with the root certificates of the receiver, PEM; empty: those of the machine"`
	Timeout    Duration `json:"timeout" doc:"how long an answer may take; 0s: 15s"`
}

func defaultAlerts() AlertsConfig {
	return AlertsConfig{
		Repeat: Duration(15 * time.Minute), EscalateAfter: Duration(time.Hour), Zone: "UTC",
		Mail:     MailConfig{TLS: notify.TLSStart, Security: []string{}, Management: []string{}, Timeout: Duration(15 * time.Second)},
		Webhooks: []WebhookConfig{},
	}
}

// Bounds that keep the ledger from filling, and alerts from sleeping.
const (
	leastRepeat    = time.Minute
	mostRepeat     = 24 * time.Hour
	mostEscalation = 7 * 24 * time.Hour
	maxAddresses   = 20
	maxWebhooks    = 8
)

func (c AlertsConfig) validate(environment string, bad func(key, format string, args ...any) error) error {
	repeat, escalate := time.Duration(c.Repeat), time.Duration(c.EscalateAfter)
	least := leastRepeat
	if environment != Production { // a trial, or a test
		least = time.Second
	}
	if repeat < least || repeat > mostRepeat {
		return bad("alerts.repeat", "%v; use %v to %v, such as 15m", repeat, least, mostRepeat)
	}
	if escalate < least || escalate > mostEscalation {
		return bad("alerts.escalateAfter", "%v; use %v to %v, such as 1h", escalate, least, mostEscalation)
	}
	if _, err := time.LoadLocation(c.Zone); err != nil || c.Zone == "Local" {
		return bad("alerts.zone", "%q; use an IANA name such as Europe/Berlin, or UTC", c.Zone)
	}
	if err := c.Mail.validate(bad); err != nil {
		return err
	}
	if len(c.Webhooks) > maxWebhooks {
		return bad("alerts.webhooks", "%d; at most %d", len(c.Webhooks), maxWebhooks)
	}
	names := map[string]bool{}
	for i, w := range c.Webhooks {
		key := fmt.Sprintf("alerts.webhooks[%d]", i)
		switch {
		case w.Name == "" || len(w.Name) > 64 || strings.ContainsAny(w.Name, " \t\r\n/\x00") || names[w.Name]:
			return bad(key+".name", "%.80q; give each a name of its own, of up to 64 bytes, without spaces and slashes", w.Name)
		case w.SecretFile == "":
			return bad(key+".secretFile", "is empty; name the file with its secret")
		case w.Timeout < 0 || w.Timeout > Duration(time.Minute):
			return bad(key+".timeout", "%v; use up to 1m", time.Duration(w.Timeout))
		}
		for _, a := range w.Audiences {
			if a != string(notify.Security) && a != string(notify.Management) {
				return bad(key+".audiences", "%q; use security or management", a)
			}
		}
		if err := notify.CheckURL(w.URL); err != nil {
			return bad(key+".url", "%v", err)
		}
		names[w.Name] = true
	}
	return nil
}

func (c MailConfig) validate(bad func(key, format string, args ...any) error) error {
	if c.Server == "" {
		if len(c.Security)+len(c.Management) > 0 {
			return bad("alerts.mail.server", "is empty, but there are addresses; use host:port")
		}
		return nil
	}
	switch {
	case c.User != "" && c.PasswordFile == "":
		return bad("alerts.mail.passwordFile", "is empty; name the file with the password of alerts.mail.user")
	case c.Timeout <= 0 || c.Timeout > Duration(2*time.Minute):
		return bad("alerts.mail.timeout", "%v; use up to 2m", time.Duration(c.Timeout))
	case len(c.Security) > maxAddresses || len(c.Management) > maxAddresses:
		return bad("alerts.mail", "more than %d addresses; use one of a list", maxAddresses)
	}
	m := notify.Mail{Server: c.Server, TLS: c.TLS, User: c.User, From: c.From, Security: c.Security, Management: c.Management,
		Password: func() ([]byte, error) { return nil, nil }}
	if err := m.Check(); err != nil {
		return bad("alerts", "%v", err)
	}
	return nil
}

// notifyConfig reads what alerts need: certificates now, secrets each time.
func (c Config) notifyConfig() (out notify.Config, err error) {
	a := c.Alerts
	out = notify.Config{
		Organisation: c.Organisation, Environment: c.Environment, Issuer: c.Issuer, Repeat: time.Duration(a.Repeat), EscalateAfter: time.Duration(a.EscalateAfter),
	}
	if out.Zone, err = time.LoadLocation(a.Zone); err != nil {
		return out, fmt.Errorf("%w: alerts.zone: %w", ErrConfig, err)
	}
	if m := a.Mail; m.Server != "" {
		out.Mail = &notify.Mail{Server: m.Server, TLS: m.TLS, User: m.User, From: m.From, Security: m.Security, Management: m.Management, Timeout: time.Duration(m.Timeout)}
		if out.Mail.Roots, err = c.roots("alerts.mail.roots", m.Roots); err != nil {
			return out, err
		}
		if m.User != "" {
			out.Mail.Password = c.secretFile(m.PasswordFile)
			if _, err := out.Mail.Password(); err != nil {
				return out, fmt.Errorf("%w: alerts.mail.passwordFile: %w", ErrConfig, err)
			}
		}
	}
	for i, w := range a.Webhooks {
		key := fmt.Sprintf("alerts.webhooks[%d]", i)
		hook := notify.Webhook{Name: w.Name, URL: w.URL, Secrets: c.secretFile(w.SecretFile), Timeout: time.Duration(w.Timeout)}
		for _, audience := range w.Audiences {
			hook.Audiences = append(hook.Audiences, notify.Audience(audience))
		}
		if len(hook.Audiences) == 0 {
			hook.Audiences = []notify.Audience{notify.Security}
		}
		if hook.Roots, err = c.roots(key+".roots", w.Roots); err != nil {
			return out, err
		}
		text, err := hook.Secrets()
		if err == nil {
			_, err = notify.ParseSecrets(text)
		}
		if err != nil {
			return out, fmt.Errorf("%w: %s.secretFile: %w", ErrConfig, key, err)
		}
		out.Webhooks = append(out.Webhooks, hook)
	}
	return out, nil
}

// roots reads root certificates; nil for those of the machine.
func (c Config) roots(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	list, err := readCertificates(c.Path(file))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, key, err)
	}
	pool := x509.NewCertPool()
	for _, one := range list {
		pool.AddCert(one)
	}
	return pool, nil
}

// maxSecretFile bounds a file with a secret.
const maxSecretFile = 4096

// secretFile reads a secret: a file that only its owner can use, or a credential of systemd.
func (c Config) secretFile(file string) func() ([]byte, error) {
	return func() ([]byte, error) {
		path, others := c.Path(file), os.FileMode(0o077)
		if name, ok := strings.CutPrefix(file, "credential:"); ok {
			folder := os.Getenv("CREDENTIALS_DIRECTORY")
			if folder == "" || name == "" || name != filepath.Base(name) {
				return nil, fmt.Errorf("no credential %q: let systemd start the service with LoadCredential=%s:…", name, name)
			}
			path, others = filepath.Join(folder, name), 0o007 // systemd shares them with the service's group
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		info, err := f.Stat()
		switch {
		case err != nil:
			return nil, err
		case !info.Mode().IsRegular() || info.Size() > maxSecretFile:
			return nil, fmt.Errorf("%s is no file of up to %d bytes", path, maxSecretFile)
		case info.Mode().Perm()&others != 0:
			return nil, fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it", path, info.Mode().Perm())
		}
		b := make([]byte, maxSecretFile)
		n, err := f.Read(b)
		if n == 0 {
			return nil, fmt.Errorf("%s is empty", path)
		}
		return slices.Clip(b[:n]), err
	}
}
