package server

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/manifest"
)

// TestBounds holds each setting against the values that are just allowed, and those that are just not: a wrong one is refused before anything
// starts, and the error names its key.
func TestBounds(t *testing.T) {
	const ms, s, m, h = Duration(time.Millisecond), Duration(time.Second), Duration(time.Minute), Duration(time.Hour)
	production := func() Config {
		c := DefaultConfig()
		c.SystemAccess, c.HSM.PINFile = "closed", "credential:pin"
		return c
	}
	demo := func() Config {
		c := DefaultConfig()
		c.Environment = Demo
		return c
	}
	mail := func(c *Config) {
		c.Alerts.Mail.Server, c.Alerts.Mail.From, c.Alerts.Mail.Security = "mail.example:587", "signet@example.com", []string{"security@example.com"}
	}
	addresses := func(n int) []string { return slices.Repeat([]string{"security@example.com"}, n) }
	hook := func(c *Config, change func(*WebhookConfig)) {
		w := WebhookConfig{Name: "siem", URL: "https://siem.example/hook", SecretFile: "credential:siem"}
		change(&w)
		c.Alerts.Webhooks = []WebhookConfig{w}
	}
	authority := func(c *Config, change func(*ExternalTSAConfig)) {
		e := ExternalTSAConfig{Name: "other", URL: "https://tsa.example/", Roots: "roots.pem"}
		change(&e)
		c.Timestamp.External = []ExternalTSAConfig{e}
	}
	authorities := func(n int) (out []ExternalTSAConfig) {
		for i := range n {
			out = append(out, ExternalTSAConfig{Name: strings.Repeat("a", i+1), URL: "http://tsa.example", Roots: "roots.pem"})
		}
		return out
	}
	hooks := func(n int) (out []WebhookConfig) {
		for i := range n {
			out = append(out, WebhookConfig{Name: strings.Repeat("a", i+1), URL: "https://siem.example/hook", SecretFile: "credential:siem"})
		}
		return out
	}
	tokens := func(c *Config, n int) {
		c.HSM = HSMConfig{SelfTestEvery: Duration(24 * time.Hour)}
		for i := range n {
			one := TokenConfig{Name: strings.Repeat("a", i+1), Token: "signet", PINFile: "credential:pin", ReplicaOf: "a"}
			if i == 0 {
				one.ReplicaOf = ""
			}
			c.HSM.Tokens = append(c.HSM.Tokens, one)
		}
	}
	long := strings.Repeat("n", 65)
	for _, tc := range []struct {
		key    string // that the error names
		base   func() Config
		good   []func(*Config)
		wrong  []func(*Config)
		errors string // what else it says
	}{
		{key: "environment", base: production, good: []func(*Config){func(c *Config) { c.Environment = Validation }}, wrong: []func(*Config){func(c *Config) { c.Environment = "" }}},
		{key: "dataDir", base: demo, wrong: []func(*Config){func(c *Config) { c.DataDir = "" }}},
		{key: "issuer", base: demo, good: []func(*Config){func(c *Config) { c.Issuer = "https://sign.example/a" }}, wrong: []func(*Config){
			func(c *Config) { c.Issuer = "https://sign.example/" }, func(c *Config) { c.Issuer = "https://" }, func(c *Config) { c.Issuer = "https://sign.example?a" },
			func(c *Config) { c.Issuer = "https://sign.example#a" }, func(c *Config) { c.Issuer = "https://sign.example\n" }, func(c *Config) { c.Issuer = "" },
		}},
		{key: "organisation", base: demo, wrong: []func(*Config){func(c *Config) { c.Organisation = "" }}},
		{key: "ledger.origin", base: demo, wrong: []func(*Config){
			func(c *Config) { c.Ledger.Origin = "" }, func(c *Config) { c.Ledger.Origin = "a b" }, func(c *Config) { c.Ledger.Origin = "a+b" }, func(c *Config) { c.Ledger.Origin = "a\nb" },
		}},
		{key: "identity.sessionIdle", base: demo, good: []func(*Config){func(c *Config) { c.Identity.SessionIdle = 1 }}, wrong: []func(*Config){func(c *Config) { c.Identity.SessionIdle = 0 }}},
		{key: "identity.sessionLifetime", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.SessionLifetime = 0 }}},
		{key: "identity.codeLifetime", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.CodeLifetime = 0 }}},
		{key: "identity.lockFor", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.LockFor = 0 }}},
		{key: "identity.lockout.delay", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.Lockout.Delay = 0 }}},
		{key: "signing.preparationLifetime", base: demo, wrong: []func(*Config){func(c *Config) { c.Signing.PreparationLifetime = 0 }}},
		{key: "timestamp.accuracy", base: demo, good: []func(*Config){func(c *Config) { c.Timestamp.Accuracy = s }}, wrong: []func(*Config){
			func(c *Config) { c.Timestamp.Accuracy = s + 1 }, func(c *Config) { c.Timestamp.Accuracy = 0 },
		}},
		{key: "identity.lockAfter", base: demo, good: []func(*Config){func(c *Config) { c.Identity.LockAfter = 1 }}, wrong: []func(*Config){func(c *Config) { c.Identity.LockAfter = 0 }}},
		{key: "identity.lockAfter", base: production, good: []func(*Config){func(c *Config) { c.Identity.LockAfter = 100 }}, wrong: []func(*Config){func(c *Config) { c.Identity.LockAfter = 101 }}},
		{key: "identity.lockout.name", base: production, good: []func(*Config){func(c *Config) { c.Identity.Lockout.Name = 100 }}, wrong: []func(*Config){func(c *Config) { c.Identity.Lockout.Name = 101 }}},
		{key: "identity.sessionIdle", base: production, good: []func(*Config){func(c *Config) { c.Identity.SessionIdle = h }}, wrong: []func(*Config){func(c *Config) { c.Identity.SessionIdle = h + 1 }}},
		{key: "identity.sessionLifetime", base: production, good: []func(*Config){func(c *Config) { c.Identity.SessionLifetime = 24 * h }}, wrong: []func(*Config){func(c *Config) { c.Identity.SessionLifetime = 24*h + 1 }}},
		{key: "identity.codeLifetime", base: production, good: []func(*Config){func(c *Config) { c.Identity.CodeLifetime = 24 * h }}, wrong: []func(*Config){func(c *Config) { c.Identity.CodeLifetime = 24*h + 1 }}},
		{key: "signing.preparationLifetime", base: production, good: []func(*Config){func(c *Config) { c.Signing.PreparationLifetime = h }}, wrong: []func(*Config){func(c *Config) { c.Signing.PreparationLifetime = h + 1 }}},
		{key: "identity.lockAfter", base: demo, good: []func(*Config){func(c *Config) { c.Identity.LockAfter = 101 }}},
		{key: "identity.lockout.name", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.Lockout.Name = 0 }}},
		{key: "identity.lockout.network", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.Lockout.Network = 0 }}},
		{key: "identity.lockout.flood", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.Lockout.Flood = 0 }}},
		{key: "identity.passwordChecks", base: demo, wrong: []func(*Config){func(c *Config) { c.Identity.PasswordChecks = 0 }}},
		{key: "limits.messageBytes", base: demo, wrong: []func(*Config){func(c *Config) { c.Limits.MessageBytes = 0 }}},
		{key: "limits.documentBytes", base: demo, wrong: []func(*Config){func(c *Config) { c.Limits.DocumentBytes = 0 }}},
		{key: "limits.calls", base: demo, wrong: []func(*Config){func(c *Config) { c.Limits.Calls = 0 }}},
		{key: "identity.minPassword", base: demo, good: []func(*Config){func(c *Config) { c.Identity.MinPassword = 8 }}, wrong: []func(*Config){
			func(c *Config) { c.Identity.MinPassword, c.Identity.MinPasswordWithFactor = 7, 8 }}, errors: ""},
		{key: "identity.minPassword", base: production, wrong: []func(*Config){func(c *Config) { c.Identity.MinPassword = 14 }}},
		{key: "identity.passwordMemory", base: demo, good: []func(*Config){func(c *Config) { c.Identity.PasswordMemory = 8 }, func(c *Config) { c.Identity.PasswordMemory = 4096 }},
			wrong: []func(*Config){func(c *Config) { c.Identity.PasswordMemory = 7 }, func(c *Config) { c.Identity.PasswordMemory = 4097 }}},
		{key: "identity.passwordMemory", base: production, wrong: []func(*Config){func(c *Config) { c.Identity.PasswordMemory = 63 }}},
		{key: "identity.passwordPasses", base: demo, good: []func(*Config){func(c *Config) { c.Identity.PasswordPasses = 1 }, func(c *Config) { c.Identity.PasswordPasses = 64 }},
			wrong: []func(*Config){func(c *Config) { c.Identity.PasswordPasses = 0 }, func(c *Config) { c.Identity.PasswordPasses = 65 }}},
		{key: "identity.passwordPasses", base: production, wrong: []func(*Config){func(c *Config) { c.Identity.PasswordPasses = 2 }}},
		{key: "identity.testEvery", base: demo, good: []func(*Config){func(c *Config) { c.Identity.TestEvery = 0 }, func(c *Config) { c.Identity.TestEvery = 24 * h }},
			wrong: []func(*Config){func(c *Config) { c.Identity.TestEvery = -24 * h }, func(c *Config) { c.Identity.TestEvery = 24*h - 1 }, func(c *Config) { c.Identity.TestEvery = 1 }}},
		{key: "identity.testEvery", base: production, wrong: []func(*Config){func(c *Config) { c.Identity.TestEvery = 0 }}},
		{key: "identity.passwordAge", base: demo, good: []func(*Config){func(c *Config) { c.Identity.PasswordAge = 24 * h }}, wrong: []func(*Config){
			func(c *Config) { c.Identity.PasswordAge = 24*h - 1 }, func(c *Config) { c.Identity.PasswordAge = -1 },
		}},
		{key: "identity.minPasswordWithFactor", base: demo, good: []func(*Config){func(c *Config) { c.Identity.MinPasswordWithFactor = c.Identity.MinPassword }}, wrong: []func(*Config){
			func(c *Config) { c.Identity.MinPasswordWithFactor = c.Identity.MinPassword + 1 },
		}},
		{key: "identity.continuousSigning", base: demo, good: []func(*Config){func(c *Config) { c.Identity.ContinuousSigning.Longest = c.Identity.ContinuousSigning.Idle }}, wrong: []func(*Config){
			func(c *Config) { c.Identity.ContinuousSigning.Longest = c.Identity.ContinuousSigning.Idle - 1 },
		}},
		{key: "identity.requires", base: demo, good: []func(*Config){func(c *Config) { c.Identity.Requires, c.Identity.Preset = "passkey", PresetOpen }}},
		{key: "identity.proposalLifetime", base: demo, good: []func(*Config){func(c *Config) { c.Identity.ProposalLifetime = 90 * 24 * h }}, wrong: []func(*Config){
			func(c *Config) { c.Identity.ProposalLifetime = 90*24*h + 1 },
		}},
		{key: "identity.letterReference", base: demo, good: []func(*Config){func(c *Config) { c.Identity.LetterReference = strings.Repeat("ä", 200) }}, wrong: []func(*Config){
			func(c *Config) { c.Identity.LetterReference = strings.Repeat("a", 201) }, func(c *Config) { c.Identity.LetterReference = " letter" },
			func(c *Config) { c.Identity.LetterReference = "a\xffb" }, func(c *Config) { c.Identity.LetterReference = "a\nb" },
		}},
		{key: "certificates.listLifetime", base: demo, good: []func(*Config){func(c *Config) { c.Certificates.ListLifetime = 24 * h }, func(c *Config) { c.Certificates.ListLifetime = 8784 * h }},
			wrong: []func(*Config){func(c *Config) { c.Certificates.ListLifetime = 24*h - 1 }, func(c *Config) { c.Certificates.ListLifetime = 8784*h + 1 }}},
		{key: "certificates.renewBefore", base: demo, wrong: []func(*Config){func(c *Config) { c.Certificates.RenewBefore = 0 }, func(c *Config) { c.Certificates.RenewBefore = 8785 * h }}},
		{key: "pages.publicURL", base: demo, good: []func(*Config){func(c *Config) { c.Pages.PublicURL = "https://sign.example:9443" }}, wrong: []func(*Config){
			func(c *Config) { c.Pages.PublicURL = "https://sign.example:" }, func(c *Config) { c.Pages.PublicURL = "https://sign.example?" },
			func(c *Config) { c.Pages.PublicURL = "https://sign.example#a" }, func(c *Config) { c.Pages.PublicURL = "https://sign.example#" },
			func(c *Config) { c.Pages.PublicURL = "https://:9443" }, func(c *Config) { c.Pages.PublicURL = "https://sign.example\x7f" },
		}},
		{key: "pages.publicURL", base: production, good: []func(*Config){func(c *Config) { c.Pages.Address, c.Pages.PublicURL = "127.0.0.1:9443", "https://sign.example" }}},
		{key: "web.publicURL", base: demo, good: []func(*Config){
			func(c *Config) { c.Web.PublicURL = "http://sign.example/a" },
			func(c *Config) {
				c.Web.PublicURL = "https://sign.example/" + strings.Repeat("a", 200-len("https://sign.example/"))
			},
		}, wrong: []func(*Config){
			func(c *Config) {
				c.Web.PublicURL = "https://sign.example/" + strings.Repeat("a", 201-len("https://sign.example/"))
			},
			func(c *Config) { c.Web.PublicURL = "https://sign.example/" }, func(c *Config) { c.Web.PublicURL = "ldap://sign.example" },
			func(c *Config) { c.Web.PublicURL = "https://:80" }, func(c *Config) { c.Web.PublicURL = "https://ada@sign.example" },
			func(c *Config) { c.Web.PublicURL = "https://sign.example?a" }, func(c *Config) { c.Web.PublicURL = "https://sign.example#a" },
			func(c *Config) { c.Web.PublicURL = "HTTPS://sign.example" }, func(c *Config) { c.Web.PublicURL = "https://sign.example\x7f" },
		}},
		{key: "web.address", base: demo, wrong: []func(*Config){func(c *Config) { c.Web.Address = "localhost" }}},
		{key: "web.certificate", base: demo, wrong: []func(*Config){
			func(c *Config) { c.Web.Address, c.Web.Certificate = "127.0.0.1:9444", "a.pem" }, func(c *Config) { c.Web.Address, c.Web.Key = "127.0.0.1:9444", "a-key.pem" },
		}},
		{key: "services.revocationLists", base: demo, good: []func(*Config){func(c *Config) {
			c.Services.RevocationLists, c.Services.ClientAuthorities = []string{"ca.crl"}, []string{"ca.pem"}
		}}},
		{key: "services.callsPerSecond", base: demo, good: []func(*Config){
			func(c *Config) { c.Services.CallsPerSecond, c.Services.Burst = 0, 0 }, func(c *Config) { c.Services.CallsPerSecond, c.Services.Burst = 1e6, 1e6 },
		}, wrong: []func(*Config){
			func(c *Config) { c.Services.CallsPerSecond = 1e6 + 1 }, func(c *Config) { c.Services.Burst = 1e6 + 1 }, func(c *Config) { c.Services.Burst = -1 },
		}},
		{key: "network.callsPerSecond", base: demo, good: []func(*Config){
			func(c *Config) { c.Network.CallsPerSecond, c.Network.Burst = 1e6, 1e6 },
		}, wrong: []func(*Config){
			func(c *Config) { c.Network.CallsPerSecond = 1e6 + 1 }, func(c *Config) { c.Network.Burst = 1e6 + 1 }, func(c *Config) { c.Network.Burst = -1 },
		}},
		{key: "network.proxyProtocol", base: demo, good: []func(*Config){func(c *Config) { c.Network.ProxyProtocol, c.Network.TrustedProxies = true, []string{"192.0.2.1"} }}},
		{key: "network.perAddress", base: demo, wrong: []func(*Config){func(c *Config) { c.Network.PerAddress = 0 }}},
		{key: "network.handshakes", base: demo, wrong: []func(*Config){func(c *Config) { c.Network.Handshakes = 0 }}},
		{key: "alerts.repeat", base: demo, good: []func(*Config){func(c *Config) { c.Alerts.Repeat = s }, func(c *Config) { c.Alerts.Repeat = 24 * h }},
			wrong: []func(*Config){func(c *Config) { c.Alerts.Repeat = s - 1 }, func(c *Config) { c.Alerts.Repeat = 24*h + 1 }}},
		{key: "alerts.repeat", base: production, good: []func(*Config){func(c *Config) { c.Alerts.Repeat = m }}, wrong: []func(*Config){func(c *Config) { c.Alerts.Repeat = m - 1 }}},
		{key: "alerts.escalateAfter", base: demo, good: []func(*Config){func(c *Config) { c.Alerts.EscalateAfter = s }, func(c *Config) { c.Alerts.EscalateAfter = 7 * 24 * h }},
			wrong: []func(*Config){func(c *Config) { c.Alerts.EscalateAfter = s - 1 }, func(c *Config) { c.Alerts.EscalateAfter = 7*24*h + 1 }}},
		{key: "alerts.zone", base: demo, wrong: []func(*Config){func(c *Config) { c.Alerts.Zone = "Local" }}},
		{key: "alerts.mail", base: demo, good: []func(*Config){
			func(c *Config) { mail(c); c.Alerts.Mail.Timeout = 2 * m }, func(c *Config) { mail(c); c.Alerts.Mail.User, c.Alerts.Mail.PasswordFile = "signet", "credential:mail" },
			func(c *Config) {
				mail(c)
				c.Alerts.Mail.Security, c.Alerts.Mail.Management = addresses(20), addresses(20)
			},
		}, wrong: []func(*Config){
			func(c *Config) { mail(c); c.Alerts.Mail.Timeout = 2*m + 1 }, func(c *Config) { mail(c); c.Alerts.Mail.Security = addresses(21) },
			func(c *Config) { mail(c); c.Alerts.Mail.Management = addresses(21) },
		}},
		{key: "alerts.webhooks", base: demo, good: []func(*Config){
			func(c *Config) { c.Alerts.Webhooks = hooks(8) }, func(c *Config) { hook(c, func(w *WebhookConfig) { w.Name = long[:64] }) },
			func(c *Config) {
				hook(c, func(w *WebhookConfig) { w.Timeout, w.Audiences = m, []string{"security", "management"} })
			},
		}, wrong: []func(*Config){
			func(c *Config) { c.Alerts.Webhooks = hooks(9) }, func(c *Config) { hook(c, func(w *WebhookConfig) { w.Name = long }) },
			func(c *Config) { hook(c, func(w *WebhookConfig) { w.Name = "" }) }, func(c *Config) { hook(c, func(w *WebhookConfig) { w.Timeout = m + 1 }) },
		}},
		{key: "hsm.selfTestEvery", base: demo, good: []func(*Config){func(c *Config) { c.HSM.SelfTestEvery = 0 }}},
		{key: "hsm.tokens", base: demo, good: []func(*Config){func(c *Config) { tokens(c, maxTokens) }}, wrong: []func(*Config){func(c *Config) { tokens(c, maxTokens+1) }}},
		{key: "hsm.tokens[0].name", base: demo, good: []func(*Config){func(c *Config) { tokens(c, 1); c.HSM.Tokens[0].Name = long[:32] }}, wrong: []func(*Config){
			func(c *Config) { tokens(c, 1); c.HSM.Tokens[0].Name = long[:33] },
		}},
		{key: "hsm.tokens[1].replicaOf", base: demo, wrong: []func(*Config){
			func(c *Config) { tokens(c, 3); c.HSM.Tokens[1].ReplicaOf = "aaa" }, func(c *Config) { tokens(c, 2); c.HSM.Tokens[1].ReplicaOf = "aa" },
		}},
		{key: "hsm.roles.ca", base: demo, wrong: []func(*Config){func(c *Config) { tokens(c, 2); c.HSM.Tokens[1].ReplicaOf = "" }}, errors: "is missing"},
		{key: "hsm.tokens[0].processes", base: demo, good: []func(*Config){func(c *Config) { tokens(c, 1); c.HSM.Tokens[0].Processes = maxProcesses }}, wrong: []func(*Config){
			func(c *Config) { tokens(c, 1); c.HSM.Tokens[0].Processes = -1 },
		}},
		{key: "hsm.tokens[0].token", base: demo, wrong: []func(*Config){
			func(c *Config) { tokens(c, 1); c.HSM.Tokens[0].Token = "pkcs11:token=a?pin-value=1" }, func(c *Config) { tokens(c, 1); c.HSM.Tokens[0].Token = "pkcs11:token=a?pin-source=a" },
		}},
		{key: "hsm", base: demo, errors: "leave one of them out", wrong: []func(*Config){
			func(c *Config) { tokens(c, 1); c.HSM.Token = "a" }, func(c *Config) { tokens(c, 1); c.HSM.PINFile = "a" }, func(c *Config) { tokens(c, 1); c.HSM.SoftHSMConf = "a" },
			func(c *Config) { tokens(c, 1); c.HSM.Workers = 1 }, func(c *Config) { tokens(c, 1); c.HSM.Processes = 1 }, func(c *Config) { tokens(c, 1); c.HSM.Module = "a" },
		}},
		{key: "ledger.archive", base: demo, good: []func(*Config){
			func(c *Config) { c.Ledger.Archive.Keep, c.Ledger.Archive.Every = 256, s },
			func(c *Config) {
				c.Ledger.Archive.Store, c.Ledger.Archive.Retain = "s3://bucket/archive?endpoint=https://s3.example", 24*h
			},
		}, wrong: []func(*Config){func(c *Config) { c.Ledger.Archive.Retain = -1 }, func(c *Config) { c.Ledger.Archive.Retain = 1 }}},
		{key: "ledger.witness.delay", base: demo, good: []func(*Config){func(c *Config) { c.Ledger.Witness.Delay = 0 }, func(c *Config) { c.Ledger.Witness.Delay = m }},
			wrong: []func(*Config){func(c *Config) { c.Ledger.Witness.Delay = -1 }, func(c *Config) { c.Ledger.Witness.Delay = m + 1 }}},
		{key: "ledger.witness.timeout", base: demo, good: []func(*Config){func(c *Config) { c.Ledger.Witness.Timeout = 1 }, func(c *Config) { c.Ledger.Witness.Timeout = 5 * m }},
			wrong: []func(*Config){func(c *Config) { c.Ledger.Witness.Timeout = 0 }, func(c *Config) { c.Ledger.Witness.Timeout = 5*m + 1 }}},
		{key: "ledger.brackets.every", base: demo, good: []func(*Config){func(c *Config) { c.Ledger.Brackets.Every = 1 }, func(c *Config) { c.Ledger.Brackets.Every = manifest.MaxBracketLag }},
			wrong: []func(*Config){func(c *Config) { c.Ledger.Brackets.Every = 0 }, func(c *Config) { c.Ledger.Brackets.Every = manifest.MaxBracketLag + 1 }}},
		{key: "timestamp.external", base: demo, good: []func(*Config){
			func(c *Config) { c.Timestamp.External = authorities(maxExternal) }, func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.Name, e.Timeout = long[:64], m }) },
		}, wrong: []func(*Config){
			func(c *Config) { c.Timestamp.External = authorities(maxExternal + 1) }, func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.Name = "" }) },
			func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.Name = long }) }, func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.Name = "own" }) },
			func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.URL = "ftp://tsa.example" }) }, func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.URL = "https:///tsa" }) },
			func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.URL = "https://a@tsa.example" }) },
			func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.URL = "https://tsa.example#a" }) },
			func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.URL = "https://tsa.example\x7f" }) },
			func(c *Config) { authority(c, func(e *ExternalTSAConfig) { e.Timeout = m + 1 }) },
		}},
		{key: "timestamp.clock.sources", base: demo, good: []func(*Config){
			func(c *Config) { c.Timestamp.Clock.Sources = slices.Repeat([]string{"kernel"}, maxClockSources) },
		}, wrong: []func(*Config){func(c *Config) { c.Timestamp.Clock.Sources = slices.Repeat([]string{"kernel"}, maxClockSources+1) }}},
		{key: "timestamp.clock.every", base: demo, good: []func(*Config){
			func(c *Config) { c.Timestamp.Clock.Sources, c.Timestamp.Clock.Every = nil, 0 }, func(c *Config) { c.Timestamp.Clock.Sources, c.Timestamp.Clock.Every = []string{"kernel"}, s },
			func(c *Config) { c.Timestamp.Clock.Sources, c.Timestamp.Clock.Every = []string{"kernel"}, h },
		}, wrong: []func(*Config){
			func(c *Config) { c.Timestamp.Clock.Sources, c.Timestamp.Clock.Every = []string{"kernel"}, s-1 },
			func(c *Config) { c.Timestamp.Clock.Sources, c.Timestamp.Clock.Every = []string{"kernel"}, h+1 },
		}},
		{key: "timestamp.signatures.wait", base: demo, good: []func(*Config){
			func(c *Config) {
				c.Timestamp.External, c.Timestamp.Signatures = authorities(1), StampsConfig{Mode: stampsAll, Wait: 100 * ms}
			},
			func(c *Config) {
				c.Timestamp.External, c.Timestamp.Signatures = authorities(1), StampsConfig{Mode: stampsFirst, Wait: m}
			},
		}, wrong: []func(*Config){
			func(c *Config) {
				c.Timestamp.External, c.Timestamp.Signatures = authorities(1), StampsConfig{Mode: stampsAll, Wait: 100*ms - 1}
			},
			func(c *Config) {
				c.Timestamp.External, c.Timestamp.Signatures = authorities(1), StampsConfig{Mode: stampsAll, Wait: m + 1}
			},
		}},
		{key: "ledger.index.every", base: demo, good: []func(*Config){func(c *Config) { c.Ledger.Index.Every = 1 }, func(c *Config) { c.Ledger.Index.Every = math.MaxInt32 }},
			wrong: []func(*Config){func(c *Config) { c.Ledger.Index.Every = 0 }, func(c *Config) { c.Ledger.Index.Every = math.MaxInt32 + 1 }}},
		{key: "ledger.index.within", base: demo, wrong: []func(*Config){func(c *Config) { c.Ledger.Index.Within = 0 }}},
		{key: "ledger.rollback", base: demo, good: []func(*Config){
			func(c *Config) { c.Ledger.Rollback.WitnessTimeout = 5 * m }, func(c *Config) { c.Ledger.Rollback.RequireWitness, c.Ledger.Witness.Policy = true, "policy.txt" },
		}},
		{key: "ledger.scrub.rate", base: demo, good: []func(*Config){func(c *Config) { c.Ledger.Scrub.Rate = 0 }, func(c *Config) { c.Ledger.Scrub.Rate = 1 << 20 }},
			wrong: []func(*Config){func(c *Config) { c.Ledger.Scrub.Rate = 1<<20 + 1 }}},
		{key: "ledger.scrub.every", base: demo, good: []func(*Config){func(c *Config) { c.Ledger.Scrub.Every = 0 }, func(c *Config) { c.Ledger.Scrub.Every = s }},
			wrong: []func(*Config){func(c *Config) { c.Ledger.Scrub.Every = -s }, func(c *Config) { c.Ledger.Scrub.Every = s - 1 }}},
		{key: "systemAccess", base: production, good: []func(*Config){func(c *Config) { c.SystemAccess = "open" }}, wrong: []func(*Config){func(c *Config) { c.SystemAccess = "" }}},
		{key: "metrics.address", base: production, wrong: []func(*Config){func(c *Config) { c.Metrics.Address = "localhost" }}},
		{key: "log.level", base: demo, wrong: []func(*Config){func(c *Config) { c.Log.Level = "loud" }}},
		{key: "log.format", base: demo, wrong: []func(*Config){func(c *Config) { c.Log.Format = "xml" }}},
	} {
		good := append([]func(*Config){func(*Config) {}}, tc.good...)
		for i, change := range good {
			c := tc.base()
			change(&c)
			if err := c.Validate(); err != nil {
				t.Errorf("%s: the good value %d is refused: %v", tc.key, i, err)
			}
		}
		for i, change := range tc.wrong {
			c := tc.base()
			change(&c)
			if err := c.Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), " "+tc.key) || !strings.Contains(err.Error(), tc.errors) {
				t.Errorf("%s: the wrong value %d: %v", tc.key, i, err)
			}
		}
	}
}

