package server_test

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
)

// TestOnlyAnEnrolledKeyThatHoldsSeals walks a service's key through everything that ends its right to sign. The session of a person ends with
// their rights; a service calls again with its certificate, and is told why.
func TestOnlyAnEnrolledKeyThatHoldsSeals(t *testing.T) {
	s := startKeys(t)
	sealing := signetv1.NewSigningServiceClient(s.DialSealing())
	seal := func() error {
		_, err := sealing.Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"})
		return err
	}
	key := s.active(signetv1.KeyRole_KEY_ROLE_SEALING, "")
	refused := func(t *testing.T, code codes.Code, reason string) {
		t.Helper()
		from := s.size()
		wantError(t, seal(), code, reason)
		if len(s.find(from, chain.SignatureCreated)) != 0 {
			t.Error("a signature was made")
		}
	}
	works := func(t *testing.T) {
		t.Helper()
		if err := seal(); err != nil {
			t.Fatal(err)
		}
	}
	works(t)
	t.Run("unenrolled", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		_, err := signetv1.NewSigningServiceClient(s.Dial()).Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"})
		wantError(t, err, codes.Unauthenticated, "NOT_AUTHENTICATED")
	})
	t.Run("suspended", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		if _, err := s.signers.SuspendSigner(s.admin, &signetv1.SuspendSignerRequest{Name: key.GetSigner(), Reason: "host under investigation"}); err != nil {
			t.Fatal(err)
		}
		refused(t, codes.FailedPrecondition, "SIGNER_SUSPENDED")
		r, err := s.signers.ReinstateSigner(s.admin, &signetv1.ReinstateSignerRequest{Name: key.GetSigner(), Reason: "nothing found"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signetv1.NewProposalServiceClient(s.Dial()).ConfirmProposal(s.eve, &signetv1.ConfirmProposalRequest{
			Name: r.GetProposal().GetName(), Digest: r.GetProposal().GetDigest(), Password: proofOf("eve"),
		}); err != nil {
			t.Fatal(err)
		}
		works(t)
	})
	t.Run("disabled", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		if err := s.disable(key.GetName()); err != nil {
			t.Fatal(err)
		}
		refused(t, codes.FailedPrecondition, "KEY_DISABLED")
		if err := s.enable(key.GetName()); err != nil {
			t.Fatal(err)
		}
		works(t)
	})
	t.Run("expired, until the key is rotated", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		s.Clock.Advance(key.GetCertificateExpireTime().AsTime().Sub(s.Clock.Now()) + time.Minute)
		s.SetFault(gone("ca-")) // or else the service renews its own
		s.restart()
		eventually(t, "the service has tried", func() bool { return s.problem("certificate of the key sealing") })
		sealing = signetv1.NewSigningServiceClient(s.DialSealing())
		refused(t, codes.FailedPrecondition, "CERTIFICATE_EXPIRED")
		s.SetFault(nil)
		key = s.rotate(key)
	})
	t.Run("revoked, and then destroyed", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		if _, err := s.signers.RevokeSigner(s.admin, &signetv1.RevokeSignerRequest{Name: key.GetSigner(), Reason: "host given away"}); err != nil {
			t.Fatal(err)
		}
		refused(t, codes.FailedPrecondition, "KEY_REVOKED")
		asked, err := s.request(key.GetName())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.confirm(key.GetName(), asked.GetDestruction().GetId()); err != nil {
			t.Fatal(err)
		}
		refused(t, codes.FailedPrecondition, "KEY_REVOKED")
		if s.inHSM(key) {
			t.Error("the HSM still has the key")
		}
	})
	s.sign(s.bob, "bob", func() *signetv1.Preparation { // and others sign, once their certificates are new
		s.rotate(s.keyOf(s.bobID))
		s.rotate(s.active(signetv1.KeyRole_KEY_ROLE_CLOSING, ""))
		s.record = s.create(header("bob"))
		return s.prepare(s.bob)
	}())
	s.wantVerdict(s.manifest(), verify.OK)
}

// TestRotationUnderLoad rotates keys while a service seals: what is released verifies, and nothing fails but what has to be made anew.
func TestRotationUnderLoad(t *testing.T) {
	t.Attr("requirement", "B-31")
	s := startKeys(t)
	const each = 60 // calls for each rotation
	turns := make(chan struct{}, 10*each)
	more := func() {
		for range each {
			turns <- struct{}{}
		}
	}
	var callers sync.WaitGroup
	var released atomic.Int64
	for range 2 {
		sealing := signetv1.NewSigningServiceClient(s.DialSealing())
		callers.Go(func() {
			for range turns {
				_, err := sealing.Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"})
				if err != nil {
					t.Errorf("seal: %v", err)
					return
				}
				released.Add(1)
			}
		})
	}
	more()
	for _, role := range []signetv1.KeyRole{
		signetv1.KeyRole_KEY_ROLE_SEALING, signetv1.KeyRole_KEY_ROLE_TIMESTAMP, signetv1.KeyRole_KEY_ROLE_CA, signetv1.KeyRole_KEY_ROLE_SEALING,
		signetv1.KeyRole_KEY_ROLE_TIMESTAMP, signetv1.KeyRole_KEY_ROLE_CLOSING,
	} {
		s.rotate(s.active(role, ""))
		more()
	}
	close(turns)
	callers.Wait()
	s.sign(s.ada, "ada", s.prepare(s.ada))
	trust, err := os.ReadFile(s.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	s.trust = trust
	file := s.manifest()
	if r := s.wantVerdict(file, verify.OK); int64(len(r.Signatures)) != released.Load()+2 {
		t.Errorf("%d signatures in the manifest, %d released", len(r.Signatures), released.Load())
	}
	keys, stamps := signedBy(t, file)
	for what, list := range map[string][]string{"keys": keys[:len(keys)-2], "time-stamping keys": stamps} {
		slices.Sort(list)
		if n := len(slices.Compact(list)); n < 2 {
			t.Errorf("%d %s took part", n, what)
		}
	}
}
