package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// evil is a service on which Mallory has every role that there is, a key of her own, and no friends. There are two administrators, so that
// four eyes are on.
type evil struct {
	*scene
	mallory    context.Context
	malloryID  string
	proposals  signetv1.ProposalServiceClient
	rights     signetv1.RightsServiceClient
	alerts     signetv1.AlertServiceClient
	credential signetv1.CredentialServiceClient
}

func startEvil(t *testing.T) *evil {
	t.Helper()
	s := &evil{scene: start(t)}
	s.malloryID = s.Enroll("mallory", "Mallory Insider", signetv1.Role_ROLE_ADMINISTRATOR, signetv1.Role_ROLE_SIGNER, signetv1.Role_ROLE_RELEASE_MANAGER,
		signetv1.Role_ROLE_AUDITOR, signetv1.Role_ROLE_SECURITY_OFFICER).GetName()
	s.again()
	return s
}

func (s *evil) again() {
	s.t.Helper()
	s.connect()
	c := s.Dial()
	s.proposals, s.rights = signetv1.NewProposalServiceClient(c), signetv1.NewRightsServiceClient(c)
	s.alerts, s.credential = signetv1.NewAlertServiceClient(c), signetv1.NewCredentialServiceClient(c)
	s.mallory = s.Login("mallory")
	s.rita = s.Login("rita")
}

func (s *evil) renew(name string) (*signetv1.RenewSignerResponse, error) {
	return s.signers.RenewSigner(s.mallory, &signetv1.RenewSignerRequest{
		Name: name, Reason: "she has lost it, I say", Proofing: &signetv1.IdentityProofing{Method: "none at all", Reference: "none"},
	})
}

