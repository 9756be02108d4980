package server_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/internal/rights"
	"github.com/signetd/signet/server/servertest"
)

// TestEveryRecordTypeIsSignedAlike signs a record of each type that the registry has, with the meaning that the registry gives
// for approval, through the same calls, and verifies each with the same verifier.
func TestEveryRecordTypeIsSignedAlike(t *testing.T) {
	s := start(t)
	types, err := s.records.ListRecordTypes(s.rita, &signetv1.ListRecordTypesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(types.GetRecordTypes()) < 3 {
		t.Fatalf("%d record types", len(types.GetRecordTypes()))
	}
	for _, typ := range types.GetRecordTypes() {
		t.Run(typ.GetId(), func(t *testing.T) {
			t.Attr("requirement", "A-21")
			h := header("ada")
			h.Type = typ.GetId()
			if typ.GetId() == "access-review" { // the service writes what is reviewed
				r, err := signetv1.NewRightsServiceClient(s.Dial()).StartReview(s.Login(servertest.Administrator), &signetv1.StartReviewRequest{Approvers: []string{"ada"}, Threshold: 1})
				if err != nil {
					t.Fatal(err)
				}
				s.record, s.document = r.GetRecord(), documentOfReview(t, r.GetFiles())
			} else {
				s.document = documentOf(t)
				s.record = s.create(h)
			}
			meaning := ""
			for _, m := range typ.GetMeanings() {
				for _, d := range m.GetDecisions() {
					if d == signetv1.Decision_DECISION_APPROVE {
						meaning = m.GetId()
					}
				}
			}
			p := s.prepare(s.ada, func(in *signetv1.PrepareRequest) { in.Meaning = meaning })
			s.sign(s.ada, "ada", p)
			s.wantVerdict(s.manifest(), verify.OK)
		})
	}
}

func TestTheSignerAttestsToOneRecord(t *testing.T) {
	t.Attr("requirement", "X-20")
	s := start(t)
	st, err := manifest.ParseStatement(s.prepare(s.ada).GetStatement())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"I, Ada Lovelace, QA Lead", "bioflow_pro v0.1.0", "binding as my handwritten"} {
		if !strings.Contains(st.Predicate.Statement, want) {
			t.Errorf("%q does not say %q", st.Predicate.Statement, want)
		}
	}
	if last := st.Subject[len(st.Subject)-1]; !bytes.Equal(last.Digest.SHA256[:], s.record.GetDigest()) {
		t.Error("the statement is about another record")
	}
}

