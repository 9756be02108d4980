package server_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// post sends a body to the time-stamping authority.
func (w *web) post(kind string, body []byte) (answer, []byte) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.root+"/tsa", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Content-Type", kind)
	reply, err := w.client.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answerOf(reply), b
}

const queryType = "application/timestamp-query"

// openssl makes the queries and verifies the answers, as somebody does who has nothing of ours but the CA's certificate.
func TestWebTimestamp(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.Web.Address, c.Timestamp.Web = "127.0.0.1:0", true })
	w := newWeb(t, s)
	dir := t.TempDir()
	trustFile, err := os.ReadFile(s.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(trustFile)
	if err != nil {
		t.Fatal(err)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trust.TimestampRoots[0].Certificate})
	data := []byte("what is to be time-stamped")
	for name, b := range map[string][]byte{"root.pem": root, "data": data} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl := func(t *testing.T, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for name, flags := range map[string][]string{
		"sha256 with the certificate": {"-sha256", "-cert"}, "sha384": {"-sha384", "-cert"}, "sha512 without a nonce": {"-sha512", "-cert", "-no_nonce"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			openssl(t, append([]string{"ts", "-query", "-data", "data", "-out", "query.tsq"}, flags...)...)
			query, err := os.ReadFile(filepath.Join(dir, "query.tsq"))
			if err != nil {
				t.Fatal(err)
			}
			reply, answer := w.post(queryType, query)
			if reply.StatusCode != http.StatusOK || reply.Header.Get("Content-Type") != "application/timestamp-reply" || reply.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%s %v: %s", reply.Status, reply.Header, answer)
			}
			if err := os.WriteFile(filepath.Join(dir, "reply.tsr"), answer, 0o600); err != nil {
				t.Fatal(err)
			}
			if out := openssl(t, "ts", "-verify", "-in", "reply.tsr", "-queryfile", "query.tsq", "-CAfile", "root.pem"); !strings.Contains(out, "Verification: OK") {
				t.Error(out)
			}
		})
	}
	t.Run("refusals are answers", func(t *testing.T) {
		imprint := sha256.Sum256(data)
		for name, body := range map[string][]byte{"nothing": nil, "no DER": []byte("hello"), "the imprint alone": imprint[:]} {
			reply, answer := w.post(queryType, body)
			if _, err := rfc3161.ParseResponse(answer); reply.StatusCode != http.StatusOK || err == nil || !strings.Contains(err.Error(), "badDataFormat") {
				t.Errorf("%s: %s, %v", name, reply.Status, err)
			}
		}
	})
	t.Run("an HSM that fails is a refusal", func(t *testing.T) {
		openssl(t, "ts", "-query", "-data", "data", "-sha256", "-out", "query.tsq")
		query, err := os.ReadFile(filepath.Join(dir, "query.tsq"))
		if err != nil {
			t.Fatal(err)
		}
		s.SetFault(func(keystore.ID, []byte) ([]byte, error) { return nil, keystore.ErrUnavailable })
		reply, answer := w.post(queryType, query)
		s.SetFault(nil)
		if _, err := rfc3161.ParseResponse(answer); reply.StatusCode != http.StatusOK || err == nil || !strings.Contains(err.Error(), "systemFailure") {
			t.Errorf("%s, %v", reply.Status, err)
		}
		reply, answer = w.post(queryType, query)
		if _, err := rfc3161.ParseResponse(answer); reply.StatusCode != http.StatusOK || err != nil {
			t.Errorf("after it: %s, %v", reply.Status, err)
		}
	})
	t.Run("a hundred callers at once wait for each other", func(t *testing.T) {
		imprint := sha256.Sum256(data)
		query, err := rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:]}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				reply, err := w.client.Post(w.root+"/tsa", queryType, bytes.NewReader(query))
				if err != nil {
					t.Error(err)
					return
				}
				defer reply.Body.Close()
				answer, err := io.ReadAll(reply.Body)
				if err == nil {
					_, err = rfc3161.ParseResponse(answer)
				}
				if err != nil {
					t.Errorf("%s: %v", reply.Status, err)
				}
			})
		}
		callers.Wait()
	})
	t.Run("what is no request", func(t *testing.T) {
		for _, tc := range []struct {
			name, kind string
			body       []byte
			want       int
		}{
			{"another type", "application/json", []byte("{}"), http.StatusUnsupportedMediaType},
			{"no type", "", []byte("{}"), http.StatusUnsupportedMediaType},
			{"too large", queryType, bytes.Repeat([]byte{0x30}, 17<<10), http.StatusRequestEntityTooLarge},
		} {
			if reply, b := w.post(tc.kind, tc.body); reply.StatusCode != tc.want {
				t.Errorf("%s: %s: %s", tc.name, reply.Status, b)
			}
		}
		if reply, _ := w.get(http.MethodGet, "/tsa", ""); reply.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET: %s", reply.Status)
		}
	})
}

// Time-stamps for everybody are off unless somebody wants them.
func TestWebTimestampOff(t *testing.T) {
	w := newWeb(t, servertest.Start(t, func(c *server.Config) { c.Web.Address = "127.0.0.1:0" }))
	if reply, _ := w.post(queryType, nil); reply.StatusCode != http.StatusNotFound {
		t.Errorf("%s", reply.Status)
	}
}
