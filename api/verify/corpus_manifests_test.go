package verify_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/api/verify"
)

// bundles are the folders of the corpus: the content of each file is its name.
var bundles = map[string]map[string]string{
	"bundles/good":    {"SHA256SUMS": "SHA256SUMS", "bin/signet": "bin/signet", "index.json": "index.json", "signatures/README": "not signed"},
	"bundles/changed": {"SHA256SUMS": "SHA256SUMS", "bin/signet": "bin/signey", "index.json": "index.json"},
	"bundles/missing": {"SHA256SUMS": "SHA256SUMS", "index.json": "index.json"},
	"bundles/extra":   {"SHA256SUMS": "SHA256SUMS", "bin/signet": "bin/signet", "bin/signet.sh": "extra", "index.json": "index.json"},
	"bundles/longer":  {"SHA256SUMS": "SHA256SUMS", "bin/signet": "bin/signet", "index.json": "index.json\n"},
	"bundles/moved":   {"SHA256SUMS": "SHA256SUMS", "sbin/signet": "bin/signet", "index.json": "index.json"},
}

// kase is one sample: what it is called, its verdict, and how it is made.
type kase struct {
	name   string
	code   verify.Code
	make   func(*making)
	export func(*making) []byte
}

// event is the id of every record's event: the sample is the same whenever it is made.
const event = "0193c1f0-0000-7000-8000-000000000001"

// approved is a record that one person has approved, and that was closed.
func (k *making) approved(change ...func(*manifest.Record)) {
	k.begin(1, []*signer{k.ada}, change...)
	k.sign(k.ada, manifest.Approve)
	k.close(manifest.OutcomeApproved)
	k.m = k.manifest()
}

func (k *making) begin(n int, approvers []*signer, change ...func(*manifest.Record)) {
	k.newRecord(n, approvers, append([]func(*manifest.Record){func(r *manifest.Record) { r.Event.ID = event }}, change...)...)
}

// forged is approved with a signature that is not as it should be.
func (k *making) forged(f forge) {
	k.begin(1, []*signer{k.ada})
	k.sign(k.ada, manifest.Approve, f)
	k.close(manifest.OutcomeApproved)
	k.m = k.manifest()
}

// edited changes a sound manifest.
func edited(change func(k *making, m *manifest.Manifest)) func(*making) {
	return func(k *making) {
		k.approved()
		change(k, &k.m)
	}
}

// edit changes the text of a sound manifest.
func edit(old, by string) func(*making) {
	return func(k *making) {
		k.approved()
		k.raw = bytes.Replace(encode(k.tb, k.m), []byte(old), []byte(by), 1)
		if bytes.Equal(k.raw, encode(k.tb, k.m)) {
			k.tb.Fatalf("%q is not in the manifest", old)
		}
	}
}

func signedWith(f forge) func(*making) { return func(k *making) { k.forged(f) } }

func claims(f func(*manifest.Predicate)) func(*making) {
	return edited(func(_ *making, m *manifest.Manifest) { f(&m.Signatures[0].Statement.Predicate) })
}

// certified gives Ada another certificate.
func certified(change func(*x509.Certificate)) func(*making) {
	return func(k *making) {
		k.ada = k.enrol("sgn_grace", "Grace Hopper", func(c *x509.Certificate) { change(c) })
		k.approved()
	}
}

// pin changes what is trusted.
func pin(change func(*manifest.Trust)) func(*making) {
	return func(k *making) {
		k.approved()
		change(&k.trust)
	}
}

func reentered(change func(*chain.Entry)) func(*making) {
	return edited(func(k *making, m *manifest.Manifest) {
		e, err := chain.ParseEntry(m.Signatures[0].Ledger.Entry)
		k.check(err)
		change(&e)
		m.Signatures[0].Ledger.Entry, err = e.Encode()
		k.check(err)
	})
}

func reproved(change func(k *making, proof string) string) func(*making) {
	return edited(func(k *making, m *manifest.Manifest) {
		l := &m.Signatures[0].Ledger
		l.Proof = change(k, l.Proof)
	})
}

// both is a record that two must approve.
func (k *making) both(outcome string, decisions ...string) {
	grace := k.enrol("sgn_grace", "Grace Hopper")
	k.begin(2, []*signer{k.ada, grace})
	for i, d := range decisions {
		k.sign([]*signer{k.ada, grace}[i%2], d)
	}
	if outcome != "" {
		k.close(outcome)
	}
	k.m = k.manifest()
}

