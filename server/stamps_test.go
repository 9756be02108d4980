package server_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// TestSignaturesAreStampedByOthers has signatures time-stamped by two authorities of others beside the own one.
func TestSignaturesAreStampedByOthers(t *testing.T) {
	t.Attr("requirement", "A-19")
	for _, tc := range []struct {
		name     string
		mode     string
		required bool // the second one
		down     [2]bool
		tokens   int // 0: no signature
		asked    [2]bool
	}{
		{"all of them", "all", true, [2]bool{}, 3, [2]bool{true, true}},
		{"all, and one that is not required is away", "all", true, [2]bool{true, false}, 2, [2]bool{true, true}},
		{"all, and the one that is required is away", "all", true, [2]bool{false, true}, 0, [2]bool{true, true}},
		{"the first", "first", true, [2]bool{}, 2, [2]bool{true, false}},
		{"the next where the first is away", "first", true, [2]bool{true, false}, 2, [2]bool{true, true}},
		{"none where none is required", "first", false, [2]bool{true, true}, 1, [2]bool{true, true}},
		{"none where one is required", "first", true, [2]bool{true, true}, 0, [2]bool{true, true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			one, two := startAuthority(t), startAuthority(t)
			one.down.Store(tc.down[0])
			two.down.Store(tc.down[1])
			s := people(t, servertest.Start(t, func(c *server.Config) {
				c.Timestamp.External = []server.ExternalTSAConfig{
					{Name: "one", URL: one.url, Roots: one.roots}, {Name: "two", URL: two.url, Roots: two.roots, Required: tc.required},
				}
				c.Timestamp.Signatures.Mode = tc.mode
				c.Ledger.Brackets.Every, c.Ledger.Brackets.Within = manifest.MaxBracketLag, server.Duration(time.Hour)
			}))
			before := [2]int64{one.asked.Load(), two.asked.Load()}
			p := s.prepare(s.ada)
			_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
			for i, a := range []*authority{one, two} {
				if got := a.asked.Load() > before[i]; got != tc.asked[i] {
					t.Errorf("authority %d was asked: %v", i+1, got)
				}
			}
			if tc.tokens == 0 {
				wantError(t, err, codes.Unavailable, "TIMESTAMP_UNAVAILABLE")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			file := s.manifest()
			m, err := manifest.Parse(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(m.Signatures[0].Timestamps); n != tc.tokens {
				t.Errorf("%d tokens, want %d", n, tc.tokens)
			}
			s.wantVerdict(file, verify.OK)
			if tc.tokens > 1 { // each of them counts: a verifier that pins one root less does not take it
				trust, err := os.ReadFile(s.Config.Path(server.TrustFile))
				if err != nil {
					t.Fatal(err)
				}
				pinned, err := manifest.ParseTrust(trust)
				if err != nil {
					t.Fatal(err)
				}
				if len(pinned.TimestampRoots) != 3 {
					t.Fatalf("%d roots of time-stamps are pinned, want 3", len(pinned.TimestampRoots))
				}
				pinned.TimestampRoots = pinned.TimestampRoots[:1]
				less, err := pinned.Encode()
				if err != nil {
					t.Fatal(err)
				}
				r, err := verify.Verify(t.Context(), verify.Input{SkipContent: true, Manifest: file, Trust: less})
				if err != nil || r.Code != verify.TimeNotProven {
					t.Errorf("without the others' roots: %v, %v", r.Code, err)
				}
			}
		})
	}
}

// An authority that does not answer holds a signature up for no longer than was set, whichever way they are asked.
func TestSignaturesDoNotWaitForOthers(t *testing.T) {
	t.Attr("requirement", "A-19")
	for _, tc := range []struct {
		mode     string
		required bool
		tokens   int
	}{{"all", false, 2}, {"first", false, 1}, {"all", true, 0}} {
		t.Run(fmt.Sprintf("%s, required: %v", tc.mode, tc.required), func(t *testing.T) {
			hangs, answers := startAuthority(t), startAuthority(t)
			hangs.hangs.Store(true)
			s := people(t, servertest.Start(t, func(c *server.Config) {
				c.Timestamp.External = []server.ExternalTSAConfig{
					{Name: "hangs", URL: hangs.url, Roots: hangs.roots, Required: tc.required}, {Name: "answers", URL: answers.url, Roots: answers.roots},
				}
				c.Timestamp.Signatures.Mode, c.Timestamp.Signatures.Wait = tc.mode, server.Duration(300*time.Millisecond)
				c.Ledger.Brackets.Every, c.Ledger.Brackets.Within = manifest.MaxBracketLag, server.Duration(time.Hour)
			}))
			p := s.prepare(s.ada)
			begin := time.Now()
			_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
			if took := time.Since(begin); took < 300*time.Millisecond || took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if tc.tokens == 0 {
				wantError(t, err, codes.Unavailable, "TIMESTAMP_UNAVAILABLE")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m, err := manifest.Parse(s.manifest())
			if err != nil {
				t.Fatal(err)
			}
			if n := len(m.Signatures[0].Timestamps); n != tc.tokens {
				t.Errorf("%d tokens, want %d", n, tc.tokens)
			}
		})
	}
}

// TestStampsOutsideOfTheWindow: a token of a time at which the statement was not prepared yet, or has lapsed, does not count, as no verifier would take it.
func TestStampsOutsideOfTheWindow(t *testing.T) {
	t.Attr("requirement", "A-19")
	a := startAuthority(t)
	now := time.Now()
	for _, mode := range []string{"own", "first", "all"} {
		for _, tc := range []struct {
			name     string
			from, to time.Duration // after now
			fits     bool
		}{
			{"within", -time.Hour, time.Hour, true}, {"before", 10 * time.Minute, time.Hour, false}, {"after", -time.Hour, -10 * time.Minute, false},
		} {
			for _, required := range []bool{false, true} {
				c := server.DefaultConfig()
				c.Timestamp.External = []server.ExternalTSAConfig{{Name: "one", URL: a.url, Roots: a.roots, Required: required}}
				c.Timestamp.Signatures.Mode, c.Timestamp.Signatures.Wait = mode, server.Duration(time.Minute)
				tokens, err := server.StampMore(t.Context(), c, []byte("signature"), now.Add(tc.from), now.Add(tc.to))
				want := 0
				if mode != "own" && tc.fits {
					want = 1
				}
				fails := mode != "own" && !tc.fits && required
				if len(tokens) != want || (err != nil) != fails || fails && !strings.Contains(err.Error(), "its clock differs from this one's") {
					t.Errorf("%s, %s, required %v: %d tokens, %v", mode, tc.name, required, len(tokens), err)
				}
			}
		}
	}
}

func TestStampsAreConfigured(t *testing.T) {
	for key, change := range map[string]func(*server.Config){
		"timestamp.signatures.mode": func(c *server.Config) { c.Timestamp.Signatures.Mode = "some" },
		"names none":                func(c *server.Config) { c.Timestamp.Signatures.Mode = "all" },
		"timestamp.signatures.wait": func(c *server.Config) {
			c.Timestamp.External = []server.ExternalTSAConfig{{Name: "one", URL: "https://tsa.example", Roots: "roots.pem"}}
			c.Timestamp.Signatures.Mode, c.Timestamp.Signatures.Wait = "all", 0
		},
	} {
		c := server.DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
