package verify_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/api/verify"
)

// signed returns a world in which one approver, made by enrol, has approved and the record is closed.
func signed(t *testing.T, enrol func(*world) *signer, f ...forge) *world {
	t.Helper()
	w := newWorld(t)
	s := enrol(w)
	w.newRecord(1, []*signer{s})
	w.sign(s, manifest.Approve, f...)
	w.close(manifest.OutcomeApproved)
	return w
}

func TestAlgorithms(t *testing.T) {
	for _, algorithm := range []string{manifest.ECDSAP256, manifest.ECDSAP384, manifest.ECDSAP521, manifest.Ed25519, manifest.RSAPSS} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			w := signed(t, func(w *world) *signer { return w.enrolKey("sgn_ada", "Ada Lovelace", algorithm) })
			want(t, w.verify(w.manifest()), verify.OK, "")
			other := manifest.ECDSAP256
			if algorithm == other {
				other = manifest.ECDSAP384
			}
			m := w.manifest()
			m.Signatures[0].Signature.Algorithm = other
			want(t, w.verify(m), verify.Signature, "does not fit")
			m = w.manifest()
			m.Signatures[0].Signature.Value = signWith(t, w.key(algorithm), []byte("x"))
			want(t, w.verify(m), verify.Signature, "was not made")
		})
	}
}

// Each certificate departs from the profile in one way.
func TestCertificateProfile(t *testing.T) {
	t.Attr("requirement", "B-26")
	uri := func(s string) *url.URL { u, _ := url.Parse(s); return u }
	for name, x := range map[string]struct {
		change func(*x509.Certificate)
		says   string
	}{
		"two URIs":            {func(c *x509.Certificate) { c.URIs = append(c.URIs, uri("https://other.example/")) }, "exactly one alternative name"},
		"URI and DNS name":    {func(c *x509.Certificate) { c.DNSNames = []string{"sign.example"} }, "exactly one alternative name"},
		"e-mail alone":        {func(c *x509.Certificate) { c.URIs, c.EmailAddresses = nil, []string{"ada@example.com"} }, "exactly one alternative name"},
		"no alternative name": {func(c *x509.Certificate) { c.URIs = nil }, "exactly one alternative name"},
		"another signer":      {func(c *x509.Certificate) { c.URIs[0] = uri(issuer + "/signers/sgn_eve") }, "sgn_eve"},
		"another issuer":      {func(c *x509.Certificate) { c.URIs[0] = uri("https://evil.example/signers/sgn_ada") }, "evil.example"},
		"a service":           {func(c *x509.Certificate) { c.URIs[0] = uri(issuer + "/services/sgn_ada") }, "/services/"},
		"key agreement too":   {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }, "key usage"},
		"no key usage":        {func(c *x509.Certificate) { c.KeyUsage = 0 }, "key usage"},
		"key usage not critical": {func(c *x509.Certificate) {
			c.KeyUsage = 0
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}}}
		}, "key usage"},
		"a CA":                   {func(c *x509.Certificate) { c.IsCA = true }, "of a CA"},
		"code signing alone":     {func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, "extended key usage"},
		"document signing alone": {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "extended key usage"},
		"time stamping too":      {func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageTimeStamping) }, "extended key usage"},
		"any usage":              {func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }, "extended key usage"},
		"another name":           {func(c *x509.Certificate) { c.Subject.CommonName = "Ada L." }, "printed name"},
		"two names": {func(c *x509.Certificate) {
			c.Subject.ExtraNames = twice(asn1.ObjectIdentifier{2, 5, 4, 3}, "Eve", "Ada Lovelace")
		}, "printed name"},
		"another organisation": {func(c *x509.Certificate) { c.Subject.Organization = []string{"Evil"} }, "organisation"},
		"two organisations":    {func(c *x509.Certificate) { c.Subject.Organization = []string{"Example Medical", "Evil"} }, "organisation"},
		"not yet valid":        {func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }, "held at"},
		"expired":              {func(c *x509.Certificate) { c.NotAfter = start.Add(time.Second) }, "held at"},
		"unknown critical extension": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}, "no chain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := signed(t, func(w *world) *signer { return w.enrol("sgn_ada", "Ada Lovelace", x.change) })
			want(t, w.verify(w.manifest()), verify.Untrusted, x.says)
		})
	}
}