// witnessed pins witnesses; some cosign.
func witnessed(quorum string, by ...int) func(*making) {
	return func(k *making) {
		k.approved()
		three := []cosigner{newCosigner("witness.example/x"), newCosigner("witness.example/y"), newCosigner("witness.example/z"), newCosigner("witness.example/x")}
		three[3].as = three[0].hash() // an impostor
		var sign []cosigner
		for _, i := range by {
			sign = append(sign, three[i])
		}
		k.m = cosign(k.m, sign...)
		k.trust.Ledgers[0].WitnessPolicy = fmt.Sprintf("log %s\nwitness X %s\nwitness Y %s\nwitness Z %s\ngroup G 2 X Y Z\nquorum %s\n",
			k.trust.Ledgers[0].VKey, three[0].vkey(), three[1].vkey(), three[2].vkey(), quorum)
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[(at+len(b))%len(b)] ^= 1
	return b
}

func inBundle(folder string) func(*making) {
	return func(k *making) { k.approved(); k.bundle = folder }
}

func algorithm(name string) func(*making) {
	return func(k *making) { k.ada = k.enrolKey("sgn_grace", "Grace Hopper", name); k.approved() }
}

func manifestCases() []kase {
	return slices.Concat(soundCases(), contentCases(), signatureCases(), identityCases(), timeCases(), ledgerCases(), policyCases(), malformedCases(), strictCases(), subtleCases(), passkeyCases(), atCases(), tokenCases(), bodyCases())
}

// revokedLater is approved by somebody whose key, or an earlier one of theirs, is revoked an hour later.
func revokedLater(this bool) func(*making) {
	return func(k *making) {
		k.approved()
		k.tick(time.Hour)
		key := k.ada.keyID
		if !this {
			key = k.closer.keyID
		}
		k.support = append(k.support, k.append(chain.SignerRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: "sgn_ada", KeyID: key, Reason: "lost"}))
		k.m = k.manifest()
	}
}

func soundCases() []kase {
	const code = verify.OK
	return []kase{
		{"sound", code, func(k *making) { k.approved() }, nil},
		{"sound with two approvers", code, func(k *making) { k.both(manifest.OutcomeApproved, manifest.Approve, manifest.Approve) }, nil},
		{"sound of an open system", code, func(k *making) { k.approved(func(r *manifest.Record) { r.System.Access = manifest.Open }) }, nil},
		{"sound with ECDSA P-384", code, algorithm(manifest.ECDSAP384), nil},
		{"sound with ECDSA P-521", code, algorithm(manifest.ECDSAP521), nil},
		{"sound with Ed25519", code, algorithm(manifest.Ed25519), nil},
		{"sound with RSA", code, algorithm(manifest.RSAPSS), nil},
		{"sound with two of three witnesses", code, witnessed("G", 0, 2), nil},
		{"sound with cosignatures that nobody asked for", code, witnessed("none", 0), nil},
		{"sound without a bundle", code, func(k *making) { k.approved(func(r *manifest.Record) { r.Bundle = manifest.BundleRef{} }) }, nil},
		{"sound with a larger checkpoint", code, func(k *making) {
			k.approved()
			k.append(chain.SessionOpened, map[string]string{"id": "sgn_ada"})
			k.m = k.manifest()
		}, nil},
		{"sound with two time-stamps", code, func(k *making) { k.forged(forge{more: []*rfc3161.Issuer{k.stamp}}) }, nil},
		{"sound with a key that was revoked later", code, revokedLater(true), nil},
		{"sound with another key of the signer that was revoked later", code, revokedLater(false), nil},
		{"sound beside the seal of a service", code, func(k *making) {
			bot := k.enrolService("svc_ci", "CI")
			k.begin(1, []*signer{k.ada})
			k.sign(bot, manifest.Seal)
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"sound and withdrawn from, then approved again", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			for _, d := range []string{manifest.Approve, manifest.Withdraw, manifest.Approve} {
				k.sign(k.ada, d)
			}
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
	}
}

func contentCases() []kase {
	const code = verify.Content
	return []kase{
		{"a file changed", code, inBundle("bundles/changed"), nil},
		{"a file missing", code, inBundle("bundles/missing"), nil},
		{"a file extra", code, inBundle("bundles/extra"), nil},
		{"a file longer", code, inBundle("bundles/longer"), nil},
		{"a file moved", code, inBundle("bundles/moved"), nil},
		{"an exclusion that the policy does not allow", code, func(k *making) {
			k.approved(func(r *manifest.Record) { r.Policy.Resolved.Exclusions = nil })
		}, nil},
		{"the document changed", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Bundle.Files = slices.Clone(m.Bundle.Files)
			m.Bundle.Files[1].SHA256[0] ^= 1
		}), nil},
		{"the document changed with the file", verify.Signature, func(k *making) {
			k.bundle = "bundles/changed"
			k.approved()
			k.m.Bundle.Files = slices.Clone(k.m.Bundle.Files)
			k.m.Bundle.Files[1].SHA256 = sha256.Sum256([]byte(bundles[k.bundle]["bin/signet"]))
		}, nil},
		{"the document of more files than the record says", verify.Signature, func(k *making) {
			k.approved(func(r *manifest.Record) { r.Bundle.Files-- })
		}, nil},
		{"the document of more bytes than the record says", verify.Signature, func(k *making) {
			k.approved(func(r *manifest.Record) { r.Bundle.Bytes-- })
		}, nil},
	}
}

