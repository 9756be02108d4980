package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// scene is a server with people and a record.
type scene struct {
	*servertest.Server
	t              *testing.T
	ada, bob, rita context.Context // sessions: two signers, a release manager
	adaID, bobID   string
	document       bundle.Document
	record         *signetv1.Record
	signing        signetv1.SigningServiceClient
	records        signetv1.RecordServiceClient
	signers        signetv1.SignerServiceClient
	ledger         signetv1.LedgerServiceClient
	trust          []byte
}

var content = map[string]string{"bin/app": "the program", "index.json": "{}", "SHA256SUMS": "sums"}

func documentOf(t testing.TB) bundle.Document {
	t.Helper()
	dir := t.TempDir()
	for path, text := range content {
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			if err := os.MkdirAll(dir+"/"+path[:i], 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(dir+"/"+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err := bundle.Read(t.Context(), dir, bundle.Options{Excluded: []string{"signatures/"}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func header(approvers ...string) *signetv1.RecordHeader {
	return &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: "v0.1.0", Title: "First release",
		Source: &signetv1.Source{Repository: "https://git.example/bioflow", Commit: strings.Repeat("a1", 20), Branch: "main", Tag: "v0.1.0-rc.1"},
		Roles:  map[string]string{"index.json": "index_json", "SHA256SUMS": "sha256sums"},
		Policy: &signetv1.ApprovalPolicy{Template: "k-of-n", Approvers: approvers, Threshold: int32(len(approvers))},
	}
}

func start(t *testing.T, options ...servertest.Option) *scene {
	t.Helper()
	return people(t, servertest.Start(t, options...))
}

// people enrols people on a server, and creates a record.
func people(t *testing.T, on *servertest.Server) *scene {
	t.Helper()
	s := &scene{Server: on, t: t}
	s.adaID = s.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER).GetName()
	s.bobID = s.Enroll("bob", "Bob Noyce", signetv1.Role_ROLE_SIGNER).GetName()
	s.Enroll("rita", "Rita Levi", signetv1.Role_ROLE_RELEASE_MANAGER)
	s.connect()
	s.ada, s.bob, s.rita = s.Login("ada"), s.Login("bob"), s.Login("rita")
	s.document = documentOf(t)
	s.record = s.create(header("ada"))
	var err error
	if s.trust, err = os.ReadFile(s.Created.TrustFile); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scene) connect() {
	c := s.Dial()
	s.signing, s.records = signetv1.NewSigningServiceClient(c), signetv1.NewRecordServiceClient(c)
	s.signers, s.ledger = signetv1.NewSignerServiceClient(c), signetv1.NewLedgerServiceClient(c)
}

func (s *scene) create(h *signetv1.RecordHeader) *signetv1.Record {
	s.t.Helper()
	b, err := s.document.Canonical()
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := s.Record(s.rita, b, h)
	if err != nil {
		s.t.Fatalf("create record: %v", err)
	}
	return r
}

func (s *scene) prepareRequest() *signetv1.PrepareRequest {
	return &signetv1.PrepareRequest{
		Record: s.record.GetName(), Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All gates green, risk file reviewed.",
	}
}

func (s *scene) prepare(ctx context.Context, change ...func(*signetv1.PrepareRequest)) *signetv1.Preparation {
	s.t.Helper()
	in := s.prepareRequest()
	for _, c := range change {
		c(in)
	}
	r, err := s.signing.Prepare(ctx, in)
	if err != nil {
		s.t.Fatalf("prepare: %v", err)
	}
	return r.GetPreparation()
}

func signRequest(p *signetv1.Preparation, user string) *signetv1.SignRequest {
	digest := sha256.Sum256(p.GetStatement())
	return &signetv1.SignRequest{
		Preparation: p.GetName(), StatementSha256: digest[:], Password: &signetv1.PasswordCredentials{UserName: user, Password: servertest.Password},
	}
}

func (s *scene) sign(ctx context.Context, user string, p *signetv1.Preparation) *signetv1.SignResponse {
	s.t.Helper()
	r, err := s.signing.Sign(ctx, signRequest(p, user))
	if err != nil {
		s.t.Fatalf("sign: %v", err)
	}
	return r
}

func (s *scene) manifest() []byte {
	s.t.Helper()
	stream, err := s.signing.GetManifest(s.rita, &signetv1.GetManifestRequest{Record: s.record.GetName()})
	if err != nil {
		s.t.Fatal(err)
	}
	var file bytes.Buffer
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file.Bytes()
		}
		if err != nil {
			s.t.Fatalf("manifest: %v", err)
		}
		file.Write(r.GetChunk())
	}
}

func (s *scene) verify(file []byte) *verify.Report {
	s.t.Helper()
	r, err := verify.Verify(s.t.Context(), verify.Input{Bundle: &s.document, Manifest: file, Trust: s.trust})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *scene) wantVerdict(file []byte, want verify.Code) *verify.Report {
	s.t.Helper()
	r := s.verify(file)
	if r.Code != want {
		b, _ := json.Marshal(r)
		s.t.Fatalf("verdict %d, want %d: %v\n%s", r.Code, want, r.Faults, b)
	}
	return r
}

// entries returns the types of the ledger's entries from an index on.
func (s *scene) entries(from uint64) []chain.Entry {
	s.t.Helper()
	stream, err := s.ledger.ListEntries(s.Login(servertest.Administrator), &signetv1.ListEntriesRequest{StartIndex: from})
	if err != nil {
		s.t.Fatal(err)
	}
	var out []chain.Entry
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			s.t.Fatal(err)
		}
		e, err := chain.ParseEntry(r.GetEntry().GetContent())
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, e)
	}
}