func twice(oid asn1.ObjectIdentifier, values ...string) []pkix.AttributeTypeAndValue {
	var out []pkix.AttributeTypeAndValue
	for _, v := range values {
		out = append(out, pkix.AttributeTypeAndValue{Type: oid, Value: v})
	}
	return append(out, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Example Medical"})
}

func TestChain(t *testing.T) {
	ada := func(w *world) *signer { return w.enrol("sgn_ada", "Ada Lovelace") }
	t.Run("a certificate that lapsed later still holds", func(t *testing.T) {
		w := signed(t, func(w *world) *signer {
			return w.enrol("sgn_ada", "Ada Lovelace", func(c *x509.Certificate) { c.NotAfter = start.Add(time.Minute) })
		})
		w.tick(20 * 365 * 24 * time.Hour)
		want(t, w.verify(w.manifest()), verify.OK, "")
	})
	t.Run("an intermediate certificate", func(t *testing.T) {
		w := newWorld(t)
		middle := w.newAuthority("Example Issuing CA", elliptic.P384())
		template := *middle.cert
		template.RawSubject = nil
		der := w.issue(w.ca, &template, middle.key.Public())
		cert, err := x509.ParseCertificate(der)
		w.check(err)
		s := &signer{id: "sgn_ada", name: "Ada Lovelace", organisation: "Example Medical", roles: []string{"signer"}, key: w.key(manifest.Ed25519), algorithm: manifest.Ed25519}
		leaf := w.issue(&authority{middle.key, cert}, signerTemplate("signers", s.id, s.name, s.organisation), s.key.Public())
		s.certs = [][]byte{leaf, der, w.ca.cert.Raw}
		w.bind(s, chain.SignerEnrolled)
		w.newRecord(1, []*signer{s})
		w.sign(s, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.OK, "")
		for name, certs := range map[string][][]byte{
			"without the intermediate": {leaf, w.ca.cert.Raw},
			"without the root":         {leaf, der},
			"in another order":         {leaf, w.ca.cert.Raw, der},
			"with one too many":        {leaf, der, w.tsaRoot.cert.Raw, w.ca.cert.Raw},
		} {
			m := w.manifest()
			m.Signatures[0].Certificates = certs
			t.Run(name, func(t *testing.T) { want(t, w.verify(m), verify.Untrusted, "") })
		}
	})
	for name, certs := range map[string]func(*world, []byte) [][]byte{
		"a certificate that is none": func(w *world, _ []byte) [][]byte { return [][]byte{[]byte("x"), w.ca.cert.Raw} },
		"a root that is none":        func(_ *world, leaf []byte) [][]byte { return [][]byte{leaf, []byte("x")} },
		"the root alone":             func(w *world, _ []byte) [][]byte { return [][]byte{w.ca.cert.Raw} },
	} {
		t.Run(name, func(t *testing.T) {
			w := signed(t, ada)
			m := w.manifest()
			m.Signatures[0].Certificates = certs(w, m.Signatures[0].Certificates[0])
			r := w.verify(m)
			if r.Code != verify.Untrusted && r.Code != verify.Signature { // the key id does not fit the root's key
				t.Errorf("%s", r.Text())
			}
			for _, f := range r.Faults {
				if f.Code == verify.Untrusted && strings.HasPrefix(f.Where, "signatures[0].certificates") {
					return
				}
			}
			t.Errorf("nothing is said about the certificates:\n%s", r.Text())
		})
	}
	t.Run("an RSA key that is too small", func(t *testing.T) {
		w := newWorld(t)
		key, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		s := &signer{id: "sgn_ada", name: "Ada Lovelace", organisation: "Example Medical", roles: []string{"signer"}, key: key, algorithm: manifest.RSAPSS}
		s.certs = [][]byte{w.issue(w.ca, signerTemplate("signers", s.id, s.name, s.organisation), key.Public()), w.ca.cert.Raw}
		w.bind(s, chain.SignerEnrolled)
		w.newRecord(1, []*signer{s})
		w.sign(s, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Signature, "does not fit")
	})
	for name, x := range map[string]struct {
		change func(*world)
		code   verify.Code
		says   string
	}{
		"no root":            {func(w *world) { w.trust.SignerRoots = nil }, verify.Untrusted, "no pinned root leads"},
		"another root":       {func(w *world) { w.trust.SignerRoots[0].Certificate = w.tsaRoot.cert.Raw }, verify.Untrusted, "no pinned root leads"},
		"root not yet":       {func(w *world) { w.trust.SignerRoots[0].From = manifest.NewTime(start.Add(time.Hour)) }, verify.Untrusted, "was not trusted at"},
		"root no longer":     {func(w *world) { w.trust.SignerRoots[0].To = manifest.NewTime(start).String() }, verify.Untrusted, "was not trusted at"},
		"another issuer":     {func(w *world) { w.trust.Issuer = "https://other.example" }, verify.Untrusted, "other.example"},
		"no stamp root":      {func(w *world) { w.trust.TimestampRoots = nil }, verify.TimeNotProven, "no root is pinned"},
		"another stamp root": {func(w *world) { w.trust.TimestampRoots[0].Certificate = w.ca.cert.Raw }, verify.TimeNotProven, "pinned root"},
		"stamp root too late": {func(w *world) {
			w.trust.TimestampRoots[0].From = manifest.NewTime(start.Add(time.Hour))
		}, verify.TimeNotProven, "no root is pinned"},
		"no ledger": {func(w *world) { w.trust.Ledgers = nil }, verify.Ledger, "is not pinned"},
		"key revoked before": {func(w *world) {
			w.trust.Revoked = []manifest.Revoked{{KeyID: w.sigs[0].Signature.KeyID, From: manifest.NewTime(start)}}
		}, verify.Untrusted, "no longer counts"},
		"key revoked after": {func(w *world) {
			w.trust.Revoked = []manifest.Revoked{{KeyID: w.sigs[0].Signature.KeyID, From: manifest.NewTime(start.Add(time.Hour))}}
		}, verify.OK, ""},
		"CA revoked": {func(w *world) {
			w.trust.Revoked = []manifest.Revoked{{KeyID: keyID(w.tb, w.ca.cert.Raw), From: manifest.NewTime(start)}}
		}, verify.Untrusted, "no longer counts"},
		"authority revoked": {func(w *world) {
			w.trust.Revoked = []manifest.Revoked{{KeyID: keyID(w.tb, w.stamp.Certificate.Raw), From: manifest.NewTime(start)}}
		}, verify.TimeNotProven, "no longer counts"},
	} {
		t.Run(name, func(t *testing.T) {
			w := signed(t, ada)
			x.change(w)
			want(t, w.verify(w.manifest()), x.code, x.says)
		})
	}
	t.Run("where the time is not proven, only the chain is judged", func(t *testing.T) {
		w := signed(t, ada)
		w.trust.TimestampRoots = nil
		w.trust.SignerRoots[0].From = manifest.NewTime(start.Add(time.Hour))
		r := w.verify(w.manifest())
		want(t, r, verify.TimeNotProven, "")
		for _, f := range r.Faults {
			if f.Code == verify.Untrusted {
				t.Errorf("a certificate is judged by a time that is not proven: %s", f)
			}
		}
	})
}

func TestTime(t *testing.T) {
	t.Attr("requirement", "B-41")
	ada := func(w *world) *signer { return w.enrol("sgn_ada", "Ada Lovelace") }
	by := func(d time.Duration) func(time.Time) time.Time {
		return func(time.Time) time.Time { return start.Add(d) }
	}
	offset := time.Second // the record is made one second after the start, and the statement prepared then
	for name, x := range map[string]struct {
		genTime time.Duration
		code    verify.Code
		says    string
	}{
		"the first moment":          {offset, verify.OK, ""},
		"before, by the accuracy":   {offset - 100*time.Millisecond, verify.OK, ""},
		"before the window":         {offset - 101*time.Millisecond, verify.TimeNotProven, "outside of the statement's window"},
		"after the window":          {offset + 5*time.Minute + 101*time.Millisecond, verify.TimeNotProven, "outside of the statement's window"},
		"long after the statement":  {24 * time.Hour, verify.TimeNotProven, "outside of the statement's window"},
		"later than the entry says": {offset + 4*time.Minute, verify.Ledger, "was written at"},
	} {
		t.Run(name, func(t *testing.T) {
			w := signed(t, ada, forge{genTime: by(x.genTime)})
			want(t, w.verify(w.manifest()), x.code, x.says)
		})
	}
	t.Run("the entry is more than ten minutes late", func(t *testing.T) {
		w := signed(t, ada, forge{entry: func(e *chain.Entry) { e.Time = chain.NewTime(start.Add(3*time.Second + entryLate)) }})
		want(t, w.verify(w.manifest()), verify.Ledger, "was written at")
	})
	t.Run("a token of another signature", func(t *testing.T) {
		w := signed(t, ada)
		m := w.manifest()
		m.Signatures[0].Timestamps = m.Signatures[1].Timestamps
		want(t, w.verify(m), verify.TimeNotProven, "something else")
	})
	t.Run("a token of an authority that is not pinned", func(t *testing.T) {
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{s})
		w.sign(s, manifest.Approve, forge{stamp: w.newStamp(w.newAuthority("Evil Time CA", elliptic.P256()))})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.TimeNotProven, "pinned root")
	})
	t.Run("two tokens", func(t *testing.T) {
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		other := w.newAuthority("Other Time CA", elliptic.P256())
		w.newRecord(1, []*signer{s})
		w.sign(s, manifest.Approve, forge{more: []*rfc3161.Issuer{w.newStamp(other)}})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.TimeNotProven, "timestamps[1]")
		w.trust.TimestampRoots = append(w.trust.TimestampRoots, manifest.Root{Certificate: other.cert.Raw, From: manifest.NewTime(start)})
		want(t, w.verify(w.manifest()), verify.OK, "")
	})
	for _, broken := range [][]int{{0}, {1}, {0, 1}} {
		t.Run(fmt.Sprintf("two tokens, broken %v", broken), func(t *testing.T) {
			t.Attr("requirement", "A-19")
			w := newWorld(t)
			s := w.enrol("sgn_ada", "Ada Lovelace")
			other := w.newAuthority("Other Time CA", elliptic.P256())
			w.trust.TimestampRoots = append(w.trust.TimestampRoots, manifest.Root{Certificate: other.cert.Raw, From: manifest.NewTime(start)})
			stamps := []*rfc3161.Issuer{w.newStamp(w.tsaRoot), w.newStamp(other)}
			for _, i := range broken {
				stamps[i].Sign = w.newStamp(other).Sign // by a key that is not that of its certificate
			}
			w.newRecord(1, []*signer{s})
			w.sign(s, manifest.Approve, forge{stamp: stamps[0], more: stamps[1:]})
			w.close(manifest.OutcomeApproved)
			r := w.verify(w.manifest())
			if r.Code != verify.TimeNotProven {
				t.Errorf("verdict %v", r.Code)
			}
			var found []string
			for _, f := range r.Faults {
				if f.Code == verify.TimeNotProven {
					found = append(found, f.Where)
				}
			}
			var want []string
			for _, i := range broken {
				want = append(want, fmt.Sprintf("signatures[0].timestamps[%d]", i))
			}
			if !slices.Equal(found, want) {
				t.Errorf("faults in %v, want each broken token for itself: %v", found, want)
			}
			said := r.Signatures[0].Timestamps
			if len(said) != 2 {
				t.Fatalf("%d time-stamps are reported", len(said))
			}
			for i, stamp := range said {
				sound := !slices.Contains(broken, i)
				if stamp.Holds != sound || (stamp.Why == "") != sound || (stamp.Authority != "") != sound || stamp.Time == "" || stamp.Accuracy != "100ms" {
					t.Errorf("time-stamp %d, sound: %v: %+v", i, sound, stamp)
				}
			}
			if n := strings.Count(r.Text(), "DOES NOT HOLD: 2026-11-21T"); n != len(broken) {
				t.Errorf("%d time-stamps are said not to hold:\n%s", n, r.Text())
			}
		})
	}
	t.Run("an accuracy of two seconds", func(t *testing.T) {
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{s})
		w.stamp.Accuracy = time.Second
		w.sign(s, manifest.Approve, forge{token: inaccurate})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.TimeNotProven, "its accuracy is 2s")
	})
	t.Run("bytes that are no token", func(t *testing.T) {
		w := signed(t, ada)
		m := w.manifest()
		m.Signatures[0].Timestamps = [][]byte{[]byte("no token")}
		want(t, w.verify(m), verify.TimeNotProven, "")
	})
	t.Run("the zone is signed", func(t *testing.T) {
		w := signed(t, ada)
		m := w.manifest()
		m.Signatures[0].Statement.Predicate.Zone = manifest.Zone{Name: "America/New_York", Offset: "-05:00"}
		want(t, w.verify(m), verify.Signature, "was not made")
	})
	t.Run("the time of preparation is signed", func(t *testing.T) {
		w := signed(t, ada)
		m := w.manifest()
		m.Signatures[0].Statement.Predicate.PreparedAt = manifest.NewTime(start)
		want(t, w.verify(m), verify.Signature, "was not made")
	})
	t.Run("printed with zone and offset", func(t *testing.T) {
		w := signed(t, ada)
		r := w.verify(w.manifest()).Signatures[0]
		if r.Time != "2026-11-21T09:30:03.123Z" || r.LocalTime != "2026-11-21T09:30:03.123Z (10:30:03 +01:00, Europe/Berlin)" {
			t.Errorf("time %s, local time %s", r.Time, r.LocalTime)
		}
	})
}