func signatureCases() []kase {
	const code = verify.Signature
	return []kase{
		{"a bit of the signature flipped", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Signatures[0].Signature.Value = flip(m.Signatures[0].Signature.Value, -1)
		}), nil},
		{"signed by another key", code, func(k *making) { k.forged(forge{key: k.key(manifest.ECDSAP256)}) }, nil},
		{"signed without the PAE", code, signedWith(forge{message: func(b []byte) []byte { return b }}), nil},
		{"signed over another payload type", code, signedWith(forge{message: func(b []byte) []byte {
			return bytes.Replace(manifest.PAE(b), []byte("in-toto+json"), []byte("in-toto+jsom"), 1)
		}}), nil},
		{"the reason changed", code, claims(func(p *manifest.Predicate) { p.Reason = "All gates red." }), nil},
		{"the decision changed", code, claims(func(p *manifest.Predicate) { p.Decision = manifest.Review }), nil},
		{"the meaning changed", code, claims(func(p *manifest.Predicate) { p.Meaning.Text = "I have seen this release." }), nil},
		{"the attestation changed", code, claims(func(p *manifest.Predicate) { p.Statement = "I sign nothing." }), nil},
		{"the printed name changed", code, claims(func(p *manifest.Predicate) { p.Signer.Name = "Grace Hopper" }), nil},
		{"the zone changed", code, claims(func(p *manifest.Predicate) { p.Zone.Name = "Europe/Paris" }), nil},
		{"the preparation changed", code, claims(func(p *manifest.Predicate) { p.Preparation = "prp_other" }), nil},
		{"the version of the record changed", code, edited(func(_ *making, m *manifest.Manifest) { m.Record.Version = "v0.1.1" }), nil},
		{"the commit of the record changed", code, edited(func(_ *making, m *manifest.Manifest) { m.Record.Source.Commit = strings.Repeat("cd", 20) }), nil},
		{"the threshold of the record changed", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Record.Policy.Resolved.Approvers = append(m.Record.Policy.Resolved.Approvers, manifest.Approver{ID: "sgn_eve", Name: "Eve"})
		}), nil},
		{"the environment of the record changed", code, edited(func(_ *making, m *manifest.Manifest) { m.Record.System.Environment = manifest.Production }), nil},
		{"the system of the record declared open", code, edited(func(_ *making, m *manifest.Manifest) { m.Record.System.Access = manifest.Open }), nil},
		{"the event of the record changed", code, edited(func(_ *making, m *manifest.Manifest) { m.Record.Event.ID = event[:35] + "2" }), nil},
		{"the bundle of another record", verify.Content, edited(func(_ *making, m *manifest.Manifest) {
			m.Bundle.Files = m.Bundle.Files[:2]
		}), nil},
		{"no bundle any more", code, func(k *making) { k.approved(); k.bundle = "none"; k.m.Bundle = bundle.Document{} }, nil},
		{"a role for a file that is not there", code, func(k *making) {
			k.approved(func(r *manifest.Record) { r.Bundle.Roles = map[string]string{"missing.html": "rtm_html"} })
		}, nil},
		{"the id of another key", code, edited(func(_ *making, m *manifest.Manifest) { m.Signatures[0].Signature.KeyID = hexSum(nil) }), nil},
		{"an algorithm that does not fit the key", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Signatures[0].Signature.Algorithm = manifest.Ed25519
		}), nil},
		{"the signature of another statement", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Signatures[0].Signature.Value = m.Signatures[1].Signature.Value
		}), nil},
		{"the subjects of another record", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Signatures[0].Statement.Subject = slices.Clone(m.Signatures[0].Statement.Subject)
			m.Signatures[0].Statement.Subject[0].Digest.SHA256[0] ^= 1
		}), nil},
	}
}

func identityCases() []kase {
	const code = verify.Untrusted
	return []kase{
		{"a certificate of another CA", code, func(k *making) {
			k.ada.certs = [][]byte{k.issue(k.newAuthority("Example Signing CA", elliptic.P256()), signerTemplate("signers", "sgn_ada", "Ada Lovelace", "Example Medical"), k.ada.key.Public()), k.ca.cert.Raw}
			k.bind(k.ada, chain.SignerRenewed)
			k.approved()
		}, nil},
		{"a root that is not pinned", code, pin(func(t *manifest.Trust) { t.SignerRoots = nil }), nil},
		{"a root that is pinned for later", code, pin(func(t *manifest.Trust) { t.SignerRoots[0].From = manifest.NewTime(start.Add(time.Hour)) }), nil},
		{"a root that is pinned for earlier", code, pin(func(t *manifest.Trust) { t.SignerRoots[0].To = manifest.NewTime(start).String() }), nil},
		{"another issuer", code, pin(func(t *manifest.Trust) { t.Issuer = "https://other.example" }), nil},
		{"the certificate of somebody else", code, certified(func(c *x509.Certificate) { c.URIs[0].Path = "/signers/sgn_eve" }), nil},
		{"the certificate of a service", code, certified(func(c *x509.Certificate) { c.URIs[0].Path = "/services/sgn_grace" }), nil},
		{"a certificate with two names", code, certified(func(c *x509.Certificate) { c.DNSNames = []string{"sign.example"} }), nil},
		{"a certificate with another printed name", code, certified(func(c *x509.Certificate) { c.Subject.CommonName = "Eve" }), nil},
		{"a certificate of another organisation", code, certified(func(c *x509.Certificate) { c.Subject.Organization = []string{"Evil"} }), nil},
		{"a certificate with more key usages", code, certified(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }), nil},
		{"a certificate for one extended key usage alone", code, certified(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), nil},
		{"a certificate for time-stamps too", code, certified(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageTimeStamping) }), nil},
		{"a certificate that is a CA's", code, certified(func(c *x509.Certificate) { c.IsCA = true }), nil},
		{"a certificate that had lapsed", code, certified(func(c *x509.Certificate) { c.NotAfter = start.Add(time.Second) }), nil},
		{"a certificate that was not valid yet", code, certified(func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }), nil},
		{"a key that the trust file revokes", code, func(k *making) {
			k.approved()
			k.trust.Revoked = []manifest.Revoked{{From: manifest.NewTime(start), KeyID: k.ada.keyID}}
		}, nil},
		{"a key that the ledger revokes", code, func(k *making) {
			k.support = append(k.support, k.append(chain.SignerRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: "sgn_ada", Reason: "lost"}))
			k.approved()
		}, nil},
		{"an enrolment that was replaced", code, func(k *making) {
			old := *k.ada
			k.ada.title = "Head of QA"
			k.bind(k.ada, chain.SignerRenewed)
			k.ada = &old
			k.approved()
		}, nil},
		{"the enrolment of somebody else", code, func(k *making) {
			k.ada.enrolment = k.enrol("sgn_grace", "Grace Hopper").enrolment
			k.approved()
		}, nil},
		{"roles that were not given", code, func(k *making) { k.ada.roles = []string{"administrator", "signer"}; k.approved() }, nil},
		{"a title that was not given", code, func(k *making) { k.ada.title = "CEO"; k.approved() }, nil},
		{"less proof than was demanded", code, signedWith(forge{
			predicate:     func(p *manifest.Predicate) { p.Requires = manifest.AuthorizationPasswordTOTP },
			authorization: manifest.Authorization{Kind: manifest.AuthorizationPassword},
		}), nil},
		{"one key under two ids", code, func(k *making) {
			eve := &signer{id: "sgn_eve", name: "Eve", title: "QA", organisation: "Example Medical", roles: []string{"signer"}, key: k.ada.key, algorithm: k.ada.algorithm}
			eve.certs = [][]byte{k.issue(k.ca, signerTemplate("signers", eve.id, eve.name, eve.organisation), eve.key.Public()), k.ca.cert.Raw}
			k.bind(eve, chain.SignerEnrolled)
			k.begin(2, []*signer{k.ada, eve})
			k.sign(k.ada, manifest.Approve)
			k.sign(eve, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"certificates without the root", code, edited(func(_ *making, m *manifest.Manifest) { m.Signatures[0].Certificates = m.Signatures[0].Certificates[:1] }), nil},
		{"certificates with one too many", code, edited(func(k *making, m *manifest.Manifest) {
			c := m.Signatures[0].Certificates
			m.Signatures[0].Certificates = [][]byte{c[0], k.tsaRoot.cert.Raw, c[1]}
		}), nil},
	}
}

