package server_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
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
	for _, hash := range []string{"-sha256", "-sha384", "-sha512"} {
		for _, certificate := range []bool{true, false} {
			for _, nonce := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, certificate: %v, nonce: %v", hash[1:], certificate, nonce), func(t *testing.T) {
					t.Attr("requirement", "A-19")
					ask := []string{"ts", "-query", "-data", "data", "-out", "query.tsq", hash}
					check := []string{"ts", "-verify", "-in", "reply.tsr", "-CAfile", "root.pem"}
					if certificate {
						ask = append(ask, "-cert")
					} else {
						check = append(check, "-untrusted", "tsa.pem") // which the verifier must have
					}
					if !nonce {
						ask = append(ask, "-no_nonce")
					}
					openssl(t, ask...)
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
					token, err := rfc3161.ParseResponse(answer)
					if err != nil {
						t.Fatal(err)
					}
					if len(token.Certificates) > 0 {
						pemOf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: token.Certificates[0].Raw})
						if err := os.WriteFile(filepath.Join(dir, "tsa.pem"), pemOf, 0o600); err != nil {
							t.Fatal(err)
						}
					}
					for _, against := range [][]string{{"-queryfile", "query.tsq"}, {"-data", "data"}} {
						if out := openssl(t, append(check, against...)...); !strings.Contains(out, "Verification: OK") {
							t.Error(out)
						}
					}
				})
			}
		}
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

// Each kind of request that cannot be granted, sent by curl and over gRPC; openssl reads the answers. Only the authority's own troubles are errors over
// gRPC, where whoever calls must know whether to come back.
func TestTimestampRefusals(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.Web.Address, c.Timestamp.Web = "127.0.0.1:0", true })
	s.Clock.Settable()
	s.Restart()
	rpc, admin := signetv1.NewTimestampServiceClient(s.Dial()), s.Login(servertest.Administrator)
	dir := t.TempDir()
	run := func(t *testing.T, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	file := func(t *testing.T, name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file(t, "data", []byte("what is to be time-stamped"))
	query := func(flags ...string) func(t *testing.T) []byte {
		return func(t *testing.T) []byte {
			run(t, "openssl", append([]string{"ts", "-query", "-data", "data", "-out", "query.tsq"}, flags...)...)
			b, err := os.ReadFile(filepath.Join(dir, "query.tsq"))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	changed := func(change func([]byte) []byte) func(t *testing.T) []byte {
		good := query("-sha256", "-no_nonce")
		return func(t *testing.T) []byte { return change(good(t)) }
	}
	for _, tc := range []struct {
		name  string
		query func(t *testing.T) []byte
		text  string // of openssl
		fault func(on bool)
		code  codes.Code // over gRPC
		why   string
	}{
		{"badAlg", query("-sha1"), "unrecognized or unsupported algorithm identifier", nil, codes.OK, ""},
		{"badRequest", changed(func(b []byte) []byte { b[4] = 2; return b }), "transaction not permitted or supported", nil, codes.OK, ""}, // version 2
		{"badDataFormat", changed(func(b []byte) []byte { return append(b, 0) }), "the data submitted has the wrong format", nil, codes.OK, ""},
		{"unacceptedPolicy", query("-sha256", "-tspolicy", "1.2.3.4"), "the requested TSA policy is not supported by the TSA", nil, codes.OK, ""},
		{"unacceptedExtension", changed(func(b []byte) []byte {
			extension := "\xa0\x09\x30\x07\x06\x03\x2a\x03\x04\x04\x00" // 1.2.3.4, empty
			b[1] += byte(len(extension))
			return append(b, extension...)
		}), "the requested extension is not supported by the TSA", nil, codes.OK, ""},
		{"timeNotAvailable", query("-sha256"), "the TSA's time source is not available", func(on bool) {
			d := 2 * time.Second
			if !on {
				d = -d
			}
			s.Clock.Set(d)
		}, codes.Unavailable, "CLOCK_UNTRUSTED"},
		{"systemFailure", query("-sha256"), "the request cannot be handled due to system failure", func(on bool) {
			s.SetFault(nil)
			if on {
				s.SetFault(gone("tsa-"))
			}
		}, codes.Unavailable, "HSM_UNAVAILABLE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Attr("requirement", "A-19")
			body := tc.query(t)
			if tc.fault != nil {
				tc.fault(true)
				defer tc.fault(false)
			}
			file(t, "query.tsq", body)
			status := run(t, "curl", "--silent", "--show-error", "--cacert", s.Created.ServerCertificate, "--header", "Content-Type: "+queryType,
				"--data-binary", "@query.tsq", "--output", "reply.tsr", "--write-out", "%{http_code} %{content_type}", "https://"+s.WebAddress()+"/tsa")
			if status != "200 application/timestamp-reply" {
				t.Errorf("curl says %q", status)
			}
			said := func(t *testing.T) {
				t.Helper()
				out := run(t, "openssl", "ts", "-reply", "-in", "reply.tsr", "-text")
				for _, want := range []string{"Status: Rejected.", "Failure info: " + tc.text, "TST info:\nNot included."} {
					if !strings.Contains(out, want) {
						t.Errorf("%q is not in\n%s", want, out)
					}
				}
				if strings.Contains(out, "tsa-1") {
					t.Errorf("the refusal says too much:\n%s", out)
				}
			}
			said(t)
			answer, err := rpc.Timestamp(admin, &signetv1.TimestampRequest{Request: body})
			if tc.code != codes.OK {
				wantError(t, err, tc.code, tc.why)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			file(t, "reply.tsr", answer.GetResponse())
			said(t)
		})
	}
}