func (s *scene) size() uint64 {
	s.t.Helper()
	r, err := s.ledger.GetCheckpoint(s.rita, &signetv1.GetCheckpointRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.GetSize()
}

// find returns the entries of a type from an index on.
func (s *scene) find(from uint64, typ chain.Type) []chain.Entry {
	s.t.Helper()
	var out []chain.Entry
	for _, e := range s.entries(from) {
		if e.Type == typ {
			out = append(out, e)
		}
	}
	return out
}

func wantError(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	s, _ := status.FromError(err)
	got := ""
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == server.Domain {
			got = info.GetReason()
		}
	}
	if s.Code() != code || got != reason {
		t.Fatalf("got %s %s (%v), want %s %s", s.Code(), got, err, code, reason)
	}
}

func TestOnePersonApproves(t *testing.T) {
	s := start(t)
	before := s.size()
	p := s.prepare(s.ada)

	st, err := manifest.ParseStatement(p.GetStatement())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the statement shown is derived from the bytes that are signed", func(t *testing.T) {
		t.Attr("requirement", "A-20")
		t.Attr("requirement", "B-46")
		if p.GetRendering() != manifest.Render(st) {
			t.Error("the rendering is not that of the statement")
		}
		for _, want := range []string{"Ada Lovelace", "bioflow_pro", "v0.1.0", "All gates green", st.Predicate.Meaning.Text} {
			if !strings.Contains(p.GetRendering(), want) {
				t.Errorf("%q is not shown in\n%s", want, p.GetRendering())
			}
		}
	})
	t.Run("identity, meaning, reason, digest, time and zone stand in the signed bytes", func(t *testing.T) {
		for _, row := range []string{"A-16", "A-17", "A-18", "B-39", "B-40", "B-41", "11.50"} {
			t.Attr("requirement", row)
		}
		digest, _ := s.document.Digest()
		q := st.Predicate
		if q.Signer.Name != "Ada Lovelace" || "signers/"+q.Signer.ID != s.adaID || q.Meaning.ID != "release-approval" ||
			q.Reason != "All gates green, risk file reviewed." || q.Zone.Name != "Europe/Berlin" || st.Subject[0].Digest.SHA256 != digest {
			t.Errorf("statement: %+v", st)
		}
	})

	r := s.sign(s.ada, "ada", p)
	if r.GetRecordState() != signetv1.RecordState_RECORD_STATE_APPROVED {
		t.Fatalf("state %s", r.GetRecordState())
	}
	file := s.manifest()
	t.Run("anyone verifies it offline", func(t *testing.T) {
		for _, row := range []string{"B-26", "B-49", "B-55", "B-57", "X-15", "A-04"} {
			t.Attr("requirement", row)
		}
		report := s.wantVerdict(file, verify.OK)
		if len(report.Signatures) != 2 {
			t.Fatalf("%d signatures, want the approval and the closing seal", len(report.Signatures))
		}
	})
	t.Run("another bundle does not", func(t *testing.T) {
		t.Attr("requirement", "A-03")
		other := s.document
		other.Files = append([]bundle.File{}, other.Files...)
		other.Files[0].SHA256[0] ^= 1
		report, err := verify.Verify(t.Context(), verify.Input{Bundle: &other, Manifest: file, Trust: s.trust})
		if err != nil || report.Code != verify.Content || !strings.Contains(fmt.Sprint(report.Faults), other.Files[0].Path) {
			t.Fatalf("%v, %v", report, err)
		}
	})
	t.Run("the server says the same", func(t *testing.T) {
		t.Attr("requirement", "X-15")
		stream, err := s.signing.Verify(s.rita)
		if err != nil {
			t.Fatal(err)
		}
		canonical, _ := s.document.Canonical()
		for _, in := range []*signetv1.VerifyRequest{
			{Part: &signetv1.VerifyRequest_ManifestChunk{ManifestChunk: file[:100]}}, {Part: &signetv1.VerifyRequest_BundleChunk{BundleChunk: canonical}},
			{Part: &signetv1.VerifyRequest_ManifestChunk{ManifestChunk: file[100:]}},
		} {
			if err := stream.Send(in); err != nil {
				t.Fatal(err)
			}
		}
		v, err := stream.CloseAndRecv()
		if err != nil || v.GetCode() != 0 || !v.GetContentChecked() {
			t.Fatalf("%v, %v", v, err)
		}
	})
	t.Run("every step is an entry, in order", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		t.Attr("requirement", "11.10(a)")
		var got []chain.Type
		for _, e := range s.entries(before) {
			got = append(got, e.Type)
		}
		want := []chain.Type{chain.SignaturePrepared, chain.SignatureAttempted, chain.SignatureCreated, chain.RecordDecided, chain.SignatureCreated}
		if len(got) < len(want) || fmt.Sprint(got[:len(want)]) != fmt.Sprint(want) {
			t.Fatalf("entries %v, want %v first", got, want)
		}
	})
	t.Run("the record is closed", func(t *testing.T) {
		_, err := s.signing.Prepare(s.ada, s.prepareRequest())
		wantError(t, err, codes.FailedPrecondition, "RECORD_CLOSED")
		sealing := signetv1.NewSigningServiceClient(s.DialSealing())
		_, err = sealing.Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"})
		wantError(t, err, codes.FailedPrecondition, "RECORD_CLOSED")
	})
	t.Run("no call sets a state", func(t *testing.T) {
		t.Attr("requirement", "A-05")
		for _, d := range []string{"SetState", "Approve", "Import", "UpdateRecord", "DeleteEntry"} {
			for _, svc := range []grpc.ServiceDesc{signetv1.RecordService_ServiceDesc, signetv1.SigningService_ServiceDesc, signetv1.LedgerService_ServiceDesc} {
				for _, m := range svc.Methods {
					if strings.Contains(m.MethodName, d) {
						t.Errorf("%s/%s", svc.ServiceName, m.MethodName)
					}
				}
			}
		}
	})
	t.Run("a retried Sign gets the first answer, after the same proof", func(t *testing.T) {
		again := s.sign(s.ada, "ada", p)
		if again.GetSignature().GetName() != r.GetSignature().GetName() || !bytes.Equal(again.GetSignature().GetValue(), r.GetSignature().GetValue()) {
			t.Fatal("another signature was made")
		}
		in := signRequest(p, "ada")
		in.Password.Password = "wrong password, quite long"
		_, err := s.signing.Sign(s.ada, in)
		wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
	})
}