// TestPINBehindALink: a data folder that is a link is the folder that it leads to, also for a PIN file that is not there yet.
func TestPINBehindALink(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		data, pin string
		inside    bool
	}{
		{"link", "token/user.pin", true}, {"link", filepath.Join(folder, "real", "user.pin"), true}, {"real", filepath.Join(folder, "link", "a", "user.pin"), true},
		{"link/not/yet", "user.pin", true}, {"link/not/yet", filepath.Join(folder, "real", "not", "yet", "user.pin"), true},
		{"link", "..", false}, {"link", "../user.pin", false}, {"link", filepath.Join(folder, "realer"), false}, {"link", "..pin", true},
	} {
		c := Config{DataDir: filepath.Join(folder, tc.data)}
		if inside, err := within(c.DataDir, c.Path(tc.pin)); err != nil || inside != tc.inside {
			t.Errorf("%s in %s: %v, %v", tc.pin, tc.data, inside, err)
		}
	}
}

// TestSecretFiles: a secret is read from a file that its owner alone can use, or from what systemd has loaded.
func TestSecretFiles(t *testing.T) {
	folder := t.TempDir()
	c := Config{DataDir: folder}
	write := func(name string, size int, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.Repeat("s", size)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(folder, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("good", 16, 0o400)
	write("long", maxSecretFile, 0o600)
	write("longer", maxSecretFile+1, 0o600)
	write("empty", 0, 0o600)
	write("group", 16, 0o640)
	write("world", 16, 0o604)
	if err := os.Mkdir(filepath.Join(folder, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	read := func(name string, want int, says string) {
		t.Helper()
		b, err := c.secretFile(name)()
		if want > 0 && (err != nil || len(b) != want) || want == 0 && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	read("good", 16, "")
	read("long", maxSecretFile, "")
	read("longer", 0, "no file of up to")
	read("empty", 0, "is empty")
	read("group", 0, "can be read by others")
	read("world", 0, "can be read by others")
	read("folder", 0, "no file of up to")
	read("none", 0, "no such file")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	read("credential:group", 0, "LoadCredential=group")
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(folder, "folder"))
	read("credential:group", 0, "no such file")
	read("credential:../good", 0, "no credential")
	read("credential:", 0, "no credential")
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	read("credential:group", 16, "") // systemd shares them with the service's group
	read("credential:world", 0, "can be read by others")
}

// TestAlertFiles: files that alerts need are read at the start, not when there is something to tell.
func TestAlertFiles(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
	write("password", "a password\n")
	write("text", "no certificate\n")
	for _, tc := range []struct {
		key    string // of what is wrong; empty: nothing
		change func(*AlertsConfig)
	}{
		{"", func(*AlertsConfig) {}},
		{"alerts.zone", func(a *AlertsConfig) { a.Zone = "Mars/Olympus" }},
		{"alerts.mail.roots", func(a *AlertsConfig) { a.Mail.Roots = "text" }},
		{"alerts.mail.passwordFile", func(a *AlertsConfig) { a.Mail.PasswordFile = "none" }},
		{"", func(a *AlertsConfig) { a.Mail.User, a.Mail.PasswordFile = "", "none" }},
		{"", func(a *AlertsConfig) { a.Mail.Server, a.Mail.Roots = "", "none" }},
		{"alerts.webhooks[0].roots", func(a *AlertsConfig) { a.Webhooks[0].Roots = "none" }},
		{"alerts.webhooks[0].secretFile", func(a *AlertsConfig) { a.Webhooks[0].SecretFile = "none" }},
		{"alerts.webhooks[0].secretFile", func(a *AlertsConfig) { a.Webhooks[0].SecretFile = "text" }},
	} {
		c := DefaultConfig()
		c.DataDir = folder
		c.Alerts.Mail.Server, c.Alerts.Mail.User, c.Alerts.Mail.PasswordFile = "mail.example:587", "signet", "password"
		c.Alerts.Webhooks = []WebhookConfig{{Name: "siem", URL: "https://siem.example/hook", SecretFile: "secret"}}
		tc.change(&c.Alerts)
		out, err := c.notifyConfig()
		if (err == nil) != (tc.key == "") || err != nil && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.key)) {
			t.Errorf("%s: %v", tc.key, err)
		}
		if err == nil && (len(out.Webhooks[0].Audiences) != 1 || out.Webhooks[0].Audiences[0] != "security" || (out.Mail == nil) != (c.Alerts.Mail.Server == "")) {
			t.Errorf("%+v", out)
		}
	}
}
