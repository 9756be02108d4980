package manifest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

const event = "0193c1f0-1111-7222-8333-444455556666"

func hexSum(s string) string { d := sha256.Sum256([]byte(s)); return hex.EncodeToString(d[:]) }

func document() bundle.Document {
	return bundle.Document{
		Excluded: []string{"signatures/"}, Files: []bundle.File{{Path: "bin/signet", SHA256: sha256.Sum256([]byte("x")), Size: 1}}, Format: bundle.Format,
	}
}

// record is a valid record.
func record(tb testing.TB) manifest.Record {
	tb.Helper()
	d, err := document().Digest()
	if err != nil {
		tb.Fatal(err)
	}
	return manifest.Record{
		Bundle: manifest.BundleRef{Bytes: 1, Digest: manifest.DigestSet{SHA256: d}, Files: 1, Format: bundle.Format, Roles: map[string]string{"bin/signet": "installer"}},
		Event:  manifest.Event{ID: event, Type: manifest.Release}, Format: manifest.RecordFormat, Name: "bioflow_pro", Title: "Bioflow Pro",
		Policy: manifest.Policy{
			Resolved: manifest.ResolvedPolicy{
				AnyRejectionVetoes: true, Approvers: []manifest.Approver{{ID: "sgn_ada", Name: "Ada Lovelace"}}, ExcludedSigners: []string{"sgn_eve"},
				Exclusions: []string{"signatures/"}, K: 1, Requires: manifest.AuthorizationPassword,
			},
			Template: manifest.TemplateRef{ID: "single-approver", Version: 1},
		},
		Readiness: manifest.Readiness{
			Blockers: []manifest.Blocker{{ID: "ticket-7", Title: "Flaky test", Cleared: manifest.Clearance{At: "2026-11-21T09:00:00.000Z", By: "sgn_ada", Reason: "fixed"}}},
			Gates: []manifest.Gate{{
				ID: "coverage", Result: "passed", Evaluator: manifest.Evaluator{ID: "signet.coverage", Version: "1.0"}, Inputs: []manifest.GateInput{{Name: "coverage.html"}},
			}},
		},
		Source: manifest.Source{Branch: "main", Commit: strings.Repeat("0a", 20), Repo: "https://git.example/x", Tag: "v0.1.0", Trees: map[string]string{"src": strings.Repeat("0b", 20)}},
		System: manifest.System{Environment: manifest.Demo, Software: "signet v0.1.0"}, Version: "v0.1.0",
	}
}

func predicate() manifest.Predicate {
	at := manifest.NewTime(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC))
	return manifest.Predicate{
		Activity: manifest.Activity{Attempt: "0"}, Decision: manifest.Approve, Event: event, Expires: at.Add(5 * time.Minute), Inputs: []manifest.Input{},
		Ledger:  manifest.Head{Origin: "signet.example/ledger", Root: chain.Hash{1}, Size: 41},
		Meaning: manifest.Meaning{ID: "release-approval", Text: "I approve this release for distribution.", Version: 1}, Preparation: "prp_1", PreparedAt: at,
		Reason: "All gates green, risk file reviewed.", Requires: manifest.AuthorizationPassword,
		Signer:    manifest.Signer{Enrolment: chain.Hash{2}, ID: "sgn_ada", Name: "Ada Lovelace", Organisation: "Example Medical", Roles: []string{"signer"}, Title: "QA Lead"},
		Statement: "I, Ada Lovelace, sign.", Zone: manifest.Zone{Name: "Europe/Berlin", Offset: "+01:00"},
	}
}

func statement(tb testing.TB) manifest.Statement {
	tb.Helper()
	s, err := manifest.NewStatement(record(tb), predicate())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// proof is the text of a proof of entry 41 whose checkpoint has a size, signed by key.
func proof(tb testing.TB, key ed25519.PrivateKey, size uint64, cosignatures string) string {
	tb.Helper()
	c := chain.Checkpoint{Origin: "signet.example/ledger", Size: size, Root: chain.Hash{byte(size)}}
	_, hash, err := chain.VerifierKey(c.Origin, key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	note, err := chain.SignedNote(tb.Context(), c, c.Origin, hash, func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil })
	if err != nil {
		tb.Fatal(err)
	}
	return string(chain.Proof{Index: 41, Hashes: []chain.Hash{{7}}, Checkpoint: append(note, cosignatures...)}.Encode())
}

var ledgerKey = ed25519.NewKeyFromSeed(make([]byte, 32))

// full is a manifest of the right form; nothing in it proves anything.
func full(tb testing.TB) manifest.Manifest {
	tb.Helper()
	return manifest.Manifest{
		Bundle: document(), MediaType: manifest.MediaType, Record: record(tb),
		Signatures: []manifest.Signature{{
			Authorization: manifest.Authorization{Kind: manifest.AuthorizationPassword}, Certificates: [][]byte{{0x30}, {0x31}},
			Ledger:    manifest.LedgerProof{Consistency: [][]byte{make([]byte, 32)}, Entry: []byte("{}"), Proof: proof(tb, ledgerKey, 50, "")},
			Signature: manifest.SignatureValue{Algorithm: manifest.ECDSAP256, KeyID: hexSum("key"), Value: []byte{1, 2, 3}},
			Statement: statement(tb), Timestamps: [][]byte{{0x30}},
		}},
		Support: []manifest.Support{{Entry: []byte("{}"), Proof: proof(tb, ledgerKey, 50, "")}},
	}
}

func rootCertificate(tb testing.TB, ca bool) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Unix(4e9, 0), IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func trust(tb testing.TB) manifest.Trust {
	tb.Helper()
	vkey, _, err := chain.VerifierKey("signet.example/ledger", ledgerKey.Public())
	if err != nil {
		tb.Fatal(err)
	}
	root := manifest.Root{Certificate: rootCertificate(tb, true), From: manifest.NewTime(time.Unix(0, 0))}
	return manifest.Trust{
		Issuer: "https://sign.example", Ledgers: []manifest.TrustLedger{{Origin: "signet.example/ledger", VKey: vkey}}, MediaType: manifest.TrustMediaType,
		Name: "Example", SignerRoots: []manifest.Root{root}, TimestampRoots: []manifest.Root{root},
		Policies: []manifest.TrustPolicy{{Requires: manifest.AuthorizationPassword}}, Revoked: []manifest.Revoked{{KeyID: hexSum("k")}},
	}
}
