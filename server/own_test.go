package server_test

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
)

// waiting are the records that wait for somebody, newest first, read in pages of two.
func (s *scene) waiting(who context.Context) []string {
	s.t.Helper()
	var names []string
	for token := ""; ; {
		r, err := s.records.ListRecords(who, &signetv1.ListRecordsRequest{PageSize: 2, PageToken: token, AwaitingCaller: true})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, one := range r.GetRecords() {
			names = append(names, one.GetVersion())
		}
		if token = r.GetNextPageToken(); token == "" {
			return names
		}
	}
}

func (s *scene) version(v string, approvers ...string) *signetv1.Record {
	s.t.Helper()
	h := header(approvers...)
	h.Version = v
	return s.create(h)
}

func TestWhatWaitsForTheCaller(t *testing.T) {
	t.Attr("requirement", "B-29")
	s := start(t)
	two := s.version("v0.2.0", "ada", "bob")
	s.version("v0.3.0", "bob")
	s.version("v0.4.0", "ada")
	last := s.version("v0.5.0", "ada")
	check := func(what string, who context.Context, want string) {
		t.Helper()
		if got := strings.Join(s.waiting(who), " "); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("ada", s.ada, "v0.5.0 v0.4.0 v0.2.0 v0.1.0")
	check("bob", s.bob, "v0.3.0 v0.2.0")
	check("rita, who signs nothing", s.rita, "")
	decide := func(who context.Context, user string, r *signetv1.Record, d signetv1.Decision, meaning string) {
		t.Helper()
		p := s.prepare(who, func(in *signetv1.PrepareRequest) { in.Record, in.Decision, in.Meaning = r.GetName(), d, meaning })
		if _, err := s.signing.Sign(who, signRequest(p, user)); err != nil {
			t.Fatal(err)
		}
	}
	decide(s.ada, "ada", two, signetv1.Decision_DECISION_REVIEW, "review")
	check("ada, who has reviewed and not decided", s.ada, "v0.5.0 v0.4.0 v0.2.0 v0.1.0")
	decide(s.ada, "ada", two, signetv1.Decision_DECISION_APPROVE, "release-approval")
	check("ada, who has approved one", s.ada, "v0.5.0 v0.4.0 v0.1.0")
	check("bob, who has not", s.bob, "v0.3.0 v0.2.0")
	w, err := s.signing.Withdraw(s.ada, &signetv1.WithdrawRequest{Record: two.GetName(), Reason: "A defect was found."})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.signing.Sign(s.ada, signRequest(w.GetPreparation(), "ada")); err != nil {
		t.Fatal(err)
	}
	check("ada, who took it back", s.ada, "v0.5.0 v0.4.0 v0.2.0 v0.1.0")
	decide(s.bob, "bob", two, signetv1.Decision_DECISION_REJECT, "release-rejection")
	check("ada, after it was rejected", s.ada, "v0.5.0 v0.4.0 v0.1.0")
	h := header("bob")
	h.Version, h.Supersedes = "v0.6.0", hex.EncodeToString(last.GetDigest())
	s.create(h)
	check("ada, after one was superseded", s.ada, "v0.4.0 v0.1.0")
	s.Restart()
	s.connect()
	check("ada, after a restart", s.Login("ada"), "v0.4.0 v0.1.0")
}

func TestOwnPreparation(t *testing.T) {
	t.Attr("requirement", "B-37")
	s := start(t, func(c *server.Config) { c.Pages.PublicURL = "https://sign.example" })
	p := s.prepare(s.ada)
	if want := "https://sign.example/preparations/" + strings.TrimPrefix(p.GetName(), "preparations/"); p.GetPage() != want {
		t.Errorf("page %q, want %q", p.GetPage(), want)
	}
	read := func(who context.Context) (*signetv1.Preparation, error) {
		r, err := s.signing.GetPreparation(who, &signetv1.GetPreparationRequest{Name: p.GetName()})
		return r.GetPreparation(), err
	}
	again, err := read(s.Login("ada")) // with another program
	if err != nil {
		t.Fatal(err)
	}
	if string(again.GetStatement()) != string(p.GetStatement()) || again.GetRendering() != p.GetRendering() || string(again.GetChallenge()) != string(p.GetChallenge()) ||
		again.GetState() != signetv1.PreparationState_PREPARATION_STATE_WAITING || again.GetRecord() != s.record.GetName() || again.GetPage() != p.GetPage() || again.GetSignature() != "" {
		t.Errorf("read again: %v", again)
	}
	_, err = read(s.bob)
	wantError(t, err, codes.NotFound, "PREPARATION_NOT_FOUND")
	_, err = read(s.rita)
	wantError(t, err, codes.PermissionDenied, "DENIED")
	signed, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err = read(s.ada); err != nil || again.GetState() != signetv1.PreparationState_PREPARATION_STATE_SIGNED || again.GetSignature() != signed.GetSignature().GetName() {
		t.Errorf("after it was signed: %v %v", again, err)
	}
	s.record = s.version("v0.2.0", "ada")
	p = s.prepare(s.ada)
	s.Clock.Advance(6 * time.Minute)
	if again, err = read(s.ada); err != nil || again.GetState() != signetv1.PreparationState_PREPARATION_STATE_OVER {
		t.Errorf("after it lapsed: %v %v", again.GetState(), err)
	}
}

func TestOwnSignatures(t *testing.T) {
	t.Attr("requirement", "C-105")
	s := start(t)
	uses := func(who context.Context) []*signetv1.SignatureUse {
		t.Helper()
		var out []*signetv1.SignatureUse
		for token := ""; ; {
			r, err := s.signing.ListOwnSignatures(who, &signetv1.ListOwnSignaturesRequest{PageSize: 2, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r.GetUses()...)
			if token = r.GetNextPageToken(); token == "" {
				return out
			}
		}
	}
	if got := uses(s.ada); len(got) != 0 {
		t.Fatalf("before the first: %v", got)
	}
	var names []string
	for _, v := range []string{"v0.2.0", "v0.3.0", "v0.4.0"} {
		s.record = s.version(v, "ada", "bob")
		for _, who := range []string{"ada", "bob"} {
			session := map[string]context.Context{"ada": s.ada, "bob": s.bob}[who]
			signed, err := s.signing.Sign(session, signRequest(s.prepare(session), who))
			if err != nil {
				t.Fatal(err)
			}
			if who == "ada" {
				names = append([]string{signed.GetSignature().GetName()}, names...)
			}
		}
	}
	got := uses(s.ada)
	if len(got) != len(names) {
		t.Fatalf("%d uses, want %d", len(got), len(names))
	}
	for i, u := range got {
		if u.GetSignature() != names[i] || u.GetDecision() != signetv1.Decision_DECISION_APPROVE || u.GetMeaning() != "release-approval" || u.GetAuthorization() != "password" ||
			u.GetAddress() != "127.0.0.1" || !strings.HasPrefix(u.GetDevice(), "grpc-go/") || u.GetSignTime() == nil {
			t.Errorf("use %d: %v", i, u)
		}
	}
	if got[0].GetTitle() != "bioflow_pro v0.4.0" {
		t.Errorf("the newest is %q", got[0].GetTitle())
	}
	if n := len(uses(s.rita)); n != 0 {
		t.Errorf("rita has signed %d times", n)
	}
	// A token of another list leads nowhere.
	r, err := s.signing.ListOwnSignatures(s.ada, &signetv1.ListOwnSignaturesRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.signing.ListOwnSignatures(s.bob, &signetv1.ListOwnSignaturesRequest{PageToken: r.GetNextPageToken()})
	wantError(t, err, codes.InvalidArgument, "PAGE_TOKEN_INVALID")
}