const entryLate = 10*time.Minute + time.Millisecond

func TestEnrolment(t *testing.T) {
	ada := func(w *world) *signer { return w.enrol("sgn_ada", "Ada Lovelace") }
	t.Run("the entry is missing", func(t *testing.T) {
		w := signed(t, ada)
		m := w.manifest()
		m.Support = m.Support[:1] // the closing service's
		want(t, w.verify(m), verify.Ledger, "is not among the proved supporting entries")
	})
	for name, x := range map[string]struct {
		change func(*manifest.Signer)
		says   string
	}{
		"another title":        {func(s *manifest.Signer) { s.Title = "CEO" }, "names"},
		"another name":         {func(s *manifest.Signer) { s.Name = "Eve" }, "names"},
		"another organisation": {func(s *manifest.Signer) { s.Organisation = "Evil" }, "names"},
		"more roles":           {func(s *manifest.Signer) { s.Roles = []string{"signer", "administrator"} }, "roles"},
	} {
		t.Run(name, func(t *testing.T) {
			w := signed(t, ada, forge{predicate: func(p *manifest.Predicate) { x.change(&p.Signer) }})
			want(t, w.verify(w.manifest()), verify.Untrusted, x.says)
		})
	}
	t.Run("another person's enrolment", func(t *testing.T) {
		w := newWorld(t)
		s, grace := w.enrol("sgn_ada", "Ada Lovelace"), w.enrol("sgn_grace", "Grace Hopper")
		w.newRecord(1, []*signer{s})
		w.sign(s, manifest.Approve, forge{predicate: func(p *manifest.Predicate) { p.Signer.Enrolment = grace.enrolment }})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Untrusted, "is about sgn_grace")
	})
	t.Run("another key than the enrolled one, certified by the CA all the same", func(t *testing.T) {
		t.Attr("requirement", "B-26")
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		key := w.key(manifest.ECDSAP256)
		certs := [][]byte{w.issue(w.ca, signerTemplate("signers", s.id, s.name, s.organisation), key.Public()), w.ca.cert.Raw}
		w.newRecord(1, []*signer{s})
		w.sign(s, manifest.Approve, forge{key: key, certs: certs})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Untrusted, "binds the key")
	})
	t.Run("another certificate for the enrolled key", func(t *testing.T) {
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		certs := [][]byte{w.issue(w.ca, signerTemplate("signers", s.id, s.name, s.organisation), s.key.Public()), w.ca.cert.Raw}
		w.newRecord(1, []*signer{s})
		w.sign(s, manifest.Approve, forge{certs: certs})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Untrusted, "names the certificate")
	})
	t.Run("replaced before the signature", func(t *testing.T) {
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		old := *s
		w.newRecord(1, []*signer{s})
		w.bind(s, chain.SignerRenewed)
		w.sign(&old, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Untrusted, "had replaced the enrolment")
	})
	t.Run("enrolled after the signature", func(t *testing.T) {
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{s})
		// The leaf of an entry that will stand right after the signature's can't be known before; so the signature is
		// entered again, behind it.
		w.sign(s, manifest.Approve)
		early := w.sigs[0].Ledger.Entry
		w.sigs = nil
		w.support = slicesWithout(w.support, s.index)
		w.bind(s, chain.SignerRenewed)
		w.sign(s, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		m := w.manifest()
		m.Signatures[0].Ledger.Entry, m.Signatures[0].Ledger.Proof = early, w.proof(s.index-1, uint64(len(w.entries)))
		want(t, w.verify(m), verify.Ledger, "after the signature")
	})
	t.Run("renamed later", func(t *testing.T) {
		t.Attr("requirement", "A-18")
		w := newWorld(t)
		s, grace := w.enrol("sgn_ada", "Ada Byron"), w.enrol("sgn_grace", "Grace Hopper")
		w.newRecord(2, []*signer{s, grace})
		w.sign(s, manifest.Approve)
		s.name = "Ada Lovelace"
		s.certs = [][]byte{w.issue(w.ca, signerTemplate("signers", s.id, s.name, s.organisation), s.key.Public()), w.ca.cert.Raw}
		w.bind(s, chain.SignerRenewed)
		w.sign(grace, manifest.Approve)
		w.sign(s, manifest.Review)
		w.sign(s, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		if got := r.Signatures[0].Name + ", " + r.Signatures[2].Name; got != "Ada Byron, Ada Lovelace" {
			t.Errorf("printed names: %s", got)
		}
		if r.Signatures[0].Signer != r.Signatures[2].Signer {
			t.Error("the id changed with the name")
		}
	})
}