func timeCases() []kase {
	const code = verify.TimeNotProven
	at := func(d time.Duration) func(*making) {
		return signedWith(forge{genTime: func(t time.Time) time.Time { return t.Add(d) }})
	}
	stamped := func(change func(k *making, token []byte) []byte) func(*making) {
		return edited(func(k *making, m *manifest.Manifest) {
			m.Signatures[0].Timestamps = [][]byte{change(k, m.Signatures[0].Timestamps[0])}
		})
	}
	return []kase{
		{"a time-stamp of another signature", code, edited(func(_ *making, m *manifest.Manifest) { m.Signatures[0].Timestamps = m.Signatures[1].Timestamps }), nil},
		{"a time-stamp from before the preparation", code, at(-10 * time.Minute), nil},
		{"a time-stamp from after the end of the preparation", code, at(10 * time.Minute), nil},
		{"a time-stamp of an authority that is not pinned", code, func(k *making) {
			k.forged(forge{stamp: k.newStamp(k.newAuthority("Example Time CA", elliptic.P256()))})
		}, nil},
		{"a time-stamp root that is not pinned", code, pin(func(t *manifest.Trust) { t.TimestampRoots = nil }), nil},
		{"a time-stamp root that is pinned for later", code, pin(func(t *manifest.Trust) { t.TimestampRoots[0].From = manifest.NewTime(start.Add(time.Hour)) }), nil},
		{"a time-stamp with a bit of its signature flipped", code, stamped(func(_ *making, b []byte) []byte { return flip(b, -1) }), nil},
		{"a time-stamp with another time", code, stamped(func(k *making, b []byte) []byte {
			i := bytes.Index(b, []byte("20261121093"))
			if i < 0 {
				k.tb.Fatal("no genTime")
			}
			return flip(b, i+13)
		}), nil},
		{"a time-stamp that is none", code, stamped(func(*making, []byte) []byte { return []byte("x") }), nil},
		{"a time-stamp with something behind it", code, stamped(func(_ *making, b []byte) []byte { return append(bytes.Clone(b), 0) }), nil},
		{"a time-stamp of a key that the trust file revokes", code, func(k *making) {
			k.approved()
			k.trust.Revoked = []manifest.Revoked{{From: manifest.NewTime(start), KeyID: keyID(k.tb, k.stamp.Certificate.Raw)}}
		}, nil},
		{"a second time-stamp that is none", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Signatures[0].Timestamps = append(slices.Clone(m.Signatures[0].Timestamps), []byte("x"))
		}), nil},
		{"a time-stamp that is off by two seconds", code, func(k *making) {
			i := k.newStamp(k.tsaRoot)
			i.Accuracy = time.Second
			k.forged(forge{stamp: i, token: inaccurate})
		}, nil},
		{"a time-stamp of a signer's certificate", code, func(k *making) {
			i := k.newStamp(k.ca)
			k.forged(forge{stamp: i})
		}, nil},
	}
}

