package server_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// scrape reads the metrics of a server: lines without comments.
func scrape(t testing.TB, s *servertest.Server) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.MetricsAddress()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", reply.Status, err, b)
	}
	return string(b)
}

func TestMetrics(t *testing.T) {
	module := faulty.New(t)
	token, err := pkcs11.Open(t.Context(), module.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	s := people(t, servertest.StartOn(t, token, func(c *server.Config) { c.Metrics.Address = "127.0.0.1:0" }))
	s.health("", serving)
	if _, err := s.seal("01"); err != nil {
		t.Fatal(err)
	}
	module.Lose(faulty.Removed)
	_, err = s.seal("02")
	wantAway(t, err)
	s.health("", notServing)
	during := scrape(t, s.Server)
	module.Restore()
	s.health("", serving)
	_ = s.Dial().Invoke(t.Context(), "/signet.v1.SigningService/MadeUpByACaller", &emptypb.Empty{}, &emptypb.Empty{})
	after := scrape(t, s.Server)

	for _, tc := range []struct {
		name, text, pattern string
	}{
		{"not ready", during, `signet_ready{service=""} 0`},
		{"a state", during, `signet_hsm_state{replica="0",state="working",token="signet"} 0`},
		{"errors by name", during, `signet_hsm_errors_total{ckr="CKR_[A-Z_]+",replica="0",token="signet"} [1-9]`},
		{"a refused call", during, `signet_grpc_call_seconds_count{code="Unavailable",method="/signet.v1.SigningService/Seal"} 1`},
		{"ready", after, `signet_ready{service=""} 1`},
		{"working", after, `signet_hsm_state{replica="0",state="working",token="signet"} 1`},
		{"active", after, `signet_hsm_active{replica="0",token="signet"} 1`},
		{"recoveries", after, `signet_hsm_recoveries_total{replica="0",token="signet"} [1-9]`},
		{"signatures by algorithm", after, `signet_hsm_signatures_total{algorithm="ecdsa-p256-sha256",replica="0",token="signet"} [1-9]`},
		{"time in the worker", after, `signet_hsm_service_seconds_bucket{replica="0",token="signet",le="\+Inf"} [1-9]`},
		{"time of waiting", after, `signet_hsm_wait_seconds_count{replica="0",token="signet"} [1-9]`},
		{"workers", after, `signet_hsm_workers{replica="0",token="signet"} [1-9]`},
		{"the canary", after, `signet_hsm_canary_timestamp_seconds{replica="0",token="signet"} 1\.`},
		{"known answers", after, `signet_hsm_known_answers_timestamp_seconds{replica="0",token="signet"} 1\.`},
		{"a signature by a key", after, `signet_signature_stage_seconds_count{stage="hsm"} 1`},
		{"a signature that was released", after, `signet_signature_stage_seconds_count{stage="release"} 1`},
		{"a call", after, `signet_grpc_call_seconds_count{code="OK",method="/signet.v1.SigningService/Seal"} 1`},
		{"entries", after, `signet_ledger_entries [1-9]`},
		{"Go", after, `go_goroutines [1-9]`},
	} {
		if !regexp.MustCompile(`(?m)^` + strings.ReplaceAll(strings.ReplaceAll(tc.pattern, "{", `\{`), "}", `\}`)).MatchString(tc.text) {
			t.Errorf("%s: no line %s", tc.name, tc.pattern)
		}
	}
	for _, secret := range []string{"MadeUp", "Ada", "Lovelace", "bioflow", "signer-", servertest.Password, s.record.GetName()} {
		if strings.Contains(after, secret) {
			t.Errorf("the metrics tell %q", secret)
		}
	}
}

func TestNoMetricsUnlessAsked(t *testing.T) {
	if s := servertest.Start(t); s.MetricsAddress() != "" {
		t.Errorf("metrics are served on %s", s.MetricsAddress())
	}
}