func TestRevocation(t *testing.T) {
	revoke := func(w *world, id, key string) {
		w.support = append(w.support, w.append(chain.SignerRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: id, KeyID: key, Reason: "lost"}))
	}
	for name, x := range map[string]struct {
		id, key       string
		before, after bool
		code          verify.Code
	}{
		"before":                  {id: "sgn_ada", before: true, code: verify.Untrusted},
		"after":                   {id: "sgn_ada", after: true, code: verify.OK},
		"another person":          {id: "sgn_grace", before: true, code: verify.OK},
		"another key of the same": {id: "sgn_ada", key: hexSum([]byte("another key")), before: true, code: verify.OK},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.enrol("sgn_ada", "Ada Lovelace")
			w.newRecord(1, []*signer{s})
			if x.before {
				revoke(w, x.id, x.key)
				w.tick(time.Second)
			}
			w.sign(s, manifest.Approve)
			if x.after {
				revoke(w, x.id, x.key)
			}
			w.close(manifest.OutcomeApproved)
			want(t, w.verify(w.manifest()), x.code, "")
		})
	}
	t.Run("before, in the same moment", func(t *testing.T) {
		w := newWorld(t)
		s := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{s})
		revoke(w, s.id, "")
		now := w.now
		w.sign(s, manifest.Approve, forge{genTime: func(time.Time) time.Time { return now }})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Untrusted, "was revoked")
	})
	t.Run("of the closing service", func(t *testing.T) {
		w, _ := one(t)
		w.sigs = w.sigs[:1]
		w.support = append(w.support, w.append(chain.ServiceRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: manifest.ClosingService, Reason: "lost"}))
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Untrusted, "was revoked")
	})
}

