//go:build cgo

package signet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"uuid"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
	"github.com/signetd/signet/server/servertest"
)

// real is a server with a release manager (max), a signer (ada) and a record.
type real struct {
	server   *servertest.Server
	ca       []byte
	trust    manifest.Trust
	max, ada *signet.Client
	doc      bundle.Document
	header   *signetv1.RecordHeader
	record   *signet.Record
}

func start(t *testing.T) *real {
	t.Helper()
	r := &real{server: servertest.Start(t)}
	r.server.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	r.server.Enroll("max", "Max Miller", signetv1.Role_ROLE_RELEASE_MANAGER, signetv1.Role_ROLE_AUDITOR)
	var err error
	r.ca, err = os.ReadFile(r.server.Created.ServerCertificate)
	check(t, err)
	b, err := os.ReadFile(r.server.Created.TrustFile)
	check(t, err)
	r.trust, err = manifest.ParseTrust(b)
	check(t, err)
	r.max, r.ada = r.as(t, "max", &r.trust), r.as(t, "ada", &r.trust)

	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "app"), []byte("the program"), 0o644))
	r.doc, err = bundle.Read(t.Context(), dir, bundle.Options{})
	check(t, err)
	r.header = &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: "v0.1.0", Title: "First", Roles: map[string]string{"app": "installer"},
		Source: &signetv1.Source{Commit: strings.Repeat("0123", 10), Repository: "https://git.example/bioflow_pro", Branch: "main", Tag: "v0.1.0-rc.1"},
		Policy: &signetv1.ApprovalPolicy{Template: "single-approver", Approvers: []string{"ada"}},
	}
	r.record, err = r.max.CreateRecord(t.Context(), r.header, &r.doc)
	check(t, err)
	return r
}