// TestEvilAdministrator plays somebody with every administrative right, over the calls that anybody has. Nothing of it makes a signature in
// somebody else's name, and what was tried stands in the ledger.
func TestEvilAdministrator(t *testing.T) {
	s := startEvil(t)
	refused := func(t *testing.T, err error, codes ...codes.Code) {
		t.Helper()
		for _, c := range codes {
			if status.Code(err) == c {
				return
			}
		}
		t.Errorf("answered with %v, want one of %v", err, codes)
	}
	prepared := s.prepare(s.ada)
	before := s.size()
	for _, tc := range []struct {
		name string
		rows []string
		try  func(t *testing.T)
	}{
		{"signs Ada's preparation in her own session", []string{"11.200(a)(1)", "X-11"}, func(t *testing.T) {
			_, err := s.signing.Sign(s.mallory, signRequest(prepared, "mallory"))
			refused(t, err, codes.NotFound)
		}},
		{"signs with Ada's name and a guess", []string{"11.200(a)(1)", "A-15"}, func(t *testing.T) {
			in := signRequest(prepared, "ada")
			_, err := s.signing.Sign(s.mallory, in)
			refused(t, err, codes.NotFound)
		}},
		{"prepares in her own name for a record that is not hers to decide", []string{"B-35"}, func(t *testing.T) {
			_, err := s.signing.Prepare(s.mallory, s.prepareRequest())
			refused(t, err, codes.PermissionDenied)
		}},
		{"has Ada renewed, and redeems the code", []string{"11.200(a)(3)", "B-46"}, func(t *testing.T) {
			r, err := s.renew(s.adaID)
			if err != nil {
				t.Fatal(err)
			}
			if r.GetProposal() == nil {
				t.Fatal("one administrator alone has ended Ada's credentials")
			}
			_, err = s.signers.RedeemEnrollment(t.Context(), &signetv1.RedeemEnrollmentRequest{
				EnrollmentCode: r.GetEnrollmentCode(), UserName: "ada", Password: "mallory's words, not hers", AccountabilityAcknowledged: true,
			})
			refused(t, err, codes.Unauthenticated)
			digest := r.GetProposal().GetDigest()
			_, err = s.proposals.ConfirmProposal(s.mallory, &signetv1.ConfirmProposalRequest{Name: r.GetProposal().GetName(), Digest: digest, Password: proofOf("mallory")})
			refused(t, err, codes.PermissionDenied)
			if _, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: "ada", Password: servertest.Password}); err != nil {
				t.Errorf("Ada's password no longer holds: %v", err)
			}
		}},
		{"invents a person who signs for her", []string{"11.100", "11.200(a)(3)"}, func(t *testing.T) {
			r, err := s.signers.EnrollSigner(s.mallory, &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
				UserName: "ada2", PrintedName: "Ada Lovelace", TimeZone: "UTC", Roles: []signetv1.Role{signetv1.Role_ROLE_SIGNER},
				Proofing: &signetv1.IdentityProofing{Method: "none at all", Reference: "none"},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			if r.GetProposal() == nil || r.GetSigner() != nil {
				t.Fatal("one administrator alone has enrolled somebody")
			}
			_, err = s.signers.RedeemEnrollment(t.Context(), &signetv1.RedeemEnrollmentRequest{
				EnrollmentCode: r.GetEnrollmentCode(), UserName: "ada2", Password: "mallory's words, not hers", AccountabilityAcknowledged: true,
			})
			refused(t, err, codes.Unauthenticated)
		}},
		{"takes Ada's user name for herself", []string{"11.100", "11.300(a)"}, func(t *testing.T) {
			_, err := s.signers.EnrollSigner(s.mallory, &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
				UserName: "ada", PrintedName: "Ada Lovelace", TimeZone: "UTC", Roles: []signetv1.Role{signetv1.Role_ROLE_SIGNER},
				Proofing: &signetv1.IdentityProofing{Method: "none at all", Reference: "none"},
			}}})
			refused(t, err, codes.AlreadyExists)
		}},
		{"sets a passkey of hers for Ada", []string{"11.300(c)"}, func(t *testing.T) {
			_, err := s.credential.StartPasskey(s.mallory, &signetv1.StartPasskeyRequest{Password: proofOf("ada"), Label: "mine"})
			refused(t, err, codes.Unauthenticated, codes.FailedPrecondition)
		}},
		{"changes Ada's password", []string{"11.200(a)(3)"}, func(t *testing.T) {
			_, err := s.credential.ChangePassword(s.mallory, &signetv1.ChangePasswordRequest{
				Password: &signetv1.PasswordCredentials{UserName: "ada", Password: servertest.Password}, NewPassword: "mallory's words, not hers",
			})
			refused(t, err, codes.Unauthenticated)
		}},
		{"gives herself a role", []string{"11.10(g)"}, func(t *testing.T) {
			_, err := s.rights.AssignRole(s.mallory, &signetv1.AssignRoleRequest{Holder: s.malloryID, Role: signetv1.Role_ROLE_SIGNER, Reason: "mine"})
			refused(t, err, codes.PermissionDenied, codes.FailedPrecondition)
		}},
		{"attests her own training", []string{"11.10(i)"}, func(t *testing.T) {
			_, err := s.rights.AttestTraining(s.mallory, &signetv1.AttestTrainingRequest{Signer: s.malloryID, Course: "gmp", Reference: "trust me", EndTime: stampIn(time.Hour)})
			refused(t, err, codes.PermissionDenied)
		}},
		{"unlocks herself", []string{"11.300(d)"}, func(t *testing.T) {
			_, err := s.signers.UnlockSigner(s.mallory, &signetv1.UnlockSignerRequest{Name: s.malloryID, Reason: "let me in"})
			refused(t, err, codes.PermissionDenied, codes.FailedPrecondition)
		}},
		{"hides behind a new printed name", []string{"A-18"}, func(t *testing.T) {
			r, err := s.signers.RenewSigner(s.mallory, &signetv1.RenewSignerRequest{
				Name: s.malloryID, PrintedName: "Ada Lovelace", Reason: "I like it", Proofing: &signetv1.IdentityProofing{Method: "none at all", Reference: "none"},
			})
			refused(t, err, codes.PermissionDenied)
			if r.GetEnrollmentCode() != "" {
				t.Error("a code")
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, row := range tc.rows {
				t.Attr("requirement", row)
			}
			tc.try(t)
		})
	}
	t.Run("and no signature was made, and each proposal names her", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		if made := s.find(before, chain.SignatureCreated); len(made) > 0 {
			t.Errorf("signatures: %v", made)
		}
		proposed := s.find(before, chain.ActProposed)
		if len(proposed) < 2 {
			t.Errorf("%d proposals in the ledger", len(proposed))
		}
		for _, e := range proposed {
			if "signers/"+e.Actor.ID != s.malloryID {
				t.Errorf("entry %d names %s", e.Index, e.Actor.ID)
			}
		}
	})
	t.Run("Ada signs as if nothing had happened", func(t *testing.T) {
		s.ada = s.Login("ada")
		s.sign(s.ada, "ada", s.prepare(s.ada))
		file := s.manifest()
		s.wantVerdict(file, verify.OK)

		t.Run("moved to another record, it does not verify", func(t *testing.T) {
			t.Attr("requirement", "11.70")
			m, err := manifest.Parse(file)
			if err != nil {
				t.Fatal(err)
			}
			m.Record.Title = "another one"
			moved, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if r := s.verify(moved); r.Code == verify.OK {
				t.Error("it verifies")
			}
		})
	})
}