func TestAuthorization(t *testing.T) {
	assertion := manifest.Authorization{
		Kind: manifest.AuthorizationPasskey, AuthenticatorData: []byte("a"), ClientDataJSON: []byte("{}"), CredentialID: []byte("c"), Signature: []byte("s"),
	}
	for name, x := range map[string]struct {
		demanded manifest.AuthorizationKind
		given    manifest.Authorization
		code     verify.Code
		says     string
	}{
		"password":                     {manifest.AuthorizationPassword, manifest.Authorization{Kind: manifest.AuthorizationPassword}, verify.OK, ""},
		"more than demanded":           {manifest.AuthorizationPassword, manifest.Authorization{Kind: manifest.AuthorizationPasswordTOTP}, verify.OK, ""},
		"less than demanded":           {manifest.AuthorizationPasswordTOTP, manifest.Authorization{Kind: manifest.AuthorizationPassword}, verify.Untrusted, "was demanded"},
		"a service's for a person's":   {manifest.AuthorizationPassword, manifest.Authorization{Kind: manifest.AuthorizationService}, verify.Untrusted, "was demanded"},
		"a passkey that nothing binds": {manifest.AuthorizationPasskey, assertion, verify.Untrusted, "does not pin the passkey"},
	} {
		t.Run(name, func(t *testing.T) {
			w := signed(t, func(w *world) *signer { return w.enrol("sgn_ada", "Ada Lovelace") },
				forge{authorization: x.given, predicate: func(p *manifest.Predicate) { p.Requires = x.demanded }})
			want(t, w.verify(w.manifest()), x.code, x.says)
		})
	}
}