func TestTwoPeopleAreNeeded(t *testing.T) {
	s := start(t)
	s.record = s.create(header("ada", "bob"))
	if r := s.sign(s.ada, "ada", s.prepare(s.ada)); r.GetRecordState() != signetv1.RecordState_RECORD_STATE_OPEN {
		t.Fatalf("state after one of two approvals: %s", r.GetRecordState())
	}
	s.wantVerdict(s.manifest(), verify.Policy)
	first := s.manifest()
	if r := s.sign(s.bob, "bob", s.prepare(s.bob)); r.GetRecordState() != signetv1.RecordState_RECORD_STATE_APPROVED {
		t.Fatalf("state after both: %s", r.GetRecordState())
	}
	second := s.manifest()
	report := s.wantVerdict(second, verify.OK)
	if len(report.Signatures) != 3 {
		t.Fatalf("%d signatures", len(report.Signatures))
	}
	t.Run("the manifest grows at its end", func(t *testing.T) {
		t.Attr("requirement", "B-42")
		old, err := manifest.Parse(first)
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Parse(second)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Extends(old); err != nil {
			t.Error(err)
		}
		if err := old.Extends(m); err == nil {
			t.Error("the shorter one extends the longer one")
		}
	})
	t.Run("a withdrawal reopens the question", func(t *testing.T) {
		w, err := s.signing.Withdraw(s.ada, &signetv1.WithdrawRequest{Record: s.record.GetName(), Reason: "A defect was found in the field."})
		if err != nil {
			t.Fatal(err)
		}
		if r := s.sign(s.ada, "ada", w.GetPreparation()); r.GetRecordState() != signetv1.RecordState_RECORD_STATE_WITHDRAWN {
			t.Fatalf("state %s", r.GetRecordState())
		}
		s.wantVerdict(s.manifest(), verify.Policy)
		_, err = s.signing.Withdraw(s.ada, &signetv1.WithdrawRequest{Record: s.record.GetName(), Reason: "Again."})
		wantError(t, err, codes.FailedPrecondition, "NOTHING_TO_WITHDRAW")
		if w, err = s.signing.Withdraw(s.bob, &signetv1.WithdrawRequest{Record: s.record.GetName(), Reason: "I agree with Ada."}); err != nil {
			t.Fatal(err)
		}
		if r := s.sign(s.bob, "bob", w.GetPreparation()); r.GetRecordState() != signetv1.RecordState_RECORD_STATE_WITHDRAWN {
			t.Fatalf("state %s after the second one; nobody has rejected it", r.GetRecordState())
		}
	})
}