func ledgerCases() []kase {
	const code = verify.Ledger
	entered := func(change func(*chain.Entry)) func(*making) { return signedWith(forge{entry: change}) }
	return []kase{
		{"the entry of another signature", code, edited(func(_ *making, m *manifest.Manifest) { m.Signatures[0].Ledger = m.Signatures[1].Ledger }), nil},
		{"an entry that is in no tree", code, reentered(func(e *chain.Entry) { e.Request = hexSum(nil) }), nil},
		{"an entry with another prev", code, reentered(func(e *chain.Entry) { e.Prev = chain.Hash{1} }), nil},
		{"an entry with another index", code, reentered(func(e *chain.Entry) { e.Index++ }), nil},
		{"an entry with another time", code, reentered(func(e *chain.Entry) { e.Time = e.Time.Add(time.Millisecond) }), nil},
		{"an entry by somebody else", code, reentered(func(e *chain.Entry) { e.Actor.ID = "sgn_eve" }), nil},
		{"an entry that is none", code, edited(func(_ *making, m *manifest.Manifest) { m.Signatures[0].Ledger.Entry = []byte("{}") }), nil},
		{"an entry of another type", code, entered(func(e *chain.Entry) { e.Type = chain.SignatureAttempted }), nil},
		{"an entry that breaks the chain", code, func(k *making) {
			grace := k.enrol("sgn_grace", "Grace Hopper")
			k.begin(2, []*signer{k.ada, grace})
			k.sign(k.ada, manifest.Approve)
			k.sign(grace, manifest.Approve, forge{entry: func(e *chain.Entry) { e.Prev = chain.Hash{1} }})
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"an entry whose time went back", code, entered(func(e *chain.Entry) { e.Time = chain.NewTime(start.Add(-time.Second)) }), nil},
		{"an entry long after its signature", code, entered(func(e *chain.Entry) { e.Time = e.Time.Add(11 * time.Minute) }), nil},
		{"an entry about another statement", code, signedWith(forge{body: func(b *manifest.SignatureCreated) { b.Statement[0] ^= 1 }}), nil},
		{"an entry about another certificate", code, signedWith(forge{body: func(b *manifest.SignatureCreated) { b.Certificates[0][0] ^= 1 }}), nil},
		{"an entry about another authorization", code, signedWith(forge{body: func(b *manifest.SignatureCreated) { b.Authorization[0] ^= 1 }}), nil},
		{"a proof that is none", code, reproved(func(*making, string) string { return "none" }), nil},
		{"a proof with another hash", code, reproved(func(_ *making, p string) string {
			lines := strings.Split(p, "\n")
			b, _ := base64.StdEncoding.DecodeString(lines[2])
			lines[2] = base64.StdEncoding.EncodeToString(flip(b, 0))
			return strings.Join(lines, "\n")
		}), nil},
		{"a proof with a hash too many", code, reproved(func(_ *making, p string) string {
			return strings.Replace(p, "\n\n", "\n"+strings.Repeat("A", 43)+"=\n\n", 1)
		}), nil},
		{"a proof with an extra line", code, reproved(func(_ *making, p string) string { return strings.Replace(p, "\nindex", "\nextra AAAA\nindex", 1) }), nil},
		{"a checkpoint of another key", code, reproved(func(k *making, p string) string {
			head, _, _ := strings.Cut(p, "\n\n")
			h := k.head(uint64(len(k.entries)))
			k.key(manifest.Ed25519)
			other := k.key(manifest.Ed25519)
			return head + "\n\n" + string(signNote(k.tb, edKey(other), chain.Checkpoint{Origin: origin, Size: h.Size, Root: h.Root}))
		}), nil},
		{"a checkpoint of another ledger", code, reproved(func(k *making, p string) string {
			head, _, _ := strings.Cut(p, "\n\n")
			h := k.head(uint64(len(k.entries)))
			return head + "\n\n" + string(signNote(k.tb, k.ledger, chain.Checkpoint{Origin: "evil.example/ledger", Size: h.Size, Root: h.Root}))
		}), nil},
		{"a checkpoint with another root", code, reproved(func(k *making, p string) string {
			head, _, _ := strings.Cut(p, "\n\n")
			h := k.head(uint64(len(k.entries)))
			h.Root[0] ^= 1
			return head + "\n\n" + string(signNote(k.tb, k.ledger, chain.Checkpoint{Origin: origin, Size: h.Size, Root: h.Root}))
		}), nil},
		{"a checkpoint whose signature was cut off", code, reproved(func(_ *making, p string) string { return p[:strings.LastIndex(p, "\n\n")+2] }), nil},
		{"a checkpoint with a bit of its signature flipped", code, reproved(func(_ *making, p string) string {
			i := strings.LastIndex(p, " ")
			b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(p[i:]))
			return p[:i+1] + base64.StdEncoding.EncodeToString(flip(b, -1)) + "\n"
		}), nil},
		{"a checkpoint with an extension line", code, reproved(func(_ *making, p string) string {
			i := strings.LastIndex(p, "\n\n")
			return p[:i] + "\nextension" + p[i:]
		}), nil},
		{"a fork, signed by the ledger's own key", code, func(k *making) {
			k.approved()
			fork := *k.world
			fork.entries, fork.leaves, fork.stored, fork.edge = slices.Clone(k.entries), slices.Clone(k.leaves), slices.Clone(k.stored), *k.edge.Clone()
			k.append(chain.SessionOpened, map[string]string{"id": "sgn_ada"})
			fork.append(chain.SessionOpened, map[string]string{"id": "sgn_eve"})
			k.m = k.manifest()
			k.m.Signatures[0] = fork.manifest().Signatures[0]
		}, nil},
		{"no proof that the head was an earlier state", code, edited(func(_ *making, m *manifest.Manifest) { m.Signatures[0].Ledger.Consistency = [][]byte{} }), nil},
		{"the consistency of another head", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Signatures[0].Ledger.Consistency = m.Signatures[1].Ledger.Consistency
		}), nil},
		{"a head that never was", code, signedWith(forge{predicate: func(p *manifest.Predicate) { p.Ledger.Root[0] ^= 1 }}), nil},
		{"a head of another ledger", code, signedWith(forge{predicate: func(p *manifest.Predicate) { p.Ledger.Origin = "other.example/ledger" }}), nil},
		{"another statement before it", code, signedWith(forge{predicate: func(p *manifest.Predicate) { p.Previous = hexSum(nil) }}), nil},
		{"a statement left out", code, func(k *making) {
			k.both(manifest.OutcomeApproved, manifest.Approve, manifest.Approve)
			k.m.Signatures = k.m.Signatures[1:]
		}, nil},
		{"statements reordered", code, func(k *making) {
			k.both(manifest.OutcomeApproved, manifest.Approve, manifest.Approve)
			s := k.m.Signatures
			s[0], s[1] = s[1], s[0]
		}, nil},
		{"a statement twice", code, edited(func(_ *making, m *manifest.Manifest) { m.Signatures = append(m.Signatures[:1:1], m.Signatures...) }), nil},
		{"no enrolment", code, edited(func(k *making, m *manifest.Manifest) {
			m.Support = slices.DeleteFunc(m.Support, func(s manifest.Support) bool { return bytes.Contains(s.Entry, []byte(`"sgn_ada"`)) })
		}), nil},
		{"a supporting entry twice", code, edited(func(_ *making, m *manifest.Manifest) { m.Support = append(m.Support, m.Support[0]) }), nil},
		{"a supporting entry that is in no tree", code, edited(func(_ *making, m *manifest.Manifest) {
			m.Support = slices.Clone(m.Support)
			m.Support[1].Entry = bytes.Replace(m.Support[1].Entry, []byte(`"request":""`), []byte(`"request":"`+hexSum(nil)+`"`), 1)
		}), nil},
		{"a ledger that is not pinned", code, pin(func(t *manifest.Trust) { t.Ledgers = nil }), nil},
		{"a ledger key for later sizes", code, pin(func(t *manifest.Trust) { t.Ledgers[0].FromSize = 1000 }), nil},
		{"a ledger key for earlier sizes", code, pin(func(t *manifest.Trust) { t.Ledgers[0].ToSize = "2" }), nil},
		{"a witness missing", code, witnessed("G", 1), nil},
		{"one witness twice", code, witnessed("G", 1, 1), nil},
		{"an impostor of a witness", code, witnessed("G", 1, 3), nil},
		{"no witness at all", code, witnessed("X"), nil},
		{"a witness in two groups", code, witnessed("G\ngroup H any X", 0, 1), nil},
		{"a witness policy with a control character", code, witnessed("G\r", 0, 1), nil},
		{"a witness policy with two quorums", code, witnessed("G\nquorum X", 0, 1), nil},
		{"a witness policy about another ledger", code, func(k *making) {
			witnessed("G", 0, 1)(k)
			other, _, err := chain.VerifierKey(origin, edKey(k.key(manifest.Ed25519)).Public())
			k.check(err)
			l := &k.trust.Ledgers[0]
			l.WitnessPolicy = strings.Replace(l.WitnessPolicy, l.VKey, other, 1)
		}, nil},
		{"a witness policy that cannot be read", code, pin(func(t *manifest.Trust) { t.Ledgers[0].WitnessPolicy = "quorum nobody\n" }), nil},
	}
}