// as is a client with a session of its own.
func (r *real) as(t *testing.T, user string, trust *manifest.Trust) *signet.Client {
	t.Helper()
	open := func(o signet.Options) *signet.Client {
		o.CA, o.Timeout = r.ca, time.Minute
		c, err := signet.Dial(r.server.Address, o)
		check(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	session, err := open(signet.Options{}).OpenSession(t.Context(), signet.Password{UserName: user, Password: servertest.Password})
	check(t, err)
	return open(signet.Options{Token: signet.StaticToken(session.GetToken()), Trust: trust})
}

func sum(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contradicts wants an error that says that the server contradicts itself.
func contradicts(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, signet.ErrContradiction) {
		t.Errorf("taken, or another error: %v", err)
	}
}

var intent = signet.Intent{Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All gates green."}

// TestCeremony is the whole way with a real server, and every lie that could be told on it.
func TestCeremony(t *testing.T) {
	r := start(t)
	ctx := t.Context()
	want := intent
	want.Record = r.record.Name()
	prepared, err := r.ada.Prepare(ctx, want)
	check(t, err)
	t.Run("what is shown is derived from the bytes", func(t *testing.T) {
		t.Attr("requirement", "A-20")
		statement, err := manifest.ParseStatement(prepared.Canonical)
		check(t, err)
		if prepared.Rendering != manifest.Render(statement) || !strings.Contains(prepared.Rendering, "All gates green.") {
			t.Errorf("rendering %q", prepared.Rendering)
		}
	})
	t.Run("a preparation that is not what was asked for is refused", func(t *testing.T) { lyingPreparations(t, r, want) })
	t.Run("a record that is not what it says is refused", func(t *testing.T) { lyingRecords(t, r) })

	signed, err := r.ada.Sign(ctx, prepared, signet.Password{UserName: "ada", Password: servertest.Password})
	check(t, err)
	if !signed.Trusted || signed.RecordState != signetv1.RecordState_RECORD_STATE_APPROVED || signed.Index == 0 || signed.Time.IsZero() {
		t.Errorf("signed %+v", signed)
	}
	t.Run("a signature that proves something else is refused", func(t *testing.T) { lyingSignatures(t, r, prepared) })
	t.Run("an answer that was lost is given again, and nothing is signed twice", func(t *testing.T) {
		again, err := r.ada.Sign(ctx, prepared, signet.Password{UserName: "ada", Password: servertest.Password})
		check(t, err)
		if again.Index != signed.Index || !bytes.Equal(again.Signature.Signature.Value, signed.Signature.Signature.Value) {
			t.Errorf("a second signature, entry %d after %d", again.Index, signed.Index)
		}
		if _, err := r.ada.Sign(ctx, prepared, signet.Password{UserName: "ada", Password: "wrong"}); !errors.Is(err, signet.BadCredentials) {
			t.Errorf("a wrong password gives %v", err)
		}
	})
	t.Run("the manifest and the server's own verdict", func(t *testing.T) {
		m, err := r.ada.GetManifest(ctx, r.record)
		check(t, err)
		if m.Name != "signatures/release-v0.1.0.json" || len(m.Manifest.Signatures) != 2 {
			t.Errorf("%s with %d signatures", m.Name, len(m.Manifest.Signatures))
		}
		verdict, err := r.ada.Verify(ctx, m.Bytes, &r.doc)
		check(t, err)
		if verdict.GetCode() != 0 || !verdict.GetContentChecked() {
			t.Errorf("verdict %v", verdict)
		}
		flipped := bytes.Replace(m.Bytes, []byte("All gates green."), []byte("All gates GREEN."), 1)
		verdict, err = r.ada.Verify(ctx, flipped, &r.doc)
		check(t, err)
		if verdict.GetCode() != 11 || len(verdict.GetFaults()) == 0 {
			t.Errorf("verdict %v", verdict)
		}
	})
	t.Run("lists", func(t *testing.T) { lists(t, r) })
}

// lyingPreparations changes one thing of a genuine answer at a time.
func lyingPreparations(t *testing.T, r *real, want signet.Intent) {
	answer, err := signetv1.NewSigningServiceClient(r.ada.Conn()).Prepare(t.Context(), &signetv1.PrepareRequest{
		Record: want.Record, Decision: want.Decision, Meaning: want.Meaning, Reason: want.Reason, RequestId: uuid.New().String(),
	})
	check(t, err)
	if _, err := signet.CheckPreparation(answer.GetPreparation(), r.record, want); err != nil {
		t.Fatalf("the genuine one: %v", err)
	}
	statement := func(change func(*manifest.Statement)) func(*signetv1.Preparation) {
		return func(p *signetv1.Preparation) { // all that hangs on the statement is made to fit: only the intent can tell
			s, err := manifest.ParseStatement(p.GetStatement())
			check(t, err)
			change(&s)
			p.Statement, err = s.Canonical()
			check(t, err)
			p.Rendering, p.Challenge = manifest.Render(s), sum(manifest.PAE(p.Statement))
		}
	}
	for name, lie := range map[string]func(*signetv1.Preparation){
		"another rendering":        func(p *signetv1.Preparation) { p.Rendering = strings.Replace(p.Rendering, "approve", "reject", 1) },
		"an empty rendering":       func(p *signetv1.Preparation) { p.Rendering = "" },
		"another challenge":        func(p *signetv1.Preparation) { p.Challenge[0] ^= 1 },
		"no statement":             func(p *signetv1.Preparation) { p.Statement = nil },
		"no canonical statement":   func(p *signetv1.Preparation) { p.Statement = append(p.Statement, '\n') },
		"another name":             func(p *signetv1.Preparation) { p.Name += "x" },
		"another authentication":   func(p *signetv1.Preparation) { p.Requires = "passkey" },
		"another expiry":           func(p *signetv1.Preparation) { p.ExpireTime = timestamppb.New(p.ExpireTime.AsTime().Add(time.Hour)) },
		"another decision":         statement(func(s *manifest.Statement) { s.Predicate.Decision = manifest.Reject }),
		"another meaning":          statement(func(s *manifest.Statement) { s.Predicate.Meaning.ID = "release-rejection" }),
		"another reason":           statement(func(s *manifest.Statement) { s.Predicate.Reason += "!" }),
		"another event":            statement(func(s *manifest.Statement) { s.Predicate.Event = uuid.NewV7().String() }),
		"another bundle":           statement(func(s *manifest.Statement) { s.Subject[0].Digest.SHA256[0] ^= 1 }),
		"another record":           statement(func(s *manifest.Statement) { s.Subject[1].Digest.SHA256[0] ^= 1 }),
		"no bundle":                statement(func(s *manifest.Statement) { s.Subject = s.Subject[1:] }),
		"another product's name":   statement(func(s *manifest.Statement) { s.Subject[0].Name, s.Subject[1].Name = "x-v1", "x-v1#record" }),
		"another preparation's id": statement(func(s *manifest.Statement) { s.Predicate.Preparation = "prp_" + strings.Repeat("a", 26) }),
	} {
		t.Run(name, func(t *testing.T) {
			p := proto.CloneOf(answer.GetPreparation())
			lie(p)
			_, err := signet.CheckPreparation(p, r.record, want)
			contradicts(t, err)
		})
	}
}

func lyingRecords(t *testing.T, r *real) {
	genuine := r.record.State
	for name, lie := range map[string]func(*signetv1.Record){
		"no content":        func(s *signetv1.Record) { s.Content = nil },
		"changed content":   func(s *signetv1.Record) { s.Content = bytes.Replace(s.Content, []byte("First"), []byte("Other"), 1) },
		"another digest":    func(s *signetv1.Record) { s.Digest[0] ^= 1 },
		"another bundle":    func(s *signetv1.Record) { s.BundleDigest[0] ^= 1 },
		"another version":   func(s *signetv1.Record) { s.Version = "v9.9.9" },
		"another product":   func(s *signetv1.Record) { s.Product = "other" },
		"another type":      func(s *signetv1.Record) { s.Type = "document" },
		"a lower threshold": func(s *signetv1.Record) { s.Threshold = 0 },
		"fewer files":       func(s *signetv1.Record) { s.FileCount-- },
		"another approver":  func(s *signetv1.Record) { s.Approvers[0].PrintedName = "Somebody Else" },
		"one approver more": func(s *signetv1.Record) { s.Approvers = append(s.Approvers, s.Approvers[0]) },
		"another event":     func(s *signetv1.Record) { s.Name = "records/" + uuid.NewV7().String() },
	} {
		t.Run(name, func(t *testing.T) {
			s := proto.CloneOf(genuine)
			lie(s)
			_, err := signet.CheckRecord(s, genuine.GetName())
			contradicts(t, err)
		})
	}
}

// lyingSignatures changes one thing of a genuine signature at a time.
func lyingSignatures(t *testing.T, r *real, prepared *signet.Prepared) {
	var genuine, seal *signetv1.Signature
	for s, err := range r.ada.Signatures(t.Context(), r.record.Name()) {
		check(t, err)
		if s.GetDecision() == signetv1.Decision_DECISION_SEAL {
			seal = s
		} else {
			genuine = s
		}
	}
	if _, err := r.ada.CheckSignature(genuine, prepared); err != nil {
		t.Fatalf("the genuine one: %v", err)
	}
	for name, lie := range map[string]func(*signetv1.Signature){
		"another statement":     func(s *signetv1.Signature) { s.Statement = seal.GetStatement() },
		"another value":         func(s *signetv1.Signature) { s.Value[len(s.Value)-1] ^= 1 },
		"another's value":       func(s *signetv1.Signature) { s.Value = seal.GetValue() },
		"another algorithm":     func(s *signetv1.Signature) { s.Algorithm = manifest.Ed25519 },
		"another key id":        func(s *signetv1.Signature) { s.KeyId = strings.Repeat("0", 64) },
		"another certificate":   func(s *signetv1.Signature) { s.Certificates = seal.GetCertificates() },
		"no certificate":        func(s *signetv1.Signature) { s.Certificates = nil },
		"another time-stamp":    func(s *signetv1.Signature) { s.Timestamps = seal.GetTimestamps() },
		"no time-stamp":         func(s *signetv1.Signature) { s.Timestamps = nil },
		"another time":          func(s *signetv1.Signature) { s.SignTime = timestamppb.New(s.SignTime.AsTime().Add(time.Minute)) },
		"another entry":         func(s *signetv1.Signature) { s.Ledger.Entry = seal.GetLedger().GetEntry() },
		"another index":         func(s *signetv1.Signature) { s.Ledger.Index++ },
		"another proof":         func(s *signetv1.Signature) { s.Ledger.Proof = seal.GetLedger().GetProof() },
		"another authorization": func(s *signetv1.Signature) { s.Authorization = []byte(`{"kind":"service"}`) },
		"another name":          func(s *signetv1.Signature) { s.Name += "0" },
		"another signer":        func(s *signetv1.Signature) { s.Signer = "sgn_other" },
		"another printed name":  func(s *signetv1.Signature) { s.PrintedName = "Grace Hopper" },
		"another decision":      func(s *signetv1.Signature) { s.Decision = signetv1.Decision_DECISION_REJECT },
		"another reason":        func(s *signetv1.Signature) { s.Reason = "" },
	} {
		t.Run(name, func(t *testing.T) {
			s := proto.CloneOf(genuine)
			lie(s)
			_, err := r.ada.CheckSignature(s, prepared)
			contradicts(t, err)
		})
	}
	for name, distrust := range map[string]func(*manifest.Trust){
		"no pinned signer root": func(t *manifest.Trust) { t.SignerRoots = nil },
		"no pinned time root":   func(t *manifest.Trust) { t.TimestampRoots = nil },
		"no pinned ledger":      func(t *manifest.Trust) { t.Ledgers = nil },
		"another issuer":        func(t *manifest.Trust) { t.Issuer = "https://other.example" },
		"a revoked key":         func(t *manifest.Trust) { t.Revoked = []manifest.Revoked{{KeyID: genuine.GetKeyId()}} },
		"a root that holds no more": func(t *manifest.Trust) {
			root := t.SignerRoots[0]
			root.To = manifest.NewTime(genuine.GetSignTime().AsTime().Add(-time.Second)).String()
			t.SignerRoots = []manifest.Root{root}
		},
		"a ledger key for other sizes": func(t *manifest.Trust) {
			l := t.Ledgers[0]
			l.FromSize = 1 << 40
			t.Ledgers = []manifest.TrustLedger{l}
		},
	} {
		t.Run(name, func(t *testing.T) {
			trust := r.trust
			distrust(&trust)
			_, err := r.as(t, "ada", &trust).CheckSignature(genuine, prepared)
			contradicts(t, err)
			if signed, err := r.as(t, "ada", nil).CheckSignature(genuine, prepared); err != nil || signed.Trusted {
				t.Errorf("without a trust file: trusted %v, %v", signed != nil && signed.Trusted, err)
			}
		})
	}
}

// lists reads everything there is, in pages and streams.
func lists(t *testing.T, r *real) {
	ctx := t.Context()
	var records, signers int
	for s, err := range r.max.Records(ctx) {
		check(t, err)
		if s.GetContent() != nil {
			t.Error("a list holds contents")
		}
		records++
	}
	for _, err := range r.max.Signers(ctx) {
		check(t, err)
		signers++
	}
	if records != 1 || signers < 3 {
		t.Errorf("%d records, %d signers", records, signers)
	}
	head, err := r.max.Checkpoint(ctx)
	check(t, err)
	next := uint64(0)
	for e, err := range r.max.Entries(ctx, signet.Filter{To: head.GetSize()}) {
		check(t, err)
		if e.GetIndex() != next {
			t.Fatalf("entry %d where %d belongs", e.GetIndex(), next)
		}
		next++
	}
	if next != head.GetSize() {
		t.Errorf("%d entries of %d", next, head.GetSize())
	}
	for _, err := range r.max.Entries(ctx, signet.Filter{}) {
		check(t, err)
		break // whoever has seen enough can stop
	}
	one, err := r.max.Entry(ctx, 1)
	check(t, err)
	proof, err := r.max.ProveInclusion(ctx, 1)
	check(t, err)
	if !bytes.Equal(one.GetContent(), proof.GetEntry().GetContent()) {
		t.Error("two entries 1")
	}
	for name, lie := range map[string]func(*signetv1.Entry){
		"index": func(e *signetv1.Entry) { e.Index++ }, "bytes": func(e *signetv1.Entry) { e.Content = append(e.Content, ' ') },
		"leaf hash": func(e *signetv1.Entry) { e.LeafHash[0] ^= 1 }, "type": func(e *signetv1.Entry) { e.Type = "ledger.created" },
		"time": func(e *signetv1.Entry) { e.CreateTime = timestamppb.Now() },
	} {
		t.Run("another "+name, func(t *testing.T) {
			e := proto.CloneOf(one)
			lie(e)
			contradicts(t, signet.CheckEntry(e, 1))
		})
	}
	if _, err := r.max.ProveConsistency(ctx, 1, 0); err != nil {
		t.Error(err)
	}
	if _, err := r.max.ProveConsistency(ctx, head.GetSize()+1000, 0); !errors.Is(err, signet.SizeOutOfRange) {
		t.Errorf("a size beyond the end gives %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range r.max.Entries(ended, signet.Filter{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled stream gives %v", err)
		}
	}
}