func TestRejectionFails(t *testing.T) {
	s := start(t)
	s.record = s.create(header("ada", "bob"))
	p := s.prepare(s.ada, func(in *signetv1.PrepareRequest) {
		in.Decision, in.Meaning, in.Reason = signetv1.Decision_DECISION_REJECT, "release-rejection", "Test 12 is red."
	})
	if r := s.sign(s.ada, "ada", p); r.GetRecordState() != signetv1.RecordState_RECORD_STATE_REJECTED {
		t.Fatalf("state %s", r.GetRecordState())
	}
	s.wantVerdict(s.manifest(), verify.Policy)
}

func TestPrepareRefuses(t *testing.T) {
	s := start(t)
	ritaSigner := s.Enroll("eve", "Eve Outsider", signetv1.Role_ROLE_SIGNER)
	_ = ritaSigner
	eve := s.Login("eve")
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		change func(*signetv1.PrepareRequest)
		code   codes.Code
		reason string
		rows   []string
	}{
		{"no session", t.Context(), func(*signetv1.PrepareRequest) {}, codes.Unauthenticated, "NOT_AUTHENTICATED", []string{"A-02"}},
		{"a release manager", s.rita, func(*signetv1.PrepareRequest) {}, codes.PermissionDenied, "DENIED", []string{"11.10(d)"}},
		{"not designated", eve, func(*signetv1.PrepareRequest) {}, codes.PermissionDenied, "NOT_DESIGNATED", []string{"B-35", "X-16"}},
		{"unknown record", s.ada, func(in *signetv1.PrepareRequest) { in.Record = "records/0193c1f0-0000-7000-8000-000000000000" }, codes.NotFound, "RECORD_NOT_FOUND", nil},
		{"unknown meaning", s.ada, func(in *signetv1.PrepareRequest) { in.Meaning = "lgtm" }, codes.InvalidArgument, "MEANING_UNKNOWN", []string{"A-16"}},
		{"a meaning of another decision", s.ada, func(in *signetv1.PrepareRequest) { in.Meaning = "release-rejection" }, codes.InvalidArgument, "MEANING_UNKNOWN", []string{"A-16"}},
		{"the closing meaning", s.ada, func(in *signetv1.PrepareRequest) { in.Meaning = "closing" }, codes.InvalidArgument, "MEANING_UNKNOWN", nil},
		{"a blank reason", s.ada, func(in *signetv1.PrepareRequest) { in.Reason = "   " }, codes.InvalidArgument, "REASON_MISSING", []string{"A-17"}},
		{"a reason with a control character", s.ada, func(in *signetv1.PrepareRequest) { in.Reason = "fine\x1b[2J" }, codes.InvalidArgument, "REASON_MISSING", nil},
		{"a reason with a bidirectional override", s.ada, func(in *signetv1.PrepareRequest) { in.Reason = "fine\u202e" }, codes.InvalidArgument, "REASON_MISSING", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, row := range tc.rows {
				t.Attr("requirement", row)
			}
			before := s.size()
			in := s.prepareRequest()
			tc.change(in)
			_, err := s.signing.Prepare(tc.ctx, in)
			wantError(t, err, tc.code, tc.reason)
			if n := len(s.find(before, chain.SignaturePrepared)); n != 0 {
				t.Errorf("%d preparations were committed", n)
			}
			if tc.code == codes.PermissionDenied && len(s.find(before, chain.AccessDenied)) == 0 {
				t.Error("the refusal is not in the ledger")
			}
		})
	}
	for name, change := range map[string]func(*signetv1.PrepareRequest){
		"no decision": func(in *signetv1.PrepareRequest) { in.Decision = 0 },
		"no meaning":  func(in *signetv1.PrepareRequest) { in.Meaning = "" },
		"no reason":   func(in *signetv1.PrepareRequest) { in.Reason = "" },
		"a seal":      func(in *signetv1.PrepareRequest) { in.Decision = signetv1.Decision_DECISION_SEAL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "A-16")
			t.Attr("requirement", "A-17")
			t.Attr("requirement", "B-46")
			in := s.prepareRequest()
			change(in)
			if _, err := s.signing.Prepare(s.ada, in); status.Code(err) != codes.InvalidArgument {
				t.Fatalf("%v", err)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	s := start(t)
	eve := s.Enroll("eve", "Eve Outsider", signetv1.Role_ROLE_SIGNER)
	_ = eve
	for _, tc := range []struct {
		name   string
		change func(*signetv1.SignRequest)
		ctx    context.Context
		code   codes.Code
		reason string
		rows   []string
	}{
		{"a session alone", func(in *signetv1.SignRequest) { in.Password = nil }, s.ada, codes.Unauthenticated, "CREDENTIALS_MISSING", []string{"A-02", "A-15", "11.200(a)(1)", "X-11"}},
		{"no password", func(in *signetv1.SignRequest) { in.Password.Password = "" }, s.ada, codes.Unauthenticated, "CREDENTIALS_MISSING", []string{"11.200(a)(1)"}},
		{"no user name", func(in *signetv1.SignRequest) { in.Password.UserName = "" }, s.ada, codes.Unauthenticated, "CREDENTIALS_MISSING", []string{"11.200(a)(1)"}},
		{"wrong password", func(in *signetv1.SignRequest) { in.Password.Password = "wrong password, quite long" }, s.ada, codes.Unauthenticated, "BAD_CREDENTIALS", []string{"A-15", "X-07"}},
		{"wrong user name", func(in *signetv1.SignRequest) { in.Password.UserName = "nobody" }, s.ada, codes.Unauthenticated, "BAD_CREDENTIALS", []string{"A-15"}},
		{"another person's name and password", func(in *signetv1.SignRequest) { in.Password.UserName = "bob" }, s.ada, codes.Unauthenticated, "BAD_CREDENTIALS", []string{"X-11"}},
		{"another person's preparation", func(in *signetv1.SignRequest) { in.Password.UserName = "bob" }, s.bob, codes.NotFound, "PREPARATION_NOT_FOUND", []string{"X-11", "11.200(a)(2)"}},
		{"unknown preparation", func(in *signetv1.SignRequest) { in.Preparation = "preparations/prp_unknown" }, s.ada, codes.NotFound, "PREPARATION_NOT_FOUND", []string{"A-06"}},
		{"another statement was shown", func(in *signetv1.SignRequest) { in.StatementSha256[0] ^= 1 }, s.ada, codes.FailedPrecondition, "STATEMENT_DIFFERS", []string{"A-06"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, row := range tc.rows {
				t.Attr("requirement", row)
			}
			s.Clock.Advance(5 * time.Second) // past the delays after failures
			p := s.prepare(s.ada)
			before := s.size()
			in := signRequest(p, "ada")
			tc.change(in)
			_, err := s.signing.Sign(tc.ctx, in)
			wantError(t, err, tc.code, tc.reason)
			for _, e := range s.entries(before) {
				switch e.Type {
				case chain.SignatureAttempted, chain.SignatureCreated, chain.RecordDecided:
					t.Errorf("%s was committed", e.Type)
				}
			}
			if tc.reason == "BAD_CREDENTIALS" && len(s.find(before, chain.AuthenticationFailed)) != 1 {
				t.Error("the failed attempt is not in the ledger")
			}
		})
	}
}

func TestPreparationIsVoid(t *testing.T) {
	t.Attr("requirement", "11.10(f)")
	t.Run("once it has lapsed", func(t *testing.T) {
		t.Attr("requirement", "A-06")
		s := start(t)
		p := s.prepare(s.ada)
		s.Clock.Advance(5*time.Minute + time.Second)
		before := s.size()
		_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
		wantError(t, err, codes.FailedPrecondition, "PREPARATION_EXPIRED")
		if len(s.find(before, chain.SignatureAttempted)) != 0 {
			t.Error("her key has signed it all the same")
		}
	})
	t.Run("once a newer version supersedes the record", func(t *testing.T) {
		t.Attr("requirement", "A-06")
		s := start(t)
		p := s.prepare(s.ada)
		next := header("ada")
		next.Version, next.Supersedes = "v0.1.1", fmt.Sprintf("%x", s.record.GetDigest())
		s.create(next)
		_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
		wantError(t, err, codes.FailedPrecondition, "RECORD_CHANGED")
	})
	t.Run("once the key is revoked", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		s := start(t)
		p := s.prepare(s.ada)
		if _, err := s.signers.RevokeSigner(s.Login(servertest.Administrator), &signetv1.RevokeSignerRequest{Name: s.adaID, Reason: "left"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.signing.Sign(s.ada, signRequest(p, "ada")); status.Code(err) != codes.Unauthenticated {
			t.Fatalf("a revoked signer's session: %v", err)
		}
	})
	t.Run("but not by a restart", func(t *testing.T) {
		s := start(t)
		p := s.prepare(s.ada)
		s.Restart()
		s.connect()
		s.ada, s.rita = s.Login("ada"), s.Login("rita")
		s.sign(s.ada, "ada", p)
		s.wantVerdict(s.manifest(), verify.OK)
	})
}

func TestLockout(t *testing.T) {
	s := start(t)
	p := s.prepare(s.ada)
	in := signRequest(p, "ada")
	in.Password.Password = "wrong password, quite long"
	for range s.Config.Identity.LockAfter {
		_, err := s.signing.Sign(s.ada, in)
		wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
		s.Clock.Advance(10 * time.Second) // past the delays, which grow
	}
	_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
	wantError(t, err, codes.ResourceExhausted, "LOCKED")
	s.Clock.Advance(time.Duration(s.Config.Identity.LockFor) + time.Second)
	s.ada, s.rita = s.Login("ada"), s.Login("rita")
	s.sign(s.ada, "ada", s.prepare(s.ada))
}

func TestSeal(t *testing.T) {
	s := start(t)
	sealing := signetv1.NewSigningServiceClient(s.DialSealing())
	in := &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal", RequestId: "0193c1f0-0000-4000-8000-000000000001"}
	r, err := sealing.Seal(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := sealing.Seal(t.Context(), in)
	if err != nil || again.GetSignature().GetName() != r.GetSignature().GetName() {
		t.Fatalf("retried: %v, %v", again, err)
	}
	t.Run("the same id for something else is another request", func(t *testing.T) {
		other := proto.CloneOf(in)
		other.Reason = "Another run."
		got, err := sealing.Seal(t.Context(), other)
		if err != nil || got.GetSignature().GetName() == r.GetSignature().GetName() || got.GetSignature().GetReason() != other.GetReason() {
			t.Fatalf("%v, %v", got, err)
		}
	})
	t.Run("a reason with a control character", func(t *testing.T) {
		_, err := sealing.Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal", Reason: "fine\x1b[2J"})
		wantError(t, err, codes.InvalidArgument, "REASON_MISSING")
	})
	t.Run("never counts as a person's", func(t *testing.T) {
		t.Attr("requirement", "X-11")
		s.wantVerdict(s.manifest(), verify.Policy)
	})
	t.Run("is no decision", func(t *testing.T) {
		_, err := sealing.Prepare(t.Context(), s.prepareRequest())
		wantError(t, err, codes.PermissionDenied, "DENIED")
	})
	t.Run("the closing meaning is reserved", func(t *testing.T) {
		_, err := sealing.Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "closing"})
		wantError(t, err, codes.PermissionDenied, "MEANING_RESERVED")
	})
	t.Run("a person cannot seal", func(t *testing.T) {
		_, err := s.signing.Seal(s.ada, in)
		wantError(t, err, codes.PermissionDenied, "DENIED")
	})
	t.Run("an unknown certificate is nobody", func(t *testing.T) {
		_, err := signetv1.NewSigningServiceClient(s.Dial()).Seal(t.Context(), in)
		wantError(t, err, codes.Unauthenticated, "NOT_AUTHENTICATED")
	})
	s.sign(s.ada, "ada", s.prepare(s.ada))
	report := s.wantVerdict(s.manifest(), verify.OK)
	if len(report.Signatures) != 4 {
		t.Fatalf("%d signatures, want two seals, approval and closing", len(report.Signatures))
	}
	t.Run("a retried call gets its answer also when the record is closed", func(t *testing.T) {
		if again, err := sealing.Seal(t.Context(), in); err != nil || again.GetSignature().GetName() != r.GetSignature().GetName() {
			t.Fatalf("retried: %v, %v", again, err)
		}
	})
	t.Run("a superseded record takes none", func(t *testing.T) {
		t.Attr("requirement", "11.10(f)")
		old := s.create(header("ada"))
		next := header("ada")
		next.Version, next.Supersedes = "v0.1.1", fmt.Sprintf("%x", old.GetDigest())
		s.create(next)
		_, err := sealing.Seal(t.Context(), &signetv1.SealRequest{Record: old.GetName(), Meaning: "evidence-seal"})
		wantError(t, err, codes.FailedPrecondition, "RECORD_CHANGED")
	})
}

// A retried Prepare gets the first statement; the same id from somebody else, or about something else, is another request.
func TestPrepareIsRetried(t *testing.T) {
	s := start(t)
	s.record = s.create(header("ada", "bob"))
	before := s.size()
	in := s.prepareRequest()
	in.RequestId = "0193c1f0-0000-4000-8000-000000000009"
	ask := func(ctx context.Context, in *signetv1.PrepareRequest) *signetv1.Preparation {
		t.Helper()
		r, err := s.signing.Prepare(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return r.GetPreparation()
	}
	first := ask(s.ada, in)
	s.Clock.Advance(time.Second)
	if again := ask(s.ada, in); again.GetName() != first.GetName() || !bytes.Equal(again.GetStatement(), first.GetStatement()) ||
		!again.GetExpireTime().AsTime().Equal(first.GetExpireTime().AsTime()) {
		t.Errorf("retried: %v", again)
	}
	other := proto.CloneOf(in)
	other.Reason = "I have read it again."
	if got := ask(s.ada, other); got.GetName() == first.GetName() || !strings.Contains(got.GetRendering(), other.GetReason()) {
		t.Errorf("with another reason: %v", got)
	}
	if got := ask(s.bob, in); got.GetName() == first.GetName() || !strings.Contains(got.GetRendering(), "Bob") {
		t.Errorf("by somebody else: %v", got)
	}
	if n := len(s.find(before, chain.SignaturePrepared)); n != 3 {
		t.Errorf("%d preparations, want 3", n)
	}
	s.sign(s.ada, "ada", first)
}

func TestSupersededAfterApproval(t *testing.T) {
	t.Attr("requirement", "11.10(f)")
	s := start(t)
	s.sign(s.ada, "ada", s.prepare(s.ada))
	next := header("ada")
	next.Version, next.Supersedes = "v0.1.1", fmt.Sprintf("%x", s.record.GetDigest())
	newer := s.create(next)
	report := s.wantVerdict(s.manifest(), verify.OK) // it was approved, and stays so
	if !strings.Contains(fmt.Sprint(report.Notes), strings.TrimPrefix(newer.GetName(), "records/")) {
		t.Errorf("the verdict does not say that a newer record takes its place: %v", report.Notes)
	}
	w, err := s.signing.Withdraw(s.ada, &signetv1.WithdrawRequest{Record: s.record.GetName(), Reason: "Recalled."})
	if err != nil {
		t.Fatal(err)
	}
	s.sign(s.ada, "ada", w.GetPreparation())
	s.wantVerdict(s.manifest(), verify.Policy)
	_, err = s.Record(s.rita, mustCanonical(t, s.document), next)
	wantError(t, err, codes.InvalidArgument, "RECORD_INVALID") // it is superseded once
}

func mustCanonical(t testing.TB, d bundle.Document) []byte {
	t.Helper()
	b, err := d.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
