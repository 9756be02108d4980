package server_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/deploy"
	"github.com/signetd/signet/server"
)

// Which records fall under Part 11, and stand in for paper, is a flag of their type, and whoever lists the types is told.
func TestTypesUnderPart11(t *testing.T) {
	t.Attr("requirement", "11.1")
	t.Attr("requirement", "11.2")
	s := start(t)
	types, err := s.records.ListRecordTypes(s.rita, &signetv1.ListRecordTypesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, typ := range types.GetRecordTypes() {
		told[typ.GetId()] = typ.GetPart11()
	}
	for _, id := range []string{"access-review", "conformance", "document", "release", "verification"} {
		if under, listed := told[id]; !under || !listed {
			t.Errorf("%s: listed %t, under Part 11 %t", id, listed, under)
		}
	}
}

// Whoever sets a system up says whether it is a closed or an open one, and each record says it too.
func TestSystemDeclared(t *testing.T) {
	t.Attr("requirement", "11.3")
	for name, c := range map[string]struct {
		environment, access string
		want                bool
	}{
		"production, silent":   {server.Production, "", false},
		"validation, silent":   {server.Validation, "", false},
		"demo, silent":         {server.Demo, "", true},
		"production, closed":   {server.Production, "closed", true},
		"production, open":     {server.Production, "open", true},
		"demo, something else": {server.Demo, "ajar", false},
	} {
		config := server.DefaultConfig()
		config.Environment, config.SystemAccess, config.HSM.PINFile = c.environment, c.access, "credential:pin"
		if err := config.Validate(); (err == nil) != c.want || err != nil && !strings.Contains(err.Error(), "systemAccess") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for declared, want := range map[string]string{"": "closed", "closed": "closed", "open": "open"} {
		s := start(t, func(c *server.Config) { c.SystemAccess = declared })
		s.sign(s.ada, "ada", s.prepare(s.ada))
		m, err := manifest.Parse(s.manifest())
		if err != nil || m.Record.System.Access != want {
			t.Errorf("declared %q: the record says %q, %v", declared, m.Record.System.Access, err)
		}
	}
}

// Declared open, a service refuses each setting that would let something leave without encryption.
func TestOpenSystemRefusesClearText(t *testing.T) {
	t.Attr("requirement", "11.30")
	for key, change := range map[string]func(c *server.Config, host string){
		"metrics.address": func(c *server.Config, host string) { c.Metrics.Address = host + ":9464" },
		"web.publicURL":   func(c *server.Config, host string) { c.Web.PublicURL = "http://" + host },
		"timestamp.external[0].url": func(c *server.Config, host string) {
			c.Timestamp.External = []server.ExternalTSAConfig{{Name: "other", URL: "http://" + host + "/tsa", Roots: "roots.pem"}}
		},
		"mail": func(c *server.Config, host string) {
			c.Alerts.Mail.Server, c.Alerts.Mail.TLS, c.Alerts.Mail.From, c.Alerts.Mail.Security = host+":25", "none", "signet@example.com", []string{"security@example.com"}
		},
		"alerts.webhooks[0].url": func(c *server.Config, host string) {
			c.Alerts.Webhooks = []server.WebhookConfig{{Name: "siem", URL: "http://" + host, SecretFile: "secret"}}
		},
		"ledger.archive.store": func(c *server.Config, host string) {
			c.Ledger.Archive.Store = "s3://bucket/prefix?endpoint=http://" + host
		},
	} {
		for host, want := range map[string]bool{"10.0.0.7": false, "127.0.0.1": true} {
			c := server.DefaultConfig()
			c.Environment, c.SystemAccess = server.Demo, manifest.Open
			change(&c, host)
			if err := c.Validate(); (err == nil) != want || err != nil && !strings.Contains(err.Error(), key) {
				t.Errorf("%s at %s: %v", key, host, err)
			}
		}
	}
}

// A service that is reached over open networks speaks nothing but TLS 1.3, on each of its doors: a client that offers less, or no
// encryption at all, gets no answer. What leaves as a record is signed.
func TestOpenSystem(t *testing.T) {
	t.Attr("requirement", "11.30")
	s := start(t, withPages, func(c *server.Config) {
		c.SystemAccess, c.Web.Address, c.Pages.Address = manifest.Open, "127.0.0.1:0", "127.0.0.1:0"
	})
	doors := map[string]string{"gRPC": s.Address, "HTTPS": s.WebAddress(), "pages": s.PagesAddress()}
	for door, address := range doors {
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS12: false, tls.VersionTLS13: true} {
			c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}}) //nolint:gosec // what is asked is which version it speaks
			if (err == nil) != want {
				t.Errorf("%s, %s: %v", door, tls.VersionName(version), err)
			}
			if err == nil {
				c.Close()
			}
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4096)
		n, _ := c.Read(answer)
		if text := answer[:n]; bytes.HasPrefix(text, []byte("HTTP/1.")) && !bytes.Contains(text, []byte(http.StatusText(http.StatusBadRequest))) {
			t.Errorf("%s answers without encryption: %q", door, text)
		}
	}
	s.sign(s.ada, "ada", s.prepare(s.ada))
	m, err := manifest.Parse(s.manifest())
	if err != nil || len(m.Signatures) < 2 {
		t.Errorf("%v, %d signatures", err, len(m.Signatures))
	}
}

// Each manifest names the documentation and the configuration that were in force when its record was made.
func TestDocumentsAndConfigurationInForce(t *testing.T) {
	t.Attr("requirement", "11.10(k)")
	s := start(t)
	system := func() manifest.System {
		t.Helper()
		r, err := manifest.ParseRecord(s.record.GetContent())
		if err != nil {
			t.Fatal(err)
		}
		return r.System
	}
	documents, err := deploy.Digest()
	if err != nil {
		t.Fatal(err)
	}
	before := system()
	if before.Documents != documents || before.Configuration == "" || before.Strategy == "" || before.Software != "signet v0.0.0-test" {
		t.Errorf("%+v, want the documents %s", before, documents)
	}
	s.sign(s.ada, "ada", s.prepare(s.ada))
	m, err := manifest.Parse(s.manifest())
	if err != nil || m.Record.System != before {
		t.Errorf("the manifest says %+v, %v", m.Record.System, err)
	}
	s.Config.Identity.LockAfter++
	s.Restart()
	s.connect()
	s.rita = s.Login("rita")
	h := header("ada")
	h.Version = "v0.1.1"
	s.record = s.create(h)
	if after := system(); after.Configuration == before.Configuration || after.Documents != before.Documents {
		t.Errorf("with another configuration: %+v, was %+v", after, before)
	}
}