func TestCreateRecordRefuses(t *testing.T) {
	s := start(t)
	document, err := s.document.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.signers.SuspendSigner(s.Login(servertest.Administrator), &signetv1.SuspendSignerRequest{Name: s.bobID, Reason: "away"}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*signetv1.RecordHeader, *[]byte)
		code   codes.Code
		reason string
	}{
		{"unknown type", func(h *signetv1.RecordHeader, _ *[]byte) { h.Type = "poem" }, codes.InvalidArgument, "RECORD_TYPE_UNKNOWN"},
		{"no bundle", func(_ *signetv1.RecordHeader, d *[]byte) { *d = nil }, codes.InvalidArgument, "RECORD_INVALID"},
		{"a document that is none", func(_ *signetv1.RecordHeader, d *[]byte) { *d = []byte("{}") }, codes.InvalidArgument, "MALFORMED"},
		{"a bundle without files", func(h *signetv1.RecordHeader, d *[]byte) {
			*d, h.Roles = []byte(`{"excluded":[],"files":[],"format":"signet-bundle/v1"}`), nil
		}, codes.InvalidArgument, "RECORD_INVALID"},
		{"an unknown approver", func(h *signetv1.RecordHeader, _ *[]byte) { h.Policy.Approvers = []string{"nobody"} }, codes.InvalidArgument, "APPROVER_UNKNOWN"},
		{"an approver who cannot sign", func(h *signetv1.RecordHeader, _ *[]byte) { h.Policy.Approvers = []string{"rita"} }, codes.InvalidArgument, "APPROVER_UNKNOWN"},
		{"one approver under two names", func(h *signetv1.RecordHeader, _ *[]byte) {
			h.Policy.Approvers = []string{"ada", strings.TrimPrefix(s.adaID, "signers/")}
		}, codes.InvalidArgument, "APPROVER_UNKNOWN"},
		{"designated and excluded", func(h *signetv1.RecordHeader, _ *[]byte) { h.Policy.ExcludedSigners = []string{"ada"} }, codes.InvalidArgument, "APPROVER_UNKNOWN"},
		{"more approvals than approvers", func(h *signetv1.RecordHeader, _ *[]byte) { h.Policy.Threshold = 2 }, codes.InvalidArgument, "RECORD_INVALID"},
		{"unknown template", func(h *signetv1.RecordHeader, _ *[]byte) { h.Policy.Template = "anyone" }, codes.InvalidArgument, "RECORD_INVALID"},
		{"a role for a file that is not there", func(h *signetv1.RecordHeader, _ *[]byte) { h.Roles["other"] = "junit_xml" }, codes.InvalidArgument, "RECORD_INVALID"},
		{"a version that is none", func(h *signetv1.RecordHeader, _ *[]byte) { h.Version = "latest" }, codes.InvalidArgument, "RECORD_INVALID"},
		{"a predecessor of another product", func(h *signetv1.RecordHeader, _ *[]byte) {
			h.Product, h.Supersedes = "other_pro", fmt.Sprintf("%x", s.record.GetDigest())
		}, codes.InvalidArgument, "RECORD_INVALID"},
		{"a predecessor of another type", func(h *signetv1.RecordHeader, _ *[]byte) {
			h.Type, h.Supersedes = "document", fmt.Sprintf("%x", s.record.GetDigest())
		}, codes.InvalidArgument, "RECORD_INVALID"},
		{"an approver who is suspended", func(h *signetv1.RecordHeader, _ *[]byte) { h.Policy.Approvers = []string{"bob"} }, codes.InvalidArgument, "APPROVER_UNKNOWN"},
		{"a review of rights", func(h *signetv1.RecordHeader, _ *[]byte) { h.Type = rights.RecordType }, codes.InvalidArgument, "RECORD_INVALID"},
		{"a predecessor that is none", func(h *signetv1.RecordHeader, _ *[]byte) { h.Supersedes = strings.Repeat("0", 64) }, codes.InvalidArgument, "RECORD_INVALID"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, d := header("ada"), document
			tc.change(h, &d)
			_, err := s.Record(s.rita, d, h)
			wantError(t, err, tc.code, tc.reason)
		})
	}
	t.Run("a short commit", func(t *testing.T) {
		h := header("ada")
		h.Source.Commit = "a1b2c3d"
		if _, err := s.Record(s.rita, document, h); status.Code(err) != codes.InvalidArgument {
			t.Fatal(err)
		}
	})
	t.Run("an exclusion that the policy does not allow", func(t *testing.T) {
		d := s.document
		d.Excluded = []string{"secret/", "signatures/"}
		b, err := d.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Record(s.rita, b, header("ada"))
		wantError(t, err, codes.InvalidArgument, "RECORD_INVALID")
	})
	t.Run("by a signer", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		_, err := s.Record(s.ada, document, header("ada"))
		wantError(t, err, codes.PermissionDenied, "DENIED")
	})
	t.Run("a retried call makes one record", func(t *testing.T) {
		h := header("ada")
		h.RequestId = "0193c1f0-0000-4000-8000-000000000007"
		a, err := s.Record(s.rita, document, h)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Record(s.rita, document, h)
		if err != nil || a.GetName() != b.GetName() {
			t.Fatalf("%s, then %s, %v", a.GetName(), b.GetName(), err)
		}
		d := s.document
		d.Files = d.Files[:2]
		other, err := d.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		h.Roles = nil
		c, err := s.Record(s.rita, document, h)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := s.Record(s.rita, other, h); err != nil || d.GetName() == c.GetName() {
			t.Fatalf("with other content: %s, then %s, %v", c.GetName(), d.GetName(), err)
		}
	})
}

