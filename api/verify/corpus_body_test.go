package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// bodyCases are proved entries, seals and certificates with something in them that only a reader who looks at every member sees.
func bodyCases() []kase {
	supported := func(t chain.Type, body any) func(*making) {
		return func(k *making) {
			k.support = append(k.support, k.append(t, body))
			k.approved()
		}
	}
	// enrolled is approved by somebody whose enrolment has a body of another shape.
	enrolled := func(change func(map[string]any)) func(*making) {
		return func(k *making) {
			s := *k.ada
			body := map[string]any{
				"accountability": "1", "certificate": hexSum(s.certs[0]), "credential": "", "id": s.id, "keyId": s.keyID, "name": s.name, "organisation": s.organisation,
				"proofing": "", "roles": s.roles, "title": s.title, "userName": "ada", "zone": "Europe/Berlin",
			}
			change(body)
			s.index = k.append(chain.SignerRenewed, body)
			s.enrolment = k.leaves[s.index]
			k.support = append(k.support, s.index)
			k.ada = &s
			k.approved()
		}
	}
	closed := func(change func(*making, *manifest.Predicate)) func(*making) {
		return func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved, forge{predicate: func(p *manifest.Predicate) { change(k, p) }})
			k.m = k.manifest()
		}
	}
	revoked := func(change func(map[string]any)) func(*making) {
		body := map[string]any{"by": "sgn_admin", "id": "sgn_ada", "keyId": "", "reason": "lost"}
		change(body)
		return supported(chain.SignerRevoked, body)
	}
	superseded := func(change func(map[string]any)) func(*making) {
		body := map[string]any{"by": event[:35] + "2", "event": event, "record": hexSum(nil)}
		change(body)
		return supported(chain.RecordSuperseded, body)
	}
	// certifiedBy is approved with a certificate of a CA with that key, which is pinned.
	certifiedBy := func(newKey func(*making) crypto.Signer) func(*making) {
		return func(k *making) {
			key := newKey(k)
			t := &x509.Certificate{
				SerialNumber: serial(), Subject: pkix.Name{CommonName: "Example Small CA"}, NotBefore: start.Add(-24 * time.Hour), NotAfter: start.Add(24 * time.Hour), IsCA: true,
				BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
			}
			root, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
			k.check(err)
			leaf, err := x509.CreateCertificate(rand.Reader, signerTemplate("signers", k.ada.id, k.ada.name, k.ada.organisation), t, k.ada.key.Public(), key)
			k.check(err)
			k.ada.certs = [][]byte{leaf, root}
			k.trust.SignerRoots = append(k.trust.SignerRoots, manifest.Root{Certificate: root, From: k.trust.SignerRoots[0].From})
			k.bind(k.ada, chain.SignerRenewed)
			k.approved()
		}
	}
	smallCurve := func(k *making) crypto.Signer {
		key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		k.check(err)
		return key
	}
	return []kase{
		{"sound with a renewed enrolment", verify.OK, enrolled(func(map[string]any) {}), nil},
		{"an enrolment without a user name", verify.Ledger, enrolled(func(b map[string]any) { b["userName"] = "" }), nil},
		{"an enrolment that says more", verify.Ledger, enrolled(func(b map[string]any) { b["comment"] = "" }), nil},
		{"an enrolment that misses something", verify.Ledger, enrolled(func(b map[string]any) { delete(b, "zone") }), nil},
		{"an enrolment whose roles are no list", verify.Ledger, enrolled(func(b map[string]any) { b["roles"] = map[string]any{"signer": 1} }), nil},
		{"a revocation of a key that is a number", verify.Ledger, revoked(func(b map[string]any) { b["keyId"] = 7 }), nil},
		{"a revocation of a key in capital letters", verify.Ledger, revoked(func(b map[string]any) { b["keyId"] = "AB" }), nil},
		{"a revocation of nobody", verify.Ledger, revoked(func(b map[string]any) { b["id"] = []string{} }), nil},
		{"a revocation by nobody", verify.Ledger, revoked(func(b map[string]any) { b["by"] = "" }), nil},
		{"a supersession of a record that is none", verify.Ledger, superseded(func(b map[string]any) { b["record"] = "" }), nil},
		{"a supersession by a record that is none", verify.Ledger, superseded(func(b map[string]any) { b["by"] = "" }), nil},
		{"a closing with its inputs in another order", verify.Policy, closed(func(_ *making, p *manifest.Predicate) { slices.Reverse(p.Inputs) }), nil},
		{"a closing with a further input", verify.Policy, closed(func(k *making, p *manifest.Predicate) {
			p.Inputs = append(p.Inputs, manifest.Input{Name: "more", Value: value(k.tb, "")})
		}), nil},
		{"a closing with a reason", verify.Policy, closed(func(_ *making, p *manifest.Predicate) { p.Reason = "because" }), nil},
		{"a closing in another zone", verify.Policy, closed(func(_ *making, p *manifest.Predicate) {
			p.Zone = manifest.Zone{Name: "Europe/Berlin", Offset: "+01:00"}
		}), nil},
		{"a certificate for another extended key usage", verify.Untrusted, certified(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }), nil},
		{"a certificate with a further printed name", verify.Untrusted, certified(func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "Grace Hopper"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "Eve"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Example Medical"}}
		}), nil},
		{"a certificate of a further organisation", verify.Untrusted, certified(func(c *x509.Certificate) { c.Subject.Organization = append(c.Subject.Organization, "Evil") }), nil},
		{"a certificate of no organisation", verify.Untrusted, certified(func(c *x509.Certificate) { c.Subject.Organization = nil }), nil},
		{"sound without an organisation", verify.OK, func(k *making) {
			k.ada.organisation = ""
			t := signerTemplate("signers", k.ada.id, k.ada.name, "")
			t.Subject.Organization = nil
			k.ada.certs = [][]byte{k.issue(k.ca, t, k.ada.key.Public()), k.ca.cert.Raw}
			k.bind(k.ada, chain.SignerRenewed)
			k.approved()
		}, nil},
		{"a certificate of a CA with a small key", verify.Untrusted, certifiedBy(func(k *making) crypto.Signer {
			key, err := rsa.GenerateKey(rand.Reader, 1024)
			k.check(err)
			return key
		}), nil},
		{"a certificate of a CA on a small curve", verify.Untrusted, certifiedBy(smallCurve), nil},
		{"a signer's key on a small curve", verify.Signature, func(k *making) {
			k.ada.key = smallCurve(k)
			k.ada.certs[0] = k.issue(k.ca, signerTemplate("signers", k.ada.id, k.ada.name, k.ada.organisation), k.ada.key.Public())
			k.bind(k.ada, chain.SignerRenewed)
			k.approved()
		}, nil},
		{"sound with a root that is pinned for two spans", verify.OK, pin(func(t *manifest.Trust) {
			again := t.SignerRoots[0]
			again.From = manifest.NewTime(start.Add(2 * time.Hour))
			t.SignerRoots[0].To = manifest.NewTime(start.Add(time.Hour)).String()
			t.SignerRoots = append(t.SignerRoots, again)
		}), nil},
		{"a key that the ledger revokes by its id", verify.Untrusted, func(k *making) {
			k.support = append(k.support, k.append(chain.SignerRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: "sgn_ada", KeyID: k.ada.keyID, Reason: "lost"}))
			k.approved()
		}, nil},
		{"a fork that a supporting entry's checkpoint alone shows", verify.Ledger, func(k *making) {
			k.approved()
			size := k.m.Signatures[1].Statement.Predicate.Ledger.Size
			fork := &world{tb: k.tb, ledger: k.world.ledger}
			for i, e := range k.entries[:size] {
				if uint64(i) == size-1 {
					e = bytes.Replace(e, []byte(`"prev":"`), []byte(`"prev":"0`), 1)
				}
				fork.appendRaw(e)
			}
			k.m.Support[0].Proof = fork.proof(k.support[0], size)
		}, nil},
		{"a certificate whose key usage is not critical", verify.Untrusted, certified(func(c *x509.Certificate) {
			c.KeyUsage = 0
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}}}
		}), nil},
		{"a role of a group of other people", verify.Untrusted, func(k *making) {
			k.support = append(k.support, k.append(chain.RoleAssigned, manifest.RoleAssigned{ID: "ras_1", Reason: "r", Role: "auditor", Subject: "group:qa"}))
			k.group("sgn_eve")
			k.support = append(k.support, k.append(chain.GroupChanged, manifest.GroupChanged{
				Added: []manifest.GroupMember{}, ID: "group:dev", Members: []string{"sgn_ada"}, Reason: "r", Removed: []manifest.GroupMember{},
			}))
			k.ada.roles = []string{"auditor", "signer"}
			k.approved()
		}, nil},
		{"sound with a role that began earlier", verify.OK, func(k *making) {
			k.support = append(k.support, k.append(chain.RoleAssigned, manifest.RoleAssigned{
				ID: "ras_1", Reason: "r", Role: "auditor", Start: manifest.NewTime(start.Add(-time.Hour)), Subject: "sgn_ada",
			}))
			k.ada.roles = []string{"auditor", "signer"}
			k.approved()
		}, nil},
		{"sound where another role was taken", verify.OK, supported(chain.RoleWithdrawn, manifest.RoleWithdrawn{Reason: "r", Role: "auditor", Subject: "sgn_ada"}), nil},
		{"a signature for another event", verify.Signature, signedWith(forge{predicate: func(p *manifest.Predicate) { p.Event = event[:35] + "2" }}), nil},
		{"a proof of another version", verify.Ledger, reproved(func(_ *making, p string) string { return strings.Replace(p, "tlog-proof@v1", "tlog-proof@v2", 1) }), nil},
		{"a head of no entries with a root", verify.Malformed, func(k *making) {
			k.approved()
			size := fmt.Sprintf(`"size": "%d"`, k.m.Signatures[0].Statement.Predicate.Ledger.Size)
			k.raw = bytes.Replace(encode(k.tb, k.m), []byte(size), []byte(`"size": "0"`), 1)
		}, nil},
		{"entries of two ledgers", verify.Ledger, func(k *making) {
			k.approved()
			const other = "other.example/ledger"
			vkey, _, err := chain.VerifierKey(other, k.world.ledger.Public())
			k.check(err)
			k.trust.Ledgers = append(k.trust.Ledgers, manifest.TrustLedger{Origin: other, VKey: vkey})
			note := signNote(k.tb, k.world.ledger, chain.Checkpoint{Origin: other, Size: 1, Root: k.leaves[0]})
			k.m.Support = append(k.m.Support, manifest.Support{Entry: k.entries[0], Proof: string(chain.Proof{Checkpoint: note}.Encode())})
		}, nil},
		{"a certificate that lapsed within that second", verify.Untrusted, certified(func(c *x509.Certificate) { c.NotAfter = start.Add(3 * time.Second).Truncate(time.Second) }), nil},
		{"a certificate that held from the next second", verify.Untrusted, certified(func(c *x509.Certificate) { c.NotBefore = start.Add(4 * time.Second).Truncate(time.Second) }), nil},
	}
}