// TestEvilHands plays somebody who has the files of the service while it is stopped, changes them, and starts it again: nobody signs as somebody
// else, and the check names what was changed.
func TestEvilHands(t *testing.T) {
	s := startEvil(t)
	admin := s.Login(servertest.Administrator)
	s.bob = s.Login("bob")
	h := header("bob")
	h.Version = "v0.2.0"
	bobs := s.create(h)
	hers := s.record
	s.record = bobs
	bobsPreparation := s.prepare(s.bob)
	s.record = hers
	if _, err := s.signers.SuspendSigner(admin, &signetv1.SuspendSignerRequest{Name: s.bobID, Reason: "on leave"}); err != nil {
		t.Fatal(err)
	}
	prepared := s.prepare(s.ada)
	ada, mallory, rita := strings.TrimPrefix(s.adaID, "signers/"), strings.TrimPrefix(s.malloryID, "signers/"), ""
	for _, x := range s.find(0, chain.SignerEnrolled) {
		var body manifest.SignerEnrolled
		if err := json.Unmarshal(x.Body, &body); err != nil {
			t.Fatal(err)
		}
		if body.UserName == "rita" {
			rita = body.ID
		}
	}
	s.Stop()
	path := s.Config.Path(server.LedgerFile)
	before := s.beside()
	login := func(user string) error {
		_, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: user, Password: servertest.Password})
		return err
	}
	signers := func(tx *bolt.Tx) *bolt.Bucket { return newest(tx, "identity").Bucket([]byte("signers")) }
	for _, tc := range []struct {
		name  string
		rows  []string
		hands func(tx *bolt.Tx) error
		try   func() error // must fail; nil: nobody needs to try
		check string
	}{
		{"her password in the place of Ada's", []string{"11.10(a)", "11.200(a)(1)"}, func(tx *bolt.Tx) error {
			b := rowsOf(tx, "private", "identity.verifiers")
			return b.Put([]byte(ada), bytes.Clone(b.Get([]byte(mallory))))
		}, func() error { return login("ada") }, "the password verifier of " + ada},
		{"and the commitment to it in Ada's row", []string{"11.10(a)"}, func(tx *bolt.Tx) error {
			b := rowsOf(tx, "private", "identity.verifiers")
			other := bytes.Clone(b.Get([]byte(mallory)))
			sum := func(v []byte) string { return fmt.Sprintf("%x", sha256.Sum256(v)) }
			own := sum(b.Get([]byte(ada)))
			if err := b.Put([]byte(ada), other); err != nil {
				return err
			}
			row := signers(tx).Get([]byte(ada))
			return signers(tx).Put([]byte(ada), bytes.ReplaceAll(row, []byte(own), []byte(sum(other))))
		}, func() error { return login("ada") }, "projection identity"},
		{"Ada's key in her own row", []string{"B-36", "11.10(a)"}, func(tx *bolt.Tx) error {
			var mine, hers map[string]any
			if err := errors.Join(json.Unmarshal(signers(tx).Get([]byte(mallory)), &mine), json.Unmarshal(signers(tx).Get([]byte(ada)), &hers)); err != nil {
				return err
			}
			for _, k := range []string{"keyId", "enrolled", "enrolment"} {
				mine[k] = hers[k]
			}
			row, err := json.Marshal(mine, json.Deterministic(true))
			if err != nil {
				return err
			}
			return signers(tx).Put([]byte(mallory), row)
		}, func() error {
			who, err := signetv1.NewSessionServiceClient(s.Dial()).OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: "mallory", Password: servertest.Password})
			if err != nil {
				return err
			}
			_, err = s.signing.Prepare(withSession(t, who.GetToken()), s.prepareRequest())
			return err
		}, "projection identity"},
		{"herself among the approvers of the record", []string{"B-35", "11.10(g)"}, func(tx *bolt.Tx) error {
			return replaceIn(newest(tx, "signing").Bucket([]byte("records")), ada, mallory)
		}, func() error {
			_, err := s.signing.Prepare(s.Login("mallory"), s.prepareRequest())
			return err
		}, "projection signing"},
		{"the role signer for somebody without a key", []string{"11.10(g)"}, func(tx *bolt.Tx) error {
			row := signers(tx).Get([]byte(rita))
			return signers(tx).Put([]byte(rita), bytes.Replace(row, []byte(`"roles":["release_manager"]`), []byte(`"roles":["release_manager","signer"]`), 1))
		}, func() error {
			_, err := s.signing.Prepare(s.Login("rita"), s.prepareRequest())
			return err
		}, "projection identity"},
		{"Ada's preparation for herself", []string{"11.200(a)(1)"}, func(tx *bolt.Tx) error {
			return replaceIn(newest(tx, "signing").Bucket([]byte("preparations")), ada, mallory)
		}, func() error {
			_, err := s.signing.Sign(s.Login("mallory"), signRequest(prepared, "mallory"))
			return err
		}, "projection signing"},
		{"a suspension lifted", []string{"11.10(g)", "11.300(c)"}, func(tx *bolt.Tx) error {
			return replaceIn(signers(tx), `"state":"suspended"`, `"state":"active"`)
		}, func() error {
			_, err := s.signing.Sign(s.Login("bob"), signRequest(bobsPreparation, "bob"))
			return err
		}, "projection identity"},
		{"another statement under Ada's preparation", []string{"A-20"}, func(tx *bolt.Tx) error {
			return replaceIn(rowsOf(tx, "attachments"), "All gates green, risk file reviewed.", "All gates red, risk file unread!!!!!.")
		}, func() error {
			_, err := s.signing.Sign(s.Login("ada"), signRequest(prepared, "ada"))
			return err
		}, "attachment"},
		{"the newest entries gone", []string{"11.10(e)"}, func(tx *bolt.Tx) error {
			b := rowsOf(tx, "entries")
			last, _ := b.Cursor().Last()
			return b.Delete(bytes.Clone(last))
		}, nil, "missing"},
		{"an entry's actor changed", []string{"11.10(e)"}, func(tx *bolt.Tx) error {
			return replaceIn(rowsOf(tx, "entries"), `"actor":{"id":"`+mallory, `"actor":{"id":"`+ada)
		}, nil, "entry "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, row := range tc.rows {
				t.Attr("requirement", row)
			}
			defer func() {
				s.Stop()
				for file, content := range before {
					if err := os.WriteFile(file, content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}()
			o := s.Options()
			damage{rows: tc.hands}.apply(t, path, &o)
			report, err := server.CheckLedger(t.Context(), o, nil)
			found := fmt.Sprint(err)
			for _, f := range report.Faults {
				found += "\n" + f.Where + ": " + f.What
			}
			if !strings.Contains(found, tc.check) {
				t.Errorf("the check does not name %q: %s", tc.check, found)
			}
			if tc.try == nil {
				return
			}
			s.Restart()
			s.connect()
			if err := tc.try(); err == nil {
				t.Error("it worked")
			} else if c := status.Code(err); c == codes.Internal || c == codes.Unknown {
				t.Errorf("refused, but not on purpose: %v", err)
			}
		})
	}
	t.Run("the clock set back", func(t *testing.T) {
		t.Attr("requirement", "A-19")
		s.Clock.Advance(-time.Hour)
		opened, err := server.Open(t.Context(), s.Options())
		if err == nil {
			err = opened.Stop(t.Context())
			t.Logf("it starts, and %v", err)
		}
		s.Clock.Advance(time.Hour)
	})
	s.Restart()
	s.again()
	s.sign(s.Login("ada"), "ada", s.prepare(s.Login("ada")))
}

func withSession(t *testing.T, token string) context.Context {
	return metadata.AppendToOutgoingContext(context.WithoutCancel(t.Context()), "authorization", "Bearer "+token)
}

func stampIn(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(d)) }