func TestTooLarge(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Limits.DocumentBytes = 8 << 20 })
	t.Run("message", func(t *testing.T) {
		in := s.prepareRequest()
		in.Reason = strings.Repeat("x", s.Config.Limits.MessageBytes+1)
		if _, err := s.signing.Prepare(s.ada, in); status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
	})
	t.Run("stream", func(t *testing.T) {
		stream, err := s.signing.Verify(s.rita)
		if err != nil {
			t.Fatal(err)
		}
		piece := &signetv1.VerifyRequest{Part: &signetv1.VerifyRequest_ManifestChunk{ManifestChunk: make([]byte, 1<<20)}}
		for range s.Config.Limits.DocumentBytes>>20 + 2 {
			if stream.Send(piece) != nil {
				break
			}
		}
		_, err = stream.CloseAndRecv()
		wantError(t, err, codes.ResourceExhausted, "TOO_LARGE")
	})
	t.Run("a record's document", func(t *testing.T) {
		stream, err := s.records.CreateRecord(s.rita)
		if err != nil {
			t.Fatal(err)
		}
		piece := &signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_Header{Header: header("ada")}}
		for range s.Config.Limits.DocumentBytes>>20 + 3 {
			if stream.Send(piece) != nil {
				break
			}
			piece = &signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_BundleChunk{BundleChunk: make([]byte, 1<<20)}}
		}
		_, err = stream.CloseAndRecv()
		wantError(t, err, codes.ResourceExhausted, "TOO_LARGE")
	})
	t.Run("parts in another order", func(t *testing.T) {
		head := &signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_Header{Header: header("ada")}}
		bytes := &signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_BundleChunk{BundleChunk: []byte("{}")}}
		for name, parts := range map[string][]*signetv1.CreateRecordRequest{"no header": {bytes}, "two headers": {head, head, bytes}, "the header last": {bytes, head}, "nothing": {}} {
			stream, err := s.records.CreateRecord(s.rita)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parts {
				_ = stream.Send(p) // the answer says it
			}
			_, err = stream.CloseAndRecv()
			t.Run(name, func(t *testing.T) { wantError(t, err, codes.InvalidArgument, "REQUEST_INVALID") })
		}
		stream, err := s.signing.Verify(s.rita)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.CloseAndRecv()
		wantError(t, err, codes.InvalidArgument, "REQUEST_INVALID")
	})
	s.sign(s.ada, "ada", s.prepare(s.ada)) // and nothing is the worse for it
}

// TestRights calls with each role what is not theirs.
func TestRights(t *testing.T) {
	s := start(t)
	admin := s.Login(servertest.Administrator)
	calls := map[string]func() error{
		"an administrator does not prepare": func() error { _, err := s.signing.Prepare(admin, s.prepareRequest()); return err },
		"an administrator does not sign": func() error {
			_, err := s.signing.Sign(admin, signRequest(s.prepare(s.ada), servertest.Administrator))
			return err
		},
		"a signer does not enrol": func() error {
			_, err := s.signers.RevokeSigner(s.ada, &signetv1.RevokeSignerRequest{Name: s.bobID, Reason: "x"})
			return err
		},
		"a signer does not read the ledger": func() error { _, err := s.ledger.GetEntry(s.ada, &signetv1.GetEntryRequest{}); return err },
		"a release manager does not sign": func() error {
			_, err := s.signing.Sign(s.rita, signRequest(s.prepare(s.ada), "rita"))
			return err
		},
		"a release manager does not enrol": func() error {
			_, err := s.signers.SuspendSigner(s.rita, &signetv1.SuspendSignerRequest{Name: s.adaID, Reason: "x"})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "11.10(d)")
			wantError(t, call(), codes.PermissionDenied, "DENIED")
		})
	}
	for full := range map[string]bool{"/signet.v1.LedgerService/GetCheckpoint": true, "/signet.v1.RecordService/ListRecords": true, "/signet.v1.SessionService/WhoAmI": true} {
		t.Run("nobody calls "+full, func(t *testing.T) {
			t.Attr("requirement", "11.10(d)")
			err := s.Dial().Invoke(t.Context(), full, &signetv1.GetCheckpointRequest{}, &signetv1.GetCheckpointResponse{})
			wantError(t, err, codes.Unauthenticated, "NOT_AUTHENTICATED")
		})
	}
}

func TestAccountabilityIsReadBeforeItIsAcknowledged(t *testing.T) {
	t.Attr("requirement", "B-38")
	s := servertest.Start(t)
	_, err := signetv1.NewSignerServiceClient(s.Dial()).RedeemEnrollment(t.Context(), &signetv1.RedeemEnrollmentRequest{
		EnrollmentCode: "code", UserName: "ada", Password: servertest.Password,
	})
	wantError(t, err, codes.InvalidArgument, "ACCOUNTABILITY_NOT_ACKNOWLEDGED")
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && strings.Contains(info.GetMetadata()["statement"], "accountable") && info.GetMetadata()["version"] != "" {
			return
		}
	}
	t.Fatalf("the statement is not in the answer: %v", status.Convert(err).Details())
}

// documentOfReview is the document of a review's bundle.
func documentOfReview(t *testing.T, files []*signetv1.ReviewFile) bundle.Document {
	t.Helper()
	folder := t.TempDir()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(folder, f.GetPath()), f.GetContent(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := bundle.Read(t.Context(), folder, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
