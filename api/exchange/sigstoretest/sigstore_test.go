package sigstoretest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	signetbundle "github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/exchange"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// signed is a manifest that a real server has made, and its trust file.
func signed(t *testing.T) (manifest.Manifest, manifest.Trust) {
	t.Helper()
	s := servertest.Start(t)
	s.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	s.Enroll("rita", "Rita Release", signetv1.Role_ROLE_RELEASE_MANAGER)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "app.bin"), []byte("the program"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := signetbundle.Read(t.Context(), folder, signetbundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	document, err := d.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Record(s.Login("rita"), document, &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: "v0.1.0", Source: &signetv1.Source{Commit: strings.Repeat("a1", 20)},
		Policy: &signetv1.ApprovalPolicy{Template: "single-approver", Approvers: []string{"ada"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ada := s.Login("ada")
	signing := signetv1.NewSigningServiceClient(s.Dial())
	p, err := signing.Prepare(ada, &signetv1.PrepareRequest{
		Record: r.GetName(), Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All gates are green.",
	})
	if err != nil {
		t.Fatal(err)
	}
	shown := sha256.Sum256(p.GetPreparation().GetStatement())
	if _, err := signing.Sign(ada, &signetv1.SignRequest{
		Preparation: p.GetPreparation().GetName(), StatementSha256: shown[:], Password: &signetv1.PasswordCredentials{UserName: "ada", Password: servertest.Password},
	}); err != nil {
		t.Fatal(err)
	}
	file := receive(t, ada, signing, r.GetName())
	m, err := manifest.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.Config.Path(server.TrustFile))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(b)
	if err != nil {
		t.Fatal(err)
	}
	return m, trust
}

func receive(t *testing.T, ctx context.Context, signing signetv1.SigningServiceClient, record string) []byte {
	t.Helper()
	stream, err := signing.GetManifest(ctx, &signetv1.GetManifestRequest{Record: record})
	if err != nil {
		t.Fatal(err)
	}
	var file []byte
	for {
		piece, err := stream.Recv()
		if err == io.EOF {
			return file
		}
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, piece.GetChunk()...)
	}
}

// judge has Sigstore's library verify.
func judge(t *testing.T, signature, trustedRoot, artifact []byte, identity, issuer string) error {
	t.Helper()
	trusted, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		return err
	}
	b := &bundle.Bundle{}
	if err := b.UnmarshalJSON(signature); err != nil {
		return err
	}
	v, err := verify.NewVerifier(trusted, verify.WithSignedTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	who, err := verify.NewShortCertificateIdentity(issuer, "", identity, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Verify(b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(artifact)), verify.WithCertificateIdentity(who)))
	if err == nil && (len(r.VerifiedTimestamps) != 1 || r.Statement.GetPredicateType() != manifest.PredicateType) {
		t.Errorf("verified: %+v", r)
	}
	return err
}

func TestSigstoreVerifies(t *testing.T) {
	for _, row := range []string{"B-49", "B-55"} {
		t.Attr("requirement", row)
	}
	m, trust := signed(t)
	artifact, err := m.Bundle.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := exchange.TrustedRoot(trust)
	if err != nil {
		t.Fatal(err)
	}
	other, otherTrust := signed(t) // of another service
	otherRoot, err := exchange.TrustedRoot(otherTrust)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Signatures) != 2 {
		t.Fatalf("%d signatures, want Ada's and the closing seal", len(m.Signatures))
	}
	for i, folder := range []string{"/signers/", "/services/"} {
		s := m.Signatures[i]
		identity := trust.Issuer + folder + s.Statement.Predicate.Signer.ID
		b, err := exchange.Sigstore(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := judge(t, b, trusted, artifact, identity, trust.Issuer); err != nil {
			t.Errorf("signature %d: %v", i+1, err)
		}
		altered := m.Signatures[i]
		altered.Statement.Predicate.Reason = "another reason"
		forged, err := exchange.Sigstore(altered)
		if err != nil {
			t.Fatal(err)
		}
		untimed := m.Signatures[i]
		untimed.Timestamps = other.Signatures[i].Timestamps
		moved, err := exchange.Sigstore(untimed)
		if err != nil {
			t.Fatal(err)
		}
		for what, try := range map[string]func() error{
			"another statement":    func() error { return judge(t, forged, trusted, artifact, identity, trust.Issuer) },
			"another's time":       func() error { return judge(t, moved, trusted, artifact, identity, trust.Issuer) },
			"another artifact":     func() error { return judge(t, b, trusted, []byte("another"), identity, trust.Issuer) },
			"another person":       func() error { return judge(t, b, trusted, artifact, identity+"x", trust.Issuer) },
			"another issuer":       func() error { return judge(t, b, trusted, artifact, identity, "https://elsewhere.example") },
			"another trusted root": func() error { return judge(t, b, otherRoot, artifact, identity, trust.Issuer) },
		} {
			if try() == nil {
				t.Errorf("signature %d, %s: it verifies", i+1, what)
			}
		}
	}
}

// TestDSSE reads an envelope as the specification of DSSE has it.
func TestDSSE(t *testing.T) {
	t.Attr("requirement", "B-49")
	m, _ := signed(t)
	b, err := exchange.DSSE(m.Signatures[0])
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			KeyID string `json:"keyid"`
			Sig   []byte `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	want, err := m.Signatures[0].Statement.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.Payload, want) || e.PayloadType != "application/vnd.in-toto+json" || len(e.Signatures) != 1 ||
		!bytes.Equal(e.Signatures[0].Sig, m.Signatures[0].Signature.Value) || e.Signatures[0].KeyID != m.Signatures[0].Signature.KeyID {
		t.Errorf("%+v", e)
	}
}
