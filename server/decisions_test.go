package server_test

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// recorded is what the entries about a record say, and they alone: its state, and the places of its signatures.
func (s *scene) recordedOf(admin context.Context, record string) (state string, signatures []uint64) {
	s.t.Helper()
	state = "open"
	_, entries := s.list(admin, &signetv1.ListEntriesRequest{Event: record, Types: []string{string(chain.SignatureCreated), string(chain.RecordDecided)}})
	for _, e := range entries {
		if e.GetType() == string(chain.SignatureCreated) {
			signatures = append(signatures, e.GetIndex())
			continue
		}
		parsed, err := chain.ParseEntry(e.GetContent())
		if err != nil {
			s.t.Fatal(err)
		}
		var body struct {
			Outcome string `json:"outcome"`
		}
		if err := json.Unmarshal(parsed.Body, &body); err != nil {
			s.t.Fatal(err)
		}
		state = body.Outcome
	}
	return state, signatures
}

// Whatever people do in whatever order: a record is what its entries say, and each signature has its entry.
func TestNoDecisionWithoutAnEntry(t *testing.T) {
	s := start(t)
	admin := s.Login(servertest.Administrator)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	people := []struct {
		ctx  context.Context
		user string
	}{{s.ada, "ada"}, {s.bob, "bob"}}
	outcomes := map[string]bool{}
	for n := range 12 {
		h := header("ada", "bob")
		h.Version = fmt.Sprintf("v1.0.%d", n)
		if h.Source.Tag = ""; n%3 == 0 {
			h.Policy.Threshold = 1
		}
		s.record = s.create(h)
		t.Run(h.Version, func(t *testing.T) {
			t.Attr("requirement", "C-99")
			var last string
			for range 5 {
				who := people[random.IntN(len(people))]
				in := s.prepareRequest()
				if random.IntN(4) == 0 {
					in.Decision, in.Meaning, in.Reason = signetv1.Decision_DECISION_REJECT, "release-rejection", "Test 12 is red."
				}
				p, err := s.signing.Prepare(who.ctx, in)
				if err == nil && random.IntN(5) > 0 {
					sign := signRequest(p.GetPreparation(), who.user)
					if random.IntN(4) == 0 {
						sign.StatementSha256[0] ^= 1
					}
					_, err = s.signing.Sign(who.ctx, sign)
				}
				if code := status.Code(err); code != codes.OK && code != codes.FailedPrecondition && code != codes.PermissionDenied && code != codes.InvalidArgument {
					t.Fatal(err)
				}
				shown, err := s.records.GetRecord(s.rita, &signetv1.GetRecordRequest{Name: s.record.GetName()})
				if err != nil {
					t.Fatal(err)
				}
				last = strings.ToLower(strings.TrimPrefix(shown.GetRecord().GetState().String(), "RECORD_STATE_"))
				page, err := s.signing.ListSignatures(s.rita, &signetv1.ListSignaturesRequest{Parent: s.record.GetName()})
				if err != nil {
					t.Fatal(err)
				}
				var listed []uint64
				for _, signature := range page.GetSignatures() {
					listed = append(listed, signature.GetLedger().GetIndex())
				}
				if state, signatures := s.recordedOf(admin, s.record.GetName()); state != last || !slices.Equal(signatures, listed) {
					t.Fatalf("the record is %s with the signatures %v; the entries say %s and %v", last, listed, state, signatures)
				}
			}
			outcomes[last] = true
		})
	}
	if len(outcomes) < 2 {
		t.Errorf("what was done came to the same each time: %v", outcomes)
	}
}

// No setting keeps entries from being written.
func TestNothingSwitchesTheTrailOff(t *testing.T) {
	for _, setting := range []string{"audit: false", "ledger:\n  enabled: false", "ledger:\n  readOnly: true", "ledger:\n  types: []"} {
		t.Run(setting, func(t *testing.T) {
			t.Attr("requirement", "C-99")
			path := filepath.Join(t.TempDir(), "signetd.yaml")
			if err := os.WriteFile(path, []byte("environment: demo\n"+setting+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := server.LoadConfig(path); !errors.Is(err, server.ErrConfig) {
				t.Errorf("it is taken: %v", err)
			}
		})
	}
}
