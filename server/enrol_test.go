package server_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

func personToEnrol(user string, roles ...signetv1.Role) *signetv1.EnrollSignerRequest {
	return &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
		UserName: user, PrintedName: "Person " + user, Title: "QA Lead", TimeZone: "Europe/Berlin", Roles: roles,
		Proofing: &signetv1.IdentityProofing{Method: "passport seen in person", Reference: "HR-7"},
	}}}
}

func redemption(user, code string) *signetv1.RedeemEnrollmentRequest {
	return &signetv1.RedeemEnrollmentRequest{EnrollmentCode: code, UserName: user, Password: servertest.Password, AccountabilityAcknowledged: true}
}

// TestFourEyes: with two administrators neither enrols, renews or reinstates anybody alone.
func TestFourEyes(t *testing.T) {
	t.Attr("requirement", "11.200(a)(3)")
	s := startKeys(t)
	ctx := t.Context()
	proposals := signetv1.NewProposalServiceClient(s.Dial())
	from := s.size()
	answer, err := s.signers.EnrollSigner(s.admin, personToEnrol("zoe", signetv1.Role_ROLE_SIGNER))
	if err != nil {
		t.Fatal(err)
	}
	p, first := answer.GetProposal(), answer.GetEnrollmentCode()
	if p == nil || answer.GetSigner() != nil || answer.GetCodeExpireTime() != nil || len(first) != 23 {
		t.Fatalf("%v", answer)
	}
	t.Run("it is shown to those who oversee, whole", func(t *testing.T) {
		got, err := proposals.GetProposal(s.eve, &signetv1.GetProposalRequest{Name: p.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(got.GetProposal().GetContent())
		if x := got.GetProposal(); x.GetState() != signetv1.ProposalState_PROPOSAL_STATE_PENDING || string(x.GetDigest()) != string(sum[:]) ||
			x.GetKind() != "signer.invite" || !strings.Contains(x.GetRendering(), "Person zoe") || x.GetExpireTime().AsTime().Sub(x.GetCreateTime().AsTime()) != 7*24*time.Hour {
			t.Errorf("%v", x)
		}
		_, err = proposals.GetProposal(s.ada, &signetv1.GetProposalRequest{Name: p.GetName()})
		wantError(t, err, codes.PermissionDenied, "DENIED")
		_, err = proposals.ListProposals(s.ada, &signetv1.ListProposalsRequest{})
		wantError(t, err, codes.PermissionDenied, "DENIED")
		_, err = proposals.GetProposal(s.eve, &signetv1.GetProposalRequest{Name: "proposals/prl_none"})
		wantError(t, err, codes.NotFound, "PROPOSAL_NOT_FOUND")
	})
	confirm := func(password *signetv1.PasswordCredentials) *signetv1.ConfirmProposalRequest {
		return &signetv1.ConfirmProposalRequest{Name: p.GetName(), Digest: p.GetDigest(), Password: password}
	}
	t.Run("who does not confirm it", func(t *testing.T) {
		before := s.size()
		_, err := proposals.ConfirmProposal(s.admin, confirm(proofOf(servertest.Administrator)))
		wantError(t, err, codes.PermissionDenied, "SECOND_PERSON_NEEDED")
		denied := s.find(before, chain.AccessDenied)
		if !slices.ContainsFunc(denied, func(e chain.Entry) bool {
			return strings.Contains(string(e.Body), "ConfirmProposal") && strings.Contains(string(e.Body), "second person")
		}) {
			t.Errorf("no entry says so: %v", denied)
		}
		_, err = proposals.ConfirmProposal(s.eve, confirm(nil))
		wantError(t, err, codes.Unauthenticated, "CREDENTIALS_MISSING")
		_, err = proposals.ConfirmProposal(s.eve, confirm(&signetv1.PasswordCredentials{UserName: "eve", Password: "another one, and it is wrong"}))
		wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
		_, err = proposals.ConfirmProposal(s.ada, confirm(proofOf("ada")))
		wantError(t, err, codes.PermissionDenied, "DENIED")
		other := confirm(proofOf("eve"))
		other.Digest = make([]byte, 32)
		_, err = proposals.ConfirmProposal(s.eve, other)
		wantError(t, err, codes.FailedPrecondition, "PROPOSAL_STATE")
	})
	s.Clock.Advance(time.Minute) // the delay after a wrong password
	confirmed, err := proposals.ConfirmProposal(s.eve, confirm(proofOf("eve")))
	if err != nil {
		t.Fatal(err)
	}
	second := confirmed.GetEnrollmentCode()
	t.Run("the second one's word does it", func(t *testing.T) {
		entries := s.entries(from)
		i := slices.IndexFunc(entries, func(e chain.Entry) bool { return e.Type == chain.ActConfirmed })
		if i < 0 || entries[i+1].Type != chain.SignerInvited || entries[i].Actor.ID == entries[0].Actor.ID || entries[0].Type != chain.ActProposed {
			t.Errorf("%v", entries)
		}
		_, err := proposals.ConfirmProposal(s.eve, confirm(proofOf("eve")))
		wantError(t, err, codes.FailedPrecondition, "PROPOSAL_STATE")
	})
	t.Run("the code is both halves", func(t *testing.T) {
		for _, code := range []string{first, second} {
			_, err := s.signers.RedeemEnrollment(ctx, redemption("zoe", code))
			wantError(t, err, codes.Unauthenticated, "CODE_INVALID")
		}
		s.Clock.Advance(time.Minute)
		zoe, err := s.signers.RedeemEnrollment(ctx, redemption("zoe", first+"-"+second))
		if err != nil {
			t.Fatal(err)
		}
		if got := zoe.GetSigner(); got.GetState() != signetv1.SignerState_SIGNER_STATE_ACTIVE || got.GetAccountability() != "accountability-1" || got.GetKeyId() == "" {
			t.Errorf("%v", got)
		}
	})
	t.Run("ten minutes from the confirmation", func(t *testing.T) {
		answer, err := s.signers.EnrollSigner(s.eve, personToEnrol("yan", signetv1.Role_ROLE_AUDITOR))
		if err != nil {
			t.Fatal(err)
		}
		s.Clock.Advance(11 * time.Minute)
		s.reconnect()
		c := s.Confirm(servertest.Administrator, answer.GetProposal())
		both := answer.GetEnrollmentCode() + c.GetEnrollmentCode()
		s.Clock.Advance(10 * time.Minute)
		_, err = s.signers.RedeemEnrollment(ctx, redemption("yan", both))
		wantError(t, err, codes.Unauthenticated, "CODE_INVALID")
	})
	t.Run("giving back takes two, taking away takes one", func(t *testing.T) {
		s.reconnect()
		if _, err := s.signers.SuspendSigner(s.eve, &signetv1.SuspendSignerRequest{Name: s.bobID, Reason: "on leave"}); err != nil {
			t.Fatal(err)
		}
		r, err := s.signers.ReinstateSigner(s.eve, &signetv1.ReinstateSignerRequest{Name: s.bobID, Reason: "back"})
		if err != nil || r.GetSigner() != nil || r.GetProposal().GetSubject() != s.bobID {
			t.Fatalf("%v, %v", r, err)
		}
		w, err := proposals.WithdrawProposal(s.admin, &signetv1.WithdrawProposalRequest{Name: r.GetProposal().GetName(), Reason: "not yet"})
		if err != nil || w.GetProposal().GetState() != signetv1.ProposalState_PROPOSAL_STATE_WITHDRAWN {
			t.Fatalf("%v, %v", w, err)
		}
		if r, err = s.signers.ReinstateSigner(s.eve, &signetv1.ReinstateSignerRequest{Name: s.bobID, Reason: "back"}); err != nil {
			t.Fatal(err)
		}
		s.Confirm(servertest.Administrator, r.GetProposal())
		bob, err := s.signers.GetSigner(s.eve, &signetv1.GetSignerRequest{Name: s.bobID})
		if err != nil || bob.GetSigner().GetState() != signetv1.SignerState_SIGNER_STATE_ACTIVE {
			t.Errorf("%v, %v", bob, err)
		}
	})
	t.Run("pages, newest first", func(t *testing.T) {
		var all, paged []string
		list, err := proposals.ListProposals(s.eve, &signetv1.ListProposalsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list.GetProposals() {
			all = append(all, x.GetName())
		}
		for token := ""; ; {
			page, err := proposals.ListProposals(s.eve, &signetv1.ListProposalsRequest{PageSize: 1, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range page.GetProposals() {
				paged = append(paged, x.GetName())
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if len(all) != 4 || !slices.Equal(all, paged) || all[3] != p.GetName() {
			t.Errorf("%v, in pages %v", all, paged)
		}
		waits, err := proposals.ListProposals(s.eve, &signetv1.ListProposalsRequest{Pending: true})
		if err != nil || len(waits.GetProposals()) != 0 {
			t.Errorf("%v, %v", waits, err)
		}
	})
	t.Run("one administrator who is left does not act alone", func(t *testing.T) {
		eve, err := s.signers.ListSigners(s.admin, &signetv1.ListSignersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(eve.GetSigners(), func(x *signetv1.Signer) bool { return x.GetUserName() == "eve" })
		_, err = s.signers.RevokeSigner(s.admin, &signetv1.RevokeSignerRequest{
			Name: eve.GetSigners()[i].GetName(), Reason: "in my way", Cause: signetv1.RevocationCause_REVOCATION_CAUSE_MISUSED,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Restart()
		s.connect()
		answer, err := s.signers.EnrollSigner(s.Login(servertest.Administrator), personToEnrol("mallory", signetv1.Role_ROLE_ADMINISTRATOR))
		if err != nil || answer.GetProposal() == nil || answer.GetSigner() != nil {
			t.Errorf("%v, %v", answer, err)
		}
	})
	t.Run("the machine's operator lets the last one invite another", func(t *testing.T) {
		s.Stop()
		last := server.LastAdministrator{UserName: servertest.Administrator, Password: keystore.NewSecret(servertest.Password), Reason: "eve has left"}
		ivan := server.Administrator{UserName: "ivan", Name: "Ivan Security", Zone: "UTC", ProofingMethod: "passport seen in person", ProofingReference: "HR-9"}
		wrong := last
		wrong.Password = keystore.NewSecret("it is not this one")
		if _, _, err := server.InviteAdministrator(ctx, s.Options(), wrong, ivan); err == nil {
			t.Error("with a wrong password")
		}
		code, _, err := server.InviteAdministrator(ctx, s.Options(), last, ivan)
		if err != nil {
			t.Fatal(err)
		}
		s.Restart()
		s.connect()
		if _, err := s.signers.RedeemEnrollment(ctx, redemption("ivan", code.Reveal())); err != nil {
			t.Fatal(err)
		}
		answer, err := s.signers.EnrollSigner(s.Login(servertest.Administrator), personToEnrol("xaver", signetv1.Role_ROLE_AUDITOR))
		if err != nil {
			t.Fatal(err)
		}
		s.Confirm("ivan", answer.GetProposal())
		s.Stop()
		if _, _, err := server.InviteAdministrator(ctx, s.Options(), last, server.Administrator{
			UserName: "one-more", Name: "One More", Zone: "UTC", ProofingMethod: "passport seen in person", ProofingReference: "HR-10",
		}); err == nil {
			t.Error("while there are two")
		}
	})
}

// TestFourEyesOff: outside of production the configuration can turn them off.
func TestFourEyesOff(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Identity.FourEyes = "off" })
	s.Enroll("eve", "Eve Security", signetv1.Role_ROLE_ADMINISTRATOR)
	answer, err := s.signers.EnrollSigner(s.Login("eve"), personToEnrol("zoe", signetv1.Role_ROLE_AUDITOR))
	if err != nil || answer.GetProposal() != nil || answer.GetSigner().GetState() != signetv1.SignerState_SIGNER_STATE_INVITED {
		t.Errorf("%v, %v", answer, err)
	}
}

// TestEnrolmentConfig: what the configuration refuses.
func TestEnrolmentConfig(t *testing.T) {
	for name, text := range map[string]string{
		"four eyes off in production": "environment: production\nsystemAccess: closed\nhsm:\n  pinFile: credential:pin\nidentity:\n  fourEyes: 'off'\n",
		"four eyes sometimes":         "environment: demo\nidentity:\n  fourEyes: sometimes\n",
		"a proposal for ever":         "environment: demo\nidentity:\n  proposalLifetime: 10000h\n",
		"a proposal for no time":      "environment: demo\nidentity:\n  proposalLifetime: 0s\n",
		"a letter of two lines":       "environment: demo\nidentity:\n  letterReference: \"one\\ntwo\"\n",
	} {
		path := filepath.Join(t.TempDir(), "signetd.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := server.LoadConfig(path); err == nil || !strings.Contains(err.Error(), "identity.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChangedNameVerifies: a signature keeps the name under which it was made, and both verify.
func TestChangedNameVerifies(t *testing.T) {
	t.Attr("requirement", "A-18")
	s := start(t, func(c *server.Config) { c.Identity.LetterReference = "FDA 2026-11-02" })
	s.sign(s.ada, "ada", s.prepare(s.ada))
	before := s.manifest()
	first := s.record
	open := header("ada")
	open.Version = "v0.3.0"
	s.record = s.create(open)
	waiting := s.prepare(s.ada)
	s.record = first
	admin := s.Login(servertest.Administrator)
	renewal, err := s.signers.RenewSigner(admin, &signetv1.RenewSignerRequest{
		Name: s.adaID, Reason: "married", PrintedName: "Ada King", Proofing: &signetv1.IdentityProofing{Method: "marriage certificate seen", Reference: "HR-8"},
	})
	if err != nil {
		t.Fatal(err)
	}
	from := s.size()
	if _, err := s.signers.RedeemEnrollment(t.Context(), redemption("ada", renewal.GetEnrollmentCode())); err != nil {
		t.Fatal(err)
	}
	changed := s.find(from, chain.SignerChanged)
	if len(changed) != 1 || !strings.Contains(string(changed[0].Body), `{"field":"name","new":"Ada King","old":"Ada Lovelace"}`) {
		t.Errorf("%v", changed)
	}
	s.ada = s.Login("ada")
	if _, err := s.signing.Sign(s.ada, signRequest(waiting, "ada")); reasonOf(err) != "RECORD_CHANGED" {
		t.Errorf("a statement that names her as she was called: %v", err)
	}
	name := func(file []byte) string {
		t.Helper()
		report := s.wantVerdict(file, verify.OK)
		return report.Signatures[0].Name
	}
	if got := name(before); got != "Ada Lovelace" {
		t.Errorf("the file from before is by %s", got)
	}
	if got := name(s.manifest()); got != "Ada Lovelace" {
		t.Errorf("the same signature, read again, is by %s", got)
	}
	h := header("ada")
	h.Version = "v0.2.0"
	s.record = s.create(h)
	s.sign(s.ada, "ada", s.prepare(s.ada))
	if got := name(s.manifest()); got != "Ada King" {
		t.Errorf("the new signature is by %s", got)
	}
	t.Run("the first signature of each key is over the accountability statement", func(t *testing.T) {
		t.Attr("requirement", "11.100")
		list := s.find(0, chain.AccountabilitySigned)
		if len(list) != 3 { // ada, bob, ada again
			t.Fatalf("%d entries", len(list))
		}
		for _, e := range list {
			body, err := manifest.ParseAccountabilitySigned(e.Body)
			if err != nil || body.Letter != "FDA 2026-11-02" || e.Actor.ID != body.ID {
				t.Errorf("%+v, %v", body, err)
			}
		}
	})
	t.Run("who leaves", func(t *testing.T) {
		from := s.size()
		_, err := s.signers.RevokeSigner(admin, &signetv1.RevokeSignerRequest{Name: s.bobID, Reason: "last day", Cause: signetv1.RevocationCause_REVOCATION_CAUSE_LEFT})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.find(from, chain.SignerChanged); len(got) != 1 || !strings.Contains(string(got[0].Body), `"cause":"left"`) {
			t.Errorf("%v", got)
		}
	})
}
