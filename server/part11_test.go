package server_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
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

// A service that is reached over open networks speaks nothing but TLS 1.3, on each of its doors: a client that offers less, or no
// encryption at all, gets no answer. What leaves as a record is signed.
func TestOpenSystem(t *testing.T) {
	t.Attr("requirement", "11.30")
	s := start(t, withPages, func(c *server.Config) { c.Web.Address, c.Pages.Address = "127.0.0.1:0", "127.0.0.1:0" })
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