func policyCases() []kase {
	const code = verify.Policy
	resolved := func(f func(*manifest.ResolvedPolicy)) func(*manifest.Record) {
		return func(r *manifest.Record) { f(&r.Policy.Resolved) }
	}
	byGroup := resolved(func(p *manifest.ResolvedPolicy) { p.Approvers = []manifest.Approver{{ID: "group:qa", Name: "qa"}} })
	return []kase{
		{"rejected", code, func(k *making) { k.both("rejected", manifest.Approve, manifest.Reject) }, nil},
		{"rejected and closed as approved", code, func(k *making) { k.both(manifest.OutcomeApproved, manifest.Approve, manifest.Reject) }, nil},
		{"one approval of two", code, func(k *making) { k.both(manifest.OutcomeApproved, manifest.Approve) }, nil},
		{"one person twice", code, func(k *making) {
			grace := k.enrol("sgn_grace", "Grace Hopper")
			k.begin(2, []*signer{k.ada, grace})
			k.sign(k.ada, manifest.Approve)
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"abstained", code, func(k *making) { k.both(manifest.OutcomeApproved, manifest.Approve, manifest.Abstain) }, nil},
		{"withdrawn", code, func(k *making) {
			k.both(manifest.OutcomeApproved, manifest.Approve, manifest.Approve, manifest.Withdraw)
		}, nil},
		{"not closed", code, func(k *making) { k.both("", manifest.Approve, manifest.Approve) }, nil},
		{"closed as rejected", code, func(k *making) { k.both("rejected", manifest.Approve, manifest.Approve) }, nil},
		{"a rejection after the closing", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.sign(k.ada, manifest.Reject)
			k.m = k.manifest()
		}, nil},
		{"approved by somebody else", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.enrol("sgn_eve", "Eve"), manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"approved by who belongs to no group of approvers", code, func(k *making) {
			k.group("sgn_grace")
			k.approved(byGroup)
		}, nil},
		{"approved by who has left the group of approvers", code, func(k *making) {
			k.group("sgn_ada")
			k.group("sgn_grace")
			k.approved(byGroup)
		}, nil},
		{"approved for a group, and nothing shows that they belong to it", code, func(k *making) { k.approved(byGroup) }, nil},
		{"approved by who has not the role", code, func(k *making) {
			k.approved(resolved(func(p *manifest.ResolvedPolicy) {
				p.Approvers = []manifest.Approver{{ID: "role:auditor", Name: "auditor"}}
			}))
		}, nil},
		{"approved by somebody who is excluded", code, func(k *making) {
			k.approved(resolved(func(p *manifest.ResolvedPolicy) { p.ExcludedSigners = []string{"sgn_ada"} }))
		}, nil},
		{"approved with less than the policy requires", code, func(k *making) {
			k.approved(resolved(func(p *manifest.ResolvedPolicy) { p.Requires = manifest.AuthorizationPasswordTOTP }))
		}, nil},
		{"approved by a service", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.enrolService("svc_ci", "CI"), manifest.Seal)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"approved in one activity alone", code, func(k *making) {
			k.forged(forge{predicate: func(p *manifest.Predicate) { p.Activity = manifest.Activity{ID: "penetration-test", Attempt: "1"} }})
		}, nil},
		{"approved as a whole, and rejected in one activity of two", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.ada, manifest.Approve)
			for _, x := range [...]struct{ id, decision string }{{"a-test", manifest.Approve}, {"b-test", manifest.Reject}, {"c-test", manifest.Approve}} {
				k.sign(k.ada, x.decision, forge{predicate: func(p *manifest.Predicate) { p.Activity = manifest.Activity{ID: x.id, Attempt: "1"} }})
			}
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"rejected in the last attempt of an activity", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.ada, manifest.Approve)
			for i, d := range []string{manifest.Approve, manifest.Reject} {
				k.sign(k.ada, d, forge{predicate: func(p *manifest.Predicate) { p.Activity = manifest.Activity{ID: "a-test", Attempt: fmt.Sprint(i + 9)} }})
			}
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"sound and rejected in an earlier attempt of an activity", verify.OK, func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.ada, manifest.Approve)
			for i, d := range []string{manifest.Reject, manifest.Approve} {
				k.sign(k.ada, d, forge{predicate: func(p *manifest.Predicate) { p.Activity = manifest.Activity{ID: "a-test", Attempt: fmt.Sprint(i + 9)} }})
			}
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"sound and rejected where no rejection vetoes", verify.OK, func(k *making) {
			grace := k.enrol("sgn_grace", "Grace Hopper")
			k.begin(1, []*signer{k.ada, grace}, resolved(func(p *manifest.ResolvedPolicy) { p.AnyRejectionVetoes = false }))
			k.sign(grace, manifest.Reject)
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
		{"a template that is not admitted", code, pin(func(t *manifest.Trust) {
			t.Policies = []manifest.TrustPolicy{{Digest: manifest.Digest{1}, Requires: manifest.AuthorizationPassword}}
		}), nil},
		{"a closing over other statements", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved, forge{predicate: func(p *manifest.Predicate) { p.Inputs[1].Value = value(k.tb, []string{hexSum(nil)}) }})
			k.m = k.manifest()
		}, nil},
		{"superseded before it was decided", code, func(k *making) {
			k.begin(1, []*signer{k.ada})
			d, err := k.record.Digest()
			k.check(err)
			k.support = append(k.support, k.append(chain.RecordSuperseded, manifest.RecordSuperseded{By: event[:35] + "2", Event: event, Record: d.String()}))
			k.sign(k.ada, manifest.Approve)
			k.close(manifest.OutcomeApproved)
			k.m = k.manifest()
		}, nil},
	}
}

func malformedCases() []kase {
	const code = verify.Malformed
	raw := func(change func(b []byte) []byte) func(*making) {
		return func(k *making) { k.approved(); k.raw = change(encode(k.tb, k.m)) }
	}
	return []kase{
		{"a member twice", code, edit(`"mediaType": `, `"mediaType": "x",`+"\n  "+`"mediaType": `), nil},
		{"a member that nobody knows", code, edit(`  "mediaType": `, `  "comment": "",`+"\n  "+`"mediaType": `), nil},
		{"a member missing", code, edit(`  "renewals": [],`+"\n", ""), nil},
		{"members in another order", code, edit(`"branch": "main",`+"\n      "+`"commit": "`+strings.Repeat("ab", 20)+`",`, `"commit": "`+strings.Repeat("ab", 20)+`",`+"\n      "+`"branch": "main",`), nil},
		{"null", code, edit(`"title": ""`, `"title": null`), nil},
		{"a fraction", code, edit(`"k": 1`, `"k": 1.0`), nil},
		{"an exponent", code, edit(`"k": 1`, `"k": 1e0`), nil},
		{"a number beyond 2^53", code, edit(`"k": 1`, `"k": 9007199254740993`), nil},
		{"a number as a text", code, edit(`"k": 1`, `"k": "1"`), nil},
		{"a tab", code, edit("  \"mediaType\"", "\t\"mediaType\""), nil},
		{"an escape that is not needed", code, edit(`"main"`, `"\u006dain"`), nil},
		{"CR LF", code, raw(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }), nil},
		{"a byte order mark", code, raw(func(b []byte) []byte { return append([]byte("\ufeff"), b...) }), nil},
		{"bytes that are not UTF-8", code, edit(`"main"`, "\"ma\xffn\""), nil},
		{"something after the end", code, raw(func(b []byte) []byte { return append(b, '\n') }), nil},
		{"truncated", code, raw(func(b []byte) []byte { return b[:len(b)/2] }), nil},
		{"another media type", code, edit("signet.manifest.v1+json", "signet.manifest.v2+json"), nil},
		{"another format of the record", code, edit("signet-record/v1", "signet-record/v2"), nil},
		{"another type of predicate", code, edit("signet/signature/v1", "signet/signature/v2"), nil},
		{"hex in capital letters", code, func(k *making) {
			k.approved()
			k.raw = bytes.Replace(encode(k.tb, k.m), []byte(k.ada.keyID), []byte(strings.ToUpper(k.ada.keyID)), 1)
		}, nil},
		{"base64 with stray bits", code, func(k *making) {
			k.approved()
			k.m.Signatures[0].Signature.Value = append(k.m.Signatures[0].Signature.Value, make([]byte, 3-len(k.m.Signatures[0].Signature.Value)%3+1)...)
			v := base64.StdEncoding.EncodeToString(k.m.Signatures[0].Signature.Value)
			k.raw = bytes.Replace(encode(k.tb, k.m), []byte(v), []byte(v[:len(v)-3]+"B=="), 1)
		}, nil},
		{"no signatures", code, func(k *making) {
			k.approved()
			b := encode(k.tb, k.m)
			from, to := bytes.Index(b, []byte(`"signatures": [`)), bytes.Index(b, []byte("\n  \"support\""))
			k.raw = slices.Concat(b[:from], []byte(`"signatures": [],`), b[to:])
		}, nil},
		{"a renewal", code, edit(`"renewals": []`, "\"renewals\": [\n    \"AAAA\"\n  ]"), nil},
		{"a decision that nobody knows", code, edit(`"decision": "approve"`, `"decision": "applaud"`), nil},
		{"no reason", code, edit(`"reason": "All gates green, risk file reviewed."`, `"reason": " "`), nil},
		{"a direction mark in a name", code, edit(`"name": "Ada Lovelace"`, "\"name\": \"Ada \u202eecalevoL\""), nil},
		{"a name that is not normalised", code, edit(`"name": "Ada Lovelace"`, "\"name\": \"Ada\u0301 Lovelace\""), nil},
		{"an event that is no UUIDv7", code, edit(event, strings.Replace(event, "-7000-", "-4000-", 1)), nil},
		{"a version that is none", code, edit(`"version": "v0.1.0"`, `"version": "0.1.0"`), nil},
		{"a commit that is abbreviated", code, edit(strings.Repeat("ab", 20), strings.Repeat("ab", 10)), nil},
		{"a path that leads out", code, edit(`"path": "bin/signet"`, `"path": "../signet"`), nil},
		{"paths that differ in case alone", code, edit(`"path": "index.json"`, `"path": "sha256sums"`), nil},
		{"files out of order", code, edit(`"path": "SHA256SUMS"`, `"path": "zzz"`), nil},
		{"a path that is excluded", code, edit(`"path": "index.json"`, `"path": "signatures/x"`), nil},
		{"an approver twice", code, edit(`"approvers": [`, "\"approvers\": [\n          {\n            \"id\": \"sgn_ada\",\n            \"name\": \"Ada Lovelace\"\n          },"), nil},
		{"minus zero", code, edit(`"k": 1`, `"k": -0`), nil},
		{"a role twice", code, edit("\"roles\": [\n              \"signer\"", "\"roles\": [\n              \"signer\",\n              \"signer\""), nil},
		{"a threshold above the approvers", code, edit(`"k": 1`, `"k": 2`), nil},
		{"a time without milliseconds", code, edit(`"preparedAt": "2026-11-21T09:30:01.123Z"`, `"preparedAt": "2026-11-21T09:30:01Z"`), nil},
		{"no JSON", code, raw(func([]byte) []byte { return []byte("signet\n") }), nil},
		{"nested too deep", code, edit(`"inputs": []`, `"inputs": `+strings.Repeat("[", 70)+strings.Repeat("]", 70)), nil},
		{"a trust file that is none", code, func(k *making) { k.approved(); k.pinned = []byte("{}\n") }, nil},
		{"a trust file of another version", code, func(k *making) {
			k.approved()
			k.pinned = bytes.Replace(k.trustFile(), []byte("trust.v1"), []byte("trust.v2"), 1)
		}, nil},
		{"a trust file with a verifier key that is none", code, func(k *making) {
			k.approved()
			k.pinned = bytes.Replace(k.trustFile(), []byte(origin+"+"), []byte(origin+"+0"), 1)
		}, nil},
	}
}
